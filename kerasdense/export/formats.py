"""How an artefact is written in each format: a new format is one entry of FORMATS."""

import dataclasses
import importlib.util
import os
import tempfile
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from kerasdense.export import quantization
from kerasdense.export.predictor import FILES

OPSET = 18  # of ONNX, the highest that tf2onnx writes
ONNX_MEMORY = 200  # bytes that tf2onnx takes for each weight, of whatever precision: measured


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of artefacts.

    Attributes:
        write: `(served, functions, directory, precision, calibration)`; `served` is a
            `signatures.serve`, `functions` {name: its tf.ConcreteFunction}; the directory is to be
            made; `calibration`: a `calibration.Calibration` for int8, else None.
        packages: that the conversion imports, installed by the extra of the format's name.
        portable: whether `serving_default` alone is written, of operations that converters know.
        rebuilt_in: the precisions that the network is rebuilt in before it is written; for the
            others the writer converts it.
        refused: why there is no export in some precisions, {precision: reason}.
        fixed: why batch size and size must be fixed in some precisions, {precision: reason}.
        keeps_batch: whether a fixed batch size stands in the file; else the Predictor alone knows.
        quantizers: that int8 needs beside `packages`, installed by the extra `int8`.
    """

    write: Callable
    packages: tuple = ()
    portable: bool = True
    rebuilt_in: tuple = ("float32",)
    refused: dict = dataclasses.field(default_factory=dict)
    fixed: dict = dataclasses.field(default_factory=dict)
    keeps_batch: bool = True
    quantizers: tuple = ()


class ConversionError(ValueError):
    """A converter failed on a model."""


def require(form):
    """Raises ImportError where a package that a `signatures.Form` needs is not installed."""
    format = FORMATS[form.format]
    needed = dict.fromkeys(format.packages, form.format)
    if form.precision == "int8":
        needed |= dict.fromkeys(format.quantizers, "int8")
    for package, extra in needed.items():
        if importlib.util.find_spec(package) is None:
            raise ImportError(
                f"This export needs the package {package}, which is not installed. Install it by "
                f"pip install 'kerasdense[{extra}]'."
            )


def _write_saved_model(served, functions, directory, precision, calibration):
    tf.saved_model.save(served, str(directory), signatures=functions)


def _write_onnx(served, functions, directory, precision, calibration):
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
    file = directory / FILES["onnx"]
    onnx.save(proto, file)
    if precision == "int8":
        quantization.onnx_in_int8(file, file, calibration)


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


def _write_openvino(served, functions, directory, precision, calibration):
    import openvino

    with tempfile.TemporaryDirectory() as saved_model:
        tf.saved_model.save(served, saved_model, signatures=functions)
        converted = openvino.convert_model(saved_model)
        _sort_fast(converted)
        if precision == "int8":
            converted = quantization.openvino_in_int8(converted, calibration)
        openvino.save_model(
            converted, directory / FILES["openvino"], compress_to_fp16=precision == "float16"
        )


def _sort_fast(model):
    """Lets each TopK of an OpenVINO model take any of equal values, in place.

    As TensorFlow has it, the first of them are taken: for that OpenVINO sorts on one core without
    vectors, which takes a hundred times as long.
    """
    for operator in model.get_ops():
        if operator.get_type_name() == "TopK":
            operator.set_attribute("stable", False)


def _write_litert(served, functions, directory, precision, calibration):
    converter = tf.lite.TFLiteConverter.from_concrete_functions(list(functions.values()), served)
    if precision == "float16":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        _check_loops(functions.values())
        converted = quantization.litert_in_int8(converter, calibration)
    else:
        converted = converter.convert()
    directory.mkdir()
    (directory / FILES["litert"]).write_bytes(converted)


def _check_loops(functions):
    """Raises ValueError, instead of being killed, for what TensorFlow's calibration cannot run."""
    for function in functions:
        graph = function.graph.as_graph_def()
        nested = [node for each in graph.library.function for node in each.node_def]
        if any(node.op in ("While", "StatelessWhile") for node in [*graph.node, *nested]):
            raise ValueError(
                "There is no litert in int8 of this model: TensorFlow's calibration ends the "
                "process at a loop, such as that over the classes of a detector. Choose onnx or "
                "openvino."
            )


def _check_memory(needed):
    """Raises ValueError, instead of being killed, if this machine has less than `needed` bytes."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise ValueError(
            f"The conversion of this model takes about {needed / 2**30:.0f} GiB of memory, this "
            f"machine has {memory / 2**30:.0f}. Choose another format, or a larger machine."
        )


FORMATS = {
    "saved_model": Format(
        _write_saved_model,
        portable=False,
        rebuilt_in=("float32", "float16", "bfloat16"),
        refused={"int8": "TensorFlow computes no convolution of a SavedModel in int8"},
    ),
    "onnx": Format(
        _write_onnx,
        ("onnx", "tf2onnx"),
        rebuilt_in=("float32", "float16"),
        refused={"bfloat16": "ONNX Runtime computes no convolution in bfloat16 on processors"},
        quantizers=("onnxruntime",),
    ),
    "openvino": Format(
        _write_openvino,
        ("openvino",),
        keeps_batch=False,  # OpenVINO 2026.4 ends the process at detectors of a fixed one
        quantizers=("nncf",),
    ),
    "litert": Format(  # TensorFlow has the converter
        _write_litert,
        refused={"bfloat16": "LiteRT computes no convolution in bfloat16"},
        # It then writes beyond its memory (TensorFlow 2.21), and the process ends.
        fixed={"int8": "TensorFlow's calibration of LiteRT files takes no free sizes"},
    ),
}
