"""Finding the files of a dataset, and saying which one is missing.

A builder lists the pairs of a source folder, split by split: a `Source`.
"""

import dataclasses
import hashlib
import itertools
import os
from pathlib import Path, PurePosixPath

from kerasdense.data import formats

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")  # of own data
VAL_SHARE = 0.2  # of the images of own data that come without split lists, about
SPLIT_NAMES = {  # of sub-folders of the images, and of lists, that are splits; in any case
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


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

    `class_names` where they are the source's own; `mask_values`: the values by which its label
    maps store these, if they are others than 0, 1, ...
    """

    root: Path
    splits: dict[str, list[Pair]]
    lists: tuple[Path, ...] = ()
    class_names: tuple[str, ...] = ()
    mask_values: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Splits:
    """The splits of own data, {name: its pairs}; `origins`: {name: the list or folder that says so}

    `lists`: the list files that were read.
    """

    pairs: dict[str, list[Pair]]
    origins: dict[str, Path]
    lists: tuple[Path, ...] = ()


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


def walk(folder):
    """The files below a folder, sorted; linked folders are entered, hidden files left out.

    Hidden are names that begin with a dot, such as the `._a.jpg` that macOS puts beside `a.jpg`. A
    link to a folder that it lies in is not followed.
    """
    found = []
    above = {str(folder): {os.path.realpath(folder)}}  # where each folder lies, links resolved
    for place, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        found += [Path(place, name) for name in names if not name.startswith(".")]
        entered = []
        for name in folders:
            path = os.path.join(place, name)
            real = os.path.realpath(path)
            if not name.startswith(".") and real not in above[place]:
                above[path] = above[place] | {real}
                entered.append(name)
        folders[:] = entered  # os.walk enters these
    return sorted(path for path in found if path.is_file())


def _raise(error):
    raise error


def images_by_stem(folder):
    """Returns {stem: path} of the images below a folder; a stem is the path without suffix.

    Raises:
        ValueError: two images of one stem, such as a.jpg and a.png.
    """
    found = {}
    for path in walk(folder):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            stem = path.relative_to(folder).with_suffix("").as_posix()
            if stem in found:
                raise ValueError(
                    f"'{folder}' holds '{stem}' twice: {found[stem].name} and {path.name}. Which "
                    "of them the ground truth belongs to is unknown: take one away."
                )
            found[stem] = path
    return found


def own_splits(dataset, root, pairs, images, lists, names):
    """Returns the `Splits` of own data.

    They are given by lists, else by the sub-folders of the images, else by a hash.

    Args:
        dataset: its name, for messages.
        root: its folder.
        pairs: all pairs.
        images: the folder of the images.
        lists: the folder of the lists SPLIT.txt of pairs' names; it may be absent or without lists.
        names: of the splits that lists give; the first must be there.

    Raises:
        FileNotFoundError: no list of the first split, or a list names what is not there.
        ValueError: an empty list, splits that share images, too few images, or images beside the
            folders of the splits.
    """
    if any(not path.name.startswith(".") for path in lists.glob("*.txt")):
        return listed_splits(lists, names, pairs, images)
    folders = _split_folders_in(images)
    filled = {pair.name.split("/")[0] for pair in pairs if "/" in pair.name}
    there = {_split_of(name) for name in folders if name in filled}
    empty = [
        name
        for name in folders
        if name not in filled and (_split_of(name) != "train" or "train" in there)
    ]
    if empty:
        names = ", ".join(f"{name}/" for name in empty)
        print(f"{dataset}: folders of '{images}' that hold no image are left out: {names}")
        folders = [name for name in folders if name not in empty]
    if folders:
        return split_folders(dataset, images, folders, pairs)
    return hashed_splits(pairs, dataset, root, lists.relative_to(root))


def _split_of(name):
    """The split that a folder or list of this name is, or None."""
    return SPLIT_NAMES.get(name.casefold())


def _split_folders_in(images):
    """The names of the sub-folders that are splits, train first."""
    order = list(SPLIT_NAMES)
    found = [path.name for path in images.iterdir() if _split_of(path.name) and path.is_dir()]
    return sorted(found, key=lambda name: (order.index(name.casefold()), name))


def listed_splits(folder, names, pairs, images):
    """Returns the `Splits` given by the lists `folder`/SPLIT.txt of pairs' names.

    The name of a list is one of SPLIT_NAMES, in any case, or trainval. A name in it may carry the
    folder of the images, the suffix of its image, or the flag of VOC's lists of one class (-1, 0,
    1).

    Args:
        folder: where the lists lie.
        names: of the splits; the list of the first must be there, the others may be absent.
        pairs: all pairs.
        images: the folder of the images, for the message.

    Raises:
        FileNotFoundError: no list of the first split, or a list names what is not there.
        ValueError: an empty list, two lists of one split, or splits that share images.
    """
    by_name = {pair.name: pair for pair in pairs}
    lists = _lists_in(folder, names)
    splits, origins = {}, {}
    for split in names:
        path = lists.get(split)
        if path is None:
            if split != names[0]:
                continue
            there = ", ".join(sorted(other.name for other in folder.glob("*.txt"))) or "no list"
            raise FileNotFoundError(
                f"List '{folder / split}.txt' does not exist. Expected {', '.join(names)} (.txt), "
                f"of which {split} must be there; found {there}."
            )
        chosen = []
        for entry in read_list(path):
            below = entry.removeprefix(f"{images.name}/")
            possible = (*possible_names(entry), *possible_names(below))
            name = next((name for name in possible if name in by_name), None)
            if name is None:
                raise FileNotFoundError(
                    f"List '{path}' names '{entry}', but there is no image of this name in "
                    f"'{images}'. Entries are paths below {images.name}/, with or without suffix."
                )
            chosen.append(by_name[name])
        splits[split], origins[split] = chosen, path
    check_disjoint(splits, folder)
    return Splits(splits, origins, lists=tuple(origins.values()))


def _lists_in(folder, names):
    """The lists in a folder by the split, one of `names`, that their names say: {split: path}."""
    found = {}
    for path in sorted(folder.glob("*.txt")):
        split = _split_of(path.stem) or path.stem.casefold()
        if split not in names:
            continue
        if split in found:
            raise ValueError(
                f"'{folder}' holds both {found[split].name} and {path.name}: expected one list of "
                f"the split {split}."
            )
        found[split] = path
    return found


def possible_names(entry):
    """What an entry of a list may name, best first: itself, without suffix, without VOC's flag."""
    names = []
    for text in (entry, formats.LISTED.fullmatch(entry)[1]):
        path = PurePosixPath(text)
        is_image = path.suffix.lower() in IMAGE_SUFFIXES
        names += [text, str(path.with_suffix(""))] if is_image else [text]
    return names


def split_folders(dataset, images, folders, pairs):
    """Returns the `Splits` given by sub-folders of the images: train/, val/, test/.

    Args:
        dataset: its name, for messages.
        images: the folder of the images.
        folders: the names of those sub-folders, some of SPLIT_NAMES in any case.
        pairs: all pairs.

    Raises:
        ValueError: no train/, two folders of one split, or images beside them.
    """
    splits, origins = {}, {}
    for name in folders:
        split = _split_of(name)
        if split in splits:
            raise ValueError(
                f"{dataset}: '{images}' holds both {origins[split].name}/ and {name}/: expected "
                f"one folder of the split {split}."
            )
        splits[split] = [pair for pair in pairs if pair.name.split("/")[0] == name]
        origins[split] = images / name
    there = ", ".join(f"{name}/" for name in folders)
    instead = "or name all images in lists, splits/train.txt and val.txt"
    if "train" not in splits:
        raise ValueError(
            f"{dataset}: '{images}' holds {there} but no train/. Folders of these names are "
            f"splits, of which train must be there: add it, rename the folder, {instead}."
        )
    beside = [pair for pair in pairs if pair.name.split("/")[0] not in folders]
    if beside:
        raise ValueError(
            f"{dataset}: '{images}' holds the splits {there} and beside them {len(beside)} images, "
            f"such as '{beside[0].image}'. Which split they belong to is unknown: move them into "
            f"one, {instead}."
        )
    sizes = ", ".join(f"{split} {len(chosen)}" for split, chosen in splits.items())
    print(f"{dataset}: the folders {there} of '{images}' are the splits: {sizes} images")
    return Splits(splits, origins)


def hashed_splits(pairs, dataset, root, lists):
    """Returns `Splits`: about one image in five is val.

    It is those whose names' SHA-256, as a fraction, lies below VAL_SHARE: the same on every
    machine, and the same whatever images are added. Of a few images, all or none may lie there:
    then the one that is nearest to the other side goes there.

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
    ordered = sorted(pairs, key=lambda pair: _fraction(pair.name))
    count = sum(_fraction(pair.name) < VAL_SHARE for pair in pairs)
    moved = ""
    if count in (0, len(pairs)):
        count, split, other = (1, "val", "train") if count == 0 else (count - 1, "train", "val")
        chosen = ordered[0] if split == "val" else ordered[-1]
        moved = (
            f"; the hash gave {split} none of so few, and '{chosen.name}' was taken from {other}: "
            "that may change when images are added"
        )
    print(
        f"{dataset}: '{root}' has no {lists}/*.txt: by a hash of their names "
        f"{len(ordered) - count} images are train and {count} are val{moved}"
    )
    by_split = {"train": ordered[count:], "val": ordered[:count]}
    splits = {
        split: sorted(chosen, key=lambda pair: pair.name) for split, chosen in by_split.items()
    }
    return Splits(splits, dict.fromkeys(splits, root))


def _fraction(name):
    """The SHA-256 of a name as a fraction, from 0 to 1."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


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
