#!/usr/bin/env python3
"""Predicts label maps or boxes of images with a fitted or exported model.

    scripts/predict.py --run runs/camvid photo.jpg folder/ --output predictions
    scripts/predict.py --saved-model saved_models/ssd300 MOT15/train/TUD-Campus --output predictions

A segmentation model writes for each image NAME.png, a palette PNG whose pixel values are class
ids, and NAME_overlay.png; once: legend.png. A detection model writes NAME_boxes.jpg, showing what
scores at least --score, and of all images together, whatever the score, VOC's result files
voc/comp4_det_test_CLASS.txt and MOT's mot/det.txt (det_CLASS.txt if there are several classes).
Frames have the numbers of their files if all names are numbers, else they are counted.

Images that cannot be read are named and skipped; the exit status is then 1.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from kerasdense.cli import command_line
from kerasdense.drawing import pictures
from kerasdense.tasks import results


def main():
    arguments = parse()
    images = results.find_images(arguments.images, arguments.output)
    predict, task, class_names, palette = load(arguments)
    arguments.output.mkdir(parents=True, exist_ok=True)
    if task == "segmentation":
        written = results.LabelMaps(arguments.output, class_names, palette)
    else:
        written = results.Boxes(arguments.output, class_names, palette, arguments.score)
    failed = 0
    for number, path in enumerate(images, 1):
        counter = f"[{number}/{len(images)}]"
        try:
            picture = pictures.load_picture(path)
            outputs = {name: np.asarray(value)[0] for name, value in predict(picture[None]).items()}
        except ValueError as error:
            reason = " ".join(str(error).split())[:300]
            print(f"{counter} skipped {path}: {reason}", file=sys.stderr)
            failed += 1
            continue
        print(f"{counter} {path} -> {written.add(path, picture, outputs)}")
    written.finish(images)
    print(f"{len(images) - failed} of {len(images)} images predicted into {arguments.output}")
    if failed:
        print(f"{failed} could not be predicted, see above", file=sys.stderr)
    return 1 if failed else 0


def load(arguments):
    """A function from pictures [1, H, W, 3] to outputs, the task, class names, palette."""
    if arguments.saved_model:
        from kerasdense.export.predictor import Predictor

        served = Predictor(arguments.saved_model)
        return served.predict, served.task, served.class_names, served.palette
    # Only here, so that an exported model needs neither Keras nor more than its own runtime.
    import tensorflow as tf

    from kerasdense.training import run_folder
    from kerasdense.export import signatures

    model, facts = run_folder.load_run(arguments.run)
    served = signatures.serve(model)  # what the SavedModel holds, so both ways agree

    def predict(pictures):
        try:
            return served.serving_default(tf.constant(pictures))
        except tf.errors.OpError as error:
            raise ValueError(str(error)) from error

    dataset = facts["dataset"]
    return predict, facts["task"], dataset["class_names"], dataset["palette"]


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--run", type=Path, help="the --workdir of a fit script")
    model.add_argument(
        "--saved-model",
        type=Path,
        help="an export of any format: NAME (newest version) or NAME/VERSION",
    )
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE|FOLDER")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument(
        "--score", type=float, default=0.5, help="of the boxes that are drawn, at least"
    )
    return parser.parse_args()


if __name__ == "__main__":
    command_line.run(main)
