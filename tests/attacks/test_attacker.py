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
from attacks.by_hand import (
    SIGN,
    WEIGHTS,
    attacker,
    conv_model,
    lengths,
    pictures,
    pixel_model,
    predicted,
)

from kerasdense.attacks.methods import METHODS
from kerasdense.attacks.steps import LARGEST_ONE, Step
from kerasdense.explain import gradients
from kerasdense.tasks.segmentation import moved

BOUNDED = ("fgsm", "pgd", "segpgd", "cospgd")


def linear_classifier(size=6, bias=0.0, seed=0):
    """One label, present where w . x + bias > 0: (model, w float64 [size, size, 3])."""
    images = keras.Input((size, size, 3), dtype="uint8")
    dense = keras.layers.Dense(1)
    model = keras.Model(images, dense(keras.layers.Flatten()(keras.layers.Rescaling(1.0)(images))))
    w = np.random.default_rng(seed).normal(0, 0.05, (size, size, 3)).astype("float32")
    dense.set_weights([w.reshape(-1, 1), np.array([bias])])
    return model, w.astype("float64")


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
    targets = moved(predicted(model, images), {1: 2, 2: 1})
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
        return LARGEST_ONE.move(gradient, norm, memory, number)

    attack = dataclasses.replace(METHODS["dag"](steps=500), step=Step(counting))
    found = attacker(model, attack)(images[:1], labels[:1])
    assert np.all(predicted(model, found) != labels[:1])
    assert 5 < int(steps) < 400


def test_a_sticker_may_use_the_whole_length():
    # The part of the gradient outside the mask must not shorten the steps inside.
    model, images = conv_model(), pictures(low=60, high=200)
    mask = np.zeros((12, 10), bool)
    mask[3:6, 3:6] = True
    labels = predicted(model, images)
    for method in BOUNDED:
        found = attacker(model, METHODS[method]("l2"))(images, labels, 60.0, mask=mask)
        assert np.all(lengths(images, found, "l2") > 59)


# ---- what does not count


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
    attack_batch = attacker(model, METHODS["pgd"](steps=3), seed=1)
    first, again = (attack_batch(images, labels, 8) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other, fresh = (
        attacker(model, METHODS["pgd"](steps=3), seed=seed)(images, labels, 8) for seed in (2, 1)
    )
    assert np.any(first != other)
    np.testing.assert_array_equal(first, fresh)


def test_other_numbers_do_not_trace_again(monkeypatch):
    model, images = conv_model(), pictures()
    labels = predicted(model, images).astype(int)
    traces = []

    def counting(model, outputs):
        logits_of = original(model, outputs)

        def function(images):
            traces.append(1)
            return logits_of(images)

        return function

    original = gradients.on_pixels
    monkeypatch.setattr(gradients, "on_pixels", counting)
    attack_batch = attacker(model, METHODS["segpgd"](steps=40))
    attack_batch(images, labels, 3)
    before = len(traces)
    assert 0 < before <= 4
    mask = np.zeros(images.shape[:3], bool)
    mask[:, 4:] = True
    attack_batch(images, 3 - labels, 7.5)
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


# ---- JAX

JAX_SCRIPT = """
import sys

sys.modules["tensorflow"] = None

import jax
import keras
import numpy as np

from kerasdense import tasks
from kerasdense.attacks import loop
from kerasdense.attacks.attacker import Attacker
from kerasdense.attacks.methods import METHODS
from kerasdense.attacks.units import unit_logits
from kerasdense.attacks.universal import universal
from kerasdense.models.layers import ImageNetPreprocessing

assert keras.backend.backend() == "jax"
keras.utils.set_random_seed(0)
images = keras.Input((None, None, 3), dtype="uint8")
x = ImageNetPreprocessing("torch")(images)
x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(x)
model = keras.Model(images, keras.layers.Conv2D(3, 1)(x))
task = tasks.of_model(model)
pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 70, 3), "uint8")
labels = model.predict_on_batch(pictures).argmax(-1).astype("uint8")
labels[0, :3] = 255
known = labels != 255
for name, method in METHODS.items():
    attack = method() if name == "fgsm" else method(steps=30)
    attack_batch = Attacker(model, task, attack)
    found = attack_batch(pictures, labels, 6 if attack.bounded else None)
    wrong = np.mean((model.predict_on_batch(found).argmax(-1) != labels)[known])
    largest = np.abs(found.astype(int) - pictures).max()
    print(name, wrong, largest)
    assert wrong > 0.02 and (not attack.bounded or largest == 6)

attack_batch = Attacker(model, task, METHODS["fgsm"]())
found = universal(attack_batch, [(pictures, labels)], 8)
assert found.shape == (64, 70, 3) and np.abs(found).max() == 8

logits_of = unit_logits(model, task)
attack = METHODS["pgd"](steps=3)
r = jax.jit(lambda noise, *a: loop.search(loop.Problem.of(logits_of, *a), attack, noise))(
    np.zeros(pictures.shape, "float32"), pictures, labels, 4.0
)
assert r.shape == pictures.shape and np.abs(r).max() == 4

x = keras.layers.Lambda(lambda x: keras.ops.round(keras.ops.cast(x, "float32")))(images)
rounding = keras.Model(images, keras.layers.Conv2D(3, 1)(x))
try:
    Attacker(rounding, task, attack)(pictures, labels * 0, 4)
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
