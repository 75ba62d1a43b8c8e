"""check_export and compare_formats as a user calls them, on tiny models."""

import importlib.util

import keras
import numpy as np
import pytest
from PIL import Image
from test_export import NAMES, PALETTE, small_detector, small_model, smooth_pictures
from test_scripts import SCRIPTS, run

from kerasdense.training import run_folder
from kerasdense.export.artefact import export
from kerasdense.export.warmup import REQUESTS, write_warmup_requests

QUICK = ("--turns", 1, "--pictures", 2)
SMALL = (*QUICK, "--batch-sizes", "1,3", "--sizes", "64x80,77x65")
BOXES = ["cell", "plate"]


def load(name):
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def script(monkeypatch, capsys):
    return lambda *arguments: run(monkeypatch, capsys, "check_export", *arguments)


def write_run(folder, model, names, palette, task, **dataset):
    dataset = {"name": "camvid", "source": None, "class_names": names, "palette": palette} | dataset
    run_folder.write_run(folder, {"task": task, "model": {"name": "small"}, "dataset": dataset})
    model.save(folder / "best.keras")
    return folder


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return write_run(folder, small_model(), NAMES, PALETTE, "segmentation")


@pytest.fixture(scope="module")
def detector_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detector_run")
    return write_run(folder, small_detector(), BOXES, PALETTE[:2], "detection")


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    return export(small_model(), tmp_path_factory.mktemp("saved") / "name", NAMES, PALETTE)


@pytest.fixture(scope="module")
def saved_detector(tmp_path_factory):
    name = tmp_path_factory.mktemp("saved_detector") / "name"
    return export(small_detector(), name, BOXES, PALETTE[:2])


def rows(out):
    """The lines of the table, split."""
    return [line.split() for line in out.splitlines() if line[:5].strip().isdecimal()]


def test_an_export_that_agrees(script, saved_model, run_folder):
    status, out, err = script(saved_model.parent, "--run", run_folder, *SMALL)
    assert status == 0 and not err, err
    cases = [(row[0], row[1], row[2]) for row in rows(out)]
    assert cases == [
        (batch, size, "100.000") for batch in ("1", "3") for size in ("64x80", "77x65")
    ]
    assert "camvid needs a source folder" in out and "random" in out  # what was taken, and why
    assert "PNG files" in out and "raw output" in out and "agrees with its model" in out
    # Requests are written where tensorflow-serving-api is installed.
    assert "warm-up requests" in out
    if (saved_model / REQUESTS).exists():
        assert "answered: serving_default, probabilities, raw, encoded" in out


def test_changed_weights_are_found(script, run_folder, tmp_path):
    model = small_model()
    kernel = model.get_layer("scores").kernel
    kernel.assign(keras.ops.multiply(kernel, [1.0, 1.0, 1.0, 1.1]))
    export(model, tmp_path / "name", NAMES, PALETTE)
    status, out, err = script(tmp_path / "name", "--run", run_folder, *SMALL)
    assert status == 1 and len(err.splitlines()) == 1 and err.startswith("error: ")
    # Four cases and the raw output; the PNG files are beside the export's own arrays.
    assert "in 5 of 6 comparisons" in err and "share" in err and "float32" in err
    assert "agrees" not in out


def test_a_run_of_other_classes_or_another_task(script, saved_model, detector_folder, tmp_path):
    write_run(tmp_path, small_model(), [*NAMES[:3], "sea"], PALETTE, "segmentation")
    for folder, word in ((tmp_path, "classes are"), (detector_folder, "task is")):
        status, _, err = script(saved_model, "--run", folder, *SMALL)
        assert status == 2 and "another run" in err and word in err


def test_a_fixed_input_is_all_that_is_compared(script, run_folder, tmp_path):
    export(small_model(), tmp_path / "name", NAMES, PALETTE, batch_size=2, size=(70, 90))
    status, out, err = script(tmp_path / "name", "--run", run_folder, *SMALL)
    assert status == 0, err
    assert [row[:2] for row in rows(out)] == [["2", "70x90"]]
    assert "batches of 2 alone" in out and "70x90 alone" in out


def test_an_export_in_float16_has_its_own_limits(script, run_folder, tmp_path):
    export(small_model(), tmp_path / "name", NAMES, PALETTE, precision="float16")
    status, out, err = script(tmp_path / "name", "--run", run_folder, *SMALL)
    assert status == 0 and "rounding in float16" in out, err


def test_warmup_requests_that_fail(script, run_folder, tmp_path):
    pytest.importorskip("tensorflow_serving")
    version = export(small_model(), tmp_path / "name", NAMES, PALETTE)
    requests = {"serving_default": {"images": np.zeros((1, 8, 8, 3), np.uint8)}}  # below 64 pixels
    write_warmup_requests(version / REQUESTS, requests, "name")
    status, _, err = script(version, "--run", run_folder, *SMALL)
    assert status == 1 and "warm-up requests that fail" in err and "too small" in err


def changed_run(folder, detector_folder, change):
    """The detector's run with weights that `change(name, weights)` gives its predicting layers."""
    model = keras.models.load_model(detector_folder / "best.keras", compile=False)
    for layer in model.layers:
        if layer.name.startswith("head"):
            layer.set_weights(change(layer.name, layer.get_weights()))
    return write_run(folder, model, BOXES, PALETTE[:2], "detection")


def test_a_detector(script, detector_folder, saved_detector, tmp_path):
    # Of the detector's own size: elsewhere runtimes round a resized pixel up or down, and random
    # weights make much of it.
    for number, picture in enumerate(smooth_pictures(3, 300, 300)):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    flags = (*QUICK, "--images", tmp_path, "--sizes", "300x300", "--batch-sizes", "3")
    status, out, err = script(saved_detector, "--run", detector_folder, *flags)
    assert status == 0, err
    # Of 3 pictures every other one is taken; the batch of 3 is filled up with the first.
    ((batch, _, sought, found, *_),) = rows(out)
    assert "on 2 pictures: of the 3 given" in out and batch == "3"
    assert int(sought) > 0 and found == "100.00" and "raw output" in out

    def moved(name, weights):
        return [weights[0], weights[1] + 0.5] if name == "head1_boxes" else weights

    other = changed_run(tmp_path / "other", detector_folder, moved)
    status, _, err = script(saved_detector, "--run", other, *flags)
    assert status == 1 and "in 2 of 3 comparisons" in err

    def background(name, weights):
        if name.endswith("_boxes"):
            return weights
        return [0 * weights[0], np.tile([50.0, 0.0, 0.0], len(weights[1]) // 3)]

    other = changed_run(tmp_path / "blind", detector_folder, background)
    status, _, err = script(saved_detector, "--run", other, *flags)
    assert status == 2 and "finds nothing" in err and "--images" in err


def test_a_detector_of_another_format(script, detector_folder, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    Image.fromarray(smooth_pictures(1, 300, 300)[0]).save(tmp_path / "one.png")
    model = keras.models.load_model(detector_folder / "best.keras", compile=False)
    export(model, tmp_path / "name", BOXES, PALETTE[:2], format="onnx")
    flags = (*QUICK, "--images", tmp_path / "one.png", "--sizes", "300x300", "--batch-sizes", "2")
    status, out, err = script(tmp_path / "name", "--run", detector_folder, *flags)
    assert status == 0 and "onnx in float32" in out and "raw output" not in out, err


def test_the_pictures_of_the_run_are_the_default(
    script, saved_model, tmp_path, monkeypatch, capsys
):
    toy = tmp_path / "toy"
    status, *_ = run(monkeypatch, capsys, "make_toy_streets", "--output", toy, "--count", 4)
    assert status == 0
    own = {"name": "folder", "source": str(toy), "prepared_dir": str(tmp_path / "prepared")}
    write_run(tmp_path / "run", small_model(), NAMES, PALETTE, "segmentation", **own)
    status, out, err = script(saved_model, "--run", tmp_path / "run", *SMALL)
    assert status == 0 and "validation split" in out and "random" not in out, err


def test_bad_input(script, saved_model, run_folder, tmp_path):
    def error_of(*arguments):
        status, _, err = script(*arguments)
        assert status == 2
        return err

    assert "holds no exported model" in error_of(tmp_path, "--run", run_folder)
    assert "no run folder" in error_of(saved_model, "--run", tmp_path)
    here = (saved_model, "--run", run_folder, *QUICK)
    assert "No images" in error_of(*here, "--images", tmp_path)
    (tmp_path / "broken.jpg").write_text("no picture")
    assert "Cannot read the image" in error_of(*here, "--images", tmp_path)
    assert "at least 64" in error_of(*here, "--sizes", "64x63")
    for flag, value in (
        ("--batch-sizes", "0"),
        ("--batch-sizes", "1,two"),
        ("--sizes", "64"),
        ("--sizes", "64x64,"),
        ("--turns", "0"),
        ("--pictures", "-1"),
    ):
        assert flag in error_of(*here, flag, value)


def test_a_runtime_that_fails_is_named(script, saved_model, run_folder, monkeypatch):
    from kerasdense.export.predictor import Predictor

    def fails(self, images):
        raise RuntimeError("unsupported shape")

    monkeypatch.setattr(Predictor, "predict", fails)
    status, _, err = script(saved_model, "--run", run_folder, *SMALL)
    assert status == 1 and "batch 1, 64x80: RuntimeError: unsupported shape" in err


# --- compare_formats ---------------------------------------------------------------------------


@pytest.fixture
def compare_formats(monkeypatch, capsys):
    flags = ("--quick", "--turns", 1, "--formats")
    return lambda *arguments: run(monkeypatch, capsys, "compare_formats", *flags, *arguments)


def cells(out):
    """{model: cells} of the Markdown table."""
    heading, line, *rows = ([part.strip() for part in row.split("|")] for row in out.splitlines())
    assert heading[1] == "model" and set("".join(line)) == {"-"}
    assert all(len(row) == len(heading) for row in (line, *rows))
    return {row[1]: row[2:-1] for row in rows}


@pytest.mark.slow
def test_the_table_of_formats(compare_formats):
    name = "ladder_densenet121_4x"
    status, out, err = compare_formats("saved_model", "--models", name)
    (row,) = cells(out).values()
    assert status == 0 and len(row) == 2 and list(cells(out)) == [name], err
    assert all(text.startswith("ok ") and text.endswith("x") for text in row), out


def test_a_cell_that_fails_is_the_exit_status(compare_formats, monkeypatch):
    from kerasdense.export import artefact as module

    def refuses(model, directory, classes, palette, format, precision):
        raise ValueError("not in | float16\nbut") if precision == "float16" else RuntimeError("no")

    monkeypatch.setattr(module, "export", refuses)
    status, out, _ = compare_formats("onnx", "--models", "ladder_densenet121_32x")
    expected = ["FAILS: export: RuntimeError: no", "refused: not in / float16"]
    assert status == 1 and cells(out) == {"ladder_densenet121_32x": expected}


def test_cells(monkeypatch):
    from kerasdense.export import comparison, predictor
    from kerasdense.export import artefact as module

    cell = load("compare_formats").cell

    def cell_if(owner, name, result, precision="float32"):
        def fake(*arguments):
            if isinstance(result, Exception):
                raise result
            return result

        monkeypatch.setattr(owner, name, fake)
        return cell(None, comparison.Reference, None, "onnx", precision, turns=1)

    needs = ImportError("needs tf2onnx")
    assert cell_if(module, "export", needs) == "not installed: needs tf2onnx"
    monkeypatch.setattr(module, "export", lambda *arguments: "version")
    assert cell_if(prediction, "Predictor", needs) == "not installed: needs tf2onnx"
    # What was exported a moment ago is to be loaded.
    damaged = ValueError("damaged")
    assert cell_if(prediction, "Predictor", damaged) == "FAILS: ValueError: damaged"
    monkeypatch.setattr(prediction, "Predictor", lambda version: comparison.Reference)
    monkeypatch.setattr(comparison, "latencies", lambda functions, turns: (0.2, 0.3))
    assert cell_if(comparison, "compare", {"confidence": 0.0}) == "ok 1.5x"
    bad = {"confidence": 0.01}  # for float32, not for float16
    assert cell_if(comparison, "compare", bad).startswith("FAILS: difference of confidence")
    assert cell_if(comparison, "compare", bad, "float16") == "ok 1.5x"


def test_unknown_models_and_formats(compare_formats):
    for arguments in (("saved_model", "--models", "ssd300,unet"), ("torch",)):
        status, _, err = compare_formats(*arguments)
        assert status == 2 and "expected some of" in err
