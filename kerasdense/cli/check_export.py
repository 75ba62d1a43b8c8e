#!/usr/bin/env python3
"""Compares an exported model with the Keras model of the run it comes from.

    scripts/check_export.py saved_models/camvid --run runs/camvid --images CamVid/val
    scripts/check_export.py saved_models/camvid/3 --run runs/camvid --sizes 360x480

Pictures are resized to each size and compared in batches of each batch size: labels and confidence
of a segmentation model, boxes and scores of a detector, and the time of a call of both (the Keras
model as a compiled graph in float32, nothing folded). The other signatures of a SavedModel are
compared too, and its warm-up requests are replayed. Without --images the pictures are those of the
run's validation split.

The exit status is 1 if a figure is beyond what rounding explains (kerasdense/parity.py has the
limits), and 2 if there is nothing to compare.
"""

import argparse
import itertools
import math
import sys
from functools import partial
from pathlib import Path

import numpy as np

from kerasdense.cli import command_line
from kerasdense.drawing import pictures
from kerasdense.tasks import results

# Columns of the table by task: heading, width, and a figure of `kerasdense.parity` as text.
COLUMNS = {
    "segmentation": (
        ("equal labels", lambda figures: f"{100 * (1 - figures['other_labels']):.3f} %"),
        ("margin", lambda figures: f"{figures['margin']:.1e}"),
        ("confidence", lambda figures: f"{figures['confidence']:.1e}"),
    ),
    "detection": (
        ("sought", lambda figures: f"{figures['sought']:.0f}"),
        ("found", lambda figures: f"{100 * (1 - figures['missed']):.2f} %"),
        ("invented", lambda figures: f"{100 * figures['invented']:.2f} %"),
        ("pixels", lambda figures: f"{figures['boxes']:.1e}"),
        ("largest", lambda figures: f"{figures['largest_box']:.1e}"),
        ("score", lambda figures: f"{figures['scores']:.1e}"),
    ),
}
LEGENDS = {
    "segmentation": "equal labels: share of the pixels; margin, confidence: largest difference of "
    "probability",
    "detection": "sought: detections of the Keras model well above a score of 0.1; found: their "
    "share in the export; invented: the share of the export's that the Keras model does not have; "
    "pixels: difference that 99 % of the boxes keep; largest: of any box; score: of any score",
}


def main():
    arguments = parse()

    from kerasdense.export import comparison
    from kerasdense.training import run_folder
    from kerasdense.export.predictor import Predictor

    predictor = Predictor(arguments.path)
    model, run = run_folder.load_run(arguments.run)
    check_origin(predictor, arguments.run, run)
    pictures, origin = load_pictures(arguments, run)
    facts = predictor.facts
    print(
        f"{predictor.directory}: {facts['format']} in {facts['precision']}, beside {arguments.run} "
        f"in float32, on {len(pictures)} pictures: {origin}"
    )
    reference = comparison.Reference(model)
    compared = {}
    print(heading(predictor.task))
    for batch_size, size in cases(arguments, facts["input"]):
        where = f"batch {batch_size}, {size[0]}x{size[1]}"
        batches = batches_of(pictures, batch_size, size)
        first = batches[0]
        calls = [partial(model.predict, first) for model in (predictor, reference)]
        try:
            figures = comparison.compare(predictor.predict, reference, batches)
            seconds = comparison.latencies(calls, arguments.turns)
        except ValueError:
            raise  # of the Predictor: the export does not take such images
        except Exception as error:  # each runtime has its own
            reason = " ".join(str(error).split())[:300]
            return fail(predictor.directory, f"fails at {where}: {type(error).__name__}: {reason}")
        print(line(predictor.task, batch_size, size, figures, *seconds))
        compared[where] = figures
    print(LEGENDS[predictor.task])
    if not any(figures.get("sought", 1) for figures in compared.values()):
        raise ValueError(
            "The model finds nothing in these pictures, so there is nothing to compare. Give "
            "pictures of its objects by --images."
        )
    if facts["format"] == "saved_model":
        compared |= check_signatures(predictor, reference, first)
        problem = replay_warmup(predictor.directory)
        if problem:
            return fail(predictor.directory, problem)
    return verdict(predictor.directory, compared, facts["precision"])


def check_origin(predictor, folder, run):
    """Raises ValueError if the export cannot be of this run."""
    for what, exported, fitted in (
        ("task", predictor.task, run["task"]),
        ("classes", list(predictor.class_names), list(run["dataset"]["class_names"])),
    ):
        if exported != fitted:
            raise ValueError(
                f"{predictor.directory} is an export of another run than {folder}: its {what} "
                f"{'are' if what == 'classes' else 'is'} {exported}, the run's {fitted}."
            )


def cases(arguments, contract):
    """(batch size, (height, width)) of all cases that the export takes."""
    batch_sizes, sizes = arguments.batch_sizes, arguments.sizes
    if contract["batch_size"]:
        batch_sizes = [contract["batch_size"]]
        print(f"The export takes batches of {batch_sizes[0]} alone: nothing else is compared.")
    if contract["height"]:
        sizes = [(contract["height"], contract["width"])]
        print("The export takes pictures of {}x{} alone.".format(*sizes[0]))
    return itertools.product(batch_sizes, sizes)


def batches_of(pictures, batch_size, size):
    """All pictures in batches uint8 [B, H, W, 3], filled up with the first ones."""
    count = math.ceil(len(pictures) / batch_size) * batch_size
    resized = [pictures.resized(picture, size) for picture in pictures]
    filled = list(itertools.islice(itertools.cycle(resized), count))
    return [np.stack(filled[i : i + batch_size]) for i in range(0, count, batch_size)]


def load_pictures(arguments, run):
    """Pictures uint8 [H, W, 3] of any sizes, and where they are from."""
    if arguments.images:
        files = results.find_images(arguments.images)
        chosen = files[:: math.ceil(len(files) / arguments.pictures)]
        return [pictures.load_picture(file) for file in chosen], f"of the {len(files)} given"
    try:
        return validation_pictures(run, arguments.pictures), "of the run's validation split"
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        print(f"The run's validation pictures cannot be read ({reason}): random ones are taken.")
    noise = np.random.default_rng(0).integers(0, 256, (arguments.pictures, 12, 16, 3), np.uint8)
    return [pictures.resized(picture, (240, 320)) for picture in noise], "random and smooth"


def validation_pictures(run, count):
    """The first pictures of the validation split that the run names."""
    import tensorflow_datasets as tfds

    from kerasdense.data import datasets

    dataset = run["dataset"]
    if dataset["name"] is None:
        raise ValueError("it was fitted on no dataset of ours")
    builder = datasets.load(dataset["name"], dataset.get("source"), dataset.get("prepared_dir"))
    samples = builder.as_dataset(
        split=run.get("arguments", {}).get("validation_split", "val"),
        decoders=tfds.decode.PartialDecoding({"image": True}),
        read_config=tfds.ReadConfig(try_autocache=False),
    )
    return [sample["image"] for sample in samples.take(count).as_numpy_iterator()]


def check_signatures(predictor, reference, images):
    """Figures of the other signatures of a SavedModel: {what: figures}."""
    import tensorflow as tf

    from kerasdense.export import parity

    encoded = predictor.predict_encoded([tf.io.encode_png(image).numpy() for image in images])
    if predictor.task == "detection":
        figures = parity.compare_detections(encoded, predictor.predict(images))
    else:
        figures = parity.compare_labels(encoded, predictor.predict_probabilities(images))
    raw = parity.compare_raw(predictor.predict_raw(images), reference.raw(images))
    print(f"PNG files beside arrays: {largest(figures)}")
    print(f"raw output beside the Keras model's: {largest(raw)}")
    return {"PNG files": figures, "raw output": raw}


def replay_warmup(directory):
    """Sends a SavedModel its own warm-up requests, as a server does, through TensorFlow alone.

    Returns what is wrong with them, else None.
    """
    import tensorflow as tf

    from kerasdense.export import warmup

    path = directory / warmup.REQUESTS
    if not path.is_file():
        print("It has no warm-up requests.")
        return None
    loaded = tf.saved_model.load(str(directory))
    try:
        requests = warmup.read_warmup_requests(path)
        for name, inputs in requests.items():
            loaded.signatures[name](**{key: tf.constant(value) for key, value in inputs.items()})
    except ImportError as error:
        print(f"Its warm-up requests are not replayed: {error}")
        return None
    except (KeyError, TypeError, ValueError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())[:300]
        return f"has warm-up requests that fail, so no server would load it: {reason}"
    print(f"warm-up requests answered: {', '.join(requests)}")
    return None


def verdict(directory, compared, precision):
    """Prints the figure nearest its limit; the exit status. `compared`: {where: figures}."""
    from kerasdense.export import parity

    limits = parity.TOLERANCES[precision]
    shares = {
        (where, name): figures[name] / limit
        for where, figures in compared.items()
        for name, limit in limits.items()
        if name in figures
    }
    # NaN is no number to compare: it counts as the worst.
    where, name = max(shares, key=lambda key: (shares[key] != shares[key], shares[key]))
    found = f"{parity.MEANINGS[name]} is {compared[where][name]:.3g} ({where})"
    allowed = f"at most {limits[name]:g} is rounding in {precision}"
    exceeded = sum(bool(parity.exceeded(figures, precision)) for figures in compared.values())
    if exceeded:
        return fail(
            directory,
            f"differs from its model in {exceeded} of {len(compared)} comparisons. Worst: {found}; "
            f"{allowed}.",
        )
    print(f"The export agrees with its model. Nearest its limit: {found}; {allowed}.")
    return 0


def fail(directory, problem):
    print(f"error: {directory} {problem}", file=sys.stderr)
    return 1


def heading(task):
    columns = "".join(f"{name:>14}" for name, _ in COLUMNS[task])
    return f"batch      size{columns} {'export ms':>12} {'Keras ms':>10} {'times as fast':>14}"


def line(task, batch_size, size, figures, exported, fitted):
    """A row of the table; the last two are seconds."""
    columns = "".join(f"{text(figures):>14}" for _, text in COLUMNS[task])
    place = f"{batch_size:>5} {f'{size[0]}x{size[1]}':>9}"
    return (
        f"{place}{columns} {1e3 * exported:>12.1f} {1e3 * fitted:>10.1f} {fitted / exported:>14.2f}"
    )


def largest(figures):
    return ", ".join(f"{name} {value:.1e}" for name, value in figures.items())


def batch_sizes(text):
    return [command_line.positive(int)(part) for part in text.split(",")]


def sizes(text):
    return [command_line.size(part) for part in text.split(",")]


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "path", type=Path, metavar="EXPORT", help="NAME (newest version) or NAME/VERSION"
    )
    parser.add_argument("--run", type=Path, required=True, help="the --workdir of a fit script")
    parser.add_argument(
        "--images", type=Path, nargs="+", metavar="IMAGE|FOLDER", help="default: the run's own"
    )
    parser.add_argument(
        "--pictures",
        type=command_line.positive(int),
        default=6,
        metavar="N",
        help="take so many of the images, evenly spaced",
    )
    parser.add_argument("--batch-sizes", type=batch_sizes, default=(1, 3), metavar="B,B")
    parser.add_argument(
        "--sizes",
        type=sizes,
        default=[(240, 320), (321, 413)],
        metavar="HxW,HxW",
    )
    parser.add_argument("--turns", type=command_line.positive(int), default=5, help="for the times")
    return parser.parse_args()


if __name__ == "__main__":
    command_line.run(main)
