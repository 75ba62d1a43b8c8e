#!/usr/bin/env python3
"""Measures, on this machine: benchmark.py data prints the speed of a training pipeline.

    scripts/benchmark.py data --dataset camvid --source CamVid --size 240x320

`data`: images/s of the training pipeline (shuffle, decode, random scale and crop, flip, batch)
beside bare decoding of the same images and masks, in turns in one run; medians of the turns.
Ends with one JSON line.
"""

import argparse
import itertools
import json
import statistics
import time

from kerasdense import command_line


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    data = commands.add_parser("data", help="training pipeline beside bare decoding")
    command_line.add_dataset_flags(data)
    data.add_argument("--size", type=command_line.size, default=(240, 320), metavar="HxW")
    data.add_argument("--scales", type=command_line.numbers, default=(0.5, 2.0))
    data.add_argument("--photometric", action="store_true")
    data.add_argument("--batch-size", type=command_line.positive(int), default=8)
    data.add_argument("--images", type=command_line.positive(int), default=2000, help="a turn")
    data.add_argument("--turns", type=command_line.positive(int), default=5)
    benchmark_data(parser.parse_args())


def benchmark_data(args):
    import tensorflow as tf
    import tensorflow_datasets as tfds

    from kerasdense import datasets
    from kerasdense.data import pipeline

    builder = datasets.load(args.dataset, args.source, args.prepared_dir)
    batches = pipeline.train_batches(
        builder, "train", args.batch_size, command_line.training_augmentation(args)
    )
    uncached = tfds.ReadConfig(try_autocache=False)
    decoding = builder.as_dataset(split="train", read_config=uncached)
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


if __name__ == "__main__":
    command_line.run(main)
