#!/usr/bin/env python3
"""Writes toy_streets scenes as files, an example of own data: `folder` and `folder_detection`.

    scripts/make_toy_streets.py --output toy --count 8

writes toy/images/*.png; for `folder` toy/masks/*.png (palette PNGs) and toy/classes.txt; for
`folder_detection` toy/annotations/*.xml (PASCAL VOC) and toy/box_classes.txt. Data with boxes only
needs no file but classes.txt: box_classes.txt is for folders whose classes.txt belongs to masks.
The scenes are new: neither training nor validation scenes of the `toy_streets` dataset.
"""

import argparse
from pathlib import Path
from xml.etree import ElementTree

from kerasdense.cli import command_line


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--count", type=command_line.positive(int), default=8)
    args = parser.parse_args()

    from kerasdense.drawing import pictures
    from kerasdense.data.sources import toy_streets

    for folder in ("images", "masks", "annotations"):
        (args.output / folder).mkdir(parents=True, exist_ok=True)
    palette = list(toy_streets.CLASSES.values())
    for index in range(args.count):
        stem = f"scene_{index:03}"
        image, mask, boxes, labels = toy_streets.draw_scene("test", index)
        pictures.save_picture(args.output / "images" / f"{stem}.png", image)
        pictures.save_label_map(args.output / "masks" / f"{stem}.png", mask, palette)
        names = [toy_streets.BOX_CLASSES[label] for label in labels]
        annotation = voc_annotation(f"{stem}.png", mask.shape, boxes, names)
        (args.output / "annotations" / f"{stem}.xml").write_text(annotation)
    for file_name, names in (
        ("classes.txt", toy_streets.CLASSES),
        ("box_classes.txt", toy_streets.BOX_CLASSES),
    ):
        (args.output / file_name).write_text("".join(f"{name}\n" for name in names))
    print(f"{args.count} scenes written to {args.output}")


def voc_annotation(file_name, size, boxes, names):
    """Returns the text of a VOC XML.

    Args:
        file_name: of the image.
        size: (height, width) in pixels.
        boxes: [N, 4] relative xyxy whose edges are whole pixels.
        names: of the classes of the N objects.
    """
    height, width = size
    root = ElementTree.Element("annotation")

    def add(parent, **texts):
        for tag, text in texts.items():
            ElementTree.SubElement(parent, tag).text = str(text)

    add(root, filename=file_name)
    add(ElementTree.SubElement(root, "size"), width=width, height=height, depth=3)
    for name, (left, top, right, bottom) in zip(names, boxes.tolist()):
        element = ElementTree.SubElement(root, "object")
        add(element, name=name, difficult=0)
        add(
            ElementTree.SubElement(element, "bndbox"),  # 1-based, the last pixel is inside
            xmin=round(left * width) + 1,
            ymin=round(top * height) + 1,
            xmax=round(right * width),
            ymax=round(bottom * height),
        )
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


if __name__ == "__main__":
    command_line.run(main)
