"""PASCAL VOC 2007 and 2012 detection: 20 classes, boxes, difficult objects flagged."""

import tensorflow_datasets as tfds

from kerasdense.data import box_preparation, files, preparation
from kerasdense.data.sources import voc_segmentation

CLASS_NAMES = voc_segmentation.CLASS_NAMES[1:]  # without background
LAYOUT = "the VOCdevkit folder or its VOC{year}, with JPEGImages/, Annotations/ and ImageSets/Main/"
YEARS = ("2007", "2012")
CURE = "For classes of your own use folder_detection, which reads this layout, too."
OWN = "For data of your own use folder_detection, which reads this layout, too, and needs no lists"


class VocDetection(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """VOC detection from a VOCdevkit folder, by the lists of ImageSets/Main.

    `voc2012`, `voc2007`: the official train, val and trainval lists, and test where all of its
    annotations are there (those of 2012 are held back). `07+12`: train is trainval of 2007 and of
    2012, val is test of 2007: the protocol of the SSD paper.

    Difficult objects are examples like others, with `difficult` True: they train, and evaluation
    leaves them out.

    Reference: Everingham et al., The PASCAL visual object classes challenge, IJCV 2010; Liu et
    al., SSD: Single shot multibox detector, ECCV 2016, section 3.1.
    """

    name = "voc_detection"
    VERSION = preparation.VERSION
    TRUTH = ("boxes",)
    url_infos = None  # nothing is downloaded; TFDS 4.9.10's lookup needs importlib_resources
    CONFIGS = {
        "voc2012": "official lists of 2012",
        "voc2007": "official lists of 2007",
        "07+12": "train: trainval of 2007 and 2012, val: test of 2007",
    }

    @staticmethod
    def find(source, config):
        """Returns the `files.Source` of a VOCdevkit folder (or that of one year).

        Raises:
            FileNotFoundError: a missing folder, list, image or annotation.
            ValueError: an empty list, doubled entries, or an image in both train and val.
        """
        if config == "07+12":
            return _both_years(source)
        return _one_year(source, config.removeprefix("voc"))

    def _info(self):
        return box_preparation.detection_info(self, CLASS_NAMES)

    def _split_generators(self, dl_manager):
        del dl_manager
        splits = self.builder_config.source.splits
        return {split: self._generate_examples(split, pairs) for split, pairs in splits.items()}

    def _generate_examples(self, split, pairs):
        def read_objects(pair):
            return box_preparation.voc_objects(pair.truth, CLASS_NAMES, CURE)

        return box_preparation.generate_examples(self, split, pairs, read_objects)


def _one_year(source, year):
    name = f"voc_detection/voc{year}"
    root = files.require_folder(source, name, LAYOUT.format(year=year))
    if root.resolve().name in [f"VOC{other}" for other in YEARS if other != year]:
        raise FileNotFoundError(
            f"{name}: '{root}' is another year. Expected {LAYOUT.format(year=year)}."
        )
    if (root / f"VOC{year}").is_dir():
        root = root / f"VOC{year}"
    _require_year(root, year, name)
    splits = {}
    for split in ("train", "val", "trainval", "test"):
        path = _list_file(root, split)
        if split in ("trainval", "test") and not path.exists():
            continue
        pairs = _pairs(root, split)
        missing = [pair for pair in pairs if not pair.truth.is_file()]
        if split == "test" and missing:
            print(
                f"{name}: test is left out, since {len(missing)} of its {len(pairs)} images have "
                f"no annotation, such as '{missing[0].name}'"
            )
            continue
        splits[split] = box_preparation.check_pairs(pairs, split, path)
    files.check_disjoint(splits, root / "ImageSets/Main")
    return files.Source(root, splits, tuple(_list_file(root, split) for split in splits))


def _both_years(source):
    name = "voc_detection/07+12"
    expected = "the VOCdevkit folder, with VOC2007/ and VOC2012/"
    root = files.require_folder(source, name, expected)
    for year in YEARS:
        files.require_folder(root / f"VOC{year}", name, expected)
        _require_year(root / f"VOC{year}", year, name)
    parts = {
        "train": [(root / f"VOC{year}", "trainval") for year in YEARS],
        "val": [(root / "VOC2007", "test")],
    }
    if not _list_file(*parts["val"][0]).exists():
        raise FileNotFoundError(
            f"{name}: '{_list_file(*parts['val'][0])}' does not exist, and test of 2007 is what "
            "07+12 evaluates on. Unpack VOCtest_06-Nov-2007.tar there, or use voc2007 or voc2012 "
            "with their own val."
        )
    splits, origins, lists = {}, [], []
    for split, folders in parts.items():
        found = [(year_root, _pairs(year_root, part), part) for year_root, part in folders]
        for year_root, pairs, part in found:
            lists.append(_list_file(year_root, part))
            box_preparation.check_pairs(pairs, split, lists[-1])
        together = [pair for _, pairs, _ in found for pair in pairs]
        splits[split] = box_preparation.check_pairs(together, split, root)
        sizes = " + ".join(f"{where.name} {part} {len(pairs)}" for where, pairs, part in found)
        origins.append(f"{split} = {sizes}")
    files.check_disjoint(splits, root)
    print(f"{name}: {', '.join(origins)}")
    return files.Source(root, splits, tuple(lists))


def _require_year(root, year, name):
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        files.require_folder(root / folder, name, f"{LAYOUT.format(year=year)}. {OWN}")


def _list_file(root, split):
    return root / "ImageSets" / "Main" / f"{split}.txt"


def _pairs(root, split):
    path = _list_file(root, split)
    if not path.is_file():
        raise FileNotFoundError(f"voc_detection: list '{path}' does not exist. {OWN}.")
    return [
        files.Pair(stem, root / "JPEGImages" / f"{stem}.jpg", root / "Annotations" / f"{stem}.xml")
        for stem in voc_segmentation.stems(path)
    ]
