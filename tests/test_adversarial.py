"""Attacks on models whose answers and gradients are known by hand, and on one trained here."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from kerasdense import adversarial
from kerasdense.adversarial import METHODS, attacker
from kerasdense.labels import IGNORE

WEIGHTS = np.array([0.03, -0.02, 0.01], np.float32)  # of red, green and blue
rng = np.random.default_rng(0)

JAX = """
import keras
import numpy as np
from kerasdense import adversarial
images = keras.Input((None, None, 3), dtype="uint8")
x = keras.layers.Rescaling(1 / 255)(images)
model = keras.Model(images, keras.layers.Conv2D(2, 1, name="score")(x))
weights = np.zeros((1, 1, 3, 2), "float32")
weights[0, 0, :, 1] = 5, -5, 5
model.get_layer("score").set_weights([weights, np.float32([0, -1])])
pictures = np.full((2, 6, 8, 3), 50, "uint8")  # red - green + blue is 50: 5 * 50 / 255 < 1
for name in ("fgsm", "pgd", "dag"):
    attack = adversarial.attacker(model, adversarial.METHODS[name]())
    changed = attack(pictures, np.zeros((2, 6, 8), int), None if name == "dag" else 4)
    assert (model.predict_on_batch(changed).argmax(-1) == 1).all(), name
"""


def pixelwise(weights=WEIGHTS, bias=0.0):
    """Segmentation of two classes: logits 0 and weights . pixel + bias."""
    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    x = keras.layers.Rescaling(1.0, name="preprocess")(images)
    model = keras.Model(images, keras.layers.Conv2D(2, 1, name="score")(x), name="pixelwise")
    kernel = np.stack([np.zeros(3, np.float32), weights], axis=-1)[None, None]
    model.get_layer("score").set_weights([kernel, np.float32([0, bias])])
    return model


def convolutional(classes=3, seed=0):
    """A random segmentation model of two layers, neither linear nor pixel by pixel."""
    keras.utils.set_random_seed(seed)
    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    x = keras.layers.Rescaling(1 / 64, -2.0)(images)
    x = keras.layers.Conv2D(8, 3, padding="same", activation="tanh")(x)
    return keras.Model(images, keras.layers.Conv2D(classes, 3, padding="same", name="score")(x))


def predicted(model, images):
    return model.predict_on_batch(images).argmax(axis=-1)


def lengths(images, changed, norm):
    r = (changed.astype(float) - images).reshape(len(images), -1)
    return np.abs(r).max(axis=1) if norm == "linf" else np.sqrt(np.square(r).sum(axis=1))


@pytest.fixture(scope="module")
def trained():
    """A model fitted to tell vertical, horizontal and no stripes, with test images and masks."""

    def scenes(seed, count):
        draw = np.random.default_rng(seed)
        images = draw.normal(0, 20, (count, 32, 32, 3))
        masks = np.zeros((count, 32, 32), np.uint8)
        for image, mask in zip(images, masks):
            for label in (1, 2):
                top, left = draw.integers(0, 20, 2)
                block = np.s_[top : top + 12, left : left + 12]
                stripes = 80 * (np.arange(12) // 2 % 2) - 40
                image[block] += (stripes if label == 1 else stripes[:, None])[..., None]
                mask[block] = label
        return np.clip(images + 128, 0, 255).astype(np.uint8), masks

    keras.utils.set_random_seed(0)
    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    x = keras.layers.Rescaling(1 / 50, -2.56)(images)
    for _ in range(3):
        x = keras.layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    model = keras.Model(images, keras.layers.Conv2D(3, 1, name="score")(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    model.fit(*scenes(0, 96), batch_size=16, epochs=10, verbose=0)
    images, masks = scenes(1, 12)
    assert (predicted(model, images) == masks).mean() > 0.9
    return model, images, masks


def accuracy(model, changed, labels):
    return (predicted(model, changed) == labels).mean()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("method", ["fgsm", "pgd", "segpgd", "cospgd", "dag"])
def test_no_perturbation_leaves_its_ball_its_mask_or_the_range(method, norm):
    model = convolutional()
    images = rng.integers(0, 256, (3, 8, 10, 3), np.uint8)
    images[0], images[1, :, :5] = 255, 0  # where the range ends
    labels = rng.integers(0, 3, (3, 8, 10))
    mask = np.zeros((8, 10), bool)
    mask[2:6, 3:9] = True
    attack = attacker(model, METHODS[method](norm=norm))
    for epsilon in (1, 2.7, 9, 60, 400):
        changed = attack(images, labels, epsilon, mask=mask)
        assert changed.dtype == np.uint8 and changed.shape == images.shape
        radius = np.floor(epsilon) if norm == "linf" else epsilon
        assert (lengths(images, changed, norm) <= radius + 1e-9).all()
        np.testing.assert_array_equal(changed[:, ~mask], images[:, ~mask])
    assert (changed[:, mask] != images[:, mask]).any()


def test_fgsm_of_a_linear_model_is_the_sign_of_its_weights():
    images = np.full((1, 2, 2, 3), 100, np.uint8)
    labels = np.array([[[0, 1], [0, 0]]])
    changed = attacker(pixelwise(), METHODS["fgsm"]())(images, labels, epsilon=5)
    away_from_0 = 100 + 5 * np.sign(WEIGHTS)
    away_from_1 = 100 - 5 * np.sign(WEIGHTS)
    np.testing.assert_array_equal(changed[0], [[away_from_0, away_from_1], [away_from_0] * 2])
    # PGD cannot do better in that ball, and reaches it from any start.
    again = attacker(pixelwise(), METHODS["pgd"](steps=10))(images, labels, epsilon=5, seed=3)
    np.testing.assert_array_equal(again, changed)


def test_fgsm_in_l2_moves_along_the_weights():
    # One pixel: the direction is that of the weights, 3 : -2 : 1, its length sqrt(14) a unit.
    images = np.full((1, 1, 1, 3), 100, np.uint8)
    attack = attacker(pixelwise(), METHODS["fgsm"](norm="l2"))
    changed = attack(images, np.zeros((1, 1, 1), int), epsilon=10 * np.sqrt(14) + 0.01)
    np.testing.assert_array_equal(changed, [[[[130, 80, 110]]]])


def test_minimal_finds_the_distance_to_a_plane():
    """One label whose logit is linear in all pixels: the shortest way is along its weights."""
    weights = rng.normal(0, 1, 8 * 8 * 3).astype(np.float32)
    images = keras.Input((8, 8, 3), dtype="uint8")
    x = keras.layers.Flatten()(keras.layers.Rescaling(1.0)(images))
    model = keras.Model(images, keras.layers.Dense(1, name="logits")(x))
    pictures = np.full((2, 8, 8, 3), 128, np.uint8)
    distances = np.array([40.0, 80.0])
    pictures[1] = np.clip(
        128 + 40 * weights.reshape(8, 8, 3) / np.linalg.norm(weights), 0, 255
    ).round()
    plane = weights @ pictures[0].ravel().astype(np.float32) - 40 * np.linalg.norm(weights)
    model.get_layer("logits").set_weights([weights[:, None], np.float32([-plane])])
    distances[1] = model.predict_on_batch(pictures)[1, 0] / np.linalg.norm(weights)
    changed = attacker(model, METHODS["minimal"]())(pictures, np.ones((2, 1), int))
    assert (model.predict_on_batch(changed) < 0).all()
    found = lengths(pictures, changed, "l2")
    assert (found >= distances - 1e-3).all() and (found <= 1.1 * distances).all(), found


@pytest.mark.parametrize("norm, epsilon", [("linf", 3), ("l2", 120)])
def test_stronger_methods_are_stronger(trained, norm, epsilon):
    model, images, masks = trained
    after = {
        name: accuracy(model, attacker(model, attack)(images, masks, epsilon), masks)
        for name, attack in {
            "fgsm": METHODS["fgsm"](norm),
            "pgd": METHODS["pgd"](norm, steps=5),
            "longer pgd": METHODS["pgd"](norm, steps=40),
        }.items()
    }
    assert accuracy(model, images, masks) > after["fgsm"] >= after["pgd"] >= after["longer pgd"]


def test_segpgd_beats_pgd_at_equal_steps(trained):
    model, images, masks = trained
    for steps in (5, 10):
        after = {
            name: accuracy(
                model, attacker(model, METHODS[name](steps=steps))(images, masks, 4), masks
            )
            for name in ("pgd", "segpgd", "cospgd")
        }
        assert after["segpgd"] < after["pgd"] and after["cospgd"] < after["pgd"], after


@pytest.mark.parametrize("method, epsilon", [("pgd", 60), ("segpgd", 60), ("dag", None)])
def test_a_targeted_attack_reaches_its_target(trained, method, epsilon):
    model, images, masks = trained
    seen = predicted(model, images)
    targets = adversarial.moved(seen, {1: 2})
    asked = (seen == 1).sum()
    attack = METHODS[method](steps=400 if method == "dag" else 50)
    changed = attacker(model, attack, targeted=True)(images, targets, epsilon)
    now = predicted(model, changed)
    assert (now[seen == 1] == 2).sum() > 0.95 * asked
    assert (now == targets).mean() > 0.95  # and the others stay


def test_a_stated_confidence_is_reached(trained):
    model, images, masks = trained
    targets = np.full_like(masks, IGNORE)
    targets[:, 8:16, 8:16] = 2
    changed = attacker(model, METHODS["dag"](), targeted=True, confidence=0.9)(images, targets)
    logits = model.predict_on_batch(changed)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    assert (probabilities[:, 8:16, 8:16, 2] >= 0.9).mean() > 0.95
    success, counted = adversarial.succeeded(logits, targets, targeted=True, confidence=0.9)
    assert np.asarray(counted).sum() == 12 * 64
    np.testing.assert_array_equal(
        np.asarray(success)[:, 8:16, 8:16], probabilities[:, 8:16, 8:16, 2] >= 0.9
    )


def test_success_by_hand():
    logits = np.log(np.float32([[[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8], [1, 2, 3]]]))
    labels = np.array([[0, 0, 1, IGNORE]])
    for arguments, wanted in [
        ({}, [0, 1, 1, 0]),
        ({"confidence": 0.75}, [0, 0, 1, 0]),
        ({"targeted": True}, [1, 0, 0, 0]),
        ({"targeted": True, "confidence": 0.7}, [0, 0, 0, 0]),
    ]:
        success, counted = adversarial.succeeded(logits, labels, **arguments)
        np.testing.assert_array_equal(counted, [[1, 1, 1, 0]])
        np.testing.assert_array_equal(success, [wanted])


def test_the_margin_of_a_confidence_is_zero_where_it_is_reached():
    logits = np.log(np.float32([[0.9, 0.06, 0.04], [0.2, 0.7, 0.1]]))
    targets = np.array([0, 1])
    found = adversarial.margin(logits, targets, True, 0.9)
    np.testing.assert_allclose(found, [0, np.log(0.7 / 0.3) - np.log(9)], atol=1e-5)
    # Without one: the lead over the best other class.
    found = adversarial.margin(logits, targets, True, None)
    np.testing.assert_allclose(found, np.log([0.9 / 0.06, 0.7 / 0.2]), rtol=1e-5)
    found = adversarial.margin(logits, targets, False, None)
    np.testing.assert_allclose(found, -np.log([0.9 / 0.06, 0.7 / 0.2]), rtol=1e-5)


def test_weights_by_hand():
    logits = np.log(np.float32([[0.6, 0.8]])) - 0.0  # probabilities 3/7 and 4/7
    success = np.array([True])
    weights = adversarial.segpgd_weights(logits, np.array([0]), success, False, 2, 10)
    np.testing.assert_allclose(weights, [0.1])  # lambda of the third step of ten is 2 / 20
    weights = adversarial.segpgd_weights(logits, np.array([0]), ~success, False, 2, 10)
    np.testing.assert_allclose(weights, [0.9])
    for label, cosine in ((0, 0.6), (1, 0.8)):  # 3 : 4 : 5
        for targeted, expected in ((False, cosine), (True, 1 - cosine)):
            weights = adversarial.cospgd_weights(logits, np.array([label]), success, targeted, 0, 1)
            np.testing.assert_allclose(weights, [expected], rtol=1e-5)


def test_ignored_pixels_and_images_are_left_alone():
    images = np.full((2, 4, 4, 3), 100, np.uint8)
    labels = np.zeros((2, 4, 4), np.uint8)
    labels[0, :2], labels[1] = IGNORE, IGNORE
    changed = attacker(pixelwise(), METHODS["fgsm"]())(images, labels, epsilon=3)
    np.testing.assert_array_equal(changed[0, :2], images[0, :2])
    np.testing.assert_array_equal(changed[1], images[1])
    assert (changed[0, 2:] != 100).all()


def test_the_batch_of_an_image_does_not_matter():
    model = convolutional()
    images = rng.integers(0, 256, (3, 8, 8, 3), np.uint8)
    labels = rng.integers(0, 3, (3, 8, 8))
    for name in ("pgd", "segpgd"):
        for norm, epsilon in (("linf", 6), ("l2", 80)):
            attack = attacker(model, METHODS[name](norm, steps=5, random_start=False))
            together = attack(images, labels, epsilon)
            for i in range(3):
                alone = attack(images[i : i + 1], labels[i : i + 1], epsilon)[0]
                assert (alone != together[i]).mean() < 0.02  # up to rounding


def test_a_seed_repeats_and_another_differs():
    model = convolutional()
    images = rng.integers(0, 256, (1, 8, 8, 3), np.uint8)
    labels = predicted(model, images)
    attack = attacker(model, METHODS["pgd"](steps=2))
    first = attack(images, labels, 6, seed=1)
    np.testing.assert_array_equal(attack(images, labels, 6, seed=1), first)
    assert (attack(images, labels, 6, seed=2) != first).any()


def test_another_epsilon_target_or_mask_needs_no_new_program():
    traces = []

    class Counting(keras.layers.Layer):
        def call(self, x):
            traces.append(1)
            return keras.ops.cast(x, "float32")

    images = keras.Input((None, None, 3), dtype="uint8")
    model = keras.Model(images, keras.layers.Conv2D(2, 1)(Counting()(images)))
    attack = attacker(model, METHODS["pgd"](steps=3))
    pictures = rng.integers(0, 256, (1, 8, 8, 3), np.uint8)
    attack(pictures, np.zeros((1, 8, 8), int), 1)
    before = len(traces)
    for epsilon in (2, 5):
        labels, mask = rng.integers(0, 2, (1, 8, 8)), rng.random((8, 8)) < 0.5
        attack(pictures, labels, epsilon, mask=mask, progress=lambda done: None)
    assert len(traces) == before


def test_progress_and_start():
    model, images = pixelwise(), np.full((1, 4, 4, 3), 100, np.uint8)
    labels, seen = np.zeros((1, 4, 4), int), []
    attack = attacker(model, METHODS["pgd"](steps=50))
    attack(images, labels, 4, progress=seen.append)
    assert seen[-1] == 50 and seen == sorted(seen) and len(seen) <= 20
    # The best of the way is kept: a start that nothing beats comes back.
    start = np.broadcast_to(4 * np.sign(WEIGHTS), images.shape)
    fgsm = attacker(model, METHODS["fgsm"]())
    np.testing.assert_array_equal(fgsm(images, labels, 4, start=start), images + start)


def test_a_universal_perturbation_fools_more_than_noise(trained):
    model, images, masks = trained
    batches = [(images[:6], masks[:6]), (images[6:], masks[6:])]
    found = adversarial.universal(model, METHODS["pgd"](step_size=0.2), batches, epsilon=30)
    assert found.shape == (32, 32, 3) and np.abs(found).max() <= 30
    noise = 30 * np.sign(np.random.default_rng(0).normal(size=found.shape)).astype(int)
    changed, noisy = (adversarial.apply(images, r) for r in (found, noise))
    assert accuracy(model, changed, masks) < accuracy(model, noisy, masks) - 0.05


def test_whole_numbers_of_a_ball_keep_what_small_numbers_point_at():
    r = rng.normal(0, 0.2, (1, 16, 16, 3))  # each below half a gray level
    radius = np.linalg.norm(r)
    limit = np.full(r.shape, 255.0)
    whole = adversarial.NORMS["l2"].rounded(r, -limit, limit, radius)
    np.testing.assert_array_equal(whole, np.rint(whole))
    assert 0.9 * radius < np.linalg.norm(whole) <= radius
    # radius**2 numbers become 1 or -1, the largest 4 %: of a Gaussian 2.2 deviations, 0.43.
    assert np.sum(whole * r) > 0.4 * radius**2


@pytest.fixture(scope="module")
def detector():
    """Four anchors, a quarter of the image each; class 1 or 2 where it is red or green."""
    images = keras.Input((4, 4, 3), dtype="uint8")
    x = keras.layers.AveragePooling2D(2)(keras.layers.Rescaling(1 / 10)(images))
    x = keras.layers.Conv2D(2 + 1 + 4, 1, name="head")(x)
    model = keras.Model(images, keras.layers.Reshape((4, 7))(x), name="detector")
    kernel = np.zeros((1, 1, 3, 7), np.float32)
    kernel[0, 0, 0, 1] = kernel[0, 0, 1, 2] = 1
    model.get_layer("head").set_weights([kernel, np.float32([10, 0, 0, 0, 0, 0, 0])])
    return model


def test_objects_vanish_or_change_their_class(detector):
    images = np.zeros((1, 4, 4, 3), np.uint8)
    images[0, :2, :2, 0] = 120  # red: 12 of class 1 against 10 of the background
    images[0, 2:, 2:, 1] = 120
    raw = detector.predict_on_batch(images)
    np.testing.assert_array_equal(raw[0, :, :3].argmax(-1), [1, 0, 0, 2])
    targets = adversarial.detection_targets(raw, suppress=True)
    np.testing.assert_array_equal(targets, [[0, 0, 0, 0]])
    changed = attacker(detector, METHODS["pgd"](), targeted=True)(images, targets, 30)
    np.testing.assert_array_equal(detector.predict_on_batch(changed)[0, :, :3].argmax(-1), 0)
    targets = adversarial.detection_targets(raw, moves={1: 2})
    np.testing.assert_array_equal(targets, [[2, -1, -1, -1]])
    attack = METHODS["pgd"](random_start=False)  # noise alone could turn what is left out
    changed = attacker(detector, attack, targeted=True)(images, targets, 125)
    now = detector.predict_on_batch(changed)[0, :, :3].argmax(-1)
    assert now[0] == 2 and now[3] == 2


def test_units_of_every_kind_of_model(detector):
    images = rng.integers(0, 256, (2, 4, 4, 3)).astype(np.float32)
    logits = adversarial.unit_logits(pixelwise())(images)
    np.testing.assert_allclose(logits[..., 1], images @ WEIGHTS, rtol=1e-4, atol=1e-4)
    assert adversarial.unit_logits(detector)(images).shape == (2, 4, 3)
    inputs = keras.Input((None, None, 3), dtype="uint8")
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1.0)(inputs))
    labels = adversarial.unit_logits(keras.Model(inputs, pooled))(images)  # three labels
    assert labels.shape == (2, 3, 2)
    np.testing.assert_array_equal(labels[..., 0], 0)
    np.testing.assert_allclose(labels[..., 1], images.mean(axis=(1, 2)), rtol=1e-5)
    with pytest.raises(ValueError, match="Expected logits"):
        adversarial.unit_logits(keras.Model(inputs, {"features": pooled}))


def test_labels_of_a_classifier_are_turned():
    inputs = keras.Input((None, None, 3), dtype="uint8")
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 8, -16.0)(inputs))
    model = keras.Model(inputs, pooled)  # a label is there where its color is above 128
    images = np.full((1, 8, 8, 3), [140, 120, 200], np.uint8)
    labels = np.array([[1, 0, -1]])
    changed = attacker(model, METHODS["pgd"](random_start=False))(images, labels, 16)
    np.testing.assert_array_equal(model.predict_on_batch(changed)[0, :2] > 0, [False, True])
    np.testing.assert_array_equal(changed[..., 2], 200)  # does not count


def test_the_search_inside_another_program_is_that_of_the_attacker():
    model = convolutional()
    images = rng.integers(0, 256, (2, 8, 8, 3), np.uint8)
    labels = rng.integers(0, 3, (2, 8, 8)).astype(np.uint8)
    attack = METHODS["pgd"](steps=3)
    noise = rng.uniform(-1, 1, images.shape).astype(np.float32)
    r = adversarial.search(adversarial.unit_logits(model), images, labels, attack, 5, noise)
    r = np.asarray(r)
    assert np.abs(r).max() <= 5 and (images + r).min() >= 0 and (images + r).max() <= 255
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    function = adversarial.unit_logits(model)
    assert loss(labels, function(images + r)) > loss(labels, function(images + 5 * noise))


def test_xla_wins_as_much(trained):
    model, images, masks = trained
    attack = METHODS["segpgd"](steps=3, random_start=False)
    plain, compiled = (
        accuracy(model, attacker(model, attack, xla=xla)(images[:2], masks[:2], 4), masks[:2])
        for xla in (False, True)
    )
    assert abs(plain - compiled) < 0.02


def test_on_jax():
    pytest.importorskip("jax")
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    subprocess.run([sys.executable, "-c", JAX], env=environment, check=True)


IMAGES = np.full((1, 4, 4, 3), 100, np.uint8)
LABELS = np.zeros((1, 4, 4), int)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"epsilon": 0}, "epsilon: expected gray levels above 0, received 0"),
        ({"epsilon": -1}, "above 0, received -1"),
        ({"epsilon": np.nan}, "above 0, received nan"),
        ({"epsilon": None}, "above 0, received None"),
        ({"epsilon": 0.5}, "at least 1 gray level"),
        ({"labels": np.zeros((1, 4, 5), int)}, r"labels: expected integers \(1, 4, 4\)"),
        ({"labels": np.zeros((1, 4, 4))}, "labels: expected integers"),
        ({"labels": np.full((1, 4, 4), IGNORE)}, "no unit counts.* classes 0 to 1"),
        ({"images": IMAGES.astype(float)}, "images: expected uint8"),
        ({"images": IMAGES[0]}, "images: expected uint8"),
        ({"mask": np.ones((4, 5), bool)}, r"mask: expected \(4, 4\)"),
        ({"mask": np.zeros((4, 4), bool)}, "no pixel may change"),
        ({"start": np.zeros((4, 4, 3))}, "start: expected"),
    ],
)
def test_bad_input(changes, message):
    arguments = {"images": IMAGES, "labels": LABELS, "epsilon": 4} | changes
    with pytest.raises(ValueError, match=message) as error:
        attacker(pixelwise(), METHODS["pgd"]())(**arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: METHODS["pgd"](norm="l1"), "norm: expected one of"),
        (lambda: METHODS["pgd"](steps=0), "steps: expected an int of at least 1"),
        (lambda: METHODS["pgd"](step_size=-1), "step_size"),
        (lambda: METHODS["fgsm"](steps=3), "fgsm is one step"),
        (lambda: METHODS["minimal"](norm="linf"), "by l2 only"),
        (lambda: attacker(pixelwise(), METHODS["pgd"](), confidence=1.5), "confidence"),
        (lambda: adversarial.detection_targets(np.zeros((1, 2, 7))), "either suppress=True or"),
        (
            lambda: adversarial.universal(pixelwise(), METHODS["dag"](), [(IMAGES, LABELS)], 4),
            "bounded",
        ),
        (lambda: adversarial.universal(pixelwise(), METHODS["pgd"](), [], 4), "at least one"),
        (
            lambda: adversarial.universal(
                pixelwise(), METHODS["pgd"](), [(IMAGES, LABELS), (IMAGES[:, 1:], LABELS[:, 1:])], 4
            ),
            "images of one size",
        ),
    ],
)
def test_bad_attacks(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_model_without_gradients_to_its_input_says_so():
    images = keras.Input((None, None, 3), dtype="uint8")
    x = keras.ops.cast(keras.ops.cast(images, "int32"), "float32")
    model = keras.Model(images, keras.layers.Conv2D(2, 1)(x))
    with pytest.raises(ValueError, match="^No gradient reaches the images") as error:
        attacker(model, METHODS["pgd"]())(IMAGES, LABELS, 4)
    assert "\n" not in str(error.value)


def test_damaged_weights_are_named():
    for damage in (np.nan, np.inf):
        with pytest.raises(ValueError, match="not finite"):
            attacker(pixelwise(bias=damage), METHODS["pgd"]())(IMAGES, LABELS, 4)
