"""Preprocessing, resizing to another tensor's size, scores, and what SSD adds."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasdense.models.layers import (
    AnchorPredictions,
    BatchNormalization,
    DilatedConv2D,
    GridAveragePooling2D,
    ImageNetPreprocessing,
    L2Normalization,
    Recompute,
    ResizeLike,
    score,
)


def test_caffe_preprocessing_is_bgr_minus_the_mean_color():
    image = np.zeros((1, 64, 64, 3), "uint8")
    image[..., 0], image[..., 1], image[..., 2] = 10, 20, 30  # red, green, blue
    output = ImageNetPreprocessing("caffe")(image)
    # BGR minus the ImageNet means 103.939, 116.779, 123.68
    expected = [30 - 103.939, 20 - 116.779, 10 - 123.68]
    np.testing.assert_allclose(output[0, 0, 0], expected, rtol=1e-6)


def test_ssd_preprocessing_is_bgr_minus_whole_numbers():
    image = np.zeros((2, 64, 64, 3), "uint8")
    image[..., 0], image[..., 1], image[..., 2] = 10, 20, 30  # red, green, blue
    output = ImageNetPreprocessing("ssd")(image)
    assert output.dtype == tf.float32
    np.testing.assert_array_equal(output[1, 5, 7], [30 - 104, 20 - 117, 10 - 123])


def test_torch_preprocessing_scales_then_normalizes_each_channel():
    output = ImageNetPreprocessing("torch")(np.full((1, 64, 64, 3), 255, "uint8"))
    expected = [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    np.testing.assert_allclose(output[0, 0, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_both_layers_return_float32_under_every_policy(policy):
    images = np.zeros((1, 64, 66, 3), "uint8")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        preprocess, resize = ImageNetPreprocessing("caffe"), ResizeLike()
    finally:
        keras.config.set_dtype_policy(before)
    assert preprocess(images).dtype == tf.float32
    resized = resize([tf.zeros((1, 4, 4, 2), tf.bfloat16), images])
    assert resized.dtype == tf.float32 and resized.shape == (1, 64, 66, 2)


def test_preprocessing_refuses_unknown_modes_and_small_images():
    with pytest.raises(ValueError, match="mode: expected one of .* received 'tf'"):
        ImageNetPreprocessing("tf")
    with pytest.raises(ValueError, match=r"at least 64 pixels.* \(1, 64, 63, 3\)"):
        ImageNetPreprocessing("caffe")(np.zeros((1, 64, 63, 3), "uint8"))


def test_resize_is_bilinear_with_half_pixel_centers():
    row = np.array([0.0, 4.0], "float32").reshape(1, 1, 2, 1)
    # Output centers lie at (x + 0.5) / 2 - 0.5 = -0.25, 0.25, 0.75, 1.25; outside the edge holds.
    output = ResizeLike()([row, np.zeros((1, 1, 4, 9))])
    np.testing.assert_allclose(output[0, 0, :, 0], [0, 1, 3, 4], atol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_resize_and_its_gradient_with_unknown_sizes(jit_compile):
    layer = ResizeLike()

    @tf.function(
        jit_compile=jit_compile,
        input_signature=[
            tf.TensorSpec([None, None, None, 2]),
            tf.TensorSpec([None, None, None, 3], tf.uint8),
        ],
    )
    def resize(features, reference):
        with tf.GradientTape() as tape:
            tape.watch(features)
            output = layer([features, reference])
        return output, tape.gradient(output, features)

    features = tf.random.stateless_normal((2, 4, 5, 2), seed=(0, 1))
    output, gradient = resize(features, tf.zeros((2, 97, 131, 3), tf.uint8))
    np.testing.assert_allclose(output, tf.image.resize(features, (97, 131)), atol=1e-5)
    # Each output pixel's weights add up to 1, so the gradient of the sum adds up to the pixels.
    np.testing.assert_allclose(tf.reduce_sum(gradient), 2 * 97 * 131 * 2, rtol=1e-5)


@pytest.mark.parametrize("is_static", [False, True])
def test_resize_is_the_same_where_xla_compiles_it(is_static):
    # Of XLA's own resize some rows are wrong from 5 to 11, 7 to 21 and 12 to 28.
    sizes = [(5, 11), (7, 21), (12, 28), (9, 4)]
    layer = ResizeLike()
    signature = None if is_static else [tf.TensorSpec([None] * 3 + [2])] * 2
    compiled = tf.function(
        lambda *maps: layer(maps),
        jit_compile=True,
        input_signature=signature,
        reduce_retracing=False,
    )
    for before, after in sizes:
        maps = tf.random.stateless_normal((2, before, before + 1, 2), seed=(0, 1))
        found = compiled(maps, tf.zeros((2, after, after + 2, 2)))
        np.testing.assert_allclose(found, tf.image.resize(maps, (after, after + 2)), atol=1e-5)


def test_resize_knows_its_symbolic_shape():
    features, images = keras.Input((None, None, 7)), keras.Input((97, None, 3))
    assert ResizeLike()([features, images]).shape == (None, 97, None, 7)


def test_layers_survive_their_configuration():
    for layer in (
        ImageNetPreprocessing("torch", name="a"),
        ImageNetPreprocessing("ssd", name="a"),
        ResizeLike(name="b"),
        L2Normalization(name="c"),
        AnchorPredictions(7, "ssd512", "coco", clip=True, name="d"),
        BatchNormalization(momentum=0.9, epsilon=1e-5, name="e"),
        DilatedConv2D(3, 3, dilation_rate=2, name="f"),
        GridAveragePooling2D(8, name="g"),
    ):
        config = keras.saving.serialize_keras_object(layer)
        copy = keras.saving.deserialize_keras_object(config)
        assert type(copy) is type(layer) and copy.get_config() == layer.get_config()


@pytest.mark.parametrize("num_classes", [1, 256, 2.0, "21", None])
def test_score_checks_the_number_of_classes(num_classes):
    with pytest.raises(ValueError, match="num_classes: expected an int from 2 to 255, received"):
        score(num_classes, name="score")


def test_recompute_runs_the_model_and_updates_its_statistics_once():
    inputs = keras.Input((None, 2))
    inner = keras.Model(inputs, keras.layers.BatchNormalization(momentum=0.5)(inputs))
    layer = Recompute(inner)
    x = tf.constant([[[1.0, 10.0], [3.0, 30.0]]])

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x, training=True) ** 3)
        return tape.gradient(loss, inner.trainable_variables)

    gamma, beta = step()
    # Means 2 and 20, from the initial 0 with momentum 0.5: halfway once, not three quarters.
    np.testing.assert_allclose(inner.layers[1].moving_mean.numpy(), [1, 10], rtol=1e-6)
    # The normalized values n are -1 and 1 (up to epsilon). d/dgamma of n^3 is 3 n^2 n, which adds
    # up to 0; d/dbeta is 3 n^2, twice.
    np.testing.assert_allclose(gamma, [0, 0], atol=1e-5)
    np.testing.assert_allclose(beta, [6, 6], rtol=1e-2)


def test_l2_normalization_scales_every_position_to_the_same_length():
    features = np.array([[3, 4], [-0.3, 0.4], [6e4, 0]], "float32").reshape(1, 1, 3, 2)
    layer = L2Normalization()
    # Length 5, 0.5 and 60,000, then each channel times 20.
    expected = [[12, 16], [-12, 16], [20, 0]]
    np.testing.assert_allclose(layer(features)[0, 0], expected, rtol=1e-4)
    layer.scale.assign([1, 10])
    np.testing.assert_allclose(layer(features)[0, 0, 0], [0.6, 8], rtol=1e-5)
    assert [variable.path for variable in layer.trainable_variables] == [layer.scale.path]


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_l2_normalization_under_every_policy(policy, jit_compile):
    """In float16 the square of 1,000 is infinite; an all-zero vector must not give NaN."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        layer = L2Normalization()
    finally:
        keras.config.set_dtype_policy(before)
    dtype = tf.as_dtype(keras.DTypePolicy(policy).compute_dtype)
    features = tf.constant([[1000.0, 0.0], [0.0, 0.0]], dtype)[None, None]

    @tf.function(jit_compile=jit_compile)
    def step(features):
        with tf.GradientTape() as tape:
            tape.watch(features)
            output = layer(features)
        return output, tape.gradient(output, features)

    output, gradient = step(features)
    assert output.dtype == tf.float32
    np.testing.assert_allclose(output[0, 0], [[20, 0], [0, 0]], rtol=1e-5)
    assert np.all(np.isfinite(tf.cast(gradient, tf.float32)))


def test_l2_normalization_has_the_gradient_of_its_definition():
    features = tf.constant([[[[3.0, 4.0]]]])
    layer = L2Normalization()
    with tf.GradientTape() as tape:
        tape.watch(features)
        first = layer(features)[0, 0, 0, 0]
    # 20 x / r: by x, 20 (1 / r - x^2 / r^3) = 20 * 16 / 125; by y, -20 x y / r^3 = -20 * 12 / 125
    expected = [[[[2.56, -1.92]]]]
    np.testing.assert_allclose(tape.gradient(first, features), expected, rtol=1e-5)


def test_anchor_predictions_keep_the_order_of_levels_rows_columns_and_anchors():
    """Every number of the maps says where it belongs; each row must find its own."""
    num_classes, levels = 2, [(3, 2), (1, 4)]  # (cells a side, anchors a cell)
    class_maps, box_maps, expected = [], [], []
    for level, (cells, k) in enumerate(levels):
        place = np.arange(cells * cells * k) + 100 * level  # of an anchor, row by row
        class_maps.append((place[:, None] + [0.1, 0.2, 0.3]).reshape(1, cells, cells, 3 * k))
        box_maps.append((place[:, None] + [0.6, 0.7, 0.8, 0.9]).reshape(1, cells, cells, 4 * k))
        expected.append(place[:, None] + [0.1, 0.2, 0.3, 0.6, 0.7, 0.8, 0.9])
    layer = AnchorPredictions(num_classes, "ssd300", "voc")
    inputs = [[np.float32(x) for x in maps] for maps in (class_maps, box_maps)]
    output = layer(inputs)
    np.testing.assert_allclose(output[0], np.concatenate(expected), rtol=1e-6)
    # 3 * 3 * 2 + 4 anchors, 2 classes and background, 4 offsets
    assert layer.compute_output_shape([[x.shape for x in maps] for maps in inputs]) == (1, 22, 7)


def test_anchor_predictions_are_float32_under_every_policy():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        layer = AnchorPredictions(1, "ssd300", "voc")
    finally:
        keras.config.set_dtype_policy(before)
    output = layer([[tf.zeros((5, 2, 2, 4), tf.float16)], [tf.zeros((5, 2, 2, 8), tf.float16)]])
    assert output.dtype == tf.float32 and output.shape == (5, 8, 6)


def trained_once(layer, x, jit_compile=False, weights=None):
    """Output, gradients (to x first) and new weights of one training step on sum(output ** 3)."""
    layer.build(x.shape)
    if weights is not None:
        layer.set_weights(weights)

    @tf.function(jit_compile=jit_compile)
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = layer(x, training=True)
            loss = tf.reduce_sum(tf.cast(output, "float32") ** 3)  # of squares, x would get 0
        return output, tape.gradient(loss, [x, *(v.value for v in layer.trainable_variables)])

    output, gradients = step(x)
    operations = {each.type for each in step.get_concrete_function(x).graph.get_operations()}
    return output, gradients, layer.get_weights(), operations


def both_trained(ours, keras_layer, x, weights, tolerance=1e-4, jit_compile=False):
    """Compares a training step of two layers; the operations that the first one's graph has."""
    *found, operations = trained_once(ours, x, jit_compile, weights)
    *expected, _ = trained_once(keras_layer, x, False, weights)
    for mine, theirs in zip(keras.tree.flatten(found), keras.tree.flatten(expected)):
        assert mine.dtype == theirs.dtype
        largest = np.abs(np.asarray(theirs, "float32")).max()
        np.testing.assert_allclose(
            np.asarray(mine, "float32"), np.asarray(theirs, "float32"), atol=tolerance * largest
        )
    return operations


MOMENTS = [[1.0, 2, 0.5], [0.0, 1, -1], [3.0, 0, 1], [1.0, 4, 9]]  # gamma, beta, mean, variance


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_fused_normalization_trains_as_keras_does(jit_compile):
    # 2 x 1 x 3 positions: a sample's variance would be 6/5 of Keras'.
    x = 2 + 3 * tf.random.stateless_normal((2, 1, 3, 3), seed=(0, 1))
    options = {"momentum": 0.5, "epsilon": 1e-6}
    operations = both_trained(
        BatchNormalization(**options),
        keras.layers.BatchNormalization(**options),
        x,
        np.float32(MOMENTS),
        jit_compile=jit_compile,
    )
    assert "FusedBatchNormV3" in operations


def test_moving_statistics_are_those_of_the_population():
    layer = BatchNormalization(momentum=0.0)
    layer(np.float32([1, 3, 3, 5]).reshape(1, 2, 2, 1), training=True)
    # Mean 3; the squared distances 4, 0, 0, 4 over 4 positions.
    np.testing.assert_allclose(layer.moving_mean, [3])
    np.testing.assert_allclose(layer.moving_variance, [2], rtol=1e-6)


@pytest.mark.parametrize("policy, tolerance", [("mixed_bfloat16", 2e-2), ("mixed_float16", 2e-3)])
def test_a_fused_normalization_of_half_precision(policy, tolerance):
    x = 2 + 3 * tf.random.stateless_normal((4, 5, 6, 3), seed=(0, 1))
    x = tf.cast(x, policy.removeprefix("mixed_"))
    layers = [each(dtype=policy) for each in (BatchNormalization, keras.layers.BatchNormalization)]
    assert "FusedBatchNormV3" in both_trained(*layers, x, np.float32(MOMENTS), tolerance)


@pytest.mark.parametrize(
    "shape, options",
    [
        ((5, 3), {}),
        ((2, 3, 4, 5), {"axis": 1}),
        ((2, 4, 5, 3), {"scale": False}),
        ((2, 4, 5, 3), {"renorm": True}),
    ],
)
def test_what_cannot_be_fused_is_normalized_by_keras(shape, options):
    x = tf.random.stateless_normal(shape, seed=(0, 1))
    layers = [each(**options) for each in (BatchNormalization, keras.layers.BatchNormalization)]
    assert "FusedBatchNormV3" not in both_trained(*layers, x, None)


def test_a_frozen_normalization_keeps_its_statistics():
    layer = BatchNormalization()
    x = np.float32([1, 3, 3, 5]).reshape(1, 2, 2, 1)
    layer.build(x.shape)
    layer.trainable = False
    np.testing.assert_allclose(layer(x, training=True), x, rtol=1e-3)  # by mean 0, variance 1
    np.testing.assert_allclose(layer.moving_mean, [0])


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_dilated_convolution_trains_as_keras_does_in_one_operation(padding, jit_compile):
    x = tf.random.stateless_normal((2, 11, 13, 4), seed=(0, 1))
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(3, 3, 4, 5)).astype("float32"), np.float32(range(5))]
    options = {"filters": 5, "kernel_size": 3, "padding": padding, "dilation_rate": (2, 3)}
    operations = both_trained(
        DilatedConv2D(**options),
        keras.layers.Conv2D(**options),
        x,
        weights,
        jit_compile=jit_compile,
    )
    assert "SpaceToBatchND" not in operations


WITHOUT_ONEDNN = """
import numpy as np, tensorflow as tf
from kerasdense.models.layers import DilatedConv2D
layer = DilatedConv2D(1, 3, padding="same", dilation_rate=2, kernel_initializer="ones")
x = tf.ones((1, 8, 8, 1))
with tf.GradientTape() as tape:
    tape.watch(x)
    y = layer(x)
gradient = tape.gradient(y, x)
assert y[0, 4, 4, 0] == gradient[0, 4, 4, 0] == 9, (y, gradient)
"""


def test_a_dilated_convolution_has_a_gradient_without_onednn():
    """With oneDNN, the default, the tests above have asked for it."""
    environment = os.environ | {"TF_ENABLE_ONEDNN_OPTS": "0", "TF_CPP_MIN_LOG_LEVEL": "2"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-c", WITHOUT_ONEDNN]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def grid_of_means(maps, rows, columns):
    """Each cell's mean by a loop over the cells."""
    height, width = maps.shape[1:3]
    found = np.zeros((len(maps), rows, columns, maps.shape[3]))
    for i in range(rows):
        top, bottom = i * height // rows, -(-(i + 1) * height // rows)
        for j in range(columns):
            left, right = j * width // columns, -(-(j + 1) * width // columns)
            assert bottom > top and right > left
            found[:, i, j] = maps[:, top:bottom, left:right].mean(axis=(1, 2))
    return found


@pytest.mark.parametrize(
    "cells, size, grid",
    [
        (1, (5, 5), (1, 1)),
        (2, (4, 8), (2, 4)),
        (2, (8, 4), (4, 2)),  # the shorter side may be either
        (2, (5, 6), (2, 2)),  # 2.4 cells
        (2, (4, 5), (2, 3)),  # 2.5 cells
        (8, (11, 15), (8, 11)),  # 10.9 cells
        (8, (1, 1), (8, 8)),  # finer than the map
        (4, (3, 2), (6, 4)),
    ],
)
def test_a_grid_s_cells_are_means_of_what_they_touch(cells, size, grid):
    maps = np.random.default_rng(0).normal(size=(2, *size, 3)).astype("float32")
    layer = GridAveragePooling2D(cells)
    expected = grid_of_means(maps, *grid)
    np.testing.assert_allclose(layer(maps), expected, atol=1e-6)
    # A program that learns the size when it runs, which sees the same.
    program = tf.function(layer, input_signature=[tf.TensorSpec([None, None, None, 3])])
    np.testing.assert_allclose(program(maps), expected, atol=1e-6)
    assert layer(keras.Input((*size, 3))).shape == (None, *grid, 3)


def test_cells_of_a_grid_by_hand():
    # Of five columns, two cells get the first three and the last three: the middle is shared.
    maps = np.float32([[1, 2, 3, 4, 5], [1, 2, 3, 4, 5]]).reshape(1, 2, 5, 1)
    pooled = GridAveragePooling2D(1)(
        maps
    )  # 1 x 2.5 cells, rounded 1 x 3: {1, 2}, {2, 3, 4}, {4, 5}
    np.testing.assert_allclose(pooled[0, :, :, 0], [[1.5, 3, 4.5]])
    square = np.float32(np.arange(25)).reshape(1, 5, 5, 1)
    pooled = GridAveragePooling2D(2)(square)  # cells of three rows and three columns each
    np.testing.assert_allclose(pooled[0, :, :, 0], [[6, 8], [16, 18]])


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_gradient_of_a_grid_is_each_position_s_share(jit_compile):
    layer = GridAveragePooling2D(1)

    @tf.function(jit_compile=jit_compile)
    def gradient(maps):
        with tf.GradientTape() as tape:
            tape.watch(maps)
            pooled = layer(maps)
        return tape.gradient(pooled, maps)

    found = gradient(tf.ones((1, 2, 5, 1)))[0, :, :, 0]
    # Of the cells above, over two rows: the second and fourth columns are in two.
    row = np.float32([1 / 4, 1 / 4 + 1 / 6, 1 / 6, 1 / 4 + 1 / 6, 1 / 4])
    np.testing.assert_allclose(found, [row, row], rtol=1e-6)


def test_a_grid_is_float32_whatever_the_policy_and_knows_what_it_cannot_know():
    layer = GridAveragePooling2D(2, dtype="mixed_float16")
    assert layer(tf.fill((1, 3, 3, 1), tf.constant(60000, tf.float16))).dtype == tf.float32
    assert layer(keras.Input((None, 8, 7))).shape == (None, None, None, 7)


@pytest.mark.parametrize("cells", [0, 2.0, None])
def test_a_grid_needs_cells(cells):
    with pytest.raises(ValueError, match="cells: expected a positive int, received"):
        GridAveragePooling2D(cells)
