"""What a process does: batches and losses of each task, a step that is traced once, weights."""

import keras
import numpy as np
import pytest

from kerasdense import models
from kerasdense.benchmarks import workloads
from kerasdense.benchmarks.workloads import NamedModel, Workload

TINY = NamedModel("tiny", "ladder_densenet", {"blocks": (1, 1, 1, 1)})


def model_of(shape):
    """A model from images of 64 x 64 to an output [B, *shape]."""
    images = keras.Input((64, 64, 3), dtype="uint8")
    x = keras.layers.Flatten()(keras.layers.MaxPooling2D(16)(keras.layers.Rescaling(0.01)(images)))
    x = keras.layers.Dense(int(np.prod(shape)))(x)
    return keras.Model(images, keras.layers.Reshape(shape)(x))


@pytest.mark.parametrize(
    "build, size, targets",
    [
        (lambda: model_of((3,)), (64, 64), (2, 3)),
        (lambda: models.ssd300(3, weights=None, width=1 / 64), (300, 300), (2, 8732, 5)),
        (lambda: model_of((64, 64, 3)), (64, 64), (2, 64, 64)),
    ],
    ids=["classifier", "SSD", "segmentation"],
)
def test_each_task_has_its_loss_and_is_traced_once(build, size, targets):
    model = build()
    traces, train_step = [], model.train_step
    model.train_step = lambda *batch: traces.append(1) or train_step(*batch)
    workload = Workload("train", "any", {}, size, batch_size=2, classes=3)
    _, random = workloads.random_batch(model, workload, size)
    assert random.shape == targets
    run = workloads.keras_steps(model, workload, size)
    before = [weight.copy() for weight in model.get_weights()]
    run(2)
    run(1)
    # An optimizer that is built inside the first step makes TensorFlow trace it twice.
    assert len(traces) == 1 and int(model.optimizer.iterations) == 3
    assert any((old != new).any() for old, new in zip(before, model.get_weights()))


def test_auxiliary_logits_are_left_out():
    model = TINY.load(3)
    assert workloads.logits_alone(model) is model
    both = NamedModel("", TINY.name, TINY.options | {"auxiliary": True}).load(3)
    alone = workloads.logits_alone(both)
    assert alone.output is both.output["logits"] and alone.name == both.name


def test_the_background_leaves_as_many_scores_as_are_asked_for(monkeypatch):
    # Of one class a score exp(l) / (exp(b) + exp(l)) is 1/100 where b = l + log 99.
    logits = np.array([[0, 3], [0, 1], [0, 2]])
    for found, last in ((1, 3), (2, 2), (3, 1), (9, 1)):
        monkeypatch.setattr(workloads, "FOUND", found)
        assert workloads.background_offset(logits) == pytest.approx(last + np.log(99))
    # A background that is at 5 already needs so much less; of two equal classes each has
    # exp(l) / (exp(b) + 2 exp(l)), which is 1/100 where b = l + log 98.
    monkeypatch.setattr(workloads, "FOUND", 1)
    assert workloads.background_offset(logits + [5, 0]) == pytest.approx(3 + np.log(99) - 5)
    assert workloads.background_offset([[0, 2, 2]]) == pytest.approx(2 + np.log(98))


def test_signals_pass_through_a_random_model():
    model = workloads.random_model(NamedModel("", "fcn_vgg16", {"skips": (16,), "fc_width": 8}), 3)
    assert not [each.path for each in model.weights if "kernel" in each.path and not np.any(each)]
    model = workloads.random_model(TINY, 3)
    pictures = workloads.smooth_pictures(workloads.SMOOTH_SIZE)
    normalization = next(
        layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)
    )
    # By the moments of these pictures: of each channel mean beta, and deviation gamma.
    output = keras.Model(model.input, normalization.output)(pictures, training=False)
    output = np.asarray(output).reshape(-1, output.shape[-1])
    np.testing.assert_allclose(output.mean(axis=0), normalization.beta, atol=1e-2)
    np.testing.assert_allclose(output.std(axis=0), normalization.gamma, rtol=1e-2)
