"""Frames of Cityscapes: their classes, what a model sees of them, and what the server takes.

With NumPy and Pillow alone, because exports are predicted with where TensorFlow is not.
H W size of a frame, h w of what a model sees of it.
"""

import dataclasses
import os
import re
from pathlib import Path

import numpy as np
from PIL import Image

from kerasdense.data import reading
from kerasdense.metrics.labels import IGNORE

# Cordts et al., CVPR 2016, and the label table of the dataset's scripts: the label ids that are
# evaluated, in the order of their train ids 0-18, with their colors. Ids 0-33 not named here, and
# 255 (license plate, -1), are ignored.
CLASSES = (
    (7, "road", (128, 64, 128)),
    (8, "sidewalk", (244, 35, 232)),
    (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)),
    (13, "fence", (190, 153, 153)),
    (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)),
    (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)),
    (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)),
    (24, "person", (220, 20, 60)),
    (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)),
    (27, "truck", (0, 0, 70)),
    (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)),
    (32, "motorcycle", (0, 0, 230)),
    (33, "bicycle", (119, 11, 32)),
)
MAX_LABEL_ID = 33
UNLABELED, EGO_VEHICLE = 0, 1  # label ids
FULL_SIZE = (1024, 2048)  # height, width

# Kreso et al., ICCV-W 2017, and their code: the car's hood is cut off, the frame halved.
LADDER_ROWS = (30, 900)  # kept, of 1024
LADDER_SIZE = (448, 1024)  # height, width
LADDER_MEAN = (75, 85, 75)  # RGB painted over the ego vehicle: the dataset's mean

IMAGES, TRUTH = "leftImg8bit", "gtFine"  # folders, and parts of the names of files
# The evaluation of the dataset's scripts finds CITY_123456_123456*.png below the folder of results.
NAME = re.compile(rf"([^_]+_\d{{6}}_\d{{6}})(_{IMAGES})?")
FOLDER = "cityscapes_ids"  # of label maps for the server, which look alike to those scripts


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What a model sees of a frame: its `rows`, of 1024, resized to `size`, and the way back.

    `size`: (height, width); None: the frame's own. `mean`: the color painted over the ego vehicle,
    where it is known; None: nothing is painted.
    """

    rows: tuple = (0, FULL_SIZE[0])
    size: tuple | None = None
    mean: tuple | None = None

    def picture(self, frame, label_ids=None):
        """What the model sees: uint8 [H, W, 3] to uint8 [h, w, 3], resized bicubically.

        `label_ids`: uint8 [H, W], of which the ego vehicle is painted over; None: unknown.
        """
        if self.mean is not None and label_ids is not None:
            frame = np.where((label_ids == EGO_VEHICLE)[..., None], np.uint8(self.mean), frame)
        return self._reduced(frame, Image.Resampling.BICUBIC)

    def labels(self, labels):
        """The same of a label map: uint8 [H, W] to uint8 [h, w], by nearest neighbor."""
        return self._reduced(labels, Image.Resampling.NEAREST)

    def put_back(self, labels, size):
        """The label map of what a model saw, [h, w], as one of the frame: uint8 [H, W].

        By nearest neighbor; IGNORE in the rows that the model did not see. `size`: (H, W). Where
        that is no reduction, `labels` of the result gives the same again.
        """
        top, bottom = self._band(size[0])
        whole = np.full(size, IGNORE, np.uint8)
        whole[top:bottom] = _resized(labels, (bottom - top, size[1]), Image.Resampling.NEAREST)
        return whole

    def _reduced(self, pixels, resampling):
        top, bottom = self._band(len(pixels))
        return _resized(pixels[top:bottom], self.size, resampling)

    def _band(self, height):
        """The rows kept of a frame, in proportion where its height is another."""
        return tuple(round(row * height / FULL_SIZE[0]) for row in self.rows)


FULL = Protocol()
LADDER = Protocol(LADDER_ROWS, LADDER_SIZE, LADDER_MEAN)


def protocol_of(dataset):
    """The `Protocol` of a dataset by its name, such as "cityscapes/ladder"; None: unknown."""
    return LADDER if (dataset or "").startswith("cityscapes/ladder") else FULL


def label_ids(class_names):
    """The table uint8 [256] from the classes of a model, in any order, to label ids.

    IGNORE becomes UNLABELED. The server counts that as missed where the truth has a class; 255 is
    an error there.
    Raises: ValueError unless they are the 19 classes of Cityscapes.
    """
    ids = {name: label_id for label_id, name, _ in CLASSES}
    if sorted(class_names) != sorted(ids):
        missing = [name for name in ids if name not in class_names]
        others = [name for name in class_names if name not in ids]
        raise ValueError(
            f"Label ids of Cityscapes are of its {len(ids)} classes, received a model of "
            f"{len(class_names)}; missing: {', '.join(missing) or 'none'}; unknown: "
            f"{', '.join(others) or 'none'}. Fit one to --dataset cityscapes."
        )
    table = np.full(256, UNLABELED, np.uint8)
    table[: len(class_names)] = [ids[name] for name in class_names]
    return table


def server_name(path):
    """The file's name of the label map of a frame, which the server and the scripts find.

    Raises: ValueError for a file that is not called as frames of Cityscapes are.
    """
    match = NAME.fullmatch(path.stem)
    if match is None:
        raise ValueError(_misnamed([path]))
    return f"{match[1]}_pred.png"


def check_names(images):
    """Raises ValueError unless all `images.Found` have names that the server knows, and one each.

    Their other results must not lie in FOLDER, where the scripts would find them, too.
    """
    wrong = [image.path for image in images if not NAME.fullmatch(image.path.stem)]
    if wrong:
        raise ValueError(_misnamed(wrong))
    named = {}
    for image in images:
        name = server_name(image.path)
        if name in named:
            raise ValueError(
                f"{named[name]} and {image.path} would both be {FOLDER}/{name}. Give one of them."
            )
        named[name] = image.path
        if Path(image.name).parts[0] == FOLDER:
            raise ValueError(
                f"{image.path} lies in a folder {FOLDER}, the name of that of the results for the "
                f"server. Rename it."
            )


def truth_of(path):
    """Of a frame leftImg8bit/SPLIT/CITY/..., the label ids' file below gtFine/; None if absent.

    The test split has such files, too: they tell the ego vehicle, and no class.
    """
    parts = Path(os.path.abspath(path)).parts
    match = NAME.fullmatch(path.stem)
    if match is None or len(parts) < 5 or parts[-4] != IMAGES:
        return None
    truth = Path(*parts[:-4], TRUTH, *parts[-3:-1], f"{match[1]}_{TRUTH}_labelIds.png")
    return truth if truth.is_file() else None


def seen(path, frame, protocol):
    """What a model of `protocol` is to see of the frame uint8 [H, W, 3] in the file `path`.

    Raises: ValueError for a picture of other proportions than a frame, and for a broken label map
    of it, where the ego vehicle is to be painted.
    """
    height, width = frame.shape[:2]
    if width * FULL_SIZE[0] != height * FULL_SIZE[1]:
        raise ValueError(
            f"a frame of Cityscapes has {FULL_SIZE[1]}x{FULL_SIZE[0]} pixels, and one of another "
            f"size must be twice as wide as high: received {width}x{height}."
        )
    truth = truth_of(path) if protocol.mean else None
    if truth is None:
        return protocol.picture(frame)
    ids = np.asarray(reading.open_image(truth, "Label map")[1])
    if ids.shape != frame.shape[:2]:
        raise ValueError(
            f"{truth} has the shape {list(ids.shape)}: expected [{height}, {width}], a label id "
            f"for each pixel of the frame."
        )
    return protocol.picture(frame, ids)


def _resized(pixels, size, resampling):
    """An image or label map in another size (height, width); None: it stays as it is."""
    if size is None or pixels.shape[:2] == tuple(size):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size[::-1], resampling))


def _misnamed(paths):
    more = ", ..." if len(paths) > 3 else ""
    return (
        f"{len(paths)} image{'s have' if len(paths) > 1 else ' has'} no name that the Cityscapes "
        f"server knows: {', '.join(map(str, paths[:3]))}{more}; expected "
        f"CITY_123456_123456_{IMAGES}.png, as in {IMAGES}/test/."
    )
