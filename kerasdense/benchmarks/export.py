"""A model's exports beside the Keras model they come from: latency, size on disk, accuracy."""

import dataclasses
import json
import statistics
import tempfile
from pathlib import Path

import numpy as np

from kerasdense.benchmarks.turns import in_turns, times_as_fast
from kerasdense.benchmarks.workloads import image_size, smooth_pictures
from kerasdense.export import measuring, parity, processor
from kerasdense.export.artefact import export
from kerasdense.export.calibration import Calibration, of_dataset
from kerasdense.export.formats import FORMATS
from kerasdense.export.predictor import Predictor
from kerasdense.export.signatures import in_precision

MODEL = "Keras model, float32"  # the first row: as it was fitted, nothing folded


@dataclasses.dataclass(frozen=True)
class Truth:
    """What accuracy is measured on: a prepared dataset, a split, and of that so many pictures.

    `limit`: the first ones; None: all. int8 is fitted to the `training_split`.
    """

    builder: object
    split: str
    training_split: str
    limit: int | None = None


def benchmark(model, task, forms, size, batch_sizes, turns, truth=None):
    """Prints a table for each batch size, a row for the model and for each export; and its JSON.

    All answer the signature `serving_default`: label maps, boxes or probabilities.

    Args:
        forms: of `signatures.Form`, of any size; one that is refused is told with the reason and
            left out. Where a format must have sizes fixed, it is to those measured if there is one.
        size: of the images, for a model that has no size of its own.
        truth: a `Truth`; None: accuracy is not measured, and int8 fitted to random pictures.

    Raises: ValueError for batches that the exports do not take.
    """
    print(processor.description())
    size, results = image_size(model, size), []
    if len(batch_sizes) == 1:
        fixed = {"batch_size": batch_sizes[0], "size": size}
        forms = [
            dataclasses.replace(form, **fixed)
            if form.precision in FORMATS[form.format].fixed
            else form
            for form in forms
        ]
    with tempfile.TemporaryDirectory() as directory:
        rows = _exported(model, task, forms, size, Path(directory), truth)
        accuracies = _accuracies(model, task, rows, truth) if truth else {}
        if truth:
            pictures = f"the first {truth.limit} pictures" if truth.limit else "all pictures"
            name = truth.builder.name
            print(f"accuracy: {task.accuracy} of {pictures} of {name}, split {truth.split}")
        callers = {MODEL: parity.Reference(model, task), **rows}
        for batch_size in batch_sizes:
            print(f"{model.name}, batch of {batch_size}, {size[0]}x{size[1]}")
            images = np.random.default_rng(0).integers(0, 256, (batch_size, *size, 3), np.uint8)
            seconds = in_turns(
                {name: lambda each=each: each.predict(images) for name, each in callers.items()},
                turns,
            )
            _print_rows(seconds, rows, accuracies)
            results.append(
                {
                    "batch_size": batch_size,
                    "milliseconds": {
                        name: 1000 * statistics.median(times) for name, times in seconds.items()
                    },
                }
            )
    print(
        json.dumps({"model": model.name, "size": size, "accuracy": accuracies, "batches": results})
    )


def _exported(model, task, forms, size, directory, truth):
    """The Predictor of each form, {label: Predictor}."""
    rows = {}
    for form in forms:
        label = f"{form.format}, {form.precision}"
        try:
            fitted_to = None
            if form.precision == "int8" and truth:
                fitted_to = of_dataset(truth.builder, truth.training_split, task, model, form)
            elif form.precision == "int8":
                picture = smooth_pictures(size)[:1]
                fitted_to = Calibration([np.repeat(picture, form.batch_size or 1, axis=0)])
            version = export(model, task, directory / label, form, calibration=fitted_to)
        except (ValueError, ImportError) as error:
            print(f"{label}: left out. {error}")
        else:
            rows[label] = Predictor(version)
    return rows


def _accuracies(model, task, rows, truth):
    """What `Task.accuracy` says of the model and of its exports, {label: number from 0 to 1}."""
    samples = task.eval_batches(truth.builder, truth.split, task.image_size_of(model))
    if truth.limit is not None:
        samples = measuring.first(samples, truth.limit, batch_size=1)
    fitted = in_precision(model, "float32")  # as it is timed
    found = {MODEL: task.evaluate(fitted, samples, worst=0, verbose=0).result}
    for label, predictor in rows.items():
        try:
            measured = measuring.evaluate(
                predictor, truth.builder, truth.split, truth.limit, worst=0, verbose=0
            )
        except ValueError as error:  # it is fixed to another size
            print(f"{label}: its accuracy is not measured. {error}")
            continue
        found[label] = measured.result
    return {label: result[task.accuracy] for label, result in found.items()}


def _print_rows(seconds, rows, accuracies):
    width = max(map(len, seconds))
    heading = f"{'':<{width}}  {'a call':>10}  {'1st / this':>10}  {'on disk':>9}"
    print(heading + ("  accuracy" if accuracies else ""))
    for name, times in seconds.items():
        size = f"{_mebibytes(rows[name].directory):.1f} MiB" if name in rows else "-"
        line = f"{name:<{width}}  {1000 * statistics.median(times):>7.1f} ms"
        line += f"  {times_as_fast(name, MODEL, seconds):>10.2f}  {size:>9}"
        print(line + (f"  {100 * accuracies[name]:.2f} %" if name in accuracies else ""))


def _mebibytes(folder):
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20
