"""What the scripts share: common flags, and errors as one line instead of a traceback."""

import argparse
import contextlib
import dataclasses
import math
import shlex
import sys
from pathlib import Path

ADVERSARIAL_EPSILON = 4  # gray levels
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")


def run(main):
    """Calls `main()` as a program: mistakes print one line, `error: ...`, and exit with 2."""
    try:
        status = main()
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    sys.exit(status)


def size(text):
    """Parses `HxW`, pixels, into `(height, width)`."""
    try:
        height, width = (int(side) for side in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected HxW such as 320x480, received '{text}'"
        ) from None
    if height < 1 or width < 1:
        raise argparse.ArgumentTypeError(f"expected positive sides, received '{text}'")
    return height, width


def size_text(size):
    """`(height, width)` as `size` parses it."""
    return "x".join(map(str, size))


def some_of(values):
    """An argparse type: some of `values`, separated by commas, as a tuple."""

    def parse(text):
        chosen = tuple(text.split(","))
        unknown = [value for value in chosen if value not in values]
        if unknown:
            raise argparse.ArgumentTypeError(
                f"expected some of {','.join(values)}, received '{','.join(unknown)}'"
            )
        return chosen

    return parse


@dataclasses.dataclass(frozen=True)
class Model:
    """A model that the command line names: `text`, its function's `name`, and its `options`."""

    text: str
    name: str
    options: dict

    def load(self, num_classes):
        """The `keras.Model`, with random weights. Raises: as `load_model`."""
        return load_model(self.name, num_classes=num_classes, weights=None, **self.options)


def model(text):
    """Parses `NAME[:OPTION=VALUE...]`, such as `fcn_vgg16:skips=16,8`, into a `Model`."""
    name, *options = text.split(":")
    return Model(text, name, dict(map(model_option, options)))


def model_option(text):
    """Parses OPTION=VALUE into a pair, the value as a bool, number, tuple of ints, or text."""
    name, separator, value = text.partition("=")
    if not (name and separator and value):
        raise argparse.ArgumentTypeError(f"expected e.g. output_stride=8, received '{text}'")
    if value in ("true", "false"):
        return name, value == "true"
    with contextlib.suppress(ValueError):
        numbers = tuple(int(part) for part in value.split(",") if part)
        return name, numbers if name in ("skips", "blocks") else numbers[0]
    with contextlib.suppress(ValueError):
        return name, float(value)
    return name, value


def positive(number):
    """An argparse type: `number` (int or float) above zero."""

    def parse(text):
        value = number(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"expected a number above 0, received '{text}'")
        return value

    parse.__name__ = number.__name__
    return parse


def numbers(text):
    """Parses `0.75,1,1.25` into a tuple of floats above zero."""
    try:
        values = tuple(positive(float)(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers such as 0.75,1, received '{text}'"
        ) from None
    return values


def integers(text):
    """Parses `16,8` into a tuple of ints."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected whole numbers such as 16,8, received '{text}'"
        ) from None


def add_dataset_flags(parser, required=True):
    """`--dataset`, `--source` and `--prepared-dir`, as all scripts that read data have them."""
    parser.add_argument(
        "--dataset",
        required=required,
        help="name or name/config, e.g. camvid, cityscapes/ladder, voc_segmentation, folder; "
        "voc_detection/07+12, mot15, folder_detection; toy_streets",
    )
    parser.add_argument("--source", help="the dataset's folder, in its standard layout")
    parser.add_argument("--prepared-dir", help="where TFDS keeps the prepared form of datasets")


def load_model(name, **arguments):
    """The model of a .keras file, or of the function `name` of `kerasdense.models`.

    Args:
        arguments: of the function; a file needs none.

    Raises: FileNotFoundError, ValueError if there is no such model or it takes other arguments.
    """
    import keras

    import kerasdense.layers  # noqa: F401  (registers the layers that saved models name)
    from kerasdense import models

    if name.endswith(".keras"):
        if not Path(name).is_file():
            raise FileNotFoundError(f"There is no file {name}.")
        return keras.models.load_model(name, compile=False)
    if name not in models.__all__:
        raise ValueError(
            f"There is no model '{name}'. Expected a .keras file or one of: "
            f"{', '.join(models.__all__)}."
        )
    try:
        return getattr(models, name)(**arguments)
    except TypeError as error:  # an option that the function does not have, or one it misses
        raise ValueError(
            f"{error}. See help(kerasdense.models.{name}); a .keras file needs no arguments."
        ) from error


def load_dataset(args, facts):
    """The builder of the dataset that the flags name, by default the run's own, and its name.

    Args:
        args: what was parsed of `add_dataset_flags`.
        facts: of the run, see `runs.read_run`.

    Raises: ValueError if there is none, or its classes are not the run's.
    """
    from kerasdense import datasets

    dataset = facts["dataset"]
    # Another dataset has another source: the run's own serves only its own dataset.
    name = args.dataset or dataset["name"]
    if name is None:
        raise ValueError("The run was fitted on no dataset of ours. Name one by --dataset.")
    source = args.source or (dataset.get("source") if name == dataset["name"] else None)
    prepared_dir = args.prepared_dir or dataset.get("prepared_dir")
    builder = datasets.load(name, source=source, prepared_dir=prepared_dir)
    class_names, _ = datasets.classes(builder, facts["task"])
    if class_names != list(dataset["class_names"]):
        raise ValueError(
            f"The run knows the classes {', '.join(dataset['class_names'])}, {name} has "
            f"{', '.join(class_names)}. Take a dataset with the same classes in this order."
        )
    return builder, name


def fit_parser(description, **defaults):
    """The flags that all fit scripts share; `defaults` are the paper's recipe."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_dataset_flags(parser)
    parser.add_argument("--workdir", type=Path, required=True, help="the run folder")
    parser.add_argument(
        "--weights",
        type=lambda text: None if text == "none" else text,
        default="imagenet",
        help="backbone weights: imagenet, none, or a file",
    )
    parser.add_argument("--epochs", type=positive(int), help="passes over the training split")
    parser.add_argument("--batch-size", type=positive(int))
    parser.add_argument("--learning-rate", type=positive(float), help="of the new layers")
    parser.add_argument(
        "--backbone-rate",
        type=positive(float),
        default=1.0,
        metavar="FACTOR",
        help="learning rate of the pretrained weights, as a multiple of --learning-rate",
    )
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument(
        "--xla", choices=("auto", "on", "off"), default="auto", help="auto: on where a GPU is"
    )
    parser.add_argument("--steps-per-epoch", type=positive(int), help="default: one pass")
    parser.add_argument("--train-split", metavar="SPLIT", help="default: train")
    parser.add_argument("--validation-split", default="val", metavar="SPLIT")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--early-stop", type=positive(int), metavar="EPOCHS", help="stop after no gain for so long"
    )
    parser.add_argument(
        "--average-weights", type=float, metavar="MOMENTUM", help="average weights, e.g. 0.999"
    )
    parser.set_defaults(**defaults)
    return parser


def segmentation_fit_parser(description, **defaults):
    """`fit_parser`, and how segmentation models see their training data."""
    parser = fit_parser(description)
    parser.add_argument("--size", type=size, metavar="HxW", help="training crop, in pixels")
    parser.add_argument(
        "--scales",
        type=numbers,
        default=(1.0, 1.0),
        metavar="LOWEST,HIGHEST",
        help="range of the random scale of the training crops",
    )
    parser.add_argument("--photometric", action="store_true", help="jitter the colors, too")
    parser.add_argument(
        "--adversarial-steps",
        type=positive(int),
        metavar="K",
        help="train on adversarial examples made by K steps of projected gradient descent (Madry "
        "et al. 2018); training then takes about 1 + 0.6 K times as long",
    )
    parser.add_argument(
        "--adversarial-epsilon",
        type=positive(int),
        metavar="LEVELS",
        help="largest change of a pixel by --adversarial-steps, in gray levels (default "
        f"{ADVERSARIAL_EPSILON})",
    )
    parser.set_defaults(**defaults)
    return parser


def training_augmentation(args):
    """The op that `--size`, `--scales` and `--photometric` describe."""
    from kerasdense.data import augment

    if len(args.scales) != 2:
        raise ValueError(f"--scales expects LOWEST,HIGHEST, received {len(args.scales)} numbers.")
    ops = [augment.random_scale_crop(args.size, args.scales), augment.random_flip()]
    if args.photometric:
        ops.append(augment.photometric_jitter())
    return augment.compose(*ops)


def fit_segmentation(
    args, model_function, architecture, make_optimizer, weight_decay, **model_arguments
):
    """What the segmentation fit scripts do with their recipe: data, model, weights, `fit`.

    Args:
        args: what `segmentation_fit_parser` parsed.
        model_function: of `kerasdense.models`, called as `(num_classes, weights=None, ...)`.
        architecture: of its backbone, for `backbones.load_weights`.
        make_optimizer: `(learning_rate, total_steps) -> keras.optimizers.Optimizer`.
        weight_decay: see `training.fit`.
        model_arguments: further arguments of `model_function`.
    """
    from kerasdense import datasets, training
    from kerasdense.data import pipeline

    _check_size(args.size)
    augmentation = training_augmentation(args)
    builder = datasets.load(args.dataset, args.source, args.prepared_dir)
    dataset = _dataset_facts(args, builder, "segmentation")
    train_split = _train_split(args, dataset["splits"])

    def train_batches(first_step):
        return pipeline.train_batches(
            builder, train_split, args.batch_size, augmentation, args.seed, first_step
        )

    # XLA compiles a program for each image size: padding keeps them few.
    validation_batches = pipeline.eval_batches(
        builder, args.validation_split, args.batch_size, multiple=128 if uses_xla(args) else 1
    ).map(lambda sample: (sample["image"], sample["mask"]))

    task = training.segmentation_task(
        dataset["class_names"], dataset["palette"], validation_batches
    )
    _fit(
        args,
        task,
        dataset,
        model_function,
        model_arguments,
        architecture,
        make_optimizer=make_optimizer,
        weight_decay=weight_decay,
        train_batches=train_batches,
        validation_batches=validation_batches,
        adversarial=_adversarial_examples(args),
    )


def fit_detection(
    args, model_function, size, anchors, augment, make_optimizer, weight_decay, **model_arguments
):
    """What the detection fit scripts do with their recipe: data, model, weights, `fit`.

    Args:
        args: what `fit_parser` parsed, and `validate_every`.
        model_function: of `kerasdense.models`, called as `(num_classes, weights=None, ...)`.
        size: (height, width) of its input in pixels.
        anchors: float32 [A, 4] that it predicts for, see `kerasdense.anchors`.
        augment: op of `kerasdense.data.augment` whose images have that size.
        make_optimizer, weight_decay, model_arguments: see `fit_segmentation`.
    """
    from kerasdense import datasets, evaluation, training
    from kerasdense.anchors import encode_targets
    from kerasdense.data import pipeline

    builder = datasets.load(args.dataset, args.source, args.prepared_dir)
    dataset = _dataset_facts(args, builder, "detection")
    train_split = _train_split(args, dataset["splits"])

    def targets(sample):
        return encode_targets(sample["boxes"], sample["labels"], anchors)

    def train_batches(first_step):
        return pipeline.train_batches(
            builder,
            train_split,
            args.batch_size,
            augment,
            args.seed,
            first_step,
            features=pipeline.DETECTION,
            targets=targets,
        )

    samples = pipeline.detection_eval_batches(
        builder, args.validation_split, size, args.batch_size, targets
    )

    def validate(model):
        result, *_ = evaluation.evaluate_detections(
            model, samples, dataset["class_names"], coco=False, worst=0, verbose=0
        )
        return {
            "val_mean_ap": result["mean_ap_area"],
            "val_mean_ap_11point": result["mean_ap_11point"],
        }

    draw = evaluation.detection_pictures(samples, dataset["class_names"], dataset["palette"])
    _fit(
        args,
        training.detection_task(validate, args.validate_every, draw),
        dataset,
        model_function,
        model_arguments,
        architecture="vgg16",
        make_optimizer=make_optimizer,
        weight_decay=weight_decay,
        train_batches=train_batches,
        validation_batches=samples.map(lambda sample: (sample["image"], sample["targets"])),
    )


def fit_classification(
    args, model_function, architecture, augment, make_optimizer, weight_decay, **model_arguments
):
    """What the classification fit script does with its recipe: data, model, weights, `fit`.

    Args:
        args: what `fit_parser` parsed, and `size`, (height, width) of the images in pixels.
        model_function, architecture, make_optimizer, weight_decay, model_arguments: see
            `fit_segmentation`.
        augment: op of `kerasdense.data.augment` whose images have that size and all objects.
    """
    from kerasdense import datasets, evaluation, training
    from kerasdense.data import pipeline

    _check_size(args.size)
    builder = datasets.load(args.dataset, args.source, args.prepared_dir)
    dataset = _dataset_facts(args, builder, "classification")
    train_split = _train_split(args, dataset["splits"])
    targets = pipeline.image_labels(len(dataset["class_names"]))

    def train_batches(first_step):
        return pipeline.train_batches(
            builder,
            train_split,
            args.batch_size,
            augment,
            args.seed,
            first_step,
            features=pipeline.DETECTION,
            targets=targets,
        )

    samples = pipeline.detection_eval_batches(
        builder, args.validation_split, args.size, args.batch_size, targets
    )

    def validate(model):
        result, *_ = evaluation.evaluate_classification(
            model, samples, dataset["class_names"], worst=0, verbose=0
        )
        return {
            "val_mean_ap": result["mean_ap_area"],
            "val_mean_ap_11point": result["mean_ap_11point"],
        }

    draw = evaluation.classification_pictures(samples, dataset["class_names"])
    _fit(
        args,
        training.classification_task(validate, draw),
        dataset,
        model_function,
        model_arguments,
        architecture,
        make_optimizer=make_optimizer,
        weight_decay=weight_decay,
        train_batches=train_batches,
        validation_batches=samples.map(lambda sample: (sample["image"], sample["targets"])),
    )


def _check_size(size):
    from kerasdense.layers import MINIMUM_SIZE

    if min(size) < MINIMUM_SIZE:
        raise ValueError(
            f"--size {size[0]}x{size[1]} is too small: the models expect at least {MINIMUM_SIZE} "
            f"pixels a side, two cells of their coarsest feature map."
        )


def _adversarial_examples(args):
    from kerasdense.adversarial_training import AdversarialExamples

    if args.adversarial_steps is None:
        if args.adversarial_epsilon is not None:
            raise ValueError("--adversarial-epsilon has no effect without --adversarial-steps.")
        return None
    epsilon = args.adversarial_epsilon or ADVERSARIAL_EPSILON
    return AdversarialExamples(args.adversarial_steps, epsilon, args.seed)


def uses_xla(args):
    """Whether `--xla auto|on|off` means XLA here: auto does where a GPU is."""
    from kerasdense import training

    return training.has_gpu() if args.xla == "auto" else args.xla == "on"


def _train_split(args, splits):
    """The split to train on; where it is another than that of validation, it must not hold that."""
    split = args.train_split or "train"
    if split not in splits:
        raise ValueError(f"--train-split: there is no split '{split}', but {', '.join(splits)}.")
    if args.validation_split != split and args.validation_split in split:  # val in trainval
        raise ValueError(
            f"--train-split {split} holds the images of --validation-split "
            f"{args.validation_split}: choose another to validate on, such as test."
        )
    return split


def _dataset_facts(args, builder, task):
    """What run.json records of the data."""
    from kerasdense import datasets

    class_names, palette = datasets.classes(builder, task)
    splits = {name: split.num_examples for name, split in builder.info.splits.items()}
    return {
        "name": args.dataset,
        "source": args.source and str(Path(args.source).resolve()),
        "prepared_dir": args.prepared_dir and str(Path(args.prepared_dir).resolve()),
        "class_names": class_names,
        "palette": palette,
        "splits": splits,
    }


def _fit(
    args,
    task,
    dataset,
    model_function,
    model_arguments,
    architecture,
    make_optimizer,
    weight_decay,
    train_batches,
    validation_batches,
    adversarial=None,
):
    """What all fit scripts do once they have their data."""
    import keras

    from kerasdense import training
    from kerasdense.backbones import load_weights

    keras.utils.set_random_seed(args.seed)
    keras.config.set_dtype_policy(args.precision)
    steps_per_epoch = args.steps_per_epoch or math.ceil(
        dataset["splits"][args.train_split or "train"] / args.batch_size
    )

    def build_model():
        model = model_function(
            num_classes=len(dataset["class_names"]), weights=None, **model_arguments
        )
        return model, load_weights(model, architecture, args.weights)

    def make_rated_optimizer(is_pretrained):
        rate = args.learning_rate * (args.backbone_rate if is_pretrained else 1.0)
        return make_optimizer(rate, args.epochs * steps_per_epoch)

    training.fit(
        task,
        build_model,
        make_rated_optimizer,
        train_batches,
        validation_batches,
        args.workdir,
        run={
            "model": {"name": model_function.__name__, "arguments": model_arguments},
            "arguments": {
                name: str(value) if isinstance(value, Path) else value
                for name, value in vars(args).items()
            },
            "command": shlex.join(sys.argv),
            "seed": args.seed,
            "dataset": dataset,
        },
        epochs=args.epochs,
        steps_per_epoch=steps_per_epoch,
        weight_decay=weight_decay,
        jit_compile=uses_xla(args),
        early_stop=args.early_stop,
        average_weights=args.average_weights,
        adversarial=adversarial,
    )
