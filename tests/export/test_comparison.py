"""The reference beside a Keras model called by hand, and how its answers are joined and timed."""

import time

import numpy as np
from test_export import logits_of, small_detector, small_model, smooth_pictures

from kerasdense.export import comparison
from kerasdense.models.ssd import anchors_of
from kerasdense.boxes.suppression import decode_detections


def test_the_reference_is_the_keras_model_in_float32():
    model = small_model("mixed_bfloat16", auxiliary=True)
    exact = small_model()  # the same weights
    reference = comparison.Reference(model)
    images = smooth_pictures(2, 70, 90)
    logits = logits_of(exact, images)
    np.testing.assert_allclose(reference.raw(images), logits, atol=1e-4)
    assert np.abs(logits_of(model, images) - logits).max() > 1e-3  # bfloat16 is far off
    outputs = reference.predict(images)
    np.testing.assert_array_equal(outputs["labels"], logits.argmax(axis=-1))
    assert outputs["labels"].dtype == np.uint8 and outputs["confidence"].dtype == np.float32


def test_the_boxes_of_the_reference_are_in_pixels():
    model = small_detector()
    reference = comparison.Reference(model)
    assert reference.task == "detection"
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


def test_several_batches_are_compared_as_one():
    model = small_model()
    reference = comparison.Reference(model)
    batches = [smooth_pictures(1, 64, 64, seed) for seed in range(4)]
    right = comparison.compare(reference.predict, reference, batches)
    assert right["other_labels"] == right["margin"] == 0

    def wrong_in_one(images):
        outputs = reference.predict(images)
        if images is batches[2]:
            outputs["labels"] = (outputs["labels"] + 1) % 4
        return outputs

    assert comparison.compare(wrong_in_one, reference, batches)["other_labels"] == 1 / 4


def test_latencies_are_medians_without_the_first_call():
    # Seconds of the calls: the first, of 0.2, does not count; the median of the others is 0.02.
    naps = iter([0.2, 0.0, 0.02, 0.1])
    calls = []

    def sleeper():
        calls.append("sleeper")
        time.sleep(next(naps))

    slow, fast = comparison.latencies([sleeper, lambda: calls.append("other")], turns=3)
    assert calls == ["sleeper", "other"] * 4
    assert 0.02 <= slow < 0.09 and fast < 0.02
