"""Sequences of MOT 2015: their folders, and which frames are meant. Standard library alone."""

import configparser
import dataclasses

INFO, TRUTH, DETECTIONS = "seqinfo.ini", "gt/gt.txt", "det/det.txt"  # in the folder of a sequence
SIDES = ("first", "last")


@dataclasses.dataclass(frozen=True)
class Info:
    """What seqinfo.ini says: the number of frames, the suffix of their images, and (height, width)
    of these or None.
    """

    length: int
    suffix: str
    size: tuple[int, int] | None


@dataclasses.dataclass(frozen=True)
class Frames:
    """A part of the frames of each sequence, counted with and without ground truth.

    `side`: "last" are the last round(share x length) frames, "first" those that the other share
    leaves; so first:0.8 and last:0.2 are train and val of `mot15`. None are all.
    """

    side: str | None = None
    share: float = 1.0

    def of(self, length):
        """The numbers of the frames of a sequence of `length` frames, from 1 on: a range."""
        if self.side is None:
            return range(1, length + 1)
        last = self.share if self.side == "last" else round(1 - self.share, 12)  # 1 - 0.9 is 0.1
        cut = length - round(last * length)
        return range(cut + 1, length + 1) if self.side == "last" else range(1, cut + 1)

    def __str__(self):
        part = "" if self.side is None else f"{self.side} {100 * self.share:g} % of the "
        return f"the {part}frames"


def sequence_folders(root, parts):
    """The folders of the sequences in `root` (Path): a list, empty if there is none.

    `root`: one sequence, known by one of its `parts`; or the folder of sequences, or its parent,
    in which that is named "train".
    """
    if any((root / part).exists() for part in parts):
        return [root.resolve()]  # so that it has a name, also if it is given as "."
    if (root / "train").is_dir():
        root = root / "train"
    return sorted(
        path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def read_info(path):
    """Reads a seqinfo.ini: an `Info`.

    Raises: ValueError for another form, or a length below 1.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"))
        section = parser["Sequence"]
        length, suffix = section.getint("seqLength"), section["imExt"].strip()
        size = section.getint("imHeight"), section.getint("imWidth")
    except (configparser.Error, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"'{path}' cannot be read ({reason}). Expected a section [Sequence] with seqLength, "
            "imExt, imWidth and imHeight."
        ) from error
    if length is None or length < 1:
        raise ValueError(f"'{path}': expected seqLength, at least 1; received {length}.")
    return Info(length, suffix, None if None in size else size)


def check_length(path, boxes, length):
    """Raises ValueError where a file has boxes (`formats.MotBoxes`) after the last frame."""
    if len(boxes.frames) and boxes.frames.max() > length:
        raise ValueError(
            f"'{path}' has boxes in frame {boxes.frames.max()}, but seqinfo.ini says that the "
            f"sequence has {length} frames (seqLength). One of them is wrong."
        )
