"""Exports a fitted model for serving.

    kerasdense export --run runs/camvid --output saved_models/camvid
    kerasdense export --run runs/camvid --output saved_models/camvid_onnx --format onnx

Writes the next free version folder (saved_models/camvid/1, then /2, ...). Before it gets its
number, it is loaded, and its answer is compared with that of the Keras model on a picture; what
differs far more than rounding explains is removed again, and the exit status is 2. kerasdense
check-export compares more. saved_models/README.md describes what is written, and which runtime
takes which model.
"""

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
    from kerasdense.drawing.pictures import load_picture
    from kerasdense.export import parity
    from kerasdense.export.artefact import export
    from kerasdense.export.predictor import read_facts
    from kerasdense.export.signatures import Form
    from kerasdense.training import run_folder

    model, facts = run_folder.load_run(arguments.run)
    task = tasks.of_run(facts)
    picture = load_picture(arguments.image) if arguments.image else None
    form = Form(arguments.format, arguments.precision, arguments.batch_size, arguments.size)
    figures = {}

    def check(predictor):
        figures.update(parity.check(predictor, model, task, picture))

    summary = run_folder.summary(arguments.run)
    version = export(model, task, arguments.output, form, summary, check)
    if figures:
        origin = arguments.image or "a random picture"
        print(f"Compared with the Keras model in float32 on {origin}:")
    for name, value in figures.items():
        print(f"  {value:<10.3g} {task.figures[name].meaning}")
    size_on_disk = sum(file.stat().st_size for file in version.rglob("*") if file.is_file())
    print(f"Wrote {version}, {size_on_disk / 2**20:.1f} MiB")
    _describe(read_facts(version))
    return 0


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
