"""Your own data: a folder of images, one of masks, and a list of class names."""

import hashlib

import tensorflow_datasets as tfds

from kerasdense.datasets import preparation

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
VAL_SHARE = 0.2  # of the images, where splits/ is absent
MAX_CLASSES = 255  # 255 itself is IGNORE
LAYOUT = "images/, masks/, classes.txt and, optionally, splits/train.txt, val.txt, test.txt"


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
        read_classes(root)
        images = sorted(
            path
            for path in (root / "images").rglob("*")
            if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
        )
        pairs = [_pair(root, image) for image in images]
        lists = [root / "classes.txt"]
        if (root / "splits").is_dir():
            found, split_lists = _listed_splits(root, pairs)
            lists += split_lists
        else:
            found = _hashed_splits(root, pairs)
        return preparation.Source(root, found, tuple(lists))

    def _info(self):
        names = read_classes(self.builder_config.source.root)
        return preparation.dataset_info(self, names, preparation.default_palette(len(names)))

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
    names = preparation.read_list(path)
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ValueError(f"'{path}' names the class '{doubled[0]}' twice.")
    if len(names) > MAX_CLASSES:
        raise ValueError(f"'{path}' has {len(names)} classes; at most {MAX_CLASSES} fit in 8 bits.")
    return names


def _pair(root, image):
    stem = image.relative_to(root / "images").with_suffix("").as_posix()
    return preparation.Pair(stem, image, root / "masks" / f"{stem}.png")


def _listed_splits(root, pairs):
    by_stem = {pair.name: pair for pair in pairs}
    splits, lists, split_of = {}, [], {}
    for split in ("train", "val", "test"):
        path = root / "splits" / f"{split}.txt"
        if split != "train" and not path.exists():
            continue
        stems = preparation.read_list(path)
        for stem in stems:
            if stem not in by_stem:
                raise FileNotFoundError(
                    f"List '{path}' names '{stem}', but there is no image '{stem}.*' in "
                    f"'{root / 'images'}'. Entries are paths below images/ without suffix."
                )
            if split_of.setdefault(stem, split) != split:
                raise ValueError(
                    f"'{stem}' is in both {split_of[stem]} and {split} of '{path.parent}': "
                    "evaluation would count training images."
                )
        chosen = [by_stem[stem] for stem in stems]
        splits[split] = preparation.check_pairs(chosen, split, path)
        lists.append(path)
    return splits, lists


def _hashed_splits(root, pairs):
    """One image in five is val: those whose stems hash lowest, so the same on every machine."""
    if len(pairs) < 2:
        raise ValueError(
            f"folder: found {len(pairs)} images in '{root / 'images'}', which is too few to split "
            "into train and val (at least 2)."
        )
    ordered = sorted(pairs, key=lambda pair: hashlib.sha256(pair.name.encode()).digest())
    count = max(1, round(VAL_SHARE * len(ordered)))
    by_name = {"train": ordered[count:], "val": ordered[:count]}
    print(
        f"folder: '{root}' has no splits/: by a hash of their names {len(ordered) - count} images "
        f"are train and {count} are val"
    )
    return {
        split: preparation.check_pairs(sorted(chosen, key=lambda pair: pair.name), split, root)
        for split, chosen in by_name.items()
    }
