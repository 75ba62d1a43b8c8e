"""What an exported model answers, before it is written: precision, shapes, files, refusals."""

import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from small_models import (
    LABELS_SIZE,
    logits_of,
    pictures,
    small_classifier,
    small_model,
    small_task,
    smooth_pictures,
)

from kerasdense import tasks
from kerasdense.data.augment import resize_image
from kerasdense.export import parity
from kerasdense.export.signatures import Form, in_precision, serve
from kerasdense.models import densenet_classifier
from kerasdense.tasks.classification import Classification

KINDS = ("segmentation", "detection", "classification")


def answer(function, value):
    return {name: output.numpy() for name, output in function(tf.constant(value)).items()}


@pytest.fixture(scope="module")
def segmentation():
    return serve(small_model(), small_task("segmentation"))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_mixed_precision_model_is_served_in_float32(tmp_path, policy):
    model = small_model(policy, auxiliary=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    task = small_task("segmentation")
    images = pictures(2, 80, 64)
    # The same weights in a float32 model: these labels, and nearly the mixed ones.
    probabilities = tf.nn.softmax(logits_of(small_model(), images)).numpy()
    outputs = answer(serve(loaded, task).serving_default, images)
    figures = task.differences(outputs, {"probabilities": probabilities})
    assert not parity.exceeded(task, figures, "float32")
    assert (outputs["labels"] == logits_of(loaded, images).argmax(axis=-1)).mean() > 0.95
    assert loaded.get_layer("scores").dtype_policy.name == policy  # the original stays


def test_in_precision_drops_auxiliary_logits_and_shares_nothing():
    model = small_model(auxiliary=True)
    half = in_precision(model, "float16")
    assert half.name == model.name and half.get_layer("scores").compute_dtype == "float16"
    images = pictures(1, 64, 66)
    assert half(images).shape == (1, 64, 66, 4)
    kernel, bias = half.get_layer("scores").get_weights()
    half.get_layer("scores").set_weights([kernel, bias + 1])
    np.testing.assert_array_equal(model.get_layer("scores").bias + 1, bias + 1)


def test_weights_beyond_float16_are_refused():
    model = small_model()
    kernel, bias = model.get_layer("scores").get_weights()
    model.get_layer("scores").set_weights([kernel, bias + 1e5])
    with pytest.raises(ValueError, match="more than float16 can hold"):
        serve(model, small_task("segmentation"), Form(precision="float16"))


def test_another_backend_is_named(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="TensorFlow backend, received 'jax'.*KERAS_BACKEND"):
        in_precision(small_model(), "float32")


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"precision": "int4"}, "precision: expected one of .*'float16'.* received 'int4'"),
        ({"batch_size": 0}, "batch_size: expected at least 1, received 0"),
    ],
)
def test_impossible_forms(arguments, words):
    with pytest.raises(ValueError, match=words):
        Form(**arguments)


def test_the_input_of_a_form():
    assert Form().images == tf.TensorSpec([None, None, None, 3], tf.uint8, "images")
    fixed = Form(batch_size=2, size=(64, 96)).images
    assert fixed == tf.TensorSpec([2, 64, 96, 3], tf.uint8, "images")


def test_labels_of_pictures_of_other_sizes_are_those_of_the_warped_ones():
    model, task = small_classifier(), small_task("classification")
    served = serve(model, task)
    assert served.names == ("serving_default", "raw", "encoded")
    for shape in ((2, 90, 70), (1, 20, 31), (1, *LABELS_SIZE)):
        images = smooth_pictures(*shape)
        logits = logits_of(model, resize_image(images, LABELS_SIZE).numpy())  # [B, C]
        np.testing.assert_allclose(answer(served.raw, images)["logits"], logits, atol=1e-4)
        probabilities = answer(served.serving_default, images)["probabilities"]
        assert probabilities.dtype == np.float32
        np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-logits)), atol=1e-5)
    # Files may differ in size: the same labels as one by one.
    images = [smooth_pictures(1, 90, 70)[0], smooth_pictures(1, 31, 120, seed=1)[0]]
    files = [tf.io.encode_png(image).numpy() for image in images]
    together = answer(served.encoded, files)["probabilities"]
    alone = [answer(served.serving_default, image[None])["probabilities"][0] for image in images]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert together.std() > 0.05  # the pictures and classes differ


def test_a_classifier_without_a_size_takes_pictures_as_they_are():
    model = small_classifier()
    served = serve(model, tasks.of_model(model))
    images = smooth_pictures(2, 64, 97)
    np.testing.assert_allclose(
        answer(served.raw, images)["logits"], logits_of(model, images), atol=1e-4
    )
    densenet = densenet_classifier((1, 1, 1, 1), 3)
    task = tasks.of_model(densenet)
    assert task.minimum_side == 64 and Classification([], [], (64, 96)).minimum_side == 1


def test_small_pictures_are_padded_and_the_answer_is_cropped(segmentation):
    """As evaluation pads: gray of level 127 at the bottom and the right, up to 64 pixels."""
    model = small_model()
    for height, width in ((20, 100), (70, 9), (1, 1), (63, 64)):
        images = smooth_pictures(2, height, width)
        whole = np.full((2, max(64, height), max(64, width), 3), 127, np.uint8)
        whole[:, :height, :width] = images
        logits = logits_of(model, whole)[:, :height, :width]
        np.testing.assert_allclose(
            answer(segmentation.raw, images)["logits"], logits, rtol=1e-4, atol=1e-4
        )
        probabilities = tf.nn.softmax(logits).numpy()
        outputs = answer(segmentation.serving_default, images)
        figures = small_task("segmentation").differences(outputs, {"probabilities": probabilities})
        assert not parity.exceeded(small_task("segmentation"), figures, "float32"), figures
        found = answer(segmentation.probabilities, images)["probabilities"]
        np.testing.assert_allclose(found, probabilities, atol=1e-5)
        files = [tf.io.encode_png(image).numpy() for image in images]
        labels = answer(segmentation.encoded, files)["labels"]
        np.testing.assert_array_equal(labels, outputs["labels"])


@pytest.mark.parametrize("size, pads", [(None, True), ((64, 96), False), ((32, 96), True)])
def test_only_pictures_that_may_be_small_cost_padding(size, pads):
    served = serve(small_model(), small_task("segmentation"), Form(size=size), portable=True)
    function = served.serving_default.get_concrete_function()
    operations = {operation.type for operation in function.graph.get_operations()}
    assert ("Fill" in operations) == pads == ("StridedSlice" in operations)
    sides = size or (None, None)
    assert function.structured_outputs["labels"].shape.as_list() == [None, *sides]
    images = smooth_pictures(1, *(size or (32, 96)))
    expected = serve(small_model(), small_task("segmentation")).serving_default(images)
    found = served.serving_default(images)
    np.testing.assert_array_equal(found["labels"], expected["labels"])


def file_of(picture, format, **options):
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def test_files_of_all_kinds_become_rgb(segmentation):
    def labels_of(*files):
        return answer(segmentation.encoded, list(files))["labels"]

    def expected_of(picture):
        return answer(segmentation.serving_default, np.asarray(picture)[None])["labels"]

    picture = Image.fromarray(pictures(1, 64, 70)[0])
    alpha = picture.copy()
    alpha.putalpha(100)
    grey = picture.convert("L")
    for file, expected in [
        (file_of(picture, "PNG"), picture),
        (file_of(picture, "BMP"), picture),
        (file_of(alpha, "PNG"), picture),
        (file_of(picture, "WEBP", lossless=True), picture),
        (file_of(alpha, "WEBP", lossless=True), picture),
        (file_of(grey, "PNG"), grey.convert("RGB")),
        (file_of(grey.convert("LA"), "PNG"), grey.convert("RGB")),
        (file_of(picture.quantize(9), "PNG"), picture.quantize(9).convert("RGB")),
    ]:
        np.testing.assert_array_equal(labels_of(file), expected_of(expected))
    for mode in ("RGB", "L", "CMYK"):  # decoders of JPEG differ in rounding
        image = Image.fromarray(smooth_pictures(1, 64, 70)[0]).convert(mode)
        labels = labels_of(file_of(image, "JPEG"))
        assert (labels == expected_of(image.convert("RGB"))).mean() > 0.8
    # Turned by 90 degrees in its EXIF entry: the pixels count as they are stored.
    exif = Image.Exif()
    exif[0x0112] = 6
    assert labels_of(file_of(picture, "PNG", exif=exif)).shape == (1, 64, 70)


# --- as a server meets them: TensorFlow's own loader, without Predictor's checks ------------------


@pytest.fixture(scope="module")
def loaded(exported_version):
    return {kind: tf.saved_model.load(str(exported_version(kind))) for kind in KINDS}


def specs(structure):
    return {key: (spec.dtype, spec.shape.as_list()) for key, spec in structure.items()}


@pytest.mark.parametrize(
    "kind, outputs",
    [
        (
            "segmentation",
            {
                "serving_default": {
                    "labels": (tf.uint8, [None, None, None]),
                    "confidence": (tf.float32, [None, None, None]),
                },
                "probabilities": {"probabilities": (tf.float32, [None, None, None, 4])},
                "raw": {"logits": (tf.float32, [None, None, None, 4])},
            },
        ),
        (
            "detection",
            {
                "serving_default": {
                    "boxes": (tf.float32, [None, 200, 4]),
                    "scores": (tf.float32, [None, 200]),
                    "classes": (tf.int32, [None, 200]),
                    "num_detections": (tf.int32, [None]),
                },
                "raw": {"raw": (tf.float32, [None, 8732, 2 + 1 + 4])},
            },
        ),
        (
            "classification",
            {
                "serving_default": {"probabilities": (tf.float32, [None, 3])},
                "raw": {"logits": (tf.float32, [None, 3])},
            },
        ),
    ],
)
def test_signatures_have_the_published_shapes(loaded, kind, outputs):
    signatures = loaded[kind].signatures
    assert set(signatures) == {*outputs, "encoded"}
    for name, expected in (outputs | {"encoded": outputs["serving_default"]}).items():
        assert specs(signatures[name].structured_outputs) == expected
        inputs = specs(signatures[name].structured_input_signature[1])
        if name == "encoded":
            assert inputs == {"image_bytes": (tf.string, [None])}
        else:
            assert inputs == {"images": (tf.uint8, [None, None, None, 3])}


@pytest.mark.parametrize("kind", KINDS)
def test_bad_input_is_refused_inside_the_graph(loaded, kind):
    served, encoded = (loaded[kind].signatures[name] for name in ("serving_default", "encoded"))
    png = tf.io.encode_png(pictures(1, 64, 64)[0]).numpy()
    refused = [
        (served, np.zeros((0, 64, 64, 3), np.uint8), "No images"),
        (served, np.zeros((1, 64, 0, 3), np.uint8), "too small"),
        (encoded, np.zeros(0, object), "No files"),
        (encoded, np.array([b""], object), "image"),
        (encoded, np.array([b"no picture"], object), "image"),
        (encoded, np.array([png[:60]], object), "PNG"),
    ]
    if kind == "segmentation":  # the others shrink what they get
        refused += [
            (served, np.zeros((1, 9000, 12000, 3), np.uint8), "Too large"),
            (served, np.zeros((5000, 1, 1, 3), np.uint8), "Too large"),  # once it is padded
        ]
    for signature, value, words in refused:
        with pytest.raises(tf.errors.InvalidArgumentError, match=words):
            signature(tf.constant(value))
    assert encoded(tf.constant([png]))  # it lives on
    assert all(len(each) == 1 for each in served(tf.zeros((1, 1, 1, 3), tf.uint8)).values())


def test_files_for_a_detector_may_differ_in_size(exported_predictor):
    predictor, task = exported_predictor("detection"), small_task("detection")
    images = [smooth_pictures(1, 100, 150)[0], smooth_pictures(1, 220, 90, seed=1)[0]]
    files = [tf.io.encode_png(image).numpy() for image in images]
    together = predictor.predict_encoded(files)
    for index, image in enumerate(images):
        alone = predictor.predict(image[None])
        row = {name: values[index : index + 1] for name, values in together.items()}
        figures = task.differences(row, alone)
        assert figures["sought"] > 0 and not parity.exceeded(task, figures, "float32"), figures
