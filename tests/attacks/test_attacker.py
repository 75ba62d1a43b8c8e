"""Attacks on models whose gradients are known, and what must hold for every perturbation."""

import dataclasses
import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasdense.attacks import methods
from kerasdense.attacks.methods import Attack, METHODS
from kerasdense.attacks.attacker import apply, attacker, universal

BOUNDED = ("fgsm", "pgd", "segpgd", "cospgd")
SIGN = np.array([1.0, -1.0, 1.0])  # of the weights of `pixel_model`
WEIGHTS = SIGN * [0.02, 0.05, 0.01]


def pixel_model(weights=WEIGHTS, bias=0.0):
    """Each pixel is of class 1 where weights . rgb + bias > 0, else of class 0."""
    images = keras.Input((None, None, 3), dtype="uint8")
    x = keras.layers.Rescaling(1.0)(images)
    logits = keras.layers.Conv2D(2, 1)
    model = keras.Model(images, logits(x))
    kernel = np.stack([np.zeros(3), weights], axis=-1)
    logits.set_weights([kernel.reshape(1, 1, 3, 2), np.array([0.0, bias])])
    return model


def linear_classifier(size=6, bias=0.0, seed=0):
    """One label, present where w . x + bias > 0: (model, w float64 [size, size, 3])."""
    images = keras.Input((size, size, 3), dtype="uint8")
    dense = keras.layers.Dense(1)
    model = keras.Model(images, dense(keras.layers.Flatten()(keras.layers.Rescaling(1.0)(images))))
    w = np.random.default_rng(seed).normal(0, 0.05, (size, size, 3)).astype("float32")
    dense.set_weights([w.reshape(-1, 1), np.array([bias])])
    return model, w.astype("float64")


def conv_model(classes=4, seed=0):
    keras.utils.set_random_seed(seed)
    images = keras.Input((None, None, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 64, offset=-2)(images)
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    return keras.Model(images, keras.layers.Conv2D(classes, 3, padding="same")(x))


def pictures(count=2, height=12, width=10, low=0, high=256, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(low, high, (count, height, width, 3), "uint8")


def predicted(model, images):
    return model.predict_on_batch(images).argmax(axis=-1)


def lengths(images, adversarial_images, norm):
    r = adversarial_images.astype("float64") - images
    if norm == "linf":
        return np.abs(r).max(axis=(1, 2, 3))
    return np.sqrt(np.square(r).sum(axis=(1, 2, 3)))


# ---- how far


@pytest.mark.parametrize(
    "norm, epsilons", [("linf", (1, 1.9, 2, 7.5, 300)), ("l2", (0.4, 3, 55.5))]
)
@pytest.mark.parametrize("method", BOUNDED)
def test_epsilon_range_and_mask_hold(method, norm, epsilons):
    model, images = conv_model(), pictures()
    images[0, :4], images[1, :4] = 0, 255  # at the ends of the range
    options = {} if method == "fgsm" else {"steps": 4}
    attack_batch = attacker(model, METHODS[method](norm, **options))
    labels = predicted(model, images)
    regions = np.zeros((2, 12, 10), bool)
    regions[0, 2:7, 3:], regions[1, :5] = True, True
    for epsilon in epsilons:
        for mask in (None, regions[0], regions):
            found = attack_batch(images, labels, epsilon, mask=mask)
            assert found.dtype == np.uint8 and found.shape == images.shape
            limit = np.floor(epsilon) if norm == "linf" else epsilon
            assert np.all(lengths(images, found, norm) <= limit)
            if mask is not None:
                outside = ~np.broadcast_to(mask, regions.shape)
                np.testing.assert_array_equal(found[outside], images[outside])
            # uint8 wraps around: a step below 0 would arrive far above.
            assert np.all(np.abs(found.astype(int) - images) <= max(epsilon, 1))


def test_rounding_keeps_the_whole_numbers_that_count_most():
    # Nearest whole numbers of these are all 0. Of perturbations of whole numbers no longer than r,
    # whose length is sqrt(0.16 + 0.09 + 0.01 + 0.0004 * 2500) = 1.12, the one along r is 1 at the
    # largest.
    r = np.full((1, 50, 51, 1), 0.02)
    r[0, 0, 0], r[0, 0, 1], r[0, 0, 2] = 0.4, -0.3, 0.1
    r[0, 1:, -1] = 0
    r[0, 0, -1] = 0
    expected = np.zeros_like(r)
    expected[0, 0, 0] = 1
    np.testing.assert_array_equal(
        methods.NORMS["l2"].rounded(r, r - 255, r + 255, np.inf), expected
    )
    # Twice as long, 2.24: there is room for both (1.41), not for the next 2500 / 2 at once.
    expected[0, 0, 1] = -1
    rounded = methods.NORMS["l2"].rounded(1.5 * r, r - 255, r + 255, np.inf)
    np.testing.assert_array_equal(rounded[0, 0, :2], expected[0, 0, :2])
    assert np.sqrt(np.square(rounded).sum()) <= 1.5 * np.sqrt(np.square(r).sum()) * (1 + 1e-5)


@pytest.mark.parametrize("scale", [1.0, 1e-25])
def test_l2_direction_of_any_gradient(scale):
    # 3, 4, 0: length 5. A gradient of zeros gives no direction, and no NaN.
    gradient = np.zeros((2, 1, 1, 3), "float32")
    gradient[0, 0, 0] = scale * np.array([3, -4, 0])
    direction = np.asarray(methods.NORMS["l2"].direction(tf.constant(gradient)))
    np.testing.assert_allclose(direction[0, 0, 0], [0.6, -0.8, 0], rtol=1e-6)
    np.testing.assert_array_equal(direction[1], 0)


# ---- known optima


@pytest.mark.parametrize("method", BOUNDED)
def test_linear_pixels_go_to_the_corner_of_the_ball(method):
    # The loss of each pixel falls with |weights . rgb|, so the best of |r| <= 5 is 5 against the
    # sign of the weights where the class is 1, and along it where it is 0.
    model, images = pixel_model(bias=3.9), pictures(low=20, high=220)
    labels = predicted(model, images)
    assert 0.1 < labels.mean() < 0.9
    found = attacker(model, METHODS[method]())(images, labels, 5)
    expected = images + 5 * SIGN * (1 - 2 * labels[..., None])
    np.testing.assert_array_equal(found, expected)


def test_fgsm_in_l2_goes_along_the_weights():
    image = pictures(1, 6, 6, 100, 150)
    _, w = linear_classifier()
    model, _ = linear_classifier(bias=2 - np.sum(w * image))  # a logit of 2
    label = (model.predict_on_batch(image) > 0).astype(int)
    found = attacker(model, METHODS["fgsm"]("l2"))(image, label, 200.0)
    expected = (1 - 2 * label[0, 0]) * 200 * w / np.sqrt(np.square(w).sum())
    assert np.abs(found[0] - (image[0] + expected)).max() <= 1  # rounding
    assert 199 <= lengths(image, found, "l2")[0] <= 200


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("confidence", [None, 0.9])
def test_minimal_finds_the_distance_to_the_plane(seed, confidence):
    # w . x + bias = +-12, so that the plane is 12 / |w| away; with a confidence p it is the plane
    # where the logit is -+log(p / (1 - p)).
    sign = 1 if seed % 2 else -1
    image = pictures(1, 6, 6, 100, 150, seed)
    _, w = linear_classifier(seed=seed)
    model, _ = linear_classifier(bias=sign * 12 - np.sum(w * image), seed=seed)
    label = np.array([[1 if sign > 0 else 0]])
    attack_batch = attacker(model, METHODS["minimal"](), confidence=confidence)
    found = attack_batch(image, label)
    logit = model.predict_on_batch(found)[0, 0] * sign
    beyond = 0 if confidence is None else np.log(confidence / (1 - confidence))
    assert logit <= -beyond + 1e-3
    distance = (12 + beyond) / np.sqrt(np.square(w).sum())
    # Whole numbers: each pixel at most a half off, which across the plane is about
    # sqrt(108 / 12) = 3 gray levels.
    assert distance - 0.01 <= lengths(image, found, "l2")[0] <= 1.05 * distance + 1
    assert distance > 15


def test_minimal_changes_few_pixels_where_few_are_enough():
    # The logit has to fall by what the 12 largest of 768 weights give for one gray level each.
    # No shorter perturbation of whole numbers does that: of k ones, k < 12, or a two in place of
    # ones, less is gained for the length. It is sqrt(12) long.
    image = pictures(1, 16, 16, 100, 150)
    _, w = linear_classifier(16)
    needed = np.sort(np.abs(w).ravel())[-12:].sum() - 1e-3
    model, _ = linear_classifier(16, bias=needed - np.sum(w * image))
    found = attacker(model, METHODS["minimal"]())(image, np.array([[1]]))
    assert model.predict_on_batch(found)[0, 0] <= 1e-3
    assert lengths(image, found, "l2")[0] <= 1.2 * np.sqrt(12)


def test_the_loss_of_a_search_weakens_where_enough_is_won():
    # The steepest slope so far is 2; the first image is won, the second is not.
    gradient, r = np.ones((2, 1, 1, 3), "float32"), np.full((2, 1, 1, 3), 5, "float32")
    state = {"r": r, "slope": tf.constant([2.0, 2.0]), "strength": tf.constant([60.0, 60.0])}
    outcome = {"fooled": tf.constant([True, False])}
    attack = METHODS["minimal"](steps=10, step_size=0.5)
    state, gradient, size = methods._toward_shortest(attack, state, gradient, outcome, 4)
    np.testing.assert_allclose(state["strength"], [60 / 1.05, 60 * 1.05], rtol=1e-6)
    np.testing.assert_allclose(gradient[:, 0, 0, 0], [30 / 1.05 - 5, 30 * 1.05 - 5], rtol=1e-6)
    np.testing.assert_allclose(size, 0.5 * 0.6, rtol=1e-6)


def test_minimal_wins_the_cheapest_share_of_the_pixels():
    # 100 pixels; class 1 is left at rgb . w < -bias. The distance of pixel i grows with i, and to
    # win 60 % the cheapest are the first 60: sqrt(sum of their squared distances).
    distances = np.arange(1, 101).reshape(10, 10) / 2
    weights = np.array([0.0, 0.2, 0.0])
    images = np.full((1, 10, 10, 3), 128, "uint8")
    images[0, ..., 1] = 100 + np.floor(distances)
    model = pixel_model(weights, bias=-0.2 * 99.5)
    labels = np.ones((1, 10, 10), int)
    attack = METHODS["minimal"](share=0.6)
    found = attacker(model, attack)(images, labels)
    assert 60 <= np.sum(predicted(model, found) == 0) <= 62
    # The green of each has to fall to 99.
    needed = np.sort(np.floor(distances).ravel() + 1)[:60]
    assert lengths(images, found, "l2")[0] <= 1.2 * np.sqrt(np.square(needed).sum())


# ---- strength


@pytest.mark.parametrize("norm, epsilon", [("linf", 4), ("l2", 30)])
def test_pgd_is_at_least_as_strong_as_fgsm(norm, epsilon):
    wrong = {"fgsm": 0, "pgd": 0}
    for seed in range(3):
        model, images = conv_model(seed=seed), pictures(3, seed=seed)
        labels = predicted(model, images)
        for method in wrong:
            found = attacker(model, METHODS[method](norm))(images, labels, epsilon)
            wrong[method] += np.sum(predicted(model, found) != labels)
    assert wrong["pgd"] > wrong["fgsm"] > 0


def blobs(count, seed):
    """Noisy images of two kinds of squares, told apart by their color: (images, labels)."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((count, 24, 24), np.uint8)
    for label in labels:
        for kind in (1, 2, 1, 2):
            top, left = rng.integers(0, 16, 2)
            label[top : top + 8, left : left + 8] = kind
    colors = np.array([[120, 120, 120], [140, 110, 120], [105, 120, 140]])
    images = colors[labels] + rng.normal(0, 12, (*labels.shape, 3))
    return np.clip(images, 0, 255).astype(np.uint8), labels


@pytest.fixture(scope="module")
def trained():
    """A model fitted to `blobs`, and images that it has not seen."""
    keras.utils.set_random_seed(0)
    images = keras.Input((None, None, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 32, offset=-4)(images)
    for _ in range(2):
        x = keras.layers.Conv2D(12, 5, padding="same", activation="relu")(x)
    model = keras.Model(images, keras.layers.Conv2D(3, 1)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss, metrics=["accuracy"])
    model.fit(*blobs(64, seed=1), batch_size=8, epochs=6, verbose=0)
    images, labels = blobs(8, seed=2)
    assert np.mean(predicted(model, images) == labels) > 0.9
    return model, images, labels


def test_segpgd_and_cospgd_beat_pgd_at_equal_steps(trained):
    model, images, labels = trained
    wrong = {}
    for method in ("pgd", "segpgd", "cospgd"):
        found = attacker(model, METHODS[method](steps=10))(images, labels, 6)
        wrong[method] = np.mean(predicted(model, found) != labels)
    assert wrong["segpgd"] > wrong["pgd"] + 0.01
    assert wrong["cospgd"] > wrong["pgd"] + 0.01


def test_a_targeted_attack_reaches_its_target(trained):
    model, images, labels = trained
    targets = methods.moved(predicted(model, images), {1: 2, 2: 1})
    before = np.mean(predicted(model, images) == targets)
    for method, epsilon, least in (("pgd", 40, 0.95), ("dag", None, 0.98)):
        attack = METHODS[method]()
        found = attacker(model, attack, targeted=True)(images, targets, epsilon)
        assert before < 0.8 and np.mean(predicted(model, found) == targets) > least


def test_a_stated_confidence_is_reached(trained):
    model, images, labels = trained
    images, targets = images[:2], np.zeros((2, 24, 24), int)
    found = attacker(model, METHODS["dag"](), targeted=True, confidence=0.9)(images, targets)
    logits = model.predict_on_batch(found).astype("float64")
    sure = np.exp(logits - logits.max(-1, keepdims=True))
    sure = (sure / sure.sum(-1, keepdims=True))[..., 0]
    assert np.mean(sure >= 0.9) > 0.99
    without = attacker(model, METHODS["dag"](), targeted=True)(images, targets)
    assert lengths(images, without, "l2").mean() < lengths(images, found, "l2").mean()


def test_dag_moves_the_steepest_pixel_by_half_a_level_and_stops_when_done():
    # One pixel is 8.2 above the plane in units of green, the steepest color; green moves by 0.5 a
    # step, the others by less in proportion to their weights: 0.5 * (0.4, -1, 0.2). It is won
    # where 0.02 r + 0.05 g + 0.01 b > 0.05 * 8.2 for the rounded r = 0.2 k, g = 0.5 k, b = 0.1 k.
    model = pixel_model(bias=0.05 * 120 - 0.03 * 120 - 0.05 * 8.2)
    images, labels = np.full((1, 3, 3, 3), 120, "uint8"), np.full((1, 3, 3), 255)
    labels[0, 1, 1] = 0
    for k in range(1, 40):
        r = np.rint(k * np.array([0.2, -0.5, 0.1]))
        if r @ WEIGHTS > 0.05 * 8.2:
            break
    assert 10 < k < 20
    attack_batch = attacker(model, METHODS["dag"]())
    found = attack_batch(images, labels).astype(int) - images
    np.testing.assert_array_equal(found[0, 1, 1], r)
    assert np.abs(found).sum() == np.abs(r).sum()
    short = attacker(model, METHODS["dag"](steps=k - 1))(images, labels)
    assert predicted(model, short)[0, 1, 1] == 0  # one step less is too few


def test_dag_stops_when_all_is_won(trained):
    model, images, labels = trained
    steps = tf.Variable(0)

    def counting(gradient, norm, memory, number):
        steps.assign_add(1)
        return methods.LARGEST_ONE.move(gradient, norm, memory, number)

    attack = dataclasses.replace(METHODS["dag"](steps=500), step=methods.Step(counting))
    found = attacker(model, attack)(images[:1], labels[:1])
    assert np.all(predicted(model, found) != labels[:1])
    assert 5 < int(steps) < 400


def test_universal_fools_more_than_noise_of_the_same_size(trained):
    model, images, labels = trained
    train_images, train_labels = blobs(16, seed=3)
    batches = [(train_images[i : i + 6], train_labels[i : i + 6]) for i in (0, 6, 12)]  # 6, 6, 4
    counts = []
    found = universal(model, METHODS["pgd"](steps=5), batches, 8, passes=4, progress=counts.append)
    assert found.shape == (24, 24, 3) and found.dtype == np.int16
    assert np.abs(found).max() == 8 and counts == list(range(1, 13))
    noise = np.random.default_rng(0).choice([-8, 8], found.shape)
    wrong = [
        np.mean(predicted(model, apply(images, r)) != labels) for r in (found, noise, 0 * noise)
    ]
    assert wrong[0] > wrong[1] + 0.1 and wrong[0] > wrong[2] + 0.1
    np.testing.assert_array_equal(
        universal(model, METHODS["pgd"](steps=5), batches, 8, passes=4), found
    )


def test_universal_keeps_to_its_mask_and_its_l2_ball(trained):
    model, images, labels = trained
    mask = np.zeros((24, 24), bool)
    mask[5:15, 5:15] = True
    found = universal(
        model, METHODS["pgd"]("l2", steps=3), [(images, labels)], 90.0, passes=3, mask=mask
    )
    assert np.abs(found[~mask]).max() == 0
    assert 85 < np.sqrt(np.square(found.astype(float)).sum()) <= 90


def test_a_sticker_may_use_the_whole_length():
    # The part of the gradient outside the mask must not shorten the steps inside.
    model, images = conv_model(), pictures(low=60, high=200)
    mask = np.zeros((12, 10), bool)
    mask[3:6, 3:6] = True
    labels = predicted(model, images)
    for method in BOUNDED:
        found = attacker(model, METHODS[method]("l2"))(images, labels, 60.0, mask=mask)
        assert np.all(lengths(images, found, "l2") > 59)


def test_apply_stays_in_range():
    images = np.array([0, 100, 250], np.uint8).reshape(1, 1, 3, 1).repeat(3, -1)
    np.testing.assert_array_equal(apply(images, np.int16(-9))[0, 0, :, 0], [0, 91, 241])
    np.testing.assert_array_equal(apply(images, np.int16(9))[0, 0, :, 0], [9, 109, 255])


# ---- criterion, losses, weights


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
        success, counted = methods.succeeded(
            tf.constant(logits), tf.constant(labels), targeted, confidence
        )
        np.testing.assert_array_equal(success, [expected])
        np.testing.assert_array_equal(counted, [[True, True, False, False]])


def test_margin_by_hand():
    logits, labels = tf.constant([[[2.0, 5.0, 1.0]]]), tf.constant([[0]])
    margins = {
        key: float(methods.margin(logits, labels, *key)[0, 0])
        for key in ((False, None), (True, None), (False, 0.9), (True, 0.9))
    }
    assert margins[False, None] == 5 - 2 and margins[True, None] == 2 - 5
    # logit of the probability of class 1 less the logit of 0.9
    beyond = 5 - np.log(np.exp(2) + np.exp(1)) - np.log(9)
    np.testing.assert_allclose(margins[False, 0.9], min(3, beyond), rtol=1e-5)
    np.testing.assert_allclose(
        margins[True, 0.9], 2 - np.log(np.exp(5) + np.exp(1)) - np.log(9), rtol=1e-5
    )


def test_margin_with_confidence_is_zero_just_there():
    logits = tf.constant([[[0.0, 0.0, 0.0]]])
    logits += tf.one_hot([[2]], 3) * np.float32(np.log(2 * 9))  # 18 of 20: probability 0.9
    for targeted, label in ((True, 2), (False, 0)):
        value = methods.margin(logits, tf.constant([[label]]), targeted, 0.9)
        np.testing.assert_allclose(value, 0, atol=1e-6)


def test_weights_by_hand():
    logits = tf.constant(np.log([[[1.0, 3.0], [3.0, 1.0]]]), tf.float32)
    labels, success = tf.constant([[0, 0]]), tf.constant([[True, False]])
    # lambda of step t = 1, 2, 3, 4 of 4 is 0, 1/8, 2/8, 3/8.
    for step in range(4):
        weights = methods.segpgd_weights(logits, labels, success, False, step, 4)
        np.testing.assert_allclose(weights, [[step / 8, 1 - step / 8]])
    # (1/4, 3/4) and (3/4, 1/4) with (1, 0): 1 / sqrt(10) and 3 / sqrt(10)
    cosine = np.array([[1, 3]]) / np.sqrt(10)
    for targeted, expected in ((False, cosine), (True, 1 - cosine)):
        weights = methods.cospgd_weights(logits, labels, success, targeted, 0, 4)
        np.testing.assert_allclose(weights, expected, rtol=1e-5)


def test_ignored_pixels_have_no_influence():
    # 255 and -1 are no classes. What the labels there would have been must not matter, and a model
    # of single pixels leaves them alone.
    model, images = pixel_model(bias=3.9), pictures(low=20, high=220)
    labels = predicted(model, images).astype(int)
    labels[0, :5], labels[1, 3:, :4] = 255, -1
    for method, epsilon in (("pgd", 5), ("segpgd", 5), ("dag", None), ("minimal", None)):
        options = {"random_start": False} if epsilon else {"steps": 30}
        found = attacker(model, METHODS[method](**options))(images, labels, epsilon)
        outside = (labels < 0) | (labels > 1)
        np.testing.assert_array_equal(found[outside], images[outside])
        assert np.any(found != images)


def test_an_image_without_units_stays_as_it_is():
    model, images = conv_model(), pictures()
    labels = predicted(model, images)
    labels[0] = 255
    for method, epsilon in (("pgd", 4), ("dag", None), ("minimal", None)):
        found = attacker(model, METHODS[method](steps=5))(images, labels, epsilon)
        np.testing.assert_array_equal(found[0], images[0])
        assert np.any(found[1] != images[1])


# ---- the units of classifiers and detectors


def test_the_labels_of_a_classifier_are_units():
    images = keras.Input((8, 8, 3), dtype="uint8")
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 64, offset=-2)(images))
    keras.utils.set_random_seed(0)
    model = keras.Model(images, keras.layers.Dense(5)(x))
    pictures_ = pictures(3, 8, 8)
    logits = np.asarray(methods.unit_logits(model)(tf.constant(pictures_, tf.float32)))
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
    keras.utils.set_random_seed(seed)
    images = keras.Input((8, 8, 3), dtype="uint8")
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 64, offset=-2)(images))
    x = keras.layers.Dense(anchors * (classes + 5))(x)
    return keras.Model(images, keras.layers.Reshape((anchors, classes + 5))(x))


def test_a_detector_is_silenced_and_moved():
    model, images = detector(), pictures(3, 8, 8)
    raw = model.predict_on_batch(images)
    logits = methods.unit_logits(model)(tf.constant(images, tf.float32))
    np.testing.assert_allclose(logits, raw[..., :3], rtol=1e-3, atol=1e-4)
    targets = methods.detection_targets(raw, suppress=True)
    found = attacker(model, METHODS["dag"](), targeted=True)(images, targets)
    assert np.all(model.predict_on_batch(found)[..., :3].argmax(-1) == 0)
    targets = methods.detection_targets(raw, moves={1: 2})
    assert np.any(targets == 2)
    found = attacker(model, METHODS["dag"](), targeted=True)(images, targets)
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
    targets = methods.detection_targets(raw, moves={1: 2})
    np.testing.assert_array_equal(targets, [[2, 0, -1, -1, 0]])
    targets = methods.detection_targets(raw, moves={1: 2}, score=0.39)
    np.testing.assert_array_equal(targets, [[2, 0, -1, -1, 2]])
    both = methods.detection_targets(raw, moves={1: 2, 2: 1})
    np.testing.assert_array_equal(both, [[2, 0, -1, 1, 0]])
    np.testing.assert_array_equal(methods.detection_targets(raw, suppress=True), [[0] * 5])
    for wrong in ({}, {"suppress": True, "moves": {1: 2}}):
        with pytest.raises(ValueError, match="Expected either suppress=True or moves"):
            methods.detection_targets(raw, **wrong)


def test_moved_classes():
    labels = np.array([[0, 1, 2, 255]], np.uint8)
    np.testing.assert_array_equal(methods.moved(labels, {0: 2, 2: 0}), [[2, 1, 0, 255]])


# ---- batches, seeds, programs


@pytest.mark.parametrize("method", [*METHODS])
def test_a_batch_is_attacked_as_its_images_are(method):
    model, images = conv_model(), pictures(3)
    labels = predicted(model, images).astype(int)
    labels[1, :9] = 255  # a third as many units as the others
    options = {} if method == "fgsm" else {"steps": 12}
    if method in BOUNDED[1:]:
        options["random_start"] = False
    attack = METHODS[method](**options)
    epsilon = 6 if attack.bounded else None
    attack_batch = attacker(model, attack)
    together = attack_batch(images, labels, epsilon)
    singly = [attack_batch(images[i : i + 1], labels[i : i + 1], epsilon)[0] for i in range(3)]
    different = np.mean(together != np.stack(singly))
    assert different < 0.01  # a last bit of a convolution may turn the sign of a gradient near 0
    assert np.any(together != images)


def test_the_seed_decides():
    model, images = conv_model(), pictures()
    labels = predicted(model, images)
    attack_batch = attacker(model, METHODS["pgd"](steps=3))
    first, again, other = (attack_batch(images, labels, 8, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)
    fresh = attacker(model, METHODS["pgd"](steps=3))(images, labels, 8, seed=1)
    np.testing.assert_array_equal(first, fresh)


def test_other_numbers_do_not_trace_again(monkeypatch):
    model, images = conv_model(), pictures()
    labels = predicted(model, images).astype(int)
    traces = []

    def counting(model):
        logits_of = original(model)

        def function(images):
            traces.append(1)
            return logits_of(images)

        return function

    original = methods.unit_logits
    monkeypatch.setattr(adversarial, "unit_logits", counting)
    attack_batch = attacker(model, METHODS["segpgd"](steps=40))
    attack_batch(images, labels, 3)
    before = len(traces)
    assert 0 < before <= 4
    mask = np.zeros(images.shape[:3], bool)
    mask[:, 4:] = True
    attack_batch(images, 3 - labels, 7.5, seed=5)
    attack_batch(images, labels, 2, start=np.ones(images.shape), progress=lambda done: None)
    attack_batch(images[::-1], labels, 2, mask=mask[0])
    assert len(traces) == before


def test_the_start_is_a_candidate_and_progress_is_told():
    model, images = conv_model(), pictures()
    labels = predicted(model, images)
    strong = attacker(model, METHODS["segpgd"](steps=30))(images, labels, 8)
    counts = []
    attack = METHODS["pgd"](steps=45, step_size=1e-6)  # which gets nowhere
    start = strong.astype(int) - images
    found = attacker(model, attack)(images, labels, 8, start=start, progress=counts.append)
    np.testing.assert_array_equal(found, strong)
    assert counts == [*range(3, 46, 3)]
    # A start outside the ball is brought into it.
    found = attacker(model, attack)(images, labels, 3, start=start)
    assert lengths(images, found, "linf").max() == 3


def test_search_inside_another_program_is_the_same_attack():
    model, images = conv_model(), pictures()
    labels = predicted(model, images).astype("uint8")
    labels[0, :3] = 255
    logits_of = methods.unit_logits(model)

    @tf.function
    def program(images, labels, epsilon, noise):
        attack = METHODS["pgd"](steps=5)
        return methods.search(logits_of, images, labels, attack, epsilon, noise)

    noise = np.zeros(images.shape, "float32")
    r = program(images, labels, 5.0, noise).numpy()
    assert np.abs(r).max() == 5 and np.all((images + r >= 0) & (images + r <= 255))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    before, after = (loss(labels, logits_of(tf.constant(images + k * r))) for k in (0, 1))
    attack = METHODS["pgd"](steps=5, random_start=False)
    best = attacker(model, attack)(images, labels, 5).astype("float32")
    assert after > before and loss(labels, logits_of(tf.constant(best))) >= 0.95 * after


def test_half_precision_models_have_a_gradient():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = conv_model()
    finally:
        keras.config.set_dtype_policy("float32")
    images = pictures(1, 64, 64)
    labels = predicted(model, images)
    found = attacker(model, METHODS["pgd"](steps=5))(images, labels, 4)
    assert np.mean(predicted(model, found) != labels) > 0.05


# ---- mistakes


def rounding_model():
    images = keras.Input((None, None, 3), dtype="uint8")
    x = keras.layers.Lambda(lambda x: keras.ops.cast(keras.ops.cast(x, "int32"), "float32"))(images)
    return keras.Model(images, keras.layers.Conv2D(2, 1)(x))


def test_a_model_without_gradients_to_its_input():
    images, labels = pictures(), np.zeros((2, 12, 10), int)
    with pytest.raises(ValueError, match="No gradient reaches the images"):
        attacker(rounding_model(), METHODS["pgd"]())(images, labels, 4)


def test_gradients_that_are_all_zero():
    # The second class leads by 500 everywhere: the softmax is exactly 0 and 1.
    model = pixel_model(0 * WEIGHTS, bias=500.0)
    images, labels = pictures(), np.ones((2, 12, 10), int)
    with pytest.raises(ValueError, match="No gradient reaches the images: it was 0 in all pixels"):
        attacker(model, METHODS["pgd"]())(images, labels, 4)


@pytest.mark.parametrize("bias, weights, what", [(np.nan, WEIGHTS, "logits"), (0, np.inf, "")])
def test_numbers_that_are_not_finite(bias, weights, what):
    model = pixel_model(weights * np.ones(3), bias)
    images, labels = pictures(low=1), np.zeros((2, 12, 10), int)
    for method, epsilon in (("pgd", 4), ("dag", None), ("minimal", None)):
        with pytest.raises(ValueError, match=f"{what}.* not finite"):
            attacker(model, METHODS[method](steps=3))(images, labels, epsilon)


@pytest.mark.parametrize("epsilon", [0, -1, float("nan"), float("inf"), None])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_bad_epsilon(epsilon, norm):
    images, labels = pictures(), np.zeros((2, 12, 10), int)
    with pytest.raises(ValueError, match="epsilon: expected gray levels above 0"):
        attacker(conv_model(), METHODS["pgd"](norm))(images, labels, epsilon)


def test_an_epsilon_that_uint8_cannot_hold():
    images, labels = pictures(), np.zeros((2, 12, 10), int)
    with pytest.raises(ValueError, match="at least 1 gray level, received 0.5"):
        attacker(conv_model(), METHODS["pgd"]())(images, labels, 0.5)


BAD_ARGUMENTS = [
    ({"labels": np.zeros((2, 10, 12), int)}, r"labels: expected integers \(2, 12, 10\)"),
    ({"labels": np.zeros((1, 12, 10), int)}, r"labels: expected integers \(2, 12, 10\)"),
    ({"labels": np.zeros((2, 12, 10))}, "received float64"),
    ({"labels": np.full((2, 12, 10), 255)}, "no unit counts.*classes 0 to 3, received only 255"),
    ({"images": pictures().astype("float32")}, "images: expected uint8"),
    ({"images": pictures()[0]}, "images: expected uint8"),
    ({"mask": np.ones((10, 12), bool)}, r"mask: expected \(12, 10\) or \(2, 12, 10\)"),
    ({"mask": np.zeros((12, 10), bool)}, "mask: no pixel may change"),
    ({"start": np.zeros((2, 12, 10))}, "start: expected a finite perturbation"),
    ({"start": np.full((2, 12, 10, 3), np.nan)}, "start: expected a finite perturbation"),
]


@pytest.mark.parametrize("wrong, message", BAD_ARGUMENTS)
def test_bad_arguments(wrong, message):
    arguments = {"images": pictures(), "labels": np.zeros((2, 12, 10), int), "epsilon": 4}
    attack_batch = attacker(conv_model(), METHODS["pgd"]())
    with pytest.raises(ValueError, match=message) as caught:
        attack_batch(**arguments | wrong)
    assert "\n" not in str(caught.value)


def test_models_and_parts_that_do_not_fit():
    images = keras.Input((8, 8, 3), dtype="uint8")
    x = keras.layers.Rescaling(1.0)(images)
    for output in (keras.layers.Reshape((48, 4))(x), {"a": x}, [x, x]):
        with pytest.raises(ValueError, match="Expected logits"):
            methods.unit_logits(keras.Model(images, output))
    for confidence in (0, 1, 90):
        with pytest.raises(ValueError, match="confidence: expected a number between 0 and 1"):
            attacker(conv_model(), METHODS["pgd"](), confidence=confidence)
    with pytest.raises(ValueError, match="norm: expected one of"):
        METHODS["pgd"]("l1")
    with pytest.raises(ValueError, match="norm: minimal measures by l2 only"):
        METHODS["minimal"]("linf")
    with pytest.raises(ValueError, match="fgsm is one step"):
        METHODS["fgsm"](steps=3)
    for steps in (0, -1, 1.5):
        with pytest.raises(ValueError, match="steps: expected an int of at least 1"):
            METHODS["segpgd"](steps=steps)
    with pytest.raises(ValueError, match="step_size: expected a number above 0"):
        METHODS["dag"](step_size=0)
    with pytest.raises(ValueError, match="share: expected a number above 0"):
        METHODS["minimal"](share=0)


def test_bad_universal():
    model, images = conv_model(), pictures()
    batch = (images, predicted(model, images))
    attack = METHODS["pgd"]()
    with pytest.raises(ValueError, match="expected an attack that is bounded"):
        universal(model, METHODS["dag"](), [batch], 4)
    with pytest.raises(ValueError, match="passes: expected"):
        universal(model, attack, [batch], 4, passes=0)
    with pytest.raises(ValueError, match="batches: expected at least one"):
        universal(model, attack, [], 4)
    with pytest.raises(ValueError, match="A generator is empty after the first pass"):
        universal(model, attack, iter([batch]), 4)
    other = pictures(2, 10, 12)
    with pytest.raises(ValueError, match="images of one size"):
        universal(model, attack, [batch, (other, predicted(model, other))], 4)
    with pytest.raises(ValueError, match="epsilon: expected"):
        universal(model, attack, [batch], 0)


def test_an_attack_of_own_parts():
    # PGD that looks only at pixels it has not won yet
    attack = dataclasses.replace(METHODS["pgd"](steps=8), weights=methods.unsuccessful)
    assert isinstance(attack, Attack)
    model, images = conv_model(), pictures()
    labels = predicted(model, images)
    found = attacker(model, attack)(images, labels, 6)
    assert np.mean(predicted(model, found) != labels) > 0.1


# ---- JAX

JAX_SCRIPT = """
import sys

sys.modules["tensorflow"] = None

import jax
import keras
import numpy as np

from kerasdense import adversarial
from kerasdense.layers import ImageNetPreprocessing

assert keras.backend.backend() == "jax"
keras.utils.set_random_seed(0)
images = keras.Input((None, None, 3), dtype="uint8")
x = ImageNetPreprocessing("torch")(images)
x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(x)
model = keras.Model(images, keras.layers.Conv2D(3, 1)(x))
pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 70, 3), "uint8")
labels = model.predict_on_batch(pictures).argmax(-1).astype("uint8")
labels[0, :3] = 255
known = labels != 255
for name, method in methods.METHODS.items():
    attack = method() if name == "fgsm" else method(steps=30)
    attack_batch = methods.attacker(model, attack)
    found = attack_batch(pictures, labels, 6 if attack.bounded else None)
    wrong = np.mean((model.predict_on_batch(found).argmax(-1) != labels)[known])
    largest = np.abs(found.astype(int) - pictures).max()
    print(name, wrong, largest)
    assert wrong > 0.02 and (not attack.bounded or largest == 6)

found = methods.universal(model, methods.METHODS["fgsm"](), [(pictures, labels)], 8)
assert found.shape == (64, 70, 3) and np.abs(found).max() == 8

logits_of = methods.unit_logits(model)
attack = methods.METHODS["pgd"](steps=3)
r = jax.jit(lambda *a: methods.search(logits_of, a[0], a[1], attack, a[2], a[3]))(
    pictures, labels, 4.0, np.zeros(pictures.shape, "float32")
)
assert r.shape == pictures.shape and np.abs(r).max() == 4

x = keras.layers.Lambda(lambda x: keras.ops.round(keras.ops.cast(x, "float32")))(images)
rounding = keras.Model(images, keras.layers.Conv2D(3, 1)(x))
try:
    methods.attacker(rounding, attack)(pictures, labels * 0, 4)
except ValueError as error:
    assert "No gradient reaches the images" in str(error)
    print("all attacks ran")
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_attacks_on_jax_without_tensorflow():
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    result = subprocess.run(
        [sys.executable, "-c", JAX_SCRIPT], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0 and "all attacks ran" in result.stdout, result.stderr
