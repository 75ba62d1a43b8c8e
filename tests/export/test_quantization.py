"""int8: what of a network is in it, and what its answers are then."""

import re

import numpy as np
import pytest
from small_models import BUILD, RUNTIMES, small_dilated_model, small_task, smooth_pictures

from kerasdense import tasks
from kerasdense.benchmarks.formats import decisive_model
from kerasdense.benchmarks.workloads import NamedModel
from kerasdense.export import parity, quantization
from kerasdense.export.artefact import export
from kerasdense.export.calibration import Calibration
from kerasdense.export.predictor import FILES, Predictor
from kerasdense.export.signatures import PRECISIONS, Form

SIZE = (64, 80)
PICTURES = [smooth_pictures(2, *SIZE)[place][None] for place in (0, 1)]
QUANTIZERS = {"onnx": "onnxruntime.quantization", "openvino": "nncf", "litert": "tensorflow"}


def exported(tmp_path, format, kind="segmentation", calibration=Calibration(PICTURES)):
    pytest.importorskip(QUANTIZERS[format])
    pytest.importorskip(RUNTIMES[format])
    model, task = BUILD[kind](), small_task(kind)
    form = Form(format, "int8", batch_size=1, size=SIZE)
    return export(model, task, tmp_path / "name", form, calibration=calibration)


def test_what_lies_outside_of_convolutions():
    # A picture is scaled and convolved three times with a sum between; its scores are resized.
    operations = [
        ("images", "Parameter", []),
        ("scaled", "Multiply", ["images"]),
        ("first", "Convolution", ["scaled"]),
        ("sum", "Add", ["first", "first"]),
        ("second", "GroupConvolution", ["sum"]),
        ("size", "ShapeOf", ["images"]),
        ("scores", "Convolution", ["second"]),
        ("resized", "Interpolate", ["scores", "size"]),
    ]
    outside = ["images", "scaled", "size", "scores", "resized"]
    assert quantization._outside_of_convolutions(operations) == outside


@pytest.mark.parametrize("format", QUANTIZERS)
def test_answers_are_nearly_those_of_the_model(tmp_path, format, exported_reference):
    predictor = Predictor(exported(tmp_path, format))
    assert predictor.facts["precision"] == predictor.precision == "int8"
    task, reference = small_task("segmentation"), exported_reference("segmentation")
    figures = parity.compare(predictor.predict, reference, task, PICTURES)
    assert 0 < figures["confidence"] < 0.2 and figures["other_labels"] < 0.1, figures


@pytest.mark.parametrize(
    "kind, figure",
    [
        ("segmentation", "other_labels"),
        ("detection", "missed"),
        ("classification", "probabilities"),
    ],
)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_is_all_wrong_is_refused_in_every_precision(kind, figure, precision):
    task = small_task(kind)
    assert parity.exceeded(task, {figure: 1.0}, precision, parity.GROSS)
    assert not parity.exceeded(task, {figure: 0.0}, precision)


def test_it_is_compared_on_a_picture_that_it_was_fitted_to(tmp_path, monkeypatch):
    compared = []
    monkeypatch.setattr(
        parity, "check", lambda predictor, model, task, picture: compared.append(picture)
    )
    exported(tmp_path, "onnx")
    assert np.array_equal(compared, [PICTURES[0][0]])


@pytest.mark.slow
def test_a_ladder_in_openvino(tmp_path):
    # Its blends resize, and what they give is concatenated and convolved.
    pytest.importorskip("nncf")
    model = decisive_model(NamedModel("ladder", "ladder_densenet", {"blocks": (1, 2, 2, 1)}))
    task = tasks.of_model(model)
    form = Form("openvino", "int8", batch_size=1, size=SIZE)
    version = export(model, task, tmp_path, form, calibration=Calibration(PICTURES))
    predictor, reference = Predictor(version), parity.Reference(model, task)
    figures = parity.compare(predictor.predict, reference, task, PICTURES)
    assert figures["other_labels"] < 0.1, figures


def test_convolutions_of_onnx_are_in_int8_and_nothing_else(tmp_path):
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(exported(tmp_path, "onnx") / FILES["onnx"]).graph
    writer = {name: node for node in graph.node for name in node.output}
    *convolutions, last = [node for node in graph.node if node.op_type == "Conv"]
    assert convolutions and "scores" in last.name
    for node in convolutions:
        kinds = [writer[name].op_type for name in node.input[:2]]
        assert kinds == ["DequantizeLinear"] * 2, "activations and weights"
    in_float = [each.input[0] for each in graph.node if each.op_type in ("Softmax", "ArgMax")]
    for name in (last.input[1], *in_float):
        assert name not in writer or writer[name].op_type != "DequantizeLinear"


def quantizers_of(version):
    import openvino

    model = openvino.Core().read_model(version / FILES["openvino"])
    return [each for each in model.get_ops() if each.get_type_name() == "FakeQuantize"]


@pytest.mark.slow
def test_openvino_puts_back_what_costs_accuracy(tmp_path, monkeypatch, exported_reference, capsys):
    all_of_it = len(quantizers_of(exported(tmp_path / "plain", "openvino")))
    assert all_of_it
    reference = exported_reference("segmentation")
    expected = [reference.predict(images)["confidence"] for images in PICTURES]

    def accuracy(predict, places):
        differences = [
            np.abs(predict(PICTURES[place])["confidence"] - expected[place]).max()
            for place in places
        ]
        return 1 - float(np.mean(differences))

    monkeypatch.setattr(quantization, "LARGEST_DROP", 1e-3)
    judged = Calibration(PICTURES, len(PICTURES), accuracy)
    version = exported(tmp_path / "judged", "openvino", calibration=judged)
    assert len(quantizers_of(version)) < all_of_it
    told = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(
        r"put back into float32: convolution \d+ of \d+ \(weights [\dx]+\).*", told
    ), told
    predict = Predictor(version).predict
    assert accuracy(predict, [0, 1]) >= accuracy(
        Predictor(tmp_path / "plain" / "name").predict, [0, 1]
    )


def test_litert_has_int8_tensors(tmp_path):
    version = exported(tmp_path, "litert")
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    details = interpreter.Interpreter(str(version / FILES["litert"])).get_tensor_details()
    assert sum(each["dtype"] is np.int8 for each in details) > 4


def test_litert_ends_in_floating_point(tmp_path):
    version = exported(tmp_path, "litert")
    confidence = Predictor(version).predict(PICTURES[0])["confidence"]
    # In int8 a probability is a multiple of 1/256.
    assert len(np.unique(confidence)) > 257


def test_litert_needs_fixed_sizes(tmp_path):
    model, task = small_dilated_model(), small_task("segmentation")
    form = Form("litert", "int8", size=SIZE)
    with pytest.raises(ValueError, match="litert in int8 needs a fixed batch size and size"):
        export(model, task, tmp_path / "name", form, calibration=Calibration(PICTURES))


def test_litert_refuses_a_detector_rather_than_end_the_process(tmp_path):
    with pytest.raises(ValueError, match="no litert in int8 of this model.*loop"):
        exported(tmp_path, "litert", "detection")


@pytest.mark.parametrize("format", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_a_detector(tmp_path, format, exported_reference):
    predictor = Predictor(exported(tmp_path, format, "detection"))
    found = predictor.predict(PICTURES[0])
    expected = exported_reference("detection").predict(PICTURES[0])
    # The best detection is about as sure as it was; which it is, random weights leave open.
    assert abs(found["scores"][0, 0] - expected["scores"][0, 0]) < 0.2


def test_int8_is_fitted_to_pictures(tmp_path):
    model, task = small_dilated_model(), small_task("segmentation")
    with pytest.raises(ValueError, match="fitted to pictures, received none.*--calibration"):
        export(model, task, tmp_path / "name", Form("onnx", "int8"))
