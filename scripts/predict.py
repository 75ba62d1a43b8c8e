#!/usr/bin/env python3
"""Predicts label maps of images with a fitted or exported segmentation model.

    scripts/predict.py --run runs/camvid photo.jpg folder/ --output predictions
    scripts/predict.py --saved-model saved_models/camvid folder/ --output predictions

For each image: NAME.png, a palette PNG whose pixel values are class ids, and NAME_overlay.png;
once: legend.png. Images that cannot be read are named and skipped; the exit status is then 1.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from kerasdense import command_line, drawing

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def main():
    arguments = parse()

    import tensorflow as tf

    images = find_images(arguments.images, arguments.output)
    predict, class_names, palette = load(arguments)
    arguments.output.mkdir(parents=True, exist_ok=True)
    drawing.save_picture(arguments.output / "legend.png", drawing.legend(class_names, palette))
    failed, taken = 0, {"legend"}
    for number, path in enumerate(images, 1):
        counter = f"[{number}/{len(images)}]"
        try:
            picture = drawing.load_picture(path)
            labels = predict(picture)
        except (ValueError, tf.errors.OpError) as error:
            reason = " ".join(str(error).split())[:300]
            print(f"{counter} skipped {path}: {reason}", file=sys.stderr)
            failed += 1
            continue
        name = unused_name(path.stem, taken)
        drawing.save_label_map(arguments.output / f"{name}.png", labels, palette)
        overlay = drawing.overlay(picture, labels, palette)
        drawing.save_picture(arguments.output / f"{name}_overlay.png", overlay)
        print(f"{counter} {path} -> {name}.png: {summary(labels, class_names)}")
    print(f"{len(images) - failed} of {len(images)} images predicted into {arguments.output}")
    if failed:
        print(f"{failed} could not be predicted, see above", file=sys.stderr)
    return 1 if failed else 0


def load(arguments):
    """A function from a picture [H, W, 3] to labels [H, W], class names, palette."""
    if arguments.saved_model:
        from kerasdense.prediction import Predictor

        served = Predictor(arguments.saved_model)
        return (
            lambda picture: served.predict(picture[None])["labels"][0],
            served.class_names,
            served.palette,
        )
    # Only here, so that an exported model is served without Keras.
    import tensorflow as tf

    from kerasdense import export, runs

    model, facts = runs.load_run(arguments.run)
    served = export.ServedModel(model)  # what the SavedModel holds, so both ways agree
    return (
        lambda picture: served.serving_default(tf.constant(picture[None]))["labels"][0].numpy(),
        facts["dataset"]["class_names"],
        facts["dataset"]["palette"],
    )


def find_images(paths, output):
    """The files among `paths` and the images in its folders, without what lies in `output`.

    Raises: ValueError if there is none, or a result might overwrite an image.
    """
    output = output.resolve()
    images = []
    for path in paths:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
            inside = path.resolve() == output or output in path.resolve().parents
            images += [p for p in found if inside or output not in p.resolve().parents]
        else:
            images.append(path)
    for image in images:
        if image.resolve().parent == output:
            raise ValueError(
                f"{image} lies in the output folder, where results would overwrite images. "
                f"Choose another --output."
            )
    if not images:
        raise ValueError(
            f"No images in {', '.join(map(str, paths))}: expected files ending in "
            f"{', '.join(sorted(SUFFIXES))}."
        )
    return images


def unused_name(stem, taken):
    """`stem`, or `stem_2`, ... so that neither of its two files is written twice."""
    number, name = 1, stem
    while {name, f"{name}_overlay"} & taken:
        number += 1
        name = f"{stem}_{number}"
    taken |= {name, f"{name}_overlay"}
    return name


def summary(labels, class_names):
    """The three largest classes with their shares."""
    shares = np.bincount(labels.ravel(), minlength=len(class_names)) / labels.size
    largest = [i for i in np.argsort(-shares)[:3] if shares[i] > 0]
    return ", ".join(f"{class_names[i]} {100 * shares[i]:.0f} %" for i in largest)


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--run", type=Path, help="the --workdir of a fit script")
    model.add_argument("--saved-model", type=Path, help="NAME (newest version) or NAME/VERSION")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE|FOLDER")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    return parser.parse_args()


if __name__ == "__main__":
    command_line.run(main)
