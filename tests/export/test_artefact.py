"""The exported artefact against the model it comes from, at other batches and sizes."""

import io
import itertools
import json
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerasdense.export import parity
from kerasdense.models.ssd import anchors_of
from kerasdense.boxes.geometry import VARIANCES
from kerasdense.export.artefact import FORMATS, export
from kerasdense.models import ssd300
from kerasdense.export.predictor import Predictor
from kerasdense.export.signatures import PRECISIONS, serve
from kerasdense.export.warmup import REQUESTS, read_warmup_requests

NAMES = ["road", "car", "tree", "sky"]
PALETTE = [[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]]
RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino", "litert": "ai_edge_litert"}
CONVERTERS = {"onnx": "tf2onnx", "openvino": "openvino"}


def small_model(policy="float32", classes=4, auxiliary=False):
    """A convolutional model with batch normalisation and dropout, its weights random."""
    keras.utils.set_random_seed(0)
    with_policy = {"dtype": policy}
    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    x = keras.layers.Rescaling(1 / 64, offset=-2, **with_policy)(images)
    x = keras.layers.Conv2D(8, 3, padding="same", use_bias=False, **with_policy)(x)
    x = keras.layers.BatchNormalization(**with_policy)(x)
    x = keras.layers.ReLU(**with_policy)(x)
    x = keras.layers.Dropout(0.5, **with_policy)(x)
    x = keras.layers.Conv2D(classes, 3, padding="same", name="scores", **with_policy)(x)
    logits = keras.layers.Activation("linear", dtype="float32", name="logits")(x)
    outputs = {"logits": logits, "auxiliary_logits": -logits} if auxiliary else logits
    model = keras.Model(images, outputs, name="small")
    moments = np.random.default_rng(0)
    for variable in model.non_trainable_variables:  # else batch normalisation does nothing
        if variable.path.split("/")[-1].startswith("moving"):
            variable.assign(moments.uniform(0.5, 2, variable.shape))
    return model


def small_detector():
    """An SSD300 of few channels, random weights, and scores spread over (0, 1)."""
    keras.utils.set_random_seed(1)
    model = ssd300(num_classes=2, weights=None, width=0.0625)
    for layer in model.layers:
        if layer.name.endswith("_classes"):
            kernel, bias = layer.get_weights()
            bias[:: 2 + 1] += 10  # the background's
            layer.set_weights([10 * kernel, bias])
    return model


def pictures(batch, height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (batch, height, width, 3), np.uint8)


def smooth_pictures(batch, height, width, seed=0):
    coarse = pictures(batch, 5, 6, seed).astype(np.float32)
    return tf.cast(tf.image.resize(coarse, (height, width)), tf.uint8).numpy()


def logits_of(model, images):
    outputs = model(images, training=False)
    outputs = outputs["logits"] if isinstance(outputs, dict) else outputs
    return keras.ops.convert_to_numpy(outputs)


@pytest.fixture(scope="module")
def detector():
    return small_detector()


@pytest.mark.parametrize("auxiliary", [False, True])
def test_predictor_equals_the_model_at_any_batch_and_size(tmp_path, auxiliary):
    model = small_model(auxiliary=auxiliary)
    predictor = Predictor(export(model, tmp_path / "name", NAMES, PALETTE))
    assert predictor.class_names == NAMES and predictor.palette == PALETTE
    for shape in [(1, 64, 80), (3, 97, 131), (2, 64, 65)]:
        images = pictures(*shape)
        logits = logits_of(model, images)
        probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
        outputs = predictor.predict(images)
        assert outputs["labels"].dtype == np.uint8 and outputs["labels"].shape == shape
        assert outputs["confidence"].dtype == np.float32
        assert not parity.exceeded(parity.compare_labels(outputs, probabilities), "float32")
        np.testing.assert_allclose(outputs["confidence"], probabilities.max(axis=-1), atol=1e-5)
        exported = predictor.predict_probabilities(images)
        assert exported.dtype == np.float32
        np.testing.assert_allclose(exported, probabilities, atol=1e-5)
        raw = predictor.predict_raw(images)
        assert parity.compare_raw(raw, logits)["relative"] < 1e-4


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("format", FORMATS)
def test_every_format_agrees_with_the_segmentation_model(tmp_path, format, precision):
    pytest.importorskip(CONVERTERS.get(format, "tensorflow"))
    pytest.importorskip(RUNTIMES.get(format, "tensorflow"))
    model = small_model()
    version = export(
        model, tmp_path / "name", NAMES, PALETTE, format=format, precision=precision, run={"a": 1}
    )
    predictor = Predictor(version)
    assert (predictor.format, predictor.task) == (format, "segmentation")
    assert predictor.facts["precision"] == precision and predictor.facts["run"] == {"a": 1}
    for shape in [(1, 64, 80), (3, 97, 131)]:
        images = smooth_pictures(*shape)
        probabilities = tf.nn.softmax(logits_of(model, images)).numpy()
        figures = parity.compare_labels(predictor.predict(images), probabilities)
        assert not parity.exceeded(figures, precision), figures


@pytest.mark.parametrize(
    "format, precision",
    # OpenVINO takes long to compile a detector, and float16 only shortens its weights.
    [case for case in itertools.product(FORMATS, PRECISIONS) if case != ("openvino", "float16")],
)
def test_every_format_agrees_with_the_detector(tmp_path, detector, format, precision):
    pytest.importorskip(CONVERTERS.get(format, "tensorflow"))
    pytest.importorskip(RUNTIMES.get(format, "tensorflow"))
    version = export(
        detector, tmp_path / "name", NAMES[:2], PALETTE[:2], format=format, precision=precision
    )
    predictor = Predictor(version)
    assert (predictor.format, predictor.task) == (format, "detection")
    # Enlarging by 2 and 4 is exact: no runtime rounds a grey level to another.
    images = pictures(2, 150, 75)
    expected = serve(detector).serving_default(tf.constant(images))
    expected = {name: value.numpy() for name, value in expected.items()}
    figures = parity.compare_detections(predictor.predict(images), expected)
    assert figures["sought"] > 10, "the test needs detections"
    assert not parity.exceeded(figures, precision), figures


@pytest.mark.parametrize("format", FORMATS)
def test_a_fixed_batch_and_size(tmp_path, format):
    pytest.importorskip(CONVERTERS.get(format, "tensorflow"))
    pytest.importorskip(RUNTIMES.get(format, "tensorflow"))
    model = small_model()
    fixed = {"batch_size": 2, "size": (64, 96)}
    version = export(model, tmp_path / "name", NAMES, PALETTE, format=format, **fixed)
    predictor = Predictor(version)
    contract = predictor.facts["input"]
    assert (contract["batch_size"], contract["height"], contract["width"]) == (2, 64, 96)
    specification = predictor.facts["signatures"]["serving_default"]
    assert specification["inputs"] == {"images": {"dtype": "uint8", "shape": [2, 64, 96, 3]}}
    assert specification["outputs"]["labels"] == {"dtype": "uint8", "shape": [2, 64, 96]}
    images = pictures(2, 64, 96)
    probabilities = tf.nn.softmax(logits_of(model, images)).numpy()
    figures = parity.compare_labels(predictor.predict(images), probabilities)
    assert not parity.exceeded(figures, "float32"), figures


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_mixed_precision_model_is_exported_in_float32(tmp_path, policy):
    model = small_model(policy)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    predictor = Predictor(export(loaded, tmp_path / "name", NAMES, PALETTE))
    images = pictures(2, 80, 64)
    # The same weights in a float32 model: these labels, and nearly the mixed ones.
    reference = small_model("float32")
    reference.set_weights(model.get_weights())
    probabilities = tf.nn.softmax(logits_of(reference, images)).numpy()
    outputs = predictor.predict(images)
    assert not parity.exceeded(parity.compare_labels(outputs, probabilities), "float32")
    labels = outputs["labels"]
    assert (labels == logits_of(loaded, images).argmax(axis=-1)).mean() > 0.95
    assert loaded.get_layer("scores").dtype_policy.name == policy  # the original stays


def test_signatures_have_the_published_shapes(tmp_path):
    version = export(small_model(), tmp_path / "name", NAMES, PALETTE)
    signatures = tf.saved_model.load(str(version)).signatures
    assert set(signatures) == {"serving_default", "probabilities", "raw", "encoded"}

    def specs(structure):
        return {key: (spec.dtype, spec.shape.as_list()) for key, spec in structure.items()}

    for name in ("serving_default", "encoded"):
        assert specs(signatures[name].structured_outputs) == {
            "labels": (tf.uint8, [None, None, None]),
            "confidence": (tf.float32, [None, None, None]),
        }
    images = {"images": (tf.uint8, [None, None, None, 3])}
    for name in ("serving_default", "probabilities", "raw"):
        assert specs(signatures[name].structured_input_signature[1]) == images
    assert specs(signatures["encoded"].structured_input_signature[1]) == {
        "image_bytes": (tf.string, [None])
    }
    for name, output in (("probabilities", "probabilities"), ("raw", "logits")):
        assert specs(signatures[name].structured_outputs) == {
            output: (tf.float32, [None, None, None, 4])
        }


def test_model_json_of_segmentation(tmp_path):
    run = {"best_epoch": {"epoch": 3, "val_mean_iou": 0.5}}
    version = export(small_model(), tmp_path / "name", NAMES, PALETTE, run=run)
    facts = json.loads((version / "assets" / "model.json").read_text())
    assert facts["format_version"] == 1 and facts["format"] == "saved_model"
    assert (facts["task"], facts["name"], facts["precision"]) == (
        "segmentation",
        "small",
        "float32",
    )
    assert (facts["class_names"], facts["palette"], facts["run"]) == (NAMES, PALETTE, run)
    assert facts["input"] == {
        "dtype": "uint8", "layout": "BHWC", "color": "RGB", "batch_size": None, "height": None,
        "width": None, "minimum_side": 64, "maximum_pixels": 4096 * 4096,
    }  # fmt: skip
    assert facts["signatures"]["raw"]["outputs"] == {
        "logits": {"dtype": "float32", "shape": [None, None, None, 4]}
    }
    assert facts["signatures"]["encoded"]["inputs"] == {
        "image_bytes": {"dtype": "string", "shape": [None]}
    }
    assert facts["versions"]["keras"] == keras.__version__
    assert not (version / "assets" / "anchors.npy").exists()


def test_what_decodes_raw_output_stands_in_the_assets_of_a_detector(tmp_path, detector):
    version = export(detector, tmp_path / "name", NAMES[:2], PALETTE[:2])
    anchors = np.load(version / "assets" / "anchors.npy")
    np.testing.assert_array_equal(anchors, anchors_of(detector))
    facts = json.loads((version / "assets" / "model.json").read_text())
    assert facts["postprocessing"]["variances"] == list(VARIANCES)
    assert facts["signatures"]["raw"]["outputs"]["raw"]["shape"] == [None, 8732, 2 + 1 + 4]
    assert facts["input"]["minimum_side"] == 1
    raw = Predictor(version).predict_raw(pictures(1, 300, 300))
    assert parity.compare_raw(raw, logits_of(detector, pictures(1, 300, 300)))["relative"] < 1e-4


def test_files_for_a_detector_may_differ_in_size(tmp_path, detector):
    predictor = Predictor(export(detector, tmp_path / "name", NAMES[:2], PALETTE[:2]))
    images = [smooth_pictures(1, 100, 150)[0], smooth_pictures(1, 220, 90, seed=1)[0]]
    files = [tf.io.encode_png(image).numpy() for image in images]
    together = predictor.predict_encoded(files)
    for index, image in enumerate(images):
        alone = predictor.predict(image[None])
        row = {name: values[index : index + 1] for name, values in together.items()}
        figures = parity.compare_detections(row, alone)
        assert figures["sought"] > 0 and not parity.exceeded(figures, "float32"), figures


def file_of(picture, format, **options):
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def test_files_of_all_kinds_become_rgb(tmp_path):
    predictor = Predictor(export(small_model(), tmp_path / "name", NAMES, PALETTE))
    picture = Image.fromarray(pictures(1, 64, 70)[0])
    alpha = picture.copy()
    alpha.putalpha(100)
    grey = picture.convert("L")
    for file, expected in [
        (file_of(picture, "PNG"), picture),
        (file_of(picture, "BMP"), picture),
        (file_of(alpha, "PNG"), picture),
        (file_of(picture, "WEBP", lossless=True), picture),
        (file_of(alpha, "WEBP", lossless=True), picture),
        (file_of(grey, "PNG"), grey.convert("RGB")),
        (file_of(grey.convert("LA"), "PNG"), grey.convert("RGB")),
        (file_of(picture.quantize(9), "PNG"), picture.quantize(9).convert("RGB")),
    ]:
        labels = predictor.predict_encoded([file])["labels"]
        np.testing.assert_array_equal(
            labels, predictor.predict(np.asarray(expected)[None])["labels"]
        )
    for mode in ("RGB", "L", "CMYK"):  # decoders of JPEG differ in rounding
        image = Image.fromarray(smooth_pictures(1, 64, 70)[0])
        labels = predictor.predict_encoded([file_of(image.convert(mode), "JPEG")])["labels"]
        expected = np.asarray(image.convert(mode).convert("RGB"))
        assert (labels == predictor.predict(expected[None])["labels"]).mean() > 0.8
    # Turned by 90 degrees in its EXIF entry: the pixels count as they are stored.
    exif = Image.Exif()
    exif[0x0112] = 6
    assert predictor.predict_encoded([file_of(picture, "PNG", exif=exif)])["labels"].shape == (
        1, 64, 70,
    )  # fmt: skip


def test_bad_input_is_refused_inside_the_graph(tmp_path, detector):
    """What a server meets: TensorFlow's own loader, without Predictor's checks."""
    segmentation = export(small_model(), tmp_path / "s", NAMES, PALETTE)
    detection = export(detector, tmp_path / "d", NAMES[:2], PALETTE[:2])
    png = tf.io.encode_png(pictures(1, 64, 64)[0]).numpy()
    for version, too_small in ((segmentation, True), (detection, False)):
        loaded = tf.saved_model.load(str(version))
        served, encoded = loaded.signatures["serving_default"], loaded.signatures["encoded"]
        refused = [
            (served, np.zeros((0, 64, 64, 3), np.uint8), "No images"),
            (served, np.zeros((1, 64, 0, 3), np.uint8), "too small"),
            (encoded, np.zeros(0, object), "No files"),
            (encoded, np.array([b""], object), "image"),
            (encoded, np.array([b"no picture"], object), "image"),
            (encoded, np.array([png[:60]], object), "PNG"),
        ]
        if too_small:
            refused += [
                (served, np.zeros((1, 1, 1, 3), np.uint8), "too small"),
                (served, np.zeros((1, 9000, 12000, 3), np.uint8), "Too large"),
            ]
        for signature, value, words in refused:
            with pytest.raises(tf.errors.InvalidArgumentError, match=words):
                signature(tf.constant(value))
        assert encoded(tf.constant([png]))  # it lives on
        if not too_small:
            assert served(tf.zeros((1, 1, 1, 3), tf.uint8))["boxes"].shape == (1, 200, 4)


def test_warm_up_requests_replay(tmp_path, detector):
    pytest.importorskip("tensorflow_serving")
    for index, (model, classes) in enumerate([(small_model(), 4), (detector, 2)]):
        fixed = {"batch_size": 2, "size": (96, 64)} if index else {}
        version = export(model, tmp_path / str(index), NAMES[:classes], PALETTE[:classes], **fixed)
        signatures = tf.saved_model.load(str(version)).signatures
        requests = read_warmup_requests(version / REQUESTS)
        assert set(requests) == set(signatures)
        for name, inputs in requests.items():
            outputs = signatures[name](**{key: tf.constant(v) for key, v in inputs.items()})
            assert all(len(value) == (2 if index else 1) for value in outputs.values())


PROGRAM = """
import sys
for name in ("kerasdense", "keras", "PIL"):
    sys.modules[name] = None  # importing it raises ImportError
import numpy, tensorflow as tf
loaded = tf.saved_model.load({version!r})
images = tf.constant(numpy.load({images!r}))
files = tf.stack([tf.io.encode_png(image) for image in images])
for name, function in loaded.signatures.items():
    outputs = function(files if name == "encoded" else images)
    print(name, *sorted((key, *value.shape) for key, value in outputs.items()))
"""


def test_signatures_run_where_only_tensorflow_is(tmp_path):
    version = export(small_model(), tmp_path / "name", NAMES, PALETTE)
    np.save(tmp_path / "images.npy", pictures(2, 64, 70))
    program = PROGRAM.format(version=str(version), images=str(tmp_path / "images.npy"))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.splitlines()) == {
        "serving_default ('confidence', 2, 64, 70) ('labels', 2, 64, 70)",
        "encoded ('confidence', 2, 64, 70) ('labels', 2, 64, 70)",
        "probabilities ('probabilities', 2, 64, 70, 4)",
        "raw ('logits', 2, 64, 70, 4)",
    }


def test_saved_model_cli_shows_and_runs_it(tmp_path):
    model = small_model()
    version = export(model, tmp_path / "name", NAMES, PALETTE)
    images = pictures(2, 64, 70)
    np.save(tmp_path / "images.npy", images)
    cli = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli"]
    place = ["--dir", str(version), "--tag_set", "serve"]
    shown = subprocess.run(
        [*cli, "show", *place, "--signature_def", "serving_default"], capture_output=True, text=True
    )
    assert shown.returncode == 0, shown.stderr
    assert "inputs['images'] tensor_info" in shown.stdout
    assert "outputs['labels'] tensor_info" in shown.stdout and "DT_UINT8" in shown.stdout
    inputs = ["--inputs", f"images={tmp_path / 'images.npy'}", "--outdir", str(tmp_path)]
    ran = subprocess.run(
        [*cli, "run", *place, "--signature_def", "serving_default", *inputs],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    labels = np.load(tmp_path / "labels.npy")
    expected = Predictor(version).predict(images)["labels"]
    np.testing.assert_array_equal(labels, expected)


def test_an_export_without_warm_up_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorflow_serving", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    version = export(small_model(), tmp_path / "name", NAMES, PALETTE)
    assert "kerasdense[serving]" in capsys.readouterr().out
    assert not (version / "assets.extra").exists()


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_a_missing_converter_is_named_before_the_work(tmp_path, monkeypatch, format):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=re.escape(f"'kerasdense[{format}]'")):
        export(small_model(), tmp_path / "name", NAMES, PALETTE, format=format)
    assert not (tmp_path / "name").exists()


def test_a_model_too_large_to_convert_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("tf2onnx")
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1}
    monkeypatch.setattr("os.sysconf", pages.__getitem__)
    with pytest.raises(ValueError, match="GiB of memory.*another format"):
        export(small_model(), tmp_path / "name", NAMES, PALETTE, format="onnx")
    assert not list((tmp_path / "name").iterdir())


def test_versions_count_up(tmp_path):
    name = tmp_path / "name"
    model = small_model()
    assert export(model, name, NAMES, PALETTE) == name / "1"
    (name / "9").mkdir()
    (name / "notes").mkdir()
    assert export(model, name, NAMES, PALETTE) == name / "10"
    assert sorted(path.name for path in name.iterdir()) == ["1", "10", "9", "notes"]


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()])
def test_an_interrupted_export_leaves_no_version(tmp_path, monkeypatch, error):
    name = tmp_path / "name"
    model = small_model()
    export(model, name, NAMES, PALETTE)
    save = tf.saved_model.save

    def interrupted(served, path, **options):
        save(served, path, **options)
        raise error

    monkeypatch.setattr(tf.saved_model, "save", interrupted)
    with pytest.raises(type(error)):
        export(model, name, NAMES, PALETTE)
    assert [path.name for path in name.iterdir()] == ["1"]


@pytest.mark.parametrize(
    "classes, names, palette, words",
    [
        (4, NAMES[:3], PALETTE, "4 classes.*3 names"),
        (4, NAMES, PALETTE[:3], "3 colors"),
        (256, [str(i) for i in range(256)], [[i, i, i] for i in range(256)], "at most 255"),
    ],
)
def test_names_must_fit(tmp_path, classes, names, palette, words):
    with pytest.raises(ValueError, match=words):
        export(small_model(classes=classes), tmp_path / "name", names, palette)
    assert not (tmp_path / "name").exists()


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"format": "caffe"}, "caffe"),
        ({"precision": "int8"}, "int8"),
        ({"batch_size": 0}, "batch_size"),
        ({"size": (32, 96)}, "at least 64"),
    ],
)
def test_impossible_arguments(tmp_path, arguments, words):
    with pytest.raises(ValueError, match=words):
        export(small_model(), tmp_path / "name", NAMES, PALETTE, **arguments)
    assert not (tmp_path / "name").exists()


def test_weights_beyond_float16_are_refused(tmp_path):
    model = small_model()
    kernel, bias = model.get_layer("scores").get_weights()
    model.get_layer("scores").set_weights([kernel, bias + 1e5])
    with pytest.raises(ValueError, match="more than float16 can hold"):
        export(model, tmp_path / "name", NAMES, PALETTE, precision="float16")


def test_a_version_folder_is_no_place_for_versions(tmp_path):
    version = export(small_model(), tmp_path / "name", NAMES, PALETTE)
    with pytest.raises(ValueError, match="folder above"):
        export(small_model(), version, NAMES, PALETTE)
