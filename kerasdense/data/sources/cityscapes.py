"""Cityscapes: 19 classes of street scenes, 2048x1024, fine and coarse annotations."""

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from kerasdense.data import cityscapes_frames, files, mask_preparation, preparation, reading
from kerasdense.data.cityscapes_frames import CLASSES, LADDER, MAX_LABEL_ID

IMAGE_SUFFIX = f"_{cityscapes_frames.IMAGES}.png"
LAYOUT = "leftImg8bit/SPLIT/CITY/*_leftImg8bit.png and gtFine/SPLIT/CITY/*_gtFine_labelIds.png"
CURE = "Use the official *_labelIds.png, neither the color nor the trainIds or instanceIds files."


class Cityscapes(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Cityscapes from leftImg8bit/ and gtFine/ (and gtCoarse/), labelIds mapped to 19 classes.

    `fine`: full size; train, val and test as far as they are there (the test split's label maps
    hold no classes). `fine_coarse`: train also holds train_extra with gtCoarse; `extra`: it holds
    that alone. `ladder`, `ladder_coarse`, `ladder_extra`: the same in the protocol of
    the ladder DenseNet paper: rows 30 to 900 of 1024 (in proportion where the frame's height is
    another), the ego vehicle painted with the dataset's mean color, resized to 1024x448, the label
    ids by nearest neighbor.

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
        "extra": "2048x1024, train is train_extra (gtCoarse) alone",
        "ladder": "1024x448 protocol of the ladder DenseNet paper, gtFine",
        "ladder_coarse": "1024x448 protocol, train with train_extra (gtCoarse)",
        "ladder_extra": "1024x448 protocol, train is train_extra (gtCoarse) alone",
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
        if config.endswith(("coarse", "extra")):
            expected = "the gtCoarse and leftImg8bit_trainextra packages beside the fine ones"
            fine = ("leftImg8bit/train",) if config.endswith("coarse") else ()
            for folder in (*fine, "leftImg8bit/train_extra", "gtCoarse/train_extra"):
                files.require_folder(root / folder, f"cityscapes/{config}", expected)
            pairs = _pairs(root, "train_extra", "gtCoarse")
            splits["train"] = [*splits["train"], *pairs] if fine else pairs
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
        protocol = cityscapes_frames.protocol_of(f"{self.name}/{self.builder_config.kind}")
        encode = _encode_ladder if protocol is LADDER else mask_preparation.encode_example
        return mask_preparation.generate_examples(self, split, pairs, labels, encode)


def train_ids():
    """Returns the label table int16 [256] from label id to train id, IGNORE or INVALID."""
    table = mask_preparation.label_table(0, ignored=range(MAX_LABEL_ID + 1))
    for train_id, (label_id, _, _) in enumerate(CLASSES):
        table[label_id] = train_id
    return table


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
    frame = np.asarray(reading.to_rgb(photo.image, pair.image))
    image = reading.png_bytes(Image.fromarray(LADDER.picture(frame, label_ids)))
    return mask_preparation.encode(pair, image, LADDER.labels(label_ids), labels, tally)
