"""After steps and epochs: losses that are no numbers, validation, records, averages."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from training.toy import CLASSES, batches, fit, lines, task

from kerasdense.training.callbacks import NonFiniteLoss, StopOnNonFiniteLoss, Validation
from kerasdense.training.checkpoints import save_checkpoint
from kerasdense.training.fitting import Schedule


def test_non_finite_loss_names_the_step_and_keeps_what_was_saved(begun):
    model = keras.models.load_model(begun / "last.keras")
    model.get_layer("logits").bias.assign([math.nan] * CLASSES)
    save_checkpoint(model, begun / "last.keras", 1)
    before = (begun / "last.keras").read_bytes()
    with pytest.raises(NonFiniteLoss, match="nan at step 11.*--precision float32"):
        fit(begun, epochs=2)
    assert (begun / "last.keras").read_bytes() == before and len(lines(begun)) == 1


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_steps_are_counted_from_where_the_run_went_on(loss):
    callback = StopOnNonFiniteLoss(20)
    callback.on_train_batch_end(0, {"loss": 1.0})
    with pytest.raises(NonFiniteLoss, match="at step 22"):
        callback.on_train_batch_end(1, {"loss": loss})


def test_tensorboard_holds_what_a_run_tells(tmp_path):
    fit(tmp_path, epochs=1)
    fit(tmp_path, epochs=2)  # as a run that goes on
    steps = {}
    for path in (tmp_path / "tensorboard").rglob("events*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                steps.setdefault((path.parent.name, value.tag), []).append(event.step)
    for name in ("epoch_loss", "epoch_mean_iou"):
        assert sorted(steps["train", name]) == sorted(steps["validation", name]) == [1, 2]
    assert sorted(steps["validation", "per_class_iou/gray"]) == [1, 2]
    assert sorted(steps["pictures", "validation"]) == [1, 2]
    # 10 steps an epoch: the second epoch goes on where the first ended.
    assert sorted(steps["train", "loss within the epoch"]) == [10, 20]
    assert sorted(steps["train", "learning rate 0"]) == [1, 2]
    # The parts of a run lie below, so that their results count as its own beside its parameters.
    assert {("tensorboard", "run"), ("tensorboard", "_hparams_/session_start_info")} <= set(steps)


class Measuring:
    """A task that measures the bias of a model."""

    def validate(self, model, samples):
        return {"val_bias": float(model.get_layer("logits").bias[0]) + samples}


def validated(epoch, **schedule):
    """What an epoch's line holds after it (1 is the first)."""
    model = bias_model(1.0)
    model.compile(loss="mse")
    pairs = tf.data.Dataset.from_tensors((np.zeros((2, 4, 4, 3)), np.full((2, 4, 4, 1), 3.0)))
    validation = Validation(Measuring(), Schedule(5, 10, None, **schedule), 7, pairs)
    return validation.measure(model, epoch)


def bias_model(bias):
    images = keras.Input((4, 4, 3))
    model = keras.Model(images, keras.layers.Conv2D(1, 1, name="logits")(images))
    model.get_layer("logits").bias.assign([bias])
    return model


def test_the_task_measures_every_few_epochs_and_after_the_last():
    found = [validated(epoch, validate_every=2) for epoch in range(1, 6)]
    assert ["val_bias" in entries for entries in found] == [False, True, False, True, True]
    assert found[1] == {"val_loss": (3.0 - 1.0) ** 2, "val_bias": 1.0 + 7}
    assert all("val_bias" in validated(epoch) for epoch in range(1, 6))


def test_averaged_weights_are_validated_and_kept(tmp_path):
    # After a single epoch, that epoch is the best, so best.keras and the result must agree.
    model = fit(tmp_path, average_weights=0.9, pretrained=["old/kernel"])
    best = keras.models.load_model(tmp_path / "best.keras")
    last = keras.models.load_model(tmp_path / "last.keras")
    images, _ = next(iter(batches(1000, count=1)))
    np.testing.assert_allclose(best(images), model(images), rtol=1e-4, atol=1e-5)
    assert not np.allclose(last.get_layer("old").kernel, best.get_layer("old").kernel)


def test_early_stop_also_holds_for_a_resumed_run(tmp_path, capsys):
    fit(tmp_path, epochs=20, rate=1e-12, early_stop=2)
    values = [line["val_mean_iou"] for line in lines(tmp_path)]
    assert len(values) < 20 and values.index(max(values)) == len(values) - 3
    assert "stopping early: 2 validations without a better val mean IoU" in capsys.readouterr().out
    fit(tmp_path, epochs=20, rate=1e-12, early_stop=2)
    assert "was stopped early" in capsys.readouterr().out and len(lines(tmp_path)) == len(values)


def test_the_line_of_an_epoch(capsys, one_epoch):
    (line,) = lines(one_epoch)
    assert set(line) == {
        "epoch", "loss", "mean_iou", "val_loss", "val_mean_iou", "val_per_class_iou",
        "learning_rates", "seconds", "steps_per_second",
    }  # fmt: skip
    # 0.1 falls linearly to 1e-4 (Keras' default) in 100 steps, of which 10 are done.
    assert line["learning_rates"] == [pytest.approx(0.1 - (0.1 - 1e-4) * 0.1)]
    by_class = line["val_per_class_iou"]
    assert list(by_class) == ["black", "gray", "white"]
    assert np.mean(list(by_class.values())) == pytest.approx(line[task().criterion], rel=1e-5)
