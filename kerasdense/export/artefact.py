"""From a Keras model to an artefact for production: SavedModel, ONNX, OpenVINO or LiteRT.

An artefact is a version folder, in the layout of TensorFlow Serving: NAME/1, NAME/2, ...
"""

import importlib.util
import json
import os
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kerasdense import __version__
from kerasdense.boxes import suppression
from kerasdense.models.ssd import anchors_of
from kerasdense.boxes.geometry import VARIANCES
from kerasdense.metrics.labels import IGNORE
from kerasdense.export.predictor import FACTS, FILES, FORMAT_VERSION
from kerasdense.export.signatures import (
    MAXIMUM_PIXELS,
    MINIMUM_SIDE,
    SIGNATURES,
    serve,
    served_task,
)
from kerasdense.export.warmup import REQUESTS, write_warmup_requests

FORMATS = tuple(FILES)
OPSET = 18  # of ONNX, the highest that tf2onnx writes
ONNX_MEMORY = 200  # bytes that tf2onnx takes for each weight, of whatever precision: measured
WARMUP_SIZE = (320, 320)  # of warm-up requests where any size is served


def export(
    model,
    directory,
    class_names,
    palette,
    format="saved_model",
    precision="float32",
    batch_size=None,
    size=None,
    run=None,
):
    """Write `model` as an artefact into the next free version folder DIRECTORY/1, /2, ...

    It is written aside and renamed when complete.

    Args:
        model: a keras.Model of the package.
        directory: the folder of the versions.
        class_names, palette: of the model's classes: strings, and [r, g, b].
        format: one of FORMATS. A SavedModel has all signatures of `signatures.serve`, the others
            `serving_default` alone.
        precision: "float32" or "float16". SavedModel and ONNX then compute in float16; OpenVINO and
            LiteRT keep the weights in it and compute as their device can.
        batch_size, size: of the input, B and (H, W), if they are to be fixed.
        run: JSON-like facts about the training, kept in the artefact's model.json.

    Returns the version folder, a Path.

    Raises: ValueError if names, colors and logits do not match, an argument is impossible, or
    DIRECTORY is an artefact itself; ImportError if the format's packages are missing; OSError if
    it cannot be written.
    """
    directory, task = Path(directory), served_task(model)
    _check_arguments(format, batch_size, size, MINIMUM_SIDE[task])
    _check_classes(model, task, class_names, palette)
    if (directory / "assets").exists():
        raise ValueError(
            f"{directory} is an exported model itself. Give the folder above it: every export "
            f"makes a new numbered folder there."
        )
    for package in _PACKAGES[format]:
        _require(package, format)
    portable = format != "saved_model"
    # OpenVINO's and LiteRT's converters shorten the weights themselves.
    computing = precision if format in ("saved_model", "onnx") else "float32"
    served = serve(model, computing, batch_size, size, portable)
    names = ("serving_default",) if portable else SIGNATURES[task]
    functions = {name: getattr(served, name).get_concrete_function() for name in names}
    facts = {
        "format_version": FORMAT_VERSION,
        "format": format,
        "task": task,
        "name": model.name,
        "precision": precision,
        "class_names": list(class_names),
        "palette": np.asarray(palette).tolist(),
        "input": _input_contract(task, batch_size, size),
        "signatures": {name: _specification(functions[name]) for name in names},
        "postprocessing": _postprocessing() if task == "detection" else None,
        "run": run,
        "versions": {
            "kerasdense": __version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
        },
    }
    directory.mkdir(parents=True, exist_ok=True)
    # Beside the versions, so that the rename stays on one disk; servers skip this name.
    with tempfile.TemporaryDirectory(prefix=".unfinished_", dir=directory) as aside:
        finished = Path(aside) / "model"
        try:
            _WRITERS[format](served, functions, finished, precision)
        except tf.errors.OpError as error:  # what TensorFlow makes of a full disk
            reason = str(error).strip().splitlines()[0][:200]
            raise OSError(f"Cannot write the export into {directory}: {reason}") from error
        path = finished / FACTS
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(facts, indent=1) + "\n")
        if task == "detection":
            np.save(path.with_name("anchors.npy"), anchors_of(model))
        if format == "saved_model":
            _write_warmup(finished, directory.name, names, facts["input"])
        version = directory / str(1 + max(_versions(directory), default=0))
        os.rename(finished, version)
    return version


def _write_saved_model(served, functions, directory, precision):
    tf.saved_model.save(served, str(directory), signatures=functions)


def _write_onnx(served, functions, directory, precision):
    import onnx
    import tf2onnx

    _check_memory(ONNX_MEMORY * sum(int(np.prod(value.shape)) for value in served.parameters))
    function = functions["serving_default"]
    proto, _ = tf2onnx.convert.from_function(
        served.serving_default, function.structured_input_signature[1].values(), opset=OPSET
    )
    directory.mkdir()
    onnx.save(proto, directory / "model.onnx")


def _write_openvino(served, functions, directory, precision):
    import openvino

    with tempfile.TemporaryDirectory() as saved_model:
        tf.saved_model.save(served, saved_model, signatures=functions)
        converted = openvino.convert_model(saved_model)
        openvino.save_model(
            converted, directory / "model.xml", compress_to_fp16=precision == "float16"
        )


def _write_litert(served, functions, directory, precision):
    converter = tf.lite.TFLiteConverter.from_concrete_functions(list(functions.values()), served)
    if precision == "float16":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    converted = converter.convert()
    directory.mkdir()
    (directory / "model.tflite").write_bytes(converted)


_WRITERS = {
    "saved_model": _write_saved_model,
    "onnx": _write_onnx,
    "openvino": _write_openvino,
    "litert": _write_litert,
}
# What a conversion imports; TensorFlow has LiteRT's converter itself.
_PACKAGES = {
    "saved_model": (),
    "onnx": ("onnx", "tf2onnx"),
    "openvino": ("openvino",),
    "litert": (),
}


def _check_memory(needed):
    """Raises ValueError, instead of being killed, if this machine has less than `needed` bytes."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise ValueError(
            f"The conversion of this model takes about {needed / 2**30:.0f} GiB of memory, this "
            f"machine has {memory / 2**30:.0f}. Choose another format, or a larger machine."
        )


def _require(package, extra):
    if importlib.util.find_spec(package) is None:
        raise ImportError(
            f"This export needs the package {package}, which is not installed. Install it by "
            f"pip install 'kerasdense[{extra}]'."
        )


def _write_warmup(directory, model_name, names, contract):
    """A request for each signature, which TensorFlow Serving runs before it takes others."""
    if importlib.util.find_spec("tensorflow_serving") is None:
        print(
            "No warm-up requests are written, so a server's first answers will be slow: they need "
            "pip install 'kerasdense[serving]'."
        )
        return
    sides = (contract["height"] or WARMUP_SIZE[0], contract["width"] or WARMUP_SIZE[1])
    images = np.zeros((contract["batch_size"] or 1, *sides, 3), np.uint8)
    files = np.array([tf.io.encode_jpeg(image).numpy() for image in images], object)
    inputs = {name: {"images": images} for name in names} | {"encoded": {"image_bytes": files}}
    write_warmup_requests(directory / REQUESTS, inputs, model_name)


def _input_contract(task, batch_size, size):
    height, width = size or (None, None)
    return {
        "dtype": "uint8",
        "layout": "BHWC",
        "color": "RGB",
        "batch_size": batch_size,
        "height": height,
        "width": width,
        "minimum_side": MINIMUM_SIDE[task],
        "maximum_pixels": MAXIMUM_PIXELS[task],
    }


def _postprocessing():
    """What is done to the raw output of an SSD."""
    return {
        "least_score": suppression.LEAST_SCORE,
        "candidates": suppression.CANDIDATES,
        "overlap": suppression.OVERLAP,
        "detections": suppression.DETECTIONS,
        "variances": list(VARIANCES),
    }


def _specification(function):
    """Inputs and outputs of a ConcreteFunction: name to dtype and shape, None where free."""

    def described(specs):
        return {
            name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()}
            for name, spec in specs.items()
        }

    inputs = {spec.name: spec for spec in function.structured_input_signature[0]}
    return {"inputs": described(inputs), "outputs": described(function.structured_outputs)}


def _versions(directory):
    return [int(path.name) for path in directory.iterdir() if path.name.isdecimal()]


def _check_arguments(format, batch_size, size, minimum_side):
    if format not in FORMATS:
        raise ValueError(f"format: expected one of {FORMATS}, received {format!r}.")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, received {batch_size}.")
    if size is not None and min(size) < minimum_side:
        raise ValueError(
            f"size: expected a height and a width of at least {minimum_side}, received {size}."
        )


def _check_classes(model, task, class_names, palette):
    logits = model.output["logits"] if isinstance(model.output, dict) else model.output
    classes = logits.shape[-1]
    if task == "detection":
        classes -= 1 + 4  # the background, and the offsets
    if not len(class_names) == len(palette) == classes:
        raise ValueError(
            f"The model has {classes} classes, so as many names and colors are expected, "
            f"received {len(class_names)} names and {len(palette)} colors. Do they belong to "
            f"another dataset?"
        )
    if task == "segmentation" and classes > IGNORE:
        raise ValueError(
            f"Labels are exported as uint8 and {IGNORE} means ignore, so at most {IGNORE} "
            f"classes are possible, received {classes}."
        )
