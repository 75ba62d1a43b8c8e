"""A training pipeline beside bare decoding of the same pictures, and the training it feeds."""

import collections
import dataclasses
import functools
import itertools
import json
import statistics
import time

import tensorflow as tf

from kerasdense import tasks
from kerasdense.benchmarks.turns import in_turns, times_as_fast
from kerasdense.benchmarks.workloads import compile_for_training, logits_alone
from kerasdense.data import augment, pipeline


@dataclasses.dataclass(frozen=True)
class Reading:
    """How training reads the training split of a dataset: arguments of `pipeline.train_batches`."""

    split: pipeline.Split
    batch_size: int
    augment: object
    targets: object


def model_for(named, builder):
    """A `NamedModel` for the classes of a prepared dataset.

    Raises: ValueError if it is a file, of another number of classes.
    """
    task = tasks.of_model(named.load(2))  # as many classes as any model takes
    names, palette = task.classes(builder)
    model = logits_alone(named.load(len(names)))
    tasks.of_model(model, names, palette).check_model(model)
    return model


def augmentation(model, size, scales, photometric):
    """SSD's for a model of a fixed size, else scaled and flipped crops of `size`.

    Raises: ValueError for other than two `scales`.
    """
    if len(scales) != 2:
        raise ValueError(f"--scales expects LOWEST,HIGHEST, received {len(scales)} numbers.")
    if model.input.shape[1]:
        return augment.ssd_augmentation(model.input.shape[1:3])
    ops = [augment.random_scale_crop(size, scales), augment.random_flip()]
    return augment.compose(*ops, *([augment.photometric_jitter()] if photometric else []))


def reading_for(model, builder, batch_size, augmentation):
    """The `Reading` that trains a model."""
    task = tasks.of_model(model)
    split = pipeline.Split(builder, "train", task.features)
    return Reading(split, batch_size, augmentation, task.targets(model))


def benchmark(reading, images, turns, model=None, steps=1):
    """Prints the speed of a `Reading` beside that of bare decoding, and its JSON.

    `images`: of a turn; `model`: to be trained by so many `steps` a turn, None for none.
    """
    batches = pipeline.train_batches(
        reading.split, reading.batch_size, reading.augment, reading.targets
    )
    # Of a decoded picture only the size goes on, in batches as large and as many in stock as the
    # pipeline's: Python's part is the same, and so is what a turn leaves to the next.
    decoding = (
        reading.split.records()
        .map(reading.split.decode, num_parallel_calls=tf.data.AUTOTUNE)
        .repeat()
        .map(lambda sample: tf.size(sample["image"]))
        .batch(reading.batch_size)
        .prefetch(pipeline.PREFETCHED)
    )
    count = max(1, images // reading.batch_size)

    def consume(iterator):
        collections.deque(itertools.islice(iterator, count), maxlen=0)

    seconds = in_turns(
        {
            "training pipeline": functools.partial(consume, iter(batches)),
            "bare decoding": functools.partial(consume, iter(decoding)),
        },
        turns,
    )
    speeds = {
        name: count * reading.batch_size / statistics.median(times)
        for name, times in seconds.items()
    }
    for name, speed in speeds.items():
        print(f"{name:<18} {speed:8.0f} images/s")
    ratio = times_as_fast("training pipeline", "bare decoding", seconds)
    print(f"{'ratio':<18} {ratio:8.2f}")
    results = {"images_per_second": speeds, "ratio": ratio}
    if model is not None:
        results |= _waiting(model, batches, steps, turns)
    print(json.dumps(results))


def _waiting(model, batches, steps, turns):
    """Prints and returns how a model's training waits for data, and how it is slowed by them."""
    compile_for_training(model)
    iterator = iter(batches)
    images, targets = next(iterator)
    waited = []

    def fed():
        began = time.perf_counter()
        waited.append(0.0)
        for _ in range(steps):
            asked = time.perf_counter()
            batch = next(iterator)
            waited[-1] += time.perf_counter() - asked
            model.train_on_batch(*batch)
        waited[-1] /= time.perf_counter() - began

    def constant():
        for _ in range(steps):
            model.train_on_batch(images, targets)

    seconds = in_turns({"fed": fed, "constant batch": constant}, turns)
    results = {
        "model": model.name,
        "waits": statistics.median(waited[1:]),
        "constant_over_fed": times_as_fast("fed", "constant batch", seconds),
    }
    print(f"{model.name}, training steps on batches of {len(images)}")
    for name, times in seconds.items():
        print(f"{name:<18} {statistics.median(times) / steps * 1000:8.1f} ms a step")
    print(f"{'waits for data':<18} {100 * results['waits']:8.2f} % of the step")
    print(f"{'constant / fed':<18} {results['constant_over_fed']:8.2f}")
    return results
