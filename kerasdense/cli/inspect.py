"""Prints a model: its layers, parameters, multiply-adds, activation memory and backbone taps.

    kerasdense inspect ladder_densenet121 --size 448x1024
    kerasdense inspect fcn_vgg16 --classes 21 --options skips=16,8
    kerasdense inspect runs/camvid --size 360x480 --plot model.png

Nothing is run: the figures are counted on the model's graph, for one image.
"""

import importlib.util
import shutil
from pathlib import Path

from kerasdense.cli.arguments import model_option, positive, size, size_text

LINE = "{:<32} {:<22} {:<20} {:>11} {:>9} {:>9}  {}"


def add_arguments(parser):
    parser.add_argument("model", help="a function of kerasdense.models, a .keras file, or a run")
    parser.add_argument(
        "--size", type=size, default=(448, 1024), metavar="HxW", help="of the image, in pixels"
    )
    parser.add_argument(
        "--classes", type=positive(int), default=19, help="that a model function is built for"
    )
    parser.add_argument(
        "--options",
        type=model_option,
        nargs="+",
        metavar="NAME=VALUE",
        help="arguments of the model function, e.g. output_stride=8 prediction_stride=4 "
        "(default: its own)",
    )
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help="also draw the graph: .png, .svg; needs the extra plot and Graphviz (default: no)",
    )


def run(arguments):
    import keras

    if arguments.plot:
        check_plotting()
    from kerasdense.models.backbones import tap_layers
    from kerasdense.models.cost import layer_costs, total_cost
    from kerasdense.models.loading import load_model
    from kerasdense.training import run_folder

    options = {"num_classes": arguments.classes, "weights": None, **dict(arguments.options or ())}
    name = arguments.model
    if (Path(name) / run_folder.FACTS).is_file():
        model, _ = run_folder.load_run(name)
    else:
        model = load_model(name, **options)
    total = total_cost(model, arguments.size)
    taps = {name: stride for stride, name in tap_layers(model).items()}
    print(f"{model.name}, one image of {size_text(arguments.size)}")
    print(LINE.format("layer", "type", "output", "parameters", "MMAC", "MiB", "tap"))
    for layer in layer_costs(model, arguments.size):
        line = LINE.format(
            layer["name"],
            layer["type"],
            "x".join(map(str, layer["shape"])),
            f"{layer['parameters']:,}",
            f"{layer['macs'] / 1e6:.1f}",
            f"{layer['activation_bytes'] / 2**20:.1f}",
            taps.get(layer["name"], ""),
        )
        print(line.rstrip())
    print(f"parameters    {total['parameters']:,}")
    print(f"multiply-adds {total['macs'] / 1e9:.1f} G")
    print(f"activations   {total['activation_bytes'] / 2**20:.0f} MiB (float32 outputs of")
    print("              convolutions, batch normalizations and concatenations)")
    if arguments.plot:
        keras.utils.plot_model(model, str(arguments.plot), show_shapes=True)
        print(f"graph drawn to {arguments.plot}")


def check_plotting():
    """Raises ImportError if what draws graphs is not installed, before the figures are counted."""
    missing = []
    if importlib.util.find_spec("pydot") is None:
        missing.append("pydot (./scripts/install plot, or pip install 'kerasdense[plot]')")
    if shutil.which("dot") is None:
        missing.append("Graphviz's program dot (Debian: apt-get install graphviz)")
    if missing:
        raise ImportError(f"--plot needs {' and '.join(missing)}: install what is missing.")
