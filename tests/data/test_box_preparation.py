"""The detection builders: boxes by hand, odd files that survive, bad files that are named.

Images are 20 pixels wide and 10 high unless a test says otherwise; VOC boxes are written as in the
files, 1-based and inclusive.
"""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import REAL_DATA, REPOSITORY, needs_real_data
from PIL import Image

from kerasdense.cli.main import main
from kerasdense.data import box_preparation, datasets, files, preparation, reading
from kerasdense.data.sources import folder, folder_detection, mot15, toy_streets, voc_detection

WIDTH, HEIGHT = 20, 10
THING = ("thing", 3, 2, 12, 10)  # left 2, top 1, right 12, bottom 10 of 20x10
THING_BOX = [2 / 20, 1 / 10, 12 / 20, 10 / 10]


def save_image(path, seed=0, size=(WIDTH, HEIGHT), **options):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def write_lines(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def write_xml(path, *objects, size=(WIDTH, HEIGHT)):
    """Objects: (name, xmin, ymin, xmax, ymax) and, optionally, the text of <difficult>."""
    lines = ["<annotation>"]
    if size:
        lines.append(f"<size><width>{size[0]}</width><height>{size[1]}</height></size>")
    for name, left, top, right, bottom, *difficult in objects:
        lines.append(
            f"<object><name>{name}</name>"
            + "".join(f"<difficult>{text}</difficult>" for text in difficult)
            + f"<bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax>"
            f"<ymax>{bottom}</ymax></bndbox></object>"
        )
    write_lines(path, *lines, "</annotation>")


def write_mot(folder, frames, rows, length, images=None, size=(WIDTH, HEIGHT)):
    """A sequence whose gt.txt holds `rows` (frame, id, left, top, width, height, conf)."""
    for frame in frames if images is None else images:
        save_image(folder / "img1" / f"{frame:06}.png", frame, size)
    write_lines(folder / "gt" / "gt.txt", *(",".join(map(str, row)) + ",-1,-1,-1" for row in rows))
    info = f"seqLength={length}", f"imWidth={size[0]}", f"imHeight={size[1]}", "imExt=.png"
    write_lines(folder / "seqinfo.ini", "[Sequence]", "name=any", *info)


def examples(builder, split):
    """The split's examples by file name."""
    found = tfds.as_numpy(builder.as_dataset(split))
    return {example["file_name"].decode(): example for example in found}


def names_of(source):
    return {split: [pair.name for pair in pairs] for split, pairs in source.splits.items()}


@pytest.fixture
def own_tree(tmp_path):
    """Ten images in images/day/, each with the THING; two lines of classes."""
    root = tmp_path / "own"
    for number in range(10):
        save_image(root / "images" / "day" / f"{number}.jpg", number)
        write_xml(root / "annotations" / "day" / f"{number}.xml", THING)
    write_lines(root / "classes.txt", "other", "thing")
    write_lines(root / "splits" / "train.txt", *(f"day/{number}" for number in range(8)))
    write_lines(root / "splits" / "val.txt", "day/8", "day/9")
    return root


def write_voc_year(root, year, **splits):
    """VOC{year} with one image of a dog for each stem of the splits' lists."""
    folder = root / f"VOC{year}"
    for split, stems in splits.items():
        write_lines(folder / "ImageSets/Main" / f"{split}.txt", *stems)
        for stem in stems:
            save_image(folder / "JPEGImages" / f"{stem}.jpg")
            write_xml(folder / "Annotations" / f"{stem}.xml", ("dog", *THING[1:]))
    return folder


@pytest.fixture
def voc_tree(tmp_path):
    root = tmp_path / "VOCdevkit"
    write_voc_year(root, 2007, train="a", val="b", trainval="ab", test="cde")
    write_voc_year(root, 2012, train="fg", val="h", trainval="fgh")
    return root


@pytest.fixture
def mot_tree(tmp_path):
    """Sequence S of 10 frames: 1-8 train, 9 and 10 val; ground truth in all but 2 and 9."""
    frames = (1, 3, 4, 5, 6, 7, 8, 10)
    rows = [(frame, 1, 2.5, 1, 10, 8.25, 1) for frame in frames]
    write_mot(tmp_path / "MOT15" / "train" / "S", range(1, 11), rows, length=10)
    return tmp_path / "MOT15"


def prepared(root, name):
    """Everything that a failed preparation could leave behind."""
    return list(root.glob(f"prepared/{name}/**/*"))


# --- what an example holds ---------------------------------------------------------------------


def test_features_and_metadata(own_tree, tmp_path):
    builder = datasets.load("folder_detection", own_tree, tmp_path / "prepared")
    for each in (builder, tfds.builder_from_directory(builder.data_dir)):
        assert list(each.info.metadata["class_names"]) == ["other", "thing"]
        # VOC's color map without its black 0
        assert each.info.metadata["palette"] == [[128, 0, 0], [0, 128, 0]]
        features = each.info.features
        assert set(features) == {"image", "boxes", "labels", "difficult", "file_name"}
        assert features["boxes"].shape == (None, 4) and features["boxes"].np_dtype == np.float32
        assert features["labels"].shape == (None,) and features["labels"].np_dtype == np.int64
        assert features["difficult"].shape == (None,) and features["difficult"].np_dtype == np.bool_
    found = examples(builder, "train")
    assert sorted(found) == [f"day/{number}" for number in range(8)]
    example = found["day/3"]
    np.testing.assert_array_equal(example["boxes"], np.array([THING_BOX], np.float32))
    assert example["boxes"].dtype == np.float32
    assert example["labels"].dtype == np.int64 and example["labels"].tolist() == [1]
    assert example["difficult"].dtype == bool and example["difficult"].tolist() == [False]
    assert example["image"].shape == (HEIGHT, WIDTH, 3) and example["image"].dtype == np.uint8


def test_jpeg_bytes_are_kept(own_tree, tmp_path):
    builder = datasets.load("folder_detection", own_tree, tmp_path / "prepared")
    raw = builder.as_dataset("train", decoders={"image": tfds.decode.SkipDecoding()})
    for example in tfds.as_numpy(raw):
        path = own_tree / "images" / f"{example['file_name'].decode()}.jpg"
        assert example["image"] == path.read_bytes()


def test_no_class_is_black_however_many(own_tree, tmp_path):
    write_lines(own_tree / "classes.txt", "thing", *(f"class {number}" for number in range(299)))
    builder = datasets.load("folder_detection", own_tree, tmp_path / "prepared")
    palette = builder.info.metadata["palette"]
    # VOC's color map has 256 colors, one of them black: after 255 classes they come again
    assert len(palette) == 300 and [0, 0, 0] not in palette
    assert len({tuple(color) for color in palette}) == 255


# --- odd files that survive --------------------------------------------------------------------


@pytest.mark.parametrize("factor", [2, 0.5])
def test_boxes_of_pictures_that_were_resized_since_are_refused(own_tree, tmp_path, factor):
    stated = (round(factor * WIDTH), round(factor * HEIGHT))
    for path in (own_tree / "annotations").rglob("*.xml"):
        write_xml(path, THING, size=stated)
    with pytest.raises(ValueError, match="every annotation of .* were resized since they were ann"):
        datasets.load("folder_detection", own_tree, tmp_path / "prepared")
    # One of each split that is right, and the size may be what is wrong; so it may by a pixel.
    write_xml(own_tree / "annotations" / "day" / "0.xml", THING)
    write_xml(own_tree / "annotations" / "day" / "8.xml", THING, size=(WIDTH + 1, HEIGHT))
    datasets.load("folder_detection", own_tree, tmp_path / "prepared")


def test_odd_objects_survive_and_are_counted_in_one_line(own_tree, tmp_path, capsys):
    annotations = own_tree / "annotations" / "day"
    write_xml(annotations / "0.xml", ("thing", 3.5, 2.25, 12.75, 9.5, ""))  # floats, <difficult/>
    write_xml(annotations / "1.xml", ("thing", 5, 5, 5, 9), ("other", 5, 5, 9, 5), (*THING, 1))
    write_xml(annotations / "2.xml", ("thing", -3, 0, 26, 12), THING)  # sticks out on all sides
    write_xml(annotations / "3.xml", ("thing", 21, 2, 30, 9), ("thing", -9, 2, 0, 9))  # outside
    write_xml(annotations / "4.xml")  # no objects
    write_xml(annotations / "5.xml", THING, size=(10, 20))  # wrong
    write_xml(annotations / "6.xml", THING, size=(0, 0))
    write_lines(annotations / "8.xml", "<annotation></annotation>")
    save_image(own_tree / "images" / "day" / "7.jpg", exif=exif_turned())
    capsys.readouterr()
    builder = datasets.load("folder_detection", own_tree, tmp_path / "prepared")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and "preparing" in lines[0]
    # day/0 1 box, day/1 1, day/2 2, day/3 and day/4 none, day/5 to day/7 one each: 7 boxes. The
    # first of day/2: left -3 - 1 = -4, top 0 - 1 = -1, right 26 - 20 = 6 beyond, bottom 2 beyond.
    assert lines[1] == (
        "folder_detection/default: train 8 images, 7 boxes (1 difficult), images without objects: "
        "2, dropped boxes without area: 2 (first: day/1), clipped boxes: 1 (first: day/2), "
        "dropped boxes outside: 2 (first: day/3), "
        "stated size of another picture: 1 (first: day/5), stated size absent: 1 (first: day/6), "
        "pictures turned by EXIF orientation: 1 (first: day/7), annotations of the stored pixels "
        "turned with them: 1 (first: day/7), farthest overhang: 6 pixels, "
        "classes without a box: other; objects: other 0, thing 7"
    )
    assert lines[2] == (
        "folder_detection/default: val 2 images, 1 boxes, images without objects: 1, "
        "stated size absent: 1 (first: day/8); objects: other 0, thing 1"
    )
    found = examples(builder, "train")
    np.testing.assert_allclose(
        found["day/0"]["boxes"], [[2.5 / 20, 1.25 / 10, 12.75 / 20, 9.5 / 10]], rtol=1e-6
    )
    assert found["day/0"]["difficult"].tolist() == [False]
    np.testing.assert_allclose(found["day/1"]["boxes"], [THING_BOX], rtol=1e-6)
    assert found["day/1"]["difficult"].tolist() == [True]
    assert found["day/1"]["labels"].tolist() == [1]
    np.testing.assert_allclose(found["day/2"]["boxes"], [[0, 0, 1, 1], THING_BOX], rtol=1e-6)
    for name in ("day/3", "day/4"):
        assert found[name]["boxes"].shape == (0, 4) and found[name]["boxes"].dtype == np.float32
        assert found[name]["labels"].shape == found[name]["difficult"].shape == (0,)
        assert found[name]["labels"].dtype == np.int64 and found[name]["difficult"].dtype == bool
    for name in ("day/5", "day/6"):  # relative to the pixels that are there
        np.testing.assert_allclose(found[name]["boxes"], [THING_BOX], rtol=1e-6)
        assert found[name]["image"].shape == (HEIGHT, WIDTH, 3)
    # A quarter to the right takes (x, y) of 20x10 to (10 - y, x) of 10x20: x 2 to 12 and y 1 to 10
    # become y 2 to 12 and x 0 to 9.
    np.testing.assert_allclose(found["day/7"]["boxes"], [[0, 2 / 20, 9 / 10, 12 / 20]], rtol=1e-6)
    assert found["day/7"]["image"].shape == (WIDTH, HEIGHT, 3)
    datasets.load("folder_detection", own_tree, tmp_path / "prepared")
    (line,) = capsys.readouterr().out.splitlines()
    assert "reusing" in line


def exif_turned(orientation=6):
    exif = Image.Exif()
    exif[reading.EXIF_ORIENTATION] = orientation  # 6: shown turned by a quarter
    return exif


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("drawn_on", ["upright", "stored", "unknown"])
def test_boxes_and_pictures_are_upright(own_tree, tmp_path, orientation, drawn_on, capsys):
    """The thing is white in a black picture, 20x10 upright, that is stored as a camera does."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[1:10, 2:12] = 255  # THING
    inverse = {6: 8, 8: 6}.get(orientation, orientation)  # the others undo themselves
    stored = reading.turned(Image.fromarray(pixels), inverse)
    (own_tree / "images" / "day" / "8.jpg").unlink()
    stored.save(own_tree / "images" / "day" / "8.png", exif=exif_turned(orientation))
    thing, size = THING, (WIDTH, HEIGHT)
    if drawn_on == "stored" and orientation >= 5:  # below, sizes do not tell the two apart
        rows, columns = np.nonzero(np.asarray(stored)[..., 0])
        thing = ("thing", columns.min() + 1, rows.min() + 1, columns.max() + 1, rows.max() + 1)
        size = stored.size
    xml = own_tree / "annotations" / "day" / "8.xml"
    write_xml(xml, thing, size=None if drawn_on == "unknown" else size)
    builder = datasets.load("folder_detection", own_tree, tmp_path / "prepared")
    example = examples(builder, "val")["day/8"]
    np.testing.assert_array_equal(example["image"], pixels)
    np.testing.assert_allclose(example["boxes"], [THING_BOX], rtol=1e-6)
    line = capsys.readouterr().out.splitlines()[-1]
    turned = "pictures turned by EXIF orientation: 1 (first: day/8)"
    assert (turned in line) == (orientation != 1)
    with_them = "annotations of the stored pixels turned with them: 1 (first: day/8)"
    assert (with_them in line) == (drawn_on == "stored" and orientation >= 5)
    assert ("stated size absent" in line) == (drawn_on == "unknown")


@pytest.mark.parametrize("drawn_on", ["upright", "stored"])
def test_pictures_turned_by_a_quarter_tell_what_the_other_boxes_were_drawn_on(
    own_tree, tmp_path, drawn_on, capsys
):
    def write(stem, orientation, size, stored_thing):
        image = Image.fromarray(np.zeros((*size[::-1], 3), np.uint8))
        (own_tree / "images" / "day" / f"{stem}.jpg").unlink()
        image.save(own_tree / "images" / "day" / f"{stem}.png", exif=exif_turned(orientation))
        thing = THING if drawn_on == "upright" else ("thing", *stored_thing)
        upright = size[::-1] if orientation >= 5 else size
        size = upright if drawn_on == "upright" else size
        write_xml(own_tree / "annotations" / "day" / f"{stem}.xml", thing, size=size)

    # THING is x 2 to 12, y 1 to 10. Upside down, 20x10: x 20 - 12 to 18, y 0 to 9. Mirrored left to
    # right: x 8 to 18. A square of 20 that is shown turned by a quarter to the right: x' = 20 - y
    # and y' = x of the stored, so x = y' is 1 to 10 and y = 20 - x' is 8 to 18.
    write(0, 3, (20, 10), (9, 1, 18, 9))
    write(1, 2, (20, 10), (9, 2, 18, 10))
    write(2, 6, (20, 20), (2, 9, 10, 18))
    write(9, 6, (10, 20), (2, 9, 10, 18))  # in val; it tells: 10x20 stored, 20x10 upright
    builder = datasets.load("folder_detection", own_tree, tmp_path / "prepared")
    found = examples(builder, "train") | examples(builder, "val")
    for name in ("day/0", "day/1", "day/9"):
        np.testing.assert_allclose(found[name]["boxes"], [THING_BOX], rtol=1e-6, err_msg=name)
    np.testing.assert_allclose(found["day/2"]["boxes"], [[0.1, 0.05, 0.6, 0.5]], rtol=1e-6)
    line = capsys.readouterr().out.splitlines()[-2]
    assert ("turned with them: 3 (first: day/0)" in line) == (drawn_on == "stored")
    assert "unknown" not in line and "stated size" not in line


def test_where_nothing_tells_boxes_count_as_upright_and_are_named(own_tree, tmp_path, capsys):
    save_image(own_tree / "images" / "day" / "3.jpg", exif=exif_turned(3))
    save_image(own_tree / "images" / "day" / "5.jpg", exif=exif_turned(2))
    builder = datasets.load("folder_detection", own_tree, tmp_path / "prepared")
    for name in ("day/3", "day/5"):
        np.testing.assert_allclose(examples(builder, "train")[name]["boxes"], [THING_BOX])
    line = capsys.readouterr().out.splitlines()[-2]
    words = "turned, but whether their boxes were drawn on the upright picture, as is supposed, is "
    assert words + "unknown: 2 (first: day/3)" in line


def test_objects_are_counted_by_class_and_known_later(own_tree, tmp_path, capsys):
    write_xml(own_tree / "annotations" / "day" / "0.xml", THING, (*THING, 1), ("other", 1, 1, 9, 9))
    write_xml(own_tree / "annotations" / "day" / "8.xml")
    for what in ("preparing", "reusing"):
        builder = datasets.load("folder_detection", own_tree, tmp_path / "prepared")
        out = capsys.readouterr().out
        assert what in out
        # eight pictures of a thing, of which one shows two and another class; val: one of two
        assert builder.info.metadata["objects"] == {"train": [1, 9], "val": [0, 1]}
        assert builder.info.metadata["difficult_objects"] == {"train": [0, 1], "val": [0, 0]}
        assert ("train 8 images, 10 boxes (1 difficult); objects: other 1, thing 9\n" in out) == (
            what == "preparing"
        )


def test_boxes_that_vanish_in_float32_are_dropped():
    tally = box_preparation.Tally("train", ["thing"])
    path = REPOSITORY / "any.png"
    boxes = np.array([[5, 2, 5 + 1e-9, 9], [0, 0, WIDTH, HEIGHT]], np.float64)
    objects = box_preparation.Objects(
        boxes, np.zeros(2, np.int64), np.zeros(2, bool), np.ones(2, bool), (HEIGHT, WIDTH)
    )
    with pytest.MonkeyPatch.context() as patch:
        image = Image.new("RGB", (WIDTH, HEIGHT))
        patch.setattr(reading, "read_image", lambda _: reading.Photo(b"", image))
        example = box_preparation.encode_example(files.Pair("x", path, path), objects, tally)
    np.testing.assert_array_equal(example["boxes"], [[0, 0, 1, 1]])  # to the edges: not clipped
    assert "clipped" not in tally.describe() and "stated size" not in tally.describe()


# --- files that are not as they should be ------------------------------------------------------


def annotate(*objects):
    return lambda root: write_xml(root / "annotations" / "day" / "3.xml", *objects)


def write(text):
    return lambda root: (root / "annotations" / "day" / "3.xml").write_text(text)


def truncate(root):
    path = save_image(root / "images" / "day" / "3.jpg", size=(64, 64))
    path.write_bytes(path.read_bytes()[:2000])


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            annotate(THING, ("thin", 1, 1, 2, 2)),
            r"3.xml', object 2: unknown class 'thin'. Expected one of other, thing.*box_classes",
        ),
        (annotate(("thing", 12, 2, 3, 9)), "3.xml', object 1 .'thing'.*xmin <= xmax"),
        (annotate(("thing", 3, 9, 12, 2)), "3.xml', object 1 .'thing'.*ymin <= ymax"),
        (annotate(("thing", "nan", 2, 3, 9)), "3.xml', object 1 .'thing'.*finite"),
        (annotate(THING, ("thing", 1, 2, "inf", 9)), "3.xml', object 2 .'thing'.*finite"),
        (annotate(("thing", "", 2, 3, 9)), "3.xml', object 1 .'thing'"),
        (write("<annotation><object>"), "3.xml' is not valid XML"),
        (write(""), "3.xml' is not valid XML"),
        (truncate, "3.jpg' cannot be decoded .*truncated"),
        (lambda root: (root / "images/day/3.jpg").write_text("hello"), "3.jpg'.* is not an image"),
    ],
)
def test_bad_file_is_named_and_leaves_nothing(own_tree, tmp_path, act, message):
    act(own_tree)
    with pytest.raises(ValueError, match=message) as caught:
        datasets.load("folder_detection", own_tree, tmp_path / "prepared")
    assert "\n" not in str(caught.value)
    assert prepared(tmp_path, "folder_detection") == []


def test_missing_files_are_named(own_tree):
    find = folder_detection.FolderDetection.find
    (own_tree / "annotations/day/3.xml").unlink()
    with pytest.raises(
        FileNotFoundError,
        match=r"Annotation '.*3.xml' does not exist.*train.txt.*annotation without <object>",
    ):
        find(own_tree, "default")
    (own_tree / "images/day/9.jpg").unlink()
    write_xml(own_tree / "annotations/day/3.xml")
    with pytest.raises(FileNotFoundError, match=r"val.txt' names 'day/9', but there is no image"):
        find(own_tree, "default")
    with pytest.raises(FileNotFoundError, match="nowhere' does not exist.*annotations/"):
        find(own_tree / "nowhere", "default")
    shutil.rmtree(own_tree / "annotations")
    with pytest.raises(
        FileNotFoundError,
        match="neither images/ with annotations/ nor JPEGImages/ with Annotations/",
    ):
        find(own_tree, "default")


def test_lists_doubled_overlapping_empty_or_missing(own_tree):
    find = folder_detection.FolderDetection.find
    splits = own_tree / "splits"
    for lines, message in (
        (["day/8", "day/8"], "'day/8' twice in split 'val'"),
        (["day/8", "day/2"], "'day/2' is in both train and val of .*splits'"),
        ([], "val.txt' is empty"),
    ):
        write_lines(splits / "val.txt", *lines)
        with pytest.raises(ValueError, match=message):
            find(own_tree, "default")
    write_lines(splits / "val.txt", "day/8")
    write_lines(splits / "trainval.txt", "day/0", "day/8")  # overlaps both by its nature
    write_lines(splits / "test.txt", "day/9")
    assert set(find(own_tree, "default").splits) == {"train", "val", "trainval", "test"}
    write_lines(splits / "test.txt", "day/8")
    with pytest.raises(ValueError, match="'day/8' is in both val and test"):
        find(own_tree, "default")
    (splits / "val.txt").unlink()
    with pytest.raises(ValueError, match="'day/8' is in both trainval and test"):
        find(own_tree, "default")
    (splits / "train.txt").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"train.txt' does not exist.*found test.txt, trainval.txt"
    ):
        find(own_tree, "default")


def test_nothing_to_learn(own_tree, tmp_path):
    for number in range(8):
        write_xml(own_tree / "annotations" / "day" / f"{number}.xml", ("thing", 5, 5, 5, 5))
    with pytest.raises(ValueError, match=r"nothing to learn.*train 8 images, 0 boxes.*area: 8"):
        datasets.load("folder_detection", own_tree, tmp_path / "prepared")
    assert prepared(tmp_path, "folder_detection") == []
    (own_tree / "classes.txt").unlink()
    for number in range(10):
        write_xml(own_tree / "annotations" / "day" / f"{number}.xml")
    with pytest.raises(ValueError, match="nothing to learn.*none in 10 files"):
        datasets.load("folder_detection", own_tree, tmp_path / "prepared")


def test_val_without_objects_is_no_error(own_tree, tmp_path, capsys):
    for number in (8, 9):
        write_xml(own_tree / "annotations" / "day" / f"{number}.xml")
    builder = datasets.load("folder_detection", own_tree, tmp_path / "prepared")
    assert len(examples(builder, "val")) == 2
    assert "val 2 images, 0 boxes, images without objects: 2" in capsys.readouterr().out


# --- folder_detection --------------------------------------------------------------------------


def test_classes_collected_or_listed(own_tree, capsys):
    find = folder_detection.FolderDetection.find
    assert find(own_tree, "default").class_names == ("other", "thing")
    assert capsys.readouterr().out == ""
    write_lines(own_tree / "box_classes.txt", "thing")
    source = find(own_tree, "default")
    assert source.class_names == ("thing",)
    assert own_tree / "box_classes.txt" in source.lists
    assert own_tree / "classes.txt" not in source.lists
    write_lines(own_tree / "box_classes.txt", "thing", "thing")
    with pytest.raises(ValueError, match="names the class 'thing' twice"):
        find(own_tree, "default")
    for name in ("classes.txt", "box_classes.txt"):
        (own_tree / name).unlink()
    write_xml(own_tree / "annotations/day/8.xml", ("zebra", 1, 1, 5, 5), ("ant", 1, 1, 5, 5))
    capsys.readouterr()
    assert find(own_tree, "default").class_names == ("ant", "thing", "zebra")
    # ten images with the thing, of which day/8 now shows two others
    assert "3 classes: ant (1), thing (9), zebra (1)\n" in capsys.readouterr().out


def test_broken_xml_is_named_where_classes_are_collected(own_tree):
    (own_tree / "classes.txt").unlink()
    (own_tree / "annotations/day/3.xml").write_text("<annotation>")
    with pytest.raises(ValueError, match="3.xml' is not valid XML"):
        folder_detection.FolderDetection.find(own_tree, "default")


def test_hash_split_is_that_of_folder(own_tree, capsys):
    shutil.rmtree(own_tree / "splits")
    for number in range(10):
        save_image(own_tree / "masks" / "day" / f"{number}.png")
    ours = names_of(folder_detection.FolderDetection.find(own_tree, "default"))
    assert ours == names_of(folder.Folder.find(own_tree, "default"))
    assert {split: len(names) for split, names in ours.items()} == {"train": 9, "val": 1}
    assert "folder_detection: '" in (out := capsys.readouterr().out)
    assert "has no splits/*.txt: by a hash of their names 9 images are train and 1 are val" in out


def test_two_images_of_one_stem_are_refused_with_lists_too(own_tree):
    save_image(own_tree / "images" / "day" / "3.png")
    with pytest.raises(ValueError, match="'day/3' twice: 3.jpg and 3.png"):
        folder_detection.FolderDetection.find(own_tree, "default")


def test_voc_layout_of_own_data(own_tree, capsys):
    shutil.rmtree(own_tree / "splits")
    (own_tree / "images" / "day").rename(own_tree / "JPEGImages")
    (own_tree / "annotations" / "day").rename(own_tree / "Annotations")
    for emptied in ("images", "annotations"):
        (own_tree / emptied).rmdir()
    find = folder_detection.FolderDetection.find
    sizes = {split: len(pairs) for split, pairs in find(own_tree, "default").splits.items()}
    assert sizes == {"train": 8, "val": 2}
    assert "has no ImageSets/Main/" in capsys.readouterr().out
    lists = own_tree / "ImageSets" / "Main"
    write_lines(lists / "train.txt", "0", "1")
    write_lines(lists / "val.txt", "2")
    assert names_of(find(own_tree, "default")) == {"train": ["0", "1"], "val": ["2"]}
    assert capsys.readouterr().out == ""


def test_voc_layout_with_an_empty_folder_of_lists(own_tree, capsys):
    shutil.rmtree(own_tree / "splits")
    (own_tree / "images" / "day").rename(own_tree / "JPEGImages")
    (own_tree / "annotations" / "day").rename(own_tree / "Annotations")
    for emptied in ("images", "annotations"):
        (own_tree / emptied).rmdir()
    (own_tree / "ImageSets" / "Main").mkdir(parents=True)
    source = folder_detection.FolderDetection.find(own_tree, "default")
    assert sum(map(len, source.splits.values())) == 10
    assert "has no ImageSets/Main/*.txt: by a hash" in capsys.readouterr().out


def test_hidden_files_are_no_images(own_tree):
    (own_tree / "images" / "day" / "._3.jpg").write_text("of macOS")
    (own_tree / "annotations" / "day" / "._3.xml").write_text("of macOS")
    source = folder_detection.FolderDetection.find(own_tree, "default")
    assert sum(map(len, source.splits.values())) == 10


def other_format(*path):
    def act(root):
        shutil.rmtree(root / "annotations")
        write_lines(root.joinpath(*path), "{}")

    return act


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (other_format("annotations", "instances_train.json"), "instances_train.json' is JSON, as"),
        (other_format("annotations", "day", "3.json"), "day/3.json' is JSON, as COCO and labelme"),
        (other_format("result.json"), "result.json' is JSON, as COCO and labelme write it"),
        (other_format("labels", "day", "3.txt"), "labels/day/3.txt' is YOLO's text"),
    ],
)
def test_annotations_of_other_formats_are_named(own_tree, act, message):
    act(own_tree)
    words = f"{message}.*is not read, but PASCAL VOC XML"
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        folder_detection.FolderDetection.find(own_tree, "default")


def test_edited_annotation_or_classes_prepare_anew(own_tree, tmp_path, capsys):
    def key():
        return preparation.fingerprint(folder_detection.FolderDetection.find(own_tree, "default"))

    first = key()
    (own_tree / "notes.txt").write_text("not read by the builder")
    assert key() == first
    write_xml(own_tree / "annotations/day/9.xml", ("thing", 3, 2, 13, 10))
    second = key()
    assert second != first
    write_lines(own_tree / "classes.txt", "thing", "another")
    assert key() not in (first, second)
    datasets.load("folder_detection", own_tree, tmp_path / "prepared")
    write_xml(own_tree / "annotations/day/9.xml")
    capsys.readouterr()
    builder = datasets.load("folder_detection", own_tree, tmp_path / "prepared")
    assert "changed since it was prepared" in capsys.readouterr().out
    assert examples(builder, "val")["day/9"]["labels"].tolist() == []


def test_source_is_not_written(own_tree, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in own_tree.rglob("*")}
    datasets.load("folder_detection", own_tree, tmp_path / "prepared")
    assert {path: path.stat().st_mtime_ns for path in own_tree.rglob("*")} == before


# --- voc_detection -----------------------------------------------------------------------------


def test_voc_lists_with_flags_and_suffixes(voc_tree):
    write_lines(voc_tree / "VOC2012/ImageSets/Main/train.txt", "f  1", "g.jpg -1")
    assert names_of(voc_detection.VocDetection.find(voc_tree, "voc2012"))["train"] == ["f", "g"]


@pytest.mark.parametrize("part", ["ImageSets", "ImageSets/Main/train.txt"])
def test_own_data_without_voc_s_lists_are_sent_to_folder_detection(voc_tree, part):
    path = voc_tree / "VOC2012" / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    words = "does not exist.*use folder_detection, which reads this layout, too, and needs no lists"
    with pytest.raises(FileNotFoundError, match=words):
        voc_detection.VocDetection.find(voc_tree, "voc2012")


def test_voc_official_lists(voc_tree, tmp_path):
    find = voc_detection.VocDetection.find
    # real trees hold lists of each class, too: no splits
    write_lines(voc_tree / "VOC2012/ImageSets/Main/dog_train.txt", "f  1", "g -1")
    expected = {"train": ["f", "g"], "val": ["h"], "trainval": ["f", "g", "h"]}
    assert names_of(find(voc_tree, "voc2012")) == expected
    assert names_of(find(voc_tree / "VOC2012", "voc2012")) == expected
    assert names_of(find(voc_tree, "voc2007")) == {
        "train": ["a"], "val": ["b"], "trainval": ["a", "b"], "test": ["c", "d", "e"],
    }  # fmt: skip
    builder = datasets.load("voc_detection", voc_tree, tmp_path / "prepared")
    assert "voc2012" in builder.data_dir
    names = builder.info.metadata["class_names"]
    # the development kit's order: aeroplane first, dog twelfth, tvmonitor last
    assert len(names) == 20 and names[0] == "aeroplane" and names[11] == "dog"
    assert names[19] == "tvmonitor"
    assert builder.info.metadata["palette"][14] == [192, 128, 128]  # person, as in the devkit
    example = examples(builder, "val")["h"]
    assert example["labels"].tolist() == [11]
    np.testing.assert_allclose(example["boxes"], [THING_BOX], rtol=1e-6)


def test_voc_test_without_its_annotations_is_left_out_aloud(voc_tree, capsys):
    (voc_tree / "VOC2007/Annotations/d.xml").unlink()
    splits = voc_detection.VocDetection.find(voc_tree, "voc2007").splits
    assert set(splits) == {"train", "val", "trainval"}
    assert "test is left out, since 1 of its 3 images have no annotation, such as 'd'" in (
        capsys.readouterr().out
    )
    with pytest.raises(FileNotFoundError, match="Annotation '.*d.xml' does not exist.*test.txt"):
        voc_detection.VocDetection.find(voc_tree, "07+12")


def test_voc_07_12(voc_tree, tmp_path, capsys):
    builder = datasets.load("voc_detection/07+12", voc_tree, tmp_path / "prepared")
    out = capsys.readouterr().out
    assert "train = VOC2007 trainval 2 + VOC2012 trainval 3, val = VOC2007 test 3" in out
    assert sorted(examples(builder, "train")) == ["a", "b", "f", "g", "h"]
    assert sorted(examples(builder, "val")) == ["c", "d", "e"]
    assert set(builder.info.splits) == {"train", "val"}


def test_voc_07_12_names_what_is_missing(voc_tree):
    find = voc_detection.VocDetection.find
    with pytest.raises(FileNotFoundError, match="VOC2012/VOC2007' does not exist.*with VOC2007/"):
        find(voc_tree / "VOC2012", "07+12")
    write_lines(voc_tree / "VOC2007/ImageSets/Main/test.txt", "b", "c")
    with pytest.raises(ValueError, match="'b' is in both train and val"):
        find(voc_tree, "07+12")
    (voc_tree / "VOC2007/ImageSets/Main/test.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"test.txt' does not exist.*VOCtest_06-Nov-2007"):
        find(voc_tree, "07+12")


def test_voc_bad_trees(voc_tree, tmp_path):
    find = voc_detection.VocDetection.find
    with pytest.raises(FileNotFoundError, match="VOC2012' is another year"):
        find(voc_tree / "VOC2012", "voc2007")
    lists = voc_tree / "VOC2012/ImageSets/Main"
    write_lines(lists / "val.txt", "h", "f")
    with pytest.raises(ValueError, match="'f' is in both train and val"):
        find(voc_tree, "voc2012")
    write_lines(lists / "val.txt", "h", "h")
    with pytest.raises(ValueError, match="'h' twice in split 'val'"):
        find(voc_tree, "voc2012")
    write_lines(lists / "val.txt", "h")
    write_xml(voc_tree / "VOC2012/Annotations/g.xml", ("wolf", *THING[1:]))
    with pytest.raises(
        ValueError, match="g.xml', object 1: unknown class 'wolf'.*aeroplane, .*folder_detection"
    ):
        datasets.load("voc_detection", voc_tree, tmp_path / "prepared")
    (voc_tree / "VOC2012/Annotations/h.xml").unlink()
    with pytest.raises(FileNotFoundError, match="Annotation '.*h.xml' does not exist"):
        find(voc_tree, "voc2012")
    shutil.rmtree(lists)
    with pytest.raises(FileNotFoundError, match="Main' does not exist. Expected the VOCdevkit"):
        find(voc_tree, "voc2012")


# --- mot15 -------------------------------------------------------------------------------------


def test_mot_boxes_splits_and_frames(mot_tree, tmp_path, capsys):
    builder = datasets.load("mot15", mot_tree, tmp_path / "prepared")
    assert "7 train and 1 val; left out without ground truth: 2" in capsys.readouterr().out
    assert builder.info.metadata["class_names"] == ["pedestrian"]
    train = examples(builder, "train")
    # the last 2 of 10 frames are val before 2 and 9 are left out, not the last fifth of the rest
    assert sorted(train) == [f"S/{frame:06}" for frame in (1, 3, 4, 5, 6, 7, 8)]
    assert sorted(examples(builder, "val")) == ["S/000010"]
    # left 2.5, top 1, width 10, height 8.25: nothing is added to a width
    np.testing.assert_allclose(
        train["S/000003"]["boxes"], [[2.5 / 20, 1 / 10, 12.5 / 20, 9.25 / 10]], rtol=1e-6
    )
    assert train["S/000003"]["labels"].tolist() == [0]
    assert train["S/000003"]["difficult"].tolist() == [False]


def test_mot_conf_0_does_not_count(mot_tree, tmp_path):
    rows = [(1, 1, 2, 1, 10, 8, 1), (1, 2, 5, 1, 10, 8, 0), (4, 1, 0, 0, 5, 5, 0)]
    rows += [(6, 2, -5, 0, 10, 5, 1), (6, 1, 3, 3, 0, 2, 1), (10, 1, 2, 1, 10, 8, 1)]
    write_mot(mot_tree / "train/S", (), rows, length=10)
    builder = datasets.load("mot15", mot_tree, tmp_path / "prepared")
    train = examples(builder, "train")
    assert sorted(train) == ["S/000001", "S/000006"]
    assert len(train["S/000001"]["boxes"]) == 1
    # one sticks out by 5 pixels, the other has no width
    np.testing.assert_allclose(train["S/000006"]["boxes"], [[0, 0, 5 / 20, 5 / 10]], rtol=1e-6)


def test_mot_sources(mot_tree, monkeypatch, capsys):
    find = mot15.Mot15.find
    rows = [(1, 1, 2, 1, 10, 8, 1), (5, 1, 2, 1, 10, 8, 1)]
    write_mot(mot_tree / "train/R", range(1, 6), rows, length=5)
    (mot_tree / "test" / "T" / "img1").mkdir(parents=True)
    (mot_tree / "train" / ".cache").mkdir()
    both = names_of(find(mot_tree, "default"))
    assert both["train"][0] == "R/000001" and both["val"] == ["R/000005", "S/000010"]
    assert names_of(find(mot_tree / "train", "default")) == both
    one = {"train": ["R/000001"], "val": ["R/000005"]}
    assert names_of(find(mot_tree / "train" / "R", "default")) == one
    monkeypatch.chdir(mot_tree / "train" / "R")
    assert names_of(find(Path("."), "default")) == one


def test_mot_val_is_the_last_fifth():
    # 20 % of 71 frames are 14.2: 14, so val begins at 58; of 5: 1; of 2: 0.4, none
    for length, first in ((71, 58), (5, 5), (179, 144), (2, 3)):
        sequence = mot15.Sequence(Path("s"), length, ".jpg", None, {})
        assert sequence.first_val_frame() == first


def replace(part, old, new):
    def act(sequence):
        path = sequence / part
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return act


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (
            lambda s: (s / "seqinfo.ini").unlink(),
            FileNotFoundError,
            "S' has no seqinfo.ini. Expected .*take its folder away",
        ),
        (lambda s: shutil.rmtree(s / "img1"), FileNotFoundError, "S' has no img1"),
        (lambda s: shutil.rmtree(s / "gt"), FileNotFoundError, "S' has no gt/gt.txt"),
        (
            lambda s: (s / "img1/000003.png").rename(s / "img1/frame3.png"),
            FileNotFoundError,
            "Image '.*000003.png' does not exist.*six digits",
        ),
        (
            lambda s: (s / "gt/gt.txt").write_text("1,1,2,1,10,8,1,1,0.5\n"),
            ValueError,
            "gt.txt', line 1: expected the 10 columns of MOT 2015, received 9.*MOT16",
        ),
        (
            lambda s: (s / "gt/gt.txt").write_text("1,1,2,1,10,8,1,-1,-1,-1\n2,1,2,1,1,1,1\n"),
            ValueError,
            "gt.txt', line 2: expected the 10 columns of MOT 2015, received 7",
        ),
        (replace("gt/gt.txt", "3,1,2.5", "3,1,x"), ValueError, "gt.txt', line 2"),
        (replace("gt/gt.txt", "3,1,2.5", "3,1,nan"), ValueError, "gt.txt', line 2"),
        (replace("gt/gt.txt", "3,1,2.5", "1,1,2.5"), ValueError, "the object 1 twice in frame 1"),
        (
            replace("gt/gt.txt", "10,1,2.5", "11,1,2.5"),
            ValueError,
            r"boxes in frame 11, but seqinfo.ini says that the sequence has 10 frames",
        ),
        (
            replace("gt/gt.txt", ",1,-1,-1,-1", ",0,-1,-1,-1"),
            ValueError,
            "split 'train' is empty.*conf 0",
        ),
        (replace("seqinfo.ini", "seqLength=10", "seqLength=x"), ValueError, "seqinfo.ini' cannot"),
        (replace("seqinfo.ini", "seqLength=10", "seqLength=0"), ValueError, "at least 1; rec.* 0"),
        (replace("seqinfo.ini", "seqLength=10", ""), ValueError, "received None"),
        (replace("seqinfo.ini", "imExt=.png", ""), ValueError, "seqinfo.ini' cannot.*imExt"),
        (replace("seqinfo.ini", "[Sequence]", "[Other]"), ValueError, "section .Sequence."),
        (replace("seqinfo.ini", "[Sequence]", ""), ValueError, "seqinfo.ini' cannot be read"),
    ],
)
def test_mot_bad_sequence_is_named(mot_tree, tmp_path, act, error, message):
    act(mot_tree / "train" / "S")
    with pytest.raises(error, match=message) as caught:
        datasets.load("mot15", mot_tree, tmp_path / "prepared")
    assert "\n" not in str(caught.value)
    assert prepared(tmp_path, "mot15") == []


def test_mot_folder_without_sequences(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty' holds no sequence"):
        datasets.load("mot15", tmp_path / "empty", tmp_path / "prepared")


def test_mot_fingerprint_sees_ground_truth_frames_and_seqinfo(mot_tree):
    def key():
        return preparation.fingerprint(mot15.Mot15.find(mot_tree, "default"))

    keys = [key()]
    replace("gt/gt.txt", "8.25", "8.75")(mot_tree / "train/S")
    keys.append(key())
    save_image(mot_tree / "train/S/img1/000004.png", seed=99, size=(40, 20))
    keys.append(key())
    replace("seqinfo.ini", "imWidth=20", "imWidth=200")(mot_tree / "train/S")
    keys.append(key())
    assert len(set(keys)) == 4 and keys[-1] == key()


# --- toy_streets -------------------------------------------------------------------------------


def test_toy_streets_as_own_data_give_the_same_boxes(tmp_path, capsys):
    count = 12
    with pytest.raises(SystemExit) as exit_:
        main(["make-toy-streets", "--output", tmp_path / "toy", "--count", count])
    assert not exit_.value.code
    builder = datasets.load("folder_detection", tmp_path / "toy", tmp_path / "prepared")
    assert builder.info.metadata["class_names"] == list(toy_streets.BOX_CLASSES)
    out = capsys.readouterr().out
    for odd in ("dropped", "clipped", "stated size"):
        assert odd not in out
    found = examples(builder, "train") | examples(builder, "val")
    assert len(found) == count
    objects = 0
    for index in range(count):
        image, _, boxes, labels = toy_streets.draw_scene("test", index)
        example = found[f"scene_{index:03}"]
        np.testing.assert_array_equal(example["image"], image)
        np.testing.assert_allclose(example["boxes"], boxes, rtol=1e-6)
        np.testing.assert_array_equal(example["labels"], labels)
        objects += len(boxes)
    assert objects > 20
    segmentation = datasets.load("folder", tmp_path / "toy", tmp_path / "prepared")
    assert segmentation.info.metadata["class_names"] == list(toy_streets.CLASSES)
    # the same images train
    assert sorted(examples(segmentation, "train")) == sorted(examples(builder, "train"))


# --- real data ---------------------------------------------------------------------------------


def split_sizes(builder):
    return {name: split.num_examples for name, split in builder.info.splits.items()}


@needs_real_data("VOCdevkit")
def test_real_voc_sample(tmp_path, capsys):
    builder = datasets.load("voc_detection", REAL_DATA / "VOCdevkit", tmp_path)
    assert split_sizes(builder) == {"train": 60, "val": 40, "trainval": 100}
    assert "trainval 100 images, 273 boxes (38 difficult)" in capsys.readouterr().out
    found = examples(builder, "trainval")
    assert sum(len(example["boxes"]) for example in found.values()) == 273
    assert sum(example["difficult"].sum() for example in found.values()) == 38
    assert {label for example in found.values() for label in example["labels"]} == {*range(20)}
    # 2007_000027.xml: a person (174, 101)-(349, 351) in 486x500 pixels
    example = found["2007_000027"]
    assert example["image"].shape == (500, 486, 3) and example["labels"].tolist() == [14]
    expected = [173 / 486, 100 / 500, 349 / 486, 351 / 500]
    np.testing.assert_allclose(example["boxes"][0], expected, rtol=1e-6)


@needs_real_data("BCCD")
def test_real_bccd(tmp_path, capsys):
    builder = datasets.load("folder_detection", REAL_DATA / "BCCD", tmp_path)
    sizes = split_sizes(builder)
    assert sizes == {"train": 205, "val": 87, "trainval": 292, "test": 72}
    out = capsys.readouterr().out
    assert "3 classes: Platelets (361), RBC (4155), WBC (372)" in out
    assert "dropped boxes without area: 2 (first: BloodImage_00338)" in out
    found = examples(builder, "trainval") | examples(builder, "test")
    # 4888 objects, two of them without area
    assert sum(len(example["boxes"]) for example in found.values()) == 4888 - 2
    for example in found.values():
        boxes = example["boxes"]
        assert (boxes >= 0).all() and (boxes <= 1).all() and (boxes[:, 2:] > boxes[:, :2]).all()


@needs_real_data("MOT15")
def test_real_mot(tmp_path):
    root = REAL_DATA / "MOT15" / "train"
    builder = datasets.load("mot15", root / "TUD-Campus", tmp_path)
    assert split_sizes(builder) == {"train": 57, "val": 14}
    found = examples(builder, "train") | examples(builder, "val")
    assert sum(len(example["boxes"]) for example in found.values()) == 359
    # the first line of gt.txt: left 399, top 182, width 121, height 229 in 640x480 pixels
    expected = [399 / 640, 182 / 480, 520 / 640, 411 / 480]
    np.testing.assert_allclose(found["TUD-Campus/000001"]["boxes"][0], expected, rtol=1e-6)
    with pytest.raises(FileNotFoundError, match="TUD-Stadtmitte' has no seqinfo.ini, no img1"):
        datasets.load("mot15", os.path.join(REAL_DATA, "MOT15"), tmp_path)
