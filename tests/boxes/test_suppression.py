"""Decoding and non-maximum suppression, against a loop that states the rule box by box."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from kerasdense.boxes import geometry
from kerasdense.boxes.suppression import (
    CANDIDATES,
    DETECTIONS,
    LEAST_SCORE,
    OVERLAP,
    decode_detections,
)

ANCHORS = np.array([[0.3, 0.3, 0.2, 0.2], [0.7, 0.7, 0.2, 0.4], [0.5, 0.5, 1.0, 1.0]], np.float32)


def raw_of(scores, anchors=ANCHORS):
    """Raw output [1, A, C + 5] with these class probabilities [A, C], on the anchors themselves."""
    scores = np.asarray(scores, np.float64)
    background = 1 - scores.sum(axis=1, keepdims=True)
    logits = np.log(np.maximum(np.concatenate([background, scores], axis=1), 1e-30))
    return np.concatenate([logits, np.zeros((len(scores), 4))], axis=1)[None].astype(np.float32)


def suppressed(raw, anchors):
    """The rule of Liu et al. 2016, sec. 2.4, in Python loops: [(score, class, box)]."""
    exponentials = np.exp(raw[:, :-4].astype(np.float64))
    scores = exponentials / exponentials.sum(axis=1, keepdims=True)
    found = np.clip(geometry.decode(raw[:, -4:], anchors), 0, 1)
    overlaps = geometry.iou(found, found)  # [A, A]
    kept = []
    for label in range(scores.shape[1] - 1):
        of_class = scores[:, label + 1]
        mine = []
        for index in np.argsort(-of_class, kind="stable")[:CANDIDATES]:
            if of_class[index] <= LEAST_SCORE:
                break
            if all(overlaps[index, other] <= OVERLAP for other in mine):
                mine.append(index)
                kept.append((of_class[index], label, found[index]))
    return sorted(kept, key=lambda each: -each[0])[:DETECTIONS]


@pytest.fixture(params=[False, True], ids=["combined", "portable"])
def decode(request):
    return functools.partial(decode_detections, portable=request.param)


def test_boxes_are_decoded_ranked_and_padded(decode):
    result = decode(raw_of([[0.6, 0.1], [0.005, 0.9], [0.0, 0.004]]), ANCHORS)
    assert result["num_detections"].numpy() == [3]  # 0.005 and 0.004 score too little
    np.testing.assert_array_equal(result["classes"][0, :3], [1, 0, 1])
    np.testing.assert_allclose(result["scores"][0, :3], [0.9, 0.6, 0.1], rtol=1e-5)
    np.testing.assert_allclose(result["boxes"][0, 0], [0.6, 0.5, 0.8, 0.9], atol=1e-6)
    np.testing.assert_allclose(result["boxes"][0, 1], [0.2, 0.2, 0.4, 0.4], atol=1e-6)
    assert not result["boxes"][0, 3:].numpy().any() and not result["scores"][0, 3:].numpy().any()
    assert result["boxes"].shape == (1, DETECTIONS, 4) and result["boxes"].dtype == tf.float32
    assert result["classes"].dtype == result["num_detections"].dtype == tf.int32


def test_overlapping_boxes_of_one_class_are_suppressed_those_of_another_are_not(decode):
    # The second box is the first moved by a tenth of its width: IoU 0.9 / 1.1 = 0.82.
    anchors = np.array([[0.3, 0.3, 0.2, 0.2], [0.32, 0.3, 0.2, 0.2]], np.float32)
    same = decode(raw_of([[0.6, 0.0], [0.7, 0.0]]), anchors)
    other = decode(raw_of([[0.6, 0.0], [0.0, 0.7]]), anchors)
    assert same["num_detections"].numpy() == [1] and other["num_detections"].numpy() == [2]
    np.testing.assert_allclose(same["scores"][0, 0], 0.7, rtol=1e-5)


def test_boxes_end_at_the_border(decode):
    anchors = np.array([[0.0, 1.0, 0.5, 0.5]], np.float32)
    result = decode(raw_of([[0.9]]), anchors)
    np.testing.assert_allclose(result["boxes"][0, 0], [0.0, 0.75, 0.25, 1.0], atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_the_rule_in_python(decode, seed):
    rng = np.random.default_rng(seed)
    count, classes = 700, 3  # more anchors than candidates, more survivors than detections
    anchors = np.concatenate(
        [rng.uniform(0, 1, (count, 2)), rng.uniform(0.02, 0.3, (count, 2))], axis=1
    ).astype(np.float32)
    raw = rng.normal(0, 1, (2, count, classes + 5)).astype(np.float32)
    result = decode(raw, anchors)
    for image in range(2):
        expected = suppressed(raw[image], anchors)
        number = int(result["num_detections"][image])
        assert number == len(expected) == DETECTIONS
        scores, labels, found = (np.array(column) for column in zip(*expected))
        np.testing.assert_allclose(result["scores"][image, :number], scores, rtol=1e-5)
        np.testing.assert_array_equal(result["classes"][image, :number], labels)
        np.testing.assert_allclose(result["boxes"][image, :number], found, atol=1e-6)


def test_nothing_found_gives_zeros_and_batches_may_be_dynamic(decode):
    @tf.function(input_signature=[tf.TensorSpec([None, 3, 7], tf.float32)])
    def decode_batch(raw):
        return decode(raw, ANCHORS)

    result = decode_batch(np.repeat(raw_of([[0.001, 0.002]] * 3), 3, axis=0))
    np.testing.assert_array_equal(result["num_detections"], [0, 0, 0])
    assert result["boxes"].shape == (3, DETECTIONS, 4) and not result["boxes"].numpy().any()
    assert decode_batch(np.zeros((0, 3, 7), np.float32))["boxes"].shape == (0, DETECTIONS, 4)


def test_boxes_without_area_are_kept_and_suppress_nothing(decode):
    # The first two are the same line, the right border; the third covers half of the image.
    anchors = np.array([[1.5, 0.5, 0.2, 0.2], [1.5, 0.5, 0.2, 0.2], [1, 0.5, 1, 1]], np.float32)
    result = decode(raw_of([[0.9], [0.8], [0.7]]), anchors)
    assert result["num_detections"].numpy() == [3]
    np.testing.assert_allclose(result["scores"][0, :3], [0.9, 0.8, 0.7], rtol=1e-5)
    line = [1, 0.4, 1, 0.6]
    np.testing.assert_allclose(result["boxes"][0, :3], [line, line, [0.5, 0, 1, 1]], atol=1e-6)


def test_of_equal_scores_all_that_do_not_overlap_are_kept(decode):
    centers = np.stack(np.meshgrid(*2 * [(np.arange(12) + 0.5) / 12]), axis=-1).reshape(-1, 2)
    anchors = np.concatenate([centers, np.full((144, 2), 1 / 12)], axis=1).astype(np.float32)
    result = decode(raw_of([[0.5]] * 144, anchors), anchors)
    assert result["num_detections"].numpy() == [144]
    middles = (result["boxes"][0, :144, :2] + result["boxes"][0, :144, 2:]) / 2
    found = sorted(map(tuple, np.round(middles, 4)))
    np.testing.assert_allclose(found, sorted(map(tuple, np.round(centers, 4))), atol=1e-3)


@pytest.mark.parametrize("batch, count, classes", [(1, 60, 1), (3, 700, 2), (1, 500, 20)])
def test_portable_agrees_and_compiles_with_xla(batch, count, classes):
    rng = np.random.default_rng(0)
    anchors = np.concatenate(
        [rng.uniform(-0.2, 1.2, (count, 2)), rng.uniform(0.02, 0.4, (count, 2))], axis=1
    ).astype(np.float32)  # some lie outside the image, and their boxes have no area
    raw = rng.normal(0, 1, (batch, count, classes + 5)).astype(np.float32)
    expected = decode_detections(raw, anchors)
    portable = functools.partial(decode_detections, anchors=anchors, portable=True)
    for decode in (portable, tf.function(portable, jit_compile=True)):
        for name, values in decode(tf.constant(raw)).items():
            np.testing.assert_allclose(values, expected[name], rtol=1e-5, atol=1e-6)


def test_agrees_with_keras_cv():
    # Imported here: it takes seconds, and no other test needs it.
    keras_cv = pytest.importorskip("keras_cv")
    rng = np.random.default_rng(7)
    anchors = np.concatenate([rng.uniform(0.2, 0.8, (60, 2)), np.full((60, 2), 0.2)], axis=1)
    raw = rng.normal(0, 1, (2, 60, 3 + 5)).astype(np.float32)
    layer = keras_cv.layers.MultiClassNonMaxSuppression(
        "xyxy",
        from_logits=False,
        iou_threshold=OVERLAP,
        confidence_threshold=LEAST_SCORE,
        max_detections=DETECTIONS,
        max_detections_per_class=CANDIDATES,
    )
    anchors = anchors.astype(np.float32)
    found = np.clip(geometry.decode(raw[..., -4:], anchors), 0, 1)
    theirs = layer(tf.constant(found), tf.nn.softmax(raw[..., :-4])[..., 1:])
    ours = decode_detections(raw, anchors)
    np.testing.assert_array_equal(ours["num_detections"], theirs["num_detections"])
    for image, count in enumerate(ours["num_detections"].numpy()):
        np.testing.assert_allclose(
            ours["boxes"][image, :count], theirs["boxes"][image, :count], atol=1e-6
        )
