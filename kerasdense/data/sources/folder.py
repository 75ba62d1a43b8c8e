"""Your own data: a folder of images, one of masks, and a list of class names."""

import tensorflow_datasets as tfds

from kerasdense.data import preparation

MAX_CLASSES = 255  # 255 itself is IGNORE
LAYOUT = "images/, masks/, classes.txt and, optionally, splits/train.txt, val.txt, test.txt"
SPLITS = ("train", "val", "test")


class Folder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Own data: images/**/STEM.jpg (or png, ...), masks/**/STEM.png, classes.txt.

    A mask is an 8-bit grey, palette or 1-bit PNG whose pixels are class indices: 0 is the first
    line of classes.txt; 255 = ignore. splits/train.txt, val.txt, test.txt list stems (paths below
    images/ without suffix); without them one image in five is val, chosen by a hash of its stem.
    """

    name = "folder"
    VERSION = tfds.core.Version("1.0.0")
    url_infos = None  # nothing is downloaded; TFDS 4.9.10's lookup needs importlib_resources
    CONFIGS = {"default": "classes as in classes.txt"}

    @staticmethod
    def find(source, config):
        """Returns the `preparation.Source` of a folder.

        Raises:
            FileNotFoundError: a missing folder, list, image or mask.
            ValueError: an empty split, or a list with doubled entries.
        """
        del config
        root = preparation.require_folder(source, "folder", LAYOUT)
        for part in ("images", "masks"):
            preparation.require_folder(root / part, "folder", LAYOUT)
        class_names = read_classes(root)
        pairs = [
            preparation.Pair(stem, image, root / "masks" / f"{stem}.png")
            for stem, image in preparation.find_images(root / "images").items()
        ]
        lists = [root / "classes.txt"]
        if (root / "splits").is_dir():
            found = preparation.listed_splits(root / "splits", SPLITS, pairs, root / "images")
            lists += [path for _, path in found.values()]
        else:
            found = preparation.hashed_splits(pairs, "folder", root, "splits")
        splits = {
            split: preparation.check_pairs(chosen, split, origin)
            for split, (chosen, origin) in found.items()
        }
        return preparation.Source(root, splits, tuple(lists), tuple(class_names))

    def _info(self):
        names = self.builder_config.source.class_names
        palette = preparation.default_palette(len(names))
        return preparation.dataset_info(self, names, palette, preparation.mask_feature())

    def _split_generators(self, dl_manager):
        del dl_manager
        splits = self.builder_config.source.splits
        return {split: self._generate_examples(pairs) for split, pairs in splits.items()}

    def _generate_examples(self, pairs):
        table = preparation.label_table(len(self.info.metadata["class_names"]))
        cure = "Add the class to classes.txt, or correct the mask (255 is ignored)."
        for pair in pairs:
            yield pair.name, preparation.encode_example(pair, table, "classes.txt", cure)


def read_classes(root):
    """Returns the class names of root/classes.txt.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no names, a name that stands twice, or more than 255.
    """
    path = root / "classes.txt"
    if not path.exists():
        raise FileNotFoundError(
            f"folder: '{path}' does not exist. Write the class names there, one a line; the first "
            "is class 0 of the masks."
        )
    names = preparation.read_classes(path)
    if len(names) > MAX_CLASSES:
        raise ValueError(f"'{path}' has {len(names)} classes; at most {MAX_CLASSES} fit in 8 bits.")
    return names
