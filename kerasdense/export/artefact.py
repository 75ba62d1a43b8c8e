"""From a Keras model to an artefact for production: SavedModel, ONNX, OpenVINO or LiteRT.

An artefact is a version folder, in the layout of TensorFlow Serving: NAME/1, NAME/2, ...
"""

import dataclasses
import errno
import functools
import importlib.util
import json
import os
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kerasdense import __version__
from kerasdense.export import formats, parity
from kerasdense.export.predictor import FACTS, FORMAT_VERSION, Predictor
from kerasdense.export.signatures import Form, serve, smallest_side
from kerasdense.export.warmup import REQUESTS, write_warmup_requests
from kerasdense.tasks.base import reason

UNFINISHED = ".unfinished_"  # beginning of the name of a folder that is no version, or not yet
WARMUP_SIZE = (320, 320)  # of warm-up requests where any size is served


def export(model, task, directory, form=Form(), run=None, check=None, calibration=None):
    """Write `model` as an artefact into the next free version folder DIRECTORY/1, /2, ...

    It is written aside, loaded, compared with the model, and only then renamed: a server never
    meets what is not complete, or not the model. What fails is removed.

    Args:
        model: a keras.Model of the package.
        task: `tasks.base.Task`, with the names and colors of the model's classes.
        directory: the folder of the versions.
        form: `signatures.Form`. A SavedModel has all signatures of the task, the other formats
            `serving_default` alone. In float16 SavedModel and ONNX compute in it; OpenVINO and
            LiteRT keep the weights in it and compute as their device can. In bfloat16 SavedModel
            and OpenVINO compute, in int8 all but SavedModel.
        run: JSON-like facts about the training, kept in the artefact's model.json.
        check: a function of the Predictor of what was written, which raises ValueError if it is
            not to be published. By default it is `parity.check` on a random picture, in int8 on the
            first of the calibration. Where the format's runtime is not installed nothing is
            checked, and a line says so.
        calibration: `calibration.Calibration`, the pictures that int8 is fitted to.

    Returns the version folder, a Path.

    Raises: ValueError if names, colors and logits do not match, the form is impossible, DIRECTORY
    is an artefact itself, what was written cannot be loaded or fails its check, or (a
    `formats.ConversionError`) the conversion fails; ImportError if the format's packages are
    missing; OSError if it cannot be written.
    """
    directory = Path(directory)
    check_form(form, task)
    if form.precision == "int8" and calibration is None:
        raise ValueError(
            "An export in int8 is fitted to pictures, received none. Give some that are like those "
            "it is for (--calibration)."
        )
    task.check_model(model)
    if (directory / "assets").exists():
        raise ValueError(
            f"{directory} is an exported model itself. Give the folder above it: every export "
            f"makes a new numbered folder there."
        )
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"{directory} is a file: expected a folder, or a name for a new one.")
    format = formats.FORMATS[form.format]
    computing = form.precision if form.precision in format.rebuilt_in else "float32"
    batch_size = form.batch_size if format.keeps_batch else None
    rebuilt = dataclasses.replace(form, precision=computing, batch_size=batch_size)
    served = serve(model, task, rebuilt, format.portable)
    names = served.names[:1] if format.portable else served.names
    functions = {name: getattr(served, name).get_concrete_function() for name in names}
    facts = {
        "format_version": FORMAT_VERSION,
        "format": form.format,
        "task": task.name,
        "name": model.name,
        "precision": form.precision,
        "xla": form.xla,
        "class_names": task.class_names,
        "palette": np.asarray(task.palette).tolist(),
        "input": _input_contract(form, task, model),
        "signatures": {name: _specification(functions[name], form) for name in names},
        "postprocessing": task.postprocessing(),
        "run": run,
        "versions": {
            "kerasdense": __version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
        },
    }
    directory.mkdir(parents=True, exist_ok=True)
    # Beside the versions, so that the rename stays on one disk; servers skip this name.
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=directory) as aside:
        finished = Path(aside) / "model"
        try:
            format.write(served, functions, finished, form.precision, calibration)
        except tf.errors.OpError as error:  # what TensorFlow makes of a full disk
            raise OSError(f"Cannot write the export into {directory}: {reason(error)}") from error
        except (ValueError, OSError):
            raise
        except Exception as error:  # each converter has its own
            raise formats.ConversionError(
                f"Nothing was exported into {directory}: the conversion to {form.format} in "
                f"{form.precision} fails ({type(error).__name__}): {reason(error)}. Choose another "
                f"format."
            ) from error
        path = finished / FACTS
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(facts, indent=1) + "\n")
        for name, array in task.assets(model).items():
            np.save(path.with_name(f"{name}.npy"), array)
        if not format.portable:
            _write_warmup(finished, directory.name, names, form)
        # A random picture has other ranges than those that int8 is fitted to.
        picture = calibration.batches[0][0] if form.precision == "int8" else None
        check = check or functools.partial(parity.check, model=model, task=task, picture=picture)
        _check_written(finished, directory, form, check)
        return _publish(finished, directory)


def _check_written(finished, directory, form, check):
    """Raises ValueError if what was written cannot be loaded, or fails its check."""
    try:
        check(Predictor(finished))
    except ImportError as error:
        print(f"Not compared with the Keras model: {error}")
    except ValueError as error:
        text = str(error).replace(f"{finished}{os.sep}", "")
        raise ValueError(
            f"Nothing was exported into {directory}: the {form.format} in {form.precision} was "
            f"written, and removed. {text}"
        ) from error


def _publish(finished, directory):
    """Renames the finished folder to the next version, whoever else exports there: its Path."""
    while True:
        version = directory / str(1 + max(_versions(directory), default=0))
        try:
            os.rename(finished, version)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            continue  # another export took this number a moment ago
        return version


def _write_warmup(directory, model_name, names, form):
    """A request for each signature, which TensorFlow Serving runs before it takes others."""
    if importlib.util.find_spec("tensorflow_serving") is None:
        print(
            "No warm-up requests are written, so a server's first answers will be slow: they need "
            "pip install 'kerasdense[serving]'."
        )
        return
    images = np.zeros((form.batch_size or 1, *(form.size or WARMUP_SIZE), 3), np.uint8)
    files = np.array([tf.io.encode_jpeg(image).numpy() for image in images], object)
    inputs = {name: {"images": images} for name in names} | {"encoded": {"image_bytes": files}}
    write_warmup_requests(directory / REQUESTS, inputs, model_name)


def _input_contract(form, task, model):
    height, width = form.size or (None, None)
    warped = task.image_size_of(model)
    return {
        "dtype": "uint8",
        "layout": "BHWC",
        "color": "RGB",
        "batch_size": form.batch_size,
        "height": height,
        "width": width,
        "image_size": warped and list(warped),
        "minimum_side": smallest_side(task),
        "padded_side": task.minimum_side if task.pads_images else 1,
        "maximum_pixels": task.maximum_pixels,
    }


def _specification(function, form):
    """Inputs and outputs of a ConcreteFunction: name to dtype and shape, None where free.

    All begin with B, which `form` may fix also where the file leaves it free.
    """

    def described(specs):
        return {
            name: {"dtype": spec.dtype.name, "shape": [form.batch_size, *spec.shape.as_list()[1:]]}
            for name, spec in specs.items()
        }

    inputs = {spec.name: spec for spec in function.structured_input_signature[0]}
    return {"inputs": described(inputs), "outputs": described(function.structured_outputs)}


def _versions(directory):
    return [int(path.name) for path in directory.iterdir() if path.name.isdecimal()]


def check_form(form, task):
    """Raises ValueError for a `Form` that there is none of, ImportError for missing packages."""
    if form.format not in formats.FORMATS:
        raise ValueError(
            f"format: expected one of {tuple(formats.FORMATS)}, received {form.format!r}."
        )
    refused = formats.FORMATS[form.format].refused
    if form.precision in refused:
        known = formats.FORMATS.items()
        taking = [name for name, each in known if form.precision not in each.refused]
        raise ValueError(
            f"There is no {form.format} in {form.precision}: {refused[form.precision]}. Choose "
            f"another precision, or one of the formats {', '.join(taking)}."
        )
    fixed = formats.FORMATS[form.format].fixed
    if form.precision in fixed and not (form.batch_size and form.size):
        raise ValueError(
            f"{form.format} in {form.precision} needs a fixed batch size and size (--batch-size, "
            f"--size): {fixed[form.precision]}."
        )
    if form.size is not None and min(form.size) < smallest_side(task):
        raise ValueError(
            f"size: expected a height and a width of at least {smallest_side(task)}, received "
            f"{form.size}."
        )
    formats.require(form)
