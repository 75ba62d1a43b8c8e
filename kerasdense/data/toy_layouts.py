"""Drawn street scenes as files, in the layouts of the published datasets.

So the steps of a published row run on embedded data, under the names of the real datasets. A writer
`write_LAYOUT(folder, count)` gives the training split `count` scenes and each other split
`held_out(count)`, and returns how many pictures it wrote. What it writes depends on `count` alone;
with another count the same names hold the same scenes. No scene lies in two splits or two layouts,
and none in the dataset toy_streets. Files of the same names are replaced, others are left.

Reference: Leal-Taixe et al., MOTChallenge 2015; Everingham and Winn, The PASCAL VOC2012 Challenge
Development Kit; Cordts et al., The Cityscapes dataset, CVPR 2016.
"""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from kerasdense.data import cityscapes_frames, classes, formats, reading
from kerasdense.data.sources import mot15, toy_streets, voc_segmentation
from kerasdense.drawing import pictures
from kerasdense.metrics.labels import IGNORE

# Each place draws scenes of its own: the i-th begins at scene i * SPACING. New ones come last.
PLACES = (
    "folder",
    "mot15/Toy-East", "mot15/Toy-West",
    "voc2007/train", "voc2007/val", "voc2007/test",
    "voc2012/train", "voc2012/val", "voc2012/test", "voc2012/sbd",
    "cityscapes/train", "cityscapes/val", "cityscapes/test", "cityscapes/train_extra",
)  # fmt: skip
SPACING = 10**7  # scenes: more than days of drawing reach

VOC_NAMES = {"car": "car", "pedestrian": "person"}  # all else is background
VOC_BORDER = 1  # pixels on either side of an outline that VOC's masks leave open
CITYSCAPES_NAMES = {
    "sky": "sky",
    "building": "building",
    "road": "road",
    "pavement": "sidewalk",
    "tree": "vegetation",
    "pole": "pole",
    "car": "car",
    "pedestrian": "person",
}

SEQUENCES = ("Toy-East", "Toy-West")
FEWEST = 2  # pedestrians in a frame: one can be found, and one missed
# The detector that does not exist: what it misses, and how far off its boxes and scores are.
MISSED = 0.2  # of the pedestrians of a frame, and at least one
FALSE_ALARMS = 1.0  # a frame, in the mean
JITTER, LARGEST_JITTER = 0.07, 0.12  # of each edge, by the box's sides: the IoU stays over 0.5
SCORES_RIGHT, SCORES_FALSE, SCORES_SPREAD = 40.0, 25.0, 12.0
HEIGHTS_FALSE, ASPECT_FALSE = (30, 90), 0.4  # pixels; width by height

CITY = "toytown"
ROWS = slice(40, 168)  # that are kept of a scene, half as many as its columns: frames are 2:1
HOOD_ROWS = slice(110, 128)  # of those; from 880 of 1024 on: the ladder's protocol sees 20 rows
HOOD_COLOR = (38, 40, 46)
COARSE_BORDER = 2  # pixels of a scene, 16 of a frame: so far from an outline coarse polygons end

DRAWN = (
    "Drawn by `kerasdense make-toy-streets --layout {layout} --count {count}`: these are no data "
    "of {owner}.\n"
)


@dataclasses.dataclass(frozen=True)
class Scene:
    """`image` uint8 [H, W, 3]; `mask` uint8 [H, W], of toy_streets.CLASSES; N `boxes` float64
    [N, 4], continuous xyxy in whole pixels; `labels` int64 [N], of toy_streets.BOX_CLASSES.
    """

    image: np.ndarray
    mask: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray

    def boxes_of(self, name):
        """The boxes of one of toy_streets.BOX_CLASSES: float64 [M, 4]."""
        return self.boxes[self.labels == toy_streets.BOX_CLASSES.index(name)]


def held_out(count):
    """How many scenes a split other than train has: about half of `count`, at least 2."""
    return max(2, count // 2)


def scenes(place, number, is_fit=None):
    """Yields the first `number` scenes of one of PLACES that fit: `is_fit(scene)`; None is all."""
    first = PLACES.index(place) * SPACING
    drawn = map(_draw, itertools.count(first))
    return itertools.islice(filter(is_fit, drawn) if is_fit else drawn, number)


def _draw(index):
    image, mask, boxes, labels = toy_streets.draw_scene("test", index)
    height, width = mask.shape
    boxes = np.rint(boxes.astype(np.float64) * [width, height, width, height])
    return Scene(image, mask, boxes, labels)


def _near_borders(labels, reach):
    """bool [H, W]: the pixels that lie less than `reach` + 1 from one of another label."""
    picture = Image.fromarray(labels)
    side = 2 * reach + 1
    lowest = picture.filter(ImageFilter.MinFilter(side))
    highest = picture.filter(ImageFilter.MaxFilter(side))
    return np.asarray(lowest) != np.asarray(highest)


def _claim(folder, count, layout, owner, note=""):
    """Says in a README.txt, before anything else, that what lies in a folder is drawn.

    Raises: ValueError where other files lie there, which drawn ones might replace.
    """
    readme = folder / "README.txt"
    text = DRAWN.format(layout=layout, count=count, owner=owner) + note
    if folder.is_dir() and any(folder.iterdir()):
        if not readme.is_file() or readme.read_text(errors="replace") != text:
            raise ValueError(
                f"'{folder}' holds other files than those that are drawn in the layout {layout} "
                f"for a count of {count}, which would be replaced or mixed with these: give a "
                "folder of its own."
            )
    folder.mkdir(parents=True, exist_ok=True)
    readme.write_text(text, encoding="utf-8")


def _write_lines(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def _write_annotation(path, scene, file_name, names):
    path.parent.mkdir(parents=True, exist_ok=True)
    annotation = formats.VocAnnotation(
        size=scene.mask.shape,
        file_name=file_name,
        names=[names[label] for label in scene.labels],
        boxes=formats.continuous_to_voc(scene.boxes),
        difficult=np.zeros(len(scene.boxes), bool),
    )
    formats.write_voc_xml(path, annotation)


# --- own data ----------------------------------------------------------------------------------


def write_folder(folder, count):
    """`folder` and `folder_detection`: images/, masks/, annotations/ and both lists of classes.

    All `count` scenes lie in one folder, without splits.
    """
    palette = list(toy_streets.CLASSES.values())
    for index, scene in enumerate(scenes("folder", count)):
        stem = f"scene_{index:03}"
        pictures.save_picture(folder / "images" / f"{stem}.png", scene.image)
        pictures.save_label_map(folder / "masks" / f"{stem}.png", scene.mask, palette)
        path = folder / "annotations" / f"{stem}.xml"
        _write_annotation(path, scene, f"{stem}.png", toy_streets.BOX_CLASSES)
    _write_lines(folder / "classes.txt", toy_streets.CLASSES)
    _write_lines(folder / "box_classes.txt", toy_streets.BOX_CLASSES)
    return count


# --- MOT 2015 ----------------------------------------------------------------------------------


def write_mot15(folder, count):
    """`mot15`: train/SEQUENCE/ with seqinfo.ini, img1/, gt/gt.txt and det/det.txt, two sequences.

    Their frames before the last 20 %, which are val, are `count` together, at least 4. Each frame
    is a scene of its own that shows two pedestrians or more, and none comes again. The detections
    are drawn around the true boxes: in each frame some are found and some are missed, others are
    false, and right ones score higher on the whole.
    """
    note = "The detections det/det.txt are drawn, too: they are not those of ACF, nor any's.\n"
    _claim(folder, count, "mot15", "MOTChallenge", note)
    length = sequence_length(-(-count // len(SEQUENCES)))
    for name in SEQUENCES:
        _write_sequence(folder / "train" / name, length)
    return length * len(SEQUENCES)


def sequence_length(train):
    """How many frames a sequence has of which the first `train`, or 2 if that is more, train."""
    for length in itertools.count(train + 1):
        sequence = mot15.Sequence(Path(), length, suffix="", size=None, boxes_of_frame={})
        if train < sequence.first_val_frame() <= length:
            return length


def _write_sequence(folder, length):
    frames, truths, found, scores = [], [], [], []
    rng = np.random.default_rng([toy_streets.SEED, SEQUENCES.index(folder.name)])
    place = f"mot15/{folder.name}"
    for frame, scene in enumerate(scenes(place, length, _shows_pedestrians), start=1):
        pictures.save_picture(folder / "img1" / f"{frame:06}.jpg", scene.image)
        truths.append(scene.boxes_of("pedestrian"))
        boxes_found, their_scores = drawn_detections(truths[-1], scene.mask.shape, rng)
        found.append(boxes_found)
        scores.append(their_scores)
        frames.append(frame)
    height, width = scene.mask.shape
    info = {
        "name": folder.name, "imDir": "img1", "frameRate": 1, "seqLength": length,
        "imWidth": width, "imHeight": height, "imExt": ".jpg",
    }  # fmt: skip
    _write_lines(folder / "seqinfo.ini", ["[Sequence]", *(f"{k}={v}" for k, v in info.items())])
    boxes = np.concatenate(truths)
    for part in ("gt", "det"):
        (folder / part).mkdir(exist_ok=True)
    formats.write_mot(
        folder / "gt" / "gt.txt",
        np.repeat(frames, [len(each) for each in truths]),
        boxes,
        np.ones(len(boxes)),
        identities=np.arange(1, len(boxes) + 1),
    )
    formats.write_mot(
        folder / "det" / "det.txt",
        np.repeat(frames, [len(each) for each in found]),
        np.concatenate(found),
        np.concatenate(scores),
    )


def _shows_pedestrians(scene):
    return len(scene.boxes_of("pedestrian")) >= FEWEST


def drawn_detections(boxes, size, rng):
    """What a detector that does not exist found, best first.

    Args:
        boxes: [N, 4] of the objects, of which one at least is missed, continuous xyxy in pixels.
        size: (height, width) of the picture.
        rng: a NumPy random generator.

    Returns:
        (boxes float64 [M, 4], scores float64 [M]), with two and three decimals.
    """
    missed = max(1, round(MISSED * len(boxes)))
    seen = boxes[np.sort(rng.permutation(len(boxes))[missed:])]
    sides = np.tile(seen[:, 2:] - seen[:, :2], 2)  # [n, 4]: each edge moves along its side
    jitter = rng.normal(0, JITTER, seen.shape)
    right = seen + np.clip(jitter, -LARGEST_JITTER, LARGEST_JITTER) * sides
    height, width = size
    heights = rng.uniform(*HEIGHTS_FALSE, rng.poisson(FALSE_ALARMS))
    sides = np.stack([ASPECT_FALSE * heights, heights], axis=1)
    corners = rng.random(sides.shape) * ([width, height] - sides)
    false = np.concatenate([corners, corners + sides], axis=1)
    means = np.repeat([SCORES_RIGHT, SCORES_FALSE], [len(right), len(false)])
    scores = rng.normal(means, SCORES_SPREAD)
    order = np.argsort(-scores, kind="stable")
    return np.concatenate([right, false])[order].round(2), scores[order].round(3)


# --- PASCAL VOC --------------------------------------------------------------------------------


def write_voc(folder, count):
    """`voc_detection` and `voc_segmentation`, of both years: `folder` plays VOCdevkit.

    Every picture shows a car and a person. Other than with the real data, test of 2012 has
    annotations, too. SegmentationClassAug holds the masks of train and val without the open
    border, and those of `held_out(count)` pictures more, which SBD alone has; sbd_train.txt and
    sbd_val.txt take turns through all of them, as SBD's own lists cut across VOC's.
    """
    _claim(folder, count, "voc", "PASCAL VOC")
    other = held_out(count)
    written = 0
    for year, extra in (("2007", {}), ("2012", {"sbd": other})):
        root = folder / f"VOC{year}"
        sizes = {"train": count, "val": other, "test": other, **extra}
        stems = {split: _write_voc_split(root, split, size) for split, size in sizes.items()}
        written += sum(sizes.values())
        lists = {split: stems[split] for split in ("train", "val", "test")}
        lists["trainval"] = sorted(stems["train"] + stems["val"])
        for name, entries in lists.items():
            _write_lines(root / "ImageSets" / "Main" / f"{name}.txt", entries)
    masks = sorted(stems["train"] + stems["val"] + stems["sbd"])
    lists = {
        "train": stems["train"],
        "val": stems["val"],
        "trainval": lists["trainval"],
        "train_aug": sorted(stems["train"] + stems["sbd"]),
        "sbd_train": masks[::2],
        "sbd_val": masks[1::2],
    }
    for name, entries in lists.items():
        _write_lines(root / "ImageSets" / "Segmentation" / f"{name}.txt", entries)
    return written


def _write_voc_split(root, split, size):
    """Writes the pictures of a split with their truth; returns their names."""
    place = f"{root.name.lower()}/{split}"
    prefix = {"VOC2007": "", "VOC2012": "2012_"}[root.name]
    names = [VOC_NAMES[name] for name in toy_streets.BOX_CLASSES]
    palette = classes.default_palette(len(voc_segmentation.CLASS_NAMES))
    stems = []
    for index, scene in enumerate(scenes(place, size, _shows_both)):
        stem = f"{prefix}{PLACES.index(place):02}{index:04}"
        stems.append(stem)
        pictures.save_picture(root / "JPEGImages" / f"{stem}.jpg", scene.image)
        if split != "sbd":  # of which VOC's own detection lists know nothing here
            path = root / "Annotations" / f"{stem}.xml"
            _write_annotation(path, scene, f"{stem}.jpg", names)
        if root.name == "VOC2012" and split != "test":
            mask, closed = voc_masks(scene.mask)
            path = root / "SegmentationClassAug" / f"{stem}.png"
            pictures.save_label_map(path, closed, palette)
            if split != "sbd":
                path = root / "SegmentationClass" / f"{stem}.png"
                pictures.save_label_map(path, mask, palette)
    return stems


def voc_masks(mask):
    """The label maps of a scene's mask in VOC's classes, both uint8 [H, W].

    The first with IGNORE along the outlines of what is not background, the second without.
    """
    table = np.zeros(len(toy_streets.CLASSES), np.uint8)
    for index, name in enumerate(toy_streets.CLASSES):
        if name in VOC_NAMES:
            table[index] = voc_segmentation.CLASS_NAMES.index(VOC_NAMES[name])
    closed = table[mask]
    return np.where(_near_borders(closed, VOC_BORDER), np.uint8(IGNORE), closed), closed


def _shows_both(scene):
    """Whether there are boxes of both classes, and pixels of both within VOC's borders."""
    mask, _ = voc_masks(scene.mask)
    ids = {voc_segmentation.CLASS_NAMES.index(name) for name in VOC_NAMES.values()}
    return len(set(scene.labels.tolist())) == len(VOC_NAMES) and ids <= set(np.unique(mask))


# --- Cityscapes --------------------------------------------------------------------------------


def write_cityscapes(folder, count):
    """`cityscapes`: leftImg8bit/, gtFine/ and gtCoarse/ of one city, frames of 2048x1024.

    A frame is 128 rows of a scene that show a car and a pedestrian, enlarged eight times; a hood
    (ego vehicle) covers its last rows. Coarse label maps are empty along the outlines. Those of
    test hold the ego vehicle alone, as the real ones hold no classes.
    """
    _claim(folder, count, "cityscapes", "Cityscapes")
    other, images = held_out(count), cityscapes_frames.IMAGES
    truths = {
        "train": ("gtFine", "gtCoarse"),
        "val": ("gtFine", "gtCoarse"),
        "test": ("gtFine",),
        "train_extra": ("gtCoarse",),
    }
    written = 0
    for number, (split, kinds) in enumerate(truths.items()):
        size = count if split == "train" else other
        for index, scene in enumerate(scenes(f"cityscapes/{split}", size, _shows_traffic)):
            place, stem = f"{split}/{CITY}", f"{CITY}_{number:06}_{index:06}"
            image, label_ids = frame(scene, split != "test")
            path = folder / images / place / f"{stem}_{images}.png"
            _write_enlarged(path, image, Image.Resampling.BILINEAR)
            for kind in kinds:
                ids = label_ids if kind == "gtFine" else coarse(label_ids)
                path = folder / kind / place / f"{stem}_{kind}_labelIds.png"
                _write_enlarged(path, ids, Image.Resampling.NEAREST)
        written += size
    return written


def frame(scene, is_labeled=True):
    """A scene as a frame before it is enlarged: image uint8 [128, 256, 3], label ids [128, 256].

    Where it is not labeled, all but the hood is unlabeled, as in the real test split.
    """
    ids = {name: label_id for label_id, name, _ in cityscapes_frames.CLASSES}
    table = np.array([ids[CITYSCAPES_NAMES[name]] for name in toy_streets.CLASSES], np.uint8)
    image, label_ids = scene.image[ROWS].copy(), table[scene.mask[ROWS]]
    if not is_labeled:
        label_ids[:] = cityscapes_frames.UNLABELED
    image[HOOD_ROWS], label_ids[HOOD_ROWS] = HOOD_COLOR, cityscapes_frames.EGO_VEHICLE
    return image, label_ids


def coarse(label_ids):
    """Label ids uint8 [H, W] as coarse polygons give them: unlabeled near borders.

    But for the hood, which never moves: its outline is the same exact one in all annotations.
    """
    is_left_out = _near_borders(label_ids, COARSE_BORDER)
    is_left_out &= label_ids != cityscapes_frames.EGO_VEHICLE
    return np.where(is_left_out, np.uint8(cityscapes_frames.UNLABELED), label_ids)


def _shows_traffic(scene):
    """Whether a car and a pedestrian are seen in the rows above the hood."""
    seen = np.unique(scene.mask[ROWS][: HOOD_ROWS.start])
    return {toy_streets.CAR, toy_streets.PEDESTRIAN} <= set(seen.tolist())


def _write_enlarged(path, pixels, resampling):
    height, width = cityscapes_frames.FULL_SIZE
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels).resize((width, height), resampling)
    path.write_bytes(reading.png_bytes(picture))


WRITERS = {
    "folder": write_folder,
    "mot15": write_mot15,
    "voc": write_voc,
    "cityscapes": write_cityscapes,
}
