"""Training on a model of two layers: the run folder, resuming, rates, decay, bad losses."""

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasdense.training import fitting
from kerasdense.models.weights import WeightsReport
from kerasdense.metrics.labels import IGNORE

CLASSES = 3


def toy_model(auxiliary=False):
    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    x = keras.layers.Rescaling(1 / 255, name="scale", dtype="float32")(images)
    x = keras.layers.Conv2D(4, 3, padding="same", name="old")(x)
    x = keras.layers.BatchNormalization(momentum=0.5, name="old_bn")(x)
    logits = keras.layers.Conv2D(CLASSES, 1, dtype="float32", name="logits")(x)
    if auxiliary:
        other = keras.layers.Conv2D(CLASSES, 1, dtype="float32", name="auxiliary_logits")(x)
        return keras.Model(images, {"logits": logits, "auxiliary_logits": other}, name="toy")
    return keras.Model(images, logits, name="toy")


def batches(first_step=0, count=None):
    """Brightness tells the class: black 0, grey 1, white 2; a row of each mask is ignored."""

    def batch(step):
        labels = tf.random.stateless_uniform([2, 8, 8], [7, step], 0, CLASSES, tf.int32)
        images = tf.cast(tf.repeat(labels[..., None] * 120, 3, axis=-1), tf.uint8)
        ignored = tf.range(8)[:, None] == 7
        return images, tf.cast(tf.where(ignored, IGNORE, labels), tf.uint8)

    last = tf.int64.max if count is None else first_step + count
    return tf.data.Dataset.range(first_step, last).map(batch)


def run_facts(**arguments):
    return {
        "model": {"name": "toy", "arguments": {}},
        "arguments": {"seed": 0, "size": (8, 8)} | arguments,
        "dataset": {
            "name": "toy",
            "class_names": ["black", "grey", "white"],
            "palette": [[0, 0, 0], [99, 99, 99], [255, 255, 255]],
            "splits": {"train": 20, "val": 4},
        },
    }


def fit(workdir, epochs=2, build=toy_model, pretrained=(), rate=0.1, **options):
    keras.utils.set_random_seed(0)
    settings = {
        "build_model": lambda: (build(), WeightsReport(None, tuple(pretrained), ())),
        "make_optimizer": lambda is_pretrained: keras.optimizers.SGD(
            keras.optimizers.schedules.PolynomialDecay(rate / (10 if is_pretrained else 1), 100),
            momentum=0.9,
        ),
        "train_batches": batches,
        "validation_batches": batches(1000, count=2),
        "run": run_facts(),
        "steps_per_epoch": 10,
    } | options
    dataset = settings["run"]["dataset"]
    task = fitting.segmentation_task(
        dataset["class_names"], dataset["palette"], settings["validation_batches"]
    )
    return fitting.fit(settings.pop("task", task), workdir=workdir, epochs=epochs, **settings)


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_run_learns_and_leaves_its_folder(tmp_path, capsys):
    fit(tmp_path / "run", epochs=4)
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} == {
        "run.json", "metrics.jsonl", "best.keras", "last.keras", "tensorboard",
    }  # fmt: skip
    history = lines(folder)
    assert [line["epoch"] for line in history] == [1, 2, 3, 4]
    assert history[-1]["val_mean_iou"] > 0.9 and history[-1]["loss"] < history[0]["loss"]
    record = json.loads((folder / "run.json").read_text())
    assert record["versions"]["keras"] == keras.__version__
    assert record["arguments"]["size"] == [8, 8]
    best = keras.models.load_model(folder / "best.keras")
    assert getattr(best, "optimizer", None) is None
    printed = capsys.readouterr().out
    assert "epoch 4/4" in printed and "left" in printed and "tracing" in printed


def test_tensorboard_holds_scalars_and_pictures(tmp_path):
    fit(tmp_path, epochs=1)
    tags = set()
    for path in (tmp_path / "tensorboard").rglob("events*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            tags |= {value.tag for value in event.summary.value}
    assert {"epoch_loss", "epoch_mean_iou", "validation"} <= tags


def test_an_interrupted_run_resumes_to_the_same_weights(tmp_path):
    whole = fit(tmp_path / "whole", epochs=3)

    def breaking(first_step):
        def check(step, batch):
            tf.debugging.assert_less(step, tf.constant(15, tf.int64))
            return batch

        return batches(first_step).enumerate().map(check)

    # Fails in the middle of epoch 2; then the same command goes on.
    with pytest.raises(tf.errors.InvalidArgumentError):
        fit(tmp_path / "cut", epochs=3, train_batches=breaking)
    assert len(lines(tmp_path / "cut")) == 1
    resumed = fit(tmp_path / "cut", epochs=3)
    for a, b in zip(whole.weights, resumed.weights):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    for a, b in zip(whole.optimizer.variables, resumed.optimizer.variables):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert [line["epoch"] for line in lines(tmp_path / "cut")] == [1, 2, 3]


def test_a_line_of_an_unfinished_epoch_is_replaced(tmp_path):
    fit(tmp_path, epochs=1)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"epoch": 2, "val_mean_iou": 2.0}) + "\n")
    fit(tmp_path, epochs=2)
    history = lines(tmp_path)
    assert [line["epoch"] for line in history] == [1, 2] and history[1]["val_mean_iou"] <= 1


def test_a_complete_run_is_left_alone(tmp_path, capsys):
    fit(tmp_path, epochs=1)
    before = (tmp_path / "last.keras").read_bytes()
    fit(tmp_path, epochs=1)
    assert "is complete" in capsys.readouterr().out
    assert (tmp_path / "last.keras").read_bytes() == before


def test_another_run_in_the_workdir_is_refused_untouched(tmp_path):
    fit(tmp_path, epochs=1)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(ValueError, match="holds another run: seed was 0, now 1"):
        fit(tmp_path, epochs=2, run=run_facts(seed=1))
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}


def test_a_workdir_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(ValueError, match="not empty and holds no run"):
        fit(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_pretrained_variables_have_their_own_rate(tmp_path, capsys):
    # old: 3*3*3*4 + 4 = 112 parameters; old_bn's 4 + 4 and logits' 4*3 + 3 = 15 are new: 23.
    model = fit(tmp_path, epochs=1, pretrained=["old/kernel", "old/bias"])
    groups = json.loads((tmp_path / "run.json").read_text())["parameters"]["groups"]
    assert {group["parameters"]: group["learning_rate"] for group in groups} == {
        112: pytest.approx(0.01),
        23: pytest.approx(0.1),
    }
    assert "112 at learning rate 0.01" in capsys.readouterr().out
    slow, fast = sorted(lines(tmp_path)[0]["learning_rates"])
    assert fast == pytest.approx(10 * slow, rel=0.1)
    loaded = keras.models.load_model(tmp_path / "last.keras")
    for a, b in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_weight_decay_is_half_the_square_of_kernels(tmp_path):
    model = fit(tmp_path, epochs=1, weight_decay=0.02)
    squares = sum(
        float(np.sum(np.square(layer.kernel)))
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D)
    )
    assert float(sum(model.losses)) == pytest.approx(0.02 / 2 * squares, rel=1e-5)
    loaded = keras.models.load_model(tmp_path / "last.keras")
    assert float(sum(loaded.losses)) == pytest.approx(float(sum(model.losses)), rel=1e-5)


def test_non_finite_loss_names_the_step_and_keeps_what_was_saved(tmp_path):
    fit(tmp_path, epochs=1)
    before = (tmp_path / "last.keras").read_bytes()
    model = keras.models.load_model(tmp_path / "last.keras")
    model.get_layer("logits").bias.assign([math.nan] * CLASSES)
    fitting._save_checkpoint(model, tmp_path / "last.keras", 1)
    before = (tmp_path / "last.keras").read_bytes()
    with pytest.raises(fitting.NonFiniteLoss, match="nan at step 11"):
        fit(tmp_path, epochs=2)
    assert (tmp_path / "last.keras").read_bytes() == before and len(lines(tmp_path)) == 1


def test_a_full_disk_is_named_and_leaves_the_last_epoch(tmp_path, monkeypatch):
    fit(tmp_path, epochs=1)
    before = (tmp_path / "last.keras").read_bytes()

    def save(model, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keras.Model, "save", save)
    with pytest.raises(OSError, match=r"Cannot write .*\.keras: No space left .* Make room"):
        fit(tmp_path, epochs=2)
    assert (tmp_path / "last.keras").read_bytes() == before
    assert not list(tmp_path.glob("writing-*"))


def test_early_stop_also_holds_for_a_resumed_run(tmp_path, capsys):
    fit(tmp_path, epochs=20, rate=1e-12, early_stop=2)
    values = [line["val_mean_iou"] for line in lines(tmp_path)]
    assert len(values) < 20 and values.index(max(values)) == len(values) - 3
    fit(tmp_path, epochs=20, rate=1e-12, early_stop=2)
    assert "was stopped early" in capsys.readouterr().out and len(lines(tmp_path)) == len(values)


def test_averaged_weights_are_validated_and_kept(tmp_path):
    # After a single epoch, that epoch is the best, so best.keras and the result must agree.
    model = fit(tmp_path, epochs=1, average_weights=0.9, pretrained=["old/kernel"])
    best = keras.models.load_model(tmp_path / "best.keras")
    last = keras.models.load_model(tmp_path / "last.keras")
    images, _ = next(iter(batches(1000, count=1)))
    np.testing.assert_allclose(best(images), model(images), rtol=1e-4, atol=1e-5)
    assert not np.allclose(last.get_layer("old").kernel, best.get_layer("old").kernel)


def test_auxiliary_logits_share_the_loss(tmp_path):
    model = fit(tmp_path, epochs=1, build=lambda: toy_model(auxiliary=True))
    images, masks = next(iter(batches(1000, count=1)))
    results = model.evaluate(
        batches(1000, count=1).map(lambda x, y: (x, dict.fromkeys(model.output, y))),
        return_dict=True, verbose=0,
    )  # fmt: skip
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=IGNORE)
    outputs = model(images)
    expected = 0.7 * loss(masks, outputs["logits"]) + 0.3 * loss(masks, outputs["auxiliary_logits"])
    assert results["loss"] == pytest.approx(float(expected), rel=1e-4)
    assert "val_mean_iou" in lines(tmp_path)[0]


def test_loss_averages_over_valid_pixels_and_is_zero_without():
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=IGNORE)
    logits = np.zeros((1, 2, 2, 3), np.float32)
    labels = np.array([[[0, IGNORE], [IGNORE, IGNORE]]], np.uint8)
    assert float(loss(labels, logits)) == pytest.approx(math.log(3))  # uniform over 3 classes
    assert float(loss(np.full_like(labels, IGNORE), logits)) == 0


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_run_resumes(tmp_path, policy):
    keras.config.set_dtype_policy(policy)
    try:
        fit(tmp_path, epochs=1, pretrained=["old/kernel"])
        fit(tmp_path, epochs=2, pretrained=["old/kernel"])
    finally:
        keras.config.set_dtype_policy("float32")
    assert len(lines(tmp_path)) == 2
