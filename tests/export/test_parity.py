"""The reference beside a Keras model called by hand, and which figures count as rounding."""

import itertools

import numpy as np
import pytest
from small_models import logits_of, small_detector, small_model, small_task, smooth_pictures

from kerasdense import tasks
from kerasdense.boxes.suppression import decode_detections
from kerasdense.export import parity
from kerasdense.models.ssd import anchors_of

PRECISIONS = ("float32", "float16", "bfloat16")


def test_the_reference_is_the_keras_model_in_float32():
    model = small_model("mixed_bfloat16", auxiliary=True)
    exact = small_model()  # the same weights
    reference = parity.Reference(model, small_task("segmentation"))
    images = smooth_pictures(2, 70, 90)
    logits = logits_of(exact, images)
    np.testing.assert_allclose(reference.raw(images), logits, atol=1e-4)
    assert np.abs(logits_of(model, images) - logits).max() > 1e-3  # bfloat16 is far off
    outputs = reference.predict(images)
    np.testing.assert_array_equal(outputs["labels"], logits.argmax(axis=-1))
    assert outputs["labels"].dtype == np.uint8 and outputs["confidence"].dtype == np.float32


def test_the_boxes_of_the_reference_are_in_pixels(exported_reference):
    model, reference = small_detector(), exported_reference("detection")
    images = smooth_pictures(2, 300, 300)  # the model's own size: nothing is resized
    expected = decode_detections(logits_of(model, images), anchors_of(model))
    outputs = reference.predict(images)
    assert outputs["num_detections"].min() > 0
    np.testing.assert_allclose(outputs["boxes"], 300 * expected["boxes"].numpy(), atol=0.01)
    # A stretched picture has the same boxes, stretched: height, not width.
    stretched = reference.predict(np.repeat(images, 2, axis=1))
    height, width = (outputs["boxes"][0, 0][side::2] for side in (1, 0))
    np.testing.assert_allclose(stretched["boxes"][0, 0][1::2], 2 * height, atol=10)
    np.testing.assert_allclose(stretched["boxes"][0, 0][::2], width, atol=5)


def test_several_batches_are_compared_as_one(exported_reference):
    task, reference = small_task("segmentation"), exported_reference("segmentation")
    batches = [smooth_pictures(1, 64, 64, seed) for seed in range(4)]
    right = parity.compare(reference.predict, reference, task, batches)
    assert right["other_labels"] == right["margin"] == 0

    def wrong_in_one(images):
        outputs = reference.predict(images)
        if images is batches[2]:
            outputs["labels"] = (outputs["labels"] + 1) % 4
        return outputs

    assert parity.compare(wrong_in_one, reference, task, batches)["other_labels"] == 1 / 4


RAW = np.array([[1.0, -4.0], [2.0, 0.0]], np.float32)


def test_raw_output():
    found = parity.compare_raw(RAW + np.array([[0, 0], [0.5, -1]], np.float32), RAW)
    assert found == {"absolute": 1, "relative": 1 / 4}  # the largest value is -4
    zeros = np.zeros((2, 2), np.float32)
    assert parity.compare_raw(zeros, zeros) == {"absolute": 0, "relative": 0}
    assert parity.compare_raw(zeros + 0.1, zeros)["relative"] > 1
    with pytest.raises(ValueError, match="raw output"):
        parity.compare_raw(RAW, RAW[0])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_raw_outputs_that_are_no_numbers_never_agree(value):
    raw = RAW.copy()
    raw[0, 0] = value
    for name in tasks.names():
        task = small_task(name)
        assert parity.exceeded(task, parity.compare_raw(raw, RAW), "float16")
        assert not parity.exceeded(task, parity.compare_raw(RAW, RAW), "float32")


@pytest.mark.parametrize("name", tasks.names())
def test_each_figure_is_named_beyond_its_limit(name):
    task = small_task(name)
    known = task.figures | parity.RAW
    for precision in PRECISIONS:
        limits = parity.limits(task, precision)
        only_told = {"sought", "largest_box"} if name == "detection" else set()
        assert set(limits) == set(known) - only_told
        for figure, limit in limits.items():
            zeros = dict.fromkeys(known, 0.0)
            assert not parity.exceeded(task, zeros | {figure: limit}, precision)
            (phrase,) = parity.exceeded(task, zeros | {figure: 1.001 * limit}, precision)
            assert phrase.startswith(known[figure].meaning)
            assert f"{limit:g} in {precision}" in phrase
            (phrase,) = parity.exceeded(task, zeros | {figure: np.nan}, precision)
            assert "nan" in phrase
    for exact, coarser in itertools.pairwise(PRECISIONS):
        larger = parity.limits(task, coarser)
        assert all(larger[figure] > limit for figure, limit in parity.limits(task, exact).items())
