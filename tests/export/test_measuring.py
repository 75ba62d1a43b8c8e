"""Exports measured on data: as their models are, in every format; fixed batches and sizes."""

import copy
import types

import numpy as np
import pytest
from small_models import (
    LABELS_SIZE,
    pictures,
    small_classifier,
    small_detector,
    small_model,
    small_task,
)

from kerasdense import tasks
from kerasdense.data import datasets
from kerasdense.export import formats, measuring
from kerasdense.export.artefact import export
from kerasdense.export.predictor import Predictor
from kerasdense.export.signatures import Form

SIZE = (192, 256)  # of the drawn scenes


@pytest.fixture(scope="module")
def masks(toy_folder, prepared_dir):
    return datasets.load("folder", toy_folder, prepared_dir)


@pytest.fixture(scope="module")
def boxes(toy_folder, prepared_dir):
    return datasets.load("folder_detection", toy_folder, prepared_dir)


@pytest.fixture(scope="module")
def streets():
    """A segmentation model of the classes of the scenes, and its task."""
    names = [str(index) for index in range(8)]
    return small_model(classes=8), tasks.named("segmentation")(names, [[0, 0, 0]] * 8)


def evaluated(task, model, builder, batch_size=1):
    samples = task.eval_batches(builder, "train", task.image_size_of(model), batch_size)
    return task.evaluate(model, samples, verbose=0)


def agree(found, expected):
    """Whether two results have the same entries, and the same numbers up to rounding."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, dict):
            agree(found[name], value)
        elif isinstance(value, list):
            np.testing.assert_allclose(found[name], value, atol=20)  # pixels
        elif isinstance(value, int):
            assert abs(found[name] - value) <= max(1, value / 100)
        else:
            assert found[name] == (value if value is None else pytest.approx(value, abs=1e-3))


# --- the numbers of the model ---------------------------------------------------------------------


@pytest.mark.parametrize("format", formats.FORMATS)
def test_label_maps(streets, masks, format, tmp_path):
    model, task = streets
    try:
        version = export(model, task, tmp_path / "name", Form(format))
    except ImportError as error:
        pytest.skip(str(error))
    found = measuring.evaluate(Predictor(version), masks, "train", verbose=0)
    expected = evaluated(task, model, masks)
    agree(found.result, expected.result)
    assert expected.result["pixels"] == np.prod(SIZE) * expected.result["images"]
    assert found.worst[0]["file_name"] == expected.worst[0]["file_name"]


# The formats differ in what they compute, of which one task tells enough every day.
AFTER_ONNX = [
    "onnx",
    *(pytest.param(each, marks=pytest.mark.slow) for each in ("saved_model", "openvino", "litert")),
]


@pytest.mark.parametrize("format", AFTER_ONNX)
def test_boxes(exported_predictor, boxes, format):
    predictor = exported_predictor("detection", format)
    found = measuring.evaluate(predictor, boxes, "train", verbose=0)
    expected = evaluated(small_task("detection"), small_detector(), boxes)
    agree(found.result, expected.result)
    assert sum(expected.result["detections"].values()) > 100
    names = [[each["file_name"] for each in one.worst] for one in (found, expected)]
    assert names[0] == names[1]


@pytest.mark.parametrize("format", AFTER_ONNX)
def test_labels(boxes, format, tmp_path):
    model = small_classifier(classes=2)
    task = tasks.named("classification")(["a", "b"], [[0, 0, 0]] * 2, LABELS_SIZE)
    try:
        version = export(model, task, tmp_path / "name", Form(format))
    except ImportError as error:
        pytest.skip(str(error))
    found = measuring.evaluate(Predictor(version), boxes, "train", verbose=0)
    agree(found.result, evaluated(task, model, boxes).result)


# --- batches and sizes ----------------------------------------------------------------------------


def stand_in(kind, answer, image_size=None, batch_size=None, size=(None, None), classes=8):
    """What is asked of a Predictor; `given` keeps the pictures of each call."""
    given = []

    def predict(images):
        given.append(images)
        return answer(images)

    height, width = size
    return types.SimpleNamespace(
        task=kind,
        class_names=[str(index) for index in range(classes)],
        palette=[[0, 0, 0]] * classes,
        facts={"input": {"batch_size": batch_size, "height": height, "width": width}},
        image_size=image_size,
        directory="saved/1",
        format="onnx",
        predict=predict,
        given=given,
    )


def roads(images):
    shape = images.shape[:3]
    return {"labels": np.zeros(shape, np.uint8), "confidence": np.ones(shape, np.float32)}


def nothing(images):
    count = len(images)
    return {
        "boxes": np.zeros((count, 3, 4)),
        "scores": np.zeros((count, 3)),
        "classes": np.zeros((count, 3), int),
        "num_detections": np.zeros(count, int),
    }


def test_a_fixed_batch_is_filled_up_and_each_picture_counts_once(masks):
    count = masks.info.splits["train"].num_examples
    fixed = count - 1  # so that the last picture is alone
    one_by_one = stand_in("segmentation", roads)
    expected = measuring.evaluate(one_by_one, masks, "train", verbose=0).result
    assert [images.shape[0] for images in one_by_one.given] == [1] * count
    filled = stand_in("segmentation", roads, batch_size=fixed)
    assert measuring.evaluate(filled, masks, "train", verbose=0).result == expected
    assert expected["images"] == count
    assert [images.shape for images in filled.given] == [(fixed, *SIZE, 3)] * 2
    last = one_by_one.given[-1]
    np.testing.assert_array_equal(filled.given[-1], np.repeat(last, fixed, axis=0))
    # Fewer at once may be asked for, more not.
    filled = stand_in("segmentation", roads, batch_size=3)
    assert measuring.evaluate(filled, masks, "train", batch_size=1, verbose=0).result == expected
    assert [images.shape[0] for images in filled.given] == [3] * count
    with pytest.raises(ValueError, match="saved/1 was exported for batches of 3, received .* 4"):
        measuring.evaluate(filled, masks, "train", batch_size=4)


def test_pictures_of_several_sizes_are_not_padded_to_fill_a_batch(masks, monkeypatch):
    monkeypatch.setattr(datasets, "have_one_size", lambda builder, split: False)
    filled = stand_in("segmentation", roads, batch_size=2)
    measuring.evaluate(filled, masks, "train", verbose=0)
    for images in filled.given:
        np.testing.assert_array_equal(images[0], images[1])


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_the_first_pictures_of_a_split(masks, batch_size):
    model = stand_in("segmentation", roads)
    all_of_them = measuring.evaluate(model, masks, "train", verbose=0).result["images"]
    whole, model.given[:] = np.concatenate(model.given), []
    for limit, count in ((1, 1), (3, 3), (99, all_of_them)):
        found = measuring.evaluate(
            model, masks, "train", limit=limit, batch_size=batch_size, worst=0, verbose=0
        )
        assert found.result["images"] == count and not found.worst
        np.testing.assert_array_equal(np.concatenate(model.given), whole[:count])
        model.given.clear()
    with pytest.raises(ValueError, match="limit: expected at least 1 picture, received 0"):
        measuring.evaluate(model, masks, "train", limit=0)


def test_what_is_warped_has_the_size_that_the_model_or_its_export_takes(boxes):
    free = stand_in("detection", nothing, image_size=(30, 40), classes=2)
    fixed = stand_in("detection", nothing, image_size=(30, 40), size=(50, 60), classes=2)
    for model, size in ((free, (30, 40)), (fixed, (50, 60))):
        found = measuring.evaluate(model, boxes, "train", verbose=0).result
        assert {images.shape for images in model.given} == {(1, *size, 3)}
        assert found["images"] == len(model.given) and found["mean_ap_area"] == 0


def test_an_export_of_a_fixed_size(streets, masks, tmp_path):
    model, task = streets
    expected = evaluated(task, model, masks).result
    version = export(model, task, tmp_path / "as they are", Form(batch_size=2, size=SIZE))
    agree(measuring.evaluate(Predictor(version), masks, "train", verbose=0).result, expected)
    version = export(model, task, tmp_path / "others", Form(size=(96, 256)))
    words = r"\w+.*: .* for images of height 96, received 192. Resize them, or export without"
    with pytest.raises(ValueError, match=words):
        measuring.evaluate(Predictor(version), masks, "train", verbose=0)


def test_a_small_fixed_size_takes_pictures_without_padding(streets, masks):
    """Evaluation pads them to what the network takes, an export does so itself."""
    _, task = streets
    small = pictures(1, 20, 30)
    sample = {
        "image": np.pad(small, [(0, 0), (0, 44), (0, 34), (0, 0)]),
        "mask": np.pad(np.zeros((1, 20, 30), np.uint8), [(0, 0), (0, 44), (0, 34)],
                       constant_values=255),
        "size": np.array([[20, 30]], np.int32),
        "file_name": ["small.png"],
    }  # fmt: skip
    import tensorflow as tf

    model = stand_in("segmentation", roads)
    found = task.measure(model.predict, tf.data.Dataset.from_tensors(sample), verbose=0)
    np.testing.assert_array_equal(model.given[0], small)
    assert found.result["pixels"] == 600 and found.result["pixel_accuracy"] == 1


# --- errors, and exports of before ----------------------------------------------------------------


def test_a_runtime_that_fails(masks):
    def fail(images):
        raise RuntimeError("no memory left")

    words = "the onnx model fails on it: no memory left"
    with pytest.raises(ValueError, match=f"(?i).*: {words}"):
        measuring.evaluate(stand_in("segmentation", fail), masks, "train", verbose=0)


def test_a_split_that_there_is_not(masks):
    with pytest.raises(ValueError, match="no split 'dev'. It has: train, val"):
        measuring.evaluate(stand_in("segmentation", roads), masks, "dev")


@pytest.mark.parametrize(
    "kind, size", [("segmentation", None), ("detection", (300, 300)), ("classification", (72, 80))]
)
def test_the_size_that_pictures_are_warped_to(exported_predictor, kind, size):
    predictor = exported_predictor(kind)
    assert predictor.image_size == size
    assert predictor.facts["input"]["image_size"] == (size and list(size))
    # Exports of before do not tell.
    before = copy.copy(predictor)
    taken = {key: value for key, value in before.facts["input"].items() if key != "image_size"}
    before.facts = before.facts | {"input": taken}
    if size is None:  # what it pads it does not warp
        assert before.image_size is None
        return
    with pytest.raises(ValueError, match="export of an older kerasdense. Export the model again"):
        before.image_size  # noqa: B018
    taken |= {"height": 100, "width": 120}
    assert before.image_size == (100, 120)
