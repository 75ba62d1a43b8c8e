"""What scripts/benchmark.py measures by, and an export beside the training graph it comes from."""

import json
import re
import runpy

import keras
import pytest
from conftest import REPOSITORY
from test_folding import randomized
from test_scripts import run

from kerasdense import runs
from kerasdense.layers import ResizeLike


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
    runs.write_run(directory, {"model": "small", "dataset": dataset})
    model.save(directory / runs.BEST)
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


def test_alternatives_take_turns_and_the_first_turns_do_not_count():
    in_turns = runpy.run_path(REPOSITORY / "scripts" / "benchmark.py")["in_turns"]
    calls = []
    alternatives = {name: lambda name=name: calls.append(name) for name in "ab"}
    seconds = in_turns(alternatives, turns=3, warm_up=2)
    assert calls == ["a", "b"] * 5
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}


def test_the_ratio_is_the_median_over_the_turns():
    times_as_fast = runpy.run_path(REPOSITORY / "scripts" / "benchmark.py")["times_as_fast"]
    # 6 / 2, 4 / 4 and 1 / 2 times as fast
    assert times_as_fast("a", "b", {"a": [2, 4, 2], "b": [6, 4, 1]}) == 1
