"""Cityscapes: 19 classes of street scenes, 2048x1024, fine and coarse annotations."""

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from kerasdense.data import files, mask_preparation, preparation, reading

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
EGO_VEHICLE = 1  # label id

# Kreso et al., ICCV-W 2017, and their code: the car's hood is cut off, the frame halved.
LADDER_ROWS = (30, 900)  # kept, of 1024
LADDER_SIZE = (1024, 448)  # width, height
FULL_HEIGHT = 1024
LADDER_MEAN = (75, 85, 75)  # RGB painted over the ego vehicle: the dataset's mean

IMAGE_SUFFIX = "_leftImg8bit.png"
LAYOUT = "leftImg8bit/SPLIT/CITY/*_leftImg8bit.png and gtFine/SPLIT/CITY/*_gtFine_labelIds.png"
CURE = "Use the official *_labelIds.png, neither the color nor the trainIds or instanceIds files."


class Cityscapes(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Cityscapes from leftImg8bit/ and gtFine/ (and gtCoarse/), labelIds mapped to 19 classes.

    `fine`: full size; train, val and test as far as they are there (the test split's label maps
    hold no classes). `fine_coarse`: train also holds train_extra with gtCoarse. `ladder`,
    `ladder_coarse`: the same in the protocol of the ladder DenseNet paper (`ladder_frame`).

    Reference: Cordts et al., The Cityscapes dataset for semantic urban scene understanding, CVPR
    2016; Kreso, Krapac, Segvic, Ladder-style DenseNets, ICCV-W 2017, section 4.
    """

    name = "cityscapes"
    VERSION = preparation.VERSION
    TRUTH = ("mask",)
    url_infos = None  # nothing is downloaded; TFDS 4.9.10's lookup needs importlib_resources
    CONFIGS = {
        "fine": "2048x1024, gtFine",
        "fine_coarse": "2048x1024, train with train_extra (gtCoarse)",
        "ladder": "1024x448 protocol of the ladder DenseNet paper, gtFine",
        "ladder_coarse": "1024x448 protocol, train with train_extra (gtCoarse)",
    }

    @staticmethod
    def find(source, config):
        """Returns the `files.Source` of a folder; splits that are absent are left out.

        Raises:
            FileNotFoundError: a missing folder or mask.
            ValueError: an empty split.
        """
        root = files.require_folder(source, "cityscapes", LAYOUT)
        images = files.require_folder(root / "leftImg8bit", "cityscapes", LAYOUT)
        files.require_folder(root / "gtFine", "cityscapes", LAYOUT)
        splits = {}
        for split in ("train", "val", "test"):
            # test counts only where its (class-less) label maps lie: they are not always unpacked
            if (images / split).is_dir() and (split != "test" or (root / "gtFine/test").is_dir()):
                splits[split] = _pairs(root, split, "gtFine")
        if not splits:
            raise FileNotFoundError(
                f"cityscapes: '{images}' has none of train/, val/, test/. Expected {LAYOUT}."
            )
        if config.endswith("_coarse"):
            expected = "the gtCoarse and leftImg8bit_trainextra packages beside the fine ones"
            for folder in ("leftImg8bit/train", "leftImg8bit/train_extra", "gtCoarse/train_extra"):
                files.require_folder(root / folder, f"cityscapes/{config}", expected)
            splits["train"] = splits["train"] + _pairs(root, "train_extra", "gtCoarse")
        return files.Source(root, splits)

    def _info(self):
        _, names, palette = zip(*CLASSES)
        return mask_preparation.segmentation_info(self, names, palette)

    def _split_generators(self, dl_manager):
        del dl_manager
        splits = self.builder_config.source.splits
        return {split: self._generate_examples(split, pairs) for split, pairs in splits.items()}

    def _generate_examples(self, split, pairs):
        labels = mask_preparation.Labels(train_ids(), "Cityscapes", CURE)
        is_ladder = self.builder_config.kind.startswith("ladder")
        encode = _encode_ladder if is_ladder else mask_preparation.encode_example
        return mask_preparation.generate_examples(self, split, pairs, labels, encode)


def train_ids():
    """Returns the label table int16 [256] from label id to train id, IGNORE or INVALID."""
    table = mask_preparation.label_table(0, ignored=range(MAX_LABEL_ID + 1))
    for train_id, (label_id, _, _) in enumerate(CLASSES):
        table[label_id] = train_id
    return table


def ladder_frame(image, label_ids):
    """Applies the ladder paper's protocol to one frame.

    Rows 30 to 900 of 1024 are kept (in proportion where the frame's height is another), the ego
    vehicle is painted with the dataset's mean color, the image is resized bicubically and the
    label ids by nearest neighbor to 1024x448.

    Args:
        image: PIL RGB image, [H, W].
        label_ids: uint8 [H, W].

    Returns:
        (PIL RGB image, label ids uint8 [448, 1024]).
    """
    height, width = label_ids.shape
    top, bottom = (round(row * height / FULL_HEIGHT) for row in LADDER_ROWS)
    pixels = np.array(image)  # [H, W, 3]
    pixels[label_ids == EGO_VEHICLE] = LADDER_MEAN
    box = (0, top, width, bottom)
    image = Image.fromarray(pixels).crop(box).resize(LADDER_SIZE, Image.Resampling.BICUBIC)
    labels = Image.fromarray(label_ids).crop(box).resize(LADDER_SIZE, Image.Resampling.NEAREST)
    return image, np.asarray(labels)


def _pairs(root, split, truth):
    folder = root / "leftImg8bit" / split
    pairs = []
    for image in sorted(folder.glob(f"[!.]*/[!.]*{IMAGE_SUFFIX}")):  # no hidden files
        stem = image.name.removesuffix(IMAGE_SUFFIX)
        city = image.parent.name
        mask = root / truth / split / city / f"{stem}_{truth}_labelIds.png"
        pairs.append(files.Pair(f"{city}/{stem}", image, mask))
    return files.check_pairs(pairs, split, folder)


def _encode_ladder(pair, labels, tally):
    photo, label_ids = mask_preparation.read_pair(pair, tally)
    image, label_ids = ladder_frame(reading.to_rgb(photo.image, pair.image), label_ids)
    return mask_preparation.encode(pair, reading.png_bytes(image), label_ids, labels, tally)
