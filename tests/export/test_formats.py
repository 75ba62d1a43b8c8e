"""Every format beside the model it comes from, at other batches and sizes; and its converters."""

import itertools
import re

import numpy as np
import pytest
import tensorflow as tf
from small_models import (
    CONVERTERS,
    RUNTIMES,
    logits_of,
    pictures,
    randomize,
    small_classifier,
    small_dilated_model,
    small_model,
    small_task,
    smooth_pictures,
)
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from kerasdense.boxes import suppression
from kerasdense.cli.export import FORMATS as OFFERED
from kerasdense.export import formats, parity, predictor
from kerasdense.export.artefact import export
from kerasdense.export.formats import FORMATS
from kerasdense.export.predictor import Predictor
from kerasdense.export.signatures import PRECISIONS, Form
from kerasdense.models import fc_densenet, fcn_densenet, ladder_densenet
from kerasdense.models.layers import LearnedUpsampling

CASES = [
    *itertools.product(("segmentation",), FORMATS, ("float32",)),
    *(
        pytest.param(kind, format, "float32", marks=pytest.mark.slow)
        for kind in ("classification", "detection")
        for format in FORMATS
    ),
    ("segmentation", "onnx", "float16"),
    *(
        pytest.param("segmentation", format, "float16", marks=pytest.mark.slow)
        for format in ("saved_model", "openvino", "litert")
    ),
    ("segmentation", "saved_model", "bfloat16"),
    pytest.param("segmentation", "openvino", "bfloat16", marks=pytest.mark.slow),
    ("classification", "saved_model", "bfloat16"),
    ("classification", "saved_model", "float16"),
    *(pytest.param("detection", format, "float16", marks=pytest.mark.slow) for format in FORMATS),
]
# Enlarging by 2 and 4 is exact: no runtime rounds a gray level to another.
PICTURES = {
    "segmentation": (
        smooth_pictures(1, 64, 80),
        smooth_pictures(3, 97, 131),
        smooth_pictures(2, 20, 70),  # is padded
        smooth_pictures(1, 1, 1),
    ),
    "detection": (pictures(2, 150, 75),),
    "classification": (pictures(1, 72, 80), pictures(3, 36, 20), pictures(1, 1, 1)),
}


def dilated_ladder_densenet():
    return randomize(ladder_densenet((1, 1, 1, 1), 4, weights=None, output_stride=8))


@pytest.mark.parametrize("kind, format, precision", CASES)
def test_every_format_agrees_with_the_model(
    exported_predictor, exported_reference, kind, format, precision
):
    exported = exported_predictor(kind, format, precision)
    assert (exported.format, exported.task) == (format, kind)
    assert exported.facts["precision"] == precision
    task, reference = small_task(kind), exported_reference(kind)
    for images in PICTURES[kind]:
        figures = parity.compare(exported.predict, reference, task, [images])
        assert figures.get("sought", 11) > 10, "the test needs detections"
        assert not parity.exceeded(task, figures, precision), figures


@pytest.mark.parametrize(
    "format, precision",
    [*itertools.product(RUNTIMES, ["float32"]), ("openvino", "float16"), ("litert", "float16")],
)
@pytest.mark.parametrize("count, classes", [(40, 1), (600, 5)])
def test_every_runtime_suppresses_as_tensorflow_does(tmp_path, format, precision, count, classes):
    pytest.importorskip(CONVERTERS.get(format, "tensorflow"))
    runtime = pytest.importorskip(predictor.RUNTIMES[format][0])
    rng = np.random.default_rng(0)
    # Some lie outside the image, and their boxes have no area. float16 holds all of them.
    anchors = np.concatenate(
        [rng.uniform(-0.2, 1.2, (count, 2)), rng.uniform(0.02, 0.4, (count, 2))], axis=1
    )
    anchors = anchors.astype(np.float16).astype(np.float32)
    served = tf.Module()
    served.parameters = []
    served.serving_default = tf.function(
        lambda images: suppression.decode_detections(images, anchors, portable=True),
        input_signature=[tf.TensorSpec([None, count, classes + 5], tf.float32, "images")],
        autograph=False,
    )
    functions = {"serving_default": served.serving_default.get_concrete_function()}
    FORMATS[format].write(served, functions, tmp_path / "model", precision, None)
    file = tmp_path / "model" / predictor.FILES[format]
    call = predictor.OPENERS[format](runtime, file, functions, "float32", None)["serving_default"]
    for batch, background in [(1, 0), (3, 3), (2, 20), (1, 0)]:  # at 20, nothing is found
        raw = rng.normal(0, 1.5, (batch, count, classes + 5)).astype(np.float32)
        raw[..., 0] += background
        raw[..., -4:] = 0  # on the anchors
        expected = suppression.decode_detections(raw, anchors)
        assert (background == 20) == (not expected["num_detections"].numpy().any())
        for name, values in call(raw).items():
            np.testing.assert_allclose(values, expected[name], rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    "format, precision, others",
    [
        ("saved_model", "int8", "onnx, openvino, litert"),
        ("onnx", "bfloat16", "saved_model, openvino"),
        ("litert", "bfloat16", "saved_model, openvino"),
    ],
)
def test_what_a_runtime_cannot_compute_is_refused_with_the_reason(
    tmp_path, format, precision, others
):
    with pytest.raises(ValueError) as caught:
        export(small_model(), small_task("segmentation"), tmp_path / "n", Form(format, precision))
    reason = FORMATS[format].refused[precision]
    assert reason in str(caught.value) and f"one of the formats {others}." in str(caught.value)
    assert not (tmp_path / "n").exists()


@pytest.mark.parametrize("kind, size", [("segmentation", (64, 80)), ("classification", None)])
def test_xla_compiles_the_network_of_a_saved_model_and_changes_nothing(
    tmp_path, exported_reference, kind, size
):
    task, reference = small_task(kind), exported_reference(kind)
    build = {"segmentation": small_model, "classification": small_classifier}[kind]
    version = export(build(), task, tmp_path / "name", Form(batch_size=2, size=size, xla=True))
    proto = SavedModel.FromString((version / "saved_model.pb").read_bytes())
    functions = proto.meta_graphs[0].graph_def.library.function
    assert any(each.attr["_XlaMustCompile"].b for each in functions)
    exported = Predictor(version)
    assert exported.facts["xla"]
    images = smooth_pictures(2, *(size or (36, 20)))
    figures = parity.compare(exported.predict, reference, task, [images])
    assert not parity.exceeded(task, figures, "float32"), figures
    with pytest.raises(ValueError, match="XLA compiles a saved_model alone, received format 'onn"):
        Form("onnx", xla=True)


def learned_fcn():
    """Upsamplings and a blend of scores that have learned something."""
    model = fcn_densenet((1, 1, 1, 1), 4, skips=(16,), upsampling="learned", skip_fusion="concat")
    rng = np.random.default_rng(0)
    for layer in randomize(model).layers:
        if isinstance(layer, LearnedUpsampling) or layer.name == "score_stride16":
            layer.set_weights([rng.normal(0, 0.3, each.shape) for each in layer.get_weights()])
    return model


def ladder_densenet_of_2020():
    """Its grids have as many cells as the picture's sides ask for."""
    design = {"output_stride": 64, "pyramid": (8, 2), "blend": "sum", "auxiliary": True}
    return randomize(ladder_densenet((1, 1, 2, 1), 4, weights=None, **design))


def small_fc_densenet():
    return randomize(fc_densenet(4, layers=(1, 1), growth_rate=4, first_channels=8))


@pytest.mark.parametrize(
    "build, format, precision",
    [
        *itertools.product([small_dilated_model], FORMATS, ["float32"]),
        *(
            pytest.param(small_dilated_model, format, precision, marks=pytest.mark.slow)
            for format, precision in itertools.product(FORMATS, PRECISIONS)
            if precision not in ("float32", "int8", *FORMATS[format].refused)
        ),
        pytest.param(dilated_ladder_densenet, "onnx", "float32", marks=pytest.mark.slow),
        *(
            pytest.param(build, format, "float32", marks=pytest.mark.slow)
            for build, format in itertools.product(
                (learned_fcn, small_fc_densenet, ladder_densenet_of_2020), FORMATS
            )
        ),
    ],
)
def test_every_format_takes_dilated_and_transposed_convolutions_and_grids(
    tmp_path, build, format, precision
):
    pytest.importorskip(CONVERTERS.get(format, "tensorflow"))
    pytest.importorskip(RUNTIMES.get(format, "tensorflow"))
    model, task = build(), small_task("segmentation")
    exported = Predictor(export(model, task, tmp_path / "name", Form(format, precision)))
    reference = parity.Reference(model, task)
    for images in PICTURES["segmentation"]:
        figures = parity.compare(exported.predict, reference, task, [images])
        assert not parity.exceeded(task, figures, precision), figures


def test_all_signatures_of_a_saved_model_equal_the_model_at_any_batch_and_size(exported_predictor):
    model, exported = small_model(), exported_predictor("segmentation")
    task = small_task("segmentation")
    for shape in [(1, 64, 80), (3, 97, 131), (2, 64, 65)]:
        images = pictures(*shape)
        logits = logits_of(model, images)
        probabilities = tf.nn.softmax(logits).numpy()
        outputs = exported.predict(images)
        assert outputs["labels"].dtype == np.uint8 and outputs["labels"].shape == shape
        assert outputs["confidence"].dtype == np.float32
        figures = task.differences(outputs, {"probabilities": probabilities})
        assert not parity.exceeded(task, figures, "float32"), figures
        np.testing.assert_allclose(outputs["confidence"], probabilities.max(axis=-1), atol=1e-5)
        found = exported.predict_probabilities(images)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, probabilities, atol=1e-5)
        assert parity.compare_raw(exported.predict_raw(images), logits)["relative"] < 1e-4


@pytest.mark.parametrize("format", FORMATS)
def test_a_fixed_batch_and_size(tmp_path, format):
    pytest.importorskip(CONVERTERS.get(format, "tensorflow"))
    pytest.importorskip(RUNTIMES.get(format, "tensorflow"))
    model, task = small_model(), small_task("segmentation")
    form = Form(format, batch_size=2, size=(64, 96))
    exported = Predictor(export(model, task, tmp_path / "name", form))
    contract = exported.facts["input"]
    assert (contract["batch_size"], contract["height"], contract["width"]) == (2, 64, 96)
    specification = exported.facts["signatures"]["serving_default"]
    assert specification["inputs"] == {"images": {"dtype": "uint8", "shape": [2, 64, 96, 3]}}
    assert specification["outputs"]["labels"] == {"dtype": "uint8", "shape": [2, 64, 96]}
    images = pictures(2, 64, 96)
    probabilities = tf.nn.softmax(logits_of(model, images)).numpy()
    figures = task.differences(exported.predict(images), {"probabilities": probabilities})
    assert not parity.exceeded(task, figures, "float32"), figures


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("build", [ladder_densenet_of_2020, learned_fcn])
def test_a_fixed_size_that_strides_do_not_divide(tmp_path, build, format):
    pytest.importorskip(CONVERTERS.get(format, "tensorflow"))
    pytest.importorskip(RUNTIMES.get(format, "tensorflow"))
    model, task = build(), small_task("segmentation")
    form = Form(format, batch_size=1, size=(360, 480))  # CamVid's
    exported = Predictor(export(model, task, tmp_path / "name", form))
    images = smooth_pictures(1, 360, 480)
    figures = parity.compare(exported.predict, parity.Reference(model, task), task, [images])
    assert not parity.exceeded(task, figures, "float32"), figures


def test_factors_of_a_resize_in_onnx_give_whole_sizes():
    onnx = pytest.importorskip("onnx")
    for size, wanted in itertools.product(range(1, 60), range(1, 130)):
        factor = np.float32(wanted / size)
        scales = onnx.numpy_helper.from_array(
            np.array([1, 1, factor, factor], np.float32), "scales"
        )
        node = onnx.helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="linear")
        graph = onnx.helper.make_graph([node], "graph", [], [], [scales])
        formats._scale_up_to_whole_sizes(graph)
        found = onnx.numpy_helper.to_array(graph.initializer[0])
        assert found[:2].tolist() == [1, 1]
        assert np.floor(np.float32(size) * found[2]) == wanted


def test_a_format_is_known_everywhere():
    """What is written, read and offered; the program names them without importing TensorFlow."""
    assert tuple(FORMATS) == OFFERED
    for known in (predictor.FILES, predictor.RUNTIMES, predictor.OPENERS):
        assert set(known) == set(FORMATS)


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_a_missing_converter_is_named_before_the_work(tmp_path, monkeypatch, format):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=re.escape(f"'kerasdense[{format}]'")):
        export(small_model(), small_task("segmentation"), tmp_path / "name", Form(format))
    assert not (tmp_path / "name").exists()


def test_a_model_too_large_to_convert_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("tf2onnx")
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1}
    monkeypatch.setattr("os.sysconf", pages.__getitem__)
    with pytest.raises(ValueError, match="GiB of memory.*another format"):
        export(small_model(), small_task("segmentation"), tmp_path / "name", Form("onnx"))
    assert not list((tmp_path / "name").iterdir())
