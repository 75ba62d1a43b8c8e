"""Our networks as users run them: exported, and computed by the runtime of the format.

Importing this file imports no TensorFlow: a process that opens an export may do without it.
`python -m kerasdense.benchmarks.runtimes` is a process that writes one.
B batch, A anchors, C classes.
"""

import dataclasses
import importlib
import json
import subprocess
import sys
import tempfile

from kerasdense.benchmarks.memory import ResidentMemory
from kerasdense.benchmarks.workloads import (
    Workload,
    background_offset,
    model_and_facts,
    random_images,
)
from kerasdense.export.predictor import RUNTIMES, Predictor

ROWS = {  # what is measured beside each other: `runtime` and `xla` of a `Workload`
    "SavedModel": ("saved_model", False),
    "SavedModel, XLA": ("saved_model", True),
    "OpenVINO": ("openvino", False),
    "ONNX": ("onnx", False),
}


def can_export(workload):
    """Whether exports are what users run here: TensorFlow makes them, and there is no GPU."""
    if workload.backend != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")


def exported(workload):
    """A workload in all of ROWS that there are: {name: Workload}, and why others are not.

    The reasons are a list of str: a format that has no such precision, or is not installed.
    """
    from kerasdense.export import formats

    rows, left_out = {}, []
    for name, (format, xla) in ROWS.items():
        row = dataclasses.replace(workload, runtime=format, xla=xla)
        try:
            if refused := formats.FORMATS[format].refused.get(row.computed_in):
                raise ValueError(refused)
            formats.require(_form(row, row.size))
            importlib.import_module(RUNTIMES[format][0])
        except (ValueError, ImportError) as error:
            left_out.append(f"{name} in {row.computed_in} is left out: {error}")
        else:
            rows[name] = row
    return rows, left_out


def build(workload):
    """As `workloads.build`, of an export of our model, called with images as NumPy has them."""
    importlib.import_module(RUNTIMES[workload.runtime][0])  # before memory counts
    with tempfile.TemporaryDirectory() as directory:
        version, facts = _written(workload, directory)
        memory = ResidentMemory()
        predictor = Predictor(version)
    images = random_images(workload, facts["size"])

    def run(steps):
        for _ in range(steps):
            predictor.predict(images)

    return run, facts | {"device": "CPU"}, memory


def _written(workload, directory):
    """`write` in a process of its own: no other memory and no threads lie beside the runtime."""
    done = subprocess.run(
        [sys.executable, "-m", "kerasdense.benchmarks.runtimes", directory],
        input=json.dumps(dataclasses.asdict(workload)),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ValueError(f"its export ended with status {done.returncode}: {last}")
    version, facts = json.loads(done.stdout.splitlines()[-1])
    return version, facts


def write(workload, directory):
    """Exports a workload's model at its batch size and size: (version folder, facts).

    The export answers logits; to "detect", boxes.
    """
    from kerasdense import tasks
    from kerasdense.export.artefact import export

    model, facts = model_and_facts(workload)
    task = tasks.of_model(model)
    if workload.work == "detect":
        _find_some(model, task, random_images(workload, facts["size"]))
    else:
        task = _raw(task)
    form = _form(workload, facts["size"])
    # Not compared with the model: tests of exports do that, and here it takes time.
    version = export(model, task, directory, form, check=lambda predictor: None)
    return version, facts


def _form(workload, size):
    from kerasdense.export.signatures import Form

    return Form(
        workload.runtime, workload.computed_in, workload.batch_size, tuple(size), workload.xla
    )


def _raw(task):
    """The task, whose exports answer what the network gives and nothing else."""

    class Raw(type(task)):
        def signatures(self, network, intake, portable):
            signatures = super().signatures(network, intake, portable)
            return {"serving_default": signatures["raw"]}

    return Raw(task.class_names, task.palette)


def _find_some(model, task, images):
    """Lets a detector with random weights find as much as a fitted one, in place."""
    import numpy as np

    classes = task.count_classes(model) + 1
    logits = np.asarray(model(images[:1], training=False))[0, :, :classes]  # [A, C + 1]
    offset = background_offset(logits)
    for name in task.class_heads(model):
        bias = model.get_layer(name).bias
        values = np.array(bias).reshape(-1, classes)  # of the anchors of a cell
        values[:, 0] += offset
        bias.assign(values.ravel())


def main():
    """Writes the `Workload` that it reads into the folder it is called with; prints JSON."""
    workload = Workload.read(sys.stdin.readline())
    version, facts = write(workload, sys.argv[1])
    print(json.dumps([str(version), facts]))


if __name__ == "__main__":
    main()
