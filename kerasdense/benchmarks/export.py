"""An exported SavedModel beside the training graph: the Keras model in a tf.function."""

import json
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from kerasdense.benchmarks.turns import in_turns, print_milliseconds, times_as_fast
from kerasdense.benchmarks.workloads import image_size, logits_alone
from kerasdense.export.artefact import export


def benchmark(model, task, size, batch_sizes, turns):
    """Prints milliseconds of both for each batch size and how they differ, and its JSON.

    `size`: of the images, for a model that has no size of its own.
    Raises: ValueError for batches that the export refuses, and as `export.artefact.export`.
    """
    size, network, batches = image_size(model, size), logits_alone(model), []

    @tf.function(input_signature=[tf.TensorSpec(model.input.shape, tf.uint8)])
    def training_graph(images):
        return network(images, training=False)

    with tempfile.TemporaryDirectory() as directory:
        version = export(model, task, Path(directory) / model.name)
        exported = tf.saved_model.load(str(version)).signatures["raw"]
        for batch_size in batch_sizes:
            print(f"{model.name}, batch of {batch_size}, {size[0]}x{size[1]}")
            images = np.random.default_rng(0).integers(0, 256, (batch_size, *size, 3), np.uint8)
            try:
                measured = _compared(training_graph, exported, tf.constant(images), turns)
            except tf.errors.InvalidArgumentError as error:  # the limits of an export
                raise ValueError(f"The exported model refuses the batch: {error}") from error
            batches.append({"batch_size": batch_size, **measured})
    print(json.dumps({"model": model.name, "size": size, "batches": batches}))


def _compared(training_graph, exported, images, turns):
    """Prints and returns times, their ratio and the difference of the outputs for one batch."""
    alternatives = {
        "training graph": lambda: training_graph(images).numpy(),
        "exported": lambda: next(iter(exported(images=images).values())).numpy(),
    }
    # The export first: it says why it refuses an input that the training graph fails on.
    after, before = alternatives["exported"](), alternatives["training graph"]()
    difference = float(np.max(np.abs(after - before)) / np.max(np.abs(before)))
    seconds = in_turns(alternatives, turns)
    medians = print_milliseconds(seconds)
    ratio = times_as_fast("exported", "training graph", seconds)
    print(f"{'times as fast':<18} {ratio:8.2f}")
    print(f"{'largest difference':<18} {difference:8.1e}")
    return {"milliseconds": medians, "ratio": ratio, "largest_relative_difference": difference}
