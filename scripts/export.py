#!/usr/bin/env python3
"""Exports a fitted segmentation model as a float32 SavedModel for TensorFlow Serving.

    scripts/export.py --run runs/camvid --output saved_models/camvid

Writes the next free version folder (saved_models/camvid/1, then /2, ...), loads it again and
compares its labels with those of the Keras model on a picture.
"""

import argparse
from pathlib import Path

import numpy as np

from kerasdense import command_line, drawing

LEAST_AGREEMENT = 0.99  # below this it is no rounding: the artefact is wrong


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
    print("  serving_default: images uint8 [B, H, W, 3]")
    print("                   -> labels uint8 [B, H, W], confidence float32 [B, H, W]")
    print(f"  probabilities:   images -> probabilities float32 [B, H, W, {len(served.palette)}]")
    print("  encoded:         image_bytes string [B], JPEG or PNG of one size")
    print("                   -> labels, confidence")
    labels = served.predict(picture[None])["labels"]
    agreement = compare(labels, export.in_float32(model), picture)
    print(
        f"Labels equal to the Keras model's in float32 at {100 * agreement:.3f} % of the pixels "
        f"of {origin}, {picture.shape[1]}x{picture.shape[0]}."
    )
    if agreement < LEAST_AGREEMENT:
        raise ValueError(
            f"{version} gives other labels than the model it comes from; do not use it. "
            f"Expected at least {100 * LEAST_AGREEMENT:.0f} % agreement. Please report this."
        )
    if precision(model) != "float32":
        agreement = compare(labels, model, picture)
        print(f"To those under {precision(model)}, as fitted, at {100 * agreement:.3f} %.")


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
