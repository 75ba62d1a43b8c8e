"""What happens after each step and each epoch of a run."""

import contextlib
import math
import time

import keras

from kerasdense.training.checkpoints import save_checkpoint
from kerasdense.training.optimizers import learning_rates
from kerasdense.training.run_folder import BEST, LAST


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


class Validation(keras.callbacks.Callback):
    """Adds to the logs what the task measures, and draws its picture for TensorBoard.

    Args:
        task: `tasks.base.Task`.
        schedule: `fitting.Schedule`.
        samples: of the validation data, as of `Task.eval_batches`.
        drawn: the first of them, list of dicts of arrays, without B.
        averaging: `keras.callbacks.SwapEMAWeights` or None.
        logs_directory: of TensorBoard, None for no pictures.
    """

    def __init__(self, task, schedule, samples, drawn, averaging, logs_directory):
        super().__init__()
        self.task, self.schedule, self.samples, self.drawn = task, schedule, samples, drawn
        self.averaging, self.logs_directory = averaging, logs_directory

    def on_epoch_end(self, epoch, logs=None):
        schedule = self.schedule
        due = (epoch + 1) % schedule.validate_every == 0 or epoch + 1 == schedule.epochs
        with averaged(self.averaging):
            if due:
                logs.update(self.task.validate(self.model, self.samples))
            if self.logs_directory:
                picture = self.task.validation_picture(self.model, self.drawn)
                self._write(picture, epoch + 1)

    def _write(self, picture, epoch):
        import tensorflow as tf

        with tf.summary.create_file_writer(str(self.logs_directory / "pictures")).as_default():
            tf.summary.image("validation", picture[None], step=epoch)


class Recorder(keras.callbacks.Callback):
    """Writes a line of metrics, the best and the last model, and tells the time left.

    `workdir`: the run folder; `history`: `checkpoints.History`; others as of `Validation`.
    """

    def __init__(self, workdir, history, schedule, averaging):
        super().__init__()
        self.workdir, self.history, self.schedule = workdir, history, schedule
        self.task, self.averaging = history.task, averaging

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch_began = self.training_ended = time.perf_counter()

    def on_test_begin(self, logs=None):
        self.training_ended = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        logs = {name.replace("logits_mean_iou", "mean_iou"): float(v) for name, v in logs.items()}
        seconds = time.perf_counter() - self.epoch_began
        line = {"epoch": epoch + 1} | logs
        line["learning_rates"] = learning_rates(self.model)
        line["seconds"] = round(seconds, 1)
        line["steps_per_second"] = round(
            self.schedule.steps_per_epoch / (self.training_ended - self.epoch_began), 3
        )
        self.history.append(line)
        if self.history.best() is line:
            self._save_best()
        save_checkpoint(self.model, self.workdir / LAST, epoch + 1)
        print(self._line(line, seconds), flush=True)
        patience = self.schedule.early_stop
        if self.history.stalled(patience):
            print(f"stopping early: no better {self.task.criterion_name} in {patience} epochs")
            self.model.stop_training = True

    def _line(self, line, seconds):
        shown = [f"{name.replace('_', ' ')} {line[name]:.4g}" for name in self.task.shown]
        parts = [f"loss {line['loss']:.4f}" + (f" ({', '.join(shown)})" if shown else "")]
        parts.append(f"val loss {line['val_loss']:.4f}")
        if self.task.criterion in line:
            best = self.history.best()[self.task.criterion]
            value = line[self.task.criterion]
            parts.append(f"{self.task.criterion_name} {value:.4f} (best {best:.4f})")
        epochs = self.schedule.epochs
        left = _duration(seconds * (epochs - line["epoch"]))
        done = f"epoch {line['epoch']}/{epochs}"
        return f"{done}: {', '.join(parts)}; {_duration(seconds)}, {left} left"

    def _save_best(self):
        # Without the optimizer, which only resuming needs; the layers are shared, not copied.
        model = keras.Model(self.model.input, self.model.output, name=self.model.name)
        with averaged(self.averaging):
            save_checkpoint(model, self.workdir / BEST, self.history.best()["epoch"])


@contextlib.contextmanager
def averaged(averaging):
    """Puts the averaged weights into the model for a while, where they are averaged."""
    if averaging:
        averaging.on_test_begin()
    try:
        yield
    finally:
        if averaging:
            averaging.on_test_end()


def _duration(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{seconds:02}s"
