"""What the segmentation builders share: label maps read, checked and encoded with their images.

H W size.
"""

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from kerasdense.data import preparation, reading
from kerasdense.metrics.labels import IGNORE

INVALID = -1  # entry of a label table: this value must not occur


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


def read_mask(path):
    """Reads a label map as stored: class indices uint8 [H, W], palette indices never as colors.

    Raises:
        ValueError: unreadable, truncated, colored, 16-bit or stored with loss.
    """
    data, image = reading.open_image(path, "Label map")
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
    return values


def to_classes(values, table, path, dataset, cure):
    """Maps stored values uint8 [H, W] to class indices uint8 [H, W] by a `label_table`.

    Raises:
        ValueError: a value that the table does not admit.
    """
    classes = table[values]
    if (classes == INVALID).any():
        bad = int(values[classes == INVALID].max())
        raise ValueError(
            f"Label map '{path}' contains class {bad} but {dataset} has {_describe(table)}. {cure}"
        )
    return classes.astype(np.uint8)


def _describe(table):
    """Returns such as "11 classes (0-10; 11, 255 = ignore)"."""
    classes = np.flatnonzero((table != INVALID) & (table != IGNORE))
    ignored = np.flatnonzero(table == IGNORE)
    if len(classes) != classes[-1] - classes[0] + 1:  # with gaps: say what may occur at all
        highest = max(classes[-1], ignored[:-1].max(initial=0))
        return f"{len(classes)} classes (values 0-{highest} and {IGNORE} may occur)"
    names = " and ".join(map(str, ignored))
    return f"{len(classes)} classes ({classes[0]}-{classes[-1]}, {names} = ignore)"


def check_same_size(pair, image, mask):
    """Raises ValueError unless the PIL image and the mask [H, W] have one size."""
    height, width = mask.shape
    if image.size != (width, height):
        orientation = image.getexif().get(reading.EXIF_ORIENTATION, 1)
        note = ""
        if orientation != 1:
            note = (
                f" The image carries EXIF orientation {orientation}, which is not applied here: "
                "save it upright if the mask was drawn on the rotated view."
            )
        raise ValueError(
            f"Mask '{pair.truth}' is {width}x{height} but its image '{pair.image}' is "
            f"{image.width}x{image.height}: both must have one size (width x height).{note}"
        )


def encode_example(pair, table, dataset, cure):
    """Reads, checks and encodes one pair of image and mask for `dataset_info`, `mask_feature`.

    Raises:
        ValueError: naming the file that is at fault.
    """
    encoded, image = reading.read_image(pair.image)
    values = read_mask(pair.truth)  # [H, W]
    check_same_size(pair, image, values)
    classes = to_classes(values, table, pair.truth, dataset, cure)
    return {
        "image": encoded,
        "mask": reading.png_bytes(Image.fromarray(classes)),
        "file_name": pair.name,
    }
