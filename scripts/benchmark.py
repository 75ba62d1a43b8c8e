#!/usr/bin/env python3
"""Measures, on this machine, this package beside an alternative, in turns in one run.

    scripts/benchmark.py data --dataset camvid --source CamVid --size 240x320
    scripts/benchmark.py data --dataset folder_detection --source BCCD --detection
    scripts/benchmark.py forward
    scripts/benchmark.py export --run runs/camvid --size 360x480
    scripts/benchmark.py export --model ladder_densenet121 --size 448x1024 --batch-sizes 1,8
    scripts/benchmark.py attack --run runs/camvid --size 240x320

`data`: images/s of the training pipeline beside bare decoding of the same pictures. The pipeline of
segmentation shuffles, decodes, scales, crops, flips and batches; with --detection it is that of
SSD300: its augmentation in full, matching and target encoding.
`forward`: milliseconds of the raw forward pass (no boxes decoded) of ssd300 and of torchvision's
ssd300_vgg16, batch 1, random weights, 90 classes; both libraries choose their own threads.
`export`: milliseconds of a batch through the training graph (the Keras model in a tf.function) and
through the SavedModel that scripts/export.py makes of it (its signature `raw`), for each batch
size, and the largest difference of their outputs relative to the largest output. The model is a
run's, or one of kerasdense.models with random weights; a detector has its own image size.
`attack`: milliseconds of an attack (PGD) on one image beside as many bare passes, forward and
backward to the image, of the same segmentation model; and of a training step on two images with
--adversarial-steps 1 and 3 beside one without.

Prints medians of the turns and ends with one JSON line.
"""

import argparse
import collections
import functools
import itertools
import json
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

from kerasdense import command_line


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    data = commands.add_parser("data", help="training pipeline beside bare decoding")
    data.set_defaults(run=benchmark_data)
    data.add_argument("--detection", action="store_true", help="boxes for SSD300, not masks")
    command_line.add_dataset_flags(data)
    data.add_argument("--size", type=command_line.size, default=(240, 320), metavar="HxW")
    data.add_argument("--scales", type=command_line.numbers, default=(0.5, 2.0))
    data.add_argument("--photometric", action="store_true")
    data.add_argument("--batch-size", type=command_line.positive(int), default=8)
    data.add_argument("--images", type=command_line.positive(int), default=2000, help="a turn")
    data.add_argument("--turns", type=command_line.positive(int), default=5)
    forward = commands.add_parser("forward", help="ssd300 beside torchvision's")
    forward.set_defaults(run=benchmark_forward)
    forward.add_argument("--turns", type=command_line.positive(int), default=20)
    export = commands.add_parser("export", help="exported SavedModel beside the training graph")
    export.set_defaults(run=benchmark_export)
    add_model_flags(export)
    export.add_argument("--batch-sizes", type=command_line.integers, default=(1, 8))
    export.add_argument("--turns", type=command_line.positive(int), default=10)
    attack = commands.add_parser("attack", help="attacks and adversarial training beside passes")
    attack.set_defaults(run=benchmark_attack)
    add_model_flags(attack)
    attack.add_argument("--steps", type=command_line.positive(int), default=100)
    attack.add_argument("--turns", type=command_line.positive(int), default=3)
    args = parser.parse_args()
    args.run(args)


def add_model_flags(parser):
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--run", dest="directory", type=Path, metavar="RUN", help="a run folder")
    model.add_argument("--model", metavar="NAME", help="of kerasdense.models, random weights")
    parser.add_argument("--size", type=command_line.size, default=(320, 480), metavar="HxW")
    parser.add_argument("--classes", type=command_line.positive(int), default=19, help="of --model")


def benchmark_data(args):
    import tensorflow as tf
    import tensorflow_datasets as tfds

    from kerasdense import datasets
    from kerasdense.anchors import encode_targets, ssd300_anchors
    from kerasdense.data import augment, pipeline

    builder = datasets.load(args.dataset, args.source, args.prepared_dir)
    if args.detection:
        anchors = ssd300_anchors()
        batches = pipeline.train_batches(
            builder,
            "train",
            args.batch_size,
            augment.ssd_augmentation((300, 300)),
            features=pipeline.DETECTION,
            targets=lambda sample: encode_targets(sample["boxes"], sample["labels"], anchors),
        )
    else:
        batches = pipeline.train_batches(
            builder, "train", args.batch_size, command_line.training_augmentation(args)
        )
    decoding = builder.as_dataset(
        split="train",
        decoders=tfds.decode.PartialDecoding(
            {
                name: True
                for name in (pipeline.DETECTION if args.detection else pipeline.SEGMENTATION)
            }
        ),
        read_config=tfds.ReadConfig(try_autocache=False),
    )
    decoding = decoding.repeat().prefetch(tf.data.AUTOTUNE)
    iterators = {
        "training pipeline": (iter(batches), args.batch_size),
        "bare decoding": (iter(decoding), 1),
    }

    def consume(iterator, images_each):
        collections.deque(itertools.islice(iterator, args.images // images_each), maxlen=0)

    seconds = in_turns(
        {name: functools.partial(consume, *source) for name, source in iterators.items()},
        args.turns,
    )
    medians = {name: args.images / statistics.median(times) for name, times in seconds.items()}
    for name, speed in medians.items():
        print(f"{name:<18} {speed:8.0f} images/s")
    ratio = times_as_fast("training pipeline", "bare decoding", seconds)
    print(f"{'ratio':<18} {ratio:8.2f}")
    print(json.dumps({"images_per_second": medians, "ratio": ratio}))


def benchmark_forward(args):
    import numpy as np
    import tensorflow as tf
    import torch

    from kerasdense.models import ssd300

    theirs = torchvision_ssd300().eval()
    model = ssd300(num_classes=90, weights=None, scales="coco")
    images = np.random.default_rng(0).integers(0, 256, (1, 300, 300, 3), np.uint8)
    forward = tf.function(lambda images: model(images, training=False))
    tensor = tf.constant(images)
    normalized = torch.tensor(images).permute(0, 3, 1, 2).float().contiguous() - 117

    @torch.inference_mode()
    def torch_forward():
        return theirs.head(list(theirs.backbone(normalized).values()))

    alternatives = {
        "kerasdense": lambda: forward(tensor).numpy(),
        "torchvision": torch_forward,
    }
    seconds = in_turns(alternatives, args.turns, warm_up=3)
    medians = print_milliseconds(seconds)
    ratio = times_as_fast("kerasdense", "torchvision", seconds)
    print(f"{'times as fast':<18} {ratio:8.2f}")
    print(json.dumps({"milliseconds": medians, "ratio": ratio}))


def benchmark_export(args):
    import numpy as np
    import tensorflow as tf

    from kerasdense import runs
    from kerasdense.export import export

    if min(args.batch_sizes) < 1:
        raise ValueError(f"--batch-sizes expects numbers above 0, received {args.batch_sizes}.")
    if args.model:
        model, names = random_model(args.model, args.classes), list(map(str, range(args.classes)))
    else:
        model, facts = runs.load_run(args.directory)
        names = facts["dataset"]["class_names"]
    size = [fixed or asked for fixed, asked in zip(model.input.shape[1:3], args.size)]

    @tf.function(input_signature=[tf.TensorSpec(model.input.shape, tf.uint8)])
    def training_graph(images):
        outputs = model(images, training=False)
        return outputs["logits"] if isinstance(outputs, dict) else outputs

    batches = []
    with tempfile.TemporaryDirectory() as directory:
        version = export(model, Path(directory) / model.name, names, [[0, 0, 0]] * len(names))
        exported = tf.saved_model.load(str(version))
        for batch_size in args.batch_sizes:
            print(f"{model.name}, batch of {batch_size}, {size[0]}x{size[1]}")
            images = np.random.default_rng(0).integers(0, 256, (batch_size, *size, 3), np.uint8)
            try:
                measured = compare_export(
                    training_graph, exported.signatures["raw"], images, args.turns
                )
            except tf.errors.InvalidArgumentError as error:  # the limits of an export
                raise ValueError(f"The exported model refuses the batch: {error}") from error
            batches.append({"batch_size": batch_size, **measured})
    print(json.dumps({"model": model.name, "size": size, "batches": batches}))


def compare_export(training_graph, exported, images, turns):
    """Prints and returns times, their ratio and the difference of the outputs for one batch."""
    import numpy as np
    import tensorflow as tf

    images = tf.constant(images)
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


def benchmark_attack(args):
    import keras
    import numpy as np
    import tensorflow as tf

    from kerasdense import adversarial, gradients, runs

    if args.model:
        model = random_model(args.model, args.classes)
    else:
        model, _ = runs.load_run(args.directory)
    logits = model.output["logits"] if isinstance(model.output, dict) else model.output
    if len(logits.shape) != 4:
        raise ValueError(f"{model.name} is no segmentation model, which `attack` needs.")
    model = keras.Model(model.inputs[0], logits, name=model.name)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, *args.size, 3), np.uint8)
    labels = rng.integers(0, logits.shape[-1], (2, *args.size), np.uint8)
    function = gradients.on_pixels(model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def forward_and_backward(pixels, labels):
        return gradients.value_and_gradient(lambda x: (loss(labels, function(x)), ()), pixels)

    pixels, truth = tf.constant(images[:1], tf.float32), tf.constant(labels[:1])
    attack = adversarial.attacker(model, adversarial.METHODS["pgd"](steps=args.steps))

    def passes():
        for _ in range(args.steps):
            forward_and_backward(pixels, truth)[1].numpy()

    height, width = args.size
    print(f"{model.name}, one image of {height}x{width}, {args.steps} steps of PGD")
    alternatives = {"attack": lambda: attack(images[:1], labels[:1], epsilon=4), "passes": passes}
    attacks = in_turns(alternatives, args.turns)
    medians = print_milliseconds(attacks)
    ratio = times_as_fast("passes", "attack", attacks)
    print(f"{'times as long':<18} {ratio:8.2f}")
    print(f"a training step on two images of {height}x{width}")
    steps = {f"K = {k}": training_step(model, k, images, labels) for k in (0, 1, 3)}
    training = in_turns(steps, 3 * args.turns, warm_up=2)
    medians |= print_milliseconds(training)
    ratios = {name: times_as_fast("K = 0", name, training) for name in steps if name != "K = 0"}
    for name, times in ratios.items():
        print(f"{f'{name}, times as long':<18} {times:8.2f}")
    print(json.dumps({"model": model.name, "milliseconds": medians, "ratio": ratio} | ratios))


def training_step(model, adversarial_steps, images, labels):
    """A function that trains a copy of the model on one batch, once it is called."""
    import keras

    from kerasdense.adversarial_training import AdversarialExamples, train_on_adversarial_examples

    copy = keras.models.clone_model(model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    copy.compile(keras.optimizers.SGD(1e-4), loss)
    if adversarial_steps:
        train_on_adversarial_examples(copy, AdversarialExamples(adversarial_steps, epsilon=4))
    return lambda: copy.train_on_batch(images, labels)


def random_model(name, classes):
    """A model of the package with random weights, batch normalization's statistics as well."""
    import numpy as np

    from kerasdense import models

    if name not in models.__all__:
        raise ValueError(
            f"There is no model '{name}'. Expected one of: {', '.join(models.__all__)}."
        )
    try:
        model = getattr(models, name)(num_classes=classes, weights=None)
    except TypeError as error:  # one that needs more than its classes
        raise ValueError(f"{error}. Fit it and give its run folder as --run.") from error
    rng = np.random.default_rng(0)
    for variable in model.non_trainable_variables:
        if "moving" in variable.path:
            variable.assign(rng.uniform(0.5, 2, variable.shape))
    return model


def in_turns(alternatives, turns, warm_up=1):
    """Seconds of every turn, {name: [...]}, of functions {name: function} called alternately.

    The first `warm_up` turns, in which caches fill and graphs are traced, do not count.
    """
    seconds = {name: [] for name in alternatives}
    for turn in range(-warm_up, turns):
        for name, run in alternatives.items():
            began = time.perf_counter()
            run()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def times_as_fast(name, other, seconds):
    """Median ratio over the turns: 2 if `name` takes half the time of `other`."""
    return statistics.median(theirs / ours for ours, theirs in zip(seconds[name], seconds[other]))


def print_milliseconds(seconds):
    """Prints and returns the medians, {name: milliseconds}."""
    medians = {name: 1000 * statistics.median(times) for name, times in seconds.items()}
    for name, milliseconds in medians.items():
        print(f"{name:<18} {milliseconds:8.1f} ms")
    return medians


def torchvision_ssd300():
    """torchvision's SSD300 with random weights, also from a wheel without compiled operators."""
    import torch

    while True:
        try:
            from torchvision.models.detection import ssd300_vgg16

            return ssd300_vgg16(weights=None, weights_backbone=None)
        except RuntimeError as error:
            missing = re.search(r"operator (torchvision::\w+) does not exist", str(error))
            if not missing:
                raise
            # Declared, not defined: the raw network calls none of them.
            torch.library.define(missing[1], "(Tensor a, Tensor b, float c) -> Tensor")
            for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
                del sys.modules[name]


if __name__ == "__main__":
    command_line.run(main)
