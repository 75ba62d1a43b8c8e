"""Your own data for detection: a folder of images and one of VOC annotations (XML)."""

import collections

import tensorflow_datasets as tfds

from kerasdense.data import box_preparation, classes, files, preparation

# Folders of the images, the annotations and the split lists: our own layout, and that of VOC.
LAYOUTS = (("images", "annotations", "splits"), ("JPEGImages", "Annotations", "ImageSets/Main"))
LAYOUT = (
    "images/, annotations/ (VOC XML of the same stems) and, optionally, classes.txt and "
    "splits/train.txt, val.txt, test.txt; or VOC's JPEGImages/, Annotations/, ImageSets/Main/*.txt"
)
CLASS_LISTS = ("box_classes.txt", "classes.txt")  # the first that is there counts
SPLITS = ("train", "val", "trainval", "test")


class FolderDetection(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Own data: images/**/STEM.jpg (or png, ...), annotations/**/STEM.xml; or the layout of VOC.

    Every image has an annotation; one without <object> says that the image shows none. The classes
    are the lines of classes.txt (it may name more than occur), else the names in the annotations,
    sorted. Where classes.txt belongs to masks of the same images, box_classes.txt goes first.
    splits/train.txt, val.txt, test.txt list stems (paths below images/); without them images/train,
    val, test are the splits, and without these about one image in five is val, chosen by a hash of
    its stem.
    """

    name = "folder_detection"
    VERSION = preparation.VERSION
    TRUTH = ("boxes",)
    url_infos = None  # nothing is downloaded; TFDS 4.9.10's lookup needs importlib_resources
    CONFIGS = {"default": "classes as in classes.txt or in the annotations"}

    @staticmethod
    def find(source, config):
        """Returns the `files.Source` of a folder.

        Raises:
            FileNotFoundError: a missing folder, list, image or annotation.
            ValueError: an empty split, a list with doubled entries, splits that overlap, or
                annotations that cannot be read for their classes.
        """
        del config
        root = files.require_folder(source, "folder_detection", LAYOUT)
        images, annotations, lists = _layout(root)
        pairs = [
            files.Pair(stem, image, annotations / f"{stem}.xml")
            for stem, image in files.images_by_stem(images).items()
        ]
        _check_format(pairs, annotations)
        found = files.own_splits("folder_detection", root, pairs, images, lists, SPLITS)
        for split, chosen in found.pairs.items():
            box_preparation.check_pairs(chosen, split, found.origins[split])
        listed = list(found.lists)
        class_list = next((root / n for n in CLASS_LISTS if (root / n).is_file()), None)
        if class_list is None:
            class_names = _collect_classes(root, found.pairs)
        else:
            class_names = classes.read_classes(class_list)
            listed.append(class_list)
        return files.Source(root, found.pairs, tuple(listed), tuple(class_names))

    def _info(self):
        return box_preparation.detection_info(self, self.builder_config.source.class_names)

    def _split_generators(self, dl_manager):
        del dl_manager
        splits = self.builder_config.source.splits
        return {split: self._generate_examples(split, pairs) for split, pairs in splits.items()}

    def _generate_examples(self, split, pairs):
        class_names = self.builder_config.source.class_names
        cure = f"Correct the name, or add the class to {' or '.join(CLASS_LISTS)}."

        def read_objects(pair):
            return box_preparation.voc_objects(pair.truth, class_names, cure)

        return box_preparation.generate_examples(self, split, pairs, read_objects)


def _layout(root):
    """Returns the folders of images, annotations and lists (that one may be absent)."""
    for names in LAYOUTS:
        images, annotations, lists = (root / name for name in names)
        if images.is_dir() and annotations.is_dir():
            return images, annotations, lists
    missing = [f"{images}/ with {annotations}/" for images, annotations, _ in LAYOUTS]
    raise FileNotFoundError(
        f"folder_detection: '{root}' has neither {' nor '.join(missing)}. Expected {LAYOUT}. "
        f"{_other_format(root)}".rstrip()
    )


def _check_format(pairs, annotations):
    """Raises ValueError if there are annotations, but in a format that is not read."""
    if pairs and not any(pair.truth.is_file() for pair in pairs):
        other = _other_format(annotations)
        if other:
            raise ValueError(f"folder_detection: {other}")


def _other_format(folder):
    """A text about annotations of another format that a folder holds; "" if there are none."""
    for path in files.walk(folder):
        if path.suffix.lower() == ".json":
            what = "JSON, as COCO and labelme write it"
        elif path.suffix.lower() == ".txt" and "labels" in path.relative_to(folder).parts:
            what = "YOLO's text"
        else:
            continue
        return (
            f"'{path}' is {what}, which is not read, but PASCAL VOC XML, one file an image, "
            "annotations/STEM.xml: labeling tools export it as 'Pascal VOC'."
        )
    return ""


def _collect_classes(root, splits):
    """Returns the sorted names of all objects, and prints how often each occurs."""
    paths = sorted({pair.truth for pairs in splits.values() for pair in pairs})
    counts = collections.Counter(
        name for path in paths for name in box_preparation.read_voc(path).names
    )
    if not counts:
        raise ValueError(
            f"folder_detection: there is nothing to learn, expected objects in the annotations of "
            f"'{root}', received none in {len(paths)} files."
        )
    listed = ", ".join(f"{name} ({counts[name]})" for name in sorted(counts))
    print(
        f"folder_detection: '{root}' has no classes.txt: its annotations name {len(counts)} "
        f"classes: {listed}"
    )
    return sorted(counts)
