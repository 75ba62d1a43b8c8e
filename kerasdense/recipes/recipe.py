"""What a recipe is, and how it fits its network: data, model, weights, training."""

import argparse
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

ADVERSARIAL_EPSILON = 4  # gray levels
VALIDATION_BATCH = 8  # images; whole ones, where the training saw crops


@dataclasses.dataclass(frozen=True)
class Option:
    """An argument of a recipe.

    `default` tells its type, too: a bool is a switch, a tuple a list of whole numbers; `kind`
    names another one: "size" (H, W), "numbers" (a tuple of floats), "count" (a whole number above
    zero, for a default of None). `choices`: all values it may have.
    """

    name: str
    default: object
    help: str
    choices: tuple = ()
    kind: str | None = None
    metavar: str | None = None


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network is fitted.

    The functions take `options`, an object with an attribute for each argument: those of every
    fit (dataset, workdir, epochs, ...), and those of `options`.

    Attributes:
        task: name of the task. Classification reads its image size from an option `size`.
        network: `(options) -> (name, architecture, arguments)`: of a function of
            `kerasdense.models`, of its backbone (`weights.load_weights`), and what it is called
            with.
        optimizer: `(options, learning_rate, total_steps) -> keras.optimizers.Optimizer`.
        augmentation: `(options) -> op` of `data.augment`.
        weight_decay: of the convolutions, see `training.fitting.Schedule`; a number, or a function
            `(options) -> number`.
        epochs, batch_size, backbone_rate: defaults; the last is the factor of the learning rate
            for pretrained weights.
        learning_rate: the default; a number, or a function `(options) -> number`, whose docstring
            is what `--help` says of it.
        weights: of the backbone, the default: "imagenet", or None where there are none.
        options: further arguments.
    """

    task: str
    network: Callable
    optimizer: Callable
    augmentation: Callable
    weight_decay: float | Callable
    epochs: int
    batch_size: int
    learning_rate: float | Callable
    backbone_rate: float = 1.0
    weights: str | None = "imagenet"
    options: tuple = ()

    def fit(self, options, command):
        """Fits the network, or goes on with the run in `options.workdir`.

        `command`: the text that run.json records.
        Raises: ValueError and its like for options, data or a run that do not fit.
        """
        import keras

        from kerasdense import models, tasks
        from kerasdense.data import datasets, overlap
        from kerasdense.models.weights import load_weights
        from kerasdense.training import fitting

        options = _with_policy(options)
        arguments = self._arguments(options)
        name, architecture, model_arguments = self.network(options)
        augmentation = self.augmentation(options)
        adversarial = _adversarial_examples(options)
        datasets.check_truth(options.dataset, tasks.named(self.task).features)
        builder = datasets.load(
            options.dataset, options.source, options.prepared_dir, options.mask_values
        )
        _report_other_splits(builder, options)
        class_names, palette = tasks.named(self.task).classes(builder)
        splits = {split: info.num_examples for split, info in builder.info.splits.items()}
        run = {
            "task": self.task,
            "model": {"name": name, "arguments": model_arguments},
            "arguments": arguments,
            "command": command,
            "seed": options.seed,
            "dataset": {
                "name": options.dataset,
                "source": options.source and str(Path(options.source).resolve()),
                "prepared_dir": options.prepared_dir and str(Path(options.prepared_dir).resolve()),
                "class_names": class_names,
                "palette": palette,
                "splits": splits,
                "images": overlap.digests(builder.builder_config.source),
                "mask_values": options.mask_values,
            },
        }
        task = tasks.of_run(run)
        train_split = _train_split(options, splits)
        _check_data(task, builder, train_split, options)
        _report_seen_before(run, builder, options)
        steps_per_epoch = options.steps_per_epoch or math.ceil(
            splits[train_split] / options.batch_size
        )
        keras.utils.set_random_seed(options.seed)
        keras.config.set_dtype_policy(options.precision)

        def build_model():
            model = getattr(models, name)(
                num_classes=len(class_names), weights=None, **model_arguments
            )
            if options.initialize:
                return model, _initialized(model, architecture, task, options)
            return model, load_weights(model, architecture, options.weights)

        fitting.fit(
            task,
            build_model,
            _data(task, builder, train_split, augmentation, options),
            self._schedule(options, arguments["learning_rate"], steps_per_epoch, adversarial),
            options.workdir,
            run,
            {"validation_split": "val", **{each.name: each.default for each in self.options}},
        )

    def _arguments(self, options):
        """What run.json records of the options, by name."""
        arguments = {
            name: str(value) if isinstance(value, Path) else value
            for name, value in vars(options).items()
        }
        if options.initialize:  # found again from any folder
            arguments["initialize"] = str(options.initialize.resolve())
        if arguments["learning_rate"] is None:
            arguments["learning_rate"] = _value(self.learning_rate, options)
        return arguments

    def _schedule(self, options, learning_rate, steps_per_epoch, adversarial):
        from kerasdense.training import devices
        from kerasdense.training.fitting import Schedule

        def make_optimizer(is_pretrained):
            rate = learning_rate * (options.backbone_rate if is_pretrained else 1.0)
            return self.optimizer(options, rate, options.epochs * steps_per_epoch)

        return Schedule(
            options.epochs,
            steps_per_epoch,
            make_optimizer,
            _value(self.weight_decay, options),
            validate_every=getattr(options, "validate_every", 1),
            early_stop=options.early_stop,
            average_weights=options.average_weights,
            jit_compile=devices.uses_xla(options.xla),
            adversarial=adversarial,
        )


def _with_policy(options):
    """The options with the precision that "auto" means: of a run to go on with, its own."""
    from kerasdense.training import devices, run_folder

    precision = options.precision
    if precision == "auto" and (Path(options.workdir) / run_folder.FACTS).exists():
        arguments = run_folder.read_run(options.workdir).get("arguments", {})
        precision = arguments.get("precision") or "float32"  # imported weights have none
        print(f"precision {precision}: that of the run")
    policy = devices.policy(precision, devices.uses_xla(options.xla))
    return argparse.Namespace(**vars(options) | {"precision": policy})


def _value(given, options):
    return given(options) if callable(given) else given


def _initialized(model, architecture, task, options):
    """Sets what fits of `options.initialize`, and tells; a `WeightsReport` of the backbone."""
    from kerasdense.models import weights
    from kerasdense.training.initialization import initialize

    backbone = weights.backbone_paths(model, architecture)
    found = initialize(model, task, options.initialize)
    loaded = set(found.taken).intersection(backbone)
    if len(loaded) < len(backbone) / 2:
        raise ValueError(
            f"--initialize {options.initialize} is of another network: only {len(loaded)} of the "
            f"{len(backbone)} variables of {model.name}'s backbone fit. Expected a model on a "
            f"{architecture}; for one of another kind there is --weights."
        )
    if len(loaded) < len(backbone) and options.weights is not None:
        # What the source lacks begins with those, and what it has with its own.
        loaded |= set(weights.load_weights(model, architecture, options.weights).loaded)
        initialize(model, task, options.initialize)
    print(found, flush=True)
    return weights.WeightsReport(
        found.source,
        tuple(path for path in backbone if path in loaded),
        tuple(path for path in backbone if path not in loaded),
    )


def _report_seen_before(run, builder, options):
    """Says so where what a new run goes on from was trained on what this one validates on."""
    from kerasdense.training import run_folder

    split = options.validation_split
    is_new = not (Path(options.workdir) / run_folder.FACTS).exists()
    if options.initialize and is_new and split in builder.info.splits:
        if run_folder.trained_on(run, builder, options.dataset, split):
            print(
                f"note: {options.initialize} was trained on pictures of the split '{split}': what "
                "is measured on them here is too good"
            )


def _check_data(task, builder, train_split, options):
    """Raises ValueError where a new run would learn nothing, or measure what it has learned."""
    from kerasdense.data import overlap
    from kerasdense.training.run_folder import FACTS

    validation_split = options.validation_split
    # A run that goes on has begun so, and the classes of one before may know what is not shown.
    is_new = not (Path(options.workdir) / FACTS).exists()
    goes_on = bool(options.initialize) or not is_new
    task.check_data(builder, train_split, is_training=True, may_lack_classes=goes_on)
    source = builder.builder_config.source
    if validation_split == train_split or validation_split not in builder.info.splits:
        return
    task.check_data(builder, validation_split)
    if is_new and source is not None:
        pictures = (overlap.images_in(source, split) for split in (validation_split, train_split))
        shared = overlap.shared_picture(*pictures)
        if shared:
            raise ValueError(
                f"{builder.name}: '{shared}' of the split '{validation_split}' is a picture of the "
                f"split '{train_split}', too, or a copy of one under the same name: what is "
                "validated would have been trained on. Take it out of one, or choose other splits."
            )


def _data(task, builder, train_split, augmentation, options):
    """`training.fitting.Data` of a prepared dataset."""
    from kerasdense.data import pipeline
    from kerasdense.training import devices
    from kerasdense.training.fitting import Data

    split = pipeline.Split(builder, train_split, task.features)
    # Now, so that a split that is not there leaves no run folder behind.
    pipeline.Split(builder, options.validation_split, task.features)

    def train_batches(model, first_step):
        return pipeline.train_batches(
            split, options.batch_size, augmentation, task.targets(model), options.seed, first_step
        )

    def validation(model):
        # XLA compiles a program for each image size.
        few_sizes = devices.uses_xla(options.xla)
        return task.eval_batches(
            builder,
            options.validation_split,
            task.image_size_of(model),
            options.validation_batch_size or min(options.batch_size, VALIDATION_BATCH),
            few_sizes,
            task.targets(model),
        )

    return Data(train_batches, validation)


def _report_other_splits(builder, options):
    """Says so where the run to go on with was fitted on other splits of the dataset."""
    from kerasdense.training import run_folder

    if (Path(options.workdir) / run_folder.FACTS).is_file():
        recorded = run_folder.read_run(options.workdir)["dataset"]
        if recorded["name"] == options.dataset:
            run_folder.report_other_splits(builder, recorded)


def _train_split(options, splits):
    """The split to train on; where it is another than that of validation, it must not hold that."""
    split = options.train_split or "train"
    if split not in splits:
        raise ValueError(f"--train-split: there is no split '{split}', but {', '.join(splits)}.")
    if options.validation_split != split and options.validation_split in split:  # val in trainval
        raise ValueError(
            f"--train-split {split} holds the images of --validation-split "
            f"{options.validation_split}: choose another to validate on, such as test."
        )
    return split


def _adversarial_examples(options):
    steps = getattr(options, "adversarial_steps", None)
    epsilon = getattr(options, "adversarial_epsilon", None)
    if steps is None:
        if epsilon is not None:
            raise ValueError("--adversarial-epsilon has no effect without --adversarial-steps.")
        return None
    from kerasdense.training.adversarial import AdversarialExamples

    return AdversarialExamples(steps, epsilon or ADVERSARIAL_EPSILON, options.seed)


def check_size(size):
    """Raises ValueError for images that are too small for the models."""
    from kerasdense.models.layers import MINIMUM_SIZE

    if min(size) < MINIMUM_SIZE:
        raise ValueError(
            f"--size {size[0]}x{size[1]} is too small: the models expect at least {MINIMUM_SIZE} "
            f"pixels a side, two cells of a feature map of stride 32."
        )
