#!/usr/bin/env python3
"""Measures a fitted model on a split of a dataset.

    scripts/evaluate.py --run runs/camvid --split val
    scripts/evaluate.py --run runs/camvid --split val --scales 0.75,1,1.25 --flip

Segmentation: prints IoU by class, mean IoU and pixel accuracy, and writes evaluation.json, a
picture of the confusion matrix and pictures of the worst images. Detection: average precision by
the rules of VOC and COCO, and precision-recall curves. Classification: average precision of the
labels by VOC's rules, and the curves. The dataset is the run's own unless others are named.
"""

import argparse
import json
import re
from pathlib import Path

from kerasdense.cli import command_line
from kerasdense.drawing import pictures

RIGHT = (60, 180, 75)  # color of a detection that found an object


def main():
    arguments = parse()

    from kerasdense.training import run_folder

    model, facts = run_folder.load_run(arguments.run)
    builder, name = command_line.load_dataset(arguments, facts)
    averages = arguments.flip or tuple(arguments.scales) != (1.0,)
    if averages and facts["task"] != "segmentation":
        raise ValueError(
            f"--scales and --flip average label maps; a {facts['task']} run takes neither."
        )
    class_names, palette = (facts["dataset"][key] for key in ("class_names", "palette"))
    output = arguments.output or arguments.run / "evaluation"
    output.mkdir(parents=True, exist_ok=True)  # fails now rather than after the evaluation
    print(f"{arguments.run} on {name}, split {arguments.split}")
    result, picture_name, picture, worst = MEASURES[facts["task"]](
        arguments, facts, model, builder, class_names, palette
    )
    result = {"dataset": name, "split": arguments.split, "run": str(arguments.run), **result}
    (output / "evaluation.json").write_text(json.dumps(result, indent=2) + "\n")
    pictures.save_picture(output / picture_name, picture)
    for old in output.glob("worst_[0-9]_*.png"):
        old.unlink()  # of an earlier evaluation
    for rank, (file_name, picture) in enumerate(worst, 1):
        stem = re.sub(r"[^\w.-]+", "_", Path(file_name).stem)
        pictures.save_picture(output / f"worst_{rank}_{stem}.png", picture)
    print(f"{result['images']} images; evaluation.json and pictures lie in {output}")


def measure_segmentation(arguments, facts, model, builder, class_names, palette):
    """The result, name and content of its picture, and (file name, picture) of the worst images."""
    from kerasdense.tasks import evaluation
    from kerasdense.data import pipeline

    result, worst = evaluation.evaluate(
        model,
        pipeline.eval_batches(builder, arguments.split),
        class_names,
        scales=arguments.scales,
        flip=arguments.flip,
    )
    print(evaluation.table(result))
    picture = pictures.confusion_matrix_picture(result["confusion_matrix"], class_names)
    pictures = [(found["file_name"], worst_picture(found, class_names, palette)) for found in worst]
    return result, "confusion_matrix.png", picture, pictures


def measure_detection(arguments, facts, model, builder, class_names, palette):
    """As `measure_segmentation`, of boxes."""
    from kerasdense.tasks import evaluation
    from kerasdense.data import pipeline

    samples = pipeline.detection_eval_batches(builder, arguments.split, model.input.shape[1:3], 8)
    result, curves, worst = evaluation.evaluate_detections(model, samples, class_names)
    print(evaluation.detection_table(result))
    picture = pictures.precision_recall_picture(curves, result["ap_area"], palette)
    pictures = [
        (found["file_name"], worst_boxes_picture(found, class_names, palette)) for found in worst
    ]
    return result, "precision_recall.png", picture, pictures


def measure_classification(arguments, facts, model, builder, class_names, palette):
    """As `measure_segmentation`, of image labels, at the size of the training images."""
    from kerasdense.tasks import evaluation
    from kerasdense.data import pipeline

    targets = pipeline.image_labels(len(class_names))
    size = facts["arguments"]["size"]
    samples = pipeline.detection_eval_batches(builder, arguments.split, size, 8, targets)
    result, curves, worst = evaluation.evaluate_classification(model, samples, class_names)
    print(evaluation.classification_table(result))
    picture = pictures.precision_recall_picture(curves, result["ap_area"], palette)
    pictures = [(found["file_name"], worst_labels_picture(found, class_names)) for found in worst]
    return result, "precision_recall.png", picture, pictures


MEASURES = {
    "segmentation": measure_segmentation,
    "detection": measure_detection,
    "classification": measure_classification,
}


def worst_picture(found, class_names, palette):
    """Image, truth, prediction and errors side by side, the legend below."""
    image, mask, prediction = found["image"], found["mask"], found["prediction"]
    if image.shape[:2] != mask.shape:
        image = pictures.resized(image, mask.shape)
    row = [
        image,
        pictures.overlay(image, mask, palette),
        pictures.overlay(image, prediction, palette),
        pictures.error_map(image, mask, prediction),
    ]
    accuracy = f"errors ({100 * found['pixel_accuracy']:.1f} % of the pixels are right)"
    grid = pictures.gallery([row], [Path(found["file_name"]).name, "truth", "prediction", accuracy])
    return pictures.gallery([[grid], [pictures.legend(class_names, palette, grid.shape[1])]])


def worst_boxes_picture(found, class_names, palette):
    """Truth, difficult objects dashed; and the sure detections, right green and wrong red."""
    image = pictures.resized(found["image"], found["size"])
    truth = image
    for kind in (False, True):
        mine = found["difficult"] == kind
        boxes, labels = found["boxes"][mine], found["labels"][mine]
        truth = pictures.draw_boxes(truth, boxes, labels, class_names, palette, dashed=kind)
    detections = found["detections"]
    drawn = pictures.draw_boxes(
        image,
        detections["boxes"],
        detections["labels"],
        class_names,
        palette,
        detections["scores"],
        colors=[RIGHT if correct else pictures.WRONG for correct in detections["correct"]],
    )
    name = Path(found["file_name"]).name
    return pictures.gallery([[truth, drawn]], [f"{name}, truth", f"{found['errors']} errors"])


def worst_labels_picture(found, class_names):
    """The image in its own shape, below what it shows and what was found."""
    from kerasdense.tasks import evaluation

    image = pictures.resized(found["image"], found["size"])
    picture = evaluation.labelled_picture(
        image, found["labels"], found["probabilities"], class_names
    )
    name = f"{Path(found['file_name']).name}, loss {found['loss']:.2f}"
    return pictures.gallery([[picture]], [name])


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="the --workdir of a fit script")
    command_line.add_dataset_flags(parser, required=False)
    parser.add_argument("--split", default="val")
    parser.add_argument(
        "--scales",
        type=command_line.numbers,
        default=(1.0,),
        help="comma-separated factors of the image size, averaged, e.g. 0.75,1,1.25",
    )
    parser.add_argument("--flip", action="store_true", help="average with the mirrored image")
    parser.add_argument("--output", type=Path, help="default: RUN/evaluation")
    return parser.parse_args()


if __name__ == "__main__":
    command_line.run(main)
