"""Average precision of detections from anywhere: one JSON line on standard output.

    kerasdense evaluate-detections --format mot --detections MOT15/train/TUD-Campus/det/det.txt \\
        --ground-truth MOT15/train/TUD-Campus/gt/gt.txt
    kerasdense evaluate-detections --format voc --ground-truth VOCdevkit/VOC2007/Annotations \\
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

import json
import sys
from pathlib import Path

import numpy as np

from kerasdense.cli.arguments import positive
from kerasdense.data import formats  # like the metrics light: neither TensorFlow nor Keras
from kerasdense.metrics import tables
from kerasdense.metrics.average_precision import Detections, GroundTruth, voc_average_precision

FIGURES = ("ap_area", "ap_11point", "mean_ap_area", "mean_ap_11point")
COUNTS = ("ground_truth", "detections", "true_positives", "false_positives")


def add_arguments(parser):
    parser.add_argument("--format", choices=("mot", "voc"), required=True, help="of the files")
    parser.add_argument(
        "--ground-truth", type=Path, required=True, help="gt.txt, or the folder of VOC's XML"
    )
    parser.add_argument(
        "--detections", type=Path, required=True, help="det.txt, or the folder of VOC results"
    )
    parser.add_argument(
        "--image-set",
        type=Path,
        metavar="FILE",
        help="the list of images: required for voc, and only there (default: none)",
    )
    parser.add_argument(
        "--iou", type=positive(float), default=0.5, help="a detection is right from this IoU on"
    )


def run(arguments):
    if (arguments.format == "voc") != (arguments.image_set is not None):
        raise ValueError("--image-set FILE names the images of --format voc, and only of that.")
    read = {"mot": read_mot, "voc": read_voc}[arguments.format]
    class_names, ground_truth, detections = read(arguments)
    result = voc_average_precision(ground_truth, detections, len(class_names), arguments.iou)
    absent = [
        name for name, figures in zip(class_names, result.classes) if not figures.ground_truth
    ]
    if absent:
        print(f"No object that counts of {', '.join(absent)}: AP is null.", file=sys.stderr)
    found = tables.average_precisions(result, class_names)
    line = {key: found[key] for key in FIGURES}
    line |= {count: sum(getattr(each, count) for each in result.classes) for count in COUNTS}
    print(json.dumps(line))


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
    objects = int(np.sum(counts))
    ground_truth = GroundTruth(
        images=truth.frames[counts],
        boxes=truth.boxes[counts],
        labels=np.zeros(objects, int),
        difficult=np.zeros(objects, bool),
    )
    detections = Detections(
        images=found.frames,
        boxes=found.boxes,
        labels=np.zeros(len(found.frames), int),
        scores=found.confidences,
    )
    return ["pedestrian"], ground_truth, detections


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
