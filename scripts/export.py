#!/usr/bin/env python3
"""Exports a fitted model, of segmentation or detection, as a float32 SavedModel for serving.

    scripts/export.py --run runs/camvid --output saved_models/camvid

Writes the next free version folder (saved_models/camvid/1, then /2, ...), loads it again and
compares its labels, or its boxes, with those of the Keras model on a picture.
"""

import argparse
from pathlib import Path

import numpy as np

from kerasdense import command_line, drawing

LEAST_AGREEMENT = 0.99  # below this it is no rounding: the artefact is wrong
LARGEST_SHIFT = 0.01  # the same for boxes, in pixels
SIGNATURES = {
    "segmentation": """\
  serving_default: images uint8 [B, H, W, 3]
                   -> labels uint8 [B, H, W], confidence float32 [B, H, W]
  probabilities:   images -> probabilities float32 [B, H, W, {classes}]
  encoded:         image_bytes string [B], JPEG or PNG of one size
                   -> labels, confidence""",
    "detection": """\
  serving_default: images uint8 [B, H, W, 3]
                   -> boxes float32 [B, 200, 4] (xyxy, pixels), scores float32 [B, 200],
                      classes int32 [B, 200] (of {classes}), num_detections int32 [B]
  encoded:         image_bytes string [B], JPEG or PNG of one size
                   -> boxes, scores, classes, num_detections""",
}


def main():
    arguments = parse()

    from kerasdense import export, runs
    from kerasdense.prediction import Predictor

    if arguments.image:
        picture, origin = drawing.load_picture(arguments.image), str(arguments.image)
    else:
        noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
        picture, origin = drawing.resized(noise, (192, 256)), "a random picture"
    model, facts = runs.load_run(arguments.run)
    dataset = facts["dataset"]
    version = export.export(model, arguments.output, dataset["class_names"], dataset["palette"])
    served = Predictor(version)
    print(f"Wrote {version}")
    print(SIGNATURES[served.task].format(classes=len(served.palette)))
    origin = f"{origin}, {picture.shape[1]}x{picture.shape[0]}"
    check = {"segmentation": check_labels, "detection": check_boxes}[served.task]
    check(served.predict(picture[None]), model, picture, origin, version)


def check_labels(outputs, model, picture, origin, version):
    from kerasdense import export

    labels = outputs["labels"]
    agreement = compare(labels, export.in_float32(model), picture)
    print(
        f"Labels equal to the Keras model's in float32 at {100 * agreement:.3f} % of the pixels "
        f"of {origin}."
    )
    if agreement < LEAST_AGREEMENT:
        raise ValueError(
            f"{version} gives other labels than the model it comes from; do not use it. "
            f"Expected at least {100 * LEAST_AGREEMENT:.0f} % agreement. Please report this."
        )
    if precision(model) != "float32":
        agreement = compare(labels, model, picture)
        print(f"To those under {precision(model)}, as fitted, at {100 * agreement:.3f} %.")


def check_boxes(outputs, model, picture, origin, version):
    from kerasdense import export

    in_memory = export.ServedDetector(model)
    expected = in_memory.serving_default(picture[None])
    count = int(outputs["num_detections"][0])
    shift = float(np.max(np.abs(outputs["boxes"] - expected["boxes"].numpy())))
    same = count == int(expected["num_detections"][0]) and shift <= LARGEST_SHIFT
    print(
        f"{count} detections in {origin}; boxes equal to the Keras model's in float32 to "
        f"{shift:.2g} pixels."
    )
    if not same:
        raise ValueError(
            f"{version} gives other boxes than the model it comes from; do not use it. Please "
            "report this."
        )


def compare(labels, model, picture):
    """The part of the pixels of `picture` that `model` gives these labels."""
    outputs = model(picture[None], training=False)
    logits = outputs["logits"] if isinstance(outputs, dict) else outputs
    return float(np.mean(labels == np.argmax(logits, axis=-1)))


def precision(model):
    """`float32`, or the mixed policy the model was fitted under: then rounding differs."""
    policies = sorted({layer.dtype_policy.name for layer in model.layers} - {"uint8"})
    mixed = [policy for policy in policies if policy != "float32"]
    return ", ".join(mixed or policies)


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="the --workdir of a fit script")
    parser.add_argument("--output", type=Path, required=True, help="e.g. saved_models/NAME")
    parser.add_argument("--image", type=Path, help="picture for the comparison; default: random")
    return parser.parse_args()


if __name__ == "__main__":
    command_line.run(main)
