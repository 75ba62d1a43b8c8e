"""Training a model for a task with `Model.fit`, in a run folder that survives interruption.

The run folder holds `run.json` (what was run), `metrics.jsonl` (a line an epoch), `best.keras`
(best on the validation data, without optimizer), `last.keras` (with optimizer state, to resume)
and `tensorboard/`. Nothing here needs TensorFlow but the TensorBoard logs.
"""

import dataclasses
import functools
import itertools
import json
from collections.abc import Callable
from importlib import util
from pathlib import Path

import keras
import numpy as np

from kerasdense.tasks.base import PICTURES
from kerasdense.training import optimizers
from kerasdense.training.adversarial import AdversarialExamples, train_on_adversarial_examples
from kerasdense.training.callbacks import (
    Recorder,
    Steps,
    StopOnNonFiniteLoss,
    TensorBoard,
    Validation,
)
from kerasdense.training.checkpoints import History, load_checkpoint
from kerasdense.training.devices import versions
from kerasdense.training.run_folder import (
    FACTS,
    LAST,
    METRICS,
    UNFINISHED_FACTS,
    read_run,
    write_run,
)

RESUME_MAY_CHANGE = {  # arguments; of `epochs` to more, and what a run began with may have moved
    "workdir", "source", "prepared_dir", "xla", "early_stop", "validate_every",
    "validation_batch_size", "epochs", "initialize",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Data:
    """What a run trains and validates on, for its model.

    Attributes:
        train_batches: `(model, first_step) -> batches` without end, from that step on, of uint8
            images `[B, H, W, 3]` and the task's targets.
        validation: `(model) -> batches`, each sample once: dicts as of `Task.eval_batches`, a
            tf.data.Dataset, or without TensorFlow a list of dicts of arrays.
    """

    train_batches: Callable
    validation: Callable


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long and how a run trains.

    Attributes:
        epochs, steps_per_epoch: how long.
        make_optimizer: `(is_pretrained) -> keras.optimizers.Optimizer`; called once for the
            variables that came from pretrained weights and once for all others.
        weight_decay: of the convolutions' kernels, as an L2 term `weight_decay / 2 * |w|^2` in
            the loss, which is how the papers' frameworks decay.
        validate_every: the task validates so many epochs apart, and after the last epoch.
        early_stop: end after this many validations without a better value of the task's
            criterion.
        average_weights: momentum of an exponential moving average of the weights, above 0 and
            below 1, for example 0.999. The average is what is validated, kept in `best.keras` and
            returned.
        jit_compile: whether to compile the steps with XLA (TensorFlow backend).
        adversarial: examples to train on instead of the images themselves, None for none.
    """

    epochs: int
    steps_per_epoch: int
    make_optimizer: Callable
    weight_decay: float = 0.0
    validate_every: int = 1
    early_stop: int | None = None
    average_weights: float | None = None
    jit_compile: bool = False
    adversarial: AdversarialExamples | None = None

    def __post_init__(self):
        if self.average_weights is not None and not 0 < self.average_weights < 1:
            raise ValueError(
                f"--average-weights is the momentum of a moving average: expected a number above 0 "
                f"and below 1, such as 0.999, received {self.average_weights:g}."
            )


def fit(task, build_model, data, schedule, workdir, run, defaults=None):
    """Fits a model, or goes on with the run that `workdir` holds.

    Args:
        task: `tasks.base.Task`.
        build_model: `() -> (model, WeightsReport)`; called only where a run begins.
        data: `Data`.
        schedule: `Schedule`.
        workdir: the run folder; created where it is missing.
        run: what `run.json` records, a dict that JSON can hold, with at least
            `{"model": {"name": ...}, "arguments": {...}, "dataset": {"class_names": [...],
            "palette": [[r, g, b], ...]}}`.
        defaults: {argument: value} of what runs were fitted with before they could choose it; None
            where it is not named.

    Returns:
        The fitted `keras.Model`.

    Raises:
        ValueError: If `workdir` holds a run of another model, dataset or arguments.
        NonFiniteLoss: With the step, when the loss is no longer finite. What was saved of the
            epochs before stays.
    """
    workdir = Path(workdir)
    recorded = _recorded(workdir, run, defaults or {})
    if (workdir / LAST).exists():
        model, epochs_done, line = load_checkpoint(workdir / LAST)
        print(f"resuming {workdir} after epoch {epochs_done} of {schedule.epochs}")
    else:
        model, run = _begun(task, build_model, schedule, workdir, run)
        epochs_done, line = 0, None
    model.jit_compile = schedule.jit_compile
    history = History(workdir / METRICS, epochs_done, task)
    recorder = _recorder(model, data, history, schedule, workdir)
    recorder.mend(line)
    ended = None
    if epochs_done >= schedule.epochs:
        ended = f"is complete: {epochs_done} epochs", "more --epochs go on"
    elif history.stalled(schedule.early_stop):
        ended = "was stopped early", "a larger --early-stop goes on"
    if ended:
        print(f"{workdir} {ended[0]}, best {history.best_line()}; {ended[1]}")
        model.optimizer.finalize_variable_values(model.trainable_variables)  # to their averages
        return model

    if epochs_done:
        run = _prolong(model, schedule, workdir, recorded)
    if schedule.adversarial:
        train_on_adversarial_examples(model, task, schedule.adversarial)
    _print_facts(run, schedule)
    first_step = epochs_done * schedule.steps_per_epoch
    if recorder.board:
        recorder.board.run(run)
    steps = Steps(schedule, recorder.board)
    try:
        model.fit(
            _for_outputs(model, data.train_batches(model, first_step)),
            epochs=schedule.epochs,
            initial_epoch=epochs_done,
            steps_per_epoch=schedule.steps_per_epoch,
            callbacks=[StopOnNonFiniteLoss(first_step), steps, recorder],
            shuffle=False,  # the pipeline did
            verbose=0,  # the callbacks tell
        )
    finally:
        steps.close()
    print(f"{workdir}: best {history.best_line()}")
    return model


def _recorded(workdir, run, defaults):
    """What run.json tells of the run to go on with; None where a run begins."""
    if (workdir / FACTS).exists():
        recorded = read_run(workdir)
        _check_same_run(recorded, run, workdir, defaults)
        return recorded
    if workdir.exists() and any(path.name != UNFINISHED_FACTS for path in workdir.iterdir()):
        raise ValueError(
            f"The workdir {workdir} is not empty and holds no run. Expected an empty or new folder."
        )
    return None


def _begun(task, build_model, schedule, workdir, run):
    """A new model, compiled, and the record of its run, written."""
    model, weights = build_model()
    optimizers.add_weight_decay(model, schedule.weight_decay)
    optimizer = optimizers.grouped(
        model, schedule.make_optimizer, set(weights.loaded), schedule.average_weights
    )
    model.compile(optimizer, **task.compile_arguments(model), jit_compile=False)
    run = run | {
        "task": task.name,
        "weights": {
            "source": _absolute(weights.source),
            "loaded": len(weights.loaded),
            "skipped": len(weights.skipped),
        },
        "versions": versions(),
        "parameters": optimizers.parameter_counts(model),
    }
    workdir.mkdir(parents=True, exist_ok=True)
    write_run(workdir, run)
    return model, run


def _absolute(source):
    """Where weights are from: of a file its whole path, to be found from any folder."""
    return str(Path(source).resolve()) if source and Path(source).is_file() else source


def _prolong(model, schedule, workdir, recorded):
    """Gives a resumed run the epochs asked for now, and their learning rates; its record."""
    was, before = optimizers.learning_rates(model), recorded["arguments"].get("epochs")
    if optimizers.reschedule(model, schedule.make_optimizer):
        rates = zip(was, optimizers.learning_rates(model))
        now = " and ".join(f"{new:.3g} instead of {old:.3g}" for old, new in rates)
        print(
            f"the learning rate is from here on that of a run of {schedule.epochs} epochs: at this "
            f"step {now}"
        )
    if before not in (None, schedule.epochs):
        print(f"--epochs raised from {before} to {schedule.epochs}")
        epochs = {"epochs": schedule.epochs}
        recorded = recorded | {"arguments": recorded["arguments"] | epochs}
        write_run(workdir, recorded)
    return recorded | {"versions": versions(), "parameters": optimizers.parameter_counts(model)}


def _recorder(model, data, history, schedule, workdir):
    samples = data.validation(model)
    validation = Validation(
        history.task, schedule, samples, _pairs(model, samples, history.task.target)
    )
    directory = _tensorboard_directory(workdir)
    drawn = functools.partial(_first, samples, PICTURES)
    board = TensorBoard(directory, history.task, drawn) if directory else None
    recorder = Recorder(workdir, history, validation, board)
    recorder.set_model(model)
    return recorder


def _first(batches, count):
    """The first samples of batches of dicts: a list of dicts of arrays, without B."""
    samples = (
        {key: np.asarray(value[i]) for key, value in batch.items()}
        for batch in batches
        for i in range(len(batch["image"]))
    )
    return list(itertools.islice(samples, count))


def _pairs(model, batches, target):
    """Images and targets of batches of dicts, for `Model.fit`."""
    if hasattr(batches, "map"):
        pairs = batches.map(lambda batch: (batch["image"], batch[target]))
        return _for_outputs(model, pairs)
    pairs = [(batch["image"], batch[target]) for batch in batches]
    return _Pairs(list(_for_outputs(model, pairs)))


class _Pairs(keras.utils.PyDataset):
    """A list of batches, where there is no tf.data."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def _for_outputs(model, batches):
    """Gives each of several outputs the same target."""
    if not isinstance(model.output, dict):
        return batches
    names = tuple(model.output)

    def for_outputs(images, targets):
        return images, dict.fromkeys(names, targets)

    if hasattr(batches, "map"):
        return batches.map(for_outputs)
    return (for_outputs(*batch) for batch in batches)


def _print_facts(run, schedule):
    print("versions: " + ", ".join(f"{name} {v}" for name, v in run["versions"].items()))
    devices = keras.distribution.list_devices()
    precision = keras.config.dtype_policy().name
    xla = "on" if schedule.jit_compile else "off"
    print(f"devices: {', '.join(devices)}; precision {precision}; XLA {xla}")
    parameters = run["parameters"]
    groups = " + ".join(
        f"{group['parameters']:,} at learning rate {group['learning_rate']:g}"
        for group in parameters["groups"]
    )
    print(f"model: {run['model']['name']}, {parameters['all']:,} parameters; trained: {groups}")
    sizes = ", ".join(f"{n} {split}" for split, n in run["dataset"].get("splits", {}).items())
    print(f"data: {run['dataset'].get('name')}, {sizes}")
    if schedule.adversarial:
        print(
            f"adversarial: images changed by up to {schedule.adversarial.epsilon} gray levels in "
            f"{schedule.adversarial.steps} step(s), each of them a forward and a backward pass"
        )
    length = f"{schedule.epochs} epochs of {schedule.steps_per_epoch} steps"
    print(f"training {length}; tracing the first step ...", flush=True)


def _flag(name):
    return f"--{name.replace('_', '-')}"


def _check_same_run(recorded, run, workdir, defaults):
    """Raises where a folder holds a run that this command would not continue but damage."""

    def facts(run):
        known = ("name", "class_names", "splits", "images")  # runs of before lack the last
        dataset = {name: run["dataset"].get(name) for name in known if name in recorded["dataset"]}
        return {"model": run["model"], "dataset": dataset} | {
            _flag(name): value
            for name, value in run["arguments"].items()
            if name not in RESUME_MAY_CHANGE
        }

    # What was recorded went through JSON, where a tuple becomes a list.
    new = facts(json.loads(json.dumps(run)))
    # A record of before an option was there is one of its default.
    known = {_flag(name): value for name, value in json.loads(json.dumps(defaults)).items()}
    old = dict.fromkeys(new) | known | facts(recorded)
    differing = [
        f"{name} was {old[name]}, now {new[name]}"
        for name in sorted(new)  # an option that is gone since cannot differ
        if old[name] != new[name]
    ]
    epochs, now = (each["arguments"].get("epochs", 0) for each in (recorded, run))
    if now < epochs:
        differing.append(f"--epochs was {epochs}, now {now}, and may be raised only")
    if differing:
        raise ValueError(
            f"The workdir {workdir} holds another run: {'; '.join(differing)}. "
            "Use another --workdir, or the same arguments to resume."
        )


def _tensorboard_directory(workdir):
    """Where TensorBoard's logs go, or None where TensorFlow is not there to write them."""
    if util.find_spec("tensorflow") is None:
        print("TensorFlow is not installed: this run writes no TensorBoard logs")
        return None
    return workdir / "tensorboard"
