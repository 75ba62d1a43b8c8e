"""PASCAL VOC 2012 segmentation, with or without the SBD annotations: 21 classes."""

from pathlib import Path

import tensorflow_datasets as tfds

from kerasdense.data import classes, files, mask_preparation, preparation

# PASCAL VOC 2012 development kit, in its order; colors are its color map (`default_palette`).
CLASS_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip
LAYOUT = (
    "the VOCdevkit folder or its VOC2012, with JPEGImages/, SegmentationClass/ and "
    "ImageSets/Segmentation/"
)
AUGMENTED_LISTS = ("train_aug.txt", "trainaug.txt")  # both names are in use
CURE = "Was it saved as RGB? Use the palette PNGs of SegmentationClass."
OWN = "For data of your own use folder, which reads this layout, too, and needs no lists"


class VocSegmentation(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """VOC 2012 segmentation from a VOCdevkit folder.

    `voc2012`: the official train, val and trainval lists, masks of SegmentationClass.
    `aug`: train with the masks of SegmentationClassAug, by ImageSets/Segmentation/train_aug.txt
    (or trainaug.txt), else every mask there except those of val; val is the official one.
    `keras_fcn`: the split of aurora95/Keras-FCN. S = VOC train + VOC val + SBD train + SBD val,
    val = VOC val minus SBD train, train = S minus val; the SBD lists (SBD's dataset/train.txt and
    val.txt) are read as ImageSets/Segmentation/sbd_train.txt and sbd_val.txt, the masks from
    SegmentationClassAug.

    Reference: Everingham et al., The PASCAL visual object classes challenge, IJCV 2010; Hariharan
    et al., Semantic contours from inverse detectors, ICCV 2011 (SBD).
    """

    name = "voc_segmentation"
    VERSION = preparation.VERSION
    TRUTH = ("mask",)
    url_infos = None  # nothing is downloaded; TFDS 4.9.10's lookup needs importlib_resources
    CONFIGS = {
        "voc2012": "official lists",
        "aug": "train with SegmentationClassAug, official val",
        "keras_fcn": "the split of Keras-FCN, with SegmentationClassAug",
    }

    @staticmethod
    def find(source, config):
        """Returns the `files.Source` of a VOCdevkit or VOC2012 folder.

        Raises:
            FileNotFoundError: a missing folder, list, image or mask.
            ValueError: an empty split, or an image that is in both train and val.
        """
        root = files.require_folder(source, "voc_segmentation", LAYOUT)
        if (root / "VOC2012").is_dir():
            root = root / "VOC2012"
        for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
            files.require_folder(root / folder, "voc_segmentation", f"{LAYOUT}. {OWN}")
        finder = {"voc2012": _official, "aug": _augmented, "keras_fcn": _keras_fcn}[config]
        splits, lists = finder(root)
        pairs = {}
        for split, (stems, folder, origin) in splits.items():
            found = [
                files.Pair(stem, root / "JPEGImages" / f"{stem}.jpg", root / folder / f"{stem}.png")
                for stem in stems
            ]
            pairs[split] = files.check_pairs(found, split, origin)
        return files.Source(root, pairs, tuple(lists))

    def _info(self):
        palette = classes.default_palette(len(CLASS_NAMES))
        return mask_preparation.segmentation_info(self, CLASS_NAMES, palette)

    def _split_generators(self, dl_manager):
        del dl_manager
        splits = self.builder_config.source.splits
        return {split: self._generate_examples(split, pairs) for split, pairs in splits.items()}

    def _generate_examples(self, split, pairs):
        table = mask_preparation.label_table(len(CLASS_NAMES))
        labels = mask_preparation.Labels(table, "VOC", CURE)
        return mask_preparation.generate_examples(self, split, pairs, labels)


def keras_fcn_split(voc_train, voc_val, sbd_train, sbd_val):
    """Returns (train, val) as sorted stems: val = VOC val - SBD train, train = all - val."""
    everything = {*voc_train, *voc_val, *sbd_train, *sbd_val}
    val = set(voc_val) - set(sbd_train)
    return sorted(everything - val), sorted(val)


def stems(path):
    """The stems of a list: they stand there bare, or with what does not count.

    That is a suffix, the flag of lists of one class (a -1), or all of '/JPEGImages/STEM.jpg
    /SegmentationClassAug/STEM.png'.
    """
    entries = [line.split()[0] for line in files.read_list(path)]
    return [Path(entry).stem if entry.endswith((".jpg", ".png")) else entry for entry in entries]


def _list_file(root, name):
    return root / "ImageSets" / "Segmentation" / name


def _official(root):
    splits, lists = {}, []
    for split in ("train", "val", "trainval"):
        path = _list_file(root, f"{split}.txt")
        if split == "trainval" and not path.exists():
            continue
        splits[split] = (stems(path), "SegmentationClass", path)
        lists.append(path)
    return splits, lists


def _augmented(root):
    files.require_folder(
        root / "SegmentationClassAug", "voc_segmentation/aug", "the SBD-augmented label maps"
    )
    val_list = _list_file(root, "val.txt")
    val = stems(val_list)
    lists = [val_list]
    train_lists = [_list_file(root, name) for name in AUGMENTED_LISTS]
    origin = next((path for path in train_lists if path.exists()), None)
    if origin is None:
        origin = root / "SegmentationClassAug"
        train = sorted({path.stem for path in origin.glob("[!.]*.png")} - set(val))
    else:
        train = stems(origin)
        lists.append(origin)
    both = sorted(set(train) & set(val))
    if both:
        raise ValueError(
            f"List '{origin}' holds {len(both)} images of val, such as '{both[0]}': evaluation "
            "would count training images. Take them out of the training list."
        )
    splits = {
        "train": (train, "SegmentationClassAug", origin),
        "val": (val, "SegmentationClass", val_list),
    }
    return splits, lists


def _keras_fcn(root):
    name = "voc_segmentation/keras_fcn"
    files.require_folder(root / "SegmentationClassAug", name, "the SBD-augmented label maps")
    paths = [_list_file(root, f"{stem}.txt") for stem in ("train", "val", "sbd_train", "sbd_val")]
    for path in paths[2:]:
        if not path.exists():
            raise FileNotFoundError(
                f"{name}: '{path}' does not exist. Copy SBD's dataset/train.txt and val.txt there "
                "as sbd_train.txt and sbd_val.txt."
            )
    lists = [stems(path) for path in paths]
    train, val = keras_fcn_split(*lists)
    sizes = ", ".join(f"{path.stem} {len(stems)}" for path, stems in zip(paths, lists))
    print(
        f"{name}: {sizes}; S (union) {len(train) + len(val)}, V (val minus sbd_train) {len(val)}, "
        f"T (S minus V) {len(train)}"
    )
    splits = {
        "train": (train, "SegmentationClassAug", "T = S minus V"),
        "val": (val, "SegmentationClassAug", "V = VOC val minus SBD train"),
    }
    return splits, paths
