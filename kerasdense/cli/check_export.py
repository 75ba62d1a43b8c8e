"""Compares an exported model with the Keras model of the run it comes from, on pictures.

    kerasdense check-export saved_models/camvid --run runs/camvid --images CamVid/val
    kerasdense check-export saved_models/camvid/3 --run runs/camvid --sizes 360x480

Pictures are resized to each size and compared in batches of each batch size: labels and confidence
of a segmentation model, boxes and scores of a detector, probabilities of a classifier, and the time
of a call of both (the Keras model as a compiled graph in float32, nothing folded). The other
signatures of a SavedModel are compared too, and its warm-up requests are replayed. Without --images
the pictures are those of the run's validation split.

The exit status is 1 if a figure is beyond what rounding explains, and 2 if there is nothing to
compare.
"""

import itertools
import math
import sys
from pathlib import Path

from kerasdense.cli.arguments import add_run, counts, positive, size_text, sizes


def add_arguments(parser):
    parser.add_argument(
        "path", type=Path, metavar="EXPORT", help="NAME (newest version) or NAME/VERSION"
    )
    add_run(parser)
    parser.add_argument(
        "--images",
        type=Path,
        nargs="+",
        metavar="IMAGE|FOLDER",
        help="what is compared (default: the run's validation split)",
    )
    parser.add_argument(
        "--pictures",
        type=positive(int),
        default=6,
        metavar="N",
        help="take so many of the images, evenly spaced",
    )
    parser.add_argument(
        "--batch-sizes", type=counts, default=(1, 3), metavar="B,B", help="where any is taken"
    )
    parser.add_argument(
        "--sizes",
        type=sizes,
        default=((240, 320), (321, 413)),
        metavar="HxW,HxW",
        help="of the pictures, where any is taken",
    )
    parser.add_argument("--turns", type=positive(int), default=5, help="for the times")


def run(arguments):
    import numpy as np

    from kerasdense import tasks
    from kerasdense.benchmarks.turns import in_turns
    from kerasdense.export import parity
    from kerasdense.export.predictor import Predictor
    from kerasdense.tasks.base import reason
    from kerasdense.training import run_folder

    predictor = Predictor(arguments.path)
    model, facts = run_folder.load_run(arguments.run)
    _check_origin(predictor, arguments.run, facts)
    task = tasks.of_run(facts)
    pictures, origin = _load_pictures(arguments, facts)
    exported = predictor.facts
    print(
        f"{predictor.directory}: {exported['format']} in {exported['precision']}, beside "
        f"{arguments.run} in float32, on {len(pictures)} pictures ({origin})"
    )
    reference = parity.Reference(model, task)
    compared = {}
    print(_heading(task))
    for batch_size, size in _cases(arguments, exported["input"]):
        where = f"batch {batch_size}, {size_text(size)}"
        batches = _batches_of(pictures, batch_size, size)
        first = batches[0]
        try:
            figures = parity.compare(predictor.predict, reference, task, batches)
            seconds = in_turns(
                {
                    "export": lambda: predictor.predict(first),
                    "Keras": lambda: reference.predict(first),
                },
                arguments.turns,
            )
        except ValueError:
            raise  # of the Predictor: the export does not take such images
        except Exception as error:  # each runtime has its own
            problem = f"fails at {where}: {type(error).__name__}: {reason(error)}"
            return _fail(predictor.directory, problem)
        medians = [float(np.median(times)) for times in seconds.values()]
        print(_line(task, batch_size, size, figures, *medians))
        compared[where] = figures
    print(_legend(task))
    counted = [name for name, figure in task.figures.items() if figure.counts]
    if counted and not any(each[name] for each in compared.values() for name in counted):
        raise ValueError(
            "The model finds nothing in these pictures, so there is nothing to compare. Give "
            "pictures of its objects by --images."
        )
    if "encoded" in exported["signatures"]:
        compared |= _check_signatures(predictor, reference, task, first)
        problem = _replay_warmup(predictor.directory)
        if problem:
            return _fail(predictor.directory, problem)
    return _verdict(predictor.directory, task, compared, exported["precision"])


def _check_origin(predictor, folder, facts):
    """Raises ValueError if the export cannot be of this run."""
    for what, exported, fitted in (
        ("task", predictor.task, facts["task"]),
        ("classes", list(predictor.class_names), list(facts["dataset"]["class_names"])),
    ):
        if exported != fitted:
            raise ValueError(
                f"{predictor.directory} is an export of another run than {folder}: its {what} "
                f"{'are' if what == 'classes' else 'is'} {exported}, the run's {fitted}."
            )


def _cases(arguments, contract):
    """(batch size, (height, width)) of all cases that the export takes."""
    batch_sizes, sizes = arguments.batch_sizes, arguments.sizes
    if contract["batch_size"]:
        batch_sizes = [contract["batch_size"]]
        print(f"The export takes batches of {batch_sizes[0]} alone: nothing else is compared.")
    if contract["height"]:
        sizes = [(contract["height"], contract["width"])]
        print(f"The export takes pictures of {size_text(sizes[0])} alone.")
    return itertools.product(batch_sizes, sizes)


def _batches_of(images, batch_size, size):
    """All pictures in batches uint8 [B, H, W, 3], filled up with the first ones."""
    import numpy as np

    from kerasdense.drawing import pictures

    count = math.ceil(len(images) / batch_size) * batch_size
    resized = [pictures.resized(image, size) for image in images]
    filled = list(itertools.islice(itertools.cycle(resized), count))
    return [np.stack(filled[i : i + batch_size]) for i in range(0, count, batch_size)]


def _load_pictures(arguments, facts):
    """Pictures uint8 [H, W, 3] of any sizes, and where they are from."""
    import numpy as np

    from kerasdense.data.images import find_images
    from kerasdense.drawing import pictures

    if arguments.images:
        files = find_images(arguments.images)
        chosen = files[:: math.ceil(len(files) / arguments.pictures)]
        return [pictures.load_picture(file) for file in chosen], f"{len(files)} given"
    try:
        return _validation_pictures(facts, arguments.pictures), "of the run's validation split"
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        print(f"The run's validation pictures cannot be read ({reason}): random ones are taken.")
    noise = np.random.default_rng(0).integers(0, 256, (arguments.pictures, 12, 16, 3), np.uint8)
    return [pictures.resized(picture, (240, 320)) for picture in noise], "random and smooth"


def _validation_pictures(facts, count):
    """The first pictures of the validation split that the run names."""
    from kerasdense.data.pipeline import Split
    from kerasdense.training import run_folder

    builder, _ = run_folder.load_dataset(facts)
    split = Split(builder, run_folder.validation_split(facts), ("image",))
    samples = split.records().take(count).map(split.decode)
    return [sample["image"] for sample in samples.as_numpy_iterator()]


def _check_signatures(predictor, reference, task, images):
    """Figures of the other signatures of a SavedModel: {what: figures}."""
    import tensorflow as tf

    from kerasdense.export import parity

    encoded = predictor.predict_encoded([tf.io.encode_png(image).numpy() for image in images])
    figures = task.differences(encoded, predictor.call(task.reference, images))
    raw = parity.compare_raw(predictor.predict_raw(images), reference.raw(images))
    print(f"PNG files beside arrays: {_all(figures)}")
    print(f"raw output beside the Keras model's: {_all(raw)}")
    return {"PNG files": figures, "raw output": raw}


def _replay_warmup(directory):
    """Sends a SavedModel its own warm-up requests, as a server does, through TensorFlow alone.

    Returns what is wrong with them, else None.
    """
    import tensorflow as tf

    from kerasdense.export import warmup
    from kerasdense.tasks.base import reason

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
        return f"has warm-up requests that fail, so no server would load it: {reason(error)}"
    print(f"warm-up requests answered: {', '.join(requests)}")
    return None


def _verdict(directory, task, compared, precision):
    """Prints the figure nearest its limit; the exit status. `compared`: {where: figures}."""
    from kerasdense.export import parity

    limits = parity.limits(task, precision)
    shares = {
        (where, name): figures[name] / limit
        for where, figures in compared.items()
        for name, limit in limits.items()
        if name in figures
    }
    # NaN is no number to compare: it counts as the worst.
    where, name = max(shares, key=lambda key: (shares[key] != shares[key], shares[key]))
    meaning = (task.figures | parity.RAW)[name].meaning
    found = f"{meaning} is {compared[where][name]:.3g} ({where})"
    allowed = f"at most {limits[name]:g} is rounding in {precision}"
    exceeded = sum(bool(parity.exceeded(task, each, precision)) for each in compared.values())
    if exceeded:
        return _fail(
            directory,
            f"differs from its model in {exceeded} of {len(compared)} comparisons. Worst: {found}; "
            f"{allowed}.",
        )
    print(f"The export agrees with its model. Nearest its limit: {found}; {allowed}.")
    return 0


def _fail(directory, problem):
    print(f"error: {directory} {problem}", file=sys.stderr)
    return 1


def _columns(task):
    """{name: Figure} of those that have a column."""
    return {name: figure for name, figure in task.figures.items() if figure.heading}


def _heading(task):
    columns = "".join(f"{figure.heading:>14}" for figure in _columns(task).values())
    return f"batch      size{columns} {'export ms':>12} {'Keras ms':>10} {'times as fast':>14}"


def _line(task, batch_size, size, figures, exported, fitted):
    """A row of the table; the last two are seconds."""
    texts = (figure.text(figures[name]) for name, figure in _columns(task).items())
    columns = "".join(f"{text:>14}" for text in texts)
    place = f"{batch_size:>5} {size_text(size):>9}"
    return (
        f"{place}{columns} {1e3 * exported:>12.1f} {1e3 * fitted:>10.1f} {fitted / exported:>14.2f}"
    )


def _legend(task):
    return "; ".join(f"{each.heading}: {each.meaning}" for each in _columns(task).values())


def _all(figures):
    return ", ".join(f"{name} {value:.1e}" for name, value in figures.items())
