"""Models as files that know their epoch, and the epochs' lines of numbers."""

import json
import os
import zipfile

import keras

EPOCH_FILE = "epoch.json"  # member of a checkpoint: one file, so both are always of one epoch


def save_checkpoint(model, path, epochs_done, line=None):
    """Replaces `path` in one step, so that a kill leaves the old file or the new one, whole.

    `line`: what is known of the last epoch so far, ready for JSON, see `load_checkpoint`.
    """
    aside = path.with_name(f"writing-{path.name}")
    try:
        model.save(aside)
        with zipfile.ZipFile(aside, "a") as archive:
            facts = {"epochs_done": epochs_done, "line": line}
            archive.writestr(EPOCH_FILE, json.dumps(facts))
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
    """The compiled model of a checkpoint, the epochs it was trained for, and the last one's line.

    (keras.Model, int, dict or None): the line lacks what validation tells; checkpoints of earlier
    versions have none.
    """
    model = load_model(path)
    facts = _epoch_facts(path)
    return model, facts["epochs_done"], facts.get("line")


def epoch_of(path):
    """The epochs that the model of a checkpoint was trained for; None where it does not tell."""
    return _epoch_facts(path).get("epochs_done")


def _epoch_facts(path):
    try:
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read(EPOCH_FILE))
    except (KeyError, zipfile.BadZipFile):  # saved by others, or damaged: loading it will tell
        return {}


class History:
    """The lines of metrics.jsonl, one an epoch.

    `path`: of the file; `epochs_done`: how many of its lines count; `task`: `tasks.base.Task`.
    """

    def __init__(self, path, epochs_done, task):
        self.path, self.task = path, task
        lines = path.read_text().splitlines() if path.exists() else []
        # A line beyond the saved epochs is of one that runs again.
        lines = map(json.loads, lines)
        self.epochs = [line for line in lines if line["epoch"] <= epochs_done]

    def has(self, epoch):
        """Whether there is a line of this epoch (1 is the first)."""
        return any(line["epoch"] == epoch for line in self.epochs)

    def append(self, line):
        self.epochs.append(line)
        aside = self.path.with_name(f"writing-{self.path.name}")
        aside.write_text("".join(json.dumps(epoch) + "\n" for epoch in self.epochs))
        os.replace(aside, self.path)

    def best(self):
        """The best of the epochs whose criterion was measured, or None."""
        return max(self._measured(), key=lambda line: line[self.task.criterion], default=None)

    def best_line(self):
        best = self.best()
        if best is None:
            return f"{self.task.criterion_name} not measured yet"
        return (
            f"{self.task.criterion_name} {best[self.task.criterion]:.4f} in epoch {best['epoch']}"
        )

    def stalled(self, patience):
        """Whether the last `patience` validations (None: never) brought nothing better."""
        best = self.best()
        since = [line for line in self._measured() if best and line["epoch"] > best["epoch"]]
        return bool(patience and len(since) >= patience)

    def _measured(self):
        return [line for line in self.epochs if self.task.criterion in line]
