"""Finding the files of a dataset, and saying which one is missing.

A builder lists the pairs of a source folder, split by split: a `Source`.
"""

import dataclasses
import hashlib
import itertools
from pathlib import Path

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


def images_by_stem(folder):
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
