"""CamVid in the layout of the SegNet tutorial: 11 classes of street scenes, 480x360."""

from pathlib import Path, PurePosixPath

import tensorflow_datasets as tfds

from kerasdense.data import files, mask_preparation, preparation

# Class order of the SegNet label maps (0-10; 11 is void), colors of the CamVid annotations.
CLASSES = {
    "Sky": (128, 128, 128),
    "Building": (128, 0, 0),
    "Pole": (192, 192, 128),
    "Road": (128, 64, 128),
    "Pavement": (60, 40, 222),
    "Tree": (128, 128, 0),
    "SignSymbol": (192, 128, 128),
    "Fence": (64, 64, 128),
    "Car": (64, 0, 128),
    "Pedestrian": (64, 64, 0),
    "Bicyclist": (0, 128, 192),
}
VOID = 11
LAYOUT = "SegNet's layout: train/, trainannot/, train.txt, and the same for val and test"


class Camvid(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """CamVid, SegNet layout: train.txt and optional val.txt, test.txt name images and label maps.

    Reference: Brostow, Fauqueur, Cipolla, Semantic object classes in video, PRL 2009; splits and
    label maps of Badrinarayanan, Kendall, Cipolla, SegNet, 2017.
    """

    name = "camvid"
    VERSION = preparation.VERSION
    TRUTH = ("mask",)
    url_infos = None  # nothing is downloaded; TFDS 4.9.10's lookup needs importlib_resources
    CONFIGS = {"default": "11 classes, void (11) ignored"}

    @staticmethod
    def find(source, config):
        """Returns the `files.Source` of a folder; only train must be there.

        Raises:
            FileNotFoundError: a missing folder, list, image or mask.
            ValueError: an empty or malformed list.
        """
        del config
        root = files.require_folder(source, "camvid", LAYOUT)
        splits, lists = {}, []
        for split in ("train", "val", "test"):
            list_file = root / f"{split}.txt"
            if split != "train" and not list_file.exists() and not (root / split).exists():
                continue
            if not list_file.exists():
                raise FileNotFoundError(
                    f"camvid: list '{list_file}' does not exist. Expected {LAYOUT}."
                )
            pairs = [_pair(root, list_file, line) for line in files.read_list(list_file)]
            splits[split] = files.check_pairs(pairs, split, list_file)
            lists.append(list_file)
        return files.Source(root, splits, tuple(lists))

    def _info(self):
        return mask_preparation.segmentation_info(self, CLASSES, CLASSES.values())

    def _split_generators(self, dl_manager):
        del dl_manager
        splits = self.builder_config.source.splits
        return {split: self._generate_examples(split, pairs) for split, pairs in splits.items()}

    def _generate_examples(self, split, pairs):
        table = mask_preparation.label_table(len(CLASSES), ignored=[VOID])
        cure = "Use the label maps of SegNet's CamVid folder (trainannot/, ...)."
        labels = mask_preparation.Labels(table, "CamVid", cure)
        return mask_preparation.generate_examples(self, split, pairs, labels)


def _pair(root, list_file, line):
    """The lists name files under a foreign prefix (/SegNet/CamVid/): the last two parts count."""
    fields = line.split()
    if len(fields) != 2:
        raise ValueError(
            f"List '{list_file}': expected 'IMAGE MASK' on each line, received '{line}'."
        )
    image, mask = (Path(root, *PurePosixPath(field).parts[-2:]) for field in fields)
    return files.Pair(image.stem, image, mask)
