"""Rates of pretrained and of new weights, decay, and parameters that add up."""

import json

import keras
import numpy as np
import pytest
from training.toy import fit, lines, toy_model

from kerasdense.models import ladder_densenet
from kerasdense.training import optimizers


def compiled(pretrained=(), average_weights=None):
    model = toy_model()
    optimizer = optimizers.grouped(
        model,
        lambda is_pretrained: keras.optimizers.SGD(0.01 if is_pretrained else 0.1),
        set(pretrained),
        average_weights,
    )
    model.compile(optimizer)
    return model


# old: 3*3*3*4 + 4 = 112 parameters; old_bn's 4 + 4 and logits' 4*3 + 3 = 15 are new: 23.
OLD = ("old/kernel", "old/bias")


@pytest.mark.parametrize(
    "pretrained, groups",
    [
        ((), [(0.1, 135)]),
        (OLD, [(0.01, 112), (0.1, 23)]),
        (("old/kernel", "elsewhere/kernel"), [(0.01, 108), (0.1, 27)]),
        ([variable.path for variable in toy_model().trainable_variables], [(0.01, 135)]),
    ],
)
def test_groups_of_variables_add_up(pretrained, groups):
    found = optimizers.parameter_counts(compiled(pretrained))
    pairs = sorted((group["learning_rate"], group["parameters"]) for group in found["groups"])
    assert pairs == [(pytest.approx(rate), count) for rate, count in groups]
    assert found["trainable"] == 135 and found["all"] == 135 + 4 + 4  # moving mean and variance


def test_groups_that_do_not_add_up_are_a_fault(monkeypatch):
    model = compiled()
    optimizers.parameter_counts(model)
    monkeypatch.setattr(model.optimizer, "_trainable_variables", [])
    with pytest.raises(RuntimeError, match="do not add up to 135"):
        optimizers.parameter_counts(model)


def test_both_optimizers_average():
    found = optimizers.optimizers_of(compiled(OLD, average_weights=0.75))
    assert len(found) == 2 and all(each.use_ema and each.ema_momentum == 0.75 for each in found)
    assert not optimizers.optimizers_of(compiled())[0].use_ema


def test_pretrained_variables_have_their_own_rate(tmp_path, capsys):
    model = fit(tmp_path, pretrained=OLD, average_weights=0.9)
    groups = json.loads((tmp_path / "run.json").read_text())["parameters"]["groups"]
    assert {group["parameters"]: group["learning_rate"] for group in groups} == {
        112: pytest.approx(0.01),
        23: pytest.approx(0.1),
    }
    assert "112 at learning rate 0.01" in capsys.readouterr().out
    slow, fast = sorted(lines(tmp_path)[0]["learning_rates"])
    assert fast == pytest.approx(10 * slow, rel=0.1)
    # Saved as two optimizers, and loaded as the same.
    loaded = keras.models.load_model(tmp_path / "last.keras")
    assert len(optimizers.optimizers_of(loaded)) == 2
    for a, b in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_the_length_of_all_gradients_is_limited_whatever_the_groups(rate, tmp_path):
    images = keras.Input((1,))
    x = keras.layers.Dense(1, use_bias=False, name="old")(images)
    model = keras.Model(images, keras.layers.Dense(1, use_bias=False, name="new")(x))
    optimizer = optimizers.grouped(
        model,
        lambda is_pretrained: keras.optimizers.SGD(
            rate if is_pretrained else 1.0, global_clipnorm=10.0
        ),
        {"old/kernel"},
    )
    model.compile(optimizer)
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "model.keras")
    for each in (model, keras.models.load_model(tmp_path / "model.keras")):
        # 30 and 40 are 50 long together: a fifth of each is left, 6 and 8.
        before = [np.array(variable) for variable in each.trainable_variables]
        gradients = [keras.ops.full((1, 1), length) for length in (30.0, 40.0)]
        each.optimizer.apply(gradients, each.trainable_variables)
        old, new = (b - np.array(v) for b, v in zip(before, each.trainable_variables))
        assert old.item() == pytest.approx(6 * rate) and new.item() == pytest.approx(8)


def decay_of(model):
    return float(sum(model.losses))


def test_weight_decay_is_half_the_square_of_kernels(tmp_path):
    model = toy_model()
    optimizers.add_weight_decay(model, 0.02)
    squares = sum(
        float(np.sum(np.square(layer.kernel)))
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D)
    )
    assert decay_of(model) == pytest.approx(0.02 / 2 * squares, rel=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert decay_of(loaded) == pytest.approx(decay_of(model), rel=1e-5)


def test_recomputed_blocks_decay_like_others():
    plain, recomputed = (
        ladder_densenet((1, 1, 1, 1), 3, recompute=recompute) for recompute in (False, True)
    )
    recomputed.set_weights(plain.get_weights())
    for model in (plain, recomputed):
        optimizers.add_weight_decay(model, 0.02)
    assert decay_of(recomputed) == pytest.approx(decay_of(plain), rel=1e-5)


def test_without_decay_nothing_is_added():
    model = toy_model()
    optimizers.add_weight_decay(model, 0.0)
    assert not model.losses


def test_a_run_decays_and_does_so_when_it_is_resumed(tmp_path):
    model = fit(tmp_path, weight_decay=0.02)
    assert decay_of(model) > 0 and lines(tmp_path)[0]["loss"] > decay_of(model)
    loaded = keras.models.load_model(tmp_path / "last.keras")
    assert decay_of(loaded) == pytest.approx(decay_of(model), rel=1e-5)
