"""Preprocessing, resizing to another tensor's size, scores, and what SSD adds."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasdense.layers import (
    AnchorPredictions,
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
