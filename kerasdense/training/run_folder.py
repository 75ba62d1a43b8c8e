"""The run folder: run.json beside the models that training keeps."""

import json
import os
from pathlib import Path

import keras

import kerasdense.models.layers  # noqa: F401  (registers the layers that saved models name)

FACTS = "run.json"
BEST, LAST = "best.keras", "last.keras"
METRICS = "metrics.jsonl"  # a line an epoch
REQUIRED = ("model", "dataset")  # what evaluation, prediction and export need to know
# The entry of an epoch's line that is highest for BEST, by task.
CRITERIA = {
    "segmentation": "val_mean_iou",
    "detection": "val_mean_ap",
    "classification": "val_mean_ap",
}


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
            f"finished or running fit script."
        )
    try:
        facts = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged, expected JSON: {error}.") from error
    missing = [key for key in REQUIRED if not isinstance(facts, dict) or key not in facts]
    if missing:
        raise ValueError(f"{path} lacks {' and '.join(missing)}. Was it written by a fit script?")
    facts.setdefault("task", "segmentation")  # the first runs did not name it
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
    try:
        model = keras.models.load_model(path, compile=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise ValueError(
            f"{path} cannot be loaded: {reason} It is damaged or of another version of Keras "
            f"or kerasdense; repeat the fit, or take the other checkpoint."
        ) from error
    return model, facts


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
    criterion = CRITERIA[facts["task"]]
    measured = [line for line in map(json.loads, lines) if criterion in line]
    kept = ("model", "seed", "parameters", "versions")
    dataset = {key: facts["dataset"].get(key) for key in ("name", "splits")}
    return {
        **{key: facts[key] for key in kept if key in facts},
        "dataset": dataset,
        "best_epoch": max(measured, key=lambda line: line[criterion], default=None),
    }
