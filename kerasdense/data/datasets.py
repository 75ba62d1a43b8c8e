"""Datasets on disk as prepared TFDS builders.

All hold `image` uint8 [H, W, 3] RGB and `file_name` text. Segmentation: `mask` uint8 [H, W, 1]
class index, 255 = ignore. Detection, N objects (may be 0): `boxes` float32 [N, 4] xyxy relative to
the image (0..1, continuous), `labels` int64 [N], `difficult` bool [N].
`builder.info.metadata` holds `class_names` (list of str) and `palette` (list of [r, g, b]).
toy_streets has both kinds; its `box_class_names` and `box_palette` are for boxes.
"""

from kerasdense.data import preparation
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


def load(name, source=None, prepared_dir=None):
    """Returns the prepared TFDS builder of a dataset; prepares it first where that is needed.

    The prepared form lies in prepared_dir/DATASET/CONFIG-FINGERPRINT/VERSION, the fingerprint
    being made of the source's path and its files' names, sizes and times: a source that was edited
    is prepared anew. One line says where it lies, another what was odd about the boxes when they
    were prepared. Nothing in the source is written.

    Args:
        name: "camvid", or with a configuration "cityscapes/ladder"; the first is the default.
        source: The dataset's folder; None for toy_streets, which is generated.
        prepared_dir: Where prepared forms lie; None is TFDS' default (~/tensorflow_datasets).

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
    if builder_class is ToyStreets:
        if source is not None:
            raise ValueError(f"{dataset} is generated and takes no source; received '{source}'.")
        return preparation.prepare(ToyStreets, config, None, ToyStreets.fingerprint(), prepared_dir)
    if source is None:
        raise ValueError(f"{dataset} needs a source folder (source, --source).")
    found = builder_class.find(source, config)
    key = preparation.fingerprint(found)
    return preparation.prepare(builder_class, config, found, key, prepared_dir)


def classes(builder, kind):
    """Class names and palette of a prepared dataset: (list of str, list of [r, g, b]).

    `kind`: "mask" or "box"; it matters only where a dataset has both.
    """
    metadata = builder.info.metadata
    prefix = "box_" if kind == "box" and "box_class_names" in metadata else ""
    palette = [list(color) for color in metadata[f"{prefix}palette"]]
    return list(metadata[f"{prefix}class_names"]), palette
