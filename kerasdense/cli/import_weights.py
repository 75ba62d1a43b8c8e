"""Turns the weights of torchvision's ssd300_vgg16 into a run folder of ours.

    kerasdense import ssd300_vgg16_coco.pth runs/coco
    kerasdense predict --run runs/coco photo.jpg --output predictions

FILE.pth holds a state dict, or a training checkpoint with one under "model". Needs PyTorch, but
not torchvision. The class names are torchvision's for its 90 COCO ids (of which some are unused),
else class_1, class_2, ..., unless --classes names them. The model computes what torchvision's
does, given pixels of 300x300; the training defaults of torchvision are taken for granted: its
anchors, and its mean color.
"""

import shlex
from pathlib import Path


def add_arguments(parser):
    parser.add_argument("file", type=Path, metavar="FILE.pth", help="the state dict")
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="the run folder to write")
    parser.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help="names, one a line, without the background (default: see above)",
    )


def run(arguments):
    file, output = arguments.file, arguments.output
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {file}.")
    if output.exists() and any(output.iterdir()):
        raise ValueError(f"{output} is not empty. Expected an empty or new folder.")

    from kerasdense import tasks
    from kerasdense.data import classes
    from kerasdense.models import ssd300, torchvision
    from kerasdense.training import run_folder

    state = torchvision.read_state_dict(file)
    num_classes = torchvision.count_classes(state, file)
    class_names = torchvision.class_names(num_classes)
    if arguments.classes:
        class_names = classes.read_classes(arguments.classes)
    if len(class_names) != num_classes:
        raise ValueError(
            f"{arguments.classes} names {len(class_names)} classes, {file} has {num_classes} "
            "(the background not counted). Expected one name a line for each of them."
        )
    model = ssd300(num_classes, weights=None, **torchvision.SSD300_ARGUMENTS)
    torchvision.set_weights(model, state, file)

    facts = {
        "task": tasks.of_model(model).name,
        "model": {"name": "ssd300", "arguments": torchvision.SSD300_ARGUMENTS},
        "arguments": {},
        "command": shlex.join(["kerasdense", *arguments.command_line]),
        "dataset": {
            "name": None,  # evaluate is told one by --dataset
            "source": None,
            "prepared_dir": None,
            "class_names": class_names,
            "palette": classes.box_palette(num_classes),
            "splits": {},
        },
        "weights": {"source": str(file.resolve()), "loaded": len(state), "skipped": 0},
    }
    output.mkdir(parents=True, exist_ok=True)
    model.save(output / run_folder.BEST)
    run_folder.write_run(output, facts)
    print(f"{output}: ssd300 of {num_classes} classes, {len(state)} tensors imported")
