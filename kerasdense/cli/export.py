"""Exports a fitted model for serving.

    kerasdense export --run runs/camvid --output saved_models/camvid
    kerasdense export --run runs/camvid --output saved_models/camvid_onnx --format onnx

Writes the next free version folder (saved_models/camvid/1, then /2, ...). Before it gets its
number, it is loaded, and its answer is compared with that of the Keras model on a picture; what
differs far more than rounding explains is removed again, and the exit status is 2. kerasdense
check-export compares more. saved_models/README.md describes what is written, and which runtime
takes which model.
"""

import dataclasses
from pathlib import Path

from kerasdense.cli.arguments import XLA, add_run, positive, size

FORMATS = ("saved_model", "onnx", "openvino", "litert")
FEW = 10  # pictures that int8 is fitted to, which are too few
PRECISIONS = ("float32", "float16", "bfloat16", "int8")


def add_arguments(parser):
    add_run(parser)
    parser.add_argument("--output", type=Path, required=True, help="e.g. saved_models/NAME")
    parser.add_argument("--format", choices=FORMATS, default="saved_model", help="of the file")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="of the network: float16 pays on GPUs, and elsewhere makes the file smaller; bfloat16 "
        "pays on processors with AMX or AVX512-BF16, int8 on those with AVX512-VNNI",
    )
    parser.add_argument(
        "--xla",
        choices=XLA,
        default="off",
        help="whether XLA compiles the network of a saved_model, for each shape of its input anew; "
        "auto: where that is measured to be faster here, of a fixed --batch-size and --size",
    )
    parser.add_argument(
        "--calibration",
        metavar="DATASET|FOLDER",
        help="of int8: pictures like those that the export is for, a folder of them or the "
        "training split of a dataset (default: of the run's own)",
    )
    parser.add_argument(
        "--source", help="the folder of that dataset (default: that of the run's own)"
    )
    parser.add_argument(
        "--prepared-dir", help="where the prepared form of it is kept (default: as of the run)"
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
    from kerasdense.export.artefact import check_form, export
    from kerasdense.export.predictor import read_facts
    from kerasdense.export.signatures import Form
    from kerasdense.training import run_folder

    model, facts = run_folder.load_run(arguments.run)
    task = tasks.of_run(facts)
    picture = load_picture(arguments.image) if arguments.image else None
    origin = arguments.image or "a random picture"
    form = Form(arguments.format, arguments.precision, arguments.batch_size, arguments.size)
    check_form(form, task)
    _check_flags(arguments)
    if _uses_xla(arguments.xla, model, task, form):
        form = dataclasses.replace(form, xla=True)
    figures = {}

    def check(predictor):
        figures.update(parity.check(predictor, model, task, picture))

    summary = run_folder.summary(arguments.run)
    fitted_to = None
    if form.precision == "int8":
        fitted_to = calibration(arguments, facts, task, model, form)
        if picture is None:  # a random one has other ranges
            picture, origin = fitted_to.batches[0][0], "the first of these pictures"
    version = export(model, task, arguments.output, form, summary, check, fitted_to)
    if figures:
        print(f"Compared with the Keras model in float32 on {origin}:")
    for name, value in figures.items():
        print(f"  {value:<10.3g} {task.figures[name].meaning}")
    size_on_disk = sum(file.stat().st_size for file in version.rglob("*") if file.is_file())
    print(f"Wrote {version}, {size_on_disk / 2**20:.1f} MiB")
    _describe(read_facts(version))
    return 0


def _check_flags(arguments):
    """Raises ValueError for flags of int8 that would do nothing."""
    given = {
        "--calibration": arguments.calibration,
        "--source": arguments.source,
        "--prepared-dir": arguments.prepared_dir,
    }
    asked = arguments.calibration
    for flag, value in given.items():
        if value and arguments.precision != "int8":
            raise ValueError(
                f"{flag} is for --precision int8, received {arguments.precision}, which needs none."
            )
        if value and flag != "--calibration" and asked and Path(asked).exists():
            raise ValueError(
                f"{flag} is for the dataset that int8 is fitted to, but --calibration {asked} is a "
                f"folder. Leave one out."
            )


def calibration(arguments, facts, task, model, form):
    """What int8 is fitted to, a `Calibration`, as the flags ask for; it is told.

    `facts`: of the run, as `run_folder.read_run` gives them.
    """
    from kerasdense.export.calibration import of_dataset, of_folder
    from kerasdense.training import run_folder

    asked = arguments.calibration
    if asked and Path(asked).exists():
        found, origin = of_folder(asked, task, model, form), asked
    else:
        if not asked and not facts["dataset"].get("name"):
            raise ValueError(
                "int8 is fitted to pictures, and the run was fitted on no dataset of ours. Give a "
                "dataset or a folder of pictures by --calibration."
            )
        try:
            builder, name = run_folder.load_dataset(
                facts, asked, arguments.source, arguments.prepared_dir
            )
        except ValueError as error:
            if not asked:
                raise
            raise ValueError(
                f"--calibration {asked} is no folder; as a dataset: {error}"
            ) from error
        own = name == facts["dataset"]["name"]
        split = run_folder.training_split(facts) if own else "train"
        found, origin = of_dataset(builder, split, task, model, form), f"{name}, split {split}"
    count = len(found.batches)
    print(f"int8 is fitted to {count} picture{'s' * (count > 1)} of {origin}", flush=True)
    if count < FEW:
        print("note: its ranges are those of so few; some dozens, as varied as yours, fit better")
    return found


def _uses_xla(asked, model, task, form):
    """Whether "auto", "on" or "off" means XLA for an export."""
    if asked != "auto":
        return asked == "on"
    if form.format != "saved_model":
        print(f"XLA off: it compiles saved_model alone, not {form.format}")
        return False
    is_fixed = form.batch_size and (form.size or task.image_size_of(model))
    if not is_fixed:
        print("XLA off: it compiles each shape of the input anew; fix them by --batch-size, --size")
        return False
    from kerasdense.benchmarks.xla import is_faster

    return is_faster(model, task, form)


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
