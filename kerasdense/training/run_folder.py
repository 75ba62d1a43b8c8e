"""The run folder: run.json beside the models that training keeps, and the dataset it names."""

import json
import os
from pathlib import Path

from kerasdense import tasks
from kerasdense.training.checkpoints import load_model

FACTS = "run.json"
BEST, LAST = "best.keras", "last.keras"
METRICS = "metrics.jsonl"  # a line an epoch
REQUIRED = ("model", "dataset")  # what evaluation, prediction and export need to know
FIRST_TASK = "segmentation"  # the first runs did not name theirs


def write_run(directory, facts):
    """Write `facts` (JSON-like) to DIRECTORY/run.json, whole or not at all."""
    path = Path(directory) / FACTS
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(FACTS + ".unfinished")
    aside.write_text(json.dumps(facts, indent=2) + "\n")
    os.replace(aside, path)


def read_run(directory):
    """The facts in DIRECTORY/run.json, a dict.

    Raises: FileNotFoundError without one; ValueError if it is damaged or lacks an entry.
    """
    path = Path(directory) / FACTS
    if not path.is_file():
        raise FileNotFoundError(
            f"{directory} is no run folder: it holds no {FACTS}. Give the --workdir of a "
            f"finished or running fit."
        )
    try:
        facts = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged, expected JSON: {error}.") from error
    missing = [key for key in REQUIRED if not isinstance(facts, dict) or key not in facts]
    if missing:
        raise ValueError(f"{path} lacks {' and '.join(missing)}. Was it written by a fit?")
    facts.setdefault("task", FIRST_TASK)
    return facts


def load_run(directory, checkpoint=BEST):
    """The model kept in a run folder, uncompiled, and the run's facts: (keras.Model, dict).

    `checkpoint`: BEST or LAST.
    Raises: FileNotFoundError without run.json or checkpoint; ValueError if one is damaged.
    """
    facts = read_run(directory)
    path = Path(directory) / checkpoint
    if not path.is_file():
        raise FileNotFoundError(
            f"{directory} holds no {checkpoint} yet: training writes it after its first epoch. "
            f"Let the run finish an epoch."
        )
    return load_model(path, compile=False), facts


def load_dataset(facts, name=None, source=None, prepared_dir=None):
    """A prepared dataset for a run, by default its own: (builder, name).

    `facts`: of the run, see `read_run`; the others as of `data.datasets.load`.
    Raises: ValueError if there is none, or its classes are not the run's.
    """
    from kerasdense.data import datasets

    dataset = facts["dataset"]
    # Another dataset has another source: the run's own serves only its own dataset.
    name = name or dataset["name"]
    if name is None:
        raise ValueError("The run was fitted on no dataset of ours. Name one by --dataset.")
    source = source or (dataset.get("source") if name == dataset["name"] else None)
    prepared_dir = prepared_dir or dataset.get("prepared_dir")
    builder = datasets.load(name, source=source, prepared_dir=prepared_dir)
    class_names, _ = tasks.named(facts["task"]).classes(builder)
    if class_names != list(dataset["class_names"]):
        raise ValueError(
            f"The run knows the classes {', '.join(dataset['class_names'])}, {name} has "
            f"{', '.join(class_names)}. Take a dataset with the same classes in this order."
        )
    return builder, name


def summary(directory):
    """What an exported model tells of its training: a JSON-like dict, without local paths.

    The model and its arguments, dataset and splits, weights, parameters, versions, and
    `best_epoch`, the epoch of BEST with its numbers (None if the run has no metrics, as after an
    import of weights).
    Raises: as `read_run`.
    """
    facts = read_run(directory)
    metrics = Path(directory) / METRICS
    lines = metrics.read_text().splitlines() if metrics.is_file() else []
    criterion = tasks.named(facts["task"]).criterion
    measured = [line for line in map(json.loads, lines) if criterion in line]
    kept = ("model", "seed", "parameters", "versions")
    dataset = {key: facts["dataset"].get(key) for key in ("name", "splits")}
    return {
        **{key: facts[key] for key in kept if key in facts},
        "dataset": dataset,
        "best_epoch": max(measured, key=lambda line: line[criterion], default=None),
    }
