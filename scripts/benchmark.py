#!/usr/bin/env python3
"""Measures, on this machine, this package beside an alternative, in turns in one run.

    scripts/benchmark.py data --dataset camvid --source CamVid --size 240x320
    scripts/benchmark.py data --dataset folder_detection --source BCCD --detection
    scripts/benchmark.py forward

`data`: images/s of the training pipeline beside bare decoding of the same pictures. The pipeline of
segmentation shuffles, decodes, scales, crops, flips and batches; with --detection it is that of
SSD300: its augmentation in full, matching and target encoding.
`forward`: milliseconds of the raw forward pass (no boxes decoded) of ssd300 and of torchvision's
ssd300_vgg16, batch 1, random weights, 90 classes; both libraries choose their own threads.

Prints medians of the turns and ends with one JSON line.
"""

import argparse
import itertools
import json
import re
import statistics
import sys
import time

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
    args = parser.parse_args()
    args.run(args)


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
    alternatives = {
        "training pipeline": (iter(batches), args.batch_size),
        "bare decoding": (iter(decoding), 1),
    }
    speeds = {name: [] for name in alternatives}
    for turn in range(-1, args.turns):  # the first turn warms up and does not count
        for name, (iterator, images_each) in alternatives.items():
            began = time.perf_counter()
            for _ in itertools.islice(iterator, args.images // images_each):
                pass
            seconds = time.perf_counter() - began
            if turn >= 0:
                speeds[name].append(args.images / seconds)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    ratio = statistics.median(
        ours / bare for ours, bare in zip(speeds["training pipeline"], speeds["bare decoding"])
    )
    for name, speed in medians.items():
        print(f"{name:<18} {speed:8.0f} images/s")
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
    times = {name: [] for name in alternatives}
    for turn in range(-3, args.turns):  # the first turns trace and warm up, and do not count
        for name, run in alternatives.items():
            began = time.perf_counter()
            run()
            if turn >= 0:
                times[name].append(1000 * (time.perf_counter() - began))
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratio = statistics.median(
        theirs / ours for ours, theirs in zip(times["kerasdense"], times["torchvision"])
    )
    for name, milliseconds in medians.items():
        print(f"{name:<18} {milliseconds:8.0f} ms")
    print(f"{'times as fast':<18} {ratio:8.2f}")
    print(json.dumps({"milliseconds": medians, "ratio": ratio}))


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
