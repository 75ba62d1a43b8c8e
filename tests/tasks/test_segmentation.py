"""Segmentation: evaluation, parity and results against numbers derived by hand."""

import json
import types
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerasdense.data import files
from kerasdense.data.images import Found
from kerasdense.drawing import pictures
from kerasdense.export import parity
from kerasdense.metrics.labels import IGNORE
from kerasdense.tasks.segmentation import Segmentation

NAMES = ["red", "green", "blue"]
PALETTE = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
TASK = Segmentation(NAMES, PALETTE)


def channel_model(kernel=None, strides=1, auxiliary=False):
    """A model whose logits are the color channels, or a convolution of them, over 64."""
    kernel = np.eye(3)[None, None] if kernel is None else kernel
    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    x = keras.layers.Rescaling(1 / 64)(images)
    logits = keras.layers.Conv2D(
        kernel.shape[-1], kernel.shape[:2], strides, "same", use_bias=False, name="logits"
    )(x)
    outputs = {"logits": logits, "auxiliary_logits": -logits} if auxiliary else logits
    model = keras.Model(images, outputs)
    model.get_layer("logits").set_weights([kernel.astype(np.float32)])
    return model


def picture_of(labels):
    """An image in which `channel_model` sees these labels."""
    return (200 * np.eye(3)[labels]).astype(np.uint8)


def batches(*samples):
    def generate():
        for i, (image, mask) in enumerate(samples):
            yield {"image": image[None], "mask": mask[None], "file_name": [f"{i}.png"]}

    return tf.data.Dataset.from_generator(
        generate,
        output_signature={
            "image": tf.TensorSpec([None, None, None, 3], tf.uint8),
            "mask": tf.TensorSpec([None, None, None], tf.uint8),
            "file_name": tf.TensorSpec([None], tf.string),
        },
    )


def run(model, data, **options):
    found = TASK.evaluate(model, data, verbose=0, **options)
    return found.result, found.worst


TWO_SIZES = [
    # Truth 0 0 1 . and prediction 0 1 1 0; truth 2 . and prediction 2 2 below one another.
    (picture_of([[0, 1, 1, 0]]), np.array([[0, 0, 1, IGNORE]], np.uint8)),
    (picture_of([[2], [2]]), np.array([[2], [IGNORE]], np.uint8)),
]


@pytest.mark.parametrize("auxiliary", [False, True])
def test_counted_by_hand(auxiliary):
    result, worst = run(channel_model(auxiliary=auxiliary), batches(*TWO_SIZES))
    assert result["confusion_matrix"] == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert result["per_class_iou"] == {"red": 1 / 2, "green": 1 / 2, "blue": 1}
    assert result["mean_iou"] == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)
    assert result["pixel_accuracy"] == 3 / 4
    assert result["images"] == 2 and result["pixels"] == 4 and result["absent_classes"] == 0
    assert [image["file_name"] for image in worst] == ["0.png", "1.png"]
    assert worst[0]["pixel_accuracy"] == pytest.approx(2 / 3)
    np.testing.assert_array_equal(worst[0]["prediction"], [[0, 1, 1, 0]])
    np.testing.assert_array_equal(worst[0]["image"], TWO_SIZES[0][0])
    json.dumps(result, allow_nan=False)


def test_absent_class_is_none_and_left_out():
    result, _ = run(channel_model(), batches((picture_of([[0]]), np.array([[0]], np.uint8))))
    assert result["per_class_iou"] == {"red": 1, "green": None, "blue": None}
    assert result["mean_iou"] == 1 and result["absent_classes"] == 2
    assert "2 of 3 classes are absent" in TASK.table(result)


def test_one_program_for_all_sizes():
    traced = []

    class Counting(keras.Model):
        def call(self, inputs, training=False):
            traced.append(inputs.shape)
            return super().call(inputs, training=training)

    model = channel_model()
    model = Counting(model.input, model.output)
    before = len(traced)
    samples = [
        (picture_of(np.zeros(size, int)), np.zeros(size, np.uint8))
        for size in [(2, 3), (4, 5), (7, 1)]
    ]
    run(model, batches(*samples))
    assert len(traced) - before == 1


def test_worst_images_are_the_worst_and_few():
    mask = np.zeros((1, 10), np.uint8)
    samples = []
    for wrong in (3, 9, 0, 5, 7):
        labels = np.zeros((1, 10), int)
        labels[0, :wrong] = 1
        samples.append((picture_of(labels), mask))
    _, worst = run(channel_model(), batches(*samples), worst=3)
    assert [image["file_name"] for image in worst] == ["1.png", "4.png", "3.png"]
    assert run(channel_model(), batches(*samples), worst=0)[1] == []


def test_an_ignored_image_is_counted_but_not_judged():
    ignored = (picture_of([[0]]), np.array([[IGNORE]], np.uint8))
    result, worst = run(channel_model(), batches(*TWO_SIZES, ignored))
    assert result["images"] == 3 and result["pixels"] == 4 and len(worst) == 2


def test_padding_is_no_part_of_the_worst_pictures():
    def padded(values, fill):
        return np.pad(values, [(0, 3), (0, 2), (0, 0)][: values.ndim], constant_values=fill)

    image, mask = TWO_SIZES[0]
    sample = {
        "image": padded(image, 127)[None],
        "mask": padded(mask, IGNORE)[None],
        "file_name": ["small.png"],
        "size": np.array([mask.shape], np.int32),
    }
    model = channel_model()
    _, (worst,) = run(model, tf.data.Dataset.from_tensors(sample))
    assert worst["pixel_accuracy"] == pytest.approx(2 / 3)
    np.testing.assert_array_equal(worst["image"], image)
    np.testing.assert_array_equal(worst["mask"], mask)
    np.testing.assert_array_equal(worst["prediction"], [[0, 1, 1, 0]])
    plain = {"image": image, "mask": mask}
    without_b = {key: np.asarray(value)[0] for key, value in sample.items()}
    np.testing.assert_array_equal(
        TASK.validation_picture(model, [without_b]), TASK.validation_picture(model, [plain])
    )


def prepared(pixels, own=True):
    """A builder of a prepared dataset with these pixels of red, green, blue and ignored."""
    source = files.Source(Path("mine"), {}, class_names=tuple(NAMES) if own else ())
    stored = {split: np.flatnonzero(counts).tolist() for split, counts in pixels.items()}
    metadata = {"class_names": NAMES, "palette": PALETTE, "pixels": pixels, "stored_values": stored}
    info = types.SimpleNamespace(metadata=metadata, splits=dict.fromkeys(pixels))
    config = types.SimpleNamespace(source=source)
    return types.SimpleNamespace(name="mine", info=info, builder_config=config)


def test_a_class_that_own_masks_never_show_cannot_be_trained_on(capsys):
    builder = prepared({"train": [5, 0, 3, 9], "val": [5, 0, 0, 9]})
    words = "split 'train' of mine is of the class green, .*--mask-values V0,V1,.*they hold 0, 2, 3"
    with pytest.raises(ValueError, match=words):
        TASK.check_data(builder, "train", is_training=True)
    # where another split shows it, the lists are what is to be changed
    elsewhere = prepared({"train": [5, 0, 3, 9], "val": [5, 1, 0, 9]})
    with pytest.raises(ValueError, match="The split 'val' shows .*splits/train.txt"):
        TASK.check_data(elsewhere, "train", is_training=True)
    assert capsys.readouterr().out == ""
    # measured, or with classes that are not the user's to choose, it is said
    TASK.check_data(builder, "train")
    TASK.check_data(prepared({"train": [5, 0, 0, 9]}, own=False), "train", is_training=True)
    assert capsys.readouterr().out.splitlines() == [
        "mine: no pixel of the masks of the split 'train' is of green",
        "mine: no pixel of the masks of the split 'train' is of green, blue",
    ]
    TASK.check_data(prepared({"train": [5, 1, 1, 0]}), "train", is_training=True)
    assert capsys.readouterr().out == ""


def test_a_split_of_ignored_pixels_teaches_and_measures_nothing():
    builder = prepared({"train": [5, 1, 1, 9], "test": [0, 0, 0, 9]}, own=False)
    for is_training in (True, False):
        with pytest.raises(ValueError, match="split 'test' of mine are 255.*another split"):
            TASK.check_data(builder, "test", is_training=is_training)


@pytest.mark.parametrize("sizes, multiple", [({"val": 1}, 1), ({"val": 2}, 128), ({}, 128)])
def test_images_of_one_size_are_not_padded_to_have_few(monkeypatch, sizes, multiple):
    from kerasdense.data import pipeline

    monkeypatch.setattr(pipeline, "Split", lambda builder, split, features: split)
    monkeypatch.setattr(pipeline, "full_size_batches", lambda split, *numbers: numbers)
    builder = prepared({"val": [1, 1, 1, 0]})
    builder.info.metadata["sizes"] = sizes
    found = TASK.eval_batches(builder, "val", batch_size=4, few_sizes=True)
    assert found == (4, multiple, TASK.minimum_side)


def test_a_dataset_that_does_not_tell_what_its_masks_show(capsys):
    builder = prepared({})
    TASK.check_data(builder, "train", is_training=True)
    del builder.info.metadata["pixels"]
    TASK.check_data(builder, "train", is_training=True)
    assert capsys.readouterr().out == ""


def test_logits_are_resized_to_the_labels_before_the_argmax():
    # Stride 2 leaves two columns, red a and green b; bilinear to four columns with half-pixel
    # centers gives a, 3/4 a + 1/4 b, 1/4 a + 3/4 b, b: the border stays in the middle.
    labels = np.array([[0, 0, 1, 1]] * 4)
    mask = labels.astype(np.uint8)
    result, _ = run(channel_model(strides=2), batches((picture_of(labels), mask)))
    assert result["confusion_matrix"] == [[8, 0, 0], [0, 8, 0], [0, 0, 0]]
    # Labels of twice the image's size: the same border, four times the pixels.
    large = np.kron(mask, np.ones((2, 2), np.uint8))
    result, worst = run(channel_model(), batches((picture_of(labels), large)))
    assert result["confusion_matrix"] == [[32, 0, 0], [0, 32, 0], [0, 0, 0]]
    data = batches((picture_of(labels), large))
    result, _ = run(channel_model(), data, scales=(0.5, 1), flip=True)
    assert result["confusion_matrix"] == [[32, 0, 0], [0, 32, 0], [0, 0, 0]]


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def test_flip_averages_probabilities():
    # The kernel looks one pixel to the left, so the mirrored pass looks one to the right.
    kernel = np.zeros((1, 3, 3, 3))
    kernel[0, 0] = np.eye(3)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (5, 30, 3), np.uint8)
    padded = np.pad(image / 64, [(0, 0), (1, 1), (0, 0)])
    expected = (softmax(padded[:, :-2]) + softmax(padded[:, 2:])).argmax(axis=-1)
    assert (expected != softmax(padded[:, :-2]).argmax(axis=-1)).any()
    _, worst = run(channel_model(kernel), batches((image, np.zeros((5, 30), np.uint8))), flip=True)
    np.testing.assert_array_equal(worst[0]["prediction"], expected)


def test_scales_average_probabilities_at_label_resolution():
    rng = np.random.default_rng(1)
    image = keras.ops.image.resize(rng.integers(0, 256, (16, 24, 3)).astype("float32"), (32, 48))
    image = np.rint(keras.ops.convert_to_numpy(image)).astype(np.uint8)
    model = channel_model(rng.normal(size=(3, 3, 3, 3)))
    summed = 0
    for size in [(16, 24), (32, 48), (64, 96)]:
        scaled = keras.ops.image.resize(image.astype("float32"), size, antialias=size[0] < 32)
        logits = model(np.rint(keras.ops.convert_to_numpy(scaled))[None].astype(np.uint8))
        summed += keras.ops.image.resize(softmax(keras.ops.convert_to_numpy(logits)), (32, 48))
    expected = keras.ops.convert_to_numpy(keras.ops.argmax(summed, axis=-1))[0]
    data = batches((image, np.zeros((32, 48), np.uint8)))
    _, worst = run(model, data, scales=(0.5, 1, 2))
    assert (worst[0]["prediction"] == expected).mean() > 0.995  # ties may fall either way
    _, single = run(model, data)
    assert (single[0]["prediction"] != expected).mean() > 0.01


@pytest.mark.parametrize(
    "samples, words",
    [
        ([], "no images"),
        ([(picture_of([[0]]), np.array([[IGNORE]], np.uint8))], "all pixels of the 1 masks"),
        ([(picture_of([[0]]), np.array([[3]], np.uint8))], "0.png holds class 3.*0-2"),
    ],
)
def test_nothing_to_measure(samples, words):
    with pytest.raises(ValueError, match=words):
        run(channel_model(), batches(*samples))


def test_non_finite_logits_are_no_result():
    model = channel_model(np.full((1, 1, 3, 3), np.nan))
    with pytest.raises(ValueError, match="not finite for 0.png, 4x1 pixels"):
        run(model, batches(*TWO_SIZES))


def test_mistaken_arguments():
    with pytest.raises(ValueError, match="3 classes, the dataset 2: red, green"):
        Segmentation(NAMES[:2], PALETTE[:2]).evaluate(channel_model(), batches(*TWO_SIZES))
    for scales in ((), (0.0,), (-1.0,), (float("nan"),), (float("inf"),)):
        with pytest.raises(ValueError, match="Scales"):
            run(channel_model(), batches(*TWO_SIZES), scales=scales)


# --- measured by the answers of an export --------------------------------------------------------


def brightest(images):
    """What an export of `channel_model` answers."""
    labels = images.argmax(axis=-1).astype(np.uint8)
    return {"labels": labels, "confidence": np.full(labels.shape, 0.5, np.float32)}


def test_answers_are_counted_as_a_model_s_are():
    found = TASK.measure(brightest, batches(*TWO_SIZES), verbose=0)
    assert found.result["confusion_matrix"] == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    result, worst = run(channel_model(), batches(*TWO_SIZES))
    assert found.result == result
    for ours, theirs in zip(found.worst, worst, strict=True):
        assert ours.keys() == theirs.keys() and ours["file_name"] == theirs["file_name"]
        np.testing.assert_array_equal(ours["prediction"], theirs["prediction"])


@pytest.mark.parametrize(
    "mask, matrix",
    [
        # Nearest of 2 columns, half-pixel centers: of 4 at 0.25, 0.75 | 1.25, 1.75; of 3 at 1/3 |
        # 1, 5/3.
        ([[0, 0, 1, 1]], [[2, 0, 0], [0, 2, 0], [0, 0, 0]]),
        ([[0, 0, 1]], [[1, 1, 0], [0, 1, 0], [0, 0, 0]]),
        ([[0, IGNORE], [2, 1]], [[1, 0, 0], [0, 1, 0], [1, 0, 0]]),
    ],
)
def test_answers_are_resized_to_the_labels_by_nearest_neighbor(mask, matrix):
    data = batches((picture_of([[0, 1]]), np.array(mask, np.uint8)))
    assert TASK.measure(brightest, data, verbose=0).result["confusion_matrix"] == matrix


def test_an_export_is_given_pictures_without_the_padding_of_their_batch():
    given = []

    def predict(images):
        given.append(images)
        return brightest(images)

    # Two pictures, 1x4 and 2x1, in a batch that is padded to 5x6.
    image, mask = np.full((2, 5, 6, 3), 127, np.uint8), np.full((2, 5, 6), IGNORE, np.uint8)
    for i, (picture, labels) in enumerate(TWO_SIZES):
        image[i, : labels.shape[0], : labels.shape[1]] = picture
        mask[i, : labels.shape[0], : labels.shape[1]] = labels
    size = np.array([[1, 4], [2, 1]], np.int32)
    sample = {"image": image, "mask": mask, "size": size, "file_name": ["0.png", "1.png"]}
    data = tf.data.Dataset.from_tensors(sample)
    found = TASK.measure(predict, data, verbose=0)
    assert found.result == run(channel_model(), data)[0]
    assert [images.shape for images in given] == [(2, 2, 4, 3)]  # what both need
    np.testing.assert_array_equal(given[0][0, :1], TWO_SIZES[0][0])
    assert [each["prediction"].shape for each in found.worst] == [(1, 4), (2, 1)]


@pytest.mark.parametrize(
    "answer, words",
    [
        ({"labels": np.full((1, 1, 4), 3, np.uint8)}, "labels go from 3 to 3, but there are 3"),
        ({"labels": np.zeros((1, 4, 1), np.uint8)}, "labels of both models must have one shape"),
        ({"confidence": np.full((1, 1, 4), np.nan)}, "confidences are not finite for 0.png"),
    ],
)
def test_answers_that_cannot_be(answer, words):
    with pytest.raises(ValueError, match=words):
        TASK.measure(lambda images: brightest(images) | answer, batches(TWO_SIZES[0]), verbose=0)


def test_a_picture_that_an_export_does_not_take_is_named():
    def refuse(images):
        raise ValueError("too wide")

    with pytest.raises(ValueError, match="^0.png: too wide$"):
        TASK.measure(refuse, batches(*TWO_SIZES), verbose=0)
    with pytest.raises(ValueError, match="holds no images"):
        TASK.measure(refuse, batches(), verbose=0)


# --- figures of an export beside its model -------------------------------------------------------

# A picture of 1x2x2 pixels and three classes; labels 0, 1, 2, 0.
PROBABILITIES = np.array(
    [[[[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]], [[0.3, 0.1, 0.6], [0.45, 0.4, 0.15]]]], np.float32
)


def segmented(labels=(0, 1, 2, 0), confidence=(0.7, 0.8, 0.6, 0.45)):
    return {
        "labels": np.array(labels, np.uint8).reshape(1, 2, 2),
        "confidence": np.array(confidence, np.float32).reshape(1, 2, 2),
    }


def differences(outputs):
    return TASK.differences(outputs, {"probabilities": PROBABILITIES})


def test_equal_labels():
    assert differences(segmented()) == {"other_labels": 0, "margin": 0, "confidence": 0}


def test_one_wrong_pixel_of_four():
    # The last pixel is given class 1, to which the reference gives 0.4 instead of 0.45.
    found = differences(segmented(labels=(0, 1, 2, 1)))
    assert found["other_labels"] == 1 / 4 and found["confidence"] == 0
    assert found["margin"] == pytest.approx(0.45 - 0.4, abs=1e-6)
    # Two wrong pixels: the larger lead counts, 0.7 - 0.1.
    found = differences(segmented(labels=(2, 1, 2, 1)))
    assert found["other_labels"] == 2 / 4
    assert found["margin"] == pytest.approx(0.7 - 0.1, abs=1e-6)


def test_a_label_without_a_class_has_no_probability():
    found = differences(segmented(labels=(0, 1, 255, 0)))
    assert found["other_labels"] == 1 / 4 and found["margin"] == pytest.approx(0.6)


def test_confidence_differs_most_where_it_is_too_low_or_too_high():
    for value, difference in ((0.5, 0.2), (1.0, 0.3)):
        found = differences(segmented(confidence=(value, 0.8, 0.6, 0.45)))
        assert found == {
            "other_labels": 0,
            "margin": 0,
            "confidence": pytest.approx(difference, abs=1e-6),
        }


def test_outputs_that_are_no_numbers_or_of_another_shape():
    for value in (np.nan, np.inf):
        found = differences(segmented(confidence=(0.7, 0.8, value, 0.45)))
        assert parity.exceeded(TASK, found, "float16")
    for precision in ("float32", "float16"):
        assert not parity.exceeded(TASK, differences(segmented()), precision)
    reference = {"probabilities": PROBABILITIES[:, :, :1]}
    with pytest.raises(ValueError, match="labels.*expected \\[1, 2, 1\\], received \\[1, 2, 2\\]"):
        TASK.differences(segmented(), reference)
    with pytest.raises(ValueError, match="confidence"):
        differences(segmented() | {"confidence": np.zeros((1, 2))})


# --- results and pictures ------------------------------------------------------------------------

ROAD = ["road", "car"]
PICTURE = np.full((20, 40, 3), 128, np.uint8)
LABELS = np.random.default_rng(0).integers(0, 3, (30, 40))
SAMPLE = picture_of(LABELS), LABELS.astype(np.uint8)


def test_label_maps(tmp_path):
    written = Segmentation(ROAD, PALETTE[:2]).writer(tmp_path)
    labels = np.zeros((20, 40), np.uint8)
    labels[:5] = 1  # a quarter
    image = Found(Path("in", "a.jpg"), "a")
    line = written.add(image, PICTURE, {"labels": labels})
    assert line == "a.png: road 75 %, car 25 %"
    assert written.add(image, PICTURE, {"labels": labels})[:8] == "a_2.png:"
    below = Found(Path("in", "sub", "a.jpg"), "sub/a")
    assert written.add(below, PICTURE, {"labels": labels})[:10] == "sub/a.png:"
    written.finish([])
    names = {"legend.png", "a.png", "a_overlay.png", "a_2.png", "a_2_overlay.png", "sub"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert {path.name for path in (tmp_path / "sub").iterdir()} == {"a.png", "a_overlay.png"}
    with Image.open(tmp_path / "a.png") as file:
        np.testing.assert_array_equal(np.asarray(file), labels)
    # The overlay is the picture's own pixels, and below them a legend.
    with Image.open(tmp_path / "a_overlay.png") as file:
        overlay = np.asarray(file)
    assert overlay.shape[0] > 20 and overlay.shape[1] >= 40
    np.testing.assert_array_equal(overlay[:20, :40], pictures.overlay(PICTURE, labels, PALETTE[:2]))


def test_label_maps_of_another_size_or_class_are_refused(tmp_path):
    written = Segmentation(ROAD, PALETTE[:2]).writer(tmp_path)
    for labels in (np.zeros((20, 39), np.uint8), np.full((20, 40), 2, np.uint8)):
        with pytest.raises(ValueError):
            written.add(Found(tmp_path / "a.jpg", "a"), PICTURE, {"labels": labels})
    assert [path.name for path in tmp_path.iterdir()] == ["legend.png"]


def test_label_maps_for_the_server_of_cityscapes(tmp_path):
    from kerasdense.data import cityscapes_frames as frames

    _, names, palette = zip(*frames.CLASSES)
    # Of the classes in another order: bicycle (label id 33) is the first one.
    task = Segmentation(names[::-1], palette[::-1])
    protocol = frames.Protocol(rows=(0, 512), size=(10, 20))  # the upper half
    written = task.cityscapes_writer(tmp_path, protocol)
    image = Found(Path("in", "ulm_000000_000019_leftImg8bit.png"), "ulm/a")
    labels = np.zeros((10, 20), np.uint8)
    labels[:, 15:] = 18  # a quarter is road, label id 7
    line = written.add(image, PICTURE, {"labels": labels})
    assert line == "ulm/a.png: bicycle 75 %, road 25 % (label ids resized from 40x20)"
    for wrong in (np.zeros((20, 40), np.uint8), np.full((10, 20), 19, np.uint8)):
        with pytest.raises(ValueError):
            written.add(image._replace(name="b"), PICTURE, {"labels": wrong})
    with pytest.raises(ValueError, match="no name that the Cityscapes server knows"):
        written.add(Found(Path("a.png"), "a"), PICTURE, {"labels": labels})
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")} == {
        "legend.png", "ulm/a.png", "ulm/a_overlay.png", "cityscapes_ids/ulm_000000_000019_pred.png",
    }  # fmt: skip
    with Image.open(tmp_path / "cityscapes_ids/ulm_000000_000019_pred.png") as file:
        assert file.mode == "L"
        ids = np.asarray(file)
    expected = np.repeat([33, 33, 33, 7], 512)
    np.testing.assert_array_equal(ids[:512], np.broadcast_to(expected, (512, 2048)))
    assert ids.shape == (1024, 2048) and (ids[512:] == 0).all()
    with Image.open(tmp_path / "ulm" / "a.png") as file:
        small = np.asarray(file)
    assert small.shape == (20, 40) and (small[10:] == IGNORE).all()
    assert (small[:10, :30] == 0).all() and (small[:10, 30:] == 18).all()


def test_other_classes_have_no_label_ids(tmp_path):
    with pytest.raises(ValueError, match="missing: sidewalk, building.*unknown: none"):
        Segmentation(ROAD, PALETTE[:2]).cityscapes_writer(tmp_path / "out", None)
    assert not (tmp_path / "out").exists()


def test_pictures_of_training_show_truth_and_prediction_side_by_side():
    image, mask = (np.concatenate([values] * 3, axis=1) for values in SAMPLE)
    samples = [{"image": image, "mask": mask}] * 2
    picture = TASK.validation_picture(channel_model(auxiliary=True), samples)
    # Two rows of three columns, 30 x 120 each, with a margin around and captions above.
    assert picture.dtype == np.uint8 and 60 < picture.shape[0] < 160
    assert picture.shape[1] == 3 * 120 + 4 * pictures.MARGIN


def test_evidence_stands_beside_the_prediction():
    image, _ = SAMPLE
    output = channel_model().predict_on_batch(image[None])[0]
    picture = TASK.evidence_picture("a.png", image, output, np.zeros((30, 40), np.float32), 1)
    assert picture.dtype == np.uint8 and picture.shape[1] >= 3 * 40 + 4 * pictures.MARGIN


def test_pictures_and_charts_of_an_evaluation():
    image, mask = SAMPLE
    wrong = np.where(mask == 2, 1, mask).astype(np.uint8)
    found = TASK.evaluate(channel_model(), batches((image, wrong)), verbose=0)
    picture = TASK.worst_picture(found.worst[0])
    # Image, truth, prediction and errors, or as wide as the legend.
    assert picture.dtype == np.uint8 and picture.shape[1] >= 4 * 40
    assert list(TASK.charts(found)) == ["confusion_matrix"]
    # Truth of twice the size: the image is enlarged for it.
    large = found.worst[0] | {
        key: np.kron(found.worst[0][key], np.ones((2, 2), np.uint8))
        for key in ("mask", "prediction")
    }
    assert TASK.worst_picture(large).shape[0] > picture.shape[0]


def test_what_training_compares_with():
    mask = np.array([[[0], [255]]], np.uint8)  # [1, 2, 1]
    np.testing.assert_array_equal(TASK.targets(None)({"mask": mask}), [[0, 255]])
    arguments = TASK.compile_arguments(channel_model())
    # Three pixels of one image: of class 0 with logits 2, 0, 0 and 0, 0, 0, and one ignored.
    logits = np.float32([[[[2, 0, 0], [0, 0, 0], [0, 9, 0]]]])
    loss = arguments["loss"](np.array([[[0, 0, 255]]]), logits)
    mean = (np.log(1 + 2 * np.exp(-2)) + np.log(3)) / 2
    np.testing.assert_allclose(np.sum(loss), mean, rtol=1e-5)
    assert float(arguments["loss"](np.full((1, 1, 3), 255), logits)) == 0
