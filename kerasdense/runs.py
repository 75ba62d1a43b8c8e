"""The run folder: run.json beside the models that training keeps."""

import json
import os
from pathlib import Path

import keras

import kerasdense.layers  # noqa: F401  (registers the layers that saved models name)

FACTS = "run.json"
BEST, LAST = "best.keras", "last.keras"
REQUIRED = ("model", "dataset")  # what evaluation, prediction and export need to know


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
