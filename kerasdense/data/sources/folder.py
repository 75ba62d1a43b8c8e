"""Your own data: a folder of images, one of masks, and a list of class names."""

import tensorflow_datasets as tfds

from kerasdense.data import classes, files, mask_preparation, preparation
from kerasdense.metrics.labels import IGNORE

MAX_CLASSES = IGNORE  # indices 0 to 254
# Folders of the images, the masks and the split lists: our own layout, and VOC's as labelme has it.
LAYOUTS = (
    ("images", "masks", "splits"),
    ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"),
    ("JPEGImages", "SegmentationClassPNG", "ImageSets/Segmentation"),
)
LAYOUT = (
    "images/, masks/, classes.txt and, optionally, splits/train.txt, val.txt, test.txt; or VOC's "
    "JPEGImages/, SegmentationClass/, ImageSets/Segmentation/*.txt"
)
CLASS_LISTS = ("classes.txt", "class_names.txt")  # the second is labelme's
LOSSY = (".jpg", ".jpeg", ".webp")
SPLITS = ("train", "val", "test")


class Folder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Own data: images/**/STEM.jpg (or png, ...), masks/**/STEM.png, classes.txt.

    A mask is an 8-bit gray, palette or 1-bit PNG whose pixels are class indices: 0 is the first
    line of classes.txt; 255 = ignore. splits/train.txt, val.txt, test.txt list stems (paths below
    images/); without them images/train, val, test are the splits, and without these about one image
    in five is val, chosen by a hash of its stem. Or the layout of VOC.
    """

    name = "folder"
    VERSION = preparation.VERSION
    TRUTH = ("mask",)
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
        images, masks, lists = _layout(root)
        present = (root / name for name in CLASS_LISTS if (root / name).is_file())
        class_list = next(present, root / CLASS_LISTS[0])
        class_names = classes.read_classes(class_list)
        if len(class_names) < 2:
            raise ValueError(
                f"'{class_list}' names one class, '{class_names[0]}', but segmentation tells at "
                "least two apart: name what the other pixels show, too, such as background in the "
                "first line (class 0). Masks may hold other values: --mask-values V0,V1."
            )
        if len(class_names) > MAX_CLASSES:
            raise ValueError(
                f"'{class_list}' has {len(class_names)} classes; at most {MAX_CLASSES} fit in 8 "
                "bits."
            )
        pairs = [
            files.Pair(stem, image, _mask(masks, stem))
            for stem, image in files.images_by_stem(images).items()
        ]
        found = files.own_splits("folder", root, pairs, images, lists, SPLITS)
        for split, chosen in found.pairs.items():
            files.check_pairs(chosen, split, found.origins[split])
        return files.Source(
            root,
            found.pairs,
            (class_list, *found.lists),
            tuple(class_names),
        )

    def _info(self):
        names = self.builder_config.source.class_names
        palette = classes.default_palette(len(names))
        return mask_preparation.segmentation_info(self, names, palette)

    def _split_generators(self, dl_manager):
        del dl_manager
        splits = self.builder_config.source.splits
        return {split: self._generate_examples(split, pairs) for split, pairs in splits.items()}

    def _generate_examples(self, split, pairs):
        source = self.builder_config.source
        if source.mask_values:
            table = mask_preparation.mapped_table(source.mask_values)
            cure = "Correct the mask, or the values that are listed."
            labels = mask_preparation.Labels(table, "--mask-values", cure)
        else:
            table = mask_preparation.label_table(len(source.class_names))
            cure = (
                "Add the class to classes.txt, correct the mask (255 is ignored), or say which "
                "values mean the classes: --mask-values V0,V1,..."
            )
            labels = mask_preparation.Labels(table, "classes.txt", cure)
        return mask_preparation.generate_examples(self, split, pairs, labels)


def _layout(root):
    """Returns the folders of images, masks and lists (that one may be absent)."""
    for names in LAYOUTS:
        images, masks, lists = (root / name for name in names)
        if images.is_dir() and masks.is_dir():
            return images, masks, lists
    for part in LAYOUTS[0][:2]:
        files.require_folder(root / part, "folder", LAYOUT)


def _mask(folder, stem):
    """The path of a mask: a PNG, whether it is there or not.

    Raises:
        ValueError: it is there in another format.
    """
    path = folder / f"{stem}.png"
    for there in (path, path.with_suffix(".PNG")):
        if there.is_file():
            return there
    for suffix in files.IMAGE_SUFFIXES:
        other = path.with_suffix(suffix)
        if other.is_file():
            lossy = ", whose compression alters class indices" if suffix in LOSSY else ""
            raise ValueError(
                f"The mask '{other}' is {suffix[1:].upper()}{lossy}: expected PNG, '{path}'. Save "
                "it as PNG from the original."
            )
    return path
