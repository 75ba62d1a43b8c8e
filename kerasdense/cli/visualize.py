"""Pictures of what a model has learned: its filters, what excites them, and where it looks.

    kerasdense visualize filters --model atrous_fcn_resnet50 --weights resnet50.h5 --output f.png
    kerasdense visualize gallery --run runs/camvid --layer conv4_block4_out --channels 0-15 \\
        --output conv4.png --gif
    kerasdense visualize gallery --run runs/camvid --classes --output classes.png
    kerasdense visualize maximize --run runs/camvid --objective class:Road \\
        --objective channel:conv3_block4_out:7:0.5 --region 64,0,128,128 --output road.png
    kerasdense visualize cam --run runs/camvid --class Car --images street.png --output cam
    kerasdense visualize receptive-field --run runs/camvid --layer score --size 512x512 \\
        --output field.png

The model is that of a run folder, a .keras file, or a function of kerasdense.models.
"""

import argparse
import dataclasses
import functools
import math
import sys
from pathlib import Path

import numpy as np

from kerasdense.cli.arguments import (
    Formatter,
    add_run,
    add_xla,
    class_index,
    integers,
    positive,
    size,
    size_text,
    weights,
)

FILTER_SIDE = 56  # pixels, about, of a picture of a filter
FRAMES = 30  # of a GIF
ENDINGS = ".png", ".jpg", ".jpeg"
FIRST_CHANNELS = list(range(16))  # of a gallery that names none
OBJECTIVES = {  # fields of an objective on the command line, beside its weight
    "channel": "LAYER:INDEX",
    "unit": "LAYER:INDEX",
    "layer": "LAYER",
    "class": "CLASS",
    "anchor": "ANCHOR:CLASS",
}


def add_arguments(parser):
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", title="commands"
    )

    def command(name, function, text):
        description = f"{text[0].upper()}{text[1:]}."
        added = commands.add_parser(
            name, help=text, description=description, formatter_class=Formatter
        )
        added.set_defaults(function=function)
        add_model(added)
        return added

    one = command("filters", filters, "the filters of the first convolution as pictures")
    add_picture(one)

    one = command("maximize", maximize, "an image that maximizes objectives")
    forms = ", ".join(f"{kind}:{fields}" for kind, fields in OBJECTIVES.items())
    one.add_argument(
        "--objective",
        action="append",
        required=True,
        help=f"one of {forms}, each with or without :WEIGHT; several are added",
    )
    add_ascent(one)

    many = command("gallery", gallery, "an image for each channel of a layer, or each class")
    what = many.add_mutually_exclusive_group(required=True)
    what.add_argument("--layer", help="whose channels are maximized")
    what.add_argument("--classes", action="store_true", help="an image for each class")
    many.add_argument(
        "--channels",
        type=channels,
        metavar="LIST",
        help=f"of --layer, such as 0-15,40 (default: the first {len(FIRST_CHANNELS)})",
    )
    add_ascent(many)

    maps = command("cam", cam, "where images show evidence for a class (Grad-CAM)")
    maps.add_argument(
        "--images",
        type=Path,
        nargs="+",
        required=True,
        metavar="IMAGE|FOLDER",
        help="what to look at",
    )
    maps.add_argument(
        "--class", dest="class_name", required=True, metavar="CLASS", help="its name or index"
    )
    maps.add_argument(
        "--layer", help="whose maps are weighted (default: the last before the class scores)"
    )
    add_size(maps, "images are resized to it (default: as the model was fitted, or none)")
    add_region(maps, "the pixels to explain (default: where the class is predicted)")
    maps.add_argument("--output", type=Path, required=True, help="folder for NAME_cam.png")

    field = command("receptive-field", receptive_field, "which pixels move a unit of a layer")
    field.add_argument("--layer", required=True, help="whose central unit is looked at")
    add_size(field)
    add_seed(field, "of the random images")
    add_picture(field, (".png",), "a .png file to write, and a .pdf of the same name beside it")


def add_model(parser):
    source = parser.add_mutually_exclusive_group(required=True)
    add_run(source, required=False)
    source.add_argument("--model", help="a function of kerasdense.models, or a .keras file")
    parser.add_argument(
        "--weights",
        type=weights,
        default="imagenet",
        help="of a model function: imagenet, none, or a file",
    )
    parser.add_argument("--num-classes", type=positive(int), default=20, help="of a model function")


def add_ascent(parser):
    add_size(parser)
    add_seed(parser, "of the start images and all that is drawn")
    parser.add_argument("--steps", type=positive(int), default=128, help="of the ascent")
    parser.add_argument(
        "--learning-rate",
        type=positive(float),
        default=8.0,
        help="gray levels a step; less where colors are too bright",
    )
    parser.add_argument(
        "--no-regularization", action="store_true", help="nothing but the ascent, on plain pixels"
    )
    parser.add_argument(
        "--parametrization",
        choices=("pixel", "fourier"),
        help="what is optimized (default: fourier, without regularization pixel)",
    )
    parser.add_argument(
        "--batch-size", type=positive(int), default=16, help="images that are optimized at once"
    )
    add_xla(parser)
    add_region(parser, "pixels of the label map, for classes (default: all)")
    parser.add_argument("--gif", action="store_true", help="also the optimization, as a GIF")
    add_picture(parser)


def add_size(parser, text="of the images (default: the model's own, or 128x128)"):
    parser.add_argument("--size", type=size, metavar="HxW", help=text)


def add_seed(parser, text):
    parser.add_argument("--seed", type=int, default=0, help=text)


def add_region(parser, text):
    parser.add_argument("--region", type=region, metavar="Y0,X0,Y1,X1", help=text)


def add_picture(parser, endings=ENDINGS, text="a .png or .jpg file to write"):
    parser.add_argument("--output", type=Path, required=True, help=text)
    parser.set_defaults(endings=endings)


def channels(text):
    """Parses `0-3,8` into [0, 1, 2, 3, 8]."""
    try:
        found = []
        for part in text.split(","):
            first, _, last = part.partition("-")
            found += range(int(first), int(last or first) + 1)
    except ValueError:
        found = []
    if not found:
        raise argparse.ArgumentTypeError(f"expected channels such as 0-15,40, received '{text}'")
    return found


def region(text):
    """Parses `Y0,X0,Y1,X1` into four ints."""
    corners = integers(text)
    if len(corners) != 4:
        raise argparse.ArgumentTypeError(f"expected Y0,X0,Y1,X1, received '{text}'")
    return corners


@dataclasses.dataclass
class Subject:
    """What is looked at: a model, and the facts of its run (without a run: none)."""

    model: object
    facts: dict

    @functools.cached_property
    def task(self):
        """Asked for where classes matter: filters and layers are there without any."""
        from kerasdense import tasks

        return tasks.of_run(self.facts) if self.facts else tasks.of_model(self.model)


def run(arguments):
    if arguments.function is cam:
        arguments.output.mkdir(parents=True, exist_ok=True)
    elif arguments.output.suffix.lower() not in arguments.endings:
        raise ValueError(
            f"--output expects a file ending in {' or '.join(arguments.endings[:2])}, received "
            f"{arguments.output}."
        )
    else:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
    return arguments.function(arguments, load(arguments))


def load(arguments):
    from kerasdense.models.loading import load_model
    from kerasdense.training import run_folder

    if arguments.run:
        return Subject(*run_folder.load_run(arguments.run))
    options = {"num_classes": arguments.num_classes, "weights": arguments.weights}
    return Subject(load_model(arguments.model, **options), {})


def filters(arguments, subject):
    from kerasdense.drawing import pictures
    from kerasdense.explain.filters import first_layer_filters

    found = first_layer_filters(subject.model)
    enlarge = max(1, FILTER_SIDE // max(found.shape[1:3]))
    pictures.save_picture(arguments.output, sheet(found.repeat(enlarge, 1).repeat(enlarge, 2)))
    print(f"{len(found)} filters of {found.shape[1]}x{found.shape[2]} -> {arguments.output}")


def maximize(arguments, subject):
    if arguments.region and not any(text.startswith("class:") for text in arguments.objective):
        raise ValueError("--region is of a class: add --objective class:CLASS, or leave it out.")
    objectives = [make_objective(text, arguments, subject) for text in arguments.objective]
    optimize(arguments, subject, objectives, [" + ".join(arguments.objective)])


def gallery(arguments, subject):
    from kerasdense.explain.objectives import channel

    if arguments.classes and arguments.channels or arguments.layer and arguments.region:
        raise ValueError("--channels goes with --layer, and --region with --classes.")
    if arguments.classes:
        names = subject.task.class_names
        objective = class_objective(list(range(len(names))), arguments, subject)
        optimize(arguments, subject, objective, names)
    else:
        chosen = arguments.channels or FIRST_CHANNELS
        names = [f"{arguments.layer} {number}" for number in chosen]
        optimize(
            arguments, subject, channel(arguments.layer, chosen), names, list(map(str, chosen))
        )


def optimize(arguments, subject, objectives, names, captions=None):
    """Maximizes, prints the objectives and writes the pictures; a caption if there are several."""
    from kerasdense.drawing import pictures
    from kerasdense.drawing.progress import Progress
    from kerasdense.explain import activation_maximization
    from kerasdense.training.devices import uses_xla

    plain = arguments.no_regularization
    ascent = activation_maximization.Ascent(
        size=arguments.size,
        steps=arguments.steps,
        learning_rate=arguments.learning_rate,
        regularization=None if plain else activation_maximization.Regularization(),
        parametrization=arguments.parametrization,
        seed=arguments.seed,
        frames=FRAMES if arguments.gif else 0,
    )
    with Progress(None, "steps") as progress:
        found = activation_maximization.maximize(
            subject.model,
            objectives,
            ascent,
            arguments.batch_size,
            uses_xla(arguments.xla),
            progress.of,
        )
    for name, start, end in zip(names, found.start, found.end):
        # A unit behind a ReLU that gray noise leaves silent has no gradient to follow.
        note = "" if end > start else "  (not raised)"
        print(f"{name}: {start:.4g} -> {end:.4g}{note}")
    captions = (captions or names) if len(names) > 1 else None
    pictures.save_picture(arguments.output, sheet(found.images, captions))
    print(f"{len(found.images)} pictures -> {arguments.output}")
    if arguments.gif:
        path = arguments.output.with_suffix(".gif")
        pictures.save_animation(path, [sheet(frame, captions) for frame in found.frames])
        print(f"{len(found.frames)} frames -> {path}")


def cam(arguments, subject):
    from kerasdense.data.images import find_images, unused_name
    from kerasdense.drawing import pictures
    from kerasdense.explain.class_activation_maps import grad_cam
    from kerasdense.models.layers import minimum_side
    from kerasdense.models.outputs import main_output

    model, task = subject.model, subject.task
    index = class_index(arguments.class_name, task.class_names)
    size = arguments.size or task.image_size_of(model)
    least = minimum_side(model)
    if size and min(size) < least:
        raise ValueError(
            f"--size expects {least}x{least} or more for this model, received {size_text(size)}."
        )
    failed, taken = 0, set()
    for path in find_images(arguments.images, arguments.output):
        try:
            image = pictures.load_picture(path)
            image = pictures.resized(image, size) if size else image
            if min(image.shape[:2]) < least:
                raise ValueError(
                    f"it has {size_text(image.shape[1::-1])} pixels, but the model takes images "
                    f"from {least}x{least} on. Enlarge it, such as by --size {least}x{least}."
                )
            pixels = make_region(arguments.region, image.shape[:2])
            heat = grad_cam(model, image[None], index, arguments.layer, pixels)[0]  # [H, W]
        except ValueError as error:
            print(f"skipped {path}: {' '.join(str(error).split())}", file=sys.stderr)
            failed += 1
            continue
        output = main_output(model.predict_on_batch(image[None]))[0]
        picture = task.evidence_picture(path.name, image, output, heat, index)
        written = arguments.output / f"{unused_name(path.stem, taken, ('_cam',))}_cam.png"
        pictures.save_picture(written, picture)
        print(f"{path} -> {written}")
    return 1 if failed else 0


def receptive_field(arguments, subject):
    from kerasdense.drawing import charts
    from kerasdense.explain import receptive_fields
    from kerasdense.explain.activation_maximization import image_size

    height, width = image_size(subject.model, arguments.size)
    field = receptive_fields.effective_receptive_field(
        subject.model, arguments.layer, (height, width), seed=arguments.seed
    )
    box = receptive_fields.field_box(field)
    charts.save(arguments.output, charts.receptive_field(field, box, arguments.layer))
    top, left, bottom, right = box
    if top == 0 or left == 0 or bottom == height or right == width:
        print("the field reaches the edge of the picture: a larger --size may show more of it")
    print(
        f"effective receptive field of {arguments.layer}: {bottom - top} pixels high, "
        f"{right - left} wide, rows {top} to {bottom - 1} and columns {left} to {right - 1} of "
        f"{height}x{width} -> {arguments.output} and .pdf"
    )


def sheet(images, captions=None):
    """Pictures of one size as a grid, about as wide as high: uint8 [h, w, 3]."""
    from kerasdense.drawing import pictures

    columns = math.ceil(math.sqrt(len(images)))
    cells = list(images)
    if captions:
        cells = [pictures.gallery([[cell]], [text]) for cell, text in zip(images, captions)]
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % columns)
    return pictures.gallery([cells[i : i + columns] for i in range(0, len(cells), columns)])


def make_objective(text, arguments, subject):
    """What an --objective means: (weight, Objective)."""
    from kerasdense.explain import objectives

    kind, *fields = text.split(":")
    count = OBJECTIVES.get(kind, "").count(":") + 1
    if kind not in OBJECTIVES or not count <= len(fields) <= count + 1:
        forms = ", ".join(f"{name}:{form}" for name, form in OBJECTIVES.items())
        raise ValueError(
            f"--objective expects one of {forms}, each with or without :WEIGHT, received '{text}'."
        )
    weight = number(float, fields[count], text) if len(fields) > count else 1.0
    if kind == "class":
        index = class_index(fields[0], subject.task.class_names)
        objective = class_objective(index, arguments, subject)
    elif kind == "anchor":
        index = class_index(fields[1], subject.task.class_names)
        objective = objectives.anchor_class(number(int, fields[0], text), index)
    elif kind == "layer":
        objective = objectives.layer(fields[0])
    else:
        make = {"channel": objectives.channel, "unit": objectives.unit}[kind]
        objective = make(fields[0], number(int, fields[1], text))
    return weight, objective


def number(kind, field, text):
    try:
        return kind(field)
    except ValueError:
        raise ValueError(f"--objective {text}: expected a number instead of '{field}'.") from None


def class_objective(index, arguments, subject):
    """A class, or one for each image, as the model's task takes it for an objective."""
    from kerasdense.explain.activation_maximization import image_size

    pixels = make_region(arguments.region, image_size(subject.model, arguments.size))
    objective = subject.task.class_objective(subject.model, index, pixels)
    if objective.place:
        print(objective.place)
    return objective


def make_region(corners, size):
    """`--region` as bool [H, W], or None."""
    if corners is None:
        return None
    top, left, bottom, right = corners
    if not (0 <= top < bottom <= size[0] and 0 <= left < right <= size[1]):
        raise ValueError(
            f"--region expects Y0,X0,Y1,X1 within {size[0]}x{size[1]} pixels, received "
            f"{','.join(map(str, corners))}."
        )
    region = np.zeros(size, bool)
    region[top:bottom, left:right] = True
    return region
