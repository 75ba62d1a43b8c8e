#!/usr/bin/env python3
"""Exports a fitted model, of segmentation or detection, for serving.

    scripts/export.py --run runs/camvid --output saved_models/camvid
    scripts/export.py --run runs/camvid --output saved_models/camvid_onnx --format onnx

Writes the next free version folder (saved_models/camvid/1, then /2, ...), loads it again and
compares its answer with that of the Keras model on a picture; scripts/check_export.py compares
more. saved_models/README.md describes what is written, and which runtime takes which model.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from kerasdense.cli import command_line
from kerasdense.drawing import pictures
from kerasdense.export import parity
from kerasdense.export.predictor import FILES


def main():
    arguments = parse()

    from kerasdense.export import artefact, comparison
    from kerasdense.training import run_folder
    from kerasdense.export.predictor import Predictor

    model, facts = run_folder.load_run(arguments.run)
    dataset = facts["dataset"]
    size = arguments.size
    if arguments.image:
        picture, origin = pictures.load_picture(arguments.image), str(arguments.image)
        if size and picture.shape[:2] != size:
            picture = pictures.resized(picture, size)
    else:
        noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
        picture, origin = pictures.resized(noise, size or (192, 256)), "a random picture"
    version = artefact.export(
        model,
        arguments.output,
        dataset["class_names"],
        dataset["palette"],
        format=arguments.format,
        precision=arguments.precision,
        batch_size=arguments.batch_size,
        size=size,
        run=run_folder.summary(arguments.run),
    )
    size_on_disk = sum(file.stat().st_size for file in version.rglob("*") if file.is_file())
    print(f"Wrote {version}, {size_on_disk / 2**20:.1f} MiB")
    try:
        served = Predictor(version)
    except ImportError as error:
        print(f"Not compared with the Keras model: {error}")
        return 0
    describe(served.facts)
    pictures = np.repeat(picture[None], arguments.batch_size or 1, axis=0)
    figures = comparison.compare(served.predict, comparison.Reference(model), [pictures])
    print(f"Compared with the Keras model in float32 on {origin}, {size_of(picture)}:")
    for name, meaning in parity.MEANINGS.items():
        if name in figures:
            print(f"  {figures[name]:<10.3g} {meaning}")
    exceeded = parity.exceeded(figures, arguments.precision)
    if exceeded:
        print(f"error: {version} differs from its model: {'; '.join(exceeded)}", file=sys.stderr)
    return 1 if exceeded else 0


def describe(facts):
    """Prints the signatures of an exported model."""
    for name, signature in facts["signatures"].items():
        inputs, outputs = (
            ", ".join(
                f"{key} {value['dtype']} {value['shape']}".replace("None", "?")
                for key, value in signature[kind].items()
            )
            for kind in ("inputs", "outputs")
        )
        print(f"  {name}: {inputs} -> {outputs}")


def size_of(picture):
    return f"{picture.shape[1]}x{picture.shape[0]}"


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="the --workdir of a fit script")
    parser.add_argument("--output", type=Path, required=True, help="e.g. saved_models/NAME")
    parser.add_argument(
        "--format",
        choices=tuple(FILES),
        default="saved_model",
        help="default: saved_model",
    )
    parser.add_argument(
        "--precision", choices=("float32", "float16"), default="float32", help="default: float32"
    )
    parser.add_argument("--batch-size", type=command_line.positive(int), help="default: any")
    parser.add_argument(
        "--size", type=command_line.size, metavar="HxW", help="of the pictures; default: any"
    )
    parser.add_argument("--image", type=Path, help="picture for the comparison; default: random")
    return parser.parse_args()


if __name__ == "__main__":
    command_line.run(main)
