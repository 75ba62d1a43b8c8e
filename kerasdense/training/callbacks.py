"""What happens after each step and each epoch of a run."""

import json
import math
import time

import keras

from kerasdense.drawing.progress import Progress, duration
from kerasdense.training.checkpoints import epoch_of, save_checkpoint
from kerasdense.training.optimizers import averaged, learning_rates
from kerasdense.training.run_folder import BEST, LAST

STEPS_TOLD = 10  # steps between two losses that TensorBoard shows within an epoch
PLACES = ("workdir", "source", "prepared_dir")  # arguments that are no hyper-parameters
WHOLE_RUN = ""  # TensorBoard's name of the folder itself


class NonFiniteLoss(ValueError):
    """The loss became NaN or infinite; the message names the step."""


class StopOnNonFiniteLoss(keras.callbacks.Callback):
    """Raises NonFiniteLoss; `step`: how many were done before."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise NonFiniteLoss(
                f"The loss is {loss} at step {self.step}. Expected a finite number. Lower the "
                "learning rate, or train with --precision float32 or mixed_bfloat16."
            )


class Steps(keras.callbacks.Callback):
    """Tells how far an epoch is, and its loss so far; to TensorBoard, too.

    `schedule`: `fitting.Schedule`; `board`: `TensorBoard` or None.
    """

    def __init__(self, schedule, board):
        super().__init__()
        self.schedule, self.board, self.progress = schedule, board, None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        what = f"epoch {epoch + 1}/{self.schedule.epochs}"
        self.progress = Progress(self.schedule.steps_per_epoch, "steps", what)

    def on_train_batch_end(self, batch, logs=None):
        self.progress.update(batch + 1, f"loss {float(logs['loss']):.4f}")
        if self.board and (batch + 1) % STEPS_TOLD == 0:
            step = self.epoch * self.schedule.steps_per_epoch + batch + 1
            self.board.scalars({"loss within the epoch": float(logs["loss"])}, step)

    def on_epoch_end(self, epoch, logs=None):
        self.close()

    def close(self):
        if self.progress:
            self.progress.close()


class _Validating(keras.callbacks.Callback):
    """Tells how far `Model.evaluate` is."""

    def __init__(self, progress):
        super().__init__()
        self.progress = progress

    def on_test_batch_end(self, batch, logs=None):
        self.progress.update(batch + 1)


class Validation:
    """What is measured after an epoch.

    Args:
        task: `tasks.base.Task`.
        schedule: `fitting.Schedule`.
        samples: of the validation data, as of `Task.eval_batches`.
        pairs: of the same, what `Model.evaluate` takes.
    """

    def __init__(self, task, schedule, samples, pairs):
        self.task, self.schedule = task, schedule
        self.samples, self.pairs = samples, pairs

    def measure(self, model, epoch):
        """Entries of an epoch's line (1 is the first): {"val_...": number, or dict of such}."""
        with Progress(_count(self.pairs), "batches", "validation") as progress:
            found = model.evaluate(
                self.pairs, verbose=0, callbacks=[_Validating(progress)], return_dict=True
            )
        found = {f"val_{name}": float(value) for name, value in main_metrics(found).items()}
        if epoch % self.schedule.validate_every == 0 or epoch == self.schedule.epochs:
            found |= self.task.validate(model, self.samples)
        return found


class Recorder(keras.callbacks.Callback):
    """After an epoch: saves the model, validates it, writes its line, keeps the best.

    In this order, so that nothing is lost where validation fails, and so that a kill between two of
    these steps is mended by `mend`: only the newest epoch can lack one, and its model is saved.

    Args:
        workdir: the run folder.
        history: `checkpoints.History`.
        validation: `Validation`.
        board: `TensorBoard` or None.
    """

    def __init__(self, workdir, history, validation, board):
        super().__init__()
        self.workdir, self.history, self.validation = workdir, history, validation
        self.task, self.schedule, self.board = history.task, validation.schedule, board

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch_began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self.epoch_began
        line = {"epoch": epoch + 1} | main_metrics({name: float(v) for name, v in logs.items()})
        line["learning_rates"] = learning_rates(self.model)
        line["seconds"] = round(seconds, 1)
        line["steps_per_second"] = round(self.schedule.steps_per_epoch / seconds, 3)
        save_checkpoint(self.model, self.workdir / LAST, epoch + 1, line)
        self._conclude(line)
        patience = self.schedule.early_stop
        if self.history.stalled(patience):
            better = f"a better {self.task.criterion_name}"
            print(f"stopping early: {patience} validations without {better}")
            self.model.stop_training = True

    def mend(self, line):
        """Does for the newest epoch what a kill has left undone.

        `line`: of that epoch, as `load_checkpoint` has it; None for checkpoints without one.
        """
        if line and not self.history.has(line["epoch"]):
            print(f"epoch {line['epoch']} was saved, but not validated yet", flush=True)
            self._conclude(line)
        best, path = self.history.best(), self.workdir / BEST
        kept = epoch_of(path) if path.exists() else None
        if best is None or kept == best["epoch"]:
            return
        if line and best["epoch"] == line["epoch"]:
            with averaged(self.model):
                self._save_best()
        else:
            print(
                f"{path} is of epoch {kept}, while {self.history.path.name} calls epoch "
                f"{best['epoch']} the best, whose weights are gone: the next better one replaces it"
            )

    def _conclude(self, line):
        began = time.perf_counter()
        with averaged(self.model):
            line |= self.validation.measure(self.model, line["epoch"])
            line["seconds"] = round(line["seconds"] + time.perf_counter() - began, 1)
            self.history.append(line)
            if self.history.best() is line:
                self._save_best()
            print(self._line(line), flush=True)
            if self.board:
                self.board.epoch(self.model, line)

    def _line(self, line):
        shown = [f"{name.replace('_', ' ')} {line[name]:.4g}" for name in self.task.shown]
        parts = [f"loss {line['loss']:.4f}" + (f" ({', '.join(shown)})" if shown else "")]
        parts.append(f"val loss {line['val_loss']:.4f}")
        if self.task.criterion in line:
            best = self.history.best()[self.task.criterion]
            value = line[self.task.criterion]
            parts.append(f"{self.task.criterion_name} {value:.4f} (best {best:.4f})")
        epochs = self.schedule.epochs
        left = duration(line["seconds"] * (epochs - line["epoch"]))
        done = f"epoch {line['epoch']}/{epochs}"
        return f"{done}: {', '.join(parts)}; {duration(line['seconds'])}, {left} left"

    def _save_best(self):
        # Without the optimizer, which only resuming needs; the layers are shared, not copied.
        model = keras.Model(self.model.input, self.model.output, name=self.model.name)
        save_checkpoint(model, self.workdir / BEST, self.history.best()["epoch"])


class TensorBoard:
    """Writes what TensorBoard shows of a run into a folder.

    `directory`: of the logs; `task`: `tasks.base.Task`; `drawn`: a function that gives samples of
    the validation data to draw, list of dicts of arrays, without B.
    """

    def __init__(self, directory, task, drawn):
        self.directory, self.task, self.drawn = directory, task, drawn
        self.writers = {}

    def run(self, facts):
        """Writes the configuration of the run, `run.json`: as text, and as hyper-parameters."""
        import tensorflow as tf
        from tensorboard.plugins.hparams import api

        known = (bool, int, float, str)
        parameters = {"model": facts["model"]["name"]} | {
            name: value if isinstance(value, known) else str(value)
            for name, value in facts["arguments"].items()
            if value is not None and name not in PLACES
        }
        with self._writer(WHOLE_RUN):  # so that the results of all parts count as this run's
            tf.summary.text("run", f"```\n{json.dumps(facts, indent=2)}\n```", step=0)
            api.hparams(parameters)

    def scalars(self, values, step, writer="train"):
        import tensorflow as tf

        with self._writer(writer):
            for name, value in values.items():
                tf.summary.scalar(name, value, step=step)

    def epoch(self, model, line):
        """Writes the numbers of an epoch, its `line`, and the picture of the task."""
        import tensorflow as tf

        step = line["epoch"]
        rates = {f"learning rate {i}": rate for i, rate in enumerate(line["learning_rates"])}
        self.scalars(rates | {"steps per second": line["steps_per_second"]}, step)
        for name, value in line.items():
            writer = "validation" if name.startswith("val_") else "train"
            name = name.removeprefix("val_")
            if isinstance(value, dict):  # by class
                by_class = {f"{name}/{key}": v for key, v in value.items() if v is not None}
                self.scalars(by_class, step, writer)
            elif name not in ("epoch", "learning_rates", "seconds", "steps_per_second"):
                self.scalars({f"epoch_{name}": value}, step, writer)
        if callable(self.drawn):
            self.drawn = self.drawn()
        with self._writer("pictures"):
            picture = self.task.validation_picture(model, self.drawn)
            tf.summary.image("validation", picture[None], step=step)
        for writer in self.writers.values():
            writer.flush()

    def _writer(self, name):
        import tensorflow as tf

        if name not in self.writers:
            self.writers[name] = tf.summary.create_file_writer(str(self.directory / name))
        return self.writers[name].as_default()


def _count(batches):
    """How many there are, None if that is not known."""
    if hasattr(batches, "cardinality"):
        return max(int(batches.cardinality()), 0) or None
    return len(batches)


def main_metrics(logs):
    """The numbers of a model's logs, those of its main output under their own names."""
    return {name.replace("logits_mean_iou", "mean_iou"): value for name, value in logs.items()}
