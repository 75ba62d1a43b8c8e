"""`kerasdense check-export` as a user calls it, on tiny models."""

import keras
import numpy as np
import pytest
from PIL import Image
from small_models import (
    NAMES,
    PALETTE,
    small_classifier,
    small_detector,
    small_model,
    small_task,
    smooth_pictures,
)

from kerasdense.benchmarks import turns
from kerasdense.data.sources import toy_streets
from kerasdense.export import parity
from kerasdense.export.artefact import export
from kerasdense.export.signatures import Form
from kerasdense.export.warmup import REQUESTS, write_warmup_requests
from kerasdense.training import run_folder

QUICK = ("--turns", 1, "--pictures", 2)
SMALL = (*QUICK, "--batch-sizes", "1,3", "--sizes", "64x80,77x65")
TASK, DETECTION = small_task("segmentation"), small_task("detection")


@pytest.fixture
def check(kerasdense):
    return lambda *arguments: kerasdense("check-export", *arguments)


def write_run(folder, model, task, **dataset):
    dataset = {
        "name": "camvid", "source": None, "class_names": task.class_names, "palette": task.palette,
    } | dataset  # fmt: skip
    facts = {"task": task.name, "model": {"name": "small"}, "dataset": dataset}
    size = task.image_size_of(model)
    run_folder.write_run(folder, facts | {"arguments": {"size": size}})
    model.save(folder / run_folder.BEST)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run of segmentation."""
    return write_run(tmp_path_factory.mktemp("run"), small_model(), TASK)


@pytest.fixture(scope="module")
def detector_run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("detector_run"), small_detector(), DETECTION)


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    return export(small_model(), TASK, tmp_path_factory.mktemp("saved") / "name")


@pytest.fixture(scope="module")
def saved_detector(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved_detector") / "name"
    return export(small_detector(), DETECTION, folder)


def rows(out):
    """The lines of the table, split."""
    return [line.split() for line in out.splitlines() if line[:5].strip().isdecimal()]


def test_an_export_that_agrees(check, saved_model, run):
    status, out, err = check(saved_model.parent, "--run", run, *SMALL)
    assert status == 0 and not err, err
    cases = [(row[0], row[1], row[2]) for row in rows(out)]
    assert cases == [(batch, size, "0.000") for batch in ("1", "3") for size in ("64x80", "77x65")]
    assert "camvid needs a source folder" in out and "random" in out  # what was taken, and why
    assert "PNG files" in out and "raw output" in out and "agrees with its model" in out
    # Requests are written where tensorflow-serving-api is installed.
    assert "warm-up requests" in out
    if (saved_model / REQUESTS).exists():
        assert "answered: serving_default, probabilities, raw, encoded" in out


def test_changed_weights_are_found(check, run, tmp_path):
    model = small_model()
    kernel = model.get_layer("scores").kernel
    kernel.assign(keras.ops.multiply(kernel, [1.0, 1.0, 1.0, 1.1]))
    export(model, TASK, tmp_path / "name")
    status, out, err = check(tmp_path / "name", "--run", run, *SMALL)
    assert status == 1 and len(err.splitlines()) == 1 and err.startswith("error: ")
    # Four cases and the raw output; the PNG files are beside the export's own arrays.
    assert "in 5 of 6 comparisons" in err and "share" in err and "float32" in err
    assert "agrees" not in out


def test_a_run_of_other_classes_or_another_task(check, saved_model, detector_run, tmp_path):
    other = type(TASK)([*NAMES[:3], "sea"], PALETTE)
    write_run(tmp_path, small_model(), other)
    for folder, words in (
        (tmp_path, "its classes are ['road', 'car', 'tree', 'sky'], the run's ["),
        (detector_run, "its task is segmentation, the run's detection"),
    ):
        status, _, err = check(saved_model, "--run", folder, *SMALL)
        assert status == 2 and "is an export of another run" in err and words in err


def test_a_fixed_input_is_all_that_is_compared(check, run, tmp_path):
    export(small_model(), TASK, tmp_path / "name", Form(batch_size=2, size=(70, 90)))
    status, out, err = check(tmp_path / "name", "--run", run, *SMALL)
    assert status == 0, err
    assert [row[:2] for row in rows(out)] == [["2", "70x90"]]
    assert "batches of 2 alone" in out and "70x90 alone" in out


def test_an_export_in_float16_has_its_own_limits(check, run, tmp_path):
    export(small_model(), TASK, tmp_path / "name", Form(precision="float16"))
    status, out, err = check(tmp_path / "name", "--run", run, *SMALL)
    assert status == 0 and "rounding in float16" in out, err


def test_warmup_requests_that_fail(check, saved_model, run):
    pytest.importorskip("tensorflow_serving")
    before = (saved_model / REQUESTS).read_bytes()
    requests = {"serving_default": {"images": np.zeros((1, 8, 0, 3), np.uint8)}}  # no pixel
    write_warmup_requests(saved_model / REQUESTS, requests, "name")
    try:
        status, _, err = check(saved_model, "--run", run, *SMALL)
    finally:
        (saved_model / REQUESTS).write_bytes(before)
    assert status == 1 and "warm-up requests that fail" in err and "too small" in err


def changed_run(folder, detector_run, change):
    """The detector's run with weights that `change(name, weights)` gives its predicting layers."""
    model = keras.models.load_model(detector_run / "best.keras", compile=False)
    for layer in model.layers:
        if layer.name.startswith("head"):
            layer.set_weights(change(layer.name, layer.get_weights()))
    return write_run(folder, model, DETECTION)


@pytest.mark.slow
def test_a_detector(check, detector_run, saved_detector, tmp_path):
    # Of the detector's own size: elsewhere runtimes round a resized pixel up or down, and random
    # weights make much of it.
    for number, picture in enumerate(smooth_pictures(3, 300, 300)):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    flags = (*QUICK, "--images", tmp_path, "--sizes", "300x300", "--batch-sizes", "3")
    status, out, err = check(saved_detector, "--run", detector_run, *flags)
    assert status == 0, err
    # Of 3 pictures every other one is taken; the batch of 3 is filled up with the first.
    ((batch, _, sought, missed, *_),) = rows(out)
    assert "on 2 pictures (3 given)" in out and batch == "3"
    assert int(sought) > 0 and missed == "0.00" and "raw output" in out

    def moved(name, weights):
        return [weights[0], weights[1] + 0.5] if name == "head1_boxes" else weights

    other = changed_run(tmp_path / "other", detector_run, moved)
    status, _, err = check(saved_detector, "--run", other, *flags)
    assert status == 1 and "in 2 of 3 comparisons" in err


def test_a_detector_that_finds_nothing(check, detector_run, saved_detector, tmp_path, monkeypatch):
    Image.fromarray(smooth_pictures(1, 300, 300)[0]).save(tmp_path / "one.png")
    nothing = dict.fromkeys(DETECTION.figures, 0.0)
    monkeypatch.setattr(parity, "compare", lambda *arguments: nothing)
    monkeypatch.setattr(turns, "in_turns", lambda functions, turns: dict.fromkeys(functions, [1.0]))
    flags = (*QUICK, "--images", tmp_path, "--sizes", "300x300", "--batch-sizes", "1")
    status, _, err = check(saved_detector, "--run", detector_run, *flags)
    assert status == 2 and "finds nothing" in err and "--images" in err


def test_a_classifier(check, tmp_path):
    task = small_task("classification")
    folder = write_run(tmp_path / "run", small_classifier(), task)
    export(small_classifier(), task, tmp_path / "name")
    status, out, err = check(tmp_path / "name", "--run", folder, *SMALL)
    assert status == 0 and len(rows(out)) == 4, err
    assert "difference of a probability" in out and "agrees with its model" in out


def test_another_format(check, run, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    export(small_model(), TASK, tmp_path / "name", Form("onnx"))
    status, out, err = check(tmp_path / "name", "--run", run, *SMALL)
    assert status == 0 and "onnx in float32" in out and "raw output" not in out, err


def test_the_pictures_of_the_run_are_the_default(check, toy_folder, prepared_dir, tmp_path):
    task = type(TASK)(list(toy_streets.CLASSES), list(toy_streets.CLASSES.values()))
    model = small_model(classes=len(toy_streets.CLASSES))
    own = {"name": "folder", "source": str(toy_folder), "prepared_dir": str(prepared_dir)}
    folder = write_run(tmp_path / "run", model, task, **own)
    export(model, task, tmp_path / "name")
    status, out, err = check(tmp_path / "name", "--run", folder, *SMALL)
    assert status == 0 and "1 pictures (of the run's validation split)" in out, err
    assert "random" not in out


def test_bad_input(check, saved_model, run, tmp_path):
    def error_of(*arguments):
        status, _, err = check(*arguments)
        assert status == 2
        return err

    assert "holds no exported model" in error_of(tmp_path, "--run", run)
    assert "no run folder" in error_of(saved_model, "--run", tmp_path)
    here = (saved_model, "--run", run, *QUICK)
    assert "No images" in error_of(*here, "--images", tmp_path)
    (tmp_path / "broken.jpg").write_text("no picture")
    assert "Cannot read the image" in error_of(*here, "--images", tmp_path)
    assert "16,777,216 pixels" in error_of(*here, "--sizes", "9000x9000")
    for flag, value in (
        ("--batch-sizes", "0"),
        ("--batch-sizes", "1,two"),
        ("--sizes", "64"),
        ("--sizes", "64x64,"),
        ("--turns", "0"),
        ("--pictures", "-1"),
    ):
        assert flag in error_of(*here, flag, value)


def test_a_runtime_that_fails_is_named(check, saved_model, run, monkeypatch):
    from kerasdense.export.predictor import Predictor

    def fails(self, images):
        raise RuntimeError("unsupported shape")

    monkeypatch.setattr(Predictor, "predict", fails)
    status, _, err = check(saved_model, "--run", run, *SMALL)
    assert status == 1 and "batch 1, 64x80: RuntimeError: unsupported shape" in err
