#!/usr/bin/env python3
"""Measures models, pipelines and metrics on this machine, beside alternatives, in turns in one run.

    scripts/benchmark.py cost                       # the paper's three DenseNets at 1024x448
    scripts/benchmark.py train --models fcn_resnet50:output_stride=8 ssd300 --batch-sizes 1,4
    scripts/benchmark.py infer --models ladder_densenet121 --backends tensorflow,jax --xla off,on
    scripts/benchmark.py peers --size 224x224       # torchvision and KerasHub, where installed
    scripts/benchmark.py data --dataset camvid --source CamVid --size 240x320
    scripts/benchmark.py data --dataset folder_detection --source BCCD --detection
    scripts/benchmark.py evaluation
    scripts/benchmark.py export --run runs/camvid --size 360x480
    scripts/benchmark.py export --model ladder_densenet121 --size 448x1024 --batch-sizes 1,8
    scripts/benchmark.py attack --run runs/camvid --size 240x320

`cost`: parameters, multiply-adds and activation memory, counted; and a training step, measured.
`train`, `infer`: milliseconds, images/s, time to the first step and peak memory of every model,
size, batch size, precision, XLA and backend asked for. A model is NAME[:OPTION=VALUE...].
`peers`: the same work by others: FCN on a ResNet-50 of output stride 8 and SSD300 (torchvision),
and, of a strided ResNet-50, another network for the same task (KerasHub's DeepLabV3+).
`data`: images/s of the training pipeline beside bare decoding of the same pictures. The pipeline of
segmentation shuffles, decodes, scales, crops, flips and batches; with --detection it is that of
SSD300: its augmentation in full, matching and target encoding. With --model also which part of
its training step waits for data, and what the pipeline beside it costs a step.
`evaluation`: seconds of the average precision of many detections, and what mean IoU adds to a pass.
`export`: milliseconds of a batch through the training graph (the Keras model in a tf.function) and
through the SavedModel that scripts/export.py makes of it (its signature `raw`), for each batch
size, and the largest difference of their outputs relative to the largest output. The model is a
run's, or one of kerasdense.models with random weights; a detector has its own image size.
`attack`: milliseconds of an attack (PGD) on one image beside as many bare passes, forward and
backward to the image, of the same segmentation model; and of a training step on two images with
--adversarial-steps 1 and 3 beside one without.

All start with turns that do not count, print medians of the turns, and end with one JSON line. The
column "1st / this" is the first row's time over this row's, the median over the turns. Models of
`cost`, `train`, `infer` and `peers` run each in a process of its own, on the backend that
KERAS_BACKEND names unless --backends does; with JAX they need no TensorFlow. The exit status is 1
if a row could not be measured.
"""

import argparse
import collections
import dataclasses
import functools
import itertools
import json
import os
import statistics
import tempfile
import time
from importlib import util
from pathlib import Path

from kerasdense.benchmarks import measuring
from kerasdense.cli import command_line

BACKENDS = ("tensorflow", "jax")
PAPER_ROWS = (  # Kreso et al.: DenseNet 32x, Dilated 8x DenseNet 4x, LadderDenseNet 4x
    "ladder_densenet121:prediction_stride=32",
    "ladder_densenet121:output_stride=8",
    "ladder_densenet121",
)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    cost = commands.add_parser("cost", help="parameters, multiply-adds, memory")
    cost.set_defaults(run=benchmark_cost)
    add_models_flag(cost, PAPER_ROWS)
    cost.add_argument("--size", type=command_line.size, default=(448, 1024), metavar="HxW")
    cost.add_argument("--classes", type=command_line.positive(int), default=19)
    cost.add_argument("--batch-size", type=command_line.positive(int), default=1)
    cost.add_argument("--precision", choices=command_line.PRECISIONS, default="float32")
    cost.add_argument("--counted-only", action="store_true", help="do not run training steps")
    add_turns_flags(cost, turns=3)
    for work in ("train", "infer"):
        grid = commands.add_parser(work, help=f"a grid of models that {work}")
        grid.set_defaults(run=benchmark_steps)
        add_models_flag(grid, PAPER_ROWS)
        grid.add_argument("--sizes", type=sizes, default=((448, 1024),), metavar="HxW,HxW")
        grid.add_argument("--classes", type=command_line.positive(int), default=19)
        grid.add_argument("--batch-sizes", type=command_line.integers, default=(1,))
        for flag, values in {
            "--precisions": command_line.PRECISIONS,
            "--xla": ("off", "on"),
            "--backends": BACKENDS,
        }.items():
            grid.add_argument(flag, type=command_line.some_of(values), default=values[:1])
        grid.set_defaults(backends=(backend(),))
        add_steps_flag(grid)
        add_turns_flags(grid, turns=5)
    peer = commands.add_parser("peers", help="beside torchvision and KerasHub")
    peer.set_defaults(run=benchmark_peers)
    peer.add_argument("--works", type=command_line.some_of(("infer", "train")), default=("infer",))
    peer.add_argument("--size", type=command_line.size, default=(224, 224), metavar="HxW")
    peer.add_argument("--batch-size", type=command_line.positive(int), default=1)
    peer.add_argument(
        "--precision", choices=("float32", "mixed_bfloat16"), default="float32"
    )  # torch's autocast to float16 needs a loss scale
    add_steps_flag(peer)
    add_turns_flags(peer, turns=10)
    data = commands.add_parser("data", help="training pipeline beside bare decoding")
    data.set_defaults(run=benchmark_data)
    data.add_argument("--detection", action="store_true", help="boxes for SSD300, not masks")
    command_line.add_dataset_flags(data)
    data.add_argument("--size", type=command_line.size, default=(240, 320), metavar="HxW")
    data.add_argument("--scales", type=command_line.numbers, default=(0.5, 2.0))
    data.add_argument("--photometric", action="store_true")
    data.add_argument("--batch-size", type=command_line.positive(int), default=8)
    data.add_argument("--images", type=command_line.positive(int), default=2000, help="a turn")
    data.add_argument("--model", type=command_line.model, metavar="MODEL", help="to wait for data")
    data.add_argument("--steps", type=command_line.positive(int), default=10, help="of --model")
    data.add_argument("--turns", type=command_line.positive(int), default=5)
    evaluation = commands.add_parser("evaluation", help="average precision, mean IoU")
    evaluation.set_defaults(run=benchmark_evaluation)
    evaluation.add_argument(
        "--model", type=command_line.model, default="atrous_fcn_resnet50", metavar="MODEL"
    )
    evaluation.add_argument("--size", type=command_line.size, default=(360, 480), metavar="HxW")
    evaluation.add_argument("--classes", type=command_line.positive(int), default=19)
    evaluation.add_argument("--images", type=command_line.positive(int), default=5000)
    evaluation.add_argument("--turns", type=command_line.positive(int), default=5)
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
    if min(getattr(args, "batch_sizes", (1,))) < 1:
        raise ValueError(f"--batch-sizes expects numbers above 0, received {args.batch_sizes}.")
    return args.run(args)


def backend():
    """The backend that Keras takes here."""
    return os.environ.get("KERAS_BACKEND", BACKENDS[0])


def sizes(text):
    """Parses `448x1024,512x512` into pairs of height and width."""
    return tuple(command_line.size(part) for part in text.split(","))


def add_models_flag(parser, default):
    parser.add_argument(
        "--models",
        type=command_line.model,
        nargs="+",
        default=[command_line.model(text) for text in default],
        metavar="MODEL",
        help="NAME[:OPTION=VALUE...], such as fcn_vgg16:skips=16,8",
    )


def add_steps_flag(parser):
    parser.add_argument("--steps", type=command_line.positive(int), default=3, help="in a turn")


def add_turns_flags(parser, turns):
    parser.add_argument("--turns", type=command_line.positive(int), default=turns)
    parser.add_argument(
        "--alone",
        action="store_true",
        help="each row after the other, not in turns: where they do not fit into memory together",
    )


def add_model_flags(parser):
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--run", dest="directory", type=Path, metavar="RUN", help="a run folder")
    model.add_argument(
        "--model", type=command_line.model, metavar="MODEL", help="NAME[:OPTION=VALUE...], random"
    )
    parser.add_argument("--size", type=command_line.size, default=(320, 480), metavar="HxW")
    parser.add_argument("--classes", type=command_line.positive(int), default=19, help="of --model")


def benchmark_data(args):
    import tensorflow as tf
    import tensorflow_datasets as tfds

    from kerasdense.data import datasets
    from kerasdense.boxes.anchors import encode_targets, ssd300_anchors
    from kerasdense.data import augment, pipeline

    builder = datasets.load(args.dataset, args.source, args.prepared_dir)
    if args.model and (args.model.name == "ssd300") != args.detection:
        raise ValueError("--model: expected ssd300 with --detection, else one for segmentation.")
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
    # Of a decoded picture only the size goes on, in batches as large and as many in stock as the
    # pipeline's: Python's part is the same, and so is what a turn leaves to the next.
    decoding = (
        decoding.repeat()
        .map(lambda sample: tf.size(sample["image"]))
        .batch(args.batch_size)
        .prefetch(pipeline.PREFETCHED)
    )
    iterators = {"training pipeline": iter(batches), "bare decoding": iter(decoding)}

    count = max(1, args.images // args.batch_size)

    def consume(iterator):
        collections.deque(itertools.islice(iterator, count), maxlen=0)

    seconds = measuring.in_turns(
        {name: functools.partial(consume, each) for name, each in iterators.items()}, args.turns
    )
    speeds = {
        name: count * args.batch_size / statistics.median(times) for name, times in seconds.items()
    }
    for name, speed in speeds.items():
        print(f"{name:<18} {speed:8.0f} images/s")
    ratio = measuring.times_as_fast("training pipeline", "bare decoding", seconds)
    print(f"{'ratio':<18} {ratio:8.2f}")
    results = {"images_per_second": speeds, "ratio": ratio}
    if args.model:
        classes = datasets.classes(builder, "detection" if args.detection else "segmentation")[0]
        results |= waiting(args.model.load(len(classes)), batches, args.steps, args.turns)
    print(json.dumps(results))


def waiting(model, batches, steps, turns):
    """Prints and returns how a model's training waits for data, and how it is slowed by them."""
    measuring.compile_for_training(model)
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

    seconds = measuring.in_turns({"fed": fed, "constant batch": constant}, turns)
    results = {
        "model": model.name,
        "waits": statistics.median(waited[1:]),
        "constant_over_fed": measuring.times_as_fast("fed", "constant batch", seconds),
    }
    print(f"{model.name}, training steps on batches of {len(images)}")
    for name, times in seconds.items():
        print(f"{name:<18} {statistics.median(times) / steps * 1000:8.1f} ms a step")
    print(f"{'waits for data':<18} {100 * results['waits']:8.2f} % of the step")
    print(f"{'constant / fed':<18} {results['constant_over_fed']:8.2f}")
    return results


def benchmark_cost(args):
    workloads = {
        model.text: measuring.Workload(
            "train",
            model.name,
            model.options,
            args.size,
            args.batch_size,
            args.classes,
            args.precision,
            backend=backend(),
        )
        for model in args.models
    }
    costs = {model.text: counted_cost(model, args.size, args.classes) for model in args.models}
    measured = {}
    if not args.counted_only:
        print("measuring training steps, each model in a process of its own ...", flush=True)
        measured = measuring.measure(workloads, args.turns, steps=1, alone=args.alone)
    print(f"one image of {command_line.size_text(args.size)}; training: batch {args.batch_size}")
    form = f"{{:<{max(map(len, costs))}}}  {{:>12}}  {{:>7}}  {{:>11}}  {{:>9}}  {{:>10}}"
    print(form.format("model", "parameters", "GMAC", "activations", "step", "its memory"))
    for text, cost in costs.items():
        step = measured.get(text, {})
        print(
            form.format(
                text,
                f"{cost['parameters']:,}",
                f"{cost['macs'] / 1e9:.1f}",
                f"{cost['activation_bytes'] / 2**20:.0f} MiB",
                figure(step.get("milliseconds"), "{:.0f} ms"),
                figure(step.get("peak_mebibytes"), "{:.0f} MiB"),
            )
        )
        if "failed" in step:
            print(f"  failed: {step['failed']}")
    print(
        "activations: float32 outputs of convolutions, batch normalizations and concatenations.\n"
        "its memory: the most that a training step held, weights and optimizer included."
    )
    print(json.dumps({text: cost | measured.get(text, {}) for text, cost in costs.items()}))
    return failures(measured)


def counted_cost(model, size, classes):
    from kerasdense.models.cost import total_cost

    network = model.load(classes)
    return total_cost(network, [own or asked for own, asked in zip(network.input.shape[1:3], size)])


def benchmark_steps(args):
    """`train` and `infer`: each size and batch size a table, whose rows take turns."""
    results = []
    for size, batch_size in itertools.product(args.sizes, args.batch_sizes):
        workloads = {}
        for on, precision, xla in itertools.product(args.backends, args.precisions, args.xla):
            if on == "jax" and xla == "off" and "on" in args.xla:
                continue  # JAX always compiles
            compiles = xla == "on" or on == "jax"
            for model in args.models:
                label = f"{model.text} {on} {precision}{' XLA' if compiles else ''}"
                workloads[label] = measuring.Workload(
                    args.command,
                    model.name,
                    model.options,
                    size,
                    batch_size,
                    args.classes,
                    precision,
                    compiles,
                    on,
                )
        measured = measuring.measure(workloads, args.turns, args.steps, args.alone)
        print(f"{args.command}, batch of {batch_size}, {command_line.size_text(size)}")
        print_steps(measured)
        results += [dataclasses.asdict(workloads[label]) | measured[label] for label in workloads]
    print(json.dumps(results))
    return failures(dict(enumerate(results)))


def benchmark_peers(args):
    rows = []
    for (work, title), workloads in peers(args).items():
        measured = measuring.measure(workloads, args.turns, args.steps, args.alone)
        print(f"{title}, {work}, batch of {args.batch_size}")
        print_steps(measured)
        rows.append({"comparison": title, "work": work, "rows": measured})
    print(json.dumps(rows))
    return max(failures(row["rows"]) for row in rows)


def peers(args):
    """What is compared, ours first: {(work, title): {label: Workload}}, of what is installed."""
    installed = {name: util.find_spec(name) is not None for name in ("torchvision", "keras_hub")}
    for name, found in installed.items():
        if not found:
            print(f"{name} is not installed and left out")
    if not any(installed.values()):
        raise ValueError("No peers: install torch and torchvision, or keras-hub, beside this.")
    shared = {
        "batch_size": args.batch_size,
        "precision": args.precision,
        "backend": backend(),
    }
    found = {}
    for work in args.works:
        ours = measuring.Workload(
            work, "fcn_resnet50", {"output_stride": 8}, args.size, classes=21, **shared
        )
        theirs = {"kerasdense fcn_resnet50, output stride 8": ours}
        if installed["torchvision"]:
            theirs["torchvision fcn_resnet50, 1x1 head"] = dataclasses.replace(
                ours, options={}, package="torchvision", backend="torch"
            )
        found[work, f"FCN, {command_line.size_text(args.size)}"] = theirs
        if installed["keras_hub"]:
            strided = dataclasses.replace(ours, options={"output_stride": 32, "skips": [16, 8, 4]})
            found[work, f"strided ResNet-50, {command_line.size_text(args.size)}"] = {
                "kerasdense fcn_resnet50, skips to 1/4": strided,
                "keras_hub DeepLabV3+": dataclasses.replace(
                    strided, model="deeplab_v3", options={}, package="keras_hub"
                ),
            }
        if work == "infer" and installed["torchvision"]:  # theirs has its loss inside the model
            ssd = measuring.Workload(
                work, "ssd300", {"scales": "coco"}, (300, 300), classes=90, **shared
            )
            found[work, "SSD300, no boxes decoded"] = {
                "kerasdense ssd300": ssd,
                "torchvision ssd300_vgg16": dataclasses.replace(
                    ssd, model="ssd300_vgg16", options={}, package="torchvision", backend="torch"
                ),
            }
    return {key: each for key, each in found.items() if len(each) > 1}


def print_steps(measured):
    """A line for each result of `measuring.measure`."""
    form = f"{{:<{max(map(len, measured))}}}" + "  {:>9}  {:>9}  {:>10}  {:>10}  {:>6}  {:>10}"
    print(form.format("", "a step", "images/s", "first step", "memory", "GMAC", "1st / this"))
    for label, each in measured.items():
        if "failed" in each:
            print(f"{label}  failed: {each['failed']}")
            continue
        print(
            form.format(
                label,
                f"{each['milliseconds']:.1f} ms",
                f"{each['images_per_second']:.2f}",
                f"{each['first_step']:.1f} s",
                figure(each["peak_mebibytes"], "{:.0f} MiB"),
                figure(each["macs"] and each["macs"] / 1e9, "{:.1f}"),
                figure(each["first_over_this"], "{:.2f}"),
            )
        )


def figure(value, form):
    return "-" if value is None else form.format(value)


def failures(measured):
    """The exit status: 1 if a row could not be measured."""
    return 1 if any("failed" in each for each in measured.values()) else 0


def benchmark_evaluation(args):
    """Average precision of many detections, and what mean IoU adds to a pass."""
    import numpy as np
    import tensorflow as tf

    from kerasdense.metrics import mean_iou
    from kerasdense.metrics.average_precision import (
        Detections,
        GroundTruth,
        coco_average_precision,
        voc_average_precision,
    )

    rng = np.random.default_rng(0)
    classes, objects, found = 20, 5 * args.images, 200 * args.images

    def boxes(count):
        corners = rng.uniform(0, 400, (count, 2))
        return np.concatenate([corners, corners + rng.uniform(10, 100, (count, 2))], axis=1)

    truth = GroundTruth(
        np.sort(rng.integers(0, args.images, objects)),
        boxes(objects),
        rng.integers(0, classes, objects),
        rng.random(objects) < 0.1,
    )
    detections = Detections(
        np.sort(rng.integers(0, args.images, found)),
        boxes(found),
        rng.integers(0, classes, found),
        rng.random(found),
    )
    results = {"images": args.images, "objects": objects, "detections": found}
    print(f"{args.images} images, {objects} objects, {found} detections, {classes} classes")
    for name, measure in {"voc": voc_average_precision, "coco": coco_average_precision}.items():
        began = time.perf_counter()
        measure(truth, detections, classes)
        results[f"{name}_seconds"] = time.perf_counter() - began
        print(f"{name + ' average precision':<22} {results[f'{name}_seconds']:6.1f} s")

    images = tf.constant(rng.integers(0, 256, (1, *args.size, 3), np.uint8))
    masks = tf.constant(rng.integers(0, args.classes, (1, *args.size), np.uint8))
    model = args.model.load(args.classes)

    @tf.function
    def predictions():
        return tf.argmax(model(images, training=False), axis=-1, output_type=tf.int32)

    predicted = predictions()
    counts = tf.function(lambda: mean_iou.confusion_matrix(masks, predicted, args.classes))
    seconds = measuring.in_turns(
        {"predictions": lambda: predictions().numpy(), "mean IoU": lambda: counts().numpy()},
        args.turns,
    )
    print(f"{model.name}, one image of {command_line.size_text(args.size)}")
    results["milliseconds"] = print_milliseconds(seconds)
    results["mean_iou_adds"] = 1 / measuring.times_as_fast("mean IoU", "predictions", seconds)
    print(f"{'mean IoU adds':<18} {100 * results['mean_iou_adds']:8.2f} %")
    print(json.dumps(results))


def benchmark_export(args):
    import numpy as np
    import tensorflow as tf

    from kerasdense.training import run_folder
    from kerasdense.export.artefact import export

    if args.model:
        model, names = random_model(args.model, args.classes), list(map(str, range(args.classes)))
    else:
        model, facts = run_folder.load_run(args.directory)
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
    seconds = measuring.in_turns(alternatives, turns)
    medians = print_milliseconds(seconds)
    ratio = measuring.times_as_fast("exported", "training graph", seconds)
    print(f"{'times as fast':<18} {ratio:8.2f}")
    print(f"{'largest difference':<18} {difference:8.1e}")
    return {"milliseconds": medians, "ratio": ratio, "largest_relative_difference": difference}


def benchmark_attack(args):
    import keras
    import numpy as np
    import tensorflow as tf

    from kerasdense.attacks import methods
    from kerasdense.explain import gradients
    from kerasdense.training import run_folder

    if args.model:
        model = random_model(args.model, args.classes)
    else:
        model, _ = run_folder.load_run(args.directory)
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
    attack = methods.attacker(model, methods.METHODS["pgd"](steps=args.steps))

    def passes():
        for _ in range(args.steps):
            forward_and_backward(pixels, truth)[1].numpy()

    height, width = args.size
    print(f"{model.name}, one image of {height}x{width}, {args.steps} steps of PGD")
    alternatives = {"attack": lambda: attack(images[:1], labels[:1], epsilon=4), "passes": passes}
    attacks = measuring.in_turns(alternatives, args.turns)
    medians = print_milliseconds(attacks)
    ratio = measuring.times_as_fast("passes", "attack", attacks)
    print(f"{'times as long':<18} {ratio:8.2f}")
    print(f"a training step on two images of {height}x{width}")
    steps = {f"K = {k}": training_step(model, k, images, labels) for k in (0, 1, 3)}
    training = measuring.in_turns(steps, 3 * args.turns, warm_up=2)
    medians |= print_milliseconds(training)
    ratios = {
        name: measuring.times_as_fast("K = 0", name, training)
        for name in steps
        if name != "K = 0"
    }
    for name, times in ratios.items():
        print(f"{f'{name}, times as long':<18} {times:8.2f}")
    print(json.dumps({"model": model.name, "milliseconds": medians, "ratio": ratio} | ratios))


def training_step(model, adversarial_steps, images, labels):
    """A function that trains a copy of the model on one batch, once it is called."""
    import keras

    from kerasdense.training.adversarial import AdversarialExamples, train_on_adversarial_examples

    copy = keras.models.clone_model(model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    copy.compile(keras.optimizers.SGD(1e-4), loss)
    if adversarial_steps:
        train_on_adversarial_examples(copy, AdversarialExamples(adversarial_steps, epsilon=4))
    return lambda: copy.train_on_batch(images, labels)


def random_model(named, classes):
    """A `command_line.Model` with random weights, batch normalization's statistics as well."""
    import numpy as np

    try:
        model = named.load(classes)
    except ValueError as error:
        raise ValueError(f"{error} Or give a run folder as --run.") from error
    rng = np.random.default_rng(0)
    for variable in model.non_trainable_variables:
        if "moving" in variable.path:
            variable.assign(rng.uniform(0.5, 2, variable.shape))
    return model


def print_milliseconds(seconds):
    """Prints and returns the medians, {name: milliseconds}."""
    medians = {name: 1000 * statistics.median(times) for name, times in seconds.items()}
    for name, milliseconds in medians.items():
        print(f"{name:<18} {milliseconds:8.1f} ms")
    return medians


if __name__ == "__main__":
    command_line.run(main)
