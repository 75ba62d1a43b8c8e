#!/usr/bin/env python3
"""Writes toy_streets scenes as files, in the layout of the `folder` dataset (own data).

    scripts/make_toy_streets.py --output toy --count 8

writes toy/images/*.png, toy/masks/*.png (palette PNGs) and toy/classes.txt. The scenes are new:
neither training nor validation scenes of the `toy_streets` dataset.
"""

import argparse
from pathlib import Path

from kerasdense import command_line


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--count", type=command_line.positive(int), default=8)
    args = parser.parse_args()

    from kerasdense import drawing
    from kerasdense.datasets import toy_streets

    for folder in ("images", "masks"):
        (args.output / folder).mkdir(parents=True, exist_ok=True)
    palette = list(toy_streets.CLASSES.values())
    for index in range(args.count):
        image, mask, _, _ = toy_streets.draw_scene("test", index)
        drawing.save_picture(args.output / "images" / f"scene_{index:03}.png", image)
        drawing.save_label_map(args.output / "masks" / f"scene_{index:03}.png", mask, palette)
    (args.output / "classes.txt").write_text("".join(f"{name}\n" for name in toy_streets.CLASSES))
    print(f"{args.count} scenes written to {args.output}")


if __name__ == "__main__":
    command_line.run(main)
