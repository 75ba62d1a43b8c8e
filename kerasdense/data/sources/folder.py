"""Your own data: a folder of images, one of masks, and a list of class names."""

import tensorflow_datasets as tfds

from kerasdense.data import classes, files, mask_preparation
from kerasdense.metrics.labels import IGNORE

MAX_CLASSES = IGNORE  # indices 0 to 254
LAYOUT = "images/, masks/, classes.txt and, optionally, splits/train.txt, val.txt, test.txt"
SPLITS = ("train", "val", "test")


class Folder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Own data: images/**/STEM.jpg (or png, ...), masks/**/STEM.png, classes.txt.

    A mask is an 8-bit gray, palette or 1-bit PNG whose pixels are class indices: 0 is the first
    line of classes.txt; 255 = ignore. splits/train.txt, val.txt, test.txt list stems (paths below
    images/ without suffix); without them one image in five is val, chosen by a hash of its stem.
    """

    name = "folder"
    VERSION = tfds.core.Version("1.0.0")
    url_infos = None  # nothing is downloaded; TFDS 4.9.10's lookup needs importlib_resources
    CONFIGS = {"default": "classes as in classes.txt"}

    @staticmethod
    def find(source, config):
        """Returns the `files.Source` of a folder.

        Raises:
            FileNotFoundError: a missing folder, list, image or mask.
            ValueError: an empty split, a list with doubled entries, or too many classes.
        """
        del config
        root = files.require_folder(source, "folder", LAYOUT)
        for part in ("images", "masks"):
            files.require_folder(root / part, "folder", LAYOUT)
        class_list = root / "classes.txt"
        class_names = classes.read_classes(class_list)
        if len(class_names) > MAX_CLASSES:
            raise ValueError(
                f"'{class_list}' has {len(class_names)} classes; at most {MAX_CLASSES} fit in 8 "
                "bits."
            )
        pairs = [
            files.Pair(stem, image, root / "masks" / f"{stem}.png")
            for stem, image in files.images_by_stem(root / "images").items()
        ]
        lists = [class_list]
        if (root / "splits").is_dir():
            found = files.listed_splits(root / "splits", SPLITS, pairs, root / "images")
            lists += [path for _, path in found.values()]
        else:
            found = files.hashed_splits(pairs, "folder", root, "splits")
        splits = {
            split: files.check_pairs(chosen, split, origin)
            for split, (chosen, origin) in found.items()
        }
        return files.Source(root, splits, tuple(lists), tuple(class_names))

    def _info(self):
        names = self.builder_config.source.class_names
        palette = classes.default_palette(len(names))
        return mask_preparation.segmentation_info(self, names, palette)

    def _split_generators(self, dl_manager):
        del dl_manager
        splits = self.builder_config.source.splits
        return {split: self._generate_examples(pairs) for split, pairs in splits.items()}

    def _generate_examples(self, pairs):
        table = mask_preparation.label_table(len(self.info.metadata["class_names"]))
        cure = "Add the class to classes.txt, or correct the mask (255 is ignored)."
        for pair in pairs:
            yield pair.name, mask_preparation.encode_example(pair, table, "classes.txt", cure)
