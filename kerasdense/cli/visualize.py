#!/usr/bin/env python3
"""Pictures of what a model has learned: its filters, what excites them, and where it looks.

    scripts/visualize.py filters --model atrous_fcn_resnet50 --weights resnet50.h5 --output f.png
    scripts/visualize.py gallery --run runs/camvid --layer conv4_block4_out --channels 0-15 \\
        --output conv4.png --gif
    scripts/visualize.py gallery --run runs/camvid --classes --output classes.png
    scripts/visualize.py maximize --run runs/camvid --objective class:Road \\
        --objective channel:conv3_block4_out:7:0.5 --region 64,0,128,128 --output road.png
    scripts/visualize.py cam --run runs/camvid --class Car --images street.png --output cam
    scripts/visualize.py receptive-field --run runs/camvid --layer score --size 512x512 \\
        --output field.png

The model is that of a run folder, a .keras file, or a function of kerasdense.models.
"""

import argparse
import math
import sys
from pathlib import Path

import numpy as np

from kerasdense.cli import command_line
from kerasdense.drawing import pictures

FILTER_SIDE = 56  # pixels, about, of a picture of a filter
FRAMES = 30  # of a GIF
FIRST_CHANNELS = list(range(16))  # of a gallery that names none
OBJECTIVES = {  # fields of an objective on the command line, beside its weight
    "channel": "LAYER:INDEX",
    "unit": "LAYER:INDEX",
    "layer": "LAYER",
    "class": "CLASS",
    "anchor": "ANCHOR:CLASS",
}


def main():
    args = parse()
    if args.command == "cam":
        args.output.mkdir(parents=True, exist_ok=True)
    elif args.output.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ValueError(f"--output expects a file ending in .png or .jpg, received {args.output}.")
    else:
        args.output.parent.mkdir(parents=True, exist_ok=True)
    return args.function(args, *load(args))


def filters(args, model, facts):
    from kerasdense.explain.activation_maximization import first_layer_filters

    pictures = first_layer_filters(model)
    enlarge = max(1, FILTER_SIDE // max(pictures.shape[1:3]))
    pictures.save_picture(args.output, sheet(pictures.repeat(enlarge, 1).repeat(enlarge, 2)))
    print(f"{len(pictures)} filters of {pictures.shape[1]}x{pictures.shape[2]} -> {args.output}")


def maximize(args, model, facts):
    if args.region and not any(text.startswith("class:") for text in args.objective):
        raise ValueError("--region is of a class: add --objective class:CLASS, or leave it out.")
    objectives = [make_objective(text, args, model, facts) for text in args.objective]
    optimize(args, model, objectives, [" + ".join(args.objective)])


def gallery(args, model, facts):
    from kerasdense.explain import activation_maximization

    if args.classes and args.channels or args.layer and args.region:
        raise ValueError("--channels goes with --layer, and --region with --classes.")
    if args.classes:
        names = class_names(model, facts)
        objective = class_objective(list(range(len(names))), args, model)
        optimize(args, model, objective, names)
    else:
        chosen = args.channels or FIRST_CHANNELS
        objective = activation_maximization.channel(args.layer, chosen)
        optimize(args, model, objective, [f"{args.layer} {number}" for number in chosen])


def optimize(args, model, objectives, names):
    """Maximizes, prints the objectives and writes the pictures; a caption if there are several."""
    import keras

    from kerasdense.explain import activation_maximization

    bar = keras.utils.Progbar(None, unit_name="step")

    def show(done, total):
        bar.target = total
        bar.update(done)

    regularization = None if args.no_regularization else activation_maximization.Regularization()
    found = activation_maximization.maximize(
        model,
        objectives,
        args.size,
        args.steps,
        args.learning_rate,
        regularization=regularization,
        parametrization=args.parametrization,
        seed=args.seed,
        batch_size=args.batch_size,
        frames=FRAMES if args.gif else 0,
        xla=command_line.uses_xla(args),
        progress=show,
    )
    for name, start, end in zip(names, found.start, found.end):
        # A unit behind a ReLU that gray noise leaves silent has no gradient to follow.
        note = "" if end > start else "  (not raised)"
        print(f"{name}: {start:.4g} -> {end:.4g}{note}")
    captions = [name.removeprefix(f"{getattr(args, 'layer', None)} ") for name in names]
    captions = captions if len(names) > 1 else None
    pictures.save_picture(args.output, sheet(found.images, captions))
    print(f"{len(found.images)} pictures -> {args.output}")
    if args.gif:
        path = args.output.with_suffix(".gif")
        pictures.save_animation(path, [sheet(frame, captions) for frame in found.frames])
        print(f"{len(found.frames)} frames -> {path}")


def cam(args, model, facts):
    from kerasdense.explain import class_activation_maps
    from kerasdense.tasks import results

    names, dataset = class_names(model, facts), facts.get("dataset", {})
    index, palette = find_class(args.class_name, names), dataset.get("palette")
    size = args.size
    if size is None and facts.get("task") == "classification":
        size = facts.get("arguments", {}).get("size")  # that of its training images
    failed, taken, images = 0, set(), results.find_images(args.images, args.output)
    for path in images:
        try:
            image = pictures.load_picture(path)
            image = image if size is None else pictures.resized(image, size)
            region = make_region(args.region, image.shape[:2])
            heat = class_activation_maps.grad_cam(model, image[None], index, args.layer, region)[0]
        except ValueError as error:
            print(f"skipped {path}: {' '.join(str(error).split())}", file=sys.stderr)
            failed += 1
            continue
        row, captions = [image, pictures.heat_overlay(image, heat)], [path.name, names[index]]
        logits = model_logits(model.predict_on_batch(image[None]))[0]
        if logits.ndim == 3 and palette:
            row.insert(1, pictures.overlay(image, logits.argmax(axis=-1), palette))
            captions.insert(1, "prediction")
        elif logits.ndim == 1:
            captions[1] += f" {100 / (1 + np.exp(-logits[index])):.1f} %"
        picture = pictures.gallery([row], captions)
        if logits.ndim == 3 and palette:
            legend = pictures.legend(names, palette, picture.shape[1])
            picture = pictures.gallery([[picture], [legend]])
        name = path.stem
        while name in taken:  # in several folders
            name += "_"
        taken.add(name)
        output = args.output / f"{name}_cam.png"
        pictures.save_picture(output, picture)
        print(f"{path} -> {output}")
    return 1 if failed else 0


def receptive_field(args, model, facts):
    from kerasdense.explain import class_activation_maps
    from kerasdense.explain.activation_maximization import image_size

    size = image_size(model, args.size)
    field = class_activation_maps.effective_receptive_field(model, args.layer, size, seed=args.seed)
    height, width = class_activation_maps.field_sides(field)
    picture = pictures.heat_overlay(np.zeros((*size, 3), np.uint8), field / field.max(), opacity=1)
    pictures.save_picture(args.output, picture)
    print(
        f"effective receptive field of {args.layer}: {height}x{width} of {size[0]}x{size[1]} "
        f"pixels -> {args.output}"
    )


def sheet(pictures, captions=None):
    """Pictures of one size as a grid, about as wide as high: uint8 [h, w, 3]."""
    columns = math.ceil(math.sqrt(len(pictures)))
    cells = list(pictures)
    if captions:
        cells = [pictures.gallery([[cell]], [text]) for cell, text in zip(pictures, captions)]
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % columns)
    return pictures.gallery([cells[i : i + columns] for i in range(0, len(cells), columns)])


def make_objective(text, args, model, facts):
    """What an --objective means: (weight, Objective)."""
    from kerasdense.explain import activation_maximization

    kind, *fields = text.split(":")
    count = OBJECTIVES.get(kind, "").count(":") + 1
    if kind not in OBJECTIVES or not count <= len(fields) <= count + 1:
        forms = ", ".join(f"{name}:{form}" for name, form in OBJECTIVES.items())
        raise ValueError(
            f"--objective expects one of {forms}, each with or without :WEIGHT, received '{text}'."
        )
    weight = number(float, fields[count], text) if len(fields) > count else 1.0
    if kind == "class":
        index = find_class(fields[0], class_names(model, facts))
        objective = class_objective(index, args, model)
    elif kind == "anchor":
        index = find_class(fields[1], class_names(model, facts))
        objective = activation_maximization.anchor_class(number(int, fields[0], text), index)
    elif kind == "layer":
        objective = activation_maximization.layer(fields[0])
    else:
        function = {"channel": activation_maximization.channel, "unit": activation_maximization.unit}[kind]
        objective = function(fields[0], number(int, fields[1], text))
    return weight, objective


def number(kind, field, text):
    try:
        return kind(field)
    except ValueError:
        raise ValueError(f"--objective {text}: expected a number instead of '{field}'.") from None


def class_objective(index, args, model):
    """A class of any model as an objective: at its central anchor, if it is a detector."""
    from kerasdense.explain import activation_maximization

    rank = len(model_logits(model.output).shape)
    if args.region and rank != 4:
        raise ValueError("--region is of the label map: expected a class of a segmentation model.")
    if rank == 4:
        size = activation_maximization.image_size(model, args.size)
        return activation_maximization.segmentation_class(index, make_region(args.region, size))
    if rank == 3:
        anchor = central_anchor(model)
        print(f"at the central anchor, {anchor}")
        return activation_maximization.anchor_class(anchor, index)
    return activation_maximization.class_logit(index)


def central_anchor(model):
    """The anchor that overlaps best with the central half of the image."""
    from kerasdense.models.ssd import anchors_of
    from kerasdense.boxes.geometry import iou, xyxy_from_center_xywh

    boxes = xyxy_from_center_xywh(np.asarray(anchors_of(model)))
    middle = np.array([[0.25, 0.25, 0.75, 0.75]], np.float32)
    return int(np.argmax(iou(boxes, middle)[:, 0]))


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


def model_logits(output):
    return output["logits"] if isinstance(output, dict) else output


def class_names(model, facts):
    """The run's, or else the numbers of the model's classes."""
    if "dataset" in facts:
        return facts["dataset"]["class_names"]
    shape = model_logits(model.output).shape
    return [str(index) for index in range(shape[-1] - (5 if len(shape) == 3 else 0))]


def find_class(text, names):
    """The index of a class given by its name or index."""
    if text in names:
        return names.index(text)
    if text.isdecimal() and int(text) < len(names):
        return int(text)
    raise ValueError(
        f"There is no class '{text}'. Expected an index from 0 to {len(names) - 1} or one of: "
        f"{', '.join(names)}."
    )


def load(args):
    """The model, and the facts of its run (without a run: none)."""
    from kerasdense.training import run_folder

    if args.run:
        return run_folder.load_run(args.run)
    arguments = {"num_classes": args.num_classes, "weights": args.weights}
    return command_line.load_model(args.model, **arguments), {}


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
    corners = command_line.integers(text)
    if len(corners) != 4:
        raise argparse.ArgumentTypeError(f"expected Y0,X0,Y1,X1, received '{text}'")
    return corners


def parse():
    positive = command_line.positive
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    of_model = argparse.ArgumentParser(add_help=False)
    source = of_model.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=Path, help="the --workdir of a fit script")
    source.add_argument("--model", help="a function of kerasdense.models, or a .keras file")
    of_model.add_argument(
        "--weights",
        type=lambda text: None if text == "none" else text,
        default="imagenet",
        help="of a model function: imagenet, none, or a file",
    )
    of_model.add_argument("--num-classes", type=positive(int), default=20, help="of that model")
    of_model.add_argument("--output", type=Path, required=True)
    sized = argparse.ArgumentParser(add_help=False)
    sized.add_argument("--size", type=command_line.size, metavar="HxW", help="of the images")
    sized.add_argument("--seed", type=int, default=0)
    ascent = argparse.ArgumentParser(add_help=False)
    ascent.add_argument("--steps", type=positive(int), default=128)
    ascent.add_argument(
        "--learning-rate",
        type=positive(float),
        default=8.0,
        help="gray levels a step; less where colors are too bright",
    )
    ascent.add_argument("--xla", choices=("auto", "on", "off"), default="auto")
    ascent.add_argument(
        "--no-regularization", action="store_true", help="nothing but the ascent, on plain pixels"
    )
    ascent.add_argument(
        "--parametrization",
        choices=("pixel", "fourier"),
        help="default: fourier, without regularization pixel",
    )
    ascent.add_argument("--batch-size", type=positive(int), default=16)
    ascent.add_argument("--gif", action="store_true", help="also the optimization, as a GIF")
    on_region = argparse.ArgumentParser(add_help=False)
    on_region.add_argument(
        "--region", type=region, metavar="Y0,X0,Y1,X1", help="pixels of the label map, for classes"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name, function, text, *parents):
        added = commands.add_parser(name, help=text, description=text, parents=[of_model, *parents])
        added.set_defaults(function=function)
        return added

    command("filters", filters, "the filters of the first convolution")
    one = command(
        "maximize", maximize, "an image that maximizes objectives", sized, ascent, on_region
    )
    forms = ", ".join(f"{kind}:{fields}" for kind, fields in OBJECTIVES.items())
    one.add_argument(
        "--objective", action="append", required=True, help=f"{forms}; each may end in :WEIGHT"
    )
    many = command(
        "gallery", gallery, "an image for each channel or class", sized, ascent, on_region
    )
    what = many.add_mutually_exclusive_group(required=True)
    what.add_argument("--layer", help="whose channels are maximized")
    what.add_argument("--classes", action="store_true", help="an image for each class")
    many.add_argument(
        "--channels",
        type=channels,
        metavar="LIST",
        help="e.g. 0-15,40; default: the first 16",
    )
    maps = command("cam", cam, "class activation maps (Grad-CAM)", sized, on_region)
    maps.add_argument("--images", type=Path, nargs="+", required=True, metavar="IMAGE|FOLDER")
    maps.add_argument("--class", dest="class_name", required=True, metavar="CLASS")
    maps.add_argument("--layer", help="default: the last before the class scores")
    field = command(
        "receptive-field", receptive_field, "which pixels move a unit of a layer", sized
    )
    field.add_argument("--layer", required=True)
    return parser.parse_args()


if __name__ == "__main__":
    command_line.run(main)
