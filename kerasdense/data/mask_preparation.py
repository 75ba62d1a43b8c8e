"""What the segmentation builders share: label maps read, checked, counted, encoded with images.

The pixels of each class are counted, split by split, and kept in the metadata of the prepared form:
what no label map shows, nothing can learn. H W size, C classes.
"""

import dataclasses

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from kerasdense.data import preparation, reading, turning
from kerasdense.metrics.labels import IGNORE

INVALID = -1  # entry of a label table: this value must not occur
MINIMUM_SIDE = 64  # pixels: what the networks take; smaller images are padded where they meet one
NAMED = 3  # images named of those that are odd
BINARY = [0, 255]  # the values of a mask as image editors save it
MANY = 8  # values that a message lists one by one


@dataclasses.dataclass(frozen=True)
class Labels:
    """How the values that label maps store are read.

    `table`: a `label_table`; for messages `dataset`, whose classes they are, and `cure`.
    """

    table: np.ndarray
    dataset: str
    cure: str


class Tally:
    """Counts the pixels of a split's label maps by class, and what was odd about its images.

    `convention`: the `turning.Convention` by which its label maps are read.
    """

    def __init__(self, split, class_names, convention=None):
        self.split = split
        self.class_names = class_names
        self.convention = convention or turning.Convention()
        self.images = 0
        self.pixels = np.zeros(len(class_names) + 1, np.int64)  # the last: ignored
        self.stored = np.zeros(256, np.int64)  # pixels by the value in the file
        self.turned = self.turned_masks = 0
        self.unknown = []  # names of those turned whose label maps may be of the stored pixels
        self.small = []  # names
        self.sizes = set()  # (height, width)

    def add(self, name, values, classes):
        """Counts an image by its label map, stored and as classes: both uint8 [H, W]."""
        self.images += 1
        self.stored += np.bincount(values.ravel(), minlength=256)
        counts = np.bincount(classes.ravel(), minlength=256)
        self.pixels += np.append(counts[: len(self.class_names)], counts[IGNORE])
        self.sizes.add(classes.shape)
        if min(classes.shape) < MINIMUM_SIDE:
            self.small.append(name)

    def add_turned(self, name, photo, is_mask_turned):
        """Counts a `reading.Photo` that was turned, alone or with its mask; None: it is unknown."""
        self.turned += photo.orientation != 1
        self.turned_masks += bool(is_mask_turned)
        if is_mask_turned is None:
            self.unknown.append(name)

    def describe(self):
        """Returns such as "train 8 images, pixels: sky 60.0 %, car 30.0 %, ignored 10.0 %"."""
        shares = self.pixels / max(1, self.pixels.sum())
        named = zip((*self.class_names, "ignored"), shares)
        text = ", ".join(f"{name} {_percent(share)} %" for name, share in named)
        text = f"{self.split} {self.images} images, pixels: {text}"
        if self.turned:
            text += (
                f"; pictures that carry an EXIF orientation and were turned: {self.turned}, masks "
                f"drawn on the stored pixels and turned with them: {self.turned_masks}"
            )
        if self.unknown:
            text += (
                "; turned, but whether their masks were drawn on the upright picture, as is "
                f"supposed, is unknown: {_named(self.unknown)}"
            )
        if self.small:
            text += (
                f"; images with a side under {MINIMUM_SIDE} pixels, which are padded where a "
                f"network meets them whole: {_named(self.small)}"
            )
        return text


def _named(names):
    """Returns such as "5 (a, b, c, ...)"."""
    more = ", ..." if len(names) > NAMED else ""
    return f"{len(names)} ({', '.join(names[:NAMED])}{more})"


def _percent(share):
    """0, or a percentage with as many digits as tell it from 0."""
    percent = 100 * share
    if 0 < percent < 0.01:
        return "<0.01"
    return f"{percent:.{0 if not percent else 2 if percent < 1 else 1}f}"


def mask_feature():
    """Returns the feature of segmentation, besides those that every dataset has."""
    return {"mask": tfds.features.Image(shape=(None, None, 1), encoding_format="png")}


def segmentation_info(builder, class_names, palette):
    """Returns the DatasetInfo of a segmentation builder."""
    return preparation.dataset_info(builder, class_names, palette, mask_feature())


def label_table(num_classes, ignored=()):
    """Returns int16 [256] from stored value to class index, IGNORE, or INVALID."""
    table = np.full(256, INVALID, np.int16)
    table[:num_classes] = np.arange(num_classes)
    table[[IGNORE, *ignored]] = IGNORE
    return table


def mapped_table(values):
    """Returns the label table of stored `values`, of which the i-th is class i; 255 as listed."""
    table = label_table(0)
    table[list(values)] = np.arange(len(values))
    return table


def read_mask(path):
    """Reads a label map, upright: its values uint8 [H, W], palette indices never as colors.

    Raises:
        ValueError: unreadable, truncated, colored, 16-bit or stored with loss.
    """
    return _read_mask(path)[0]


def _read_mask(path):
    """As `read_mask`, with the EXIF orientation of the file: (values, 1 to 8)."""
    data, image, orientation = reading.open_image(path, "Label map")
    if image.format in ("JPEG", "MPO"):
        raise ValueError(
            f"Label map '{path}' is a JPEG file, whose compression alters class indices. Save it "
            "as PNG from the original."
        )
    if image.mode not in ("L", "P", "1"):
        kind = "16-bit gray" if image.mode in reading.SIXTEEN_BIT_MODES else f"mode {image.mode}"
        raise ValueError(
            f"Label map '{path}' is {kind}; expected 8-bit gray or palette, each pixel a class "
            "index. Was it saved as colors? Use the palette or index PNGs, or convert it."
        )
    values = np.asarray(image).astype(np.uint8)  # [H, W]
    depth = reading.png_bit_depth(data)
    if image.mode == "L" and depth in (2, 4):  # Pillow stretches 2- and 4-bit gray to 0..255
        values //= 255 // (2**depth - 1)
    return values, orientation


def to_classes(values, labels, path):
    """Maps stored values uint8 [H, W] to class indices uint8 [H, W] by `Labels`.

    Raises:
        ValueError: a value that their table does not admit.
    """
    classes = labels.table[values]
    if (classes == INVALID).any():
        bad = int(values[classes == INVALID].max())
        stored = np.unique(values).tolist()
        text = f"It holds {', '.join(map(str, stored))}."
        if len(stored) > MANY:
            text = f"It holds {len(stored)} values: edges that were smoothed give such, too."
        raise ValueError(
            f"Label map '{path}' contains class {bad} but {labels.dataset} has "
            f"{_describe(labels.table)}. {labels.cure} {text}"
        )
    return classes.astype(np.uint8)


def _describe(table):
    """Returns such as "11 classes (0-10; 11, 255 = ignore)"."""
    classes = np.flatnonzero((table != INVALID) & (table != IGNORE))
    ignored = np.flatnonzero(table == IGNORE)
    if len(classes) != classes[-1] - classes[0] + 1:  # with gaps: say what may occur at all
        values = np.flatnonzero(table != INVALID)
        if len(values) > MANY:
            values = f"0-{max(classes[-1], ignored[:-1].max(initial=0))} and {IGNORE}"
        else:
            values = ", ".join(map(str, values))
        return f"{len(classes)} classes (values {values} may occur)"
    names = " and ".join(map(str, ignored))
    ignored = f", {names} = ignore" if names else ""
    return f"{len(classes)} classes ({classes[0]}-{classes[-1]}{ignored})"


def read_pair(pair, tally):
    """Reads an image and its label map, both upright: (`reading.Photo`, values uint8 [H, W]).

    A label map that was drawn on the stored pixels, by `Tally.convention`, is turned with its
    image. One with an orientation of its own was turned by that.

    Raises:
        ValueError: an unreadable file, or a label map of another size.
    """
    photo = reading.read_image(pair.image)
    values, own_orientation = _read_mask(pair.truth)  # [H, W]
    height, width = values.shape
    is_of_stored = False
    if own_orientation == 1:
        is_of_stored = tally.convention.is_of_stored(photo, values.shape)
    if is_of_stored:
        values = np.asarray(reading.turned(Image.fromarray(values), photo.orientation))
    if values.shape != photo.size:
        image_height, image_width = photo.size
        raise ValueError(
            f"Mask '{pair.truth}' is {width}x{height} but its image '{pair.image}' is "
            f"{image_width}x{image_height}: both must have one size (width x height)."
        )
    tally.add_turned(pair.name, photo, is_of_stored)
    return photo, values


def _drawn_size(pair):
    """(height, width) of a label map; None where it has an orientation of its own."""
    orientation, size = reading.read_header(pair.truth)
    return size if orientation == 1 else None


def encode_example(pair, labels, tally):
    """Reads, checks, counts and encodes a pair of image and mask for `segmentation_info`.

    Args:
        pair: `files.Pair`.
        labels: `Labels` of its mask.
        tally: `Tally` of its split.

    Raises:
        ValueError: naming the file that is at fault.
    """
    photo, values = read_pair(pair, tally)
    return encode(pair, photo.encoded, values, labels, tally)


def encode(pair, image, values, labels, tally):
    """Encodes what was read of a pair: `image` as file bytes, `values` [H, W] of its label map."""
    classes = to_classes(values, labels, pair.truth)  # [H, W]
    tally.add(pair.name, values, classes)
    return {
        "image": image,
        "mask": reading.png_bytes(Image.fromarray(classes)),
        "file_name": pair.name,
    }


def generate_examples(builder, split, pairs, labels, encode_pair=None):
    """Yields (key, example) of each pair for TFDS, and leaves a note for `preparation.prepare`.

    Args:
        builder: a segmentation builder with a `preparation.SourceConfig`.
        split: its name.
        pairs: `files.Pair`s of the split.
        labels: `Labels` of their masks.
        encode_pair: if it is not `encode_example`, a function of the same arguments.

    Raises:
        ValueError: naming the file that is at fault; or label maps that teach nothing.
    """
    convention = turning.convention_of(builder, _drawn_size)
    tally = Tally(split, builder.info.metadata["class_names"], convention)
    encode_pair = encode_pair or encode_example
    for pair in pairs:
        yield pair.name, encode_pair(pair, labels, tally)
    record(builder, tally)
    if set(builder.info.metadata["pixels"]) == set(builder.builder_config.source.splits):
        _check_values(builder)


def record(builder, tally):
    """Keeps the counts of a split in the metadata of the builder, and says them when it is done.

    `pixels`: {split: pixels of each class, then those ignored}; `stored_values`: {split: the values
    that occur in its label maps}; `sizes`: {split: how many different sizes its images have}.
    """
    metadata = builder.info.metadata
    metadata.setdefault("pixels", {})[tally.split] = tally.pixels.tolist()
    stored = np.flatnonzero(tally.stored).tolist()
    metadata.setdefault("stored_values", {})[tally.split] = stored
    metadata.setdefault("sizes", {})[tally.split] = len(tally.sizes)
    builder.builder_config.notes.append(tally.describe())


def _check_values(builder):
    """Raises ValueError for label maps of which nothing can be learned, all splits together."""
    metadata, source = builder.info.metadata, builder.builder_config.source
    class_names = metadata["class_names"]
    stored = sorted(set().union(*metadata["stored_values"].values()))
    is_own = bool(source.class_names)
    if is_own and not source.mask_values and len(class_names) == 2 and stored == BINARY:
        raise ValueError(
            f"The masks of '{source.root}' hold only 0 and 255, and 255 is ignored: no pixel would "
            f"be '{class_names[1]}'. Where 255 means '{class_names[1]}', read them with "
            f"--mask-values 0,255; where it does mean ignore, with --mask-values 0,1."
        )
    if not any(sum(counts[:-1]) for counts in metadata["pixels"].values()):
        cure = "Were they made for this list of classes?"
        if is_own:
            cure = (
                f"Save class indices, 0 to {len(class_names) - 1}, or say which values mean the "
                f"{len(class_names)} classes: --mask-values V0,V1,..."
            )
        raise ValueError(
            f"All pixels of all masks of '{source.root}' are ignored: they hold the values "
            f"{', '.join(map(str, stored))} alone. {cure}"
        )
