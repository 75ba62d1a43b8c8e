"""What the sub-commands share: how arguments read, and how `--help` looks."""

import argparse
import contextlib
import difflib

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16", "auto")  # of training
COMPUTING = ("auto", "float32", "bfloat16")  # of prediction
AUTO_HELP = "auto: what the processor or GPU computes fast, which is printed with its reason"
CHECKPOINTS = ("best", "last")
LISTS = ("blocks", "layers", "pyramid", "skips")  # arguments of models that hold several numbers
XLA = ("auto", "on", "off")
XLA_HELP = "auto: on where a GPU is, and under JAX"


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of descriptions, and shows the default of every option that has one."""

    def _get_help_string(self, action):
        text = action.help
        if action.option_strings and action.default not in (None, argparse.SUPPRESS):
            text += f" (default: {_text(action)})"
        return text.replace("%", "%%")  # which argparse would fill in


def _text(action):
    """The default of an option as one would write it."""
    default = action.default
    if default == ():
        return "none"
    if action.type is size:
        return size_text(default)
    if isinstance(default, (tuple, list)):
        return " ".join(map(str, default)) if action.nargs else ",".join(map(_plain, default))
    return _plain(default)


def _plain(value):
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return size_text(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


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


def sizes(text):
    """Parses `448x1024,512x512` into pairs of height and width."""
    return tuple(size(part) for part in text.split(","))


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
        return tuple(positive(float)(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers such as 0.75,1, received '{text}'"
        ) from None


def integers(text):
    """Parses `16,8` into a tuple of ints."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected whole numbers such as 16,8, received '{text}'"
        ) from None


def counts(text):
    """Parses `1,8` into a tuple of ints above zero."""
    found = integers(text)
    if min(found) < 1:
        raise argparse.ArgumentTypeError(f"expected numbers above 0, received '{text}'")
    return found


def weights(text):
    """Parses `imagenet`, `none` or a file into what a model function takes."""
    return None if text == "none" else text


def model_option(text):
    """Parses OPTION=VALUE into a pair, the value as a bool, number, tuple of ints, or text."""
    name, separator, value = text.partition("=")
    if not (name and separator and value):
        raise argparse.ArgumentTypeError(f"expected e.g. output_stride=8, received '{text}'")
    if value in ("true", "false"):
        return name, value == "true"
    with contextlib.suppress(ValueError):
        numbers = tuple(int(part) for part in value.split(",") if part)
        return name, numbers if name in LISTS else numbers[0]
    with contextlib.suppress(ValueError):
        return name, float(value)
    return name, value


def class_index(text, names):
    """The index of a class given by its name, in whatever case, or by its index.

    Raises: ValueError if there is none, or the case decides and none fits, with those of like
    names first.
    """
    if text in names:
        return names.index(text)
    folded = [name.casefold() for name in names]
    if folded.count(text.casefold()) == 1:
        return folded.index(text.casefold())
    if text.isdecimal() and int(text) < len(names):
        return int(text)
    close = difflib.get_close_matches(text.casefold(), folded)
    like = [name for name, each in zip(names, folded) if each in close]
    raise ValueError(
        f"There is no class '{text}'{': is it ' + ' or '.join(like) + '?' if like else '.'} "
        f"Expected an index from 0 to {len(names) - 1} or one of: {', '.join(names)}."
    )


def add_dataset(parser, required=True, own_source="the run's own"):
    """`--dataset` and what goes with it, as all commands that read data have them.

    `own_source`: what --source is by default where none is required.
    """
    parser.add_argument(
        "--dataset",
        required=required,
        help="name or name/config, e.g. camvid, cityscapes/ladder, voc_segmentation, folder; "
        "voc_detection/07+12, mot15, folder_detection; toy_streets"
        + ("" if required else " (default: the run's own)"),
    )
    parser.add_argument(
        "--source",
        help="the dataset's folder, in its standard layout (default: "
        + ("none, as toy_streets has)" if required else f"{own_source})"),
    )
    parser.add_argument(
        "--prepared-dir",
        help="where the prepared form of datasets is kept (default: "
        + ("~/tensorflow_datasets)" if required else "the run's own)"),
    )
    parser.add_argument(
        "--mask-values",
        type=integers,
        metavar="V0,V1,...",
        help="for --dataset folder: the values in the masks of class 0, 1, ..., such as 0,255 "
        "(default: " + ("their indices, 0,1,...)" if required else "the run's own)"),
    )


def add_run(parser, required=True):
    """`--run`."""
    from pathlib import Path

    parser.add_argument(
        "--run", type=Path, required=required, metavar="RUN", help="a run folder, made by fit"
    )


def add_checkpoint(parser):
    """`--checkpoint best|last`."""
    parser.add_argument(
        "--checkpoint",
        choices=CHECKPOINTS,
        default=CHECKPOINTS[0],
        help="of the run: the model that did best on its validation split, or that after its last "
        "epoch, which was not chosen by what it does there",
    )


def add_measured_split(parser):
    """`--split`, and the flag without which it is none that a run was trained on."""
    parser.add_argument(
        "--split",
        help="of the dataset, to measure on (default: the validation split of the run; of another "
        "dataset val)",
    )
    parser.add_argument(
        "--allow-trained",
        action="store_true",
        help="measure on a split that the run was trained on, and say so, rather than refuse",
    )


def add_xla(parser):
    """`--xla auto|on|off`."""
    parser.add_argument("--xla", choices=XLA, default="auto", help=XLA_HELP)


def add_verbose(parser):
    """`--verbose`, of a parser and of all that it holds."""
    parser.add_argument(
        "--verbose",
        action="store_true",
        # Else that of a sub-command would undo the one that stands before its name.
        default=argparse.SUPPRESS,
        help="show what TensorFlow tells of itself, too (default: its errors)",
    )
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for nested in action.choices.values():
                add_verbose(nested)
