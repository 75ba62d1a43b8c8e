"""scripts/benchmark.py on tiny models, and what it says to mistakes."""

import json
import re
from importlib import util

import keras
import pytest
from test_folding import randomized
from test_scripts import run

from kerasdense.cli import command_line
from kerasdense.training import run_folder
from kerasdense.models.cost import total_cost
from kerasdense.models.layers import ResizeLike
from kerasdense.models import ladder_densenet, ssd300

TINY = "ladder_densenet:blocks=1,1,1,1"


@pytest.fixture
def script(monkeypatch, capsys):
    return lambda name, *arguments: run(monkeypatch, capsys, name, *arguments)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A run whose model has batch normalization, and logits for three classes."""
    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    x = keras.layers.Rescaling(1 / 255)(images)
    x = keras.layers.Conv2D(4, 3, strides=2)(x)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.BatchNormalization()(x)
    logits = ResizeLike(name="logits")([keras.layers.Conv2D(3, 1)(x), images])
    model = randomized(
        keras.Model(images, {"logits": logits, "auxiliary_logits": -logits}, name="small")
    )
    directory = tmp_path_factory.mktemp("run")
    dataset = {"class_names": ["a", "b", "c"], "palette": [[0, 0, 0]] * 3}
    run_folder.write_run(directory, {"model": "small", "dataset": dataset})
    model.save(directory / run_folder.BEST)
    return directory


def test_export_beside_the_training_graph(run_folder, script):
    status, out, _ = script(
        "benchmark", "export", "--run", run_folder, "--size", "64x70", "--batch-sizes", "1,3",
        "--turns", 2,
    )  # fmt: skip
    assert status == 0
    result = json.loads(out.splitlines()[-1])
    assert result["model"] == "small" and result["size"] == [64, 70]
    assert [batch["batch_size"] for batch in result["batches"]] == [1, 3]
    for batch in result["batches"]:
        assert set(batch["milliseconds"]) == {"training graph", "exported"}
        assert min(batch["milliseconds"].values()) > 0 and batch["ratio"] > 0
        assert 0 < batch["largest_relative_difference"] < 1e-4


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--model", "ladder"], "no model 'ladder'.*atrous_fcn_resnet50"),
        (["--model", "ladder_densenet"], "'blocks'.*--run"),
        (["--run", "nowhere"], "nowhere is no run folder"),
        (["--run", None, "--batch-sizes", "1,0"], "numbers above 0"),
        (["--run", None, "--size", "64x63"], "refuses the batch.* 64 pixels"),
    ],
)
def test_mistakes_of_export(run_folder, script, arguments, words):
    arguments = [run_folder if argument is None else argument for argument in arguments]
    status, _, err = script("benchmark", "export", *arguments)
    assert status == 2 and len(err.splitlines()) == 1
    assert re.search(words, err), err


def test_attacks_and_adversarial_training_beside_passes(run_folder, script):
    status, out, err = script(
        "benchmark", "attack", "--run", run_folder, "--size", "64x70", "--steps", 3, "--turns", 1
    )
    assert status == 0, err
    result = json.loads(out.splitlines()[-1])
    assert result["model"] == "small"
    assert set(result["milliseconds"]) == {"attack", "passes", "K = 0", "K = 1", "K = 3"}
    assert min(result["ratio"], result["K = 1"], result["K = 3"]) > 0


def test_cost_counts_each_model_and_measures_its_step(script):
    dilated = f"{TINY}:output_stride=8"
    status, out, err = script(
        "benchmark", "cost", "--models", TINY, dilated, "--size", "64x96", "--turns", 1
    )
    assert status == 0, err
    result = json.loads(out.splitlines()[-1])
    assert list(result) == [TINY, dilated]
    for name, output_stride in ((TINY, 32), (dilated, 8)):
        counted = total_cost(ladder_densenet((1, 1, 1, 1), 19, output_stride), (64, 96))
        assert result[name] | counted == result[name]
        assert result[name]["milliseconds"] > 0
    assert f"{total_cost(ladder_densenet((1, 1, 1, 1), 19), (64, 96))['parameters']:,}" in out


def test_cost_without_a_step(script):
    status, out, _ = script("benchmark", "cost", "--models", "ssd300", "--counted-only")
    assert status == 0
    # At its own size, whatever the --size. The first convolution: 300 x 300 x 64 outputs, each over
    # 3 x 3 x 3 inputs; the second: the same number over 3 x 3 x 64.
    macs = json.loads(out.splitlines()[-1])["ssd300"]["macs"]
    assert macs == total_cost(ssd300(19, weights=None), (300, 300))["macs"]
    assert macs > 300 * 300 * 64 * 9 * (3 + 64)


def test_a_grid_of_steps_and_a_row_that_fails(script):
    status, out, _ = script(
        "benchmark", "infer", "--models", TINY, f"{TINY}:prediction_stride=3",
        "--sizes", "64x64", "--batch-sizes", "2", "--turns", 1, "--steps", 1,
    )  # fmt: skip
    assert status == 1
    good, bad = json.loads(out.splitlines()[-1])
    assert good["batch_size"] == 2 and good["images_per_second"] > 0
    assert "prediction_stride" in bad["failed"] and "failed: infer ladder_densenet" in out


def test_evaluation_is_timed(script):
    status, out, err = script(
        "benchmark", "evaluation", "--images", 5, "--size", "64x64", "--model", TINY, "--turns", 1
    )
    assert status == 0, err
    result = json.loads(out.splitlines()[-1])
    assert result["detections"] == 1000 and result["objects"] == 25
    assert min(result["voc_seconds"], result["coco_seconds"], result["mean_iou_adds"]) > 0


def test_data_beside_decoding_and_how_a_model_waits_for_it(script, tmp_path):
    status, *_ = script("make_toy_streets", "--output", tmp_path / "toy", "--count", 6)
    assert status == 0
    status, out, err = script(
        "benchmark", "data", "--dataset", "folder", "--source", tmp_path / "toy",
        "--prepared-dir", tmp_path / "prepared", "--size", "64x64", "--batch-size", 2,
        "--images", 8, "--turns", 1, "--model", TINY, "--steps", 2,
    )  # fmt: skip
    assert status == 0, err
    result = json.loads(out.splitlines()[-1])
    assert min(result["images_per_second"].values()) > 0
    assert 0 <= result["waits"] < 1 and result["constant_over_fed"] > 0


def test_peers_that_are_not_installed(script, monkeypatch):
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    status, out, err = script("benchmark", "peers")
    assert status == 2 and "install torch and torchvision, or keras-hub" in err
    assert "torchvision is not installed" in out and "keras_hub is not installed" in out


@pytest.mark.skipif(util.find_spec("torchvision") is None, reason="torchvision is not installed")
def test_torchvision_does_the_same_work(script):
    status, out, err = script(
        "benchmark", "peers", "--size", "64x64", "--works", "train", "--turns", 1, "--steps", 1
    )
    assert status == 0, err
    ours, theirs = json.loads(out.splitlines()[-1])[0]["rows"].values()
    # Theirs strides by the 3x3, ours by the 1x1 before it; parameters but for unused biases.
    assert theirs["macs"] == pytest.approx(ours["macs"], rel=0.1)
    assert theirs["parameters"] == pytest.approx(ours["parameters"], rel=0.01)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["train", "--batch-sizes", "0"], "numbers above 0"),
        (["data", "--dataset", "toy_streets", "--model", "ssd300"], "expected ssd300 with"),
    ],
)
def test_mistakes_of_the_others(script, monkeypatch, arguments, words):
    monkeypatch.setattr("kerasdense.datasets.load", lambda *arguments: None)
    status, _, err = script("benchmark", *arguments)
    assert status == 2 and re.search(words, err), err


@pytest.mark.parametrize("arguments", [["--backends", "torch"], ["--models", "ssd300:width"]])
def test_flags_that_argparse_refuses(script, arguments):
    status, _, err = script("benchmark", "train", *arguments)
    assert status == 2 and "expected" in err


def test_a_model_on_the_command_line():
    model = command_line.model("fcn_vgg16:skips=16,8:fc_width=8:name=mine")
    assert model.name == "fcn_vgg16"
    assert model.options == {"skips": (16, 8), "fc_width": 8, "name": "mine"}
    options = command_line.model("ssd300:width=0.25:scales=coco:clip_anchors=true").options
    assert options == {"width": 0.25, "scales": "coco", "clip_anchors": True}
    assert command_line.model("a:blocks=1:skips=8").options == {"blocks": (1,), "skips": (8,)}
