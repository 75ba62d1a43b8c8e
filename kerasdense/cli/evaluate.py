"""Measures a fitted model on a split of a dataset.

    kerasdense evaluate --run runs/camvid --split val
    kerasdense evaluate --run runs/camvid --split val --scales 0.75,1,1.25 --flip

Segmentation: prints IoU by class, mean IoU and pixel accuracy, and writes evaluation.json, a
chart of the confusion matrix and pictures of the worst images. Detection: average precision by
the rules of VOC and COCO, and precision-recall curves. Classification: average precision of the
labels by VOC's rules, and the curves. Charts are PNG, and PDF for papers. The dataset is the run's
own unless others are named.
"""

import json
import re
from pathlib import Path

from kerasdense.cli.arguments import add_dataset, add_run, numbers

BATCH_SIZE = 8  # of images that are warped to one size; others are measured one by one


def add_arguments(parser):
    add_run(parser)
    add_dataset(parser, required=False)
    parser.add_argument("--split", default="val", help="what is measured")
    parser.add_argument(
        "--scales",
        type=numbers,
        default=(1.0,),
        help="comma-separated factors of the image size, averaged, e.g. 0.75,1,1.25; segmentation",
    )
    parser.add_argument(
        "--flip", action="store_true", help="average with the mirrored image; segmentation"
    )
    parser.add_argument("--output", type=Path, help="folder (default: RUN/evaluation)")


def run(arguments):
    from kerasdense import tasks
    from kerasdense.drawing import charts, pictures
    from kerasdense.training import run_folder

    model, facts = run_folder.load_run(arguments.run)
    builder, name = run_folder.load_dataset(
        facts, arguments.dataset, arguments.source, arguments.prepared_dir
    )
    task = tasks.of_run(facts)
    options = _options(arguments, task)
    output = arguments.output or arguments.run / "evaluation"
    output.mkdir(parents=True, exist_ok=True)  # fails now rather than after the evaluation
    print(f"{arguments.run} on {name}, split {arguments.split}")
    batch_size = BATCH_SIZE if task.image_size_of(model) else 1
    samples = task.eval_batches(model, builder, arguments.split, batch_size)
    evaluation = task.evaluate(model, samples, **options)
    print(task.table(evaluation.result))
    origin = {"dataset": name, "split": arguments.split, "run": str(arguments.run)}
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
