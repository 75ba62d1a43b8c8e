"""`kerasdense export` as a user calls it: what is written, printed, compared, and mistakes."""

import json
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerasdense.benchmarks import xla
from kerasdense.export import artefact, predictor
from kerasdense.training import run_folder

NAMES, PALETTE = ["dark", "bright"], [[0, 0, 0], [255, 255, 255]]


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """The folder of a run of a segmentation model of one layer, which exports quickly."""
    folder = tmp_path_factory.mktemp("small") / "run"
    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    x = keras.layers.Rescaling(1 / 255)(images)
    keras.utils.set_random_seed(0)
    model = keras.Model(images, keras.layers.Conv2D(2, 1, name="logits")(x), name="small")
    dataset = {"name": None, "class_names": NAMES, "palette": PALETTE}
    facts = {"task": "segmentation", "model": {"name": "small"}, "dataset": dataset}
    run_folder.write_run(folder, facts)
    model.save(folder / run_folder.BEST)
    return folder


@pytest.mark.parametrize("task", ["segmentation", "detection", "classification"])
def test_a_run_of_each_task(task, request):
    """The fixture exports; here is what was written."""
    export = request.getfixturevalue(f"{task}_export")
    version = export / "1"
    assert (version / "saved_model.pb").exists() and [version] == list(export.iterdir())
    facts = json.loads((version / predictor.FACTS).read_text())
    assert facts["task"] == task and "serving_default" in facts["signatures"]
    run = run_folder.summary(request.getfixturevalue(f"{task}_run"))
    assert facts["run"] == json.loads(json.dumps(run)) and facts["run"]["best_epoch"]


def test_versions_signatures_and_differences_are_told(small_run, kerasdense, tmp_path):
    arguments = ("export", "--run", small_run, "--output", tmp_path / "name")
    for number in (1, 2):
        status, out, err = kerasdense(*arguments)
        assert status == 0 and f"Wrote {tmp_path / 'name' / str(number)}, " in out, err
    assert "  serving_default: images uint8 [?, ?, ?, 3] -> " in out
    assert "  raw: images uint8 [?, ?, ?, 3] -> logits float32 [?, ?, ?, 2]" in out
    assert "in float32 on a random picture:" in out
    assert "share of the pixels with another label" in out and "difference of confidence" in out


def test_the_form_is_that_of_the_flags(small_run, kerasdense, tmp_path):
    Image.fromarray(np.full((80, 90, 3), 7, np.uint8)).save(tmp_path / "picture.png")
    status, out, err = kerasdense(
        "export", "--run", small_run, "--output", tmp_path / "name", "--batch-size", 2,
        "--size", "64x70", "--precision", "float16", "--image", tmp_path / "picture.png",
    )  # fmt: skip
    assert status == 0, err
    assert "serving_default: images uint8 [2, 64, 70, 3] -> " in out
    assert f"on {tmp_path / 'picture.png'}:" in out  # resized to it
    facts = predictor.Predictor(tmp_path / "name").facts
    assert facts["precision"] == "float16" and facts["input"]["batch_size"] == 2


def test_an_export_that_differs_is_not_published(small_run, kerasdense, monkeypatch, tmp_path):
    predict = predictor.Predictor.predict

    def wrong(self, images):
        outputs = predict(self, images)
        return outputs | {"labels": 1 - outputs["labels"]}

    monkeypatch.setattr(predictor.Predictor, "predict", wrong)
    status, out, err = kerasdense("export", "--run", small_run, "--output", tmp_path / "name")
    assert status == 2 and err.count("\n") == 1 and "Wrote" not in out
    assert err.startswith(f"error: Nothing was exported into {tmp_path / 'name'}: ")
    assert "differs from its model: share of the pixels" in err and "--image" in err
    assert not list((tmp_path / "name").iterdir())


def test_without_its_runtime_an_export_is_not_compared(
    small_run, kerasdense, monkeypatch, tmp_path
):
    def missing(self, directory):
        raise ImportError("needs onnxruntime")

    monkeypatch.setattr(predictor.Predictor, "__init__", missing)
    status, out, _ = kerasdense("export", "--run", small_run, "--output", tmp_path / "name")
    assert status == 0 and "Not compared with the Keras model: needs onnxruntime" in out


def test_a_missing_converter_is_named_before_the_work(small_run, kerasdense, monkeypatch, tmp_path):
    def missing(form):
        raise ImportError(f"{form.format} needs tf2onnx")

    monkeypatch.setattr(artefact.formats, "require", missing)
    arguments = ("--run", small_run, "--output", tmp_path / "name", "--format", "onnx")
    status, _, err = kerasdense("export", *arguments)
    assert (status, err) == (2, "error: onnx needs tf2onnx\n")
    assert not (tmp_path / "name").exists()


@pytest.mark.parametrize(
    "flags, words",
    [
        (("--output", "{file}"), "is a file: expected a folder"),
        (("--image", "/nowhere.png"), "/nowhere.png"),
        (("--output", "/proc/name"), "/proc/name"),
        (("--run", "/nowhere"), "is no run folder"),
        (("--batch-size", "0"), "expected a number above 0, received '0'"),
        (("--format", "torch"), "invalid choice: 'torch'"),
        (("--calibration", "{folder}"), "--calibration is for --precision int8, received float32"),
        (("--source", "{folder}"), "--source is for --precision int8, received float32"),
        (
            ("--precision", "int8", "--format", "litert", "--batch-size", "1", "--size", "64x64")
            + ("--calibration", "{folder}", "--prepared-dir", "{folder}"),
            "--prepared-dir is for the dataset that int8 is fitted to, but --calibration",
        ),
        # What there is none of is told before anything is read or measured.
        (("--precision", "int8"), "There is no saved_model in int8"),
        (
            ("--precision", "int8", "--xla", "auto", "--batch-size", "1", "--size", "64x64"),
            "There is no saved_model in int8",
        ),
        (
            ("--precision", "int8", "--format", "litert", "--calibration", "{folder}"),
            "litert in int8 needs a fixed batch size and size",
        ),
        (
            ("--precision", "int8", "--format", "onnx", "--calibration", "nowhere"),
            "--calibration nowhere is no folder; as a dataset: Unknown dataset",
        ),
        (
            ("--precision", "int8", "--format", "onnx"),
            "the run was fitted on no dataset of ours. Give a dataset or a folder of pictures by "
            "--calibration",
        ),
        (
            ("--precision", "int8", "--format", "onnx", "--calibration", "{folder}"),
            "No images in ",
        ),
    ],
)
def test_mistakes_are_named(small_run, flags, words, kerasdense, tmp_path):
    (tmp_path / "file").touch()
    flags = [flag.format(file=tmp_path / "file", folder=tmp_path) for flag in flags]
    arguments = ("--run", small_run, "--output", tmp_path / "name", *flags)
    status, _, err = kerasdense("export", *arguments)
    assert status == 2 and words in err and "Traceback" not in err
    assert not list((tmp_path / "name").glob("*"))


def in_int8(run, folder, *more):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime.quantization")
    arguments = ("export", "--run", run, "--output", folder, "--format", "onnx")
    return (*arguments, "--precision", "int8", *more)


def test_int8_is_fitted_to_the_pictures_of_a_folder(small_run, kerasdense, tmp_path):
    for level in (10, 200):
        Image.new("RGB", (80, 70), (level, 50, 9)).save(tmp_path / f"{level}.png")
    flags = in_int8(small_run, tmp_path / "name", "--calibration", tmp_path)
    status, out, err = kerasdense(*flags)
    assert status == 0, err
    assert f"int8 is fitted to 2 pictures of {tmp_path}" in out
    assert predictor.Predictor(tmp_path / "name").precision == "int8"


@pytest.mark.slow
def test_int8_is_fitted_to_the_training_split_of_the_run(segmentation_run, kerasdense, tmp_path):
    # Of six scenes, those of training; each other one is held back to judge.
    status, out, err = kerasdense(*in_int8(segmentation_run, tmp_path / "name"))
    assert status == 0, err
    assert "pictures of folder, split train" in out and "split val" not in out
    assert "on the first of these pictures" in out


@pytest.mark.parametrize("ratio, used", [(1.3, True), (0.9, False), (1.04, False)])
def test_xla_is_used_where_it_is_measured_to_be_faster(
    small_run, kerasdense, tmp_path, monkeypatch, ratio, used
):
    measured = {"without": [ratio] * 3, "with XLA": [1.0] * 3}
    monkeypatch.setattr(xla, "in_turns", lambda alternatives, turns: measured)
    arguments = ("export", "--run", small_run, "--output", tmp_path / "name", "--xla", "auto")
    status, out, err = kerasdense(*arguments, "--batch-size", 1, "--size", "64x70")
    assert status == 0, err
    assert f"XLA {'on' if used else 'off'}: {ratio:.2f} times as fast with it" in out
    facts = json.loads((tmp_path / "name" / "1" / predictor.FACTS).read_text())
    assert facts["xla"] is used


def test_xla_auto_is_off_where_it_cannot_compile(small_run, kerasdense, tmp_path, monkeypatch):
    from kerasdense.export.signatures import serve

    def broken(model, task, form):
        if not form.xla:
            return serve(model, task, form)

        def answer(images):
            raise tf.errors.InvalidArgumentError(None, None, "no such operation in XLA")

        return types.SimpleNamespace(serving_default=answer)

    monkeypatch.setattr(xla, "serve", broken)
    arguments = ("export", "--run", small_run, "--output", tmp_path / "name", "--xla", "auto")
    status, out, err = kerasdense(*arguments, "--batch-size", 1, "--size", "64x70")
    assert status == 0, err
    assert "XLA off: it cannot compile this network: no such operation in XLA" in out


@pytest.mark.parametrize(
    "flags, why",
    [
        (("--batch-size", 1), "each shape of the input anew"),
        (("--format", "openvino", "--batch-size", 1, "--size", "64x70"), "saved_model alone"),
    ],
)
def test_xla_auto_is_off_where_it_would_not_pay(small_run, kerasdense, tmp_path, flags, why):
    arguments = ("export", "--run", small_run, "--output", tmp_path / "name", "--xla", "auto")
    status, out, err = kerasdense(*arguments, *flags)
    assert status == 0 and "XLA off: " in out and why in out, err
