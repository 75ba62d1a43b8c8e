"""Images that maximize an objective: known maximizers, honest numbers, the same images again."""

import dataclasses
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from kerasdense.explain.activation_maximization import (
    PARAMETRIZATIONS,
    Ascent,
    Regularization,
    maximize,
)
from kerasdense.explain.objectives import (
    anchor_class,
    channel,
    class_logit,
    layer,
    segmentation_class,
    unit,
)
from kerasdense.models import ssd300
from kerasdense.models.layers import ImageNetPreprocessing

# Each pixel's logits are R - G and B, by a 1x1 convolution.
KERNEL = np.array([[1, 0], [-1, 0], [0, 1]], np.float32).reshape(1, 1, 3, 2)
JAX = """
import keras
import numpy as np
from kerasdense.explain.activation_maximization import Ascent, maximize
from kerasdense.explain.objectives import channel
images = keras.Input((None, None, 3), dtype="uint8")
x = keras.layers.Conv2D(2, 3, use_bias=False, name="conv")(
    keras.layers.Rescaling(1 / 255)(images)
)
model = keras.Model(images, x)
rng = np.random.default_rng(0)
model.get_layer("conv").set_weights([rng.normal(size=(3, 3, 3, 2)).astype("float32")])
for arguments in ({}, {"regularization": None}):
    calls = []
    found = maximize(
        model, channel("conv", [0, 1, 0]), Ascent((24, 32), steps=20, **arguments), batch_size=2,
        progress=lambda *done: calls.append(done)
    )
    assert found.images.shape == (3, 24, 32, 3) and found.images.dtype == np.uint8
    assert (found.end > found.start).all(), found
    assert calls[-1] == (40, 40)
"""


def linear(size=(None, None)):
    """uint8 images -> "map", the pixels' logits R - G and B of the scale 0 to 255."""
    images = keras.Input((*size, 3), dtype="uint8", name="images")
    scaled = keras.layers.Rescaling(1.0, name="float")(images)
    x = keras.layers.Conv2D(2, 1, use_bias=False, name="map")(scaled)
    model = keras.Model(images, x, name="linear")
    model.get_layer("map").set_weights([KERNEL])
    return model


def classifier():
    model = linear()
    mean = keras.layers.GlobalAveragePooling2D(name="mean")(model.output)
    return keras.Model(model.input, mean)


@pytest.fixture(scope="module")
def deep():
    """Three convolutions of random, fixed weights, the third one strided."""
    images = keras.Input((None, None, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(images)
    for number, stride in enumerate((1, 2, 1), start=1):
        x = keras.layers.Conv2D(
            8, 3, stride, padding="same", activation="relu", name=f"conv{number}"
        )(x)
    model = keras.Model(images, x)
    rng = np.random.default_rng(1)
    for number in (1, 2, 3):
        kernel, bias = model.get_layer(f"conv{number}").get_weights()
        deviation = np.sqrt(2 / kernel[..., 0].size)
        model.get_layer(f"conv{number}").set_weights(
            [deviation * rng.standard_normal(kernel.shape), bias]
        )
    return model


def high_share(images):
    """Share of the energy above half the highest frequency, of images without their mean."""
    images = images - images.mean(axis=(1, 2), keepdims=True)
    energy = np.square(np.abs(np.fft.fft2(images, axes=(1, 2)))).sum(axis=(0, 3))
    rows, columns = (np.abs(np.fft.fftfreq(side)) for side in energy.shape)
    return energy[np.hypot(rows[:, None], columns) > 0.25].sum() / energy.sum()


# ---- what is maximized


@pytest.mark.parametrize("regularization", [None, Regularization(l2=0.0)])
@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
def test_a_linear_model_is_maximized_by_the_saturated_color(parametrization, regularization):
    ascent = Ascent(
        (16, 24), 400, 20.0, parametrization=parametrization, regularization=regularization
    )
    objectives = [(1.0, channel("map", 0)), (-2.0, channel("map", 1))]
    found = maximize(linear(), objectives, ascent)
    # R - G - 2 B is largest, 255, at pure red; the sigmoid only comes near it.
    lacking = 0 if parametrization == "pixel" else 8
    color = found.images.reshape(-1, 3).astype(int)
    assert np.abs(color - [255, 0, 0]).max() <= lacking
    assert 255 - 4 * lacking <= found.end[0] <= 255
    assert abs(found.start[0] - (0 - 2 * 127.5)) < 10


def test_the_objective_told_is_that_of_the_images_returned():
    region = np.zeros((16, 16), bool)
    region[3:5, 7:12] = True
    objectives = [(2.0, segmentation_class([0, 1], region)), (0.5, layer("map"))]
    found = maximize(linear(), objectives, Ascent((16, 16), steps=3, frames=2))
    for pictures, told in ((found.frames[0], found.start), (found.images, found.end)):
        features = np.einsum("byxi,ik->byxk", pictures.astype(np.float64), KERNEL[0, 0])
        square = np.square(features).mean(axis=(1, 2, 3))
        expected = [
            2 * features[i, region, index].mean() + 0.5 * square[i]
            for i, index in enumerate((0, 1))
        ]
        np.testing.assert_allclose(told, expected, rtol=1e-4)
    np.testing.assert_array_equal(found.frames[-1], found.images)


def test_a_region_moves_its_own_pixels_only():
    region = np.zeros((16, 16), bool)
    region[:8] = True
    ascent = Ascent((16, 16), steps=50, regularization=None)
    found = maximize(linear(), segmentation_class(1, region), ascent)
    blue = found.images[0, ..., 2].astype(int)
    assert blue[:8].min() == 255
    np.testing.assert_allclose(blue[8:], 127.5, atol=25)  # the noise of the start


def test_a_class_of_a_classifier_and_of_a_dict_of_logits():
    ascent = Ascent((8, 8), steps=60, learning_rate=20.0, regularization=None)
    found = maximize(classifier(), class_logit([0, 1]), ascent)
    assert found.end.tolist() == [255, 255]
    model = linear()
    model = keras.Model(model.input, {"logits": model.output, "twice": 2 * model.output})
    assert maximize(model, segmentation_class([0, 1]), ascent).end.tolist() == [255, 255]


@pytest.mark.slow
def test_an_anchor_of_ssd_at_its_own_size():
    keras.utils.set_random_seed(0)
    model = ssd300(2, weights=None, width=1 / 16)
    objective = anchor_class([4000, 4001], [0, 1])
    found = maximize(model, objective, Ascent(steps=2, regularization=None))
    assert found.images.shape == (2, 300, 300, 3)
    raw = np.asarray(model.predict_on_batch(found.images))
    expected = raw[[0, 1], 4000:4002, [1, 2]]  # rows [B, 2 anchors], column 0 is the background
    np.testing.assert_allclose(found.end, expected.mean(axis=1), rtol=1e-3, atol=1e-5)
    assert (found.end > found.start).all()


# ---- regularization


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
def test_regularized_images_raise_the_objective_with_less_high_frequencies(deep, parametrization):
    objective, steps = channel("conv3", [0, 1, 2, 3]), {"size": (48, 48), "steps": 60}
    plain = maximize(deep, objective, Ascent(**steps, regularization=None))
    natural = maximize(deep, objective, Ascent(**steps, parametrization=parametrization))
    assert (natural.end > 2 * natural.start).all()
    assert (plain.end > natural.end).all()
    assert high_share(natural.images) < 0.5 * high_share(plain.images)


@pytest.mark.parametrize(
    "part",
    [
        {"jitter": 4},
        {"scaling": 0.2},
        {"rotation": 20.0},
        {"blur": 1.5},
        {"total_variation": 0.5},
        {"l2": 3.0},
    ],
    ids=lambda part: next(iter(part)),
)
def test_each_part_does_something_alone_and_nothing_at_zero(deep, part):
    none = dict.fromkeys(vars(Regularization()), 0)
    ascent = Ascent((32, 32), steps=30, parametrization="pixel")

    def images(regularization):
        chosen = dataclasses.replace(ascent, regularization=regularization)
        return maximize(deep, channel("conv3", 0), chosen)

    plain, zero, changed = images(None), images(Regularization(**none)), None
    np.testing.assert_array_equal(zero.images, plain.images)
    changed = images(Regularization(**(none | part)))
    assert changed.end[0] > changed.start[0]
    if "jitter" in part:
        assert (changed.images != plain.images).mean() > 0.5
    elif "l2" in part:
        assert changed.images.std() < 0.8 * plain.images.std()
    else:
        assert high_share(changed.images) < 0.9 * high_share(plain.images)


# ---- the calls


def test_the_same_seed_gives_the_same_images_and_another_one_others(deep):
    once, again, other = (
        maximize(deep, channel("conv2", 3), Ascent((24, 24), steps=5, seed=seed)).images
        for seed in (7, 7, 8)
    )
    np.testing.assert_array_equal(once, again)
    assert (once != other).mean() > 0.5


def test_an_image_of_a_gallery_is_what_it_is_alone(deep):
    ascent = Ascent((24, 24), steps=12, seed=3)
    channels = [4, 0, 2]
    gallery = maximize(deep, channel("conv2", channels), ascent, batch_size=2)
    for number, index in enumerate(channels):
        its_own = dataclasses.replace(ascent, seed=3 + number)
        alone = maximize(deep, channel("conv2", index), its_own)
        difference = np.abs(gallery.images[number].astype(int) - alone.images[0])
        assert np.mean(difference > 2) < 0.01  # sums of another order round differently
        np.testing.assert_allclose(gallery.end[number], alone.end[0], rtol=0.02)


def test_several_objectives_share_the_images(deep):
    objectives = [channel("conv2", [0, 1]), (0.1, unit("conv3", 2)), (-0.1, layer("conv1"))]
    found = maximize(deep, objectives, Ascent((24, 24), steps=10))
    assert found.images.shape == (2, 24, 24, 3) and (found.end > found.start).all()


def test_progress_and_frames(deep):
    calls = []
    objective, ascent = channel("conv2", [0, 1, 2]), Ascent((24, 24), steps=45, frames=4)

    def progress(done, total):
        calls.append((done, total))

    found = maximize(deep, objective, ascent, batch_size=2, progress=progress)
    done = [step for step, _ in calls]
    assert {total for _, total in calls} == {90} and done == sorted(set(done)) and done[-1] == 90
    assert 40 <= len(done) <= 48  # 20 reports of a batch, and the frames
    assert [frame.shape for frame in found.frames] == [(3, 24, 24, 3)] * 4
    first, *others = (frame.std() for frame in found.frames)
    assert first < 6 and min(others) > 20  # the noise of the start, then pictures
    np.testing.assert_array_equal(found.frames[-1], found.images)
    unobserved = maximize(deep, objective, dataclasses.replace(ascent, frames=0), batch_size=2)
    np.testing.assert_array_equal(unobserved.images, found.images)


def test_xla_finds_the_same(deep):
    ascent = Ascent((24, 24), steps=8)
    plain, fast = (maximize(deep, channel("conv3", 1), ascent, xla=xla) for xla in (False, True))
    np.testing.assert_allclose(plain.end, fast.end, rtol=0.02)
    assert np.mean(np.abs(plain.images.astype(int) - fast.images) > 2) < 0.01


@pytest.mark.slow
def test_on_jax():
    pytest.importorskip("jax")
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    subprocess.run([sys.executable, "-c", JAX], env=environment, check=True)


# ---- mistakes


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"steps": 0}, "steps: expected an int of at least 1, received 0"),
        ({"seed": -1}, "seed: expected an int of at least 0"),
        ({"frames": -1}, "frames"),
        ({"learning_rate": 0}, "learning_rate: expected a number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"parametrization": "wavelet"}, "'pixel', 'fourier'"),
    ],
)
def test_numbers_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        Ascent(**arguments)


def test_a_batch_holds_an_image():
    with pytest.raises(ValueError, match="batch_size: expected an int of at least 1, received 0"):
        maximize(linear(), channel("map", 0), batch_size=0)


@pytest.mark.parametrize(
    "regularization, expected", [(Regularization(), "fourier"), (None, "pixel")]
)
def test_the_parametrization_goes_with_the_regularization(regularization, expected):
    assert Ascent(regularization=regularization).parametrization == expected


@pytest.mark.parametrize("part", [{"jitter": -1}, {"scaling": 1.0}, {"blur": float("inf")}])
def test_regularization_out_of_range(part):
    with pytest.raises(ValueError, match=f"{next(iter(part))}: expected at least 0"):
        Regularization(**part)


def test_sizes_that_the_model_does_not_take():
    with pytest.raises(ValueError, match="takes images of 16x24, received size 16x16"):
        maximize(linear((16, 24)), channel("map", 0), Ascent((16, 16)))
    images = keras.Input((None, None, 3), dtype="uint8")
    model = keras.Model(images, ImageNetPreprocessing("torch", name="scaled")(images))
    with pytest.raises(ValueError, match="at least 64 pixels a side, received size 63x64"):
        maximize(model, channel("scaled", 0), Ascent((63, 64)))
    images = keras.Input((None, None, 1))
    with pytest.raises(ValueError, match=r"expected a model of images \[B, H, W, 3\]"):
        maximize(keras.Model(images, keras.layers.ReLU(name="relu")(images)), layer("relu"))


def test_an_objective_that_is_not_finite():
    model = linear()
    model.get_layer("map").set_weights([np.full_like(KERNEL, np.nan)])
    with pytest.raises(ValueError, match="not finite at the start"):
        maximize(model, channel("map", 0), Ascent((8, 8), steps=3))
