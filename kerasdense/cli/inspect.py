#!/usr/bin/env python3
"""Prints a model: its layers, parameters, multiply-adds, activation memory and backbone taps.

    scripts/inspect_model.py ladder_densenet121 --size 448x1024
    scripts/inspect_model.py fcn_vgg16 --classes 21 --options skips=16,8
    scripts/inspect_model.py runs/camvid/best.keras --size 360x480 --plot model.png

Nothing is run: the figures are counted on the model's graph, for one image.
"""

import argparse
from pathlib import Path

from kerasdense.cli import command_line


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a function of kerasdense.models, or a .keras file")
    parser.add_argument("--size", type=command_line.size, default=(448, 1024), metavar="HxW")
    parser.add_argument("--classes", type=command_line.positive(int), default=19)
    parser.add_argument(
        "--options",
        type=command_line.model_option,
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="arguments of the model function, e.g. output_stride=8 prediction_stride=4",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the graph (.png, .svg)")
    args = parser.parse_args()

    import keras

    from kerasdense.models.backbones import tap_layers
    from kerasdense.models.cost import layer_costs, total_cost

    model = command_line.load_model(
        args.model, num_classes=args.classes, weights=None, **dict(args.options)
    )
    costs = layer_costs(model, args.size)
    total = total_cost(model, args.size)
    taps = {name: stride for stride, name in tap_layers(model).items()}
    line = "{:<32} {:<22} {:<20} {:>11} {:>9} {:>9}  {}"
    print(f"{model.name}, one image of {args.size[0]}x{args.size[1]}")
    print(line.format("layer", "type", "output", "parameters", "MMAC", "MiB", "tap"))
    for layer in costs:
        print(
            line.format(
                layer["name"],
                layer["type"],
                "x".join(map(str, layer["shape"])),
                f"{layer['parameters']:,}",
                f"{layer['macs'] / 1e6:.1f}",
                f"{layer['activation_bytes'] / 2**20:.1f}",
                taps.get(layer["name"], ""),
            ).rstrip()
        )
    print(f"parameters    {total['parameters']:,}")
    print(f"multiply-adds {total['macs'] / 1e9:.1f} G")
    print(f"activations   {total['activation_bytes'] / 2**20:.0f} MiB (float32 outputs of")
    print("              convolutions, batch normalizations and concatenations)")
    if args.plot:  # without pydot and graphviz, Keras raises and says how to install them
        keras.utils.plot_model(model, str(args.plot), show_shapes=True)
        print(f"graph drawn to {args.plot}")


if __name__ == "__main__":
    command_line.run(main)
