"""Average precision of detections from anywhere: one JSON line on standard output.

    kerasdense evaluate-detections --format mot --detections MOT15/train/TUD-Campus/det/det.txt \\
        --ground-truth MOT15/train/TUD-Campus/gt/gt.txt
    kerasdense evaluate-detections --format mot --ground-truth MOT15/train \\
        --detections MOT15/train --frames last:0.2
    kerasdense evaluate-detections --format voc --ground-truth VOCdevkit/VOC2007/Annotations \\
        --detections results --image-set VOCdevkit/VOC2007/ImageSets/Main/test.txt

mot: one class, "pedestrian", over all frames; ground truth of confidence 0 is ignored. The det.txt
of MOT 2015 is the output of the ACF detector: on the last 20 % of all training sequences, the
second command, its published AP is 60.2 %; on all frames of TUD-Campus alone the first command
prints 0.595 (ap_area).

mot with two folders: all sequences of --ground-truth, SEQ/gt/gt.txt, with SEQ/det/det.txt of
--detections; each folder is that of the sequences, its parent (in which it is named train), or one
sequence. The line tells the boxes of all sequences pooled, and `sequences` each one's. So are the
frames and objects those of the dataset mot15, and the numbers can be compared with those of
`kerasdense evaluate`: --frames last:0.2 is its val. Frames without ground truth are left out, with
the detections in them, and both are counted. Boxes are cut to the picture, and objects left out
that lie beside it, where seqinfo.ini tells its size; without that file the last frame of gt.txt is
the last of the sequence. --frames with two files does the same for one sequence. Two files without
--frames are measured as they are: a detection in a frame without ground truth is wrong.

voc: `--detections` is a folder of comp4_det_IMAGESET_CLASS.txt (or comp3). The classes are those
of the annotations and of the result files; one without a result file has no detections. Difficult
objects neither count nor punish. Detections in images outside the image set are an error, as in
the VOC devkit.

ap_area is the area under the precision-recall curve, ap_11point VOC2007's mean over eleven recall
levels. A class without an object that counts has null and is left out of the means.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np

from kerasdense.cli.arguments import positive
from kerasdense.data import formats, mot_sequences  # like the metrics light: no TensorFlow, Keras
from kerasdense.metrics import tables
from kerasdense.metrics.average_precision import (
    Detections,
    GroundTruth,
    joined,
    voc_average_precision,
)

FIGURES = ("ap_area", "ap_11point", "mean_ap_area", "mean_ap_11point")
COUNTS = ("ground_truth", "detections", "true_positives", "false_positives")
MOT_CLASSES = ["pedestrian"]
MOT_PARTS = (mot_sequences.INFO, mot_sequences.TRUTH, mot_sequences.DETECTIONS)
MOT_LAYOUT = (
    "a folder of sequences (SEQ/gt/gt.txt and SEQ/det/det.txt), its parent, or one sequence"
)


@dataclasses.dataclass(frozen=True)
class Sequence:
    """What counts of one sequence of MOT: an image is a frame.

    `frames`: those asked for, a range; `measured`: how many of them have ground truth; `left_out`:
    how many detections lie in the others.
    """

    name: str
    frames: range
    measured: int
    left_out: int
    ground_truth: GroundTruth
    detections: Detections

    def counts(self):
        """What beside the figures is told of it."""
        return {
            "frames": self.measured,
            "left_out_frames": len(self.frames) - self.measured,
            "left_out_detections": self.left_out,
        }


def frames(text):
    """Parses `all`, or `last:0.2` and `first:0.8`, into `mot_sequences.Frames`."""
    if text == "all":
        return mot_sequences.Frames()
    side, _, share = text.partition(":")
    try:
        share = float(share)
    except ValueError:
        share = 0.0
    if side not in mot_sequences.SIDES or not 0 < share <= 1:
        raise argparse.ArgumentTypeError(
            f"expected all, last:SHARE or first:SHARE with a share above 0 up to 1, such as "
            f"last:0.2; received '{text}'"
        )
    return mot_sequences.Frames(side, share)


def add_arguments(parser):
    parser.add_argument("--format", choices=("mot", "voc"), required=True, help="of the files")
    parser.add_argument(
        "--ground-truth",
        type=Path,
        required=True,
        help="gt.txt or a folder of sequences, or the folder of VOC's XML",
    )
    parser.add_argument(
        "--detections",
        type=Path,
        required=True,
        help="det.txt or a folder of sequences, or the folder of VOC results",
    )
    parser.add_argument(
        "--image-set",
        type=Path,
        metavar="FILE",
        help="the list of images: required for voc, and only there (default: none)",
    )
    parser.add_argument(
        "--frames",
        type=frames,
        metavar="all|last:SHARE|first:SHARE",
        help="of mot, the frames of each sequence that are measured: last:0.2 are the last "
        "round(0.2 x length) ones, first:0.8 all but these (default: all)",
    )
    parser.add_argument(
        "--iou", type=positive(float), default=0.5, help="a detection is right from this IoU on"
    )


def run(arguments):
    if (arguments.format == "voc") != (arguments.image_set is not None):
        raise ValueError(
            "--format voc needs --image-set FILE, the list of images, such as "
            "ImageSets/Main/val.txt."
            if arguments.format == "voc"
            else "--image-set names the images of --format voc alone: leave it out."
        )
    if arguments.format == "voc" and arguments.frames is not None:
        raise ValueError("--frames is of sequences, --format mot: --image-set names VOC's images.")
    if arguments.format == "mot":
        _check_pair(arguments.ground_truth, arguments.detections)
    are_folders = arguments.ground_truth.is_dir()
    if arguments.format == "mot" and (are_folders or arguments.frames is not None):
        sequences = read_sequences(arguments)
        line = measured_sequences(sequences, arguments.iou, are_folders)
    else:
        read = {"mot": read_mot, "voc": read_voc}[arguments.format]
        line = measured(*read(arguments), arguments.iou)
    print(json.dumps(line))


def measured(class_names, ground_truth, detections, iou):
    """Average precisions and counts, a dict for JSON."""
    result = voc_average_precision(ground_truth, detections, len(class_names), iou)
    absent = [
        name for name, figures in zip(class_names, result.classes) if not figures.ground_truth
    ]
    if absent:
        print(f"No object that counts of {', '.join(absent)}: AP is null.", file=sys.stderr)
    found = tables.average_precisions(result, class_names)
    line = {key: found[key] for key in FIGURES}
    return line | {count: sum(getattr(each, count) for each in result.classes) for count in COUNTS}


# --- MOT ---------------------------------------------------------------------------------------


def _check_pair(truth, found):
    """Raises ValueError unless both are files, or both folders; or one is not there."""
    if not (truth.exists() and found.exists()) or truth.is_dir() == found.is_dir():
        return
    kinds = {True: "a folder", False: "a file"}
    folder = truth if truth.is_dir() else found
    there = ", ".join(sorted(path.name for path in folder.glob("*.txt"))[:5])
    raise ValueError(
        f"--ground-truth '{truth}' is {kinds[truth.is_dir()]}, --detections '{found}' "
        f"{kinds[found.is_dir()]}{f' with {there}' if there else ''}. Expected two files, or two "
        f"folders, each {MOT_LAYOUT}."
    )


def read_mot(arguments):
    """Class names, GroundTruth and Detections of MOT files: an image is a frame."""
    truth = formats.read_mot(arguments.ground_truth)
    counts = truth.confidences != 0
    found = formats.read_mot(arguments.detections)
    print(
        f"{np.sum(counts)} objects in {len(np.unique(truth.frames[counts]))} frames "
        f"({np.sum(~counts)} of confidence 0 ignored); "
        f"{len(found.frames)} detections in {len(np.unique(found.frames))} frames.",
        file=sys.stderr,
    )
    ground_truth = _ground_truth(truth.frames[counts], truth.boxes[counts])
    return MOT_CLASSES, ground_truth, _detections(found.frames, found.boxes, found.confidences)


def read_sequences(arguments):
    """The `Sequence`s of two folders, or of two files: a list.

    Raises:
        FileNotFoundError: a file or folder is missing.
        ValueError: a file beside a folder, a broken file, or none of the frames has ground truth.
    """
    chosen = arguments.frames or mot_sequences.Frames()
    if arguments.ground_truth.is_dir():
        files = _files_of_sequences(arguments.ground_truth, arguments.detections)
    else:
        folder = arguments.ground_truth.resolve().parent.parent  # of SEQ/gt/gt.txt
        files = [(folder, arguments.ground_truth, arguments.detections)]
    sequences = [_read_sequence(*each, chosen) for each in files]
    if not any(sequence.measured for sequence in sequences):
        raise ValueError(
            f"None of {chosen} of '{arguments.ground_truth}' has ground truth (that of confidence "
            "0 does not count): there is nothing to measure. Choose other --frames."
        )
    return sequences


def _files_of_sequences(truth_root, root):
    """(folder, gt.txt, det.txt) of each sequence of the ground truth."""
    if not root.exists():
        raise FileNotFoundError(f"--detections '{root}' does not exist. Expected {MOT_LAYOUT}.")
    folders = mot_sequences.sequence_folders(truth_root, MOT_PARTS)
    if not folders:
        raise FileNotFoundError(
            f"--ground-truth '{truth_root}' holds no sequence. Expected {MOT_LAYOUT}."
        )
    found = mot_sequences.sequence_folders(root, (mot_sequences.DETECTIONS,))
    folder_of = {folder.name: folder for folder in found}
    is_one = (root / mot_sequences.DETECTIONS).exists()
    if is_one and len(folders) == 1:
        folder_of = {folders[0].name: root}  # whatever its name
    files = []
    for folder in folders:
        truth = folder / mot_sequences.TRUTH
        if not truth.is_file():
            raise FileNotFoundError(
                f"Sequence '{folder}' has no {mot_sequences.TRUTH}. Expected {MOT_LAYOUT}. "
                "Complete the sequence, take its folder away, or name another sequence."
            )
        detections = folder_of.get(folder.name, root / folder.name) / mot_sequences.DETECTIONS
        if not detections.is_file():
            raise FileNotFoundError(
                f"Sequence {folder.name} has ground truth, but no detections: '{detections}' does "
                "not exist. Add it (an empty file, if nothing was detected), or name one sequence "
                "that has both by --ground-truth."
            )
        files.append((folder, truth, detections))
    return files


def _read_sequence(folder, truth_path, detections_path, chosen):
    truth, found = formats.read_mot(truth_path), formats.read_mot(detections_path)
    info_path = folder / mot_sequences.INFO
    size = None
    if info_path.is_file():
        info = mot_sequences.read_info(info_path)
        length, size = info.length, info.size
        mot_sequences.check_length(truth_path, truth, length)
        mot_sequences.check_length(detections_path, found, length)
    else:
        length = int(truth.frames.max(initial=0))
        print(
            f"{folder.name} has no seqinfo.ini: {length} frames, as its ground truth ends there; "
            "boxes as they are written",
            file=sys.stderr,
        )
    frames = chosen.of(length)
    counts = (truth.confidences != 0) & _is_among(truth.frames, frames)
    is_chosen = _is_among(found.frames, frames)
    with_truth = np.unique(truth.frames[counts])
    kept = np.isin(found.frames, with_truth)
    truth_boxes, boxes = truth.boxes[counts], found.boxes[kept]
    if size is not None:  # as mot15 prepares the truth, and as its detectors cut what they find
        extent = np.array([*size, *size])[[1, 0, 3, 2]]  # width, height, width, height
        truth_boxes, boxes = np.clip(truth_boxes, 0, extent), np.clip(boxes, 0, extent)
        is_inside = (truth_boxes[:, 2:] > truth_boxes[:, :2]).all(axis=1)
    else:
        is_inside = np.ones(len(truth_boxes), bool)
    return Sequence(
        name=folder.name,
        frames=frames,
        measured=len(with_truth),
        left_out=int(np.sum(is_chosen & ~kept)),
        ground_truth=_ground_truth(truth.frames[counts][is_inside], truth_boxes[is_inside]),
        detections=_detections(found.frames[kept], boxes, found.confidences[kept]),
    )


def measured_sequences(sequences, iou, each=True):
    """`measured` of all frames pooled, with `Sequence.counts`; prints a table.

    `each`: with `sequences`, the same of each by its name, null where none of its frames counts.
    """
    starts = np.cumsum([0] + [sequence.frames.stop for sequence in sequences])
    pooled = []
    for kind in ("ground_truth", "detections"):
        parts = zip((getattr(sequence, kind) for sequence in sequences), starts)
        # Frames of one number in two sequences are two images.
        shifted = [dataclasses.replace(part, images=part.images + start) for part, start in parts]
        pooled.append(joined(shifted))
    line = measured(MOT_CLASSES, *pooled, iou)
    counts = [sequence.counts() for sequence in sequences]
    line |= {key: sum(each[key] for each in counts) for key in counts[0]}
    lines = {
        sequence.name: _measured_sequence(sequence, iou) | sequence.counts()
        for sequence in sequences
    }
    print(_table(sequences, lines, line), file=sys.stderr)
    return line | {"sequences": lines} if each else line


def _measured_sequence(sequence, iou):
    if len(sequence.ground_truth.labels):
        return measured(MOT_CLASSES, sequence.ground_truth, sequence.detections, iou)
    nothing = dict.fromkeys(MOT_CLASSES)
    figures = dict.fromkeys(FIGURES) | {"ap_area": nothing, "ap_11point": nothing}
    detections = len(sequence.detections.labels)
    counts = {"detections": detections, "false_positives": detections}
    return figures | dict.fromkeys(COUNTS, 0) | counts


def _table(sequences, lines, pooled):
    """The sequences and their pool as text: a line each."""
    width = max(len("pooled"), *(len(sequence.name) for sequence in sequences))
    form = (
        f"{{:<{width}}}  {{:>11}}  {{:>8}}  {{:>8}}  {{:>10}}  {{:>6}}  {{:>6}}  {{:>7}}  {{:>8}}"
    )
    titles = "frames", "measured", "objects", "detections", "true", "false", "AP in %", "11-point"
    rows = [form.format("sequence", *titles)]
    ranges = [
        f"{each.frames.start}-{each.frames.stop - 1}" if each.frames else "none"
        for each in sequences
    ]
    for name, span, line in zip([*lines, "pooled"], [*ranges, ""], [*lines.values(), pooled]):
        aps = [tables.percent(line[key]) for key in ("mean_ap_area", "mean_ap_11point")]
        rows.append(form.format(name, span, line["frames"], *(line[key] for key in COUNTS), *aps))
    rows.insert(-1, "-" * len(rows[0]))
    rows.append(
        f"Left out: {pooled['left_out_frames']} frames without ground truth, and "
        f"{pooled['left_out_detections']} detections in them."
    )
    return "\n".join(rows)


def _is_among(numbers, frames):
    return (numbers >= frames.start) & (numbers < frames.stop)


def _ground_truth(frames, boxes):
    objects = len(frames)
    return GroundTruth(frames, boxes, np.zeros(objects, int), np.zeros(objects, bool))


def _detections(frames, boxes, scores):
    return Detections(frames, boxes, np.zeros(len(frames), int), scores)


# --- VOC ---------------------------------------------------------------------------------------


def read_voc(arguments):
    """As `read_mot`, of VOC's files: an image is a line of the image set."""
    images = formats.read_image_set(arguments.image_set)
    if not arguments.ground_truth.is_dir():
        raise FileNotFoundError(
            f"--ground-truth '{arguments.ground_truth}' is no folder: expected VOC's Annotations."
        )
    annotations = [
        formats.read_voc_xml(arguments.ground_truth / f"{image}.xml") for image in images
    ]
    annotated = sorted({name for annotation in annotations for name in annotation.names})
    results = formats.read_voc_results(arguments.detections, annotated)
    for name, found in results.items():
        outside = sorted(set(found.image_ids) - set(images))
        if outside:
            raise ValueError(
                f"The results of class '{name}' in '{arguments.detections}' hold {len(outside)} "
                f"images, such as '{outside[0]}', that are not in '{arguments.image_set}'. "
                "Give the image set on which the detector ran."
            )
    class_names = sorted(results)
    label_of = {name: label for label, name in enumerate(class_names)}
    image_of = {name: image for image, name in enumerate(images)}
    print(
        f"{len(images)} images, {len(annotated)} annotated classes, {len(results)} in all.",
        file=sys.stderr,
    )
    ground_truth = GroundTruth(
        images=np.repeat(np.arange(len(images)), [len(each.names) for each in annotations]),
        boxes=np.concatenate([formats.voc_to_continuous(each.boxes) for each in annotations]),
        labels=np.array([label_of[name] for each in annotations for name in each.names], int),
        difficult=np.concatenate([each.difficult for each in annotations]),
    )
    found = [results[name] for name in class_names]
    detections = Detections(
        images=np.array([image_of[name] for each in found for name in each.image_ids], int),
        boxes=np.concatenate([each.boxes for each in found]),
        labels=np.repeat(np.arange(len(found)), [len(each.scores) for each in found]),
        scores=np.concatenate([each.scores for each in found]),
    )
    return class_names, ground_truth, detections
