"""DenseNet as a multi-label classifier: tiny dense blocks where size is no matter."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import trains
from models.parameters import densenet_parameters
from small_models import randomize, with_policy

from kerasdense.data.sources import toy_streets
from kerasdense.models import (
    backbones,
    densenet121_classifier,
    densenet_classifier,
    ladder_densenet,
)
from kerasdense.models.losses import multi_label_loss
from kerasdense.models.weights import load_weights

TINY = (1, 1, 1, 1)
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 97, 131, 3), "uint8")


@pytest.fixture(scope="module")
def densenet121():
    return densenet121_classifier(weights=None)


def parameters(blocks, num_classes):
    total, taps = densenet_parameters(blocks)
    # After the last block: batch normalization (4 a channel), then a weight and a bias a class.
    return total + 4 * taps[3] + (taps[3] + 1) * num_classes


def test_parameters(densenet121, keras_densenet121):
    assert densenet_classifier(TINY, 3).count_params() == parameters(TINY, 3)
    assert densenet121.count_params() == parameters((6, 12, 24, 16), 20) == 7_058_004
    # Another head of 1024 inputs than that of keras.applications, nothing else.
    assert densenet121.count_params() - 1025 * 20 == keras_densenet121.count_params()


def test_layer_names():
    names = [layer.name for layer in densenet_classifier(TINY, 3).layers]
    assert names[:3] == ["images", "preprocess", "conv1_pad"]
    assert names[-5:] == ["conv5_block1_concat", "bn", "relu", "avg_pool", "logits"]
    model = densenet_classifier(TINY, 3, name="mine")
    assert model.name == "mine" and model.output.shape == (None, 3)
    assert densenet_classifier(TINY).name == "densenet_classifier"
    assert list(backbones.tap_layers(model)) == ["stride4", "stride8", "stride16", "stride32"]


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_logits_of_images_of_any_size(policy):
    model = with_policy(policy, densenet_classifier, TINY, 5)
    for images in (IMAGES, IMAGES[:1, :64, :64], IMAGES[:, :80]):
        logits = model(images)
        assert logits.shape == (len(images), 5) and logits.dtype == tf.float32
        assert np.isfinite(logits).all()
    with pytest.raises(ValueError, match="at least 64 pixels"):
        model(IMAGES[:, :63])


def test_random_logits_are_small():
    """Probabilities around one half: no class begins as a certainty."""
    keras.utils.set_random_seed(0)
    logits = densenet_classifier((2, 2, 2, 2), 50)(IMAGES, training=True).numpy()
    # Features: means of max(0, x) over normal x, 0.4 each. Weights: Glorot, of variance
    # 2 / (features + classes). So of n features the variance is below 0.4^2 n * 2 / n.
    assert 0.2 < logits.std() < 0.57


def test_the_features_and_imagenet_weights_are_those_of_keras_applications(
    densenet121, keras_densenet121, monkeypatch, capsys
):
    monkeypatch.setitem(
        backbones.IMAGENET_NETWORKS, "densenet121", lambda **options: keras_densenet121
    )
    head = densenet121.get_layer("logits").get_weights()
    report = load_weights(densenet121, "densenet121", "imagenet")
    assert len(report.loaded) == len(keras_densenet121.weights) and report.skipped == ()
    assert {"bn/gamma", "bn/beta", "bn/moving_mean", "bn/moving_variance"} <= set(report.loaded)
    assert "skipped" not in capsys.readouterr().out
    for ours, before in zip(densenet121.get_layer("logits").get_weights(), head):
        np.testing.assert_array_equal(ours, before)
    features = keras.Model(densenet121.input, densenet121.get_layer("avg_pool").output)(IMAGES)
    inputs = keras.applications.densenet.preprocess_input(IMAGES.astype("float32"))
    expected = keras_densenet121(inputs).numpy()
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    logits = expected @ head[0] + head[1]
    np.testing.assert_allclose(densenet121(IMAGES), logits, rtol=0, atol=1e-4)


def test_weights_of_a_segmentation_model_lack_the_last_normalization(tmp_path, capsys):
    randomize(ladder_densenet(TINY, 4), seed=1).save(tmp_path / "ladder.keras")
    densenet_classifier(TINY, 3, weights=tmp_path / "ladder.keras")
    assert re.search(
        r"60 tensors loaded .*, 4 skipped \(bn: 4 not in file\)", capsys.readouterr().out
    )


@pytest.mark.parametrize("num_classes", [0, -1, 2.0, None])
def test_bad_number_of_classes(num_classes):
    with pytest.raises(ValueError, match="num_classes: expected an int of at least 1"):
        densenet_classifier(TINY, num_classes)


def test_bad_blocks_and_weights():
    with pytest.raises(ValueError, match="blocks: expected four positive ints"):
        densenet_classifier((1, 1, 1), 3)
    with pytest.raises(ValueError, match='no ImageNet weights for "densenet"'):
        densenet_classifier(TINY, 3, weights="imagenet")


@pytest.mark.slow
def test_toy_scenes_are_learned_by_heart():
    """Two scenes without a car, two without a pedestrian, two with both: told apart."""
    scenes = [toy_streets.draw_scene("train", index) for index in (3, 22, 42, 53, 0, 1)]
    images = np.stack([image[::3, ::3] for image, *_ in scenes])
    targets = np.float32([[0, 1], [0, 1], [1, 0], [1, 0], [1, 1], [1, 1]])
    for (*_, labels), target in zip(scenes, targets):
        np.testing.assert_array_equal(np.unique(labels), np.flatnonzero(target))
    keras.utils.set_random_seed(0)
    model = densenet_classifier(TINY, 2)
    model.compile(keras.optimizers.Adam(3e-3), multi_label_loss)
    trains(model, images, targets)
    for _ in range(45):
        model.train_on_batch(images, targets)
    np.testing.assert_array_equal(model.predict_on_batch(images) > 0, targets == 1)
