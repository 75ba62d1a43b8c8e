"""The version folder that an export leaves: its facts, warm-up, numbers, and what stops it."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import (
    NAMES,
    PALETTE,
    logits_of,
    pictures,
    small_detector,
    small_model,
    small_task,
)

from kerasdense.boxes.geometry import VARIANCES
from kerasdense.export import parity, predictor
from kerasdense.export.artefact import export
from kerasdense.export.formats import ConversionError
from kerasdense.export.signatures import Form
from kerasdense.export.warmup import REQUESTS, read_warmup_requests
from kerasdense.models.ssd import anchors_of
from kerasdense.tasks.segmentation import Segmentation

TASK = small_task("segmentation")


def facts_of(version):
    return json.loads((version / "assets" / "model.json").read_text())


def test_model_json_of_segmentation(tmp_path):
    run = {"best_epoch": {"epoch": 3, "val_mean_iou": 0.5}}
    version = export(small_model(), TASK, tmp_path / "name", run=run)
    facts = facts_of(version)
    assert facts["format_version"] == 1 and facts["format"] == "saved_model"
    assert facts["task"] == "segmentation" and facts["name"] == "small"
    assert facts["precision"] == "float32"
    assert (facts["class_names"], facts["palette"], facts["run"]) == (NAMES, PALETTE, run)
    assert facts["input"] == {
        "dtype": "uint8", "layout": "BHWC", "color": "RGB", "batch_size": None, "height": None,
        "width": None, "image_size": None, "minimum_side": 1, "padded_side": 64,
        "maximum_pixels": 4096 * 4096,
    }  # fmt: skip
    assert facts["signatures"]["raw"]["outputs"] == {
        "logits": {"dtype": "float32", "shape": [None, None, None, 4]}
    }
    assert facts["signatures"]["encoded"]["inputs"] == {
        "image_bytes": {"dtype": "string", "shape": [None]}
    }
    assert facts["versions"]["keras"] == keras.__version__
    assert facts["postprocessing"] is None
    assert not (version / "assets" / "anchors.npy").exists()


def test_model_json_of_classification(exported_version):
    facts = facts_of(exported_version("classification"))
    assert facts["task"] == "classification" and facts["class_names"] == NAMES[:3]
    assert facts["input"]["minimum_side"] == 1
    assert set(facts["signatures"]) == {"serving_default", "raw", "encoded"}
    for name, output in (("serving_default", "probabilities"), ("raw", "logits")):
        assert facts["signatures"][name]["outputs"] == {
            output: {"dtype": "float32", "shape": [None, 3]}
        }
    other = facts_of(exported_version("classification", "litert"))
    assert set(other["signatures"]) == {"serving_default"} and other["format"] == "litert"


def test_what_decodes_raw_output_stands_in_the_assets_of_a_detector(
    exported_version, exported_predictor
):
    version, detector = exported_version("detection"), small_detector()
    anchors = np.load(version / "assets" / "anchors.npy")
    np.testing.assert_array_equal(anchors, anchors_of(detector))
    facts = facts_of(version)
    assert facts["postprocessing"]["variances"] == list(VARIANCES)
    assert facts["signatures"]["raw"]["outputs"]["raw"]["shape"] == [None, 8732, 2 + 1 + 4]
    assert facts["input"]["minimum_side"] == 1
    raw = exported_predictor("detection").predict_raw(pictures(1, 300, 300))
    assert parity.compare_raw(raw, logits_of(detector, pictures(1, 300, 300)))["relative"] < 1e-4


@pytest.mark.parametrize("kind", ["segmentation", "detection", "classification"])
def test_warm_up_requests_replay(exported_version, kind):
    pytest.importorskip("tensorflow_serving")
    version = exported_version(kind)
    signatures = tf.saved_model.load(str(version)).signatures
    requests = read_warmup_requests(version / REQUESTS)
    assert set(requests) == set(signatures)
    for name, inputs in requests.items():
        outputs = signatures[name](**{key: tf.constant(v) for key, v in inputs.items()})
        assert all(len(value) == 1 for value in outputs.values())


def test_warm_up_requests_have_the_fixed_batch_and_size(tmp_path):
    pytest.importorskip("tensorflow_serving")
    version = export(small_model(), TASK, tmp_path / "name", Form(batch_size=2, size=(96, 64)))
    signatures = tf.saved_model.load(str(version)).signatures
    for name, inputs in read_warmup_requests(version / REQUESTS).items():
        outputs = signatures[name](**{key: tf.constant(v) for key, v in inputs.items()})
        assert all(value.shape[:3] == (2, 96, 64) for value in outputs.values())


def test_an_export_without_warm_up_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorflow_serving", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    version = export(small_model(), TASK, tmp_path / "name")
    assert "kerasdense[serving]" in capsys.readouterr().out
    assert not (version / "assets.extra").exists()


# Of each task all signatures, and then TensorFlow's own tool.
PROGRAM = """
import sys
for name in ("kerasdense", "keras", "PIL"):
    sys.modules[name] = None  # importing it raises ImportError
import numpy, tensorflow as tf
from tensorflow.python.tools import saved_model_cli
folder, *versions = sys.argv[1:]
images = numpy.load(folder + "/images.npy")
files = tf.stack([tf.io.encode_png(image) for image in images])
for version in versions:
    for name, function in sorted(tf.saved_model.load(version).signatures.items()):
        outputs = function(files if name == "encoded" else tf.constant(images))
        print(name, *sorted((key, *value.shape) for key, value in outputs.items()))
for arguments in (["show"], ["run", "--inputs", f"images={folder}/images.npy", "--outdir", folder]):
    place = ["--dir", versions[0], "--tag_set", "serve", "--signature_def", "serving_default"]
    sys.argv = ["saved_model_cli", arguments[0], *place, *arguments[1:]]
    try:
        saved_model_cli.main()
    except SystemExit as end:
        assert not end.code, end.code
"""


def test_signatures_run_where_only_tensorflow_is(tmp_path, exported_version, exported_predictor):
    """And saved_model_cli shows and runs them."""
    images = pictures(2, 64, 70)
    np.save(tmp_path / "images.npy", images)
    kinds = ("segmentation", "detection", "classification")
    versions = [str(exported_version(kind)) for kind in kinds]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), *versions], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    boxes = "('boxes', 2, 200, 4) ('classes', 2, 200) ('num_detections', 2) ('scores', 2, 200)"
    assert lines[:10] == [
        "encoded ('confidence', 2, 64, 70) ('labels', 2, 64, 70)",
        "probabilities ('probabilities', 2, 64, 70, 4)",
        "raw ('logits', 2, 64, 70, 4)",
        "serving_default ('confidence', 2, 64, 70) ('labels', 2, 64, 70)",
        f"encoded {boxes}",
        "raw ('raw', 2, 8732, 7)",
        f"serving_default {boxes}",
        "encoded ('probabilities', 2, 3)",
        "raw ('logits', 2, 3)",
        "serving_default ('probabilities', 2, 3)",
    ]
    assert "inputs['images'] tensor_info" in done.stdout
    assert "outputs['labels'] tensor_info" in done.stdout and "DT_UINT8" in done.stdout
    expected = exported_predictor("segmentation").predict(images)["labels"]
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), expected)


def test_versions_count_up(tmp_path, monkeypatch):
    monkeypatch.setattr("kerasdense.export.artefact._write_warmup", lambda *arguments: None)
    name = tmp_path / "name"
    (name / "9").mkdir(parents=True)
    (name / "notes").mkdir()
    model = small_model()
    assert export(model, TASK, name) == name / "10"
    assert export(model, TASK, str(name), Form("litert")) == name / "11"
    assert sorted(path.name for path in name.iterdir()) == ["10", "11", "9", "notes"]


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()])
def test_an_interrupted_export_leaves_no_version(tmp_path, monkeypatch, error):
    name = tmp_path / "name"
    (name / "1").mkdir(parents=True)
    save = tf.saved_model.save

    def interrupted(served, path, **options):
        save(served, path, **options)
        raise error

    monkeypatch.setattr(tf.saved_model, "save", interrupted)
    with pytest.raises(type(error)):
        export(small_model(), TASK, name)
    assert [path.name for path in name.iterdir()] == ["1"]


def test_no_version_exists_before_it_is_checked(tmp_path):
    """So a kill at any time leaves none."""
    seen = []

    def check(predictor):
        seen.append(predictor.predict(pictures(1, 64, 70))["labels"].shape)
        (aside,) = (tmp_path / "name").iterdir()
        assert aside in predictor.directory.parents
        assert not aside.name[0].isdecimal() and aside.name.startswith(".unfinished_")

    assert export(small_model(), TASK, tmp_path / "name", check=check) == tmp_path / "name" / "1"
    assert seen == [(1, 64, 70)] and [p.name for p in (tmp_path / "name").iterdir()] == ["1"]


def broken_opener(runtime, file, signatures, precision, threads):
    raise RuntimeError("Dilation is not supported.")


def failing_opener(runtime, file, signatures, precision, threads):
    def fails(images):
        raise RuntimeError("Dilation is not supported.")

    return {"serving_default": fails}


def wrong_opener(runtime, file, signatures, precision, threads):
    return {
        "serving_default": lambda images: {
            "labels": np.zeros(images.shape[:3], np.uint8),
            "confidence": np.ones(images.shape[:3], np.float32),
        }
    }


@pytest.mark.parametrize(
    "opener, words",
    [
        (broken_opener, "cannot load model.tflite: Dilation is not supported. The artefact"),
        (failing_opener, "fails on a picture of 192x256: Dilation is not supported."),
        (wrong_opener, "differs from its model: share of the pixels with another label: .*0.001"),
    ],
)
def test_what_fails_its_check_is_not_published(tmp_path, monkeypatch, opener, words):
    pytest.importorskip("ai_edge_litert")
    monkeypatch.setitem(predictor.OPENERS, "litert", opener)
    name = tmp_path / "name"
    (name / "1").mkdir(parents=True)
    with pytest.raises(ValueError, match=f"Nothing was exported into .*name: .*{words}") as caught:
        export(small_model(), TASK, name, Form("litert"))
    assert [path.name for path in name.iterdir()] == ["1"]
    assert ".unfinished_" not in str(caught.value)


@pytest.mark.parametrize("times, published", [(0.9, True), (5, True), (11, False)])
def test_huge_outputs_round_by_more_and_are_told(times, published, monkeypatch, tmp_path, capsys):
    limit = parity.limits(TASK, "float32")["confidence"]
    figures = {"other_labels": 0.0, "margin": 0.0, "confidence": times * limit}
    monkeypatch.setattr(parity, "compare", lambda *arguments: figures)
    name = tmp_path / "name"
    if published:
        assert export(small_model(), TASK, name) == name / "1"
    else:
        with pytest.raises(ValueError, match="difference of confidence: 0.011"):
            export(small_model(), TASK, name)
    assert ("note: it differs" in capsys.readouterr().out) == (1 < times < 10)


def test_a_converter_that_fails_is_named(tmp_path, monkeypatch):
    def convert(converter):
        raise RuntimeError("'tf.Conv2D' op is neither a custom op nor a flex op")

    monkeypatch.setattr(tf.lite.TFLiteConverter, "convert", convert)
    words = r"conversion to litert in float32 fails \(RuntimeError\): 'tf.Conv2D' op is neither"
    with pytest.raises(ConversionError, match=words):
        export(small_model(), TASK, tmp_path / "name", Form("litert"))
    assert not list((tmp_path / "name").iterdir())


def test_exports_at_the_same_time_take_different_numbers(tmp_path, monkeypatch):
    name, rename = tmp_path / "name", os.rename

    def late(source, target):
        if not (name / "1").exists():  # another one was a moment faster
            (name / "1").mkdir()
            (name / "1" / "model.onnx").touch()
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    version = export(small_model(), TASK, name, Form("litert"), check=lambda predictor: None)
    assert version == name / "2" and (version / "model.tflite").exists()
    assert [path.name for path in (name / "1").iterdir()] == ["model.onnx"]


def test_a_file_is_no_place_for_versions(tmp_path):
    (tmp_path / "name").touch()
    with pytest.raises(ValueError, match="name is a file: expected a folder"):
        export(small_model(), TASK, tmp_path / "name")


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    def full(served, path, **options):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", full)
    with pytest.raises(OSError, match="Cannot write the export into .*: No space left"):
        export(small_model(), TASK, tmp_path / "name")


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
        export(small_model(classes=classes), Segmentation(names, palette), tmp_path / "name")
    assert not (tmp_path / "name").exists()


@pytest.mark.parametrize(
    "form, words", [({"format": "caffe"}, "caffe"), ({"size": (0, 96)}, "at least 1")]
)
def test_impossible_forms(tmp_path, form, words):
    with pytest.raises(ValueError, match=words):
        export(small_model(), TASK, tmp_path / "name", Form(**form))
    assert not (tmp_path / "name").exists()


def test_a_version_folder_is_no_place_for_versions(exported_version):
    version = exported_version("segmentation")
    with pytest.raises(ValueError, match="folder above"):
        export(small_model(), TASK, version)
