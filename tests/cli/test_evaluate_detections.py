"""evaluate-detections as a user calls it: one JSON line, by hand and on real boxes."""

import contextlib
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import REAL_DATA, REPOSITORY, needs_real_data

from kerasdense.cli.main import main
from kerasdense.data import formats

COUNTED = ["frames", "left_out_frames", "left_out_detections"]
KEYS = [
    "ap_area", "ap_11point", "mean_ap_area", "mean_ap_11point",
    "ground_truth", "detections", "true_positives", "false_positives",
]  # fmt: skip


def call(*arguments):
    """Runs the command in this process: status, standard output, standard error."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as exit_of,
    ):
        main(["evaluate-detections", *arguments])
    return exit_of.value.code or 0, out.getvalue(), err.getvalue()


def evaluate(*arguments, more=()):
    """The JSON of a run that succeeds; beside KEYS it holds `more`."""
    status, out, err = call(*arguments)
    assert status == 0, err
    assert out.count("\n") == 1 and out.endswith("\n")

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    line = json.loads(out, parse_constant=refuse)
    assert list(line) == [*KEYS, *more]
    return line


# --- MOT ---------------------------------------------------------------------------------------


@pytest.fixture
def mot(tmp_path):
    """Writes gt.txt and det.txt; returns the flags for them."""

    def write(truth, found):
        (tmp_path / "gt.txt").write_text(truth)
        (tmp_path / "det.txt").write_text(found)
        return ["--format", "mot", "--ground-truth", tmp_path / "gt.txt",
                "--detections", tmp_path / "det.txt"]  # fmt: skip

    return write


def test_mot_by_hand(mot):
    # Frame 1 has an object, frame 2 one that counts and one of confidence 0, which is ignored:
    # what lies on it is wrong. Frame 3 has none. By confidence: right, wrong, wrong, right.
    flags = mot(
        "1,1,0,0,10,10,1,-1,-1,-1\n2,1,0,0,10,10,1,-1,-1,-1\n2,2,50,50,10,10,0,-1,-1,-1\n",
        "1,-1,0,0,10,10,4,-1,-1,-1\n3,-1,0,0,10,10,3,-1,-1,-1\n"
        "2,-1,50,50,10,10,2,-1,-1,-1\n2,-1,0,0,10,5,1,-1,-1,-1\n",
    )
    # Precision 1 up to recall 1/2, then 2/4 up to 1.
    line = evaluate(*flags)
    area, points = 1 / 2 * 1 + 1 / 2 * 2 / 4, (6 * 1 + 5 * 2 / 4) / 11
    assert line["ap_area"] == {"pedestrian": pytest.approx(area)}
    assert line["ap_11point"] == {"pedestrian": pytest.approx(points)}
    assert line["mean_ap_area"] == pytest.approx(area)
    assert line["mean_ap_11point"] == pytest.approx(points)
    assert [line[key] for key in KEYS[4:]] == [2, 4, 2, 2]
    # The last one has half of its object: at 0.6 it is wrong.
    line = evaluate(*flags, "--iou", 0.6)
    assert line["mean_ap_area"] == pytest.approx(1 / 2)
    assert [line[key] for key in KEYS[4:]] == [2, 4, 1, 3]


def test_mot_without_detections(mot):
    line = evaluate(*mot("1,1,0,0,10,10,1\n", ""))
    assert line["mean_ap_area"] == 0 and [line[key] for key in KEYS[4:]] == [1, 0, 0, 0]


def test_it_runs_where_neither_tensorflow_nor_keras_exists(mot):
    blocker = (
        "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None; "
        "from kerasdense.cli.main import main; main()"
    )
    flags = mot("1,1,0,0,10,10,1\n", "1,-1,0,0,10,10,1\n")
    result = subprocess.run(
        [sys.executable, "-c", blocker, "evaluate-detections", *map(str, flags)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["mean_ap_area"] == 1


@needs_real_data("MOT15/train/TUD-Campus")
def test_detections_that_come_with_mot_2015():
    """ACF's boxes on all 71 frames of TUD-Campus; 0.595 is given with the data.

    The paper's table has 60.2 % for ACF on the last 20 % of all training sequences together.
    """
    sequence = REAL_DATA / "MOT15" / "train" / "TUD-Campus"
    line = evaluate(
        "--format", "mot", "--ground-truth", sequence / "gt" / "gt.txt",
        "--detections", sequence / "det" / "det.txt",
    )  # fmt: skip
    assert line["ap_area"]["pedestrian"] == pytest.approx(0.595, abs=5e-4)
    assert line["ground_truth"] == 359 and line["detections"] == 322
    assert line["true_positives"] + line["false_positives"] == 322


# --- sequences of MOT --------------------------------------------------------------------------


@pytest.fixture
def write(tmp_path):
    """`(name, text)` writes a file below `tmp_path`; returns the flags for truth/ and found/."""

    def written(files):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return ["--format", "mot", "--ground-truth", tmp_path / "truth",
                "--detections", tmp_path / "found"]  # fmt: skip

    return written


def rows(*lines):
    """MOT lines of (frame, left, score); boxes are 10 x 10, their top is 0."""
    return "".join(f"{frame},{n},{left},0,10,10,{score}\n" for n, (frame, left, score) in
                   enumerate(lines))  # fmt: skip


def info(length):
    return f"[Sequence]\nseqLength={length}\nimWidth=100\nimHeight=80\nimExt=.jpg\n"


# The last 20 % are frames 9 and 10 of A, and frame 5 of B, whose ground truth ends there. Frame 10
# of A has ground truth that does not count.
TWO = {
    "truth/A/seqinfo.ini": info(10),
    "truth/A/gt/gt.txt": rows((5, 70, 1), (8, 0, 1), (9, 0, 1), (10, 0, 0)),
    "found/A/det/det.txt": rows((5, 0, 9), (8, 50, 8), (9, 0, 5), (9, 50, 4), (10, 0, 7)),
    "truth/B/gt/gt.txt": rows((1, 0, 1), (5, 0, 1)),
    "found/B/det/det.txt": rows((5, 0, 3), (6, 0, 9)),
}
BOTH = [*COUNTED, "sequences"]


def test_sequences_are_pooled_and_measured_each(write):
    flags = write(TWO)
    _, _, err = call(*flags, "--frames", "last:0.2")
    assert "B has no seqinfo.ini: 5 frames, as its ground truth ends there" in err
    assert "Left out: 1 frames without ground truth, and 1 detections in them." in err
    line = evaluate(*flags, "--frames", "last:0.2", more=BOTH)
    # By confidence: 5 of A right, 4 of A wrong, 3 of B right.
    area = 1 / 2 * 1 + 1 / 2 * 2 / 3
    assert line["mean_ap_area"] == pytest.approx(area)
    assert [line[key] for key in KEYS[4:]] == [2, 3, 2, 1]
    assert [line[key] for key in COUNTED] == [2, 1, 1]
    a, b = line["sequences"]["A"], line["sequences"]["B"]
    assert list(a) == list(b) == [*KEYS, *COUNTED]
    assert a["ap_area"] == b["ap_area"] == {"pedestrian": 1}  # the pool is not their mean
    assert [a[key] for key in KEYS[4:]] == [1, 2, 1, 1]
    assert [a[key] for key in COUNTED] == [1, 1, 1]
    assert [b[key] for key in KEYS[4:]] == [1, 1, 1, 0]
    assert [b[key] for key in COUNTED] == [1, 0, 0]


def test_frames_of_two_sequences_are_different_images(write):
    # In frame 5 of A lies, at 0, what would be right in frame 5 of B, and comes before it.
    line = evaluate(*write(TWO), more=BOTH)
    assert line == evaluate(*write(TWO), "--frames", "all", more=BOTH)
    # A has objects in 5, 8, 9 and finds the last; B in 1 and 5, and finds the last. Left out are
    # 7 frames of A with the detection in 10, and 3 of B; 6 is after its end.
    assert [line[key] for key in KEYS[4:]] == [5, 5, 2, 3]
    assert [line[key] for key in COUNTED] == [5, 10, 1]
    # 9 (A, wrong), 8 (A, wrong), 5 (right), 4 (wrong), 3 (right)
    assert line["mean_ap_area"] == pytest.approx(2 / 5 * 2 / 5)
    # First and last frames make all; of five frames the first 80 % are four, of ten eight.
    first = evaluate(*write(TWO), "--frames", "first:0.8", more=BOTH)
    assert [first[key] for key in KEYS[4:]] == [3, 2, 0, 2] and first["frames"] == 3


def test_a_sequence_without_ground_truth_there_has_no_precision(write):
    nothing = rows((5, 0, 1))
    line = evaluate(*write(TWO | {"truth/A/gt/gt.txt": nothing}), "--frames", "last:0.2", more=BOTH)
    a = line["sequences"]["A"]
    assert a["mean_ap_area"] is None and a["ap_area"] == a["ap_11point"] == {"pedestrian": None}
    assert [a[key] for key in KEYS[4:]] == [0, 0, 0, 0]
    assert [a[key] for key in COUNTED] == [0, 2, 3] and line["mean_ap_area"] == 1


def test_boxes_are_cut_to_the_picture_as_mot15_prepares_them(write):
    # 100 x 80 pixels. The first object sticks out by half: its inner half is found. The second
    # lies beside the picture, the third has no height inside.
    truth = "1,1,95,0,10,10,1\n1,2,100,0,10,10,1\n1,3,0,-9,10,9,1\n2,4,200,0,9,9,1\n"
    found = {
        "truth/A/gt/gt.txt": truth,
        "found/A/det/det.txt": "1,-1,95,0,5,10,1\n2,-1,0,0,9,9,1\n",
    }
    flags = [*write({"truth/A/seqinfo.ini": info(2)} | found), "--iou", 0.6]
    line = evaluate(*flags, more=BOTH)
    assert [line[key] for key in KEYS[4:]] == [1, 2, 1, 1]
    assert line["frames"] == 2  # as in mot15, the second is there without an object
    # By the numbers of the file half of the object is found: 5/10.
    flags[3].joinpath("A/seqinfo.ini").unlink()
    assert evaluate(*flags, more=BOTH)["true_positives"] == 0


def test_two_files_of_one_sequence(write):
    flags = write(TWO)
    flags[3] /= "A/gt/gt.txt"
    flags[5] /= "A/det/det.txt"
    line = evaluate(*flags, "--frames", "last:0.2", more=COUNTED)
    assert [line[key] for key in KEYS[4:] + COUNTED] == [1, 2, 1, 1, 1, 1, 1]
    # As they are, the detection in frame 10, without ground truth that counts, is wrong.
    line = evaluate(*flags)
    assert [line[key] for key in KEYS[4:]] == [3, 5, 1, 4]
    # Folders of one sequence each, whatever their names, measure the same.
    flags[3], flags[5] = flags[3].parents[1], flags[5].parents[1]
    flags[5] = flags[5].rename(flags[5].with_name("other"))
    line = evaluate(*flags, "--frames", "last:0.2", more=BOTH)
    assert [line[key] for key in KEYS[4:] + COUNTED] == [1, 2, 1, 1, 1, 1, 1]
    assert list(line["sequences"]) == ["A"]


def by_definition(objects, found, threshold=0.5):
    """Area under the precision-recall curve, and the counts, in loops: of one class.

    objects: {image: list of boxes}; found: list of (score, image, box).
    """
    taken, hits = set(), []
    for score, image, box in sorted(found, key=lambda each: -each[0]):
        overlaps = [overlap(box, other) for other in objects.get(image, [])]
        best = max(range(len(overlaps)), key=overlaps.__getitem__, default=None)
        is_right = best is not None and overlaps[best] >= threshold and (image, best) not in taken
        if is_right:
            taken.add((image, best))
        hits.append(is_right)
    total = sum(map(len, objects.values()))
    precisions = [sum(hits[: n + 1]) / (n + 1) for n in range(len(hits))]
    area = sum(max(precisions[n:]) for n, hit in enumerate(hits) if hit) / total
    return area, [total, len(hits), sum(hits), len(hits) - sum(hits)]


def overlap(a, b):
    width = max(0, min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]))
    height = max(0, min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]))
    return width * height / (a[2] * a[3] + b[2] * b[3] - width * height)


def mot_lines(path, first):
    """(frame, box, confidence) of the lines from a frame on; boxes are left, top, width, height."""
    lines = [[float(field) for field in line.split(",")] for line in path.read_text().split()]
    return [(line[0], line[2:6], line[6]) for line in lines if line[0] >= first]


@needs_real_data("MOT15/train/TUD-Stadtmitte")
def test_both_real_sequences(write, tmp_path):
    """ACF on the last 14 of TUD-Campus' 71 frames, and every other object, found without error, of
    the last 36 of TUD-Stadtmitte's 179.
    """
    train, objects, found = REAL_DATA / "MOT15" / "train", {}, []
    flags = write({})
    for folder in (tmp_path / "truth", tmp_path / "found"):
        folder.mkdir()
    (tmp_path / "truth" / "TUD-Campus").symlink_to(train / "TUD-Campus")
    (tmp_path / "truth" / "TUD-Stadtmitte").symlink_to(train / "TUD-Stadtmitte")
    (tmp_path / "found" / "TUD-Campus").symlink_to(train / "TUD-Campus")
    for frame, box, _ in mot_lines(train / "TUD-Campus" / "gt" / "gt.txt", 58):
        objects.setdefault(("Campus", frame), []).append(box)
    for frame, box, score in mot_lines(train / "TUD-Campus" / "det" / "det.txt", 58):
        found.append((score, ("Campus", frame), box))
    campus, counts = by_definition(objects, found)
    assert counts[:2] == [62, 66]  # awk -F, '$1 >= 58' FILE | wc -l
    real = mot_lines(train / "TUD-Stadtmitte" / "gt" / "gt.txt", 144)
    seen = real[::2]
    for frame, box, _ in real:
        objects.setdefault(("Stadtmitte", frame), []).append(box)
    found += [(20.0, ("Stadtmitte", frame), box) for frame, box, _ in seen]
    pooled, pooled_counts = by_definition(objects, found)
    lines = [",".join(map(str, (int(frame), -1, *box, 20))) for frame, box, _ in seen]
    write({"found/TUD-Stadtmitte/det/det.txt": "\n".join(lines)})

    line = evaluate(*flags, "--frames", "last:0.2", more=BOTH)
    assert line["mean_ap_area"] == pytest.approx(pooled)
    assert [line[key] for key in KEYS[4:]] == pooled_counts
    assert [line[key] for key in COUNTED] == [14 + 36, 0, 0]
    each = line["sequences"]
    assert each["TUD-Campus"]["mean_ap_area"] == pytest.approx(campus)
    assert [each["TUD-Campus"][key] for key in KEYS[4:]] == counts
    # Precision 1 up to the recall of what was found.
    assert each["TUD-Stadtmitte"]["mean_ap_area"] == pytest.approx(len(seen) / len(real))
    right = len(seen)
    assert [each["TUD-Stadtmitte"][key] for key in KEYS[4:]] == [len(real), right, right, 0]
    one = [*flags[:3], train / "TUD-Campus", "--detections", train / "TUD-Campus"]
    alone = evaluate(*one, "--frames", "last:0.2", more=BOTH)
    assert alone["sequences"]["TUD-Campus"] == each["TUD-Campus"]
    # Stadtmitte came without detections.
    line = refused(*flags[:3], train, "--detections", train)
    assert "Sequence TUD-Stadtmitte has ground truth, but no detections" in line


# --- VOC ---------------------------------------------------------------------------------------


def annotation(*objects):
    """The XML of one image; objects are (name, "xmin ymin xmax ymax", difficult)."""
    text = ""
    for name, box, difficult in objects:
        sides = zip(("xmin", "ymin", "xmax", "ymax"), box.split())
        box = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
        text += f"<object><name>{name}</name><difficult>{difficult}</difficult>"
        text += f"<bndbox>{box}</bndbox></object>"
    return f"<annotation>{text}</annotation>"


@pytest.fixture
def voc(tmp_path):
    """Three images, of cats, dogs and a difficult cow; results with files for cat and fish."""
    files = {
        "Annotations/a.xml": annotation(("cat", "1 1 10 10", 0), ("cow", "1 1 10 10", 1)),
        "Annotations/b.xml": annotation(("cat", "1 1 10 10", 0), ("cat", "51 51 60 60", 1)),
        "Annotations/c d.xml": annotation(("dog", "1 1 10 10", 0)),
        "Annotations/not_listed.xml": annotation(("horse", "1 1 10 10", 0)),
        "val.txt": "a\nb\nc d\n",
        # By confidence: right, on the difficult cat, wrong, right.
        "results/comp4_det_val_cat.txt": (
            "a 0.9 1 1 10 10\nb 0.8 51 51 60 60\nc d 0.7 1 1 10 10\nb 0.6 1 1 10 10\n"
        ),
        "results/comp4_det_val_fish.txt": "a 0.9 1 1 10 10\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def voc_flags(folder, *more):
    return [
        "--format", "voc", "--ground-truth", folder / "Annotations",
        "--detections", folder / "results", "--image-set", folder / "val.txt", *more,
    ]  # fmt: skip


def test_voc_by_hand(voc):
    status, _, err = call(*voc_flags(voc))
    assert status == 0 and "cow, fish" in err
    line = evaluate(*voc_flags(voc))
    # Two cats count: precision 1 up to recall 1/2, then 2/3. The dog was not looked for.
    cat = 1 / 2 * 1 + 1 / 2 * 2 / 3
    assert line["ap_area"] == {"cat": pytest.approx(cat), "cow": None, "dog": 0, "fish": None}
    points = (6 * 1 + 5 * 2 / 3) / 11
    assert line["ap_11point"] == {"cat": pytest.approx(points), "cow": None, "dog": 0, "fish": None}
    assert line["mean_ap_area"] == pytest.approx(cat / 2)
    assert line["mean_ap_11point"] == pytest.approx(points / 2)
    assert [line[key] for key in KEYS[4:]] == [3, 5, 2, 2]  # one cat lies on the difficult one


def test_voc_widths_are_inclusive(voc):
    # Columns 1 to 5 of 1 to 10: half of the object, 5/10. As 4/9 it would be wrong.
    (voc / "results" / "comp4_det_val_cat.txt").write_text("a 0.9 1 1 5 10\n")
    assert evaluate(*voc_flags(voc))["true_positives"] == 1
    (voc / "results" / "comp4_det_val_cat.txt").write_text("a 0.9 1 1 4.9 10\n")
    assert evaluate(*voc_flags(voc))["true_positives"] == 0


def test_a_list_of_one_class_names_the_same_images(voc):
    before = evaluate(*voc_flags(voc))
    (voc / "val.txt").write_text("a  1\nb -1\n\nc d  0\n")
    assert evaluate(*voc_flags(voc)) == before


@pytest.fixture(scope="module")
def genuine():
    """The images of the VOC 2012 sample: their names and annotations."""
    folder = REAL_DATA / "VOCdevkit" / "VOC2012"
    images = (folder / "ImageSets" / "Main" / "trainval.txt").read_text().split()
    return folder, images, [
        formats.read_voc_xml(folder / "Annotations" / f"{image}.xml") for image in images
    ]  # fmt: skip


def evaluate_genuine(genuine, results, change=lambda image, name, box, difficult: [(box, 0.5)]):
    """Writes the annotated boxes, as `change` lets them pass, as detections; evaluates them."""
    folder, images, annotations = genuine
    class_names = sorted({name for a in annotations for name in a.names})
    detections = []
    for image, a in zip(images, annotations):
        boxes = formats.voc_to_continuous(a.boxes)
        rows = [
            (box, class_names.index(name), score)
            for name, truth, difficult in zip(a.names, boxes, a.difficult)
            for box, score in change(image, name, truth, difficult)
        ]
        detections.append(tuple(zip(*rows)) or (np.zeros((0, 4)), [], []))
    formats.write_voc_results(results, "trainval", images, detections, class_names)
    return evaluate(
        "--format", "voc", "--ground-truth", folder / "Annotations", "--detections", results,
        "--image-set", folder / "ImageSets" / "Main" / "trainval.txt",
    )  # fmt: skip


def objects_that_count(genuine, name):
    return sum(
        this == name and not difficult
        for a in genuine[2]
        for this, difficult in zip(a.names, a.difficult)
    )


@needs_real_data("VOCdevkit/VOC2012/Annotations")
def test_genuine_boxes_as_detections_are_perfect(genuine, tmp_path):
    line = evaluate_genuine(genuine, tmp_path)
    assert len(line["ap_area"]) == 20
    for name, ap in line["ap_area"].items():
        expected = 1 if objects_that_count(genuine, name) else None
        assert ap == line["ap_11point"][name] == expected
    assert line["mean_ap_area"] == line["mean_ap_11point"] == 1
    assert [line[key] for key in KEYS[4:]] == [273 - 38, 273, 273 - 38, 0]


@needs_real_data("VOCdevkit/VOC2012/Annotations")
def test_genuine_boxes_shifted_doubled_and_dropped(genuine, tmp_path):
    """car: moved away; dog: each found twice; person: only two found; others: perfect."""
    people = []

    def change(image, name, box, difficult):
        if name == "car":
            return [(box + 10000, 0.5)]
        if name == "dog" and not difficult:
            return [(box, 0.5), (box, 0.4)]
        if name == "person":
            people.append(difficult)
            return [(box, 0.5)] if not difficult and people.count(False) <= 2 else []
        return [(box, 0.5)]

    line = evaluate_genuine(genuine, tmp_path, change)
    person, dog = (objects_that_count(genuine, name) for name in ("person", "dog"))
    assert line["ap_area"]["car"] == line["ap_11point"]["car"] == 0
    assert line["ap_area"]["dog"] == 1  # the second ones follow all the first ones
    assert line["ap_area"]["person"] == pytest.approx(2 / person)
    assert line["ap_11point"]["person"] == pytest.approx((20 // person + 1) / 11)
    assert {
        ap for name, ap in line["ap_area"].items() if name not in ("car", "dog", "person")
    } <= {1, None}  # fmt: skip
    cars = sum(a.names.count("car") for a in genuine[2])
    assert line["false_positives"] == dog + cars


@needs_real_data("VOCdevkit/VOC2012/Annotations")
def test_a_wrong_box_before_all_genuine_ones(genuine, tmp_path):
    first = {}

    def change(image, name, box, difficult):
        wrong = [(box + 10000, 0.9)] if name not in first else []
        first[name] = True
        return [*wrong, (box, 0.5)]

    # Precision climbs 1/2, 2/3, ... to n/(n + 1), the best of all recalls.
    line = evaluate_genuine(genuine, tmp_path, change)
    for name, ap in line["ap_area"].items():
        n = objects_that_count(genuine, name)
        expected = pytest.approx(n / (n + 1)) if n else None
        assert ap == expected and line["ap_11point"][name] == expected


# --- mistakes ----------------------------------------------------------------------------------


def refused(*arguments):
    status, out, err = call(*arguments)
    assert status == 2 and out == "" and "Traceback" not in err
    return err.splitlines()[-1]


def test_mistakes_in_mot_files(mot, tmp_path):
    good = "1,1,0,0,10,10,1\n"
    line = refused(*mot(good, good + "1,1,0,0,x,10,1\n"))
    assert line.startswith("error: ") and "det.txt', line 2" in line
    assert "gt.txt', line 1" in refused(*mot("1,1,0,0\n", good))
    assert "no object at all" in refused(*mot("", good))
    assert "no object at all" in refused(*mot("1,1,0,0,10,10,0\n", good))
    flags = mot(good, good)
    assert "--image-set" in refused(*flags, "--image-set", tmp_path / "gt.txt")
    assert "0 up to 1" in refused(*flags, "--iou", 1.5)
    assert "--iou" in refused(*flags, "--iou", 0)
    (tmp_path / "det.txt").unlink()
    assert "det.txt' does not exist" in refused(*flags)
    (tmp_path / "det.txt").mkdir()
    (tmp_path / "det.txt" / "det_car.txt").touch()
    line = refused(*flags)
    assert "gt.txt' is a file, --detections" in line and "a folder with det_car.txt." in line


@pytest.mark.parametrize("text", ["last:0", "last:2", "last:x", "last:nan", "last", "0.2", "some"])
def test_frames_that_cannot_be(mot, text):
    line = refused(*mot("", ""), "--frames", text)
    assert "expected all, last:SHARE or first:SHARE" in line and f"received '{text}'" in line


@pytest.mark.parametrize(
    "files, words",
    [
        ({"truth/A/gt/gt.txt": None}, "truth/A' has no gt/gt.txt"),
        ({"found/B/det/det.txt": None}, "Sequence B has ground truth, but no detections"),
        ({"truth/A/gt/gt.txt": "", "truth/B/gt/gt.txt": ""}, "None of the last 20 % of the frames"),
        ({"truth/A/gt/gt.txt": rows((11, 0, 1))}, "gt.txt' has boxes in frame 11, but seqinfo"),
        ({"found/A/det/det.txt": rows((11, 0, 1))}, "det.txt' has boxes in frame 11, but seq"),
        ({"truth/A/seqinfo.ini": "[Sequence]\n"}, "seqinfo.ini' cannot be read"),
        ({"truth/A/gt/gt.txt": "1,1,0,0\n"}, "gt.txt', line 1"),
    ],
)
def test_mistakes_in_sequences(write, tmp_path, files, words):
    flags = write(TWO)
    for name, text in files.items():
        (tmp_path / name).unlink() if text is None else (tmp_path / name).write_text(text)
    assert words in refused(*flags, "--frames", "last:0.2")


def test_mistakes_in_folders_of_sequences(write, tmp_path):
    flags = write(TWO)
    truth, found = flags[3], flags[5]

    def of(truth, found, *more):
        return refused("--format", "mot", "--ground-truth", truth, "--detections", found, *more)

    line = of(truth, found / "A/det/det.txt")
    assert "truth' is a folder, --detections" in line and "det.txt' a file. Expected two" in line
    assert "does not exist" in of(truth, tmp_path / "nowhere")
    assert "does not exist" in of(tmp_path / "nowhere", found)
    assert "found' a folder. Expected two files, or" in of(truth / "A/gt/gt.txt", found)
    (tmp_path / "empty").mkdir()
    assert "empty' holds no sequence" in of(tmp_path / "empty", found)
    assert "Sequence A has ground truth, but no detections" in of(truth, tmp_path / "empty")
    flags = ["--format", "voc", "--ground-truth", truth, "--detections", found]
    line = refused(*flags, "--image-set", REPOSITORY / "setup.cfg", "--frames", "all")
    assert "--frames is of sequences" in line


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("val.txt", "a\nb\nc d\ne\n", "e.xml' does not exist"),
        ("val.txt", "a\n", "hold 2 images, such as 'b', that are not in"),
        ("val.txt", "\n", "names no image"),
        ("val.txt", "a\nb\nc d\na\n", "names 'a' more than once"),
        ("val.txt", None, "val.txt' does not exist"),
        ("Annotations/a.xml", "<annotation>", "a.xml' is not valid XML"),
        ("results/comp4_det_val_cat.txt", "a 0.9 1 1 10\n", "cat.txt', line 1"),
        ("results/comp4_det_test_cat.txt", "", "two result files of the class 'cat'"),
        ("results/comp4_det_val_cat.txt", None, "none of the expected classes"),
    ],
)
def test_mistakes_in_voc_files(voc, name, text, words):
    (voc / name).write_text(text) if text is not None else (voc / name).unlink()
    line = refused(*voc_flags(voc))
    assert line.startswith("error: ") and words in line


def test_mistakes_in_voc_flags(voc):
    flags = voc_flags(voc)
    assert "--image-set" in refused(*flags[:-2])
    flags[3] = voc / "nowhere"
    assert "nowhere' is no folder" in refused(*flags)
    flags = voc_flags(voc)
    flags[5] = voc / "Annotations"
    assert "comp4_det_IMAGESET_CLASS.txt" in refused(*flags)


def test_images_without_any_object(voc):
    for name in ("a", "b", "c d"):
        (voc / "Annotations" / f"{name}.xml").write_text("<annotation/>")
    assert "no object at all" in refused(*voc_flags(voc))
