"""The exported artefact against the model it comes from, at other batches and sizes."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasdense.export import ServedModel, export, in_float32
from kerasdense.prediction import Predictor

NAMES = ["road", "car", "tree", "sky"]
PALETTE = [[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]]


def small_model(policy="float32", classes=4, auxiliary=False):
    """A convolutional model with batch normalisation and dropout, its weights random."""
    keras.utils.set_random_seed(0)
    with_policy = {"dtype": policy}
    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    x = keras.layers.Rescaling(1 / 64, offset=-2, **with_policy)(images)
    x = keras.layers.Conv2D(8, 3, padding="same", use_bias=False, **with_policy)(x)
    x = keras.layers.BatchNormalization(**with_policy)(x)
    x = keras.layers.ReLU(**with_policy)(x)
    x = keras.layers.Dropout(0.5, **with_policy)(x)
    x = keras.layers.Conv2D(classes, 3, padding="same", name="scores", **with_policy)(x)
    logits = keras.layers.Activation("linear", dtype="float32", name="logits")(x)
    outputs = {"logits": logits, "auxiliary_logits": -logits} if auxiliary else logits
    model = keras.Model(images, outputs, name="small")
    moments = np.random.default_rng(0)
    for variable in model.non_trainable_variables:  # else batch normalisation does nothing
        if variable.path.split("/")[-1].startswith("moving"):
            variable.assign(moments.uniform(0.5, 2, variable.shape))
    return model


def pictures(batch, height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (batch, height, width, 3), np.uint8)


def logits_of(model, images):
    outputs = model(images, training=False)
    outputs = outputs["logits"] if isinstance(outputs, dict) else outputs
    return keras.ops.convert_to_numpy(outputs)


@pytest.mark.parametrize("auxiliary", [False, True])
def test_predictor_equals_the_model_at_any_batch_and_size(tmp_path, auxiliary):
    model = small_model(auxiliary=auxiliary)
    predictor = Predictor(export(model, tmp_path / "name", NAMES, PALETTE))
    assert predictor.class_names == NAMES and predictor.palette == PALETTE
    for shape in [(1, 32, 48), (3, 97, 131), (2, 5, 7)]:
        images = pictures(*shape)
        logits = logits_of(model, images)
        probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
        outputs = predictor.predict(images)
        assert outputs["labels"].dtype == np.uint8 and outputs["labels"].shape == shape
        assert outputs["confidence"].dtype == np.float32
        np.testing.assert_array_equal(outputs["labels"], logits.argmax(axis=-1))
        np.testing.assert_allclose(outputs["confidence"], probabilities.max(axis=-1), atol=1e-5)
        exported = predictor.predict_probabilities(images)
        assert exported.dtype == np.float32
        np.testing.assert_allclose(exported, probabilities, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_mixed_precision_model_is_exported_in_float32(tmp_path, policy):
    model = small_model(policy)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    predictor = Predictor(export(loaded, tmp_path / "name", NAMES, PALETTE))
    images = pictures(2, 40, 24)
    # The same weights in a float32 model: exactly these labels, and nearly the mixed ones.
    reference = small_model("float32")
    reference.set_weights(model.get_weights())
    labels = predictor.predict(images)["labels"]
    np.testing.assert_array_equal(labels, logits_of(reference, images).argmax(axis=-1))
    assert (labels == logits_of(loaded, images).argmax(axis=-1)).mean() > 0.95
    assert all(layer.dtype_policy.name != policy for layer in in_float32(loaded).layers)
    assert loaded.get_layer("scores").dtype_policy.name == policy  # the original stays


def test_signatures_have_the_published_shapes(tmp_path):
    version = export(small_model(), tmp_path / "name", NAMES, PALETTE)
    signatures = tf.saved_model.load(str(version)).signatures
    assert set(signatures) == {"serving_default", "probabilities", "encoded"}

    def specs(structure):
        return {key: (spec.dtype, spec.shape.as_list()) for key, spec in structure.items()}

    for name in ("serving_default", "encoded"):
        assert specs(signatures[name].structured_outputs) == {
            "labels": (tf.uint8, [None, None, None]),
            "confidence": (tf.float32, [None, None, None]),
        }
    images = {"images": (tf.uint8, [None, None, None, 3])}
    assert specs(signatures["serving_default"].structured_input_signature[1]) == images
    assert specs(signatures["probabilities"].structured_input_signature[1]) == images
    assert specs(signatures["encoded"].structured_input_signature[1]) == {
        "image_bytes": (tf.string, [None])
    }
    assert specs(signatures["probabilities"].structured_outputs) == {
        "probabilities": (tf.float32, [None, None, None, 4])
    }
    classes = json.loads((version / "assets" / "classes.json").read_text())
    assert classes == {"task": "segmentation", "class_names": NAMES, "palette": PALETTE}


def test_versions_count_up(tmp_path):
    name = tmp_path / "name"
    model = small_model()
    assert export(model, name, NAMES, PALETTE) == name / "1"
    (name / "9").mkdir()
    (name / "notes").mkdir()
    assert export(model, name, NAMES, PALETTE) == name / "10"
    assert sorted(path.name for path in name.iterdir()) == ["1", "10", "9", "notes"]


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()])
def test_an_interrupted_export_leaves_no_version(tmp_path, monkeypatch, error):
    name = tmp_path / "name"
    model = small_model()
    export(model, name, NAMES, PALETTE)
    save = tf.saved_model.save

    def interrupted(served, path, **options):
        save(served, path, **options)
        raise error

    monkeypatch.setattr(tf.saved_model, "save", interrupted)
    with pytest.raises(type(error)):
        export(model, name, NAMES, PALETTE)
    assert [path.name for path in name.iterdir()] == ["1"]


def test_served_in_memory_equals_the_saved_model(tmp_path):
    model = small_model()
    images = pictures(2, 20, 30)
    predictor = Predictor(export(model, tmp_path / "name", NAMES, PALETTE))
    served = ServedModel(model)
    np.testing.assert_array_equal(
        served.serving_default(images)["labels"], predictor.predict(images)["labels"]
    )


@pytest.mark.parametrize(
    "classes, names, palette, words",
    [
        (4, NAMES[:3], PALETTE, "4 classes.*3 names"),
        (4, NAMES, PALETTE[:3], "3 colors"),
        (256, [str(i) for i in range(256)], [[i, i, i] for i in range(256)], "at most 255"),
    ],
)
def test_names_must_fit(tmp_path, classes, names, palette, words):
    with pytest.raises(ValueError, match=words):
        export(small_model(classes=classes), tmp_path / "name", names, palette)
    assert not (tmp_path / "name").exists()


def test_a_version_folder_is_no_place_for_versions(tmp_path):
    version = export(small_model(), tmp_path / "name", NAMES, PALETTE)
    with pytest.raises(ValueError, match="folder above"):
        export(small_model(), version, NAMES, PALETTE)
