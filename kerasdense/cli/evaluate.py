"""Measures a fitted or exported model on a split of a dataset.

    kerasdense evaluate --run runs/camvid
    kerasdense evaluate --saved-model saved_models/camvid_onnx --source CamVid
    kerasdense evaluate --run runs/camvid --split test --scales 0.75,1,1.25 --flip
    kerasdense evaluate --run runs/voc --dataset mot15 --source MOT15 --map person=pedestrian

Segmentation: prints IoU by class, mean IoU and pixel accuracy, and writes evaluation.json, a
chart of the confusion matrix and pictures of the worst images. Detection: average precision by
the rules of VOC and COCO, and precision-recall curves. Classification: average precision of the
labels by VOC's rules, and the curves. Charts are PNG, and PDF for papers.

The dataset is the run's own, and the split that of its validation, unless others are named. Each
dataset, split, map of classes, checkpoint and way of averaging has a folder of its own below
RUN/evaluation.

--saved-model measures an export of any format with its own runtime, on the pictures and by the
rules of --run: the numbers agree up to rounding. (A run that was fitted in bfloat16 is measured in
it; --precision float32 measures what an export in float32 is made of.) It does not know where the
files of a dataset lie, so that --source is needed; results go below VERSION/evaluation. An export
that is fixed to a size takes pictures of that size alone; for a detector or a classifier they are
warped to it, and by the export once more to the network's. Whether it was trained on the pictures
is known of its whole training split; of other pictures it is said to be unknown.

--map measures a detector on a dataset of other classes: left of = a class of the run, right of it
one of the dataset. Detections of classes that map to nothing are left out, and counted. Where
several classes map to one, an anchor's score is the sum of theirs. A class of the dataset that
nothing maps to is not found: its AP is 0, and counts in the mean, which stays one over the classes
of the dataset.
"""

import argparse
import dataclasses
import hashlib
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

from kerasdense.cli.arguments import (
    AUTO_HELP,
    CHECKPOINTS,
    COMPUTING,
    add_checkpoint,
    add_dataset,
    add_measured_split,
    add_run,
    class_index,
    numbers,
    positive,
)

BATCH_SIZE = 8  # of images that are warped to one size; others are measured one by one
LONGEST_VALUES = 40  # letters of --mask-values, or --map, in the name of a folder
# Options of `Task.evaluate`: their flags, and why some tasks have none.
FLAGS = {"scales": "--scales", "flip": "--flip", "class_map": "--map"}
AVERAGED, MAPPED = "only label maps are averaged over passes", "only classes of boxes are mapped"
REASONS = {"scales": AVERAGED, "flip": AVERAGED, "class_map": MAPPED}
# Why an export has none of these.
OF_RUNS = {
    "--scales": "it answers labels, while the probabilities of the passes are averaged",
    "--flip": "it answers labels, while the probabilities of the passes are averaged",
    "--map": "classes are mapped before boxes are suppressed, which it does itself",
    "--checkpoint": "it holds one model alone",
}
TRAINED_ON = {
    True: ", which the run was trained on",
    False: "",
    None: " (whether the run was trained on it is unknown: its record, or that of what it began "
    "with, does not tell its pictures, or they are others by now)",
}


def add_arguments(parser):
    model = parser.add_mutually_exclusive_group(required=True)
    add_run(model, required=False)
    model.add_argument(
        "--saved-model",
        type=Path,
        metavar="EXPORT",
        help="an export of any format: NAME (newest version) or NAME/VERSION",
    )
    add_checkpoint(parser)
    add_dataset(parser, required=False, own_source="the run's own; an export knows none")
    add_measured_split(parser)
    parser.add_argument(
        "--scales",
        type=numbers,
        default=(1.0,),
        help="comma-separated factors of the image size, averaged, e.g. 0.75,1,1.25; segmentation",
    )
    parser.add_argument(
        "--flip", action="store_true", help="average with the mirrored image; segmentation"
    )
    parser.add_argument(
        "--map",
        type=class_pairs,
        metavar="CLASS=CLASS,...",
        help="of a dataset of other classes: which class of the run is which of the dataset, e.g. "
        "person=pedestrian; detection (default: both have the same classes)",
    )
    parser.add_argument(
        "--batch-size",
        type=positive(int),
        metavar="N",
        help="images measured at once, padded to the largest where their sizes differ (default: "
        f"{BATCH_SIZE} where a run's model has an image size of its own, else 1, or the batch that "
        "an export is fixed to)",
    )
    parser.add_argument(
        "--precision",
        choices=COMPUTING,
        help="what the network computes in, of exports openvino alone leaves a choice; "
        f"{AUTO_HELP} (default: what a run was fitted in, of an export its own)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="folder (default: evaluation/DATASET_SPLIT below the run, or the export's version)",
    )


def class_pairs(text):
    """Parses `person=pedestrian,car=vehicle` into pairs of names."""
    pairs = [tuple(name.strip() for name in part.partition("=")[::2]) for part in text.split(",")]
    if not all(old and new for old, new in pairs):
        raise argparse.ArgumentTypeError(
            f"expected CLASS=CLASS,... such as person=pedestrian, received '{text}'"
        )
    return tuple(pairs)


@dataclasses.dataclass(frozen=True)
class Measured:
    """What is measured: a fitted model or an export.

    `path`: its folder; `origin`: what evaluation.json says of it; `facts`: of the run, see
    `run_folder.read_run`; `measure`: `(task, builder, split, options) -> Evaluation`.
    """

    path: Path
    origin: dict
    facts: dict
    measure: Callable


def run(arguments):
    from kerasdense import tasks
    from kerasdense.training import run_folder

    measured = _exported(arguments) if arguments.saved_model else _fitted(arguments)
    facts = measured.facts
    task = tasks.of_run(facts)
    options = _options(arguments, task)
    builder, name = run_folder.load_dataset(
        facts,
        arguments.dataset,
        arguments.source,
        arguments.prepared_dir,
        arguments.mask_values,
        same_classes=False,
    )
    task, class_map = _of_classes(task, arguments, facts, builder, name, options)
    split = arguments.split or run_folder.validation_split(facts, arguments.dataset)
    trained_on = run_folder.check_measured(facts, builder, name, split, arguments.allow_trained)
    data, parts = _data(arguments, facts, name, split, class_map)
    if arguments.precision:
        parts.append(measured.origin["computed_in"])
    folder = _folder_name(parts, options)
    output = arguments.output or measured.path / "evaluation" / folder
    output.mkdir(parents=True, exist_ok=True)  # fails now rather than after the evaluation
    print(f"{measured.path} on {name}, split {split}{TRAINED_ON[trained_on]}")
    if class_map:
        print("classes: " + ", ".join(f"{old} -> {new}" for old, new in class_map.items()))
    task.check_data(builder, split)
    evaluation = measured.measure(task, builder, split, options)
    print(task.table(evaluation.result))
    _write(output, task, data | {"trained_on": trained_on} | measured.origin, evaluation)


def _fitted(arguments):
    """The `Measured` of --run."""
    from kerasdense.training import run_folder

    model, facts = run_folder.load_run(arguments.run, f"{arguments.checkpoint}.keras")
    origin = {"run": str(arguments.run), "checkpoint": arguments.checkpoint}
    if arguments.precision:
        from kerasdense.training import devices

        precision = devices.computing(arguments.precision)
        model, origin["computed_in"] = _computing(model, precision, facts), precision

    def measure(task, builder, split, options):
        size = task.image_size_of(model)
        batch_size = arguments.batch_size or (BATCH_SIZE if size else 1)
        samples = task.eval_batches(builder, split, size, batch_size)
        return task.evaluate(model, samples, **options)

    return Measured(arguments.run, origin, facts, measure)


def _computing(model, precision, facts):
    """The model of a run that computes in a precision: itself, where it was fitted in that."""
    import keras

    from kerasdense.export.signatures import in_precision

    fitted_in = facts.get("arguments", {}).get("precision") or "float32"
    if fitted_in.removeprefix("mixed_") == precision:
        return model
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"--precision {precision} of a run fitted in {fitted_in} needs Keras' TensorFlow "
            f"backend, received {keras.backend.backend()!r}. Set KERAS_BACKEND=tensorflow."
        )
    return in_precision(model, precision)


def _exported(arguments):
    """The `Measured` of --saved-model."""
    from kerasdense.export import measuring
    from kerasdense.export.predictor import Predictor
    from kerasdense.training import run_folder

    asked = {
        "--scales": tuple(arguments.scales) != (1.0,),
        "--flip": arguments.flip,
        "--map": arguments.map,
        "--checkpoint": arguments.checkpoint != CHECKPOINTS[0],
    }
    for flag, is_asked in asked.items():
        if is_asked:
            raise ValueError(
                f"{flag} is not for an export (--saved-model): {OF_RUNS[flag]}. Give the --run."
            )
    served = Predictor(arguments.saved_model, arguments.precision)
    if arguments.precision == "auto":
        print(f"precision {served.precision}: {served.reason}")
    origin = {
        "export": str(served.directory),
        "format": served.format,
        "precision": served.facts["precision"],
        "computed_in": served.precision,
    }

    def measure(task, builder, split, options):
        return measuring.evaluate(served, builder, split, batch_size=arguments.batch_size)

    return Measured(served.directory, origin, run_folder.exported_facts(served.facts), measure)


def _of_classes(task, arguments, facts, builder, name, options):
    """The task with the classes of the dataset, and --map by names: {the run's: the dataset's}.

    The map by indices goes into `options`. Raises: ValueError where the classes are others.
    """
    from kerasdense import tasks
    from kerasdense.training import run_folder

    class_names, palette = task.classes(builder)
    known = list(facts["dataset"]["class_names"])
    if not arguments.map:
        cure = "" if arguments.saved_model else _map_cure(known, class_names, task)
        run_folder.check_classes(facts, class_names, name, cure)
        return task, {}
    options["class_map"] = _class_map(arguments.map, known, class_names, name)
    theirs = {"class_names": class_names, "palette": palette}
    task = tasks.of_run(facts | {"dataset": facts["dataset"] | theirs})
    return task, {known[old]: class_names[new] for old, new in options["class_map"].items()}


def _data(arguments, facts, name, split, class_map):
    """What evaluation.json says of the data, and the parts of the name of the result's folder."""
    is_own = name == facts["dataset"]["name"]
    own = facts["dataset"].get("source") if is_own else None
    source = str(Path(arguments.source).resolve()) if arguments.source else own
    own_values = list(facts["dataset"].get("mask_values") or ()) if is_own else []
    values = list(arguments.mask_values or own_values)
    data = {"dataset": name, "source": source, "mask_values": values or None, "split": split}
    parts = [name, *([Path(source).name] if source != own else []), split]
    if values != own_values:
        parts += ["values", _short("_".join(map(str, values)))]
    if class_map:
        data["class_map"] = class_map
        parts += ["map", _short("+".join(f"{old}-{new}" for old, new in class_map.items()))]
    if arguments.checkpoint != CHECKPOINTS[0]:
        parts.append(arguments.checkpoint)
    return data, parts


def _write(output, task, origin, evaluation):
    """Writes evaluation.json, the charts and the worst pictures, and says so."""
    from kerasdense.drawing import charts, pictures

    result = json.dumps(origin | evaluation.result, indent=2)
    (output / "evaluation.json").write_text(result + "\n")
    for chart, figure in task.charts(evaluation).items():
        charts.save(output / f"{chart}.png", figure)
    for old in output.glob("worst_[0-9]_*.png"):
        old.unlink()  # of an earlier evaluation
    for rank, found in enumerate(evaluation.worst, 1):
        stem = re.sub(r"[^\w.-]+", "_", Path(found["file_name"]).stem)
        pictures.save_picture(output / f"worst_{rank}_{stem}.png", task.worst_picture(found))
    images = evaluation.result["images"]
    print(f"{images} images; evaluation.json and pictures lie in {output}")


def _folder_name(parts, options):
    """Of one result alone.

    By dataset, source and values of masks if they are not the run's, split, map of classes, and
    averaging.

    CamVid's val is camvid_val, also where its source is a folder CamVid.
    """
    if "scales" in options:
        parts = [*parts, "scales", *(f"{scale:g}" for scale in options["scales"])]
    if "flip" in options:
        parts = [*parts, "flip"]
    names = [re.sub(r"[^\w.+-]+", "_", part) for part in parts]
    return "_".join([names[0], *(name for name in names[1:] if name.lower() != names[0])])


def _short(text):
    """A part of the name of a folder: the text, or a hash of one that is long or of odd letters."""
    is_short = len(text) <= LONGEST_VALUES and re.fullmatch(r"[\w.+-]+", text)
    return text if is_short else hashlib.sha256(text.encode()).hexdigest()[:8]


def _class_map(pairs, known, class_names, name):
    """`pairs` of names as {index of the run's class: index of the dataset's}, in their order."""
    found = {}
    for pair in pairs:
        indices = []
        for text, names, whose in zip(pair, (known, class_names), ("the run's", f"{name}'s")):
            try:
                indices.append(class_index(text, names))
            except ValueError as error:
                raise ValueError(f"--map {'='.join(pair)}, {whose} classes: {error}") from None
        old, new = indices
        if found.setdefault(old, new) != new:
            raise ValueError(
                f"--map names '{known[old]}' of the run twice, for {class_names[found[old]]} and "
                f"{class_names[new]}. Expected one class of {name} for each of the run."
            )
    return dict(sorted(found.items()))


def _map_cure(known, class_names, task):
    """The part of an error that names --map, with the classes whose names agree."""
    if "class_map" not in task.options:
        return ""
    folded = {name.casefold(): name for name in class_names}
    pairs = [f"{name}={folded[name.casefold()]}" for name in known if name.casefold() in folded]
    if not pairs:
        return ", or say which of the run's is which of the dataset's: --map CLASS=CLASS,..."
    example = shlex.quote(",".join(pairs))
    return f", or map the run's to the dataset's, such as those whose names agree: --map {example}"


def _options(arguments, task):
    """What is asked for beside the defaults, as arguments of `Task.evaluate`."""
    asked = {}
    if tuple(arguments.scales) != (1.0,):
        asked["scales"] = arguments.scales
    if arguments.flip:
        asked["flip"] = True
    if arguments.map:
        asked["class_map"] = arguments.map  # names as yet
    unknown = [option for option in asked if option not in task.options]
    if unknown:
        flags = " and ".join(FLAGS[option] for option in unknown)
        reasons = "; ".join(dict.fromkeys(REASONS[option] for option in unknown))
        raise ValueError(
            f"{flags} {'are' if len(unknown) > 1 else 'is'} not for a {task.name} run: {reasons}."
        )
    return asked
