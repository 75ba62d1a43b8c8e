"""What the detection builders share: objects of an annotation to examples, odd ones counted.

N objects. Files of real life hold boxes without area, boxes that stick out of the image and image
sizes that are wrong. None of it stops a preparation; a `Tally` counts it and says so in one line.
"""

import dataclasses

import numpy as np
import tensorflow_datasets as tfds

from kerasdense.data import classes, files, formats, preparation, reading, turning

# A picture was resized where what is stated differs from its sides by more than the first part, and
# from both alike, but for the second.
RESIZED, ALIKE = 0.1, 0.02
WITHOUT_OBJECTS = "an image without objects needs an annotation without <object>"


@dataclasses.dataclass(frozen=True)
class Objects:
    """The N objects of one image as its annotation gives them.

    `boxes` float64 [N, 4], continuous xyxy in pixels; `labels` int64 [N]; `difficult` bool [N];
    `has_area` bool [N], by the numbers of the file; `size` (height, width) or None, as stated.
    """

    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    has_area: np.ndarray
    size: tuple[int, int] | None


class Tally:
    """Counts the boxes of a split and all that was odd about them, with the first place of each.

    `convention`: the `turning.Convention` by which its boxes are read.
    """

    def __init__(self, split, class_names, convention=None):
        self.split = split
        self.class_names = class_names
        self.convention = convention or turning.Convention()
        self.images = 0
        self.images_without_objects = 0
        self.resized = 0  # images whose annotation states their size times a number
        self.boxes_of_class = np.zeros(len(class_names), np.int64)
        self.difficult_of_class = np.zeros(len(class_names), np.int64)
        self.overhang = 0.0  # pixels: the farthest that a clipped box stuck out
        self.odd = {}  # what: [how many, name of the first]

    def add_odd(self, what, count, name):
        """Counts `count` (may be 0) cases in the image `name`."""
        if count:
            self.odd.setdefault(what, [0, name])[0] += int(count)

    def add_image(self, labels, difficult):
        """Counts an image and its objects that were kept: labels int64 [N], difficult bool [N]."""
        self.images += 1
        self.images_without_objects += not len(labels)
        np.add.at(self.boxes_of_class, labels, 1)
        np.add.at(self.difficult_of_class, labels[difficult], 1)

    def describe(self):
        """Returns such as "train 205 images, 2200 boxes, dropped boxes without area: 1 (...);
        objects: RBC 2000, WBC 200".
        """
        boxes = f"{self.boxes_of_class.sum()} boxes"
        if self.difficult_of_class.any():
            boxes += f" ({self.difficult_of_class.sum()} difficult)"
        parts = [f"{self.split} {self.images} images", boxes]
        if self.images_without_objects:
            parts.append(f"images without objects: {self.images_without_objects}")
        for what, (count, name) in self.odd.items():
            parts.append(f"{what}: {count} (first: {name})")
        if self.overhang:
            parts.append(f"farthest overhang: {self.overhang:.3g} pixels")
        absent = [name for name, count in zip(self.class_names, self.boxes_of_class) if not count]
        if absent and self.split == "train":
            parts.append(f"classes without a box: {' '.join(absent)}")
        objects = zip(self.class_names, self.boxes_of_class)
        return f"{', '.join(parts)}; objects: {', '.join(f'{name} {n}' for name, n in objects)}"


def box_features():
    """Returns the features of detection, besides those that every dataset has."""
    return {
        "boxes": tfds.features.Tensor(shape=(None, 4), dtype=np.float32),
        "labels": tfds.features.Tensor(shape=(None,), dtype=np.int64),
        "difficult": tfds.features.Tensor(shape=(None,), dtype=np.bool_),
    }


def detection_info(builder, class_names):
    """Returns the DatasetInfo of a detection builder, with a palette in which no class is black."""
    palette = classes.box_palette(len(class_names))
    return preparation.dataset_info(builder, class_names, palette, box_features())


def check_pairs(pairs, split, origin):
    """`files.check_pairs` of images and annotations."""
    cure = f"Restore the file or take the entry out ({WITHOUT_OBJECTS})."
    return files.check_pairs(pairs, split, origin, truth="Annotation", cure=cure)


def read_voc(path):
    """`formats.read_voc_xml`, every failure a ValueError: TFDS' writer raises OSError."""
    try:
        return formats.read_voc_xml(path)
    except OSError as error:
        raise ValueError(f"Annotation '{path}' cannot be read: {error}.") from error


def voc_objects(path, class_names, cure):
    """Reads the `Objects` of a VOC annotation.

    Raises:
        ValueError: a broken file, or an object whose name is none of class_names; `cure` is said.
    """
    annotation = read_voc(path)
    index_of = {name: index for index, name in enumerate(class_names)}
    for number, name in enumerate(annotation.names, start=1):
        if name not in index_of:
            raise ValueError(
                f"Annotation '{path}', object {number}: unknown class '{name}'. Expected one of "
                f"{', '.join(class_names)}. {cure}"
            )
    boxes = annotation.boxes
    return Objects(
        boxes=formats.voc_to_continuous(boxes),
        labels=np.array([index_of[name] for name in annotation.names], np.int64),
        difficult=annotation.difficult,
        has_area=(boxes[:, 2:] > boxes[:, :2]).all(axis=1),
        size=annotation.size,
    )


def generate_examples(builder, split, pairs, read_objects):
    """Yields (key, example) of each pair for TFDS, and leaves a note for `preparation.prepare`.

    Args:
        builder: a detection builder with a `preparation.SourceConfig`.
        split: its name.
        pairs: `files.Pair`s of the split.
        read_objects: function from a pair to its `Objects`.

    Raises:
        ValueError: naming the file that is at fault; or training images without any object.
    """
    convention = turning.convention_of(builder, lambda pair: read_objects(pair).size)
    tally = Tally(split, builder.info.metadata["class_names"], convention)
    for pair in pairs:
        yield pair.name, encode_example(pair, read_objects(pair), tally)
    if tally.images and tally.resized == tally.images:
        raise ValueError(
            f"{builder.name}: every annotation of '{split}' states a size that is its picture's "
            "times a number: the pictures were resized since they were annotated. Take those that "
            "were, or scale the boxes and <size> as the pictures were; if the boxes are right, and "
            "the sizes wrong, take <size> out."
        )
    if split == "train" and not tally.boxes_of_class.any():
        raise ValueError(
            f"{builder.name}: there is nothing to learn, expected objects in '{split}', received "
            f"none in {tally.describe()}. Check the annotations."
        )
    record(builder, tally)


def record(builder, tally):
    """Keeps the counts of a split in the metadata of the builder, and says them when it is done.

    `objects`: {split: those of each class}; `difficult_objects`: of them, {split: ...} likewise.
    """
    metadata = builder.info.metadata
    metadata.setdefault("objects", {})[tally.split] = tally.boxes_of_class.tolist()
    difficult = tally.difficult_of_class.tolist()
    metadata.setdefault("difficult_objects", {})[tally.split] = difficult
    builder.builder_config.notes.append(tally.describe())


def encode_example(pair, objects, tally):
    """Reads the image of a pair and encodes it with its boxes, for `box_features`.

    Boxes become relative to the image's own size, whatever size is stated, and are clipped to it;
    boxes without area or wholly outside are dropped. Boxes that were drawn on the stored pixels of
    an image that is turned by EXIF, by `Tally.convention`, are turned with it.

    Raises:
        ValueError: an unreadable image.
    """
    photo = reading.read_image(pair.image)
    is_of_stored = tally.convention.is_of_stored(photo, objects.size)
    upright = objects.boxes
    if is_of_stored:
        upright = reading.turned_boxes(upright, photo.stored_size, photo.orientation)
    height, width = photo.size
    extent = np.array([width, height, width, height], np.float64)
    clipped = np.clip(upright, 0, extent)  # [N, 4]
    boxes = (clipped / extent).astype(np.float32)  # [N, 4]
    overhang = np.abs(clipped - upright).max(axis=1)  # [N]
    is_inside = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)  # [N]
    kept = objects.has_area & is_inside  # [N]
    is_clipped = kept & (overhang > 0)  # [N]
    labels, difficult = objects.labels[kept], objects.difficult[kept]

    tally.add_image(labels, difficult)
    tally.add_odd("dropped boxes without area", (~objects.has_area).sum(), pair.name)
    tally.add_odd("dropped boxes outside", (objects.has_area & ~is_inside).sum(), pair.name)
    tally.add_odd("clipped boxes", is_clipped.sum(), pair.name)
    tally.overhang = max(tally.overhang, overhang[is_clipped].max(initial=0.0))
    is_other = objects.size != (photo.stored_size if is_of_stored else photo.size)
    is_stated = bool(objects.size and all(objects.size))
    tally.add_odd("stated size absent", not is_stated, pair.name)
    tally.add_odd("stated size of another picture", is_stated and is_other, pair.name)
    tally.resized += is_stated and _is_resized(objects.size, photo.size)
    tally.add_odd("pictures turned by EXIF orientation", photo.orientation != 1, pair.name)
    with_them = "annotations of the stored pixels turned with them"
    tally.add_odd(with_them, bool(is_of_stored), pair.name)
    unknown = (
        "turned, but whether their boxes were drawn on the upright picture, as is supposed, is "
        "unknown"
    )
    tally.add_odd(unknown, is_of_stored is None, pair.name)
    return {
        "image": photo.encoded,
        "boxes": boxes[kept],
        "labels": labels,
        "difficult": difficult,
        "file_name": pair.name,
    }


def _is_resized(stated, actual):
    """Whether (height, width) `stated` is that of the picture times a number that is not near 1."""
    ratios = np.divide(stated, actual)
    return bool(abs(ratios.mean() - 1) > RESIZED and np.ptp(ratios) < ALIKE * ratios.mean())
