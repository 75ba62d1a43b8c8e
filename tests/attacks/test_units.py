"""Which units the tasks have, and when one is won."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from attacks.by_hand import attacker, pictures

from kerasdense import tasks
from kerasdense.attacks.attacker import Attacker
from kerasdense.attacks.methods import METHODS
from kerasdense.attacks.units import Criterion, succeeded, unit_logits
from kerasdense.tasks.classification import Classification
from kerasdense.tasks.detection import Detection, detection_targets
from kerasdense.tasks.segmentation import Segmentation, moved


def test_success_by_hand():
    # softmax of (0, log 3) is 1/4, 3/4.
    logits = np.log([[[1.0, 3.0], [3.0, 1.0], [1.0, 3.0], [1.0, 3.0]]])
    labels = np.array([[0, 0, 255, -1]])
    for targeted, confidence, expected in (
        (False, None, [True, False, False, False]),
        (True, None, [False, True, False, False]),
        (False, 0.74, [True, False, False, False]),
        (False, 0.76, [False, False, False, False]),
        (True, 0.74, [False, True, False, False]),
        (True, 0.76, [False, False, False, False]),
    ):
        success, counted = succeeded(
            tf.constant(logits), tf.constant(labels), Criterion(targeted, confidence)
        )
        np.testing.assert_array_equal(success, [expected])
        np.testing.assert_array_equal(counted, [[True, True, False, False]])


def test_a_confidence_is_a_probability():
    for confidence in (0, 1, 90):
        with pytest.raises(ValueError, match="confidence: expected a number between 0 and 1"):
            Criterion(confidence=confidence)


def test_the_labels_of_a_classifier_are_units():
    images = keras.Input((8, 8, 3), dtype="uint8")
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 64, offset=-2)(images))
    keras.utils.set_random_seed(0)
    model = keras.Model(images, keras.layers.Dense(5)(x))
    pictures_ = pictures(3, 8, 8)
    logits = np.asarray(
        unit_logits(model, tasks.of_model(model))(tf.constant(pictures_, tf.float32))
    )
    assert logits.shape == (3, 5, 2)
    np.testing.assert_array_equal(logits[..., 0], 0)
    np.testing.assert_allclose(logits[..., 1], model.predict_on_batch(pictures_), rtol=1e-4)
    labels = (logits[..., 1] > 0).astype(int)
    targets = 1 - labels
    targets[:, 2] = -1
    found = attacker(model, METHODS["pgd"](), targeted=True)(pictures_, targets, 60)
    now = (model.predict_on_batch(found) > 0).astype(int)
    np.testing.assert_array_equal(now[:, [0, 1, 3, 4]], targets[:, [0, 1, 3, 4]])


def detector(anchors=6, classes=2, seed=0):
    """A model and its task."""
    keras.utils.set_random_seed(seed)
    images = keras.Input((8, 8, 3), dtype="uint8")
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 64, offset=-2)(images))
    x = keras.layers.Dense(anchors * (classes + 5))(x)
    model = keras.Model(images, keras.layers.Reshape((anchors, classes + 5))(x))
    return model, Detection(["a", "b"], [[0, 0, 0], [9, 9, 9]])


def test_a_detector_is_silenced_and_moved():
    (model, task), images = detector(), pictures(3, 8, 8)
    raw = model.predict_on_batch(images)
    logits = unit_logits(model, task)(tf.constant(images, tf.float32))
    np.testing.assert_allclose(logits, raw[..., :3], rtol=1e-3, atol=1e-4)
    targets = detection_targets(raw, suppress=True)
    attack_batch = Attacker(model, task, METHODS["dag"](), Criterion(targeted=True))
    found = attack_batch(images, targets)
    assert np.all(model.predict_on_batch(found)[..., :3].argmax(-1) == 0)
    targets = detection_targets(raw, moves={1: 2})
    assert np.any(targets == 2)
    found = attack_batch(images, targets)
    now = model.predict_on_batch(found)[..., :3].argmax(-1)
    np.testing.assert_array_equal(now[targets >= 0], targets[targets >= 0])


def test_detection_targets_by_hand():
    probabilities = np.array(
        [
            [0.3, 0.6, 0.1],  # sure of class 1: to become 2
            [0.8, 0.15, 0.05],  # background with some of class 1: to stay background
            [0.9945, 0.0055, 0.0],  # of no account
            [0.2, 0.1, 0.7],  # of class 2: left alone
            [0.3, 0.4, 0.3],  # class 1, unsure: to become background
        ]
    )
    raw = np.concatenate([np.log(probabilities + 1e-9), np.ones((5, 4))], axis=-1)[None]
    targets = detection_targets(raw, moves={1: 2})
    np.testing.assert_array_equal(targets, [[2, 0, -1, -1, 0]])
    targets = detection_targets(raw, moves={1: 2}, score=0.39)
    np.testing.assert_array_equal(targets, [[2, 0, -1, -1, 2]])
    both = detection_targets(raw, moves={1: 2, 2: 1})
    np.testing.assert_array_equal(both, [[2, 0, -1, 1, 0]])
    np.testing.assert_array_equal(detection_targets(raw, suppress=True), [[0] * 5])
    for wrong in ({}, {"suppress": True, "moves": {1: 2}}):
        with pytest.raises(ValueError, match="Expected either suppress=True or moves"):
            detection_targets(raw, **wrong)


def test_moved_classes():
    labels = np.array([[0, 1, 2, 255]], np.uint8)
    np.testing.assert_array_equal(moved(labels, {0: 2, 2: 0}), [[2, 1, 0, 255]])


def test_models_that_do_not_fit():
    images = keras.Input((8, 8, 3), dtype="uint8")
    x = keras.layers.Rescaling(1.0)(images)
    classes = ["a", "b"], [[0, 0, 0], [9, 9, 9]]
    flat = keras.layers.Flatten()(x)
    for task, output in (
        (Segmentation(*classes), {"a": x}),
        (Segmentation(*classes), [x, x]),
        (Segmentation(*classes), flat),
        (Segmentation(*classes), x[..., :1]),
        (Detection(*classes), keras.layers.Reshape((48, 4))(x)),
        (Detection(*classes), flat),
        (Classification(*classes), {"a": flat}),
    ):
        model = keras.Model(images, output, name="other")
        with pytest.raises(ValueError, match=f'"other" gives .* Expected logits of {task.unit}s'):
            unit_logits(model, task)
