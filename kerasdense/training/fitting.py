"""Training a dense-prediction model with `Model.fit`, in a run folder that survives interruption.

The run folder holds `run.json` (what was run), `metrics.jsonl` (a line an epoch), `best.keras`
(best on the validation data, without optimizer), `last.keras` (with optimizer state, to resume)
and `tensorboard/`. Nothing here needs TensorFlow but the TensorBoard logs.
"""

import contextlib
import dataclasses
import json
import math
import os
import re
import time
import zipfile
from collections.abc import Callable
from importlib import metadata, util
from pathlib import Path

import keras
import numpy as np

from kerasdense.drawing import pictures
from kerasdense.training.adversarial import train_on_adversarial_examples
from kerasdense.metrics.labels import IGNORE
from kerasdense.models.losses import (
    MultiboxLoss,
    confidence_loss,
    localization_loss,
    multi_label_loss,
    positives,
)
from kerasdense.metrics.mean_iou import MeanIoU
from kerasdense.training.run_folder import CRITERIA, METRICS, read_run, write_run

AUXILIARY_SHARE = 0.3  # of the loss, where a model has auxiliary logits (Kreso et al., 2017)
EPOCH_FILE = "epoch.json"  # member of last.keras: one file, so both are always of one epoch
PICTURES = 4  # validation images drawn for TensorBoard
RESUME_MAY_CHANGE = {  # arguments
    "workdir", "source", "prepared_dir", "xla", "early_stop", "validate_every",
}  # fmt: skip


class NonFiniteLoss(ValueError):
    """The loss became NaN or infinite; the message names the step."""


@dataclasses.dataclass(frozen=True)
class Task:
    """What a model is fitted for; `segmentation_task` and its like make one.

    Attributes:
        name: "segmentation", "detection" or "classification", recorded in run.json.
        compile_arguments: `(model) -> dict` of the loss and the metrics for `Model.compile`.
        criterion: entry of an epoch's logs that is highest for the best model.
        criterion_name: how messages call it.
        shown: further entries of the logs, named in the line of an epoch.
        validate: `(model) -> dict` of entries to add to the logs, besides those of `Model.fit`.
        validate_every: so many epochs apart; the last epoch is always validated.
        draw: `(model) -> picture`, uint8 [h, w, 3], for TensorBoard after every epoch.
    """

    name: str
    compile_arguments: Callable
    criterion: str
    criterion_name: str
    shown: tuple = ()
    validate: Callable | None = None
    validate_every: int = 1
    draw: Callable | None = None


def segmentation_task(class_names, palette, validation_batches):
    """The `Task` of a segmentation model: cross entropy, mean IoU and overlays of label maps.

    Args:
        class_names, palette: of the dataset.
        validation_batches: batches of uint8 images `[B, H, W, 3]` and label maps `[B, H, W]`, of
            which the first few are drawn.
    """

    def compile_arguments(model):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=IGNORE)
        if not isinstance(model.output, dict):
            return {"loss": loss, "metrics": [MeanIoU(len(class_names))]}
        return {
            "loss": {"logits": loss, "auxiliary_logits": loss},
            "loss_weights": {
                "logits": 1 - AUXILIARY_SHARE,
                "auxiliary_logits": AUXILIARY_SHARE,
            },
            "metrics": {"logits": MeanIoU(len(class_names))},
        }

    samples = []
    for images, masks in validation_batches:
        samples += zip(np.asarray(images), np.asarray(masks))
        if len(samples) >= PICTURES:
            break

    def draw(model):
        rows = []
        for image, mask in samples[:PICTURES]:
            outputs = model.predict_on_batch(image[None])
            logits = outputs["logits"] if isinstance(outputs, dict) else outputs
            labels = np.argmax(logits[0], axis=-1).astype(np.uint8)
            overlays = [pictures.overlay(image, each, palette) for each in (mask, labels)]
            rows.append([image, *overlays])
        return pictures.gallery(rows, captions=["image", "truth", "prediction"])

    criterion = CRITERIA["segmentation"]
    return Task("segmentation", compile_arguments, criterion, "val mean IoU", draw=draw)


def detection_task(validate, validate_every=1, draw=None):
    """The `Task` of an SSD: multibox loss, and average precision on the validation data.

    Args:
        validate: `(model) -> {"val_mean_ap": ...}`, such as `evaluation.evaluate_detections` gives.
        validate_every, draw: see `Task`.
    """

    def compile_arguments(model):
        return {
            "loss": MultiboxLoss(),
            "metrics": [confidence_loss, localization_loss, positives],
        }

    return Task(
        "detection",
        compile_arguments,
        CRITERIA["detection"],
        "val mean AP",
        shown=("confidence_loss", "localization_loss", "positives"),
        validate=validate,
        validate_every=validate_every,
        draw=draw,
    )


def classification_task(validate, draw=None):
    """The `Task` of a multi-label classifier: binary cross-entropy, and average precision.

    Args:
        validate: `(model) -> {"val_mean_ap": ...}`, such as `evaluation.evaluate_classification`
            gives.
        draw: see `Task`.
    """
    return Task(
        "classification",
        lambda model: {"loss": multi_label_loss},
        CRITERIA["classification"],
        "val mean AP",
        validate=validate,
        draw=draw,
    )


def fit(
    task,
    build_model,
    make_optimizer,
    train_batches,
    validation_batches,
    workdir,
    run,
    epochs,
    steps_per_epoch,
    weight_decay=0.0,
    jit_compile=False,
    early_stop=None,
    average_weights=None,
    adversarial=None,
):
    """Fits a model, or goes on with the run that `workdir` holds.

    Args:
        task: a `Task`.
        build_model: `() -> (model, WeightsReport)`; called only where a run begins.
        make_optimizer: `(is_pretrained) -> keras.optimizers.Optimizer`; called once for the
            variables that came from pretrained weights and once for all others.
        train_batches: `(first_step) -> batches` without end, from that step on, of uint8 images
            `[B, H, W, 3]` and targets: uint8 label maps `[B, H, W]` (255 = ignore), for SSD
            float32 `[B, A, 5]` (`anchors.encode_targets`), for a classifier float32 `[B, C]`
            (`pipeline.image_labels`).
        validation_batches: finite batches of the same kind.
        workdir: the run folder; created where it is missing.
        run: what `run.json` records, a dict that JSON can hold, with at least
            `{"model": {"name": ...}, "arguments": {...}, "dataset": {"class_names": [...],
            "palette": [[r, g, b], ...]}}`.
        epochs, steps_per_epoch: how long to train.
        weight_decay: of the convolutions' kernels, as an L2 term `weight_decay / 2 * |w|^2` in
            the loss, which is how the papers' frameworks decay.
        jit_compile: whether to compile the steps with XLA (TensorFlow backend).
        early_stop: end after this many epochs without a better value of the task's criterion.
        average_weights: momentum of an exponential moving average of the weights, for example
            0.999. The average is what is validated, kept in `best.keras` and returned.
        adversarial: `adversarial_training.AdversarialExamples` to train a segmentation model on
            instead of the images themselves; None is ordinary training.

    Returns:
        The fitted `keras.Model`.

    Raises:
        ValueError: If `workdir` holds a run of another model, dataset or arguments.
        NonFiniteLoss: With the step, when the loss is no longer finite. What was saved of the
            epochs before stays.
    """
    workdir = Path(workdir)
    begun = (workdir / "run.json").exists()
    if begun:
        _check_same_run(read_run(workdir), run, workdir)
    elif workdir.exists() and any(workdir.iterdir()):
        raise ValueError(
            f"The workdir {workdir} is not empty and holds no run. Expected an empty or new folder."
        )

    epochs_done = 0
    if (workdir / "last.keras").exists():
        model, epochs_done = _load_checkpoint(workdir / "last.keras")
        print(f"resuming {workdir} after epoch {epochs_done} of {epochs}")
    else:
        model, weights = build_model()
        _add_weight_decay(model, weight_decay)
        optimizer = _optimizer(model, make_optimizer, set(weights.loaded), average_weights)
        model.compile(optimizer, **task.compile_arguments(model), jit_compile=False)
        run = run | {
            "weights": {
                "source": weights.source,
                "loaded": len(weights.loaded),
                "skipped": len(weights.skipped),
            }
        }
    run = run | {"task": task.name, "versions": versions(), "parameters": _parameter_counts(model)}
    if not begun:
        workdir.mkdir(parents=True, exist_ok=True)
        write_run(workdir, run)
    history = _History(workdir / METRICS, epochs_done, task)
    if epochs_done >= epochs:
        print(f"{workdir} is complete: {epochs_done} epochs, best {history.best_line()}")
        return model
    if history.stalled(early_stop):
        print(f"{workdir} was stopped early: best {history.best_line()}")
        return model

    model.jit_compile = jit_compile
    if adversarial:
        train_on_adversarial_examples(model, adversarial)
    _print_facts(run, epochs, steps_per_epoch, jit_compile, adversarial)
    callbacks = [_StopOnNonFiniteLoss(epochs_done * steps_per_epoch)]
    averaging = keras.callbacks.SwapEMAWeights() if average_weights else None
    if averaging:
        callbacks.append(averaging)
    logs_directory = _tensorboard_directory(workdir)
    # In this order: validation adds to the logs that the recorder and TensorBoard write.
    callbacks.append(_Validation(task, epochs, averaging, logs_directory))
    callbacks.append(
        _Recorder(workdir, task, history, epochs, steps_per_epoch, early_stop, averaging)
    )
    if logs_directory:
        callbacks.append(keras.callbacks.TensorBoard(logs_directory, write_graph=False))
    model.fit(
        _for_outputs(model, train_batches(epochs_done * steps_per_epoch)),
        validation_data=_for_outputs(model, validation_batches),
        epochs=epochs,
        initial_epoch=epochs_done,
        steps_per_epoch=steps_per_epoch,
        callbacks=callbacks,
        shuffle=False,  # the pipeline did
        verbose=1 if os.isatty(1) else 0,  # a log file gets the line an epoch of _Recorder
    )
    print(f"{workdir}: best {history.best_line()}")
    return model


def versions():
    """Versions of Python packages that decide a run's numbers, as a dict."""
    packages = ("kerasdense", "keras", "tensorflow", "tensorflow-cpu", "jax", "numpy")
    found = {"backend": keras.backend.backend()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue  # not installed: nothing to report
    return found


def has_gpu():
    """Whether the Keras backend sees a GPU."""
    # Not list_devices("gpu"): where there is none, JAX raises.
    return any(device.startswith("gpu") for device in keras.distribution.list_devices())


def _add_weight_decay(model, weight_decay):
    """Gives every convolution's kernel an L2 term, also in its configuration, to be saved."""
    if weight_decay:
        for layer in model.layers:
            if isinstance(layer, keras.layers.Conv2D):
                layer.kernel_regularizer = keras.regularizers.L2(weight_decay / 2)
                layer.kernel.regularizer = layer.kernel_regularizer


def _optimizer(model, make_optimizer, pretrained, average_weights):
    """One optimizer, or two by membership in `pretrained`, a set of variable paths."""
    paths = [variable.path for variable in model.trainable_variables]
    slow = [path for path in paths if path in pretrained]

    def made(is_pretrained):
        optimizer = make_optimizer(is_pretrained)
        if average_weights:
            optimizer.use_ema, optimizer.ema_momentum = True, average_weights
        return optimizer

    if not slow:
        return made(False)
    if len(slow) == len(paths):
        return made(True)
    # One regular expression of all paths: a map from single paths would become as many
    # optimizers when it is loaded again.
    pattern = "|".join(re.escape(path) for path in slow)
    optimizers = keras.optimizers.OptimizerMap(made(False), {pattern: made(True)})
    return keras.optimizers.MultiOptimizer(optimizers)


def _optimizers(model):
    """The optimizer, or those inside the wrappers of two rates and of loss scaling."""
    optimizer = model.optimizer
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return getattr(optimizer, "optimizers", [optimizer])


def _learning_rate(optimizer):
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def _parameter_counts(model):
    """Parameters in all, and trained ones by learning rate, which must add up."""
    for optimizer in _optimizers(model):
        if not optimizer.built:
            model.optimizer.build(model.trainable_variables)
    trainable = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    groups = [
        {
            "learning_rate": _learning_rate(optimizer),
            "parameters": sum(math.prod(v.shape) for v in optimizer._trainable_variables),
        }
        for optimizer in _optimizers(model)
    ]
    if sum(group["parameters"] for group in groups) != trainable:
        raise RuntimeError(f"Learning-rate groups {groups} do not add up to {trainable}.")
    return {"all": model.count_params(), "trainable": trainable, "groups": groups}


def _print_facts(run, epochs, steps_per_epoch, jit_compile, adversarial):
    print("versions: " + ", ".join(f"{name} {v}" for name, v in run["versions"].items()))
    devices = keras.distribution.list_devices()
    precision = keras.config.dtype_policy().name
    xla = "on" if jit_compile else "off"
    print(f"devices: {', '.join(devices)}; precision {precision}; XLA {xla}")
    parameters = run["parameters"]
    groups = " + ".join(
        f"{group['parameters']:,} at learning rate {group['learning_rate']:g}"
        for group in parameters["groups"]
    )
    print(f"model: {run['model']['name']}, {parameters['all']:,} parameters; trained: {groups}")
    sizes = ", ".join(f"{n} {split}" for split, n in run["dataset"].get("splits", {}).items())
    print(f"data: {run['dataset'].get('name')}, {sizes}")
    if adversarial:
        print(
            f"adversarial: images changed by up to {adversarial.epsilon} gray levels in "
            f"{adversarial.steps} step(s), each of them a forward and a backward pass"
        )
    length = f"{epochs} epochs of {steps_per_epoch} steps"
    print(f"training {length}; tracing the first step ...", flush=True)


def _for_outputs(model, batches):
    """Gives each of several outputs the same label map; needs `map`, as tf.data has it."""
    if not isinstance(model.output, dict):
        return batches
    names = tuple(model.output)
    return batches.map(lambda images, masks: (images, {name: masks for name in names}))


def _check_same_run(recorded, run, workdir):
    """Raises where a folder holds a run that this command would not continue but damage."""

    def facts(run):
        arguments = {
            name: value for name, value in run["arguments"].items() if name not in RESUME_MAY_CHANGE
        }
        dataset = {name: run["dataset"].get(name) for name in ("name", "class_names", "splits")}
        return {"model": run["model"]} | {"dataset": dataset} | arguments

    # What was recorded went through JSON, where a tuple becomes a list.
    old, new = facts(recorded), facts(json.loads(json.dumps(run)))
    differing = [
        f"{name} was {old.get(name)}, now {new.get(name)}"
        for name in sorted(old | new)
        if old.get(name) != new.get(name)
    ]
    if differing:
        raise ValueError(
            f"The workdir {workdir} holds another run: {'; '.join(differing)}. "
            "Use another --workdir, or the same arguments to resume."
        )


def _save_checkpoint(model, path, epochs_done):
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


def _load_checkpoint(path):
    with zipfile.ZipFile(path) as archive:
        epochs_done = json.loads(archive.read(EPOCH_FILE))["epochs_done"]
    return keras.models.load_model(path), epochs_done


class _History:
    """The lines of metrics.jsonl, one an epoch."""

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
        best = self.best()
        return bool(patience and best and len(self.epochs) - best["epoch"] >= patience)


class _StopOnNonFiniteLoss(keras.callbacks.Callback):
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


@contextlib.contextmanager
def _averaged(averaging):
    """Puts the averaged weights into the model for a while, where they are averaged."""
    if averaging:
        averaging.on_test_begin()
    try:
        yield
    finally:
        if averaging:
            averaging.on_test_end()


class _Validation(keras.callbacks.Callback):
    """Adds to the logs what the task measures, and draws its pictures for TensorBoard."""

    def __init__(self, task, epochs, averaging, logs_directory):
        super().__init__()
        self.task, self.epochs, self.averaging = task, epochs, averaging
        self.logs_directory = logs_directory

    def on_epoch_end(self, epoch, logs=None):
        due = (epoch + 1) % self.task.validate_every == 0 or epoch + 1 == self.epochs
        with _averaged(self.averaging):
            if self.task.validate and due:
                logs.update(self.task.validate(self.model))
            if self.task.draw and self.logs_directory:
                self._write(self.task.draw(self.model), epoch + 1)

    def _write(self, picture, epoch):
        import tensorflow as tf

        with tf.summary.create_file_writer(str(self.logs_directory / "pictures")).as_default():
            tf.summary.image("validation", picture[None], step=epoch)


class _Recorder(keras.callbacks.Callback):
    """Writes a line of metrics, the best and the last model, and tells the time left."""

    def __init__(self, workdir, task, history, epochs, steps_per_epoch, early_stop, averaging):
        super().__init__()
        self.workdir, self.task, self.history, self.epochs = workdir, task, history, epochs
        self.steps_per_epoch, self.early_stop = steps_per_epoch, early_stop
        self.averaging = averaging

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch_began = self.training_ended = time.perf_counter()

    def on_test_begin(self, logs=None):
        self.training_ended = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        logs = {name.replace("logits_mean_iou", "mean_iou"): float(v) for name, v in logs.items()}
        seconds = time.perf_counter() - self.epoch_began
        line = {"epoch": epoch + 1} | logs
        line["learning_rates"] = [_learning_rate(each) for each in _optimizers(self.model)]
        line["seconds"] = round(seconds, 1)
        line["steps_per_second"] = round(
            self.steps_per_epoch / (self.training_ended - self.epoch_began), 3
        )
        self.history.append(line)
        if self.history.best() is line:
            self._save_best()
        _save_checkpoint(self.model, self.workdir / "last.keras", epoch + 1)
        print(self._line(line, seconds), flush=True)
        if self.history.stalled(self.early_stop):
            print(
                f"stopping early: no better {self.task.criterion_name} in {self.early_stop} epochs"
            )
            self.model.stop_training = True

    def _line(self, line, seconds):
        shown = [f"{name.replace('_', ' ')} {line[name]:.4g}" for name in self.task.shown]
        parts = [f"loss {line['loss']:.4f}" + (f" ({', '.join(shown)})" if shown else "")]
        parts.append(f"val loss {line['val_loss']:.4f}")
        if self.task.criterion in line:
            best = self.history.best()[self.task.criterion]
            value = line[self.task.criterion]
            parts.append(f"{self.task.criterion_name} {value:.4f} (best {best:.4f})")
        left = _duration(seconds * (self.epochs - line["epoch"]))
        done = f"epoch {line['epoch']}/{self.epochs}"
        return f"{done}: {', '.join(parts)}; {_duration(seconds)}, {left} left"

    def _save_best(self):
        # Without the optimizer, which only resuming needs; the layers are shared, not copied.
        model = keras.Model(self.model.input, self.model.output, name=self.model.name)
        with _averaged(self.averaging):
            _save_checkpoint(model, self.workdir / "best.keras", self.history.best()["epoch"])


def _duration(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{seconds:02}s"


def _tensorboard_directory(workdir):
    """Where TensorBoard's logs go, or None where TensorFlow is not there to write them."""
    if util.find_spec("tensorflow") is None:
        print("TensorFlow is not installed: this run writes no TensorBoard logs")
        return None
    return workdir / "tensorboard"
