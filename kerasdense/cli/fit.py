"""Fits a network to a dataset, in a run folder.

    kerasdense fit ladder_densenet --dataset camvid --source CamVid --workdir runs/camvid
    kerasdense fit ssd300 --dataset folder_detection --source mydata --workdir runs/boxes

Kill a run and give the same command again: it goes on after the last whole epoch; with more
--epochs, a complete run goes on, too. --initialize runs/other begins a new run with what another
has learned, also for other classes. The defaults of each network are its paper's recipe:
kerasdense fit NETWORK --help.
"""

import argparse
import shlex
from pathlib import Path

from kerasdense import recipes
from kerasdense.cli.arguments import (
    AUTO_HELP,
    PRECISIONS,
    XLA,
    XLA_HELP,
    Formatter,
    add_dataset,
    integers,
    numbers,
    positive,
    size,
    weights,
)
from kerasdense.recipes.recipe import VALIDATION_BATCH

KINDS = {"size": size, "numbers": numbers, "count": positive(int)}


def add_arguments(parser):
    networks = parser.add_subparsers(dest="network", required=True, metavar="NETWORK")
    for name in recipes.names():
        module = recipes.module(name)
        network = networks.add_parser(
            name,
            help=module.__doc__.splitlines()[0],
            description=module.__doc__,
            formatter_class=Formatter,
        )
        _add_shared(network, module.RECIPE)
        for option in module.RECIPE.options:
            _add_option(network, option)


def run(arguments):
    options = dict(vars(arguments))
    recipe = recipes.module(options.pop("network")).RECIPE
    command = shlex.join(["kerasdense", *options.pop("command_line")])
    recipe.fit(argparse.Namespace(**options), command)


def _add_shared(parser, recipe):
    """The options that all networks have."""
    add_dataset(parser)
    parser.add_argument("--workdir", type=Path, required=True, help="the run folder")
    parser.add_argument(
        "--weights",
        type=weights,
        default=recipe.weights,
        metavar="imagenet|none|FILE",
        help=f"of the backbone{'' if recipe.weights else ' (default: none)'}",
    )
    parser.add_argument(
        "--initialize",
        type=Path,
        metavar="RUN|FILE",
        help="go on from another model: all weights that fit by name and shape, and the rows of "
        "class heads by the names of the classes; --weights is for what its backbone lacks "
        "(default: no)",
    )
    parser.add_argument(
        "--epochs",
        type=positive(int),
        default=recipe.epochs,
        help="passes over the training split; may be raised when a run goes on",
    )
    parser.add_argument(
        "--batch-size", type=positive(int), default=recipe.batch_size, help="images a step"
    )
    rate, note = recipe.learning_rate, ""
    if callable(rate):
        rate, note = None, f" (default: {rate.__doc__})"
    parser.add_argument(
        "--learning-rate",
        type=positive(float),
        default=rate,
        help=f"of the new layers{note}",
    )
    parser.add_argument(
        "--backbone-rate",
        type=positive(float),
        default=recipe.backbone_rate,
        metavar="FACTOR",
        help="learning rate of the pretrained weights, as a multiple of --learning-rate",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help=f"what layers compute in; {AUTO_HELP}",
    )
    parser.add_argument("--xla", choices=XLA, default="auto", help=XLA_HELP)
    parser.add_argument(
        "--steps-per-epoch", type=positive(int), help="steps an epoch (default: one pass)"
    )
    parser.add_argument("--train-split", metavar="SPLIT", help="to train on (default: train)")
    parser.add_argument(
        "--validation-split", default="val", metavar="SPLIT", help="to measure each epoch on"
    )
    parser.add_argument(
        "--validation-batch-size",
        type=positive(int),
        metavar="IMAGES",
        help=f"images at once, when they are measured (default: --batch-size, at most "
        f"{VALIDATION_BATCH})",
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and augmentation")
    parser.add_argument(
        "--early-stop",
        type=positive(int),
        metavar="VALIDATIONS",
        help="stop after so many validations without a better one (default: never)",
    )
    parser.add_argument(
        "--average-weights",
        type=float,
        metavar="MOMENTUM",
        help="keep a moving average of the weights, e.g. 0.999 (default: none)",
    )


def _add_option(parser, option):
    """One of a recipe's own options."""
    flag, default = f"--{option.name.replace('_', '-')}", option.default
    if isinstance(default, bool):
        parser.add_argument(flag, action="store_true", help=option.help)
        return
    if option.kind:
        kind = KINDS[option.kind]
    elif isinstance(default, tuple):
        kind = integers
    elif option.choices:
        kind = type(default)
    else:
        kind = positive(type(default))
    parser.add_argument(
        flag,
        type=kind,
        default=default,
        choices=option.choices or None,
        metavar=option.metavar,
        help=option.help,
    )
