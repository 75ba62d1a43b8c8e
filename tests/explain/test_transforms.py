"""Transforms of images that are identities, and spectra of known images."""

import numpy as np
from keras import ops

from kerasdense.explain.transforms import blur, spectrum_image, transform


def transformed(images, *arguments):
    tensors = (ops.convert_to_tensor(np.asarray(x, np.float32)) for x in (images, *arguments))
    return np.asarray(transform(*tensors))


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
    blurred = np.asarray(blur(images, ops.convert_to_tensor([0.0, 2.0])))
    np.testing.assert_allclose(blurred[0], images[0], atol=1e-4)
    y, x = np.mgrid[:32, :32] - 16
    gaussian = 100 * np.exp(-(y**2 + x**2) / (2 * 2.0**2)) / (2 * np.pi * 2.0**2)
    np.testing.assert_allclose(blurred[1, ..., 0], gaussian, atol=1e-3)


def test_a_spectrum_of_one_frequency_is_its_wave():
    height, width, frequency, amplitude = 16, 32, 4, 3.0
    spectrum = np.zeros((1, 3, height, width, 2), np.float32)
    spectrum[0, 0, 0, frequency, 0] = amplitude
    found = np.asarray(spectrum_image(ops.convert_to_tensor(spectrum)))[0]
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
    red = np.asarray(spectrum_image(ops.convert_to_tensor(spectrum)))[..., 0]
    share = 0.26 / np.linalg.norm([0.26, 0.27, 0.27])
    np.testing.assert_allclose(np.sqrt(np.mean((red - 127.5) ** 2)), 5 * share, rtol=0.15)
