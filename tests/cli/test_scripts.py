"""The scripts as a user calls them, on a handful of drawn scenes: the whole way, and mistakes."""

import argparse
import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import REPOSITORY
from PIL import Image

from kerasdense.cli import command_line
from kerasdense.data.sources import toy_streets

SCRIPTS = REPOSITORY / "scripts"
TINY = ["--weights", "none", "--blocks", "1,1,1,1", "--size", "64x64", "--batch-size", "2"]


def run(monkeypatch, capsys, name, *arguments):
    """Runs a script in this process: exit status, standard output, standard error."""
    spec = importlib.util.spec_from_file_location(f"script_{name}", SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_of:
        command_line.run(module.main)
    output = capsys.readouterr()
    return exit_of.value.code or 0, output.out, output.err


@pytest.fixture
def script(monkeypatch, capsys):
    return lambda name, *arguments: run(monkeypatch, capsys, name, *arguments)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """Six scenes in the layout of own data, and one fitted run on them."""
    place = tmp_path_factory.mktemp("workplace")
    with pytest.MonkeyPatch.context() as monkeypatch:

        class Quiet:
            readouterr = staticmethod(lambda: type("Output", (), {"out": "", "err": ""}))

        status, *_ = run(
            monkeypatch, Quiet, "make_toy_streets", "--output", place / "toy", "--count", 6
        )
        assert status == 0
        status, *_ = run(monkeypatch, Quiet, "fit_ladder_densenet", *fit_flags(place))
        assert status == 0
    return place


def fit_flags(place, *more):
    return [
        "--dataset", "folder", "--source", place / "toy", "--prepared-dir", place / "prepared",
        "--workdir", place / "run", *TINY, "--epochs", 1, "--steps-per-epoch", 2, *more,
    ]  # fmt: skip


def test_a_run_records_what_was_run(workplace):
    record = json.loads((workplace / "run" / "run.json").read_text())
    assert record["model"]["name"] == "ladder_densenet"
    assert record["arguments"]["size"] == [64, 64]
    assert record["dataset"]["class_names"] == list(toy_streets.CLASSES)
    assert sum(record["dataset"]["splits"].values()) == 6
    assert record["parameters"]["trainable"] == record["parameters"]["groups"][0]["parameters"]


def test_evaluate_writes_the_promised_keys_and_pictures(workplace, script):
    status, out, _ = script("evaluate", "--run", workplace / "run", "--split", "val")
    assert status == 0 and "mean IoU" in out and "pedestrian" in out
    folder = workplace / "run" / "evaluation"
    result = json.loads((folder / "evaluation.json").read_text())
    assert {
        "mean_iou", "per_class_iou", "pixel_accuracy", "confusion_matrix", "images",
    } <= set(result)  # fmt: skip
    assert set(result["per_class_iou"]) == set(toy_streets.CLASSES)
    assert np.sum(result["confusion_matrix"]) == result["images"] * 192 * 256
    assert (folder / "confusion_matrix.png").exists() and list(folder.glob("worst_*.png"))


def test_run_and_saved_model_predict_the_same_label_maps(workplace, script):
    status, out, _ = script(
        "export", "--run", workplace / "run", "--output", workplace / "saved" / "toy"
    )
    assert status == 0 and (workplace / "saved" / "toy" / "1" / "saved_model.pb").exists()
    images = workplace / "toy" / "images"
    for kind, model in (("run", "run"), ("saved-model", "saved/toy")):
        status, _, err = script(
            "predict", f"--{kind}", workplace / model, images, "--output", workplace / kind
        )
        assert status == 0, err
    for path in sorted(images.iterdir()):
        first, second = (
            np.asarray(Image.open(workplace / kind / path.name)) for kind in ("run", "saved-model")
        )
        np.testing.assert_array_equal(first, second)
        assert first.shape == (192, 256) and first.max() < len(toy_streets.CLASSES)


def test_a_broken_picture_is_named_skipped_and_counted(workplace, script, tmp_path):
    good = next((workplace / "toy" / "images").iterdir())
    (tmp_path / "broken.png").write_bytes(good.read_bytes()[:500])
    status, out, err = script(
        "predict", "--run", workplace / "run", good, tmp_path / "broken.png",
        "--output", tmp_path / "out",
    )  # fmt: skip
    assert status == 1 and "broken.png" in err
    assert (tmp_path / "out" / good.name).exists()


def test_resuming_a_complete_run_changes_nothing(workplace, script):
    before = (workplace / "run" / "last.keras").read_bytes()
    status, out, _ = script("fit_ladder_densenet", *fit_flags(workplace))
    assert status == 0 and "is complete" in out
    assert (workplace / "run" / "last.keras").read_bytes() == before


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--size", "32x64"], "--size 32x64 is too small"),
        (["--variant", "32x"], "holds another run: model was"),
        (["--scales", "1"], "--scales expects LOWEST,HIGHEST"),
        (["--train-split", "both"], "no split 'both', but train, val"),
        (["--adversarial-epsilon", "4"], "no effect without --adversarial-steps"),
        (["--dataset", "camwid"], "camvid"),  # lists those that exist
        (["--source", "/nowhere"], "/nowhere"),
        (["--workdir", "/proc/run"], "/proc/run"),
        (["--weights", "/nowhere.h5"], "/nowhere.h5"),
    ],
)
def test_mistakes_give_one_line_and_status_2(workplace, script, tmp_path, flags, words):
    flags = list(flags)
    if flags[0] == "--weights":
        flags += ["--workdir", tmp_path / "new"]
    status, _, err = script("fit_ladder_densenet", *fit_flags(workplace, *flags))
    assert status == 2 and words in err
    assert err.startswith("error: ") and err.count("\n") == 1 and "Traceback" not in err


@pytest.mark.parametrize(
    "train, validation, found",
    [
        (None, "val", "train"),
        ("trainval", "test", "trainval"),
        ("train", "train", "train"),  # to see a model over-fit
        ("trainval", "val", None),
        ("trainval", "train", None),
    ],
)
def test_what_is_trained_on_is_not_validated_on_unnoticed(train, validation, found):
    flags = argparse.Namespace(train_split=train, validation_split=validation)
    splits = dict.fromkeys(("train", "val", "trainval", "test"), 5)
    if found:
        assert command_line._train_split(flags, splits) == found
    else:
        with pytest.raises(ValueError, match="trainval holds the images of"):
            command_line._train_split(flags, splits)


def test_a_loss_that_explodes_names_its_step(workplace, script, tmp_path):
    flags = fit_flags(workplace, "--workdir", tmp_path / "run", "--learning-rate", 1e30)
    flags[flags.index("--steps-per-epoch") + 1] = 6
    status, _, err = script("fit_ladder_densenet", *flags)
    assert status == 2 and "at step" in err and err.count("\n") == 1
    assert not (tmp_path / "run" / "last.keras").exists()


def test_a_fit_on_adversarial_examples_says_so_and_records_it(workplace, script, tmp_path):
    flags = fit_flags(workplace, "--workdir", tmp_path / "run", "--adversarial-steps", 1)
    status, out, err = script("fit_ladder_densenet", *flags)
    assert status == 0, err
    assert "changed by up to 4 gray levels in 1 step(s)" in out
    assert json.loads((tmp_path / "run" / "run.json").read_text())["arguments"][
        "adversarial_steps"
    ] == 1  # fmt: skip


def test_the_other_fit_scripts_take_a_step(workplace, script, tmp_path):
    flags = fit_flags(workplace, "--workdir", tmp_path / "run")
    del flags[flags.index("--blocks") : flags.index("--blocks") + 2]
    flags[flags.index("--steps-per-epoch") + 1] = 1
    status, out, err = script(
        "fit_fcn", *flags, "--backbone", "resnet50", "--skips", "16,8", "--photometric"
    )
    assert status == 0, err
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["model"]["arguments"] == {"output_stride": 32, "skips": [16, 8]}


def test_inspect_model_prints_totals(script):
    status, out, _ = script(
        "inspect_model", "ladder_densenet", "--options", "blocks=1,1,1,1", "--size", "64x64"
    )
    assert status == 0 and "multiply-adds" in out and "stride16" in out
    status, _, err = script("inspect_model", "ladder")
    assert status == 2 and "ladder_densenet121" in err


def test_benchmark_data_prints_a_ratio(workplace, script):
    status, out, _ = script(
        "benchmark", "data", "--dataset", "folder", "--source", workplace / "toy",
        "--prepared-dir", workplace / "prepared", "--size", "64x64", "--images", 16, "--turns", 1,
    )  # fmt: skip
    assert status == 0 and json.loads(out.splitlines()[-1])["ratio"] > 0


def test_benchmark_data_measures_the_pipeline_of_boxes(workplace, script):
    status, out, _ = script(
        "benchmark", "data", "--detection", "--dataset", "folder_detection",
        "--source", workplace / "toy", "--prepared-dir", workplace / "prepared",
        "--images", 16, "--turns", 1,
    )  # fmt: skip
    assert status == 0 and json.loads(out.splitlines()[-1])["ratio"] > 0


@pytest.mark.slow
def test_benchmark_forward_prints_both_times(script):
    for package in ("torch", "torchvision"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    status, out, _ = script("benchmark", "forward", "--turns", 1)
    assert status == 0 and set(json.loads(out.splitlines()[-1])["milliseconds"]) == {
        "kerasdense", "torchvision",
    }  # fmt: skip


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.name)
def test_help_is_quick_to_reach_and_opens_with_the_command(path):
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    blocker = (
        "import runpy, sys; sys.modules['tensorflow'] = sys.modules['keras'] = None; "
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    result = subprocess.run(
        [sys.executable, "-c", blocker, str(path), "--help"],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert f"scripts/{path.name}" in result.stdout
    assert os.access(path, os.X_OK)
