#!/usr/bin/env python3
"""Average precision of detections from anywhere: one JSON line on standard output.

    scripts/evaluate_detections.py --format mot --ground-truth MOT15/train/TUD-Campus/gt/gt.txt \\
        --detections MOT15/train/TUD-Campus/det/det.txt
    scripts/evaluate_detections.py --format voc --ground-truth VOCdevkit/VOC2007/Annotations \\
        --detections results --image-set VOCdevkit/VOC2007/ImageSets/Main/test.txt

mot: one class, "pedestrian", over all frames; ground truth of confidence 0 is ignored. The det.txt
of MOT 2015 is the output of the ACF detector: on the last 20 % of all training sequences its
published AP is 60.2 %; on all frames of TUD-Campus alone the first command prints 0.595 (ap_area).

voc: `--detections` is a folder of comp4_det_IMAGESET_CLASS.txt (or comp3). The classes are those
of the annotations and of the result files; one without a result file has no detections. Difficult
objects neither count nor punish. Detections in images outside the image set are an error, as in
the VOC devkit.

ap_area is the area under the precision-recall curve, ap_11point VOC2007's mean over eleven recall
levels. A class without an object that counts has null and is left out of the means.
"""

import argparse
import json
import math
import re
import sys
from pathlib import Path

import numpy as np

from kerasdense.data import formats
from kerasdense.cli import command_line

LISTED = re.compile(r"(.+?)(\s+(-1|0|1))?")  # an image, in lists of one class with a flag


def main():
    arguments = parse()
    if (arguments.format == "voc") != (arguments.image_set is not None):
        raise ValueError("--image-set FILE names the images of --format voc, and only of that.")

    from kerasdense.metrics import average_precision

    read = {"mot": read_mot, "voc": read_voc}[arguments.format]
    class_names, ground_truth, detections = read(arguments)
    result = average_precision.voc_average_precision(
        average_precision.GroundTruth(**ground_truth),
        average_precision.Detections(**detections),
        len(class_names),
        arguments.iou,
    )
    classes = dict(zip(class_names, result.classes))
    absent = [name for name, figures in classes.items() if not figures.ground_truth]
    if absent:
        print(f"No object that counts of {', '.join(absent)}: AP is null.", file=sys.stderr)
    line = {
        "ap_area": {name: number(figures.ap_area) for name, figures in classes.items()},
        "ap_11point": {name: number(figures.ap_11point) for name, figures in classes.items()},
        "mean_ap_area": result.mean_ap_area,
        "mean_ap_11point": result.mean_ap_11point,
    }
    for count in ("ground_truth", "detections", "true_positives", "false_positives"):
        line[count] = sum(getattr(figures, count) for figures in result.classes)
    print(json.dumps(line))


def read_mot(arguments):
    """Class names, and the fields of GroundTruth and Detections: an image is a frame."""
    truth = formats.read_mot(arguments.ground_truth)
    counts = truth.confidences != 0
    found = formats.read_mot(arguments.detections)
    print(
        f"{np.sum(counts)} objects in {len(np.unique(truth.frames[counts]))} frames "
        f"({np.sum(~counts)} of confidence 0 ignored); "
        f"{len(found.frames)} detections in {len(np.unique(found.frames))} frames.",
        file=sys.stderr,
    )
    ground_truth = {
        "images": truth.frames[counts],
        "boxes": truth.boxes[counts],
        "labels": np.zeros(np.sum(counts), int),
        "difficult": np.zeros(np.sum(counts), bool),
    }
    detections = {
        "images": found.frames,
        "boxes": found.boxes,
        "labels": np.zeros(len(found.frames), int),
        "scores": found.confidences,
    }
    return ["pedestrian"], ground_truth, detections


def read_voc(arguments):
    """As `read_mot`: an image is a line of the image set."""
    images = read_image_set(arguments.image_set)
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
    ground_truth = {
        "images": np.repeat(np.arange(len(images)), [len(a.names) for a in annotations]),
        "boxes": np.concatenate([formats.voc_to_continuous(a.boxes) for a in annotations]),
        "labels": np.array([label_of[name] for a in annotations for name in a.names], int),
        "difficult": np.concatenate([a.difficult for a in annotations]),
    }
    found = [results[name] for name in class_names]
    detections = {
        "images": np.array([image_of[name] for f in found for name in f.image_ids], int),
        "boxes": np.concatenate([f.boxes for f in found]),
        "labels": np.repeat(np.arange(len(found)), [len(f.scores) for f in found]),
        "scores": np.concatenate([f.scores for f in found]),
    }
    return class_names, ground_truth, detections


def read_image_set(path):
    """The images that a list of VOC's `ImageSets/Main` names, one a line."""
    if not path.is_file():
        raise FileNotFoundError(f"Image set '{path}' does not exist.")
    lines = (line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines())
    images = [LISTED.fullmatch(line)[1] for line in lines if line]
    if not images:
        raise ValueError(f"Image set '{path}' names no image.")
    if len(set(images)) < len(images):
        twice = next(image for image in images if images.count(image) > 1)
        raise ValueError(f"Image set '{path}' names '{twice}' more than once.")
    return images


def number(value):
    """For JSON, which knows no NaN."""
    return None if math.isnan(value) else value


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--format", choices=("mot", "voc"), required=True)
    parser.add_argument(
        "--ground-truth", type=Path, required=True, help="gt.txt, or the folder of VOC's XML"
    )
    parser.add_argument(
        "--detections", type=Path, required=True, help="det.txt, or the folder of VOC results"
    )
    parser.add_argument("--image-set", type=Path, metavar="FILE", help="voc: the list of images")
    parser.add_argument(
        "--iou",
        type=command_line.positive(float),
        default=0.5,
        help="a detection is right from this IoU on",
    )
    return parser.parse_args()


if __name__ == "__main__":
    command_line.run(main)
