#!/usr/bin/env python3
"""Measures a fitted segmentation model on a split of a dataset.

    scripts/evaluate.py --run runs/camvid --split val
    scripts/evaluate.py --run runs/camvid --split val --scales 0.75,1,1.25 --flip

Prints IoU by class, mean IoU and pixel accuracy, and writes evaluation.json, a picture of the
confusion matrix and pictures of the worst images. The dataset is the run's own unless others
are named.
"""

import argparse
import json
import re
from pathlib import Path

from kerasdense import command_line, drawing


def main():
    arguments = parse()

    from kerasdense import datasets, evaluation, runs
    from kerasdense.data import pipeline

    model, facts = runs.load_run(arguments.run)
    dataset = facts["dataset"]
    # Another dataset has another source: the run's own serves only its own dataset.
    name = arguments.dataset or dataset["name"]
    source = arguments.source or (dataset.get("source") if name == dataset["name"] else None)
    prepared_dir = arguments.prepared_dir or dataset.get("prepared_dir")
    builder = datasets.load(name, source=source, prepared_dir=prepared_dir)
    class_names = list(builder.info.metadata["class_names"])
    palette = list(builder.info.metadata["palette"])
    if class_names != list(dataset["class_names"]):
        raise ValueError(
            f"The run knows the classes {', '.join(dataset['class_names'])}, {name} has "
            f"{', '.join(class_names)}. Evaluate on a dataset with the same classes in this order."
        )
    output = arguments.output or arguments.run / "evaluation"
    output.mkdir(parents=True, exist_ok=True)  # fails now rather than after the evaluation
    print(f"{arguments.run} on {name}, split {arguments.split}")
    result, worst = evaluation.evaluate(
        model,
        pipeline.eval_batches(builder, arguments.split),
        class_names,
        scales=arguments.scales,
        flip=arguments.flip,
    )
    print(evaluation.table(result))
    result = {"dataset": name, "split": arguments.split, "run": str(arguments.run), **result}
    (output / "evaluation.json").write_text(json.dumps(result, indent=2) + "\n")
    picture = drawing.confusion_matrix_picture(result["confusion_matrix"], class_names)
    drawing.save_picture(output / "confusion_matrix.png", picture)
    for old in output.glob("worst_[0-9]_*.png"):
        old.unlink()  # of an earlier evaluation
    for rank, found in enumerate(worst, 1):
        stem = re.sub(r"[^\w.-]+", "_", Path(found["file_name"]).stem)
        picture = worst_picture(found, class_names, palette)
        drawing.save_picture(output / f"worst_{rank}_{stem}.png", picture)
    print(f"{result['images']} images; evaluation.json and pictures lie in {output}")


def worst_picture(found, class_names, palette):
    """Image, truth, prediction and errors side by side, the legend below."""
    image, mask, prediction = found["image"], found["mask"], found["prediction"]
    if image.shape[:2] != mask.shape:
        image = drawing.resized(image, mask.shape)
    row = [
        image,
        drawing.overlay(image, mask, palette),
        drawing.overlay(image, prediction, palette),
        drawing.error_map(image, mask, prediction),
    ]
    accuracy = f"errors ({100 * found['pixel_accuracy']:.1f} % of the pixels are right)"
    grid = drawing.gallery([row], [Path(found["file_name"]).name, "truth", "prediction", accuracy])
    return drawing.gallery([[grid], [drawing.legend(class_names, palette, grid.shape[1])]])


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
