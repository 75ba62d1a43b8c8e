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


def evaluate(*arguments):
    """The JSON of a run that succeeds."""
    status, out, err = call(*arguments)
    assert status == 0, err
    assert out.count("\n") == 1 and out.endswith("\n")

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    line = json.loads(out, parse_constant=refuse)
    assert list(line) == KEYS
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
    words = "det.txt' is a folder: expected the path of one text file, found in it det_car.txt."
    assert words in refused(*flags)


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
