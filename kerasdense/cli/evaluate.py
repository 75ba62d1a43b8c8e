"""Measures a fitted model on a split of a dataset.

    kerasdense evaluate --run runs/camvid
    kerasdense evaluate --run runs/camvid --split test --scales 0.75,1,1.25 --flip

Segmentation: prints IoU by class, mean IoU and pixel accuracy, and writes evaluation.json, a
chart of the confusion matrix and pictures of the worst images. Detection: average precision by
the rules of VOC and COCO, and precision-recall curves. Classification: average precision of the
labels by VOC's rules, and the curves. Charts are PNG, and PDF for papers.

The dataset is the run's own, and the split that of its validation, unless others are named. Each
dataset, split and way of averaging has a folder of its own below RUN/evaluation.
"""

import hashlib
import json
import re
from pathlib import Path

from kerasdense.cli.arguments import (
    add_dataset,
    add_measured_split,
    add_run,
    numbers,
    positive,
)

BATCH_SIZE = 8  # of images that are warped to one size; others are measured one by one
LONGEST_VALUES = 40  # letters of --mask-values in the name of a folder
TRAINED_ON = {
    True: ", which the run was trained on",
    False: "",
    None: " (whether the run was trained on it is unknown: its record, or that of what it began "
    "with, does not tell its pictures, or they are others by now)",
}


def add_arguments(parser):
    add_run(parser)
    add_dataset(parser, required=False)
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
        "--batch-size",
        type=positive(int),
        metavar="N",
        help="images measured at once, padded to the largest where their sizes differ (default: "
        f"{BATCH_SIZE} where the model has an image size of its own, else 1)",
    )
    parser.add_argument(
        "--output", type=Path, help="folder (default: RUN/evaluation/DATASET_SPLIT)"
    )


def run(arguments):
    from kerasdense import tasks
    from kerasdense.drawing import charts, pictures
    from kerasdense.training import run_folder

    model, facts = run_folder.load_run(arguments.run)
    builder, name = run_folder.load_dataset(
        facts,
        arguments.dataset,
        arguments.source,
        arguments.prepared_dir,
        arguments.mask_values,
    )
    task = tasks.of_run(facts)
    options = _options(arguments, task)
    split = arguments.split or run_folder.validation_split(facts, arguments.dataset)
    trained_on = run_folder.check_measured(facts, builder, name, split, arguments.allow_trained)
    own = facts["dataset"].get("source") if name == facts["dataset"]["name"] else None
    source = str(Path(arguments.source).resolve()) if arguments.source else own
    is_own = name == facts["dataset"]["name"]
    own_values = list(facts["dataset"].get("mask_values") or ()) if is_own else []
    values = list(arguments.mask_values or own_values)
    origin = {
        "dataset": name,
        "source": source,
        "mask_values": values or None,
        "split": split,
        "trained_on": trained_on,
        "run": str(arguments.run),
    }
    parts = [name, *([Path(source).name] if source != own else []), split]
    if values != own_values:
        written = "_".join(map(str, values))
        short = len(written) <= LONGEST_VALUES
        parts += ["values", written if short else hashlib.sha256(written.encode()).hexdigest()[:8]]
    output = arguments.output or arguments.run / "evaluation" / _folder_name(parts, options)
    output.mkdir(parents=True, exist_ok=True)  # fails now rather than after the evaluation
    print(f"{arguments.run} on {name}, split {split}{TRAINED_ON[trained_on]}")
    task.check_data(builder, split)
    batch_size = arguments.batch_size or (BATCH_SIZE if task.image_size_of(model) else 1)
    samples = task.eval_batches(model, builder, split, batch_size)
    evaluation = task.evaluate(model, samples, **options)
    print(task.table(evaluation.result))
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

    By dataset, source and values of masks if they are not the run's, split, and averaging.

    CamVid's val is camvid_val, also where its source is a folder CamVid.
    """
    if "scales" in options:
        parts = [*parts, "scales", *(f"{scale:g}" for scale in options["scales"])]
    if "flip" in options:
        parts = [*parts, "flip"]
    names = [re.sub(r"[^\w.+-]+", "_", part) for part in parts]
    return "_".join([names[0], *(name for name in names[1:] if name.lower() != names[0])])


def _options(arguments, task):
    """What is asked for beside the defaults, as arguments of `Task.evaluate`."""
    asked = {}
    if tuple(arguments.scales) != (1.0,):
        asked["scales"] = arguments.scales
    if arguments.flip:
        asked["flip"] = True
    unknown = [f"--{name}" for name in asked if name not in task.options]
    if unknown:
        raise ValueError(
            f"{' and '.join(unknown)} {'are' if len(unknown) > 1 else 'is'} not for a {task.name} "
            f"run: only label maps are averaged over passes."
        )
    return asked
