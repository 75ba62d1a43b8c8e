"""Writes toy_streets scenes as files, an example of own data: `folder` and `folder_detection`.

    kerasdense make-toy-streets --output toy --count 8

writes toy/images/*.png; for `folder` toy/masks/*.png (palette PNGs) and toy/classes.txt; for
`folder_detection` toy/annotations/*.xml (PASCAL VOC) and toy/box_classes.txt. Data with boxes only
needs no file but classes.txt: box_classes.txt is for folders whose classes.txt belongs to masks.
The scenes are new: neither training nor validation scenes of the `toy_streets` dataset.
"""

from pathlib import Path

from kerasdense.cli.arguments import positive


def add_arguments(parser):
    parser.add_argument("--output", type=Path, required=True, help="folder to write them to")
    parser.add_argument("--count", type=positive(int), default=8, help="scenes")


def run(arguments):
    import numpy as np

    from kerasdense.data import formats
    from kerasdense.data.sources import toy_streets
    from kerasdense.drawing import pictures

    for folder in ("images", "masks", "annotations"):
        (arguments.output / folder).mkdir(parents=True, exist_ok=True)
    palette = list(toy_streets.CLASSES.values())
    for index in range(arguments.count):
        stem = f"scene_{index:03}"
        image, mask, boxes, labels = toy_streets.draw_scene("test", index)
        pictures.save_picture(arguments.output / "images" / f"{stem}.png", image)
        pictures.save_label_map(arguments.output / "masks" / f"{stem}.png", mask, palette)
        height, width = mask.shape
        pixels = np.rint(boxes * [width, height, width, height])
        annotation = formats.VocAnnotation(
            size=mask.shape,
            file_name=f"{stem}.png",
            names=[toy_streets.BOX_CLASSES[label] for label in labels],
            boxes=formats.continuous_to_voc(pixels),
            difficult=np.zeros(len(boxes), bool),
        )
        formats.write_voc_xml(arguments.output / "annotations" / f"{stem}.xml", annotation)
    for file_name, names in (
        ("classes.txt", toy_streets.CLASSES),
        ("box_classes.txt", toy_streets.BOX_CLASSES),
    ):
        (arguments.output / file_name).write_text("".join(f"{name}\n" for name in names))
    print(f"{arguments.count} scenes written to {arguments.output}")
