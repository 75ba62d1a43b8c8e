"""Exports a fitted model for serving.

    kerasdense export --run runs/camvid --output saved_models/camvid
    kerasdense export --run runs/camvid --output saved_models/camvid_onnx --format onnx

Writes the next free version folder (saved_models/camvid/1, then /2, ...), loads it again and
compares its answer with that of the Keras model on a picture; kerasdense check-export compares
more. saved_models/README.md describes what is written, and which runtime takes which model.
"""

import sys
from pathlib import Path

from kerasdense.cli.arguments import add_run, positive, size

FORMATS = ("saved_model", "onnx", "openvino", "litert")


def add_arguments(parser):
    add_run(parser)
    parser.add_argument("--output", type=Path, required=True, help="e.g. saved_models/NAME")
    parser.add_argument("--format", choices=FORMATS, default="saved_model", help="of the file")
    parser.add_argument(
        "--precision", choices=("float32", "float16"), default="float32", help="of the network"
    )
    parser.add_argument(
        "--batch-size", type=positive(int), metavar="B", help="pictures of a call (default: any)"
    )
    parser.add_argument(
        "--size", type=size, metavar="HxW", help="of the pictures, in pixels (default: any)"
    )
    parser.add_argument(
        "--image", type=Path, metavar="FILE", help="for the comparison (default: a random one)"
    )


def run(arguments):
    from kerasdense import tasks
    from kerasdense.export.artefact import export
    from kerasdense.export.predictor import Predictor
    from kerasdense.export.signatures import Form
    from kerasdense.training import run_folder

    model, facts = run_folder.load_run(arguments.run)
    task = tasks.of_run(facts)
    picture, origin = _picture(arguments)
    form = Form(arguments.format, arguments.precision, arguments.batch_size, arguments.size)
    summary = run_folder.summary(arguments.run)
    version = export(model, task, arguments.output, form, summary)
    size_on_disk = sum(file.stat().st_size for file in version.rglob("*") if file.is_file())
    print(f"Wrote {version}, {size_on_disk / 2**20:.1f} MiB")
    try:
        served = Predictor(version)
    except ImportError as error:
        print(f"Not compared with the Keras model: {error}")
        return 0
    _describe(served.facts)
    return _compare(served, model, task, picture, origin)


def _picture(arguments):
    """What is compared, uint8 [H, W, 3], and where it is from."""
    import numpy as np

    from kerasdense.drawing import pictures

    if not arguments.image:
        noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
        return pictures.resized(noise, arguments.size or (192, 256)), "a random picture"
    picture = pictures.load_picture(arguments.image)
    if arguments.size and picture.shape[:2] != arguments.size:
        picture = pictures.resized(picture, arguments.size)
    return picture, str(arguments.image)


def _compare(served, model, task, picture, origin):
    """Prints how far the export is from its model on the picture; the exit status."""
    import numpy as np

    from kerasdense.export import parity

    images = np.repeat(picture[None], served.facts["input"]["batch_size"] or 1, axis=0)
    reference = parity.Reference(model, task)
    figures = parity.compare(served.predict, reference, task, [images])
    height, width = picture.shape[:2]
    print(f"Compared with the Keras model in float32 on {origin}, {width}x{height}:")
    for name, figure in task.figures.items():
        print(f"  {figures[name]:<10.3g} {figure.meaning}")
    exceeded = parity.exceeded(task, figures, served.facts["precision"])
    if exceeded:
        differences = "; ".join(exceeded)
        print(f"error: {served.directory} differs from its model: {differences}", file=sys.stderr)
    return 1 if exceeded else 0


def _describe(facts):
    """Prints the signatures of an exported model."""
    for name, signature in facts["signatures"].items():
        inputs, outputs = (
            ", ".join(
                f"{key} {value['dtype']} {value['shape']}".replace("None", "?")
                for key, value in signature[kind].items()
            )
            for kind in ("inputs", "outputs")
        )
        print(f"  {name}: {inputs} -> {outputs}")
