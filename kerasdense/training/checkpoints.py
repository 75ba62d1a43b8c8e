"""Models as files that know their epoch, and the epochs' lines of numbers."""

import json
import os
import zipfile

import keras

# What saved models and their optimizers' files name, to be registered before one is loaded.
import kerasdense.metrics.mean_iou
import kerasdense.models.layers
import kerasdense.models.losses  # noqa: F401

EPOCH_FILE = "epoch.json"  # member of a checkpoint: one file, so both are always of one epoch


def save_checkpoint(model, path, epochs_done):
    """Replaces `path` in one step, so that a kill leaves the old file or the new one, whole."""
    aside = path.with_name(f"writing-{path.name}")
    try:
        model.save(aside)
        with zipfile.ZipFile(aside, "a") as archive:
            archive.writestr(EPOCH_FILE, json.dumps({"epochs_done": epochs_done}))
        os.replace(aside, path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise OSError(
            f"Cannot write {path}: {error.strerror or error}. What was saved before is untouched. "
            "Make room or allow writing there, then give the same command again to resume."
        ) from error


def load_model(path, compile=True):
    """The model of a checkpoint; with its optimizer, if it has one, unless `compile` is False.

    Raises: ValueError if it is damaged; OSError if it cannot be read.
    """
    try:
        return keras.models.load_model(path, compile=compile)
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        if isinstance(error, PermissionError):
            raise
        reason = str(error).strip().splitlines()[0][:200]
        raise ValueError(
            f"{path} cannot be loaded: {reason} It is damaged or of another version of Keras "
            f"or kerasdense; repeat the fit, or take the other checkpoint."
        ) from error


def load_checkpoint(path):
    """The compiled model of a checkpoint, and the epochs it was trained for: (keras.Model, int)."""
    model = load_model(path)
    with zipfile.ZipFile(path) as archive:
        return model, json.loads(archive.read(EPOCH_FILE))["epochs_done"]


class History:
    """The lines of metrics.jsonl, one an epoch.

    `path`: of the file; `epochs_done`: how many of its lines count; `task`: `tasks.base.Task`.
    """

    def __init__(self, path, epochs_done, task):
        self.path, self.task = path, task
        lines = path.read_text().splitlines() if path.exists() else []
        # A kill between this file and last.keras leaves a line too many; that epoch runs again.
        self.epochs = [json.loads(line) for line in lines[:epochs_done]]

    def append(self, line):
        self.epochs.append(line)
        aside = self.path.with_name(f"writing-{self.path.name}")
        aside.write_text("".join(json.dumps(epoch) + "\n" for epoch in self.epochs))
        os.replace(aside, self.path)

    def best(self):
        """The best of the epochs whose criterion was measured, or None."""
        measured = [line for line in self.epochs if self.task.criterion in line]
        return max(measured, key=lambda line: line[self.task.criterion], default=None)

    def best_line(self):
        best = self.best()
        if best is None:
            return f"{self.task.criterion_name} not measured yet"
        return (
            f"{self.task.criterion_name} {best[self.task.criterion]:.4f} in epoch {best['epoch']}"
        )

    def stalled(self, patience):
        """Whether the last `patience` epochs (None: never) brought nothing better."""
        best = self.best()
        return bool(patience and best and len(self.epochs) - best["epoch"] >= patience)
