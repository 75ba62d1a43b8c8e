"""Exports in int8: which parts of a network, and what the converters are told.

A network is quantized from its first convolution on. What lies before (normalization), its last
convolutions, which give logits and offsets of boxes, and what follows (resizes, softmax, decoding,
suppression) stay in floating point: they take little time, and their rounding would be seen.
`calibration` is a `calibration.Calibration`.
"""

import logging
import warnings

import numpy as np

# What int8 may cost of the accuracy, before NNCF puts layers back into floating point.
LARGEST_DROP = 0.01
RANKED = 8  # pictures by which NNCF tells which layers cost most: each layer is tried on them
# Between convolutions, and no part of them: the squares and roots of SSD's normalization. Where a
# Transpose (of a resize) reads int8, OpenVINO 2026.4 computes something else: of LadderDenseNet, it
# gave other labels to half of the pixels.
OPENVINO_IN_FLOAT = (
    "Multiply",
    "Divide",
    "Subtract",
    "Power",
    "Sqrt",
    "ReduceSum",
    "Maximum",
    "Transpose",
)
ONNX_TYPES = ("Conv", "Add", "Relu", "MaxPool", "Concat")  # int8 between convolutions, too
CONVOLUTIONS = ("Convolution", "GroupConvolution", "Conv")  # of OpenVINO and of ONNX
# What LiteRT has at the end of networks, and in some between convolutions.
LITERT_ENDS = ("RESIZE_BILINEAR", "ARG_MAX", "SOFTMAX", "LOGISTIC", "REDUCE_MAX")


def openvino_in_int8(model, calibration):
    """An openvino.Model with its convolutions in int8, by NNCF's post-training quantization.

    Where `calibration` knows an accuracy, and it falls by more than LARGEST_DROP, NNCF puts the
    layers that cost most of it back into floating point, until it does not.
    """
    import nncf

    operations = [
        (
            each.get_friendly_name(),
            each.get_type_name(),
            [port.get_source_output().get_node().get_friendly_name() for port in each.inputs()],
        )
        for each in model.get_ordered_ops()
    ]
    ignored = nncf.IgnoredScope(
        names=_outside_of_convolutions(operations), types=OPENVINO_IN_FLOAT, validate=False
    )
    pictures = nncf.Dataset(
        calibration.batches, lambda batch: {"images": np.ascontiguousarray(batch)}
    )
    options = {
        "preset": nncf.QuantizationPreset.MIXED,  # activations below zero have a range of their own
        "subset_size": len(calibration.batches),
        "ignored_scope": ignored,
    }
    nncf.set_log_level(logging.WARNING)
    if not calibration.judged:
        return nncf.quantize(model, pictures, **options)

    told = []

    def accuracy(compiled, places):
        def predict(images):
            outputs = compiled({"images": images})
            return {port.any_name: array for port, array in outputs.items()}

        places = list(places)
        found = calibration.accuracy(predict, places)
        # Of RANKED pictures and less, each trial is on all of them.
        if len(places) == calibration.judged and (calibration.judged > RANKED or not told):
            text = "unknown" if found is None else f"{100 * found:.2f} %"
            print(f"  accuracy in {'int8' if told else 'float32'}: {text}", flush=True)
            told.append(text)
        # NNCF asks for each picture alone, too, and one may show nothing that is to be found.
        return 1.0 if found is None else found, None

    print(
        f"NNCF measures it on {calibration.judged} other pictures. Where int8 costs more than "
        f"{100 * LARGEST_DROP:g} %, it puts layers back into float32 and measures again."
    )
    quantized = nncf.quantize_with_accuracy_control(
        model,
        pictures,
        nncf.Dataset(range(calibration.judged)),
        accuracy,
        max_drop=LARGEST_DROP,
        advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
            ranking_subset_size=RANKED
        ),
        **options,
    )
    put_back = [text for name, text in _in_float(quantized).items() if name not in ignored.names]
    print(f"put back into float32: {', '.join(put_back) or 'no convolution'}")
    return quantized


def _in_float(model):
    """The convolutions of a quantized openvino.Model whose weights are not in int8.

    {name: what tells a reader which it is}; OpenVINO does not keep the names of layers.
    """
    convolutions = [
        each for each in model.get_ordered_ops() if each.get_type_name() in CONVOLUTIONS
    ]
    found = {}
    for place, convolution in enumerate(convolutions, 1):
        weights = convolution.input_value(1).get_node()
        while weights.get_type_name() != "Constant":  # scaled, then reshaped
            weights = weights.input_value(0).get_node()
        if weights.get_element_type().get_type_name() != "i8":
            shape = "x".join(map(str, weights.get_output_shape(0)))
            text = f"convolution {place} of {len(convolutions)} (weights {shape})"
            found[convolution.get_friendly_name()] = text
    return found


def onnx_in_int8(source, target, calibration):
    """Writes the ONNX file `source` to `target` with convolutions in int8 (QDQ), by ONNX Runtime.

    Activations are uint8, weights int8 by channel: what processors with VNNI multiply at once.
    """
    import onnx
    from onnxruntime import quantization

    graph = onnx.load(source, load_external_data=False).graph
    writer = {output: node.name for node in graph.node for output in node.output}
    operations = [
        (node.name, node.op_type, [writer[name] for name in node.input if name in writer])
        for node in graph.node
    ]
    # The epsilon of SSD's normalization would be 0 in int8, and divide. Sums of maps read none.
    constants = {each.name for each in graph.initializer}
    epsilons = [
        node.name
        for node in graph.node
        if node.op_type == "Add" and constants.intersection(node.input)
    ]
    batches = ({"images": np.ascontiguousarray(batch)} for batch in calibration.batches)

    class Pictures(quantization.CalibrationDataReader):
        def get_next(self):
            return next(batches, None)

    # It warns of a pre-processing that changes nothing here, through the root logger, to which it
    # adds a handler if there is none.
    root, silent = logging.getLogger(), logging.NullHandler()
    root.addHandler(silent)
    try:
        quantization.quantize_static(
            source,
            target,
            Pictures(),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=list(ONNX_TYPES),
            nodes_to_exclude=[*_outside_of_convolutions(operations), *epsilons],
        )
    finally:
        root.removeHandler(silent)


def litert_in_int8(converter, calibration):
    """The bytes of a LiteRT file, of a tf.lite.TFLiteConverter: int8 where LiteRT has kernels.

    But for LITERT_ENDS: labels of equal logits in int8 would be the first of them.
    """
    import tensorflow as tf

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: (
        {"images": np.ascontiguousarray(batch)} for batch in calibration.batches
    )
    converter.target_spec.supported_ops = [
        tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
        tf.lite.OpsSet.TFLITE_BUILTINS,  # of what has none
    ]
    # Of TensorFlow, the debugger alone takes what is to be left as it is.
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=list(LITERT_ENDS))
    quantizer = tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_options=options
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TensorFlow's own use of its interpreter
        return quantizer.get_nondebug_quantized_model()


def _outside_of_convolutions(operations):
    """Names of the operations before the first convolutions of a graph, and from its last ones on.

    `operations`: (name, type, names of those it reads), in an order of execution.
    """
    begun, goes_on = set(), set()  # at a convolution or after one; before one
    for name, kind, sources in operations:
        if kind in CONVOLUTIONS or begun.intersection(sources):
            begun.add(name)
    for name, kind, sources in reversed(operations):
        if kind in CONVOLUTIONS or name in goes_on:
            goes_on.update(sources)
    return [name for name, _, _ in operations if name not in begun or name not in goes_on]
