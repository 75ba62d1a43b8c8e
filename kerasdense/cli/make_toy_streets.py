"""Writes toy_streets scenes as files: an example of own data, or the layout of a published dataset.

    kerasdense make-toy-streets --output toy --count 8
    kerasdense make-toy-streets --output VOCdevkit --layout voc

folder: toy/images/*.png; for `folder` toy/masks/*.png (palette PNGs) and toy/classes.txt; for
`folder_detection` toy/annotations/*.xml (PASCAL VOC) and toy/box_classes.txt. Data with boxes only
needs no file but classes.txt: box_classes.txt is for folders whose classes.txt belongs to masks.

mot15, voc, cityscapes: what the datasets of these names (voc_detection, voc_segmentation) read, in
all their configurations, with --source the output folder. So the steps of a published row are
tried without its data; scores on drawn scenes say nothing about the published ones. The detections
det/det.txt of mot15 are drawn, too: they are not those of ACF.

The scenes are new: neither training nor validation scenes of the `toy_streets` dataset, and none is
in two splits or two layouts. Files of the same names are replaced. The layouts of datasets are not
written to a folder that holds anything but the same scenes, from before.
"""

from pathlib import Path

from kerasdense.cli.arguments import positive

COUNTS = {"folder": 8, "mot15": 8, "voc": 8, "cityscapes": 4}  # by default


def add_arguments(parser):
    parser.add_argument("--output", type=Path, required=True, help="folder to write them to")
    parser.add_argument("--layout", choices=tuple(COUNTS), default="folder", help="of the files")
    parser.add_argument(
        "--count",
        type=positive(int),
        help="scenes of the training split; each other split has half as many, at least 2; of "
        "mot15, whose last 20 % of frames are val, the training frames of both sequences, at "
        "least 4 (default: 8; of cityscapes, whose frames are large, 4)",
    )


def run(arguments):
    from kerasdense.data import toy_layouts

    count = arguments.count or COUNTS[arguments.layout]
    written = toy_layouts.WRITERS[arguments.layout](arguments.output, count)
    print(f"{written} scenes written to {arguments.output}")
