"""Datasets on disk as prepared TFDS builders.

All hold `image` uint8 [H, W, 3] RGB and `file_name` text. Segmentation: `mask` uint8 [H, W, 1]
class index, 255 = ignore. Detection, N objects (may be 0): `boxes` float32 [N, 4] xyxy relative to
the image (0..1, continuous), `labels` int64 [N], `difficult` bool [N]. Images are upright: turned
by their EXIF orientation, and their truth with them.
`builder.info.metadata` holds `class_names` (list of str) and `palette` (list of [r, g, b]); where
there are masks, `pixels` {split: those of each class, then those ignored}, `stored_values` and
`sizes` {split: how many different ones};
where there are boxes, `objects` {split: those of each class} and, of them, `difficult_objects`.
toy_streets has both kinds; its `box_class_names` and `box_palette` are for boxes. A builder's TRUTH
names the features by which its kind is known.
"""

import dataclasses
from pathlib import Path

from kerasdense.data import files, preparation
from kerasdense.data.sources.camvid import Camvid
from kerasdense.data.sources.cityscapes import Cityscapes
from kerasdense.data.sources.folder import Folder
from kerasdense.data.sources.folder_detection import FolderDetection
from kerasdense.data.sources.mot15 import Mot15
from kerasdense.data.sources.toy_streets import ToyStreets
from kerasdense.data.sources.voc_detection import VocDetection
from kerasdense.data.sources.voc_segmentation import VocSegmentation

DATASETS = {
    "camvid": Camvid,
    "cityscapes": Cityscapes,
    "voc_segmentation": VocSegmentation,
    "folder": Folder,
    "toy_streets": ToyStreets,
    "voc_detection": VocDetection,
    "mot15": Mot15,
    "folder_detection": FolderDetection,
}


MASKS = "mask"  # the feature by which a dataset of masks is known
BOXES = "boxes"


def load(name, source=None, prepared_dir=None, mask_values=None):
    """Returns the prepared TFDS builder of a dataset; prepares it first where that is needed.

    The prepared form lies in prepared_dir/DATASET/CONFIG-FINGERPRINT/VERSION, the fingerprint
    being made of the source's path and its files' names, sizes and times: a source that was edited
    is prepared anew. One line says where it lies; when it is prepared, another for each split what
    its masks show, or its boxes and what was odd about them. Nothing in the source is written.

    Args:
        name: "camvid", or with a configuration "cityscapes/ladder"; the first is the default.
        source: The dataset's folder; None for toy_streets, which is generated.
        prepared_dir: Where prepared forms lie; None is TFDS' default (~/tensorflow_datasets).
        mask_values: for "folder", the values that its masks store: the i-th is class i. None: each
            is the class of that index. 255 means ignore where it is not listed.

    Raises:
        ValueError: an unknown name, or a file that is not as it should be.
        FileNotFoundError: a folder or file of the source is missing.
        OSError: prepared_dir cannot be written.
    """
    dataset, _, config = name.partition("/")
    if dataset not in DATASETS:
        raise ValueError(f"Unknown dataset '{dataset}': there are {', '.join(DATASETS)}.")
    builder_class = DATASETS[dataset]
    config = config or next(iter(builder_class.CONFIGS))
    if config not in builder_class.CONFIGS:
        raise ValueError(
            f"Unknown configuration '{config}' of {dataset}: there are "
            f"{', '.join(builder_class.CONFIGS)}."
        )
    if mask_values is not None and builder_class is not Folder:
        raise ValueError(
            f"--mask-values is for the masks of your own data, --dataset folder; {dataset} has "
            f"{'masks of fixed values' if MASKS in builder_class.TRUTH else 'no masks'}. Leave it "
            "out."
        )
    if builder_class is ToyStreets:
        if source is not None:
            raise ValueError(f"{dataset} is generated and takes no source; received '{source}'.")
        return preparation.prepare(ToyStreets, config, None, ToyStreets.fingerprint(), prepared_dir)
    if source is None:
        raise ValueError(
            f"{dataset} needs a source folder (source, --source), received none. A run remembers "
            f"where its own lies, an export does not."
        )
    found = builder_class.find(source, config)
    if mask_values is not None:
        found = _with_mask_values(found, tuple(mask_values))
    key = preparation.fingerprint(found)
    return preparation.prepare(builder_class, config, found, key, prepared_dir)


def check_truth(name, features):
    """Raises ValueError where a dataset, by its name, lacks the truth among `features`.

    `features`: names of what is to be read of an example. The message names datasets that have it.
    """
    builder_class = DATASETS.get(name.partition("/")[0])
    wanted = next((truth for truth in (BOXES, MASKS) if truth in features), None)
    if builder_class is None or wanted is None or wanted in builder_class.TRUTH:
        return
    having = [other for other, each in DATASETS.items() if wanted in each.TRUTH]
    own = (FolderDetection if wanted == BOXES else Folder).name
    words = {BOXES: "boxes", MASKS: "masks (label maps)"}
    raise ValueError(
        f"--dataset {name} holds {words[builder_class.TRUTH[0]]}, expected {words[wanted]}: take "
        f"{own} for your own data, or {', '.join(other for other in having if other != own)}."
    )


def has_own_classes(builder):
    """Whether the classes of a prepared dataset are the user's own, no fixed list."""
    return bool(_source(builder).class_names)


def _source(builder):
    """The `Source` of a builder; an empty one where it has none."""
    source = getattr(getattr(builder, "builder_config", None), "source", None)
    return source or files.Source(Path(), {})


def have_one_size(builder, split):
    """Whether all images of a split have one size; False where the dataset does not tell."""
    return builder.info.metadata.get("sizes", {}).get(split) == 1


def unseen_classes(builder, split):
    """Names of the classes that no pixel of the masks of a split has; all if all are ignored.

    None where the dataset does not tell.
    """
    pixels = builder.info.metadata.get("pixels", {}).get(split)
    if pixels is None:
        return None
    names, _ = classes(builder, "mask")
    return [name for name, count in zip(names, pixels) if not count]


def check_objects(builder, split, is_training=False):
    """Names classes of which the objects of a split to be trained on are none.

    A dataset that does not tell passes, and so does a split that it does not have.

    Raises: ValueError if there is no object in it to learn, or none that counts to measure.
    """
    metadata = builder.info.metadata
    objects = metadata.get("objects", {}).get(split)
    if objects is None:
        return
    difficult = sum(metadata["difficult_objects"][split])
    if not any(objects) or (sum(objects) == difficult and not is_training):
        only = f", but {difficult} difficult ones, which do not count" if difficult else ""
        what, flags = "measure", "--validation-split of fit, --split of evaluate"
        if is_training:
            what, flags = "learn", "--train-split"
        cure = f"Choose another split ({flags})"
        if has_own_classes(builder):
            cure += f", or images with objects for '{split}' (splits/{split}.txt)"
        raise ValueError(
            f"The images of the split '{split}' of {builder.name} show no object{only}: there is "
            f"nothing to {what}. {cure}."
        )
    names, _ = classes(builder, "box")
    absent = ", ".join(name for name, count in zip(names, objects) if not count)
    if absent and is_training:
        print(f"{builder.name}: no object of the split '{split}' is of {absent}: not learned")


def _with_mask_values(source, values):
    """The `Source` of a folder whose masks store its classes as `values`."""
    names, written = source.class_names, ",".join(map(str, values))
    if len(values) != len(names):
        raise ValueError(
            f"--mask-values {written}: expected a value for each of the {len(names)} classes "
            f"{', '.join(names)}, received {len(values)}."
        )
    if len(set(values)) < len(values) or not 0 <= min(values) <= max(values) <= 255:
        raise ValueError(
            f"--mask-values {written}: expected different values from 0 to 255, as 8-bit masks "
            "store them."
        )
    return dataclasses.replace(source, mask_values=values)


def classes(builder, kind):
    """Class names and palette of a prepared dataset: (list of str, list of [r, g, b]).

    `kind`: "mask" or "box"; it matters only where a dataset has both.
    """
    metadata = builder.info.metadata
    prefix = "box_" if kind == "box" and "box_class_names" in metadata else ""
    palette = [list(color) for color in metadata[f"{prefix}palette"]]
    return list(metadata[f"{prefix}class_names"]), palette
