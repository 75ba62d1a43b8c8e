"""kerasdense benchmark on tiny models, and what it says to mistakes."""

import inspect
import json
import re
from importlib import util

import keras
import pytest

from kerasdense.cli import benchmark
from kerasdense.export import processor
from kerasdense.models import ladder_densenet, ssd300
from kerasdense.models.cost import total_cost
from kerasdense.models.layers import ResizeLike
from kerasdense.training import run_folder

TINY = "ladder_densenet:blocks=1,1,1,1"
TINY_CLASSIFIER = "densenet_classifier:blocks=1,1,1,1"


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """A run whose model has batch normalization, and logits for three classes."""
    keras.utils.set_random_seed(0)
    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    x = keras.layers.Rescaling(1 / 255)(images)
    x = keras.layers.Conv2D(4, 3, strides=2)(x)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.BatchNormalization()(x)
    logits = ResizeLike(name="logits")([keras.layers.Conv2D(3, 1)(x), images])
    model = keras.Model(images, {"logits": logits, "auxiliary_logits": -logits}, name="small")
    for variable in model.non_trainable_variables:  # else batch normalization does almost nothing
        if "moving" in variable.path:
            variable.assign(keras.random.uniform(variable.shape, 0.5, 2))
    directory = tmp_path_factory.mktemp("run")
    dataset = {"class_names": ["a", "b", "c"], "palette": [[0, 0, 0]] * 3}
    run_folder.write_run(directory, {"model": "small", "dataset": dataset})
    model.save(directory / run_folder.BEST)
    return directory


@pytest.fixture
def measured(kerasdense):
    """`measured("cost", ...)` -> the JSON of a benchmark that succeeds, and all its output."""

    def run(*arguments):
        status, out, err = kerasdense("benchmark", *arguments)
        assert status == 0, err
        return json.loads(out.splitlines()[-1]), out

    return run


@pytest.mark.slow
def test_exports_beside_their_model(small_run, measured):
    result, out = measured(
        "export", "--run", small_run, "--size", "64x70", "--batch-sizes", "1,3", "--turns", 2,
        "--formats", "saved_model,litert", "--precisions", "float32,bfloat16",
    )  # fmt: skip
    assert result["model"] == "small" and result["size"] == [64, 70]
    assert [batch["batch_size"] for batch in result["batches"]] == [1, 3]
    rows = {"Keras model, float32", "saved_model, float32", "saved_model, bfloat16"}
    for batch in result["batches"]:
        assert set(batch["milliseconds"]) == rows | {"litert, float32"}
        assert min(batch["milliseconds"].values()) > 0
    assert "litert, bfloat16: left out. There is no litert in bfloat16: " in out
    assert "No accuracy is measured: " in out and not result["accuracy"], "it has no dataset"


def test_exports_are_measured_on_the_validation_split(segmentation_run, measured):
    result, out = measured(
        "export", "--run", segmentation_run, "--size", "64x70", "--batch-sizes", 1, "--turns", 1,
        "--formats", "saved_model", "--images", 1,
    )  # fmt: skip
    assert "accuracy: mean_iou of the first 1 pictures of folder, split val" in out
    fitted, exported = result["accuracy"].values()
    assert fitted == pytest.approx(exported, abs=0.01)
    assert f"{100 * exported:.2f} %" in out


@pytest.mark.parametrize(
    "sizes, left_out", [pytest.param((1,), False, marks=pytest.mark.slow), ((1, 2), True)]
)
def test_litert_in_int8_is_fixed_to_the_one_size_measured(
    segmentation_run, measured, sizes, left_out
):
    result, out = measured(
        "export", "--run", segmentation_run, "--size", "64x64", "--turns", 1, "--images", 1,
        "--batch-sizes", ",".join(map(str, sizes)), "--formats", "litert", "--precisions", "int8",
    )  # fmt: skip
    assert ("litert, int8" in result["batches"][0]["milliseconds"]) is not left_out
    assert ("needs a fixed batch size and size" in out) is left_out
    # The pictures of the validation split are larger.
    assert ("litert, int8: its accuracy is not measured." in out) is not left_out


@pytest.mark.slow
def test_export_of_a_model_with_random_weights(measured):
    model = "ssd300:width=0.015625"
    result, _ = measured("export", "--model", model, "--batch-sizes", 1, "--turns", 1)
    assert result["model"] == "ssd300" and result["size"] == [300, 300]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--model", "ladder"], "no model 'ladder'.*atrous_fcn_resnet50"),
        (["--model", "ladder_densenet"], "'blocks'.*--run"),
        (["--run", "nowhere"], "nowhere is no run folder"),
    ],
)
def test_mistakes_of_export(small_run, kerasdense, arguments, words):
    arguments = [small_run if argument is None else argument for argument in arguments]
    status, _, err = kerasdense("benchmark", "export", *arguments)
    assert status == 2 and len(err.splitlines()) == 1
    assert re.search(words, err), err


@pytest.mark.slow
def test_attacks_and_adversarial_training_beside_passes(small_run, measured):
    result, _ = measured(
        "attack", "--run", small_run, "--size", "64x70", "--steps", 3, "--turns", 1
    )
    assert result["model"] == "small"
    assert set(result["milliseconds"]) == {"attack", "passes", "K = 0", "K = 1", "K = 3"}
    assert min(result["ratio"], result["K = 1"], result["K = 3"]) > 0


def test_attack_needs_label_maps(kerasdense):
    status, _, err = kerasdense("benchmark", "attack", "--model", TINY_CLASSIFIER)
    assert status == 2 and "densenet_classifier is no segmentation model" in err


@pytest.mark.slow
def test_cost_counts_each_model_and_measures_its_step(measured):
    dilated = f"{TINY}:output_stride=8"
    result, out = measured("cost", "--models", TINY, dilated, "--size", "64x96", "--turns", 1)
    assert list(result) == [TINY, dilated]
    for name, output_stride in ((TINY, 32), (dilated, 8)):
        counted = total_cost(ladder_densenet((1, 1, 1, 1), 19, output_stride), (64, 96))
        assert result[name] | counted == result[name]
        assert result[name]["milliseconds"] > 0
    assert f"{total_cost(ladder_densenet((1, 1, 1, 1), 19), (64, 96))['parameters']:,}" in out


def test_cost_without_a_step(measured):
    result, _ = measured("cost", "--models", "ssd300", "--counted-only")
    # At its own size, whatever the --size. The first convolution: 300 x 300 x 64 outputs, each over
    # 3 x 3 x 3 inputs; the second: the same number over 3 x 3 x 64.
    macs = result["ssd300"]["macs"]
    assert macs == total_cost(ssd300(19, weights=None), (300, 300))["macs"]
    assert macs > 300 * 300 * 64 * 9 * (3 + 64)


@pytest.mark.slow
def test_a_grid_of_steps_and_a_row_that_fails(kerasdense):
    status, out, _ = kerasdense(
        "benchmark", "infer", "--models", TINY, f"{TINY}:prediction_stride=3",
        "--sizes", "64x64", "--batch-sizes", "2", "--turns", 1, "--steps", 1,
    )  # fmt: skip
    assert status == 1
    good, bad = json.loads(out.splitlines()[-1])
    assert good["batch_size"] == 2 and good["images_per_second"] > 0
    assert "prediction_stride" in bad["failed"] and "failed: infer ladder_densenet" in out


def test_a_grid_has_a_row_for_each_combination():
    from kerasdense.benchmarks.steps import Grid

    backends, precisions = ("tensorflow", "jax"), ("float32", "mixed_bfloat16")
    models = [benchmark.model("fcn_vgg16:skips=16,8")]
    grid = Grid("train", models, ((64, 64),), (2,), 5, precisions, ("off", "on"), backends)
    rows = grid.rows((64, 64), 2)
    # JAX always compiles: it has no rows without.
    assert list(rows) == [
        "fcn_vgg16:skips=16,8 tensorflow float32",
        "fcn_vgg16:skips=16,8 tensorflow float32 XLA",
        "fcn_vgg16:skips=16,8 tensorflow mixed_bfloat16",
        "fcn_vgg16:skips=16,8 tensorflow mixed_bfloat16 XLA",
        "fcn_vgg16:skips=16,8 jax float32 XLA",
        "fcn_vgg16:skips=16,8 jax mixed_bfloat16 XLA",
    ]
    last = rows["fcn_vgg16:skips=16,8 jax mixed_bfloat16 XLA"]
    assert (last.work, last.model, last.options) == ("train", "fcn_vgg16", {"skips": (16, 8)})
    assert (last.size, last.batch_size, last.classes) == ((64, 64), 2, 5)
    assert (last.precision, last.xla, last.backend) == ("mixed_bfloat16", True, "jax")


def test_evaluation_is_timed(measured):
    result, _ = measured(
        "evaluation", "--images", 5, "--size", "64x64", "--model", TINY, "--turns", 1
    )
    assert result["detections"] == 1000 and result["objects"] == 25
    assert min(result["voc_seconds"], result["coco_seconds"], result["mean_iou_adds"]) > 0


@pytest.fixture
def toy_data(toy_folder, prepared_dir):
    """Flags of `data`: the dataset of this name, and little of it."""

    def flags(dataset):
        return (
            "data", "--dataset", dataset, "--source", toy_folder, "--prepared-dir", prepared_dir,
            "--size", "64x64", "--batch-size", 2, "--images", 8, "--turns", 1,
        )  # fmt: skip

    return flags


@pytest.mark.slow
def test_data_beside_decoding_and_how_a_model_waits_for_it(measured, toy_data):
    result, _ = measured(*toy_data("folder"), "--model", TINY, "--steps", 2)
    assert min(result["images_per_second"].values()) > 0
    assert 0 <= result["waits"] < 1 and result["constant_over_fed"] > 0


def test_data_without_a_model_is_that_of_label_maps(measured, toy_data):
    result, _ = measured(*toy_data("folder"), "--photometric")
    assert result["ratio"] > 0 and "waits" not in result


@pytest.mark.slow
def test_data_of_boxes(measured, toy_data):
    result, _ = measured(*toy_data("folder_detection"), "--detection")
    assert result["ratio"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("model, name", [
    ("ssd300:width=0.015625", "ssd300"), (TINY_CLASSIFIER, "densenet_classifier"),
])  # fmt: skip
def test_the_model_decides_what_is_read(measured, toy_data, model, name):
    result, _ = measured(*toy_data("folder_detection"), "--model", model, "--steps", 1)
    assert result["model"] == name and result["ratio"] > 0


def test_mistakes_of_data(kerasdense, toy_data):
    for dataset, flags, words in (
        ("folder_detection", ["--detection", "--model", TINY_CLASSIFIER], "expected ssd300 or"),
        ("folder_detection", [], "holds no mask"),
        ("folder", ["--scales", "1"], "expects LOWEST,HIGHEST, received 1 numbers"),
    ):
        status, _, err = kerasdense("benchmark", *toy_data(dataset), *flags)
        assert status == 2 and len(err.splitlines()) == 1 and words in err, err


def test_peers_that_are_not_installed(kerasdense, monkeypatch):
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    status, out, err = kerasdense("benchmark", "peers")
    assert status == 2 and "install torch and torchvision, or keras-hub" in err
    assert "torchvision is not installed" in out and "keras_hub is not installed" in out


@pytest.mark.slow
@pytest.mark.skipif(util.find_spec("torchvision") is None, reason="torchvision is not installed")
def test_torchvision_does_the_same_work(measured):
    results, out = measured(
        "peers", "--size", "64x64", "--works", "train", "--precisions", "float32", "--turns", 1,
        "--steps", 1,
    )  # fmt: skip
    result = next(each for each in results if "output stride 8" in each["comparison"])
    ours, theirs = result["rows"]["float32 kerasdense Keras"], result["rows"]
    theirs = theirs["float32 torchvision eager"]
    # Theirs strides by the 3x3, ours by the 1x1 before it; parameters but for unused biases.
    assert theirs["macs"] == pytest.approx(ours["macs"], rel=0.1), out
    assert theirs["parameters"] == pytest.approx(ours["parameters"], rel=0.01)
    assert min(ours["milliseconds"], theirs["milliseconds"]) > 0
    (best,) = result["best"]
    assert best["of_theirs"] == ours["of_theirs"] > 0


def test_formats_takes_the_models_and_formats_named(kerasdense, monkeypatch):
    from kerasdense.benchmarks import formats

    monkeypatch.setattr(formats, "benchmark", lambda *arguments: print(arguments) or 1)
    status, out, _ = kerasdense("benchmark", "formats", "--models", TINY, "--formats", "onnx")
    assert status == 1 and TINY in out and "('onnx',), ('float32', 'float16'), 5)" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--backends", "torch"],
        ["train", "--models", "ssd300:width"],
        ["train", "--batch-sizes", "1,0"],
        ["export", "--run", "runs/any", "--batch-sizes", "1,0"],
        ["formats", "--formats", "torch"],
    ],
    ids=" ".join,
)
def test_flags_that_argparse_refuses(kerasdense, arguments):
    status, _, err = kerasdense("benchmark", *arguments)
    assert status == 2 and "expected" in err


def test_a_model_on_the_command_line():
    model = benchmark.model("fcn_vgg16:skips=16,8:fc_width=8:name=mine")
    assert model.name == "fcn_vgg16" and str(model) == "fcn_vgg16:skips=16,8:fc_width=8:name=mine"
    assert model.options == {"skips": (16, 8), "fc_width": 8, "name": "mine"}
    options = benchmark.model("ssd300:width=0.25:scales=coco:clip_anchors=true").options
    assert options == {"width": 0.25, "scales": "coco", "clip_anchors": True}
    assert benchmark.model("a:blocks=1:skips=8").options == {"blocks": (1,), "skips": (8,)}


def test_default_models_exist():
    from kerasdense import models

    for text in (*benchmark.PAPER, *benchmark.EXPORTED, benchmark.SEGMENTER, benchmark.DETECTOR):
        named = benchmark.model(text)
        assert named.name in models.__all__
        inspect.signature(getattr(models, named.name)).bind(num_classes=2, **named.options)
        assert not any("=" in str(value) for value in named.options.values()), "a : for a comma"


def test_auto_is_the_policy_of_this_machine(monkeypatch, capsys):
    monkeypatch.setattr(processor, "best_precision", lambda: ("bfloat16", "a test says so"))
    policies = benchmark._policies(("float32", "auto", "mixed_bfloat16"))
    assert policies == ("float32", "mixed_bfloat16"), "each once"
    assert "precision mixed_bfloat16: a test says so" in capsys.readouterr().out
