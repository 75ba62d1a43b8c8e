"""Training a model of two layers: what is learned, resumed, and refused."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from training.toy import batches, changed, fit, lines, run_facts, task, toy_model

from kerasdense.metrics.labels import IGNORE
from kerasdense.training import fitting
from kerasdense.training.checkpoints import load_checkpoint, save_checkpoint
from kerasdense.training.run_folder import load_run, write_run


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_learns_and_leaves_its_folder(tmp_path, capsys):
    folder, first = tmp_path / "run", []

    def build():
        first.extend(toy_model().get_weights())
        keras.utils.set_random_seed(0)
        return toy_model()

    model = fit(folder, epochs=4, build=build)
    assert changed(first, model.get_weights())
    assert {path.name for path in folder.iterdir()} == {
        "run.json", "metrics.jsonl", "best.keras", "last.keras", "tensorboard",
    }  # fmt: skip
    history = lines(folder)
    assert [line["epoch"] for line in history] == [1, 2, 3, 4]
    assert history[-1]["val_mean_iou"] > 0.9 and history[-1]["loss"] < history[0]["loss"]
    record = json.loads((folder / "run.json").read_text())
    assert record["versions"]["keras"] == keras.__version__
    assert record["arguments"]["size"] == [8, 8] and record["task"] == "segmentation"
    assert record["weights"] == {"source": None, "loaded": 0, "skipped": 0}
    kept = keras.models.load_model(folder / "best.keras")
    assert getattr(kept, "optimizer", None) is None
    printed = capsys.readouterr().out
    assert "epoch 4/4" in printed and "left" in printed and "tracing" in printed
    assert "data: toy, 20 train, 4 val" in printed and "training 4 epochs of 10 steps" in printed
    best = max(history, key=lambda line: line["val_mean_iou"])
    assert f"best val mean IoU {best['val_mean_iou']:.4f} in epoch {best['epoch']}" in printed


def test_every_trained_weight_changes_and_stays_finite(one_epoch, tmp_path):
    keras.utils.set_random_seed(0)
    before = toy_model()
    after, _ = load_run(one_epoch, "last.keras")
    for old, new in zip(before.weights, after.weights, strict=True):
        # A bias before a batch normalization has no effect, so no gradient.
        assert changed([old], [new]) or old.path == "old/bias", old.path


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
    for a, b in zip(whole.weights, resumed.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    for a, b in zip(whole.optimizer.variables, resumed.optimizer.variables, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert [line["epoch"] for line in lines(tmp_path / "cut")] == [1, 2, 3]


def test_a_line_of_an_unfinished_epoch_is_replaced(begun):
    with open(begun / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"epoch": 2, "val_mean_iou": 2.0}) + "\n")
    fit(begun, epochs=2)
    history = lines(begun)
    assert [line["epoch"] for line in history] == [1, 2] and history[1]["val_mean_iou"] <= 1


def test_a_complete_run_is_left_alone(begun, capsys):
    before = files(begun)
    fit(begun)
    assert "is complete: 1 epochs, best val mean IoU" in capsys.readouterr().out
    assert files(begun) == before


@pytest.mark.parametrize(
    "run, words",
    [
        (run_facts(seed=1), "--seed was 0, now 1"),
        (run_facts(size=[8, 9]), r"--size was \[8, 8\], now \[8, 9\]"),
        (run_facts() | {"model": {"name": "toy", "arguments": {"blocks": 1}}}, "model was {"),
        (run_facts() | {"dataset": run_facts()["dataset"] | {"splits": {"train": 21}}},
         "dataset was {"),
        (run_facts(seed=1) | {"model": {"name": "other"}}, "--seed was 0, now 1; model was {"),
    ],
)  # fmt: skip
def test_another_run_in_the_workdir_is_refused_untouched(begun, run, words):
    before = files(begun)
    with pytest.raises(ValueError, match=f"{begun} holds another run: {words}"):
        fit(begun, epochs=2, run=run)
    assert files(begun) == before


def test_what_may_change_when_a_run_is_resumed(begun, capsys):
    """The folders may lie elsewhere by then, and another machine may compile."""
    record = json.loads((begun / "run.json").read_text())
    changing = fitting.RESUME_MAY_CHANGE - {"epochs"}  # they may be raised, see below
    elsewhere = {name: "old" for name in changing}
    write_run(begun, record | {"arguments": record["arguments"] | elsewhere})
    fit(begun, run=run_facts(**{name: "new" for name in changing}))
    assert "is complete" in capsys.readouterr().out


@pytest.mark.parametrize("asked", [{"upsampling": "bilinear"}, {"adversarial_steps": None}])
def test_an_option_that_is_new_since_the_run_began_does_not_make_it_another(begun, capsys, asked):
    fit(begun, run=run_facts(**asked), defaults={"upsampling": "bilinear"})
    assert "is complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    "asked, words",
    [
        ({"upsampling": "learned"}, "--upsampling was bilinear, now learned"),
        ({"adversarial_steps": 5}, "--adversarial-steps was None, now 5"),
    ],
)
def test_a_new_option_that_is_asked_for_makes_it_another(begun, asked, words):
    before = files(begun)
    with pytest.raises(ValueError, match=words):
        fit(begun, run=run_facts(**asked), defaults={"upsampling": "bilinear"})
    assert files(begun) == before


def test_epochs_may_be_raised_and_the_schedule_is_that_of_the_longer_run(tmp_path, capsys):
    def rescheduled(epochs):
        """Fits with a learning rate that falls from 0.1 to 0.01 over so many epochs."""
        return fit(tmp_path, epochs, run=run_facts(epochs=epochs), falls_over=10 * epochs)

    rescheduled(2)
    assert lines(tmp_path)[-1]["learning_rates"] == [pytest.approx(1e-4, rel=1e-3)]
    capsys.readouterr()
    rescheduled(4)
    printed = capsys.readouterr().out
    # After 20 of 40 steps half of the way from 0.1 to 1e-4 is left: 0.05005.
    assert "--epochs raised from 2 to 4\n" in printed
    assert "the learning rate is from here on that of a run of 4 epochs: at this step" in printed
    assert "0.0501 instead of 0.0001" in printed
    assert [line["epoch"] for line in lines(tmp_path)] == [1, 2, 3, 4]
    assert lines(tmp_path)[2]["learning_rates"] == [pytest.approx(0.1 - (0.1 - 1e-4) * 3 / 4)]
    assert json.loads((tmp_path / "run.json").read_text())["arguments"]["epochs"] == 4
    rescheduled(4)
    assert "is complete: 4 epochs" in capsys.readouterr().out
    with pytest.raises(ValueError, match="--epochs was 4, now 3, and may be raised only"):
        rescheduled(3)


@pytest.mark.parametrize("how", ["killed", "stopped early"])
def test_what_was_raised_stays_so_whatever_happens_before_the_next_epoch(tmp_path, how, capsys):
    def raised(epochs, **options):
        return fit(
            tmp_path, epochs, run=run_facts(epochs=epochs), falls_over=10 * epochs, **options
        )

    def broken(first_step):
        return batches(first_step).map(lambda *batch: tf.debugging.assert_less(1, 0) or batch)

    raised(2)
    if how == "killed":  # after raising, in the first epoch
        with pytest.raises(tf.errors.InvalidArgumentError):
            raised(4, train_batches=broken)
    else:  # and the cure that is told is taken; equal results are no better
        best = json.dumps(lines(tmp_path)[0] | {"val_mean_iou": 2.0}) + "\n"
        second = json.dumps(lines(tmp_path)[1]) + "\n"
        (tmp_path / "metrics.jsonl").write_text(best + second)
        raised(4, early_stop=1)
        assert "was stopped early, best" in capsys.readouterr().out
        assert json.loads((tmp_path / "run.json").read_text())["arguments"]["epochs"] == 2
    raised(4)
    assert "0.0501 instead of 0.0001" in capsys.readouterr().out
    assert lines(tmp_path)[2]["learning_rates"] == [pytest.approx(0.1 - (0.1 - 1e-4) * 3 / 4)]


def test_weights_of_a_file_are_found_again_from_any_folder(tmp_path, monkeypatch):
    (tmp_path / "w.h5").touch()
    monkeypatch.chdir(tmp_path)
    assert fitting._absolute("w.h5") == str(tmp_path / "w.h5")
    assert fitting._absolute("imagenet") == "imagenet" and fitting._absolute(None) is None


def test_a_run_that_goes_on_as_it_was_keeps_its_learning_rate(begun, capsys):
    fit(begun, epochs=2)
    assert "instead of" not in capsys.readouterr().out


def test_the_averages_are_returned_by_a_complete_run_too(tmp_path):
    first = fit(tmp_path, average_weights=0.9)
    again = fit(tmp_path, average_weights=0.9)
    for a, b in zip(first.trainable_weights, again.trainable_weights, strict=True):
        np.testing.assert_array_equal(a, b)


class Broken(RuntimeError):
    pass


def test_validation_that_fails_loses_nothing(tmp_path, monkeypatch, capsys):
    def broken(self, model, samples):
        raise Broken

    whole = fit(tmp_path / "whole", epochs=2)
    with monkeypatch.context() as patched, pytest.raises(Broken):
        patched.setattr(type(task()), "validate", broken)
        fit(tmp_path / "cut", epochs=2)
    assert (tmp_path / "cut/last.keras").exists() and not (tmp_path / "cut/best.keras").exists()
    capsys.readouterr()
    resumed = fit(tmp_path / "cut", epochs=2)
    assert "epoch 1 was saved, but not validated yet" in capsys.readouterr().out
    for a, b in zip(whole.weights, resumed.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    for one, other in zip(lines(tmp_path / "whole"), lines(tmp_path / "cut"), strict=True):
        assert one["epoch"] == other["epoch"] and one["loss"] == pytest.approx(other["loss"])
        assert one["val_mean_iou"] == pytest.approx(other["val_mean_iou"], abs=1e-5)


@pytest.mark.parametrize("average_weights", [pytest.param(None, marks=pytest.mark.slow), 0.9])
def test_a_kill_before_the_best_model_was_written_is_mended(tmp_path, average_weights, capsys):
    options = {"pretrained": ["old/kernel"], "average_weights": average_weights}
    fit(tmp_path, epochs=1, **options)
    kept, _ = load_run(tmp_path)
    (tmp_path / "best.keras").unlink()
    fit(tmp_path, epochs=1, **options)
    mended, _ = load_run(tmp_path)
    for a, b in zip(kept.weights, mended.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_best_model_of_another_epoch_is_told(begun, capsys):
    """As after a kill of a run of an earlier version, which wrote in another order."""
    model, _, line = load_checkpoint(begun / "last.keras")
    save_checkpoint(model, begun / "best.keras", 2)
    fit(begun)
    assert load_checkpoint(begun / "best.keras")[1] == 1  # that of the saved epoch, made anew
    save_checkpoint(model, begun / "last.keras", 1)  # without its line, as it was then
    save_checkpoint(model, begun / "best.keras", 2)
    fit(begun)
    assert "best.keras is of epoch 2, while metrics.jsonl calls epoch 1 the best" in (
        capsys.readouterr().out
    )


def test_runs_of_earlier_versions_are_resumed(begun, capsys):
    """They named no task at first, and recorded SSD's `--model` and options that are gone."""
    record = json.loads((begun / "run.json").read_text())
    del record["task"], record["parameters"]
    record["arguments"] |= {"model": "ssd300", "train_split": None, "gone": 3}
    write_run(begun, record)
    fit(begun, epochs=2, run=run_facts(train_split=None))
    assert f"resuming {begun} after epoch 1 of 2" in capsys.readouterr().out
    assert [line["epoch"] for line in lines(begun)] == [1, 2]


def test_a_workdir_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(ValueError, match="not empty and holds no run"):
        fit(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_a_kill_left_of_the_first_record_is_no_other_file(tmp_path):
    (tmp_path / "run.json.unfinished").write_text("{")
    fit(tmp_path)
    assert len(lines(tmp_path)) == 1


def test_auxiliary_logits_share_the_loss(tmp_path):
    model = fit(tmp_path, build=lambda: toy_model(auxiliary=True))
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


@pytest.mark.parametrize(
    "policy", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)]
)
def test_mixed_precision_run_resumes(tmp_path, policy):
    keras.config.set_dtype_policy(policy)
    try:
        first = fit(tmp_path, pretrained=["old/kernel"]).get_weights()
        model = fit(tmp_path, epochs=2, pretrained=["old/kernel"])
    finally:
        keras.config.set_dtype_policy("float32")
    assert len(lines(tmp_path)) == 2 and changed(first, model.get_weights())
    assert task().count_classes(model) == 3


@pytest.mark.parametrize("momentum", [0.0, 1.0, 1.5, -0.1])
def test_a_momentum_is_a_part(momentum):
    with pytest.raises(ValueError, match="--average-weights.*above 0 and below 1"):
        fitting.Schedule(1, 1, None, average_weights=momentum)
