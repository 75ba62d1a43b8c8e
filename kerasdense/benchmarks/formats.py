#!/usr/bin/env python3
"""Prints which runtime takes which model, and how well: the table of saved_models/README.md.

    scripts/compare_formats.py
    scripts/compare_formats.py --models ssd300,fcn_vgg16 --formats onnx
    scripts/compare_formats.py --quick

Every model of the package is built with random weights, exported into a temporary folder in every
format and precision, loaded by Predictor, and compared with the Keras model in float32 on a batch
of two smooth pictures. A cell is

    ok 1.3x         the outputs agree (the limits are in kerasdense/parity.py), and a call takes
                    1/1.3 of the time of the Keras model as a compiled graph
    refused: ...    there is no such export, and why
    FAILS: ...      the export or the runtime fails, or its outputs differ
    not installed   the packages of the format are missing

The whole table takes over half an hour on two cores and some 6 GB of memory. --quick takes narrow
models of the same structure (fcn_resnet50 and atrous_fcn_resnet50, which have none, as they are).
The exit status is 1 if a cell fails.
"""

import argparse
import sys
import tempfile
from functools import partial

import numpy as np

from kerasdense.cli import command_line
from kerasdense.drawing import pictures
from kerasdense.export import parity
from kerasdense.export.predictor import FILES

CLASSES = 21
SIZE = (192, 256)  # of the pictures, in pixels
LOGITS_DEVIATION = 3.0  # of class logits: confidences from 1 / C to 1
OFFSETS_DEVIATION = 1.0  # of encoded boxes, as the variances mean it
TINY_BLOCKS = (1, 1, 1, 1)
# Of a model: its function in kerasdense.models and its arguments; in their place for --quick.
MODELS = {
    "fcn_vgg16": ("fcn_vgg16", {"skips": (16, 8)}, {"skips": (16, 8), "fc_width": 32}),
    "fcn_resnet50": ("fcn_resnet50", {"skips": (16, 8)}, {"skips": (16, 8)}),
    "atrous_fcn_resnet50": ("atrous_fcn_resnet50", {}, {}),
    "ladder_densenet121_4x": ("ladder_densenet121", {}, {"blocks": TINY_BLOCKS}),
    "ladder_densenet121_32x": (
        "ladder_densenet121",
        {"prediction_stride": 32},
        {"prediction_stride": 32, "blocks": TINY_BLOCKS},
    ),
    "ladder_densenet121_dilated_8x_4x": (
        "ladder_densenet121",
        {"output_stride": 8},
        {"output_stride": 8, "blocks": TINY_BLOCKS},
    ),
    "ssd300": ("ssd300", {}, {"width": 0.125}),
    "ssd512": ("ssd512", {}, {"width": 0.125}),
}
PRECISIONS = ("float32", "float16")


def main():
    arguments = parse()

    import keras

    from kerasdense.export import comparison

    columns = [(format, precision) for format in arguments.formats for precision in PRECISIONS]
    print(f"| model | {' | '.join(' '.join(column) for column in columns)} |")
    print("|---" * (1 + len(columns)) + "|")
    failed = 0
    for name in arguments.models:
        images = smooth_pictures(2)
        model = decisive_model(name, arguments.quick, images)
        reference = comparison.Reference(model)
        cells = []
        for format, precision in columns:
            cells.append(cell(model, reference, images, format, precision, arguments.turns))
            print(f"{name}, {format} {precision}: {cells[-1]}", file=sys.stderr)
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
        failed += sum(text.startswith("FAILS") for text in cells)
        keras.backend.clear_session()
    return 1 if failed else 0


def cell(model, reference, images, format, precision, turns):
    """What becomes of one export, in a few words."""
    from kerasdense.export import comparison
    from kerasdense.export.artefact import export
    from kerasdense.export.predictor import Predictor

    classes = [f"class {number}" for number in range(CLASSES)]
    palette = [[number, number, number] for number in range(CLASSES)]
    with tempfile.TemporaryDirectory() as directory:
        try:
            version = export(model, directory, classes, palette, format, precision)
        except ImportError as error:
            return f"not installed: {first_line(error)}"
        except ValueError as error:
            return f"refused: {first_line(error)}"
        except Exception as error:  # each converter has its own
            return f"FAILS: export: {type(error).__name__}: {first_line(error)}"
        try:
            predictor = Predictor(version)
            figures = comparison.compare(predictor.predict, reference, [images])
            exported, fitted = comparison.latencies(
                [partial(each.predict, images) for each in (predictor, reference)], turns
            )
        except ImportError as error:
            return f"not installed: {first_line(error)}"
        except Exception as error:  # each runtime has its own
            return f"FAILS: {type(error).__name__}: {first_line(error)}"
    differences = parity.exceeded(figures, precision)
    return f"FAILS: {differences[0]}" if differences else f"ok {fitted / exported:.1f}x"


def decisive_model(name, quick, images):
    """A model with random weights that tells classes and places apart, as fitted ones do.

    Random batch normalization would blow the activations up or let them vanish: its moments are
    those of `images`. The predictions are scaled to the spread of a fitted model's.
    """
    import keras

    from kerasdense import models
    from kerasdense.data.augment import resize_image

    keras.utils.set_random_seed(0)
    function, arguments, quick_arguments = MODELS[name]
    arguments = quick_arguments if quick else arguments
    build = getattr(models, "ladder_densenet" if "blocks" in arguments else function)
    model = build(num_classes=CLASSES, weights=None, **arguments)
    generator = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # the next batch's moments replace the old ones
            layer.gamma.assign(generator.uniform(0.5, 1.5, layer.gamma.shape))
            # Positive, so that most units are on: a deep network of random ReLUs around zero
            # multiplies the rounding of float16 by hundreds, which fitted ones do not.
            layer.beta.assign(generator.uniform(0.5, 1.5, layer.beta.shape))
        if layer.name.startswith("score_stride"):  # begin at zero
            layer.kernel.assign(generator.normal(0, 0.1, layer.kernel.shape))
    is_detector = model.input.shape[1] is not None
    if is_detector:
        images = resize_image(images, model.input.shape[1:3])
    model(images, training=True)
    outputs = np.asarray(model(images, training=False))
    parts = {"score": (outputs, LOGITS_DEVIATION)}
    if is_detector:
        parts = {
            "_classes": (outputs[..., :-4], LOGITS_DEVIATION),
            "_boxes": (outputs[..., -4:], OFFSETS_DEVIATION),
        }
    for part, (values, deviation) in parts.items():
        for layer in model.layers:
            if part in layer.name and layer.weights:
                factor = deviation / values.std()
                layer.set_weights([factor * weight for weight in layer.get_weights()])
    return model


def smooth_pictures(count):
    """Pictures uint8 [count, H, W, 3] that look like something out of focus."""
    noise = np.random.default_rng(0).integers(0, 256, (count, 12, 16, 3), np.uint8)
    return np.stack([pictures.resized(picture, SIZE) for picture in noise])


def first_line(error):
    """The first line of what it says, fit for a cell of a table."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:160].replace("|", "/")


def chosen(names):
    """An argparse type: some of `names`, separated by commas."""

    def parse(text):
        unknown = [name for name in text.split(",") if name not in names]
        if unknown:
            raise argparse.ArgumentTypeError(f"expected some of {','.join(names)}; got {unknown}")
        return text.split(",")

    return parse


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=chosen(MODELS), default=list(MODELS), metavar="NAME,NAME")
    parser.add_argument("--formats", type=chosen(FILES), default=list(FILES), metavar="NAME,NAME")
    parser.add_argument("--quick", action="store_true", help="narrow models")
    parser.add_argument("--turns", type=command_line.positive(int), default=5, help="for the times")
    return parser.parse_args()


if __name__ == "__main__":
    command_line.run(main)
