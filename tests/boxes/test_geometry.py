"""Boxes: overlap by hand, round trips, and the same numbers from every kind of array."""

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasdense.boxes import geometry
from kerasdense.boxes.anchors import ssd300_anchors

KINDS = {"numpy": np.asarray, "tensorflow": tf.constant, "variable": tf.Variable}


def random_boxes(count, seed=0, smallest=0.01):
    rng = np.random.default_rng(seed)
    sizes = rng.uniform(smallest, 0.7, (count, 2))
    corners = rng.uniform(0, 1 - sizes)
    return np.concatenate([corners, corners + sizes], axis=1).astype("float32")


def test_iou_by_hand():
    first = np.array([[0, 0, 0.5, 0.5], [0, 0, 1, 1]], "float32")
    second = np.array(
        [
            [0.25, 0.25, 0.75, 0.75],  # a quarter of each in common: 1 / 16 of 2 / 4 - 1 / 16
            [0, 0, 0.5, 0.5],
            [0.5, 0, 1, 0.5],  # touches the first along an edge
            [0.7, 0.7, 0.9, 0.8],  # apart from the first, 0.02 of the second
        ],
        "float32",
    )
    expected = [[1 / 7, 1, 0, 0], [1 / 4, 1 / 4, 1 / 4, 0.02]]
    np.testing.assert_allclose(geometry.iou(first, second), expected, rtol=1e-5)


def test_iou_does_not_depend_on_the_scale_of_an_axis():
    first, second = random_boxes(20), random_boxes(30, seed=1)
    scale = np.array([500, 375, 500, 375], "float32")
    np.testing.assert_allclose(
        geometry.iou(first * scale, second * scale), geometry.iou(first, second), atol=1e-5
    )


def test_iou_is_symmetric_and_broadcasts_over_images():
    first, second = random_boxes(12).reshape(3, 4, 4), random_boxes(15, seed=1).reshape(3, 5, 4)
    overlaps = geometry.iou(first, second)
    assert overlaps.shape == (3, 4, 5)
    for index in range(3):
        np.testing.assert_array_equal(overlaps[index], geometry.iou(first[index], second[index]))
        np.testing.assert_array_equal(overlaps[index].T, geometry.iou(second[index], first[index]))
    shared = geometry.iou(first, second[0])  # one set for all images
    np.testing.assert_array_equal(shared[2], geometry.iou(first[2], second[0]))


def test_boxes_without_area_overlap_nothing():
    point, line = [0.5, 0.5, 0.5, 0.5], [0.2, 0.3, 0.2, 0.9]
    turned_around = [0.8, 0.8, 0.2, 0.2]  # right < left: not the overlap of two negatives
    odd = np.array([point, line, turned_around], "float32")
    np.testing.assert_array_equal(geometry.area(odd), [0, 0, 0])
    whole = np.array([[0, 0, 1, 1]], "float32")
    np.testing.assert_array_equal(geometry.iou(odd, odd), np.zeros((3, 3)))
    np.testing.assert_array_equal(geometry.iou(odd, whole), np.zeros((3, 1)))


def test_the_smallest_boxes_still_overlap_themselves():
    pixel = np.array([[0.5, 0.5, 0.5 + 1e-4, 0.5 + 1e-4]], "float32")  # of a 10,000 pixel image
    assert geometry.iou(pixel, pixel) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_no_boxes_at_all(kind):
    none, some = np.zeros((0, 4), "float32"), random_boxes(3)
    make = KINDS[kind]
    assert geometry.iou(make(none), make(some)).shape == (0, 3)
    assert geometry.iou(make(some), make(none)).shape == (3, 0)
    assert geometry.decode(geometry.encode(make(none), make(none)), make(none)).shape == (0, 4)


def test_clip():
    stick_out = np.array([[-0.5, 0.25, 1.5, 2], [-2, -2, -1, -1]], "float32")
    np.testing.assert_array_equal(geometry.clip(stick_out), [[0, 0.25, 1, 1], [0, 0, 0, 0]])
    inside = random_boxes(5)
    np.testing.assert_array_equal(geometry.clip(inside), inside)


def test_centers():
    box = np.array([0.125, 0.25, 0.375, 1.0], "float32")
    np.testing.assert_array_equal(geometry.center_xywh_from_xyxy(box), [0.25, 0.625, 0.25, 0.75])
    some = random_boxes(50)
    there_and_back = geometry.xyxy_from_center_xywh(geometry.center_xywh_from_xyxy(some))
    np.testing.assert_allclose(there_and_back, some, atol=1e-7)


def test_encode_by_hand():
    anchor = np.array([[0.5, 0.5, 0.2, 0.4]], "float32")
    # Center (0.55, 0.4): a quarter of the anchor's width right, a quarter of its height up, both
    # over 0.1. Size (0.2 e, 0.4 / e): logarithms 1 and -1, over 0.2.
    width, height = 0.2 * np.e, 0.4 / np.e
    box = [[0.55 - width / 2, 0.4 - height / 2, 0.55 + width / 2, 0.4 + height / 2]]
    offsets = geometry.encode(np.array(box, "float32"), anchor)
    np.testing.assert_allclose(offsets, [[2.5, -2.5, 5, -5]], rtol=1e-5)


def test_decode_is_the_inverse_of_encode():
    anchors = ssd300_anchors()
    some = random_boxes(len(anchors), smallest=1e-3)
    np.testing.assert_allclose(
        geometry.decode(geometry.encode(some, anchors), anchors), some, atol=1e-6
    )
    offsets = np.random.default_rng(0).normal(0, 2, (2, *anchors.shape)).astype("float32")
    encoded = geometry.encode(geometry.decode(offsets, anchors), anchors)
    np.testing.assert_allclose(encoded, offsets, atol=1e-3)


def test_an_anchor_is_encoded_as_zeros():
    anchors = ssd300_anchors()
    offsets = geometry.encode(geometry.xyxy_from_center_xywh(anchors), anchors)
    np.testing.assert_allclose(offsets, np.zeros_like(anchors), atol=1e-4)


def test_a_box_without_area_has_finite_offsets():
    anchor = np.array([[0.5, 0.5, 0.2, 0.2]], "float32")
    offsets = geometry.encode(np.array([[0.5, 0.5, 0.5, 0.5]], "float32"), anchor)
    size = np.log(1e-6 / 0.2) / 0.2
    np.testing.assert_allclose(offsets, [[0, 0, size, size]], rtol=1e-5)


FUNCTIONS = {
    "area": lambda make, some, anchors: geometry.area(make(some)),
    "iou": lambda make, some, anchors: geometry.iou(make(some), make(anchors)),
    "iou with constants": lambda make, some, anchors: geometry.iou(make(some), anchors),
    "clip": lambda make, some, anchors: geometry.clip(make(some)),
    "centers": lambda make, some, anchors: geometry.center_xywh_from_xyxy(make(some)),
    "corners": lambda make, some, anchors: geometry.xyxy_from_center_xywh(make(anchors)),
    "encode": lambda make, some, anchors: geometry.encode(make(some), make(anchors)),
    "encode with constants": lambda make, some, anchors: geometry.encode(make(some), anchors),
    "decode": lambda make, some, anchors: geometry.decode(make(some), make(anchors)),
    "decode with constants": lambda make, some, anchors: geometry.decode(make(some), anchors),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_kind_of_array_gives_the_same_float32(name):
    function = FUNCTIONS[name]
    some, anchors = random_boxes(7), geometry.center_xywh_from_xyxy(random_boxes(7, seed=1))
    expected = function(np.asarray, some, anchors)
    assert isinstance(expected, np.ndarray) and expected.dtype == np.float32

    eager = function(tf.constant, some, anchors)
    dataset = tf.data.Dataset.from_tensors(some).map(
        lambda some: function(tf.identity, some, anchors)
    )
    inside = next(iter(dataset))
    backend = function(keras.Variable, some, anchors)  # no tensor of TensorFlow: keras.ops
    assert dataset.element_spec.shape == expected.shape  # static, which XLA needs
    for result in (eager, inside, backend):
        assert tf.is_tensor(result) and result.dtype == tf.float32
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


ON_JAX = """
import keras
import numpy as np
import tensorflow as tf

from kerasdense.boxes import geometry
from kerasdense.boxes.anchors import encode_targets, ssd300_anchors

assert keras.backend.backend() == "jax"
some = np.array([[0.1, 0.2, 0.5, 0.6], [0.3, 0.3, 0.9, 0.8]], "float32")
anchors = geometry.center_xywh_from_xyxy(some[::-1])
for function in (geometry.iou, geometry.encode, geometry.decode):
    expected = function(some, anchors)
    assert isinstance(expected, np.ndarray)
    on_jax = function(keras.ops.convert_to_tensor(some), anchors)
    assert keras.ops.is_tensor(on_jax) and on_jax.dtype == "float32"
    data = tf.data.Dataset.from_tensors(some).map(lambda some: function(some, anchors))
    inside = next(iter(data))
    assert tf.is_tensor(inside) and inside.dtype == tf.float32
    np.testing.assert_allclose(on_jax, expected, rtol=1e-5)
    np.testing.assert_allclose(inside, expected, rtol=1e-5)
data = tf.data.Dataset.from_tensors((some, [3, 0]))
targets = next(iter(data.map(lambda *sample: encode_targets(*sample, ssd300_anchors()))))
assert set(np.unique(targets[:, 0])) == {0, 1, 4}
print("equal")
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_tf_data_and_jax_side_by_side():
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    result = subprocess.run(
        [sys.executable, "-c", ON_JAX], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "equal\n"
