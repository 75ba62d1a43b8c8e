"""Drawn scenes in the layouts of published datasets: their own builders read them."""

import functools
import itertools

import numpy as np
import pytest
from PIL import Image

from kerasdense.boxes import geometry
from kerasdense.data import datasets, formats, overlap, toy_layouts
from kerasdense.data.sources import toy_streets
from kerasdense.metrics.average_precision import Detections, GroundTruth, voc_average_precision

COUNT = {"folder": 2, "mot15": 2, "voc": 2, "cityscapes": 1}
# Of the layouts of others: the datasets that read them, and their splits by hand. Splits that are
# not train have max(2, COUNT // 2) = 2 scenes.
SPLITS = {
    # Of 3 frames the last round(0.6) = 1 is val; two sequences.
    "mot15": ("mot15", {"train": 4, "val": 2}),
    "voc_detection/voc2012": ("voc", {"train": 2, "val": 2, "trainval": 4, "test": 2}),
    "voc_detection/voc2007": ("voc", {"train": 2, "val": 2, "trainval": 4, "test": 2}),
    "voc_detection/07+12": ("voc", {"train": 4 + 4, "val": 2}),
    "voc_segmentation/voc2012": ("voc", {"train": 2, "val": 2, "trainval": 4}),
    # Two pictures more are of SBD alone.
    "voc_segmentation/aug": ("voc", {"train": 2 + 2, "val": 2}),
    # Every other of t t v v s s is in SBD's train, of val the first: the second is V, T the rest.
    "voc_segmentation/keras_fcn": ("voc", {"train": 5, "val": 1}),
    "cityscapes/fine": ("cityscapes", {"train": 1, "val": 2, "test": 2}),
    "cityscapes/fine_coarse": ("cityscapes", {"train": 1 + 2, "val": 2, "test": 2}),
    "cityscapes/ladder": ("cityscapes", {"train": 1, "val": 2, "test": 2}),
    "cityscapes/extra": ("cityscapes", {"train": 2, "val": 2, "test": 2}),
    "cityscapes/ladder_extra": ("cityscapes", {"train": 2, "val": 2, "test": 2}),
    "cityscapes/ladder_coarse": ("cityscapes", {"train": 1 + 2, "val": 2, "test": 2}),
}
# The ids of the official tables.
VOC_IDS = {"car": 7, "pedestrian": 15}
CITYSCAPES_IDS = {
    "sky": 23, "building": 11, "road": 7, "pavement": 8, "tree": 21, "pole": 17, "car": 26,
    "pedestrian": 24,
}  # fmt: skip


scene_of = functools.cache(functools.partial(toy_streets.draw_scene, "test"))


@pytest.fixture(scope="module")
def drawn():
    """{layout: the indices of the scenes that were drawn for it}, filled by `written`."""
    return {}


@pytest.fixture(scope="module")
def written(tmp_path_factory, drawn):
    """{layout: its folder}."""
    folders = {}

    def recorded(split, index):
        assert split == "test"  # train and val are those of the dataset toy_streets
        drawn[layout].append(index)
        return scene_of(index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy_streets, "draw_scene", recorded)
        for layout, write in toy_layouts.WRITERS.items():
            drawn[layout] = []
            folders[layout] = tmp_path_factory.mktemp("layouts") / layout
            write(folders[layout], COUNT[layout])
    return folders


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, written):
    """`(dataset) -> {split: its examples}, metadata`, each prepared once."""
    root = tmp_path_factory.mktemp("prepared")

    @functools.cache
    def load(name):
        builder = datasets.load(name, written[SPLITS[name][0]], root)
        found = {
            split: {
                example["file_name"].decode(): example
                for example in builder.as_dataset(split=split).as_numpy_iterator()
            }
            for split in builder.info.splits
        }
        return found, builder.info.metadata

    return load


def scenes_of(place, number):
    """The first scenes of a place with a car (unless it is MOT's) and so many pedestrians."""
    first = toy_layouts.PLACES.index(place) * toy_layouts.SPACING
    scenes = map(scene_of, itertools.count(first))
    least = 2 if place.startswith("mot15") else 1

    def fits(scene):
        cars, walkers = (np.sum(scene[3] == label) for label in (0, 1))
        return walkers >= least and (cars or least == 2)

    return list(itertools.islice(filter(fits, scenes), number))


def look_alike(one, other):
    """Whether two pictures differ little in the means of 8x8 pixels."""
    means = [
        picture.reshape(len(picture) // 8, 8, -1, 8, 3).mean((1, 3)) for picture in (one, other)
    ]
    return np.abs(means[0] - means[1]).mean() < 2


@pytest.mark.parametrize("name", SPLITS)
def test_the_datasets_find_their_splits(name, written):
    layout, splits = SPLITS[name]
    source = overlap.source_of(name, written[layout])
    assert {split: len(pairs) for split, pairs in source.splits.items()} == splits


def test_no_scene_lies_in_two_places(written, drawn):
    indices = [index for of_layout in drawn.values() for index in of_layout]
    assert len(set(indices)) == len(indices)
    assert drawn["folder"] == [0, 1]  # as ever


def test_the_count_decides_how_many_and_not_which(written, tmp_path):
    assert toy_layouts.write_mot15(tmp_path, 8) == 10
    old, new = written["mot15"] / "train", tmp_path / "train"
    for path in sorted(old.glob("*/img1/*.jpg")):
        assert path.read_bytes() == (new / path.relative_to(old)).read_bytes()
    for path in sorted(old.glob("*/*/*.txt")):  # gt.txt, det.txt
        assert (new / path.relative_to(old)).read_text().startswith(path.read_text())
    assert len(list(old.glob("*/*/*.txt"))) == 4


def test_each_says_that_it_is_drawn(written):
    for layout, owner in (("mot15", "ACF"), ("voc", "VOC"), ("cityscapes", "Cityscapes")):
        text = (written[layout] / "README.txt").read_text()
        assert text.startswith("Drawn by") and owner in text


# --- MOT 2015 ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "train, length",
    # Of 1 or 2 frames none is val, round(0.2) and round(0.4), of 3 to 7 the last, of 8 two: then 6
    # train, as of 7 frames; so 7 need 9.
    [(1, 3), (2, 3), (3, 4), (4, 5), (6, 7), (7, 9), (8, 10), (40, 50)],
)
def test_the_length_of_a_sequence_leaves_so_many_train_frames(train, length):
    assert toy_layouts.sequence_length(train) == length


def test_mot15_boxes_are_those_of_the_pedestrians(prepared, written):
    found, metadata = prepared("mot15")
    assert metadata["class_names"] == ["pedestrian"]
    assert found["val"].keys() == {"Toy-East/000003", "Toy-West/000003"}
    examples = found["train"] | found["val"]
    for name in toy_layouts.SEQUENCES:
        for frame, scene in enumerate(scenes_of(f"mot15/{name}", 3), start=1):
            example = examples[f"{name}/{frame:06}"]
            np.testing.assert_allclose(example["boxes"], scene[2][scene[3] == 1], atol=1e-6)
            assert example["image"].shape == (192, 256, 3)
            assert look_alike(example["image"], scene[0])  # a JPEG smooths the grain
        truth = formats.read_mot(written["mot15"] / "train" / name / "gt" / "gt.txt")
        assert truth.identities.tolist() == list(range(1, len(truth.boxes) + 1))


@pytest.mark.parametrize("count", [2, 3, 10, 500])
def test_drawn_detections_miss_some_and_find_the_others(count):
    # Outside the picture, so that no false alarm hits one, and far from each other.
    truth = np.array([1000.0, 80.0, 1020.0, 140.0]) + 100 * np.arange(count)[:, None]
    boxes, scores = toy_layouts.drawn_detections(truth, (192, 256), np.random.default_rng(0))
    assert (np.diff(scores) <= 0).all()
    overlaps = geometry.iou(boxes, truth)  # [M, N]
    missed = max(1, round(0.2 * count))
    assert (overlaps.max(axis=0) >= 0.5).sum() == count - missed
    false = boxes[overlaps.max(axis=1) < 0.5]
    assert len(false) == len(boxes) - (count - missed)
    assert (false[:, :2] >= 0).all() and (false[:, 2:] <= [256, 192]).all()


def test_right_ones_score_higher_on_the_whole():
    rng = np.random.default_rng(0)
    truth = np.array([[0.0, 0.0, 20.0, 60.0], [100.0, 80.0, 120.0, 140.0]]) + 1000
    right, false = [], []
    for _ in range(300):
        boxes, scores = toy_layouts.drawn_detections(truth, (192, 256), rng)
        is_right = boxes[:, 0] > 500  # false ones lie within the picture
        right += scores[is_right].tolist()
        false += scores[~is_right].tolist()
    assert len(right) == 300  # one of the two in each frame
    # One false alarm a frame in the mean, 40 against 25, both +- 12; five standard errors.
    assert abs(len(false) - 300) < 5 * 300**0.5
    assert abs(np.mean(right) - np.mean(false) - 15) < 5 * 12 * (2 / 300) ** 0.5


@pytest.mark.parametrize("frames", [range(1, 4), range(3, 4)])  # all, val
def test_the_detections_are_neither_perfect_nor_useless(written, frames):
    truths, found = [], []
    for number, name in enumerate(toy_layouts.SEQUENCES):
        folder = written["mot15"] / "train" / name
        for into, path in ((truths, folder / "gt" / "gt.txt"), (found, folder / "det" / "det.txt")):
            read = formats.read_mot(path)
            chosen = np.isin(read.frames, frames)
            images = 100 * number + read.frames[chosen]
            into.append((images, read.boxes[chosen], read.confidences[chosen]))
    images, boxes, _ = map(np.concatenate, zip(*truths))
    none = np.zeros(len(images), int)
    truth = GroundTruth(images=images, boxes=boxes, labels=none, difficult=none.astype(bool))
    images, boxes, scores = map(np.concatenate, zip(*found))
    detections = Detections(
        images=images, boxes=boxes, labels=np.zeros(len(images), int), scores=scores
    )
    (result,) = voc_average_precision(truth, detections, 1, 0.5).classes
    # In each frame an object at least is missed, so that recall does not come near 1, and one at
    # least is found, most often with a higher score than the false ones.
    assert 0.3 < result.ap_area < 0.9


# --- PASCAL VOC --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in SPLITS if name.startswith("voc_detection")])
def test_voc_boxes_are_those_of_the_scenes(name, prepared):
    found, metadata = prepared(name)
    names = metadata["class_names"]
    car, person = names.index("car"), names.index("person")
    for objects in metadata["objects"].values():
        assert objects[car] and objects[person] and sum(objects) == objects[car] + objects[person]
    scenes = {
        "voc_detection/voc2012": [("val", "voc2012/val"), ("test", "voc2012/test")],
        "voc_detection/voc2007": [("train", "voc2007/train"), ("val", "voc2007/val")],
        "voc_detection/07+12": [("val", "voc2007/test")],
    }[name]
    for split, place in scenes:
        for (_, example), scene in zip(sorted(found[split].items()), scenes_of(place, 2)):
            assert example["image"].shape == (192, 256, 3)
            np.testing.assert_allclose(example["boxes"], scene[2], atol=1e-6)
            assert example["labels"].tolist() == [(car, person)[label] for label in scene[3]]
            assert not example["difficult"].any()


def test_voc_masks_leave_the_outlines_open():
    # 0 sky, 6 car, 7 pedestrian, 2 road: what is not an object is background, without outlines.
    mask = np.array(
        [
            [0, 0, 0, 0, 0, 0, 0],
            [2, 2, 2, 2, 2, 2, 2],
            [2, 2, 2, 6, 6, 6, 6],
            [2, 2, 2, 6, 6, 6, 6],
            [2, 2, 2, 6, 6, 6, 6],
            [2, 2, 2, 6, 6, 7, 7],
            [2, 2, 2, 6, 6, 7, 7],
        ],
        np.uint8,
    )
    with_outlines, closed = toy_layouts.voc_masks(mask)
    assert closed.tolist() == np.select([mask == 6, mask == 7], [7, 15], 0).tolist()
    x = 255  # whoever has a neighbor, also across a corner, of another class
    assert with_outlines.tolist() == [
        [0, 0, 0, 0, 0, 0, 0],
        [0, 0, x, x, x, x, x],
        [0, 0, x, x, x, x, x],
        [0, 0, x, x, 7, 7, 7],
        [0, 0, x, x, x, x, x],
        [0, 0, x, x, x, x, x],
        [0, 0, x, x, x, x, 15],
    ]


def test_voc_masks_of_the_scenes(prepared, written):
    segmentation, _ = prepared("voc_segmentation/voc2012")
    augmented, _ = prepared("voc_segmentation/aug")
    ids = np.zeros(8, int)
    for name, class_id in VOC_IDS.items():
        ids[list(toy_streets.CLASSES).index(name)] = class_id
    scenes = scenes_of("voc2012/train", 2)
    for (name, example), scene in zip(sorted(segmentation["train"].items()), scenes):
        mask, expected = example["mask"][..., 0], ids[scene[1]]
        assert set(np.unique(mask)) == {0, 7, 15, 255}
        is_open = mask == 255
        assert (mask[~is_open] == expected[~is_open]).all() and is_open.mean() < 0.1
        np.testing.assert_array_equal(augmented["train"][name]["mask"][..., 0], expected)
        file = written["voc"] / "VOC2012" / "SegmentationClass" / f"{name}.png"
        with Image.open(file) as picture:
            assert picture.mode == "P" and picture.getpalette()[21:24] == [128, 128, 128]  # car
    for example in [*segmentation["val"].values(), *augmented["train"].values()]:
        assert {0, 7, 15} <= set(np.unique(example["mask"]))
    keras_fcn, _ = prepared("voc_segmentation/keras_fcn")
    assert list(keras_fcn["val"]) == sorted(segmentation["val"])[1:]
    assert 255 not in np.unique(next(iter(keras_fcn["val"].values()))["mask"])


# --- Cityscapes --------------------------------------------------------------------------------


def read_ids(folder, kind, split, index=0):
    (city,) = (folder / kind / split).iterdir()
    path = sorted(city.glob("*_labelIds.png"))[index]
    with Image.open(path) as picture:
        assert picture.mode == "L"
        return np.asarray(picture)


def test_cityscapes_labels_are_those_of_the_scene(written):
    folder = written["cityscapes"]
    ids = np.array([CITYSCAPES_IDS[name] for name in toy_streets.CLASSES])
    for split in ("train", "val"):
        image, mask, *_ = scenes_of(f"cityscapes/{split}", 1)[0]
        label_ids = read_ids(folder, "gtFine", split)
        assert label_ids.shape == (1024, 2048) and (label_ids[880:] == 1).all()
        for row, column in ((0, 0), (300, 1000), (500, 2047), (700, 5), (879, 1200)):
            assert label_ids[row, column] == ids[mask[40 + row // 8, column // 8]]
        np.testing.assert_array_equal(label_ids[4:880:8, 4::8], ids[mask[40:150]])
        coarse = read_ids(folder, "gtCoarse", split)
        is_kept = coarse != 0
        assert (coarse[is_kept] == label_ids[is_kept]).all() and 0.5 < is_kept.mean() < 0.95
        (path,) = (folder / "leftImg8bit" / split / "toytown").glob("*_000000_left*.png")
        with Image.open(path) as picture:
            assert picture.size == (2048, 1024) and picture.mode == "RGB"
            small = np.asarray(picture.resize((256, 128), Image.Resampling.BOX))
        assert look_alike(small[:104], image[40:144])  # enlarged and reduced again
    assert set(np.unique(read_ids(folder, "gtFine", "test"))) == {0, 1}


def test_coarse_labels_end_two_pixels_before_an_outline():
    label_ids = np.array([[7, 7, 7, 7, 7, 8, 8, 8, 8, 8, 8, 1, 1, 1]], np.uint8)
    # 1, the ego vehicle, is exact.
    assert toy_layouts.coarse(label_ids).tolist() == [[7, 7, 7, 0, 0, 0, 0, 8, 8, 0, 0, 1, 1, 1]]


def test_cityscapes_as_the_builder_reads_them(prepared):
    found, metadata = prepared("cityscapes/ladder_coarse")
    names = ("road", "sidewalk", "building", "pole", "vegetation", "sky", "person", "car")
    seen = {metadata["class_names"].index(name) for name in names}
    for split in ("train", "val"):
        for name, example in found[split].items():
            assert name.startswith("toytown/toytown_")
            assert example["image"].shape == (448, 1024, 3)
            assert set(np.unique(example["mask"])) <= seen | {255}
            # Rows 880 to 900 of the hood are in the last 448 * 20 / 870 = 10.3, painted.
            assert (example["mask"][-10:] == 255).all()
            assert (example["image"][-8:] == (75, 85, 75)).all()
    assert all((example["mask"] == 255).all() for example in found["test"].values())
    pixels = metadata["pixels"]["train"]
    assert {index for index, count in enumerate(pixels[:-1]) if count} == seen


@pytest.mark.parametrize("layout", ["mot15", "voc", "cityscapes"])
def test_real_data_are_not_replaced(layout, tmp_path):
    (tmp_path / "VOC2007").mkdir()
    with pytest.raises(ValueError, match="holds other files than those that are drawn"):
        toy_layouts.WRITERS[layout](tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["VOC2007"]


def test_fewer_scenes_do_not_leave_the_others_there(tmp_path):
    toy_layouts.write_mot15(tmp_path, 6)
    with pytest.raises(ValueError, match="drawn in the layout mot15 for a count of 4"):
        toy_layouts.write_mot15(tmp_path, 4)


def test_drawn_scenes_are_drawn_again(tmp_path):
    toy_layouts.write_mot15(tmp_path, 4)
    image = tmp_path / "train/Toy-East/img1/000001.jpg"
    image.unlink()
    toy_layouts.write_mot15(tmp_path, 4)
    assert image.is_file()
