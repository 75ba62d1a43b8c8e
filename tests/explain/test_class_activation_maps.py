"""Class activation maps, on models whose answers are known by hand."""

import keras
import numpy as np
import pytest

from kerasdense.explain.class_activation_maps import grad_cam
from kerasdense.models import ladder_densenet


def convolution(model, name, kernel):
    kernel = np.asarray(kernel, np.float32)
    model.get_layer(name).set_weights([kernel])


@pytest.fixture(scope="module")
def colors():
    """Segmentation whose features are red, green and blue / 255, and class c is color c."""
    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    x = keras.layers.Rescaling(1 / 255, name="preprocess")(images)
    x = keras.layers.Conv2D(3, 1, use_bias=False, name="features")(x)
    x = keras.layers.Conv2D(3, 1, use_bias=False, name="score")(x)
    model = keras.Model(images, x, name="colors")
    convolution(model, "features", np.eye(3)[None, None])
    convolution(model, "score", np.eye(3)[None, None])
    return model


def picture():
    """Left half green, right half blue of half its brightness; the rest black."""
    image = np.zeros((1, 8, 8, 3), np.uint8)
    image[:, 2:6, :4, 1] = 200
    image[:, 2:6, 4:, 2] = 100
    return image


def test_seg_grad_cam_finds_the_pixels_that_speak_for_the_class(colors):
    heat = grad_cam(colors, picture(), 1)
    assert heat.shape == (1, 8, 8) and heat.dtype == np.float32
    np.testing.assert_allclose(heat[0], picture()[0, ..., 1] / 200, atol=1e-6)


def test_the_region_scales_the_evidence_alike_everywhere(colors):
    # The weight of a map is its mean gradient: a region of two pixels has a smaller one, of the
    # same sign, and the heat is relative to its largest value.
    region = np.zeros((8, 8), bool)
    region[2, :2] = True
    np.testing.assert_allclose(
        grad_cam(colors, picture(), 1, region=region),
        grad_cam(colors, picture(), 1),
        atol=1e-6,
    )


def test_evidence_against_a_class_is_cold():
    images = keras.Input((None, None, 3), dtype="uint8")
    x = keras.layers.Conv2D(2, 1, use_bias=False, name="features")(
        keras.layers.Rescaling(1.0)(images)
    )
    model = keras.Model(images, keras.layers.Conv2D(2, 1, use_bias=False, name="score")(x))
    convolution(model, "features", [[[[1, 0], [0, 1], [0, 0]]]])  # red, green
    convolution(model, "score", [[[[1, 0], [-2, 1]]]])  # class 0: red - 2 green; 1: green
    image = np.zeros((1, 1, 3, 3), np.uint8)
    image[0, 0] = [[200, 0, 0], [100, 0, 0], [40, 100, 0]]
    heat = grad_cam(model, image, 0, region=np.ones((1, 3), bool))
    # red - 2 green is 200, 100, and -160, which is cut off.
    np.testing.assert_allclose(heat[0], [[1, 0.5, 0]], atol=1e-6)


def test_grad_cam_of_a_classifier_and_of_another_layer(colors):
    x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(colors.get_layer("features").output)
    logits = keras.layers.Dense(2, use_bias=False, name="logits")(x)
    model = keras.Model(colors.inputs[0], logits, name="classifier")
    model.get_layer("logits").set_weights([np.float32([[0, 0], [1, 0], [0, 1]])])
    heats = [grad_cam(model, picture(), index)[0] for index in (0, 1)]
    np.testing.assert_allclose(heats[0], picture()[0, ..., 1] / 200, atol=1e-6)
    np.testing.assert_allclose(heats[1], picture()[0, ..., 2] / 100, atol=1e-6)
    np.testing.assert_allclose(
        grad_cam(model, picture(), 0, layer="preprocess")[0], heats[0], atol=1e-6
    )


def test_an_image_without_evidence_is_cold(colors):
    heat = grad_cam(colors, np.zeros((1, 4, 4, 3), np.uint8), 2, region=np.ones((4, 4), bool))
    np.testing.assert_array_equal(heat, 0)


def test_maps_of_a_lower_resolution_come_back_in_the_images_size():
    keras.utils.set_random_seed(0)
    model = ladder_densenet((1, 1, 1, 1), num_classes=3, auxiliary=True)
    images = np.random.default_rng(0).integers(0, 256, (2, 72, 80, 3), np.uint8)
    for layer in (None, "conv5_block1_concat"):
        heats = np.stack(
            [grad_cam(model, images, index, layer, np.ones((72, 80), bool)) for index in range(3)]
        )
        assert heats.shape == (3, 2, 72, 80) and heats.min() >= 0
        # 0 would be: no evidence for that class at all.
        assert 1 in heats and set(heats.max(axis=(2, 3)).flat) <= {0, 1}


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"class_index": 3}, "no class 3: the model has the classes 0 to 2"),
        ({"class_index": 1, "layer": "conv9"}, 'no layer "conv9".* features, score'),
        ({"class_index": 0}, "no pixel to explain in image 0"),
        ({"class_index": 1, "region": np.ones((4, 4), bool)}, "size .*8, 8.* received .*4, 4"),
    ],
)
def test_bad_requests(colors, arguments, message):
    image = np.full((1, 8, 8, 3), 9, np.uint8) * np.uint8([0, 1, 0])  # all green
    with pytest.raises(ValueError, match=message):
        grad_cam(colors, image, **arguments)


def test_models_without_class_scores_are_refused():
    images = keras.Input((8, 8, 3), dtype="uint8")
    raw = keras.layers.Reshape((64, 3))(keras.layers.Rescaling(1.0)(images))
    with pytest.raises(ValueError, match="Class activation maps need"):
        grad_cam(keras.Model(images, raw), np.zeros((1, 8, 8, 3), np.uint8), 0)


def test_a_classifier_takes_no_region(colors):
    pooled = keras.layers.GlobalAveragePooling2D()(colors.output)
    model = keras.Model(colors.inputs[0], pooled)
    with pytest.raises(ValueError, match="expected no region"):
        grad_cam(model, picture(), 0, region=np.ones((8, 8), bool))
