"""MOT 2015: pedestrians in 11 training sequences; the last frames of each are val."""

import dataclasses
import functools
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from kerasdense.data import box_preparation, files, formats, mot_sequences, preparation

CLASS_NAMES = ("pedestrian",)
VAL = mot_sequences.Frames("last", 0.2)  # of the frames of each sequence
COLUMNS = 10  # of gt.txt: frame, id, left, top, width, height, conf, x, y, z
COLUMNS_OF_LATER_YEARS = 9  # of MOT16, 17, 20: ... conf, class, visibility
PARTS = (mot_sequences.INFO, "img1", mot_sequences.TRUTH)
LAYOUT = (
    "the train folder of MOT 2015, its parent, or one sequence, with seqinfo.ini, "
    "img1/000001.jpg ... and gt/gt.txt in each sequence"
)


@dataclasses.dataclass(frozen=True)
class Sequence:
    """A sequence: its folder, number of frames, suffix and (height, width) of its images (or None),
    and {frame: float64 [N, 4] continuous boxes in pixels} of the frames with ground truth.
    """

    folder: Path
    length: int
    suffix: str
    size: tuple[int, int] | None
    boxes_of_frame: dict[int, np.ndarray]

    def first_val_frame(self):
        """The first of the last 20 % of all frames, with ground truth or without."""
        return VAL.of(self.length).start


class Mot15(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """MOT 2015's training sequences, for detection: one class, `pedestrian`.

    The last 20 % of the frames of each sequence are val, the others train; then frames without
    ground truth are left out. Ground truth of conf 0 does not count. `file_name` is
    SEQUENCE/FRAME, such as "TUD-Campus/000001".

    Reference: Leal-Taixe et al., MOTChallenge 2015: Towards a benchmark for multi-target tracking,
    2015.
    """

    name = "mot15"
    VERSION = preparation.VERSION
    TRUTH = ("boxes",)
    url_infos = None  # nothing is downloaded; TFDS 4.9.10's lookup needs importlib_resources
    CONFIGS = {"default": "val: the last 20 % of the frames of each sequence"}

    @staticmethod
    def find(source, config):
        """Returns the `files.Source` of the train folder, its parent, or one sequence.

        Raises:
            FileNotFoundError: a missing folder, file or frame.
            ValueError: files of another form, or a split without ground truth.
        """
        del config
        root = files.require_folder(source, "mot15", LAYOUT)
        folders = mot_sequences.sequence_folders(root, PARTS)
        if not folders:
            raise FileNotFoundError(f"mot15: '{root}' holds no sequence. Expected {LAYOUT}.")
        sequences = [read_sequence(folder) for folder in folders]
        splits = {"train": [], "val": []}
        for sequence in sequences:
            for frame in sorted(sequence.boxes_of_frame):
                split = "val" if frame >= sequence.first_val_frame() else "train"
                splits[split].append(_pair(sequence, frame))
        cure = "Frames of MOT 2015 are img1/000001.jpg ...: six digits, imExt of seqinfo.ini."
        for split, pairs in splits.items():
            if not pairs:
                raise ValueError(
                    f"mot15: split '{split}' is empty, since none of its frames in '{root}' has "
                    "ground truth (that of conf 0 does not count)."
                )
            files.check_pairs(pairs, split, root, truth="Ground truth", cure=cure)
        total = sum(sequence.length for sequence in sequences)
        used = sum(map(len, splits.values()))
        print(
            f"mot15: {len(sequences)} sequences of {total} frames in '{root}': "
            f"{len(splits['train'])} train and {len(splits['val'])} val; left out without ground "
            f"truth: {total - used}"
        )
        lists = tuple(folder / mot_sequences.INFO for folder in folders)
        return files.Source(root, splits, lists)

    def _info(self):
        return box_preparation.detection_info(self, CLASS_NAMES)

    def _split_generators(self, dl_manager):
        del dl_manager
        splits = self.builder_config.source.splits
        return {split: self._generate_examples(split, pairs) for split, pairs in splits.items()}

    def _generate_examples(self, split, pairs):
        sequence_of = functools.cache(read_sequence)

        def read_objects(pair):
            sequence = sequence_of(pair.image.parents[1])
            boxes = sequence.boxes_of_frame[int(pair.image.stem)]
            return box_preparation.Objects(
                boxes=boxes,
                labels=np.zeros(len(boxes), np.int64),
                difficult=np.zeros(len(boxes), bool),
                has_area=(boxes[:, 2:] > boxes[:, :2]).all(axis=1),
                size=sequence.size,
            )

        return box_preparation.generate_examples(self, split, pairs, read_objects)


def read_sequence(folder):
    """Reads seqinfo.ini and gt/gt.txt of one sequence.

    Raises:
        FileNotFoundError: a file or img1/ is missing.
        ValueError: a broken file, one of another year's form, or ground truth after the last frame.
    """
    missing = [part for part in PARTS if not (folder / part).exists()]
    if missing:
        raise FileNotFoundError(
            f"mot15: sequence '{folder}' has no {', no '.join(missing)}. Expected {LAYOUT}. "
            "Complete the sequence, take its folder away, or name another sequence as source."
        )
    info = mot_sequences.read_info(folder / mot_sequences.INFO)
    path = folder / mot_sequences.TRUTH
    truth = formats.read_mot(path)
    _check_columns(path)
    counts = truth.confidences != 0
    frames, boxes = truth.frames[counts], truth.boxes[counts]
    mot_sequences.check_length(path, truth, info.length)
    _check_identities(path, frames, truth.identities[counts])
    boxes_of_frame = {frame: boxes[frames == frame] for frame in np.unique(frames).tolist()}
    return Sequence(folder, info.length, info.suffix, info.size, boxes_of_frame)


def _pair(sequence, frame):
    image = sequence.folder / "img1" / f"{frame:06}{sequence.suffix}"
    name = f"{sequence.folder.name}/{frame:06}"
    return files.Pair(name, image, sequence.folder / mot_sequences.TRUTH)


def _check_columns(path):
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        columns = line.count(",") + 1
        if line.strip() and columns != COLUMNS:
            later = ""
            if columns == COLUMNS_OF_LATER_YEARS:
                later = " This is the form of MOT16 and later, with a class and a visibility."
            raise ValueError(
                f"'{path}', line {number}: expected the {COLUMNS} columns of MOT 2015, received "
                f"{columns}.{later}"
            )


def _check_identities(path, frames, identities):
    pairs, counts = np.unique(np.stack([frames, identities], axis=1), axis=0, return_counts=True)
    if (counts > 1).any():
        frame, identity = pairs[counts > 1][0]
        raise ValueError(f"'{path}' holds the object {identity} twice in frame {frame}.")
