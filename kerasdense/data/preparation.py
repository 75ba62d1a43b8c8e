"""What the dataset builders share: finding files, checking them, and preparing them once.

A builder lists the pairs of a source folder (`Source`), `prepare` turns them into TFDS' prepared
form in a directory whose name carries a fingerprint of the source files, and `encode_example`
checks each pair of image and label map on the way. Pairs of image and boxes: `box_preparation`.
"""

import contextlib
import dataclasses
import hashlib
import io
import itertools
import os
import sys
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from absl import logging as absl_logging
from PIL import Image, UnidentifiedImageError

from kerasdense.metrics.labels import IGNORE

INVALID = -1  # entry of a label table: this value must not occur
EXIF_ORIENTATION = 0x0112
SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")  # of own data
VAL_SHARE = 0.2  # of the images of own data that come without split lists


@dataclasses.dataclass(frozen=True)
class Pair:
    """One image and the file of its ground truth: a label map, or one that holds its boxes.

    `name` (unique in its split) is stored as `file_name`.
    """

    name: str
    image: Path
    truth: Path


@dataclasses.dataclass(frozen=True)
class Source:
    """What a builder reads: the folder, the pairs of each split, and the lists that name them.

    `class_names` where they are the source's own.
    """

    root: Path
    splits: dict[str, list[Pair]]
    lists: tuple[Path, ...] = ()
    class_names: tuple[str, ...] = ()


@dataclasses.dataclass(eq=False)
class SourceConfig(tfds.core.BuilderConfig):
    """A TFDS configuration that knows its source; `name` carries the fingerprint."""

    kind: str = ""  # the name without the fingerprint, such as "ladder"
    source: Source | None = None
    notes: list[str] = dataclasses.field(default_factory=list)  # of a builder at work, to print


# --- finding the files -------------------------------------------------------------------------


def require_folder(folder, dataset, expected):
    """Returns `folder` as a Path.

    Raises:
        FileNotFoundError: it is not a folder; `expected` says what should lie there.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise FileNotFoundError(f"{dataset}: '{folder}' {what}. Expected {expected}.")
    return folder


def read_list(path):
    """Returns the non-empty lines of a list file, stripped.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no lines, or not UTF-8 text.
    """
    if not path.is_file():
        raise FileNotFoundError(f"List file '{path}' does not exist.")
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"List file '{path}' is not UTF-8 text: {error}.") from None
    lines = [line for line in lines if line]
    if not lines:
        raise ValueError(f"List file '{path}' is empty: expected one entry a line.")
    return lines


def read_classes(path):
    """Returns the class names of a list file, one a line.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no names, or one that stands twice.
    """
    names = read_list(path)
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ValueError(f"'{path}' names the class '{doubled[0]}' twice.")
    return names


def find_images(folder):
    """Returns {stem: path} of the images below a folder; a stem is the path without suffix.

    Raises:
        ValueError: two images of one stem, such as a.jpg and a.png.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            stem = path.relative_to(folder).with_suffix("").as_posix()
            if stem in found:
                raise ValueError(
                    f"'{folder}' holds '{stem}' twice: {found[stem].name} and {path.name}. Which "
                    "of them the ground truth belongs to is unknown: take one away."
                )
            found[stem] = path
    return found


def listed_splits(folder, names, pairs, images):
    """Returns {split: (its pairs, its list file)} by the lists `folder`/SPLIT.txt of pairs' names.

    Args:
        folder: where the lists lie.
        names: of the splits; the list of the first must be there, the others may be absent.
        pairs: all pairs.
        images: the folder of the images, for the message.

    Raises:
        FileNotFoundError: no list of the first split, or a list names what is not there.
        ValueError: an empty list, or splits that share images.
    """
    by_name = {pair.name: pair for pair in pairs}
    splits = {}
    for split in names:
        path = folder / f"{split}.txt"
        if not path.exists():
            if split != names[0]:
                continue
            there = ", ".join(sorted(other.name for other in folder.glob("*.txt"))) or "no list"
            raise FileNotFoundError(
                f"List '{path}' does not exist. Expected {', '.join(names)} (.txt), of which "
                f"{split} must be there; found {there}."
            )
        stems = read_list(path)
        for stem in stems:
            if stem not in by_name:
                raise FileNotFoundError(
                    f"List '{path}' names '{stem}', but there is no image '{stem}.*' in "
                    f"'{images}'. Entries are paths below {images.name}/ without suffix."
                )
        splits[split] = ([by_name[stem] for stem in stems], path)
    check_disjoint({split: chosen for split, (chosen, _) in splits.items()}, folder)
    return splits


def hashed_splits(pairs, dataset, root, lists):
    """Returns {split: (its pairs, root)}: one image in five is val.

    Those are val whose names hash lowest, so the same on every machine.

    Args:
        pairs: all pairs.
        dataset: its name, and
        root: its folder, for the message.
        lists: the folder of lists that is not there, for the message.

    Raises:
        ValueError: fewer than two pairs.
    """
    if len(pairs) < 2:
        raise ValueError(
            f"{dataset}: found {len(pairs)} images in '{root}', which is too few to split into "
            "train and val (at least 2)."
        )
    ordered = sorted(pairs, key=lambda pair: hashlib.sha256(pair.name.encode()).digest())
    count = max(1, round(VAL_SHARE * len(ordered)))
    print(
        f"{dataset}: '{root}' has no {lists}/: by a hash of their names {len(ordered) - count} "
        f"images are train and {count} are val"
    )
    by_split = {"train": ordered[count:], "val": ordered[:count]}
    return {
        split: (sorted(chosen, key=lambda pair: pair.name), root)
        for split, chosen in by_split.items()
    }


def check_disjoint(splits, origin):
    """Raises ValueError if two splits {split: pairs} share a name; trainval is train and val."""
    names = {split: {pair.name for pair in pairs} for split, pairs in splits.items()}
    for one, other in itertools.combinations(names, 2):
        if "trainval" in (one, other) and "test" not in (one, other):
            continue
        both = sorted(names[one] & names[other])
        if both:
            raise ValueError(
                f"'{both[0]}' is in both {one} and {other} of '{origin}': evaluation would count "
                "training images."
            )


def check_pairs(pairs, split, origin, truth="Mask", cure="Restore the file or take the entry out."):
    """Returns `pairs` if there are any, each name stands once, and all their files exist.

    Args:
        pairs: of one split.
        split: its name.
        origin: the list or folder that asks for them, for the message.
        truth: what the ground truth is called, and
        cure: what to do where a file is missing, for the message.

    Raises:
        ValueError: an empty split, or a name that stands twice.
        FileNotFoundError: an image or its ground truth is missing.
    """
    if not pairs:
        raise ValueError(f"Split '{split}' is empty: found no images through '{origin}'.")
    seen = set()
    for pair in pairs:
        if pair.name in seen:
            raise ValueError(f"'{origin}' names '{pair.name}' twice in split '{split}'.")
        seen.add(pair.name)
        for role, path in (("Image", pair.image), (truth, pair.truth)):
            if not path.is_file():
                raise FileNotFoundError(
                    f"{role} '{path}' does not exist, but '{origin}' asks for it in split "
                    f"'{split}'. {cure}"
                )
    return pairs


# --- reading and checking the files ------------------------------------------------------------


def label_table(num_classes, ignored=()):
    """Returns int16 [256] from stored value to class index, IGNORE, or INVALID."""
    table = np.full(256, INVALID, np.int16)
    table[:num_classes] = np.arange(num_classes)
    table[[IGNORE, *ignored]] = IGNORE
    return table


def open_image(path, role):
    """Returns (bytes, PIL image), completely decoded.

    Raises:
        ValueError: the file cannot be read, is no image, or is truncated or damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{role} '{path}' cannot be read: {error.strerror}.") from None
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except UnidentifiedImageError:
        raise ValueError(
            f"{role} '{path}' ({len(data)} bytes) is not an image that Pillow can read."
        ) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{role} '{path}' cannot be decoded ({error}). It is truncated or damaged: copy it "
            "again from the original."
        ) from None
    return data, image


def to_rgb(image, path):
    """Converts a PIL image of any usual mode to RGB; 16 bits keep their high byte, alpha is cut.

    Raises:
        ValueError: floating point pixels, or integers beyond 16 bits.
    """
    if image.mode in SIXTEEN_BIT_MODES:
        pixels = np.asarray(image).astype(np.int64)
        if pixels.min() < 0 or pixels.max() > 65535:
            raise ValueError(
                f"Image '{path}' has values {pixels.min()} to {pixels.max()}: expected 8 or 16 "
                "bits. Save it as 8-bit RGB."
            )
        return Image.fromarray((pixels >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError(
            f"Image '{path}' has floating point pixels: expected 8 or 16 bits. Save it as RGB."
        )
    return image.convert("RGB")


def png_bytes(image):
    """Encodes a PIL image as PNG: quickly rather than tightly, decoding costs the same."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def png_bit_depth(data):
    """Returns the bits a sample of PNG file bytes (IHDR), or None if they are no PNG."""
    return data[24] if data.startswith(b"\x89PNG\r\n\x1a\n") else None


def read_image(path):
    """Reads a photograph; 8-bit RGB JPEG and PNG files keep their bytes, the rest becomes PNG.

    EXIF orientation is not applied: masks and boxes belong to the pixels as they are stored, and
    TensorFlow decodes these.

    Returns:
        (encoded bytes, PIL image RGB or of the file's mode).

    Raises:
        ValueError: unreadable, truncated or of an unusual pixel type.
    """
    data, image = open_image(path, "Image")
    is_plain = image.format in ("JPEG", "MPO") or png_bit_depth(data) == 8
    if image.mode == "RGB" and is_plain:
        return data, image
    return png_bytes(to_rgb(image, path)), image


def read_mask(path):
    """Reads a label map as stored: class indices uint8 [H, W], palette indices never as colors.

    Raises:
        ValueError: unreadable, truncated, colored, 16-bit or stored with loss.
    """
    data, image = open_image(path, "Label map")
    if image.format in ("JPEG", "MPO"):
        raise ValueError(
            f"Label map '{path}' is a JPEG file, whose compression alters class indices. Save it "
            "as PNG from the original."
        )
    if image.mode not in ("L", "P", "1"):
        kind = "16-bit grey" if image.mode in SIXTEEN_BIT_MODES else f"mode {image.mode}"
        raise ValueError(
            f"Label map '{path}' is {kind}; expected 8-bit grey or palette, each pixel a class "
            "index. Was it saved as colors? Use the palette or index PNGs, or convert it."
        )
    values = np.asarray(image).astype(np.uint8)  # [H, W]
    depth = png_bit_depth(data)
    if image.mode == "L" and depth in (2, 4):  # Pillow stretches 2- and 4-bit grey to 0..255
        values //= 255 // (2**depth - 1)
    return values


def to_classes(values, table, path, dataset, cure):
    """Maps stored values uint8 [H, W] to class indices uint8 [H, W] by a `label_table`.

    Raises:
        ValueError: a value that the table does not admit.
    """
    classes = table[values]
    if (classes == INVALID).any():
        bad = int(values[classes == INVALID].max())
        raise ValueError(
            f"Label map '{path}' contains class {bad} but {dataset} has {_describe(table)}. {cure}"
        )
    return classes.astype(np.uint8)


def _describe(table):
    """Returns such as "11 classes (0-10; 11, 255 = ignore)"."""
    classes = np.flatnonzero((table != INVALID) & (table != IGNORE))
    ignored = np.flatnonzero(table == IGNORE)
    if len(classes) != classes[-1] - classes[0] + 1:  # with gaps: say what may occur at all
        highest = max(classes[-1], ignored[:-1].max(initial=0))
        return f"{len(classes)} classes (values 0-{highest} and {IGNORE} may occur)"
    names = " and ".join(map(str, ignored))
    return f"{len(classes)} classes ({classes[0]}-{classes[-1]}, {names} = ignore)"


def check_same_size(pair, image, mask):
    """Raises ValueError unless the PIL image and the mask [H, W] have one size."""
    height, width = mask.shape
    if image.size != (width, height):
        orientation = image.getexif().get(EXIF_ORIENTATION, 1)
        note = ""
        if orientation != 1:
            note = (
                f" The image carries EXIF orientation {orientation}, which is not applied here: "
                "save it upright if the mask was drawn on the rotated view."
            )
        raise ValueError(
            f"Mask '{pair.truth}' is {width}x{height} but its image '{pair.image}' is "
            f"{image.width}x{image.height}: both must have one size (width x height).{note}"
        )


def encode_example(pair, table, dataset, cure):
    """Reads, checks and encodes one pair of image and mask for `dataset_info`, `mask_feature`.

    Raises:
        ValueError: naming the file that is at fault.
    """
    encoded, image = read_image(pair.image)
    values = read_mask(pair.truth)  # [H, W]
    check_same_size(pair, image, values)
    classes = to_classes(values, table, pair.truth, dataset, cure)
    return {
        "image": encoded,
        "mask": png_bytes(Image.fromarray(classes)),
        "file_name": pair.name,
    }


# --- preparing ---------------------------------------------------------------------------------


def default_palette(num_classes):
    """Returns [[r, g, b], ...]: the PASCAL VOC color map, which spreads an index' bits.

    Reference: PASCAL VOC development kit, VOCcolormap (bit k of the index, three bits a round,
    goes to the next lower bit of red, green and blue).
    """
    palette = []
    for index in range(num_classes):
        color = [0, 0, 0]
        for bit in range(8):
            channel, shift = bit % 3, 7 - bit // 3
            color[channel] |= (index >> bit & 1) << shift
        palette.append(color)
    return palette


def mask_feature():
    """Returns the feature of segmentation, besides those that every dataset has."""
    return {"mask": tfds.features.Image(shape=(None, None, 1), encoding_format="png")}


def dataset_info(builder, class_names, palette, features):
    """Returns the DatasetInfo: image, file_name and `features`; metadata class_names, palette."""
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "file_name": tfds.features.Text(),
            **features,
        }
    )
    metadata = tfds.core.MetadataDict(
        class_names=list(class_names), palette=[list(color) for color in palette]
    )
    return tfds.core.DatasetInfo(
        builder=builder,
        description=(type(builder).__doc__ or "").strip(),
        features=features,
        metadata=metadata,
    )


def fingerprint(source):
    """Returns "PATH8-FILES12": hashes of the folder's path, and of its files' names, sizes, times.

    Only files that the builder reads count: those of the pairs and the lists.
    """
    files = {*source.lists}
    for pairs in source.splits.values():
        files.update(path for pair in pairs for path in (pair.image, pair.truth))
    digest = hashlib.sha256()
    for path in sorted(files):
        status = path.stat()
        relative = os.path.relpath(path, source.root)
        digest.update(f"{relative}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    place = hashlib.sha256(os.path.realpath(source.root).encode()).hexdigest()
    return f"{place[:8]}-{digest.hexdigest()[:12]}"


def prepare(builder_class, kind, source, key, prepared_dir=None):
    """Returns a builder whose prepared form is complete, preparing it where it is not there.

    Args:
        builder_class: A TFDS builder that takes a `SourceConfig`.
        kind: The dataset's configuration, such as "ladder".
        source: `Source`, or None if the builder generates its examples.
        key: Fingerprint, "PLACE-FILES": part of the directory's name.
        prepared_dir: TFDS' data directory; None is TFDS' own default.

    Raises:
        ValueError, FileNotFoundError: from the builder, naming the file at fault.
        OSError: the directory cannot be written.
    """
    config = SourceConfig(name=f"{kind}-{key}", kind=kind, source=source)
    with _quiet_tfds():
        builder = builder_class(config=config, data_dir=prepared_dir and os.fspath(prepared_dir))
    label = f"{builder_class.name}/{kind}"
    if (builder.data_path / "dataset_info.json").exists():
        counts = _counts({name: split.num_examples for name, split in builder.info.splits.items()})
        print(f"{label}: reusing the prepared form in {builder.data_dir} ({counts})", flush=True)
        return builder
    if builder.data_path.exists():
        raise OSError(
            f"'{builder.data_dir}' is no complete prepared form (dataset_info.json is missing). "
            "Delete this folder and run again."
        )
    directory = Path(builder.data_dir).parent
    _report_changed_source(label, kind, key, directory, source)
    counts = _counts({name: len(pairs) for name, pairs in source.splits.items()}) if source else ""
    print(f"{label}: preparing {counts or 'all splits'} in {builder.data_dir}", flush=True)
    try:
        _download_and_prepare(builder)
    finally:
        with contextlib.suppress(OSError):  # goes only if empty: nothing of a failure stays behind
            directory.rmdir()
    if config.notes:
        print(f"{label}: {'; '.join(config.notes)}", flush=True)
    return builder


def _counts(sizes):
    """Returns such as "367 train + 101 val images"."""
    return " + ".join(f"{size} {name}" for name, size in sizes.items()) + " images"


def _report_changed_source(label, kind, key, directory, source):
    """Says so if the same folder was prepared before, with other files in it."""
    place = key.split("-")[0]
    old = [
        path.parent.parent
        for path in sorted(directory.parent.glob(f"{kind}-{place}-*/*/dataset_info.json"))
        if "incomplete." not in path.parent.name
    ]
    if old:
        names = ", ".join(str(path) for path in old)
        what = f"'{source.root}'" if source else "the generator"
        print(f"{label}: {what} changed since it was prepared in {names} (left alone)")


def _download_and_prepare(builder):
    import tensorflow as tf  # TFDS writes through it, and its errors are no OSError

    tfds.display_progress_bar(enable=sys.stderr.isatty())
    offline = tfds.download.DownloadConfig(try_download_gcs=False)
    try:
        with _quiet_tfds():
            builder.download_and_prepare(download_config=offline)
    except (OSError, RuntimeError, tf.errors.OpError) as caught:
        # TFDS wraps what TensorFlow's writer raises; builders raise ValueError while they read
        error = caught.__cause__ if type(caught) is RuntimeError else caught
        if not isinstance(error, (OSError, tf.errors.OpError)):
            raise
        reason = getattr(error, "strerror", None) or getattr(error, "message", None) or str(error)
        raise OSError(
            f"Cannot write the prepared form of {builder.name} to '{builder.data_dir}': "
            f"{' '.join(reason.split())}. Make room or allow writing there, or choose another "
            "directory (prepared_dir, --prepared-dir)."
        ) from caught


@contextlib.contextmanager
def _quiet_tfds():
    """TFDS prints of downloads, and warns of each configuration that is not a fixed one."""
    verbosity = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        absl_logging.set_verbosity(verbosity)
