"""How an artefact is written in each format: a new format is one entry of FORMATS."""

import dataclasses
import importlib.util
import os
import tempfile
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from kerasdense.export.predictor import FILES

OPSET = 18  # of ONNX, the highest that tf2onnx writes
ONNX_MEMORY = 200  # bytes that tf2onnx takes for each weight, of whatever precision: measured


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of artefacts.

    Attributes:
        write: `(served, functions, directory, precision)`; `served` is a `signatures.serve`,
            `functions` {name: its tf.ConcreteFunction}; the directory is to be made.
        packages: that the conversion imports, installed by the extra of the format's name.
        portable: whether `serving_default` alone is written, of operations that converters know.
        converts_precision: whether the writer shortens the weights itself, and the artefact
            computes as its device can.
    """

    write: Callable
    packages: tuple = ()
    portable: bool = True
    converts_precision: bool = False


class ConversionError(ValueError):
    """A converter failed on a model."""


def require(format):
    """Raises ImportError where a package that `format` needs is not installed."""
    for package in FORMATS[format].packages:
        if importlib.util.find_spec(package) is None:
            raise ImportError(
                f"This export needs the package {package}, which is not installed. Install it by "
                f"pip install 'kerasdense[{format}]'."
            )


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
    _pad_in_numbers(proto.graph)
    _scale_up_to_whole_sizes(proto.graph)
    directory.mkdir()
    onnx.save(proto, directory / FILES["onnx"])


def _pad_in_numbers(graph):
    """Writes the padding of dilated convolutions as numbers, in place.

    Where sizes are free, tf2onnx writes "as much as keeps the size", which ONNX Runtime refuses
    beside a dilation. With a stride of 1, which Keras demands of them, it is the same for each
    size. The layers cannot pad so: on CPUs TensorFlow has no gradient of it.
    """
    import onnx

    for node in graph.node:
        options = {each.name: each for each in node.attribute}
        value = {name: onnx.helper.get_attribute_value(each) for name, each in options.items()}
        dilations = value.get("dilations", [1])
        if node.op_type != "Conv" or value.get("auto_pad") != b"SAME_UPPER" or max(dilations) == 1:
            continue
        total = [rate * (side - 1) for rate, side in zip(dilations, value["kernel_shape"])]
        pads = [each // 2 for each in total] + [each - each // 2 for each in total]
        node.attribute.remove(options["auto_pad"])
        node.attribute.append(onnx.helper.make_attribute("pads", pads))


def _scale_up_to_whole_sizes(graph):
    """Lets fixed sizes be resized to what they should be, in place.

    Where all sizes are fixed, tf2onnx tells a Resize the factors and not the sizes: float32, of
    which runtimes round the product down. 22 times 45/22 are 44 so; by the next larger float 45.
    """
    from onnx import numpy_helper

    resizes = (node for node in graph.node if node.op_type == "Resize")
    factors = {node.input[2] for node in resizes if node.input[2:] and _is_linear(node)}
    for constant in graph.initializer:
        if constant.name in factors:
            values = numpy_helper.to_array(constant)
            grown = np.nextafter(values, np.float32(np.inf))
            grown = np.where(values == np.rint(values), values, grown)  # these are exact
            constant.CopyFrom(numpy_helper.from_array(grown.astype(values.dtype), constant.name))


def _is_linear(node):
    return any(each.name == "mode" and each.s == b"linear" for each in node.attribute)


def _write_openvino(served, functions, directory, precision):
    import openvino

    with tempfile.TemporaryDirectory() as saved_model:
        tf.saved_model.save(served, saved_model, signatures=functions)
        converted = openvino.convert_model(saved_model)
        openvino.save_model(
            converted, directory / FILES["openvino"], compress_to_fp16=precision == "float16"
        )


def _write_litert(served, functions, directory, precision):
    converter = tf.lite.TFLiteConverter.from_concrete_functions(list(functions.values()), served)
    if precision == "float16":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    converted = converter.convert()
    directory.mkdir()
    (directory / FILES["litert"]).write_bytes(converted)


def _check_memory(needed):
    """Raises ValueError, instead of being killed, if this machine has less than `needed` bytes."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise ValueError(
            f"The conversion of this model takes about {needed / 2**30:.0f} GiB of memory, this "
            f"machine has {memory / 2**30:.0f}. Choose another format, or a larger machine."
        )


FORMATS = {
    "saved_model": Format(_write_saved_model, portable=False),
    "onnx": Format(_write_onnx, ("onnx", "tf2onnx")),
    "openvino": Format(_write_openvino, ("openvino",), converts_precision=True),
    "litert": Format(_write_litert, converts_precision=True),  # TensorFlow has the converter
}
