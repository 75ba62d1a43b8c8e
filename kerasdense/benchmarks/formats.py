"""Which runtime takes which model, and how well: the table of saved_models/README.md."""

import contextlib
import dataclasses
import functools
import sys
import tempfile
import textwrap

import keras
import numpy as np

from kerasdense import tasks
from kerasdense.benchmarks.turns import in_turns, times_as_fast
from kerasdense.benchmarks.workloads import (
    SMOOTH_SIZE,
    image_size,
    random_model,
    smooth_pictures,
)
from kerasdense.export import parity
from kerasdense.export.artefact import export
from kerasdense.export.calibration import Calibration
from kerasdense.export.formats import ConversionError
from kerasdense.export.predictor import Predictor
from kerasdense.export.signatures import Form
from kerasdense.tasks.base import reason

CLASSES = 21
# Standard deviations of the outputs of a fitted model, roughly.
LOGITS_DEVIATION = 3.0  # confidences then go from 1 / C to 1
OFFSETS_DEVIATION = 1.0  # of encoded boxes, as the variances mean it
OFFSETS = 4  # of the output of a detector, the last
LONGEST_CELL = 160  # characters


def benchmark(named, formats, precisions, turns):
    """Prints the table of models (of `NamedModel`), formats and precisions; the exit status."""
    forms = [Form(format, precision) for format in formats for precision in precisions]
    print(f"| model | {' | '.join(f'{form.format} {form.precision}' for form in forms)} |")
    print("|---" * (1 + len(forms)) + "|")
    failed = False
    for name in named:
        model = decisive_model(name)
        task = tasks.of_model(model)
        reference = parity.Reference(model, task)
        cells = []
        for form in forms:
            # What exports tell is no part of the table.
            with contextlib.redirect_stdout(sys.stderr):
                cells.append(cell(model, task, reference, form, turns))
            print(f"{name}, {form.format} {form.precision}: {cells[-1]}", file=sys.stderr)
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
        failed |= any(text.startswith("FAILS") for text in cells)
        keras.backend.clear_session()
    return int(failed)


def decisive_model(named):
    """A `NamedModel` with random weights that tells classes and places apart, as fitted ones do."""
    model = random_model(named, CLASSES)
    outputs = np.asarray(model(smooth_pictures(image_size(model, SMOOTH_SIZE)), training=False))
    classes = outputs.shape[-1] - (OFFSETS if outputs.ndim == 3 else 0)
    logits, offsets = np.split(outputs, [classes], axis=-1)
    scales = [LOGITS_DEVIATION / logits.std()] * classes
    if offsets.size:
        scales += [OFFSETS_DEVIATION / offsets.std()] * OFFSETS
    # Not x * scale: a product before a split OpenVINO 2026.4 takes for one of int8's, and fails.
    more = keras.layers.Rescaling([scale - 1 for scale in scales], dtype="float32")(model.output)
    scaled = keras.layers.Add(dtype="float32", name="decisive")([model.output, more])
    return keras.Model(model.inputs[0], scaled, name=model.name)


def cell(model, task, reference, form, turns):
    """What becomes of one export, in a few words. `reference`: the model's `parity.Reference`."""
    images, stage = smooth_pictures(SMOOTH_SIZE), "export: "
    calibration = None
    if form.precision == "int8":  # fixed, as LiteRT must be
        form = dataclasses.replace(form, batch_size=len(images), size=SMOOTH_SIZE)
        calibration = Calibration([images])
    try:
        with tempfile.TemporaryDirectory() as directory:
            # Not checked there: that it differs is to stand in the table.
            version = export(
                model,
                task,
                directory,
                form,
                check=lambda predictor: None,
                calibration=calibration,
            )
            stage = ""
            predictor = Predictor(version)
            figures = parity.compare(predictor.predict, reference, task, [images])
            calls = {"exported": predictor, "fitted": reference}
            seconds = in_turns(
                {name: functools.partial(each.predict, images) for name, each in calls.items()},
                turns,
            )
    except ImportError as error:
        return f"not installed: {_cause(error)}"
    except Exception as error:  # each converter and each runtime has its own
        if stage and isinstance(error, ValueError) and not isinstance(error, ConversionError):
            first = textwrap.shorten(reason(error), LONGEST_CELL, placeholder=" ...")
            return f"refused: {first.replace('|', '/')}"
        return f"FAILS: {stage}{type(error).__name__}: {_cause(error)}"
    differences = parity.exceeded(task, figures, form.precision)
    ratio = times_as_fast("exported", "fitted", seconds)
    return f"FAILS: {differences[0]}" if differences else f"ok {ratio:.1f}x"


def _cause(error):
    """The cause that it names, at the end, fit for a cell of a table."""
    return reason(error)[-LONGEST_CELL:].replace("|", "/")
