"""Feature visualization: known maximizers, transforms that are identities, honest objectives."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

from kerasdense.explain import activation_maximization
from kerasdense.models.layers import ImageNetPreprocessing
from kerasdense.models import ssd300
from kerasdense.explain.activation_maximization import (
    Regularization,
    anchor_class,
    channel,
    class_logit,
    first_layer_filters,
    layer,
    maximize,
    segmentation_class,
    unit,
)

# Each pixel's logits are R - G and B, by a 1x1 convolution.
KERNEL = np.array([[1, 0], [-1, 0], [0, 1]], np.float32).reshape(1, 1, 3, 2)
JAX = """
import keras
import numpy as np
from kerasdense.visualization import channel, maximize
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
        model, channel("conv", [0, 1, 0]), size=(24, 32), steps=20, batch_size=2,
        progress=lambda *done: calls.append(done), **arguments
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


def transformed(images, *arguments):
    tensors = (ops.convert_to_tensor(np.asarray(x, np.float32)) for x in (images, *arguments))
    return np.asarray(activation_maximization.transform(*tensors))


# ---- what is maximized


@pytest.mark.parametrize("regularization", [None, Regularization(l2=0.0)])
@pytest.mark.parametrize("parametrization", activation_maximization.PARAMETRIZATIONS)
def test_a_linear_model_is_maximized_by_the_saturated_color(parametrization, regularization):
    found = maximize(
        linear(),
        [(1.0, channel("map", 0)), (-2.0, channel("map", 1))],
        size=(16, 24),
        steps=400,
        learning_rate=20.0,
        parametrization=parametrization,
        regularization=regularization,
    )
    # R - G - 2 B is largest, 255, at pure red; the sigmoid only comes near it.
    lacking = 0 if parametrization == "pixel" else 8
    color = found.images.reshape(-1, 3).astype(int)
    assert np.abs(color - [255, 0, 0]).max() <= lacking
    assert 255 - 4 * lacking <= found.end[0] <= 255
    assert abs(found.start[0] - (0 - 2 * 127.5)) < 10


def test_all_objectives_score_what_they_say():
    images = np.zeros((1, 4, 6, 3), np.float32)
    images[0, ..., 0], images[0, ..., 2] = 30, 7
    images[0, 1, 2] = 100, 20, 50
    features = np.einsum("byxi,ik->byxk", images, KERNEL[0, 0])
    region = np.zeros((4, 6), bool)
    region[1, 1:3] = True
    # The mean over 24 positions: R - G is 30 at 23 and 80 at one, B 7 at 23 and 50 at one.
    means = [(23 * 30 + 80) / 24, (23 * 7 + 50) / 24]
    square = (23 * 30**2 + 80**2 + 23 * 7**2 + 50**2) / 48
    cases = [
        (channel("map", 0), features, means),
        (layer("map"), features, [square]),
        (unit("map", 0), features, [30, 7]),
        (unit("map", 0, (1, 2)), features, [80, 50]),
        (class_logit(0), features[:, 1, 2], [80, 50]),
        (segmentation_class(0), features, means),
        (segmentation_class(0, region), features, [55, 28.5]),
        # Four anchors of background, two classes and four offsets.
        (anchor_class(2, 1), np.arange(28.0).reshape(1, 4, 7), [15, 16]),
        (anchor_class([0, 3], 1), np.arange(28.0).reshape(1, 4, 7), [(1 + 22) / 2, (2 + 23) / 2]),
    ]
    for objective, output, expected in cases:
        scores = objective.scores(ops.convert_to_tensor(output.astype(np.float32)))
        np.testing.assert_allclose(scores, [expected], rtol=1e-6)


def test_the_objective_told_is_that_of_the_images_returned():
    region = np.zeros((16, 16), bool)
    region[3:5, 7:12] = True
    objectives = [(2.0, segmentation_class([0, 1], region)), (0.5, layer("map"))]
    found = maximize(linear(), objectives, size=(16, 16), steps=3, frames=2)
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
    arguments = {"size": (16, 16), "steps": 50, "regularization": None}
    found = maximize(linear(), segmentation_class(1, region), **arguments)
    blue = found.images[0, ..., 2].astype(int)
    assert blue[:8].min() == 255
    np.testing.assert_allclose(blue[8:], 127.5, atol=25)  # the noise of the start


def test_a_class_of_a_classifier_and_of_a_dict_of_logits():
    arguments = {"size": (8, 8), "steps": 60, "learning_rate": 20.0, "regularization": None}
    found = maximize(classifier(), class_logit([0, 1]), **arguments)
    assert found.end.tolist() == [255, 255]
    model = linear()
    model = keras.Model(model.input, {"logits": model.output, "twice": 2 * model.output})
    assert maximize(model, segmentation_class([0, 1]), **arguments).end.tolist() == [255, 255]


def test_an_anchor_of_ssd_at_its_own_size():
    keras.utils.set_random_seed(0)
    model = ssd300(2, weights=None, width=1 / 16)
    found = maximize(model, anchor_class([4000, 4001], [0, 1]), steps=2, regularization=None)
    assert found.images.shape == (2, 300, 300, 3)
    raw = np.asarray(model.predict_on_batch(found.images))
    expected = raw[[0, 1], 4000:4002, [1, 2]]  # rows [B, 2 anchors], column 0 is the background
    np.testing.assert_allclose(found.end, expected.mean(axis=1), rtol=1e-3, atol=1e-5)
    assert (found.end > found.start).all()


# ---- regularization


@pytest.mark.parametrize("parametrization", activation_maximization.PARAMETRIZATIONS)
def test_regularized_images_raise_the_objective_with_less_high_frequencies(deep, parametrization):
    objective, arguments = channel("conv3", [0, 1, 2, 3]), {"size": (48, 48), "steps": 60}
    plain = maximize(deep, objective, **arguments, regularization=None)
    natural = maximize(deep, objective, **arguments, parametrization=parametrization)
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
    arguments = {"size": (32, 32), "steps": 30, "parametrization": "pixel"}

    def images(regularization):
        return maximize(deep, channel("conv3", 0), **arguments, regularization=regularization)

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


def test_transform_at_zero_strength_is_the_identity_and_shifts_are_rolls():
    images = np.random.default_rng(0).uniform(0, 255, (2, 9, 14, 3)).astype(np.float32)
    zeros, ones = np.zeros(2), np.ones(2)
    still = transformed(images, np.zeros((2, 2)), ones, zeros)
    np.testing.assert_array_equal(still, images)
    shift = np.array([[3, -5], [-20, 2]])
    moved = transformed(images, shift, ones, zeros)
    expected = [np.roll(x, (int(y), int(x_)), (0, 1)) for x, (y, x_) in zip(images, shift)]
    np.testing.assert_allclose(moved, expected, rtol=1e-6)


def test_transform_turns_and_enlarges():
    images = np.random.default_rng(0).uniform(0, 255, (2, 11, 11, 3)).astype(np.float32)
    turned = transformed(images, np.zeros((2, 2)), [1, 2], np.deg2rad([90, 0]))
    np.testing.assert_allclose(turned[0], np.rot90(images[0]), atol=0.01)
    # Twice as large about the center (5, 5): every second pixel is one of the middle of the image.
    np.testing.assert_allclose(turned[1, 1::2, 1::2], images[1, 3:8, 3:8], atol=0.01)
    between = (images[1, 5, 5] + images[1, 5, 6]) / 2
    np.testing.assert_allclose(turned[1, 5, 6], between, atol=0.01)


def test_transform_agrees_with_keras_on_any_angle():
    images = np.random.default_rng(0).uniform(0, 255, (1, 20, 31, 3)).astype(np.float32)
    angle, factor, (down, right) = 0.3, 1.1, (2.5, -4.0)
    found = transformed(images, [[down, right]], [factor], [angle])
    y, x = np.mgrid[:20, :31] - np.array([9.5, 15.0])[:, None, None]
    places = np.array(
        [np.cos(angle) * y + np.sin(angle) * x, np.cos(angle) * x - np.sin(angle) * y]
    )
    places = places / factor + np.array([9.5 - down, 15.0 - right])[:, None, None]
    for color in range(3):
        expected = ops.image.map_coordinates(
            images[0, ..., color], places.astype(np.float32), order=1, fill_mode="wrap"
        )
        np.testing.assert_allclose(found[0, ..., color], expected, atol=0.02)


def test_blur_is_a_gaussian_and_none_at_zero():
    images = np.zeros((2, 32, 32, 3), np.float32)
    images[:, 16, 16] = 100
    blurred = np.asarray(activation_maximization.blur(images, ops.convert_to_tensor([0.0, 2.0])))
    np.testing.assert_allclose(blurred[0], images[0], atol=1e-4)
    y, x = np.mgrid[:32, :32] - 16
    gaussian = 100 * np.exp(-(y**2 + x**2) / (2 * 2.0**2)) / (2 * np.pi * 2.0**2)
    np.testing.assert_allclose(blurred[1, ..., 0], gaussian, atol=1e-3)


# ---- Fourier


def test_a_spectrum_of_one_frequency_is_its_wave():
    height, width, frequency, amplitude = 16, 32, 4, 3.0
    spectrum = np.zeros((1, 3, height, width, 2), np.float32)
    spectrum[0, 0, 0, frequency, 0] = amplitude
    found = np.asarray(activation_maximization.spectrum_image(ops.convert_to_tensor(spectrum)))[0]
    # The weights fall as 1 / f, are as large at 0 as at the lowest frequency of the longer side,
    # and their squares have the mean 1.
    f = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    weights = 1 / np.maximum(f, 1 / width)
    weight = (width / frequency) / np.sqrt(np.mean(weights**2))
    wave = np.cos(2 * np.pi * frequency * np.arange(width) / width)  # [W], of real part 1
    wave *= amplitude * weight / np.sqrt(height * width)
    light = np.array([0.26, 0.27, 0.27])  # the first of the decorrelated colors, the longest column
    colors = wave[:, None] * light / np.linalg.norm(light)
    expected = 255 / (1 + np.exp(-colors * 4 / 255))
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=1e-3)


def test_a_random_spectrum_gives_an_image_of_its_deviation():
    rng = np.random.default_rng(0)
    spectrum = np.zeros((8, 3, 64, 48, 2), np.float32)
    spectrum[:, 0] = 5 * rng.standard_normal((8, 64, 48, 2))
    red = np.asarray(activation_maximization.spectrum_image(ops.convert_to_tensor(spectrum)))[..., 0]
    share = 0.26 / np.linalg.norm([0.26, 0.27, 0.27])
    np.testing.assert_allclose(np.sqrt(np.mean((red - 127.5) ** 2)), 5 * share, rtol=0.15)


# ---- the calls


def test_the_same_seed_gives_the_same_images_and_another_one_others(deep):
    arguments = {"size": (24, 24), "steps": 5}
    once, again, other = (
        maximize(deep, channel("conv2", 3), **arguments, seed=seed).images for seed in (7, 7, 8)
    )
    np.testing.assert_array_equal(once, again)
    assert (once != other).mean() > 0.5


def test_an_image_of_a_gallery_is_what_it_is_alone(deep):
    arguments = {"size": (24, 24), "steps": 12}
    channels = [4, 0, 2]
    gallery = maximize(deep, channel("conv2", channels), **arguments, seed=3, batch_size=2)
    for number, index in enumerate(channels):
        alone = maximize(deep, channel("conv2", index), **arguments, seed=3 + number)
        difference = np.abs(gallery.images[number].astype(int) - alone.images[0])
        assert np.mean(difference > 2) < 0.01  # sums of another order round differently
        np.testing.assert_allclose(gallery.end[number], alone.end[0], rtol=0.02)


def test_several_objectives_share_the_images(deep):
    objectives = [channel("conv2", [0, 1]), (0.1, unit("conv3", 2)), (-0.1, layer("conv1"))]
    found = maximize(deep, objectives, size=(24, 24), steps=10)
    assert found.images.shape == (2, 24, 24, 3) and (found.end > found.start).all()


def test_progress_and_frames(deep):
    calls = []
    found = maximize(
        deep,
        channel("conv2", [0, 1, 2]),
        size=(24, 24),
        steps=45,
        batch_size=2,
        frames=4,
        progress=lambda done, total: calls.append((done, total)),
    )
    done = [step for step, _ in calls]
    assert {total for _, total in calls} == {90} and done == sorted(set(done)) and done[-1] == 90
    assert 40 <= len(done) <= 48  # 20 reports of a batch, and the frames
    assert [frame.shape for frame in found.frames] == [(3, 24, 24, 3)] * 4
    first, *others = (frame.std() for frame in found.frames)
    assert first < 6 and min(others) > 20  # the noise of the start, then pictures
    np.testing.assert_array_equal(found.frames[-1], found.images)
    unobserved = maximize(deep, channel("conv2", [0, 1, 2]), size=(24, 24), steps=45, batch_size=2)
    np.testing.assert_array_equal(unobserved.images, found.images)


def test_xla_finds_the_same(deep):
    arguments = {"size": (24, 24), "steps": 8}
    plain, fast = (
        maximize(deep, channel("conv3", 1), **arguments, xla=xla) for xla in (False, True)
    )
    np.testing.assert_allclose(plain.end, fast.end, rtol=0.02)
    assert np.mean(np.abs(plain.images.astype(int) - fast.images) > 2) < 0.01


def test_on_jax():
    pytest.importorskip("jax")
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    subprocess.run([sys.executable, "-c", JAX], env=environment, check=True)


# ---- first-layer filters


@pytest.mark.parametrize("mode", ["caffe", "ssd", "torch"])
def test_filters_have_the_colors_of_the_images(mode):
    images = keras.Input((None, None, 3), dtype="uint8")
    x = ImageNetPreprocessing(mode)(images)
    x = keras.layers.ZeroPadding2D(2)(x)
    model = keras.Model(images, keras.layers.Conv2D(2, 3, name="conv")(x))
    kernel, bias = model.get_layer("conv").get_weights()
    kernel[:] = 0
    kernel[0, 2, 0, 0] = 4  # upper right, of the first channel that the convolution sees
    kernel[1, 1, :, 1] = -1, -1, 2
    model.get_layer("conv").set_weights([kernel, bias])
    first, second = first_layer_filters(model)
    assert first.dtype == np.uint8 and first.shape == (3, 3, 3)
    red, blue = (0, 2) if mode == "torch" else (2, 0)
    expected = np.full((3, 3, 3), 128)  # 127.5 to even
    expected[0, 2, red] = 255
    np.testing.assert_array_equal(first, expected)
    # "torch" divides RGB by deviations of 0.229, 0.224 and 0.225; the largest is 2 / 0.225.
    scales = np.array([-1, -1, 2]) / ([0.229, 0.224, 0.225] if mode == "torch" else 1)
    colors = np.rint(127.5 + 127.5 * scales / scales[2])
    np.testing.assert_array_equal(second[1, 1], colors if red == 0 else colors[::-1])


def test_filters_need_a_convolution():
    images = keras.Input((8, 8, 3))
    model = keras.Model(images, keras.layers.GlobalAveragePooling2D(name="mean")(images))
    with pytest.raises(ValueError, match="no convolution among its layers: .*mean"):
        first_layer_filters(model)


# ---- mistakes


@pytest.mark.parametrize(
    "objective, message",
    [
        (channel("nowhere", 0), 'no layer "nowhere".* images, float, map'),
        (channel("map", 2), 'layer "map" has the channels 0 to 1, received 2'),
        (channel("map", [0, -1]), "received 0, -1"),
        (channel("map", 0.5), "received 0.5"),
        (channel("map", [[0]]), "one index, or one for each image"),
        (channel("map", []), "one index, or one for each image"),
        (segmentation_class(9), "model has the classes 0 to 1, received 9"),
        (segmentation_class(0, np.ones((3, 3), bool)), r"\(3, 3\), expected.* \(16, 16\)"),
        (segmentation_class(0, np.zeros((16, 16), bool)), "0 pixels of a map"),
        (class_logit(0), r"gives \(1, 16, 16, 2\), expected a classifier's"),
        (anchor_class(0, 0), "expected SSD's raw output"),
        (unit("map", 0, (16, 0)), r"no unit at \(16, 0\).*16x16"),
        ([], "at least one objective"),
        ([(np.nan, layer("map"))], "finite weights"),
        ([(1.0, channel("map", [0, 1])), (1.0, channel("map", [0, 1, 0]))], r"\(2,\) and \(3,\)"),
    ],
)
def test_objectives_that_the_model_does_not_have(objective, message):
    with pytest.raises(ValueError, match=message):
        maximize(linear(), objective, size=(16, 16), steps=1)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"steps": 0}, "steps: expected an int of at least 1, received 0"),
        ({"seed": -1}, "seed: expected an int of at least 0"),
        ({"batch_size": 0}, "batch_size"),
        ({"frames": -1}, "frames"),
        ({"learning_rate": 0}, "learning_rate: expected a number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"parametrization": "wavelet"}, "'pixel', 'fourier'"),
    ],
)
def test_numbers_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        maximize(linear(), channel("map", 0), **arguments)


@pytest.mark.parametrize("part", [{"jitter": -1}, {"scaling": 1.0}, {"blur": float("inf")}])
def test_regularization_out_of_range(part):
    with pytest.raises(ValueError, match=f"{next(iter(part))}: expected at least 0"):
        Regularization(**part)


def test_sizes_that_the_model_does_not_take():
    with pytest.raises(ValueError, match="takes images of 16x24, received size 16x16"):
        maximize(linear((16, 24)), channel("map", 0), size=(16, 16))
    images = keras.Input((None, None, 3), dtype="uint8")
    model = keras.Model(images, ImageNetPreprocessing("torch", name="scaled")(images))
    with pytest.raises(ValueError, match="at least 64 pixels a side, received size 63x64"):
        maximize(model, channel("scaled", 0), size=(63, 64))
    images = keras.Input((None, None, 1))
    with pytest.raises(ValueError, match=r"expected a model of images \[B, H, W, 3\]"):
        maximize(keras.Model(images, keras.layers.ReLU(name="relu")(images)), layer("relu"))


def test_an_anchor_that_ssd_does_not_have():
    model = ssd300(2, weights=None, width=1 / 64)
    with pytest.raises(ValueError, match="has the anchors 0 to 8731, received .8732."):
        maximize(model, anchor_class(8732, 0))
    with pytest.raises(ValueError, match="model has the classes 0 to 1, received 2"):
        maximize(model, anchor_class(0, 2))


def test_an_objective_that_is_not_finite():
    model = linear()
    model.get_layer("map").set_weights([np.full_like(KERNEL, np.nan)])
    with pytest.raises(ValueError, match="not finite at the start"):
        maximize(model, channel("map", 0), size=(8, 8), steps=3)
