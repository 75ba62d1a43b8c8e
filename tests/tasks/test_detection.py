"""From raw output to average precision: a detector that knows the truth, and one that errs."""

import types

import numpy as np
import pytest
import tensorflow as tf

from kerasdense.tasks import evaluation
from kerasdense.boxes.anchors import encode_targets, ssd300_anchors
from kerasdense.models.layers import AnchorPredictions

NAMES = ["cat", "dog"]
PALETTE = [[200, 30, 30], [30, 30, 200]]
ANCHORS = ssd300_anchors()
# Two images: (boxes, labels, difficult), far enough apart that nothing is suppressed.
TRUTH = [
    ([[0.1, 0.1, 0.4, 0.3], [0.5, 0.6, 0.9, 0.9]], [0, 1], [False, False]),
    ([[0.2, 0.3, 0.7, 0.8], [0.75, 0.05, 0.95, 0.2]], [1, 0], [False, True]),
]
SIZES = [(120, 160), (90, 60)]


def samples(truth=TRUTH):
    """Batches of two as `pipeline.detection_eval_batches` pads them; an image tells its number."""

    def generate():
        for number, (boxes, labels, difficult) in enumerate(truth):
            yield {
                "image": np.full((300, 300, 3), number, np.uint8),
                "boxes": np.reshape(boxes, (-1, 4)).astype(np.float32),
                "labels": np.array(labels, np.int64),
                "difficult": np.array(difficult, bool),
                "size": np.array(SIZES[number % 2], np.int32),
                "file_name": f"{number}.jpg",
            }

    signature = {
        "image": tf.TensorSpec([300, 300, 3], tf.uint8),
        "boxes": tf.TensorSpec([None, 4], tf.float32),
        "labels": tf.TensorSpec([None], tf.int64),
        "difficult": tf.TensorSpec([None], tf.bool),
        "size": tf.TensorSpec([2], tf.int32),
        "file_name": tf.TensorSpec([], tf.string),
    }
    padding = {"image": tf.constant(0, tf.uint8), "boxes": 0.0,
               "labels": tf.constant(-1, tf.int64), "difficult": False, "size": 0,
               "file_name": ""}  # fmt: skip
    return tf.data.Dataset.from_generator(generate, output_signature=signature).padded_batch(
        2, padding_values=padding
    )


def detector(seen, classes=2):
    """A stand-in for an SSD that answers image n with the boxes and labels `seen[n]`."""

    def raw(boxes, labels):
        targets = encode_targets(np.reshape(boxes, (-1, 4)).astype(np.float32), labels, ANCHORS)
        targets = targets.numpy()  # [A, 5]
        logits = 9.0 * np.eye(classes + 1)[targets[:, 0].astype(int)]
        return np.concatenate([logits, targets[:, 1:]], axis=1).astype(np.float32)

    return types.SimpleNamespace(
        layers=[AnchorPredictions(classes, "ssd300", "voc")],
        output=np.zeros((1, len(ANCHORS), classes + 5)),
        predict_on_batch=lambda images: np.stack(
            [raw(*seen[number]) for number in images[:, 0, 0, 0]]
        ),
    )


def measure(model, **options):
    return evaluation.evaluate_detections(model, samples(), NAMES, verbose=0, **options)


def test_encoding_decoding_and_matching_give_the_truth_back():
    result, curves, worst = measure(detector([truth[:2] for truth in TRUTH]))
    assert result["mean_ap_area"] == result["mean_ap_11point"] == 1
    assert result["ground_truth"] == {"cat": 1, "dog": 2}  # the difficult cat does not count
    assert result["true_positives"] == {"cat": 1, "dog": 2}
    assert result["coco"]["AP"] == pytest.approx(1) and result["images"] == 2
    assert worst == []
    recall, precision = curves["dog"]
    assert recall.max() == 1 and precision[:2].min() == 1


def test_errors_are_counted_and_the_worst_image_comes_first():
    # Image 0: the dog is missed. Image 1: a cat for the dog, a dog in the corner, both wrong, and
    # the dog missed: three errors; the difficult cat is missed for nothing.
    seen = [
        ([TRUTH[0][0][0]], [0]),
        ([TRUTH[1][0][0], [0.05, 0.05, 0.15, 0.15]], [0, 1]),
    ]
    result, _, worst = measure(detector(seen))
    assert result["true_positives"] == {"cat": 1, "dog": 0}
    assert result["ap_area"]["dog"] == 0
    assert [(each["file_name"], each["errors"]) for each in worst] == [("1.jpg", 3), ("0.jpg", 1)]
    np.testing.assert_allclose(worst[0]["boxes"], TRUTH[1][0], atol=1e-6)
    assert worst[0]["size"] == SIZES[1] and not worst[0]["detections"]["correct"].any()
    assert worst[1]["detections"]["correct"].all()
    assert "dog" in evaluation.detection_table(result)


def test_a_class_without_objects_is_absent():
    truth = [([[0.1, 0.1, 0.4, 0.3]], [0], [False])]
    result, *_ = evaluation.evaluate_detections(
        detector([truth[0][:2]]), samples(truth), NAMES, verbose=0
    )
    assert result["ap_area"] == {"cat": 1, "dog": None} and result["absent_classes"] == 1
    assert "absent" in evaluation.detection_table(result)


def test_mistakes_are_named():
    broken = detector([truth[:2] for truth in TRUTH])
    broken.predict_on_batch = lambda images: np.full((2, len(ANCHORS), 7), np.nan, np.float32)
    with pytest.raises(ValueError, match="not finite for 0.jpg, 1.jpg"):
        measure(broken)
    with pytest.raises(ValueError, match="3 classes, the dataset 2"):
        measure(detector([], classes=3))
    with pytest.raises(ValueError, match="holds no images"):
        evaluation.evaluate_detections(detector([]), samples([]), NAMES, verbose=0)
    nothing = [([], [], [])]
    with pytest.raises(ValueError, match="object"):
        evaluation.evaluate_detections(detector([([], [])]), samples(nothing), NAMES, verbose=0)


def test_pictures_of_training_show_truth_and_detections_side_by_side():
    draw = evaluation.detection_pictures(samples(), NAMES, PALETTE)
    picture = draw(detector([truth[:2] for truth in TRUTH]))
    assert picture.dtype == np.uint8 and picture.shape[1] > 3 * 300 and picture.shape[0] > 2 * 300
