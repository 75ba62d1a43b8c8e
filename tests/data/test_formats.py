"""Box files: exact numbers from hand-written files, round trips, and what broken ones say."""

import numpy as np
import pytest
from conftest import REAL_DATA, needs_real_data

from kerasdense.data import formats

ANNOTATION = """<annotation>
    <filename>dog.jpg</filename>
    <size><width>500</width><height>375</height><depth>3</depth></size>
    <object>
        <name>person</name><difficult>0</difficult>
        <part><name>head</name>
            <bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></part>
        <bndbox><xmax>20</xmax><xmin>11.5</xmin><ymax> 40 </ymax><ymin>21</ymin></bndbox>
    </object>
    <object>
        <name>dog</name><difficult>1</difficult>
        <bndbox><xmin>5</xmin><ymin>6</ymin><xmax>5</xmax><ymax>6</ymax></bndbox>
    </object>
</annotation>"""
DOG_BOX = "<xmin>5</xmin><ymin>6</ymin><xmax>5</xmax><ymax>6</ymax>"


@pytest.fixture
def xml(tmp_path):
    def write(text):
        (tmp_path / "a.xml").write_text(text)
        return tmp_path / "a.xml"

    return write


# --- VOC annotations ---------------------------------------------------------------------------


def test_voc_xml_is_read_as_it_stands(xml):
    annotation = formats.read_voc_xml(xml(ANNOTATION))
    assert annotation.size == (375, 500)
    assert annotation.file_name == "dog.jpg"
    assert annotation.names == ["person", "dog"]
    # The head is a part; its box is not the person's. A box of one pixel is a box.
    np.testing.assert_array_equal(annotation.boxes, [[11.5, 21, 20, 40], [5, 6, 5, 6]])
    assert annotation.boxes.dtype == np.float64
    np.testing.assert_array_equal(annotation.difficult, [False, True])


def test_voc_xml_without_objects_keeps_its_shapes(xml):
    annotation = formats.read_voc_xml(xml("<annotation/>"))
    assert annotation.names == [] and annotation.size is None and annotation.file_name is None
    assert annotation.boxes.shape == (0, 4) and annotation.boxes.dtype == np.float64
    assert annotation.difficult.shape == (0,) and annotation.difficult.dtype == bool


@pytest.mark.parametrize("difficult", ["", "<difficult/>", "<difficult> </difficult>"])
def test_an_absent_or_empty_difficult_is_false(xml, difficult):
    text = ANNOTATION.replace("<difficult>1</difficult>", difficult)
    assert not formats.read_voc_xml(xml(text)).difficult.any()


@pytest.mark.parametrize(
    "size",
    [
        "",
        "<size/>",
        "<size><width>0</width><height>0</height></size>",
        "<size><width>500</width></size>",
        "<size><width>wide</width><height>375</height></size>",
        "<size><width>500</width><height>-375</height></size>",
        "<size><width>inf</width><height>nan</height></size>",
    ],
)
def test_a_size_that_says_nothing_is_none(xml, size):
    text = f"<annotation>{size}</annotation>"
    assert formats.read_voc_xml(xml(text)).size is None


@pytest.mark.parametrize(
    "old, new, words",
    [
        ("</annotation>", "", "not valid XML"),
        ("annotation>", "html>", "received <html>"),
        ("<name>dog</name>", "", "object 2 has no <name>"),
        (f"<bndbox>{DOG_BOX}</bndbox>", "", "object 2 ('dog') has no <bndbox>"),
        ("<xmin>5</xmin>", "", "object 2 ('dog'): expected four finite numbers, received xmin=''"),
        ("<xmin>5</xmin>", "<xmin>five</xmin>", "xmin='five'"),
        ("<xmin>5</xmin>", "<xmin>nan</xmin>", "xmin='nan'"),
        ("<xmax>5</xmax>", "<xmax>inf</xmax>", "xmax='inf'"),
        ("<xmax>5</xmax>", "<xmax>4</xmax>", "xmin=5, ymin=6, xmax=4"),
        ("<ymax>6</ymax>", "<ymax>5.5</ymax>", "ymax=5.5"),
        ("<difficult>1<", "<difficult>very<", "expected 0 or 1 in <difficult>, received 'very'"),
    ],
)
def test_broken_annotations_name_file_and_object(xml, old, new, words):
    assert old in ANNOTATION
    path = xml(ANNOTATION.replace(old, new))
    with pytest.raises(ValueError) as error:
        formats.read_voc_xml(path)
    assert words in str(error.value) and str(path) in str(error.value)


def test_unreadable_annotations_are_errors_too(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.xml"):
        formats.read_voc_xml(tmp_path / "none.xml")
    (tmp_path / "a.xml").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    with pytest.raises(ValueError, match="a.xml"):
        formats.read_voc_xml(tmp_path / "a.xml")
    (tmp_path / "a.xml").write_bytes(b"<?xml version='1.0' encoding='klingon'?><annotation/>")
    with pytest.raises(ValueError, match="a.xml"):
        formats.read_voc_xml(tmp_path / "a.xml")


def test_continuous_widths_are_the_devkits():
    # One pixel, and a whole image of 500 x 375: x2 - x1 + 1 = 1 and 500.
    boxes = formats.voc_to_continuous([[5, 6, 5, 6], [1, 1, 500, 375]])
    np.testing.assert_array_equal(boxes, [[4, 5, 5, 6], [0, 0, 500, 375]])
    assert formats.voc_to_continuous(np.zeros((0, 4))).shape == (0, 4)
    pixels = formats.continuous_to_voc([[4, 5, 5, 6], [0, 0, 500, 375]])
    np.testing.assert_array_equal(pixels, [[5, 6, 5, 6], [1, 1, 500, 375]])


def test_voc_xml_round_trip(tmp_path):
    """What is written is what the devkit writes, and what is read is what was given."""
    given = formats.VocAnnotation(
        (375, 500), "dog & cat.jpg", ["person", "dog"],
        np.array([[11.5, 21, 20, 40], [5, 6, 5, 6]]), np.array([False, True]),
    )  # fmt: skip
    formats.write_voc_xml(tmp_path / "a.xml", given)
    text = "".join(line.strip() for line in (tmp_path / "a.xml").read_text().splitlines())
    assert text.startswith(
        "<annotation><filename>dog &amp; cat.jpg</filename>"
        "<size><width>500</width><height>375</height><depth>3</depth></size>"
    )
    assert f"<name>dog</name><difficult>1</difficult><bndbox>{DOG_BOX}</bndbox>" in text
    for annotation in (
        given, formats.VocAnnotation(None, None, [], np.zeros((0, 4)), np.zeros(0, bool)),
    ):  # fmt: skip
        formats.write_voc_xml(tmp_path / "a.xml", annotation)
        read = formats.read_voc_xml(tmp_path / "a.xml")
        assert (read.size, read.file_name, read.names) == (
            annotation.size, annotation.file_name, annotation.names,
        )  # fmt: skip
        np.testing.assert_array_equal(read.boxes, annotation.boxes)
        np.testing.assert_array_equal(read.difficult, annotation.difficult)


# --- MOT ---------------------------------------------------------------------------------------


def test_mot_lines_of_every_length_are_read(tmp_path):
    (tmp_path / "gt.txt").write_bytes(
        b"\xef\xbb\xbf2,7,10,20,30.5,40,1\n"
        b"\r\n"
        b"1.0, -1, -3, 0, 0, 5, 0.25, 1, 0.5\r\n"
        b"3,2,1,2,3,4,0,-1,nan,-1"  # world coordinates are not looked at
    )
    boxes = formats.read_mot(tmp_path / "gt.txt")
    np.testing.assert_array_equal(boxes.frames, [2, 1, 3])
    np.testing.assert_array_equal(boxes.identities, [7, -1, 2])
    np.testing.assert_array_equal(boxes.boxes, [[10, 20, 40.5, 60], [-3, 0, -3, 5], [1, 2, 4, 6]])
    np.testing.assert_array_equal(boxes.confidences, [1, 0.25, 0])
    assert boxes.frames.dtype == boxes.identities.dtype == np.int64


def test_an_empty_mot_file_holds_no_boxes(tmp_path):
    (tmp_path / "det.txt").write_text("\n\n")
    boxes = formats.read_mot(tmp_path / "det.txt")
    assert boxes.boxes.shape == (0, 4) and boxes.frames.shape == boxes.confidences.shape == (0,)


@pytest.mark.parametrize(
    "line",
    [
        "1,-1,10,20,30,40",
        "1,-1,10,20,30,40,1,-1,-1,-1,-1",
        "1 -1 10 20 30 40 1 -1 -1 -1",
        "1,-1,10,twenty,30,40,1,-1,-1,-1",
        "1,-1,10,,30,40,1,-1,-1,-1",
        "1,-1,nan,20,30,40,1,-1,-1,-1",
        "1,-1,10,20,30,40,inf,-1,-1,-1",
        "1,-1,10,20,-30,40,1,-1,-1,-1",
        "1,-1,10,20,30,-0.5,1,-1,-1,-1",
        "0,-1,10,20,30,40,1,-1,-1,-1",
        "1.5,-1,10,20,30,40,1,-1,-1,-1",
        "1,0.5,10,20,30,40,1,-1,-1,-1",
    ],
)
def test_broken_mot_lines_name_file_and_line(tmp_path, line):
    path = tmp_path / "det.txt"
    path.write_text(f"1,-1,10,20,30,40,1,-1,-1,-1\n\n{line}\n")
    with pytest.raises(ValueError) as error:
        formats.read_mot(path)
    assert f"'{path}', line 3:" in str(error.value) and line in str(error.value)


def test_unreadable_mot_files_are_errors_too(tmp_path):
    with pytest.raises(FileNotFoundError, match="det.txt"):
        formats.read_mot(tmp_path / "det.txt")
    (tmp_path / "det.txt").write_bytes(b"\xff\xfe1\x00,\x00")
    with pytest.raises(ValueError, match="det.txt.*UTF-8"):
        formats.read_mot(tmp_path / "det.txt")


def test_written_mot_lines(tmp_path):
    boxes = [[10, 20, 40, 60], [0.25, 0, 1, 2.5], [5, 5, 5, 5]]
    formats.write_mot(tmp_path / "det.txt", [2, 1, 2], boxes, [0.5, 1, 0.75])
    assert (tmp_path / "det.txt").read_text() == (
        "1,-1,0.25,0,0.75,2.5,1,-1,-1,-1\n"
        "2,-1,10,20,30,40,0.5,-1,-1,-1\n"
        "2,-1,5,5,0,0,0.75,-1,-1,-1\n"
    )


def test_mot_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    frames = np.sort(rng.integers(1, 50, 200))
    boxes = random_boxes(rng, 200)
    scores = rng.random(200, np.float32)
    formats.write_mot(tmp_path / "det.txt", frames, boxes, scores)
    read = formats.read_mot(tmp_path / "det.txt")
    np.testing.assert_array_equal(read.frames, frames)
    np.testing.assert_allclose(read.boxes, boxes, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(read.confidences.astype(np.float32), scores)
    formats.write_mot(tmp_path / "none.txt", [], np.zeros((0, 4)), [])
    assert len(formats.read_mot(tmp_path / "none.txt").frames) == 0


@pytest.mark.parametrize(
    "frames, boxes, scores, words",
    [
        ([0], [[0, 0, 1, 1]], [1], "numbered from 1"),
        ([1, 2], [[0, 0, 1, 1]], [1], "one frame a box"),
        ([1], [[0, 0, 1, 1]], [1, 1], r"scores \[N\]"),
        ([1], [0, 0, 1, 1], [1], r"boxes \[N, 4\]"),
        ([1, 1], [[0, 0, 1, 1], [0, 0, np.nan, 1]], [1, 1], "box 1 is broken"),
        ([1], [[2, 0, 1, 1]], [1], "box 0 is broken"),
        ([1], [[0, 0, 1, 1]], [np.nan], "box 0 is broken"),
    ],
)
def test_what_cannot_be_written_to_mot(tmp_path, frames, boxes, scores, words):
    with pytest.raises(ValueError, match=words):
        formats.write_mot(tmp_path / "det.txt", frames, boxes, scores)


# --- VOC results -------------------------------------------------------------------------------


def test_written_voc_results(tmp_path):
    formats.write_voc_results(
        tmp_path / "new" / "folder", "test", ["000001", "000002"],
        [([[0, 0, 500, 375], [4, 5, 5, 6]], [1, 0], [0.5, 0.25]), (np.zeros((0, 4)), [], [])],
        ["cat", "dog", "traffic light"],
    )  # fmt: skip
    written = {path.name: path.read_text() for path in (tmp_path / "new" / "folder").iterdir()}
    assert written == {  # the whole image, and one pixel, in 1-based inclusive pixels
        "comp4_det_test_cat.txt": "000001 0.25 5 6 5 6\n",
        "comp4_det_test_dog.txt": "000001 0.5 1 1 500 375\n",
        "comp4_det_test_traffic light.txt": "",
    }


def test_voc_results_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    class_names = ["light", "traffic_light", "car"]
    detections = []
    for _ in range(20):
        count = rng.integers(0, 10)
        boxes = random_boxes(rng, count)
        detections.append((boxes, rng.integers(0, 2, count), rng.random(count, np.float32)))
    image_ids = [f"street {number}" for number in range(20)]
    formats.write_voc_results(tmp_path, "my_val", image_ids, detections, class_names)
    results = formats.read_voc_results(tmp_path, class_names)
    assert set(results) == set(class_names)
    for label, name in enumerate(class_names):
        chosen = [labels == label for _, labels, _ in detections]
        expected_ids = [i for i, rows in zip(image_ids, chosen) for _ in range(rows.sum())]
        boxes, scores = (
            np.concatenate([d[place][rows] for d, rows in zip(detections, chosen)])
            for place in (0, 2)
        )
        assert results[name].image_ids == expected_ids
        np.testing.assert_allclose(results[name].boxes, boxes, rtol=0, atol=1e-5)
        np.testing.assert_array_equal(results[name].scores.astype(np.float32), scores)
        assert (results[name].boxes[:, 2:] >= results[name].boxes[:, :2]).all()
    assert results["car"].boxes.shape == (0, 4)


def random_boxes(rng, count):
    """float32 boxes [count, 4] in pixels; every third has no width or less than a pixel."""
    corners = rng.uniform(0, 1900, (count, 2))
    sizes = rng.uniform(0, 100, (count, 2))
    sizes[::3, 0] = rng.choice([0, 0.3], len(sizes[::3]))
    return np.concatenate([corners, corners + sizes], axis=1).astype(np.float32)


def test_a_class_without_a_file_has_no_detections(tmp_path):
    (tmp_path / "comp3_det_val_cat.txt").write_text("a 0.5 1 1 2 2\n")
    (tmp_path / "notes.txt").write_text("not a result file")
    results = formats.read_voc_results(tmp_path, ["cat", "dog"])
    assert list(results) == ["cat", "dog"]
    np.testing.assert_array_equal(results["cat"].boxes, [[0, 0, 2, 2]])
    assert results["dog"].image_ids == [] and results["dog"].scores.shape == (0,)
    assert list(formats.read_voc_results(tmp_path)) == ["cat"]


def test_the_class_of_a_file_name(tmp_path):
    for name in ("comp4_det_val_traffic_light", "comp4_det_2007_test_cat"):
        (tmp_path / f"{name}.txt").write_text("")
    assert set(formats.read_voc_results(tmp_path)) == {"traffic_light", "test_cat"}
    assert set(formats.read_voc_results(tmp_path, ["cat"])) == {"traffic_light", "cat"}


def test_folders_without_usable_results(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere' does not exist"):
        formats.read_voc_results(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match="file' is a file: expected a folder of comp4_det"):
        formats.read_voc_results(tmp_path / "file")
    with pytest.raises(FileNotFoundError, match="comp4_det_IMAGESET_CLASS.txt"):
        formats.read_voc_results(tmp_path)
    (tmp_path / "comp4_det_val_cat.txt").write_text("")
    with pytest.raises(ValueError, match="Expected some of dog; received cat"):
        formats.read_voc_results(tmp_path, ["dog"])
    (tmp_path / "comp4_det_test_cat.txt").write_text("")
    with pytest.raises(ValueError, match="two result files of the class 'cat'"):
        formats.read_voc_results(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "a 0.5 1 1 2",
        "0.5 1 1 2 2",
        "a 0.5 1 1 2 two",
        "a nan 1 1 2 2",
        "a 0.5 1 1 inf 2",
        "a 0.5 1 1 -1 2",
        "a,0.5,1,1,2,2",
    ],
)
def test_broken_result_lines_name_file_and_line(tmp_path, line):
    path = tmp_path / "comp4_det_val_cat.txt"
    path.write_text(f"a 0.5 1 1 2 2\n{line}\n")
    with pytest.raises(ValueError) as error:
        formats.read_voc_results(tmp_path)
    assert f"'{path}', line 2:" in str(error.value) and line in str(error.value)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"image_ids": ["a", "b"]}, "detections of 2 images, received 1"),
        ({"image_ids": ["a\tb"]}, "cannot stand in a result file"),
        ({"image_ids": [""]}, "cannot stand in a result file"),
        ({"class_names": ["cat/dog"]}, "'cat/dog' cannot be a part of a file name"),
        ({"image_set": ""}, "'' cannot be a part of a file name"),
        ({"detections": [([[0, 0, 1, 1]], [1], [1])]}, "'a': expected labels from 0 to 0"),
        ({"detections": [([[0, 0, 1, 1]], [-1], [1])]}, "received -1"),
        ({"detections": [([[0, 0, 1, 1]], [0, 0], [1])]}, "'a': expected one label a box"),
        ({"detections": [([[0, 0, -1, 1]], [0], [1])]}, "'a': box 0 is broken"),
        ({"detections": [([[0, 0, 1, 1]], [0], [np.inf])]}, "'a': box 0 is broken"),
    ],
)
def test_what_cannot_be_written_to_voc_results(tmp_path, changes, words):
    arguments = {
        "image_set": "val",
        "image_ids": ["a"],
        "detections": [([[0, 0, 1, 1]], [0], [1])],
        "class_names": ["cat"],
    } | changes
    with pytest.raises(ValueError, match=words):
        formats.write_voc_results(tmp_path, **arguments)
    assert not list(tmp_path.iterdir())


# --- real files (their counts as their source states them) -------------------------------------


@needs_real_data("VOCdevkit/VOC2012/Annotations")
def test_genuine_voc_annotations():
    folder = REAL_DATA / "VOCdevkit" / "VOC2012" / "Annotations"
    annotations = [formats.read_voc_xml(path) for path in folder.glob("*.xml")]
    assert len(annotations) == 100 and None not in [a.size for a in annotations]
    assert sum(len(a.names) for a in annotations) == 273
    assert sum(a.difficult.sum() for a in annotations) == 38
    assert len({name for a in annotations for name in a.names}) == 20


@needs_real_data("BCCD/Annotations")
def test_blood_cells():
    folder = REAL_DATA / "BCCD" / "Annotations"
    annotations = [formats.read_voc_xml(path) for path in folder.glob("*.xml")]
    assert {name for a in annotations for name in a.names} == {"RBC", "WBC", "Platelets"}
    boxes = np.concatenate([a.boxes for a in annotations])
    assert len(boxes) == 4888
    assert np.sum((boxes[:, 2:] == boxes[:, :2]).any(axis=1)) == 2


@needs_real_data("MOT15/train/TUD-Campus")
def test_mot_sequence():
    sequence = REAL_DATA / "MOT15" / "train" / "TUD-Campus"
    truth = formats.read_mot(sequence / "gt" / "gt.txt")
    assert len(truth.frames) == 359 and len(set(truth.identities)) == 8
    assert set(truth.frames) == set(range(1, 72))
    found = formats.read_mot(sequence / "det" / "det.txt")
    assert len(found.frames) == 322 and set(found.identities) == {-1}
