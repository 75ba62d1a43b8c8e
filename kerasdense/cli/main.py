"""The program `kerasdense`: finds the sub-command, and tells errors as one line."""

import argparse
import importlib
import sys
from pathlib import Path

from kerasdense import __version__
from kerasdense.cli.arguments import Formatter, add_verbose
from kerasdense.cli.start_up import quiet_tensorflow

# Name, file of this folder, and what it does.
COMMANDS = (
    ("fit", "fit", "fit a network to a dataset"),
    ("evaluate", "evaluate", "measure a fitted model on a split"),
    ("evaluate-detections", "evaluate_detections", "average precision of detections in files"),
    ("predict", "predict", "label maps or boxes of images"),
    ("export", "export", "write a SavedModel, ONNX, OpenVINO or LiteRT file"),
    ("check-export", "check_export", "compare an export with its model, on pictures"),
    ("inspect", "inspect", "layers, parameters, multiply-adds and memory of a model"),
    ("visualize", "visualize", "pictures of what a model has learned"),
    ("attack", "attack", "adversarial examples, and how well a model stands them"),
    ("benchmark", "benchmark", "measure models, pipelines, metrics and exports here"),
    ("reproduce", "reproduce", "run the steps of a row of a paper, ours beside the published"),
    ("import", "import_weights", "make a run folder of weights from torchvision"),
    ("serve-client", "serve_client", "send images to a TensorFlow Serving server"),
    ("make-toy-streets", "make_toy_streets", "write drawn street scenes as files"),
)


def main(arguments=None):
    """Runs the program with `arguments` (default: those of the process) and exits."""
    arguments = sys.argv[1:] if arguments is None else [str(each) for each in arguments]
    try:
        status = _run(arguments)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {' '.join(_text(error).split())}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    sys.exit(status)


def module_of(name):
    """The file of a sub-command: its docstring, `add_arguments(parser)` and `run(arguments)`."""
    file = next(file for command, file, _ in COMMANDS if command == name)
    return importlib.import_module(f"kerasdense.cli.{file}")


def parser_of(name):
    """The argparse parser of a sub-command."""
    module = module_of(name)
    parser = argparse.ArgumentParser(
        prog=f"kerasdense {name}", description=module.__doc__, formatter_class=Formatter
    )
    module.add_arguments(parser)
    add_verbose(parser)
    return parser


def _text(error):
    """What an error says; of a folder that cannot be made, what is in the way."""
    if isinstance(error, (FileExistsError, NotADirectoryError)) and error.filename is not None:
        folder = Path(error.filename)
        file = next((each for each in (folder, *folder.parents) if each.is_file()), None)
        if file:
            return f"{folder}: expected a folder, or a name for a new one, but {file} is a file."
    return str(error)


def _run(arguments):
    names = [name for name, *_ in COMMANDS]
    if arguments and arguments[0] in names:
        parsed = parser_of(arguments[0]).parse_args(arguments[1:])
        parsed.command_line = arguments
        if not vars(parsed).pop("verbose", False):  # no argument of a command, nor of a recipe
            quiet_tensorflow()
        return module_of(arguments[0]).run(parsed)
    lines = [f"  {name:<{max(map(len, names))}}  {text}" for name, _, text in COMMANDS]
    parser = argparse.ArgumentParser(
        prog="kerasdense",
        usage="kerasdense COMMAND ...",
        description="Dense prediction with Keras 3: the whole way from files to a served model.",
        epilog="commands:\n" + "\n".join(lines) + "\n\nkerasdense COMMAND --help tells more.",
        formatter_class=Formatter,
    )
    parser.add_argument("--version", action="version", version=f"kerasdense {__version__}")
    parser.add_argument("command", metavar="COMMAND", choices=names, help="see below")
    parser.parse_args(arguments[:1])


if __name__ == "__main__":
    main()
