"""Detection, from raw output to average precision: a detector that knows the truth, and one that
errs; figures of an export beside its model, by hand; and the files that predictions leave.
"""

import types

import numpy as np
import pytest
import tensorflow as tf

from kerasdense.boxes.anchors import encode_targets, ssd300_anchors
from kerasdense.boxes.suppression import DETECTIONS
from kerasdense.data.formats import read_mot
from kerasdense.data.images import Found
from kerasdense.export import parity
from kerasdense.models.layers import AnchorPredictions
from kerasdense.tasks.detection import CUT_MARGIN, LEAST_SCORE, Detection, mapped_raw

NAMES = ["cat", "dog"]
PALETTE = [[200, 30, 30], [30, 30, 200]]
TASK = Detection(NAMES, PALETTE)
ANCHORS = ssd300_anchors()
# Two images: (boxes, labels, difficult), far enough apart that nothing is suppressed.
TRUTH = [
    ([[0.1, 0.1, 0.4, 0.3], [0.5, 0.6, 0.9, 0.9]], [0, 1], [False, False]),
    ([[0.2, 0.3, 0.7, 0.8], [0.75, 0.05, 0.95, 0.2]], [1, 0], [False, True]),
]
SIZES = [(120, 160), (90, 60)]


def samples(truth=TRUTH):
    """Batches of two as `pipeline.warped_batches` pads them; an image tells its number."""

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
    found = TASK.evaluate(model, samples(), verbose=0, **options)
    return found.result, found.curves, found.worst


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
    assert "dog" in TASK.table(result)


def test_a_class_without_objects_is_absent():
    truth = [([[0.1, 0.1, 0.4, 0.3]], [0], [False])]
    result = TASK.evaluate(detector([truth[0][:2]]), samples(truth), verbose=0).result
    assert result["ap_area"] == {"cat": 1, "dog": None} and result["absent_classes"] == 1
    assert "absent" in TASK.table(result)


def test_mistakes_are_named():
    broken = detector([truth[:2] for truth in TRUTH])
    broken.predict_on_batch = lambda images: np.full((2, len(ANCHORS), 7), np.nan, np.float32)
    with pytest.raises(ValueError, match="not finite for 0.jpg, 1.jpg"):
        measure(broken)
    with pytest.raises(ValueError, match="3 classes, the dataset 2"):
        measure(detector([], classes=3))
    with pytest.raises(ValueError, match="holds no images"):
        TASK.evaluate(detector([]), samples([]), verbose=0)
    nothing = [([], [], [])]
    with pytest.raises(ValueError, match="object"):
        TASK.evaluate(detector([([], [])]), samples(nothing), verbose=0)


# --- measured by the answers of an export --------------------------------------------------------


def answering(seen, width=300, height=300):
    """A stand-in for an export that answers image n with the boxes and labels `seen[n]`.

    In pixels of pictures of this size; rows after the last detection hold what must not count.
    """

    def predict(images):
        assert images.shape[1:] == (height, width, 3)
        boxes = np.full((len(images), 5, 4), np.nan, np.float32)
        scores, classes = np.full((len(images), 5), 9.0), np.full((len(images), 5), 7)
        counts = np.zeros(len(images), np.int32)
        for i, number in enumerate(images[:, 0, 0, 0]):
            found, labels = seen[number]
            counts[i] = len(labels)
            boxes[i, : counts[i]] = np.reshape(found, (-1, 4)) * [width, height, width, height]
            scores[i, : counts[i]], classes[i, : counts[i]] = 0.99, labels
        return {"boxes": boxes, "scores": scores, "classes": classes, "num_detections": counts}

    return predict


SEEN = [
    ([TRUTH[0][0][0]], [0]),  # as above: four errors
    ([TRUTH[1][0][0], [0.05, 0.05, 0.15, 0.15]], [0, 1]),
]


@pytest.mark.parametrize("width, height", [(300, 300), (150, 40)])
def test_answers_are_counted_as_a_model_s_are(width, height):
    pictures = samples().map(lambda batch: batch | {"image": batch["image"][:, :height, :width]})
    truth = answering([truth[:2] for truth in TRUTH], width, height)
    result = TASK.measure(truth, pictures, verbose=0).result
    assert result["mean_ap_area"] == 1 and result["coco"]["AP"] == pytest.approx(1)
    found = TASK.measure(answering(SEEN, width, height), pictures, verbose=0)
    assert found.result["true_positives"] == {"cat": 1, "dog": 0}
    assert [(each["file_name"], each["errors"]) for each in found.worst] == [
        ("1.jpg", 3), ("0.jpg", 1),
    ]  # fmt: skip
    expected, _, worst = measure(detector(SEEN))
    assert found.result == expected
    np.testing.assert_allclose(
        found.worst[0]["detections"]["boxes"], worst[0]["detections"]["boxes"], atol=1e-5
    )


def test_nothing_detected_is_measured_too():
    result = TASK.measure(answering([([], [])] * 2), samples(), verbose=0).result
    assert result["mean_ap_area"] == 0 and result["detections"] == {"cat": 0, "dog": 0}
    with pytest.raises(ValueError, match="holds no images"):
        TASK.measure(answering([]), samples([]), verbose=0)


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("classes", 2, "0.jpg: the detections are of classes 2 to 2, but there are 2"),
        ("classes", -1, "0.jpg: the detections are of classes -1 to -1"),
        ("num_detections", 6, "0.jpg: num_detections is 6, but there are 5 boxes"),
        ("num_detections", -1, "0.jpg: num_detections is -1, but there are"),
        ("boxes", np.nan, "boxes are not finite for 0.jpg"),
        ("scores", np.inf, "scores are not finite for 0.jpg"),
    ],
)
def test_answers_that_cannot_be(name, value, words):
    def predict(images):
        outputs = answering(SEEN)(images)
        if name == "num_detections":
            outputs = {key: np.nan_to_num(values) for key, values in outputs.items()}
        return outputs | {name: np.full_like(outputs[name], value)}

    with pytest.raises(ValueError, match=words):
        TASK.measure(predict, samples(), verbose=0)


# --- pictures and validation ---------------------------------------------------------------------


def first_samples():
    """As validation has them: dicts without the batch."""
    (batch,) = samples().as_numpy_iterator()
    return [{key: value[i] for key, value in batch.items()} for i in range(2)]


def test_pictures_of_training_show_truth_and_detections_side_by_side():
    model = detector([truth[:2] for truth in TRUTH])
    picture = TASK.validation_picture(model, first_samples())
    assert picture.dtype == np.uint8 and picture.shape[1] > 3 * 300 and picture.shape[0] > 2 * 300


def test_validation_is_the_evaluation_by_voc_alone():
    logs = TASK.validate(detector([truth[:2] for truth in TRUTH]), samples())
    by_class = dict.fromkeys(TASK.class_names, 1)
    assert logs == {"val_mean_ap": 1, "val_mean_ap_11point": 1, "val_per_class_ap": by_class}


def test_pictures_and_charts_of_an_evaluation():
    seen = [([TRUTH[0][0][0]], [0]), ([TRUTH[1][0][0]], [0])]
    found = TASK.evaluate(detector(seen), samples(), verbose=0)
    picture = TASK.worst_picture(found.worst[0])
    # The image in its own size, 90 x 60, twice.
    assert picture.dtype == np.uint8 and picture.shape[0] > 90 and picture.shape[1] > 2 * 60
    assert list(TASK.charts(found)) == ["precision_recall"]


# --- a model of other classes ---------------------------------------------------------------------


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)


def test_mapped_probabilities_are_sums():
    # Background, cow, sheep, horse, bus; cow and horse are the second class of two.
    probabilities = np.array([[[0.1, 0.2, 0.3, 0.35, 0.05]]])
    raw = np.concatenate([np.log(probabilities) + 7, [[[1, 2, 3, 4]]]], axis=-1).astype(np.float32)
    mapped = mapped_raw(raw, {0: 1, 2: 1}, classes=2)
    assert mapped.dtype == np.float32 and mapped.shape == (1, 1, 2 + 1 + 4)
    # 0.1 + 0.3 + 0.05; nothing; 0.2 + 0.35
    np.testing.assert_allclose(softmax(mapped[0, 0, :3]), [0.45, 0, 0.55], rtol=1e-6)
    np.testing.assert_array_equal(mapped[..., 3:], raw[..., 5:])
    # Where all classes are mapped, each to its own, nothing is added up.
    np.testing.assert_array_equal(mapped_raw(raw, {i: i for i in range(4)}, classes=4), raw)
    swapped = mapped_raw(raw, {0: 1, 1: 0, 2: 2, 3: 3}, classes=4)
    np.testing.assert_array_equal(swapped, raw[..., [0, 2, 1, 3, 4, 5, 6, 7, 8]])


def test_a_model_of_other_classes_is_measured_through_a_map():
    # It knows bus 0, dog 1, bird 2, cat 3, sees what there is, and a bird in each image.
    bird = [0.1, 0.7, 0.2, 0.9]
    seen = [([*boxes, bird], [{0: 3, 1: 1}[n] for n in labels] + [2]) for boxes, labels, _ in TRUTH]
    model = detector(seen, classes=4)
    result, _, worst = measure(model, class_map={3: 0, 1: 1})
    assert result["mean_ap_area"] == 1 and result["ap_area"] == {"cat": 1, "dog": 1}
    assert result["false_positives"] == {"cat": 0, "dog": 0} and worst == []
    assert result["left_out"]["classes"] == 2 and result["unmapped_classes"] == []
    assert result["left_out"]["detections"] == 2
    assert "nothing: 2; of these 2 detections are left out" in TASK.table(result)


def test_a_class_that_nothing_maps_to_counts_as_not_found():
    model = detector([truth[:2] for truth in TRUTH])
    result, _, worst = measure(model, class_map={1: 1})
    assert result["ap_area"] == {"cat": 0, "dog": 1} and result["mean_ap_area"] == 1 / 2
    assert result["unmapped_classes"] == ["cat"] and result["coco"]["AP"] == pytest.approx(1 / 2)
    assert result["detections"] == {"cat": 0, "dog": 2}
    assert "Nothing maps to cat: not found, and in the means" in TASK.table(result)
    assert [(each["file_name"], each["errors"]) for each in worst] == [("0.jpg", 1)]


def test_a_map_of_each_class_to_itself_changes_no_figure():
    seen = [
        ([TRUTH[0][0][0]], [0]),
        ([TRUTH[1][0][0], [0.05, 0.05, 0.15, 0.15]], [0, 1]),
    ]
    plain, _, _ = measure(detector(seen))
    mapped, _, _ = measure(detector(seen), class_map={0: 0, 1: 1})
    assert mapped.pop("left_out") == {"classes": 0, "detections": 0}
    assert mapped.pop("unmapped_classes") == [] and mapped == plain


def raw_detector(probabilities):
    """A stand-in for an SSD that says of every image {anchor: probabilities of background and
    classes}, its boxes being the anchors; background elsewhere.
    """
    classes = len(next(iter(probabilities.values()))) - 1
    raw = np.zeros((len(ANCHORS), classes + 5), np.float32)
    raw[:, 0] = 20
    for anchor, values in probabilities.items():
        raw[anchor, : classes + 1] = np.log(np.maximum(values, 1e-9))
    return types.SimpleNamespace(
        layers=[AnchorPredictions(classes, "ssd300", "voc")],
        output=np.zeros((1, len(ANCHORS), classes + 5)),
        predict_on_batch=lambda images: np.stack([raw] * len(images)),
    )


def box_of(anchor):
    """The xyxy of an anchor, inside the image."""
    x, y, w, h = np.asarray(ANCHORS)[anchor]
    return np.clip([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 0, 1).tolist()


def test_boxes_of_classes_that_map_to_one_are_suppressed_together():
    # Two ratio-1 boxes of the same cell of the third map, of 111 and 134 pixels: IoU 0.68. The
    # model sees a car in the first and a truck in the second; and is unsure between both, with
    # 0.4 each, in a cell away from them. All are vehicles.
    first = 38 * 38 * 4 + 19 * 19 * 6 + 6 * (10 * 5 + 2)
    far = 38 * 38 * 4 + 19 * 19 * 6 + 6 * (10 * 5 + 7)
    model = raw_detector({first: [0.1, 0.9, 0], first + 1: [0.2, 0, 0.8], far: [0.2, 0.4, 0.4]})
    truth = [([box_of(first), box_of(far)], [0, 0], [False, False])]
    task = Detection(["vehicle"], PALETTE[:1])
    found = task.evaluate(model, samples(truth), verbose=0, class_map={0: 0, 1: 0})
    assert found.result["detections"] == {"vehicle": 2} and found.result["mean_ap_area"] == 1
    # The unsure one has 0.4 + 0.4, and so is among the sure ones: no object is missed.
    assert found.worst == []


def test_others_do_not_take_the_place_of_what_is_measured():
    # 30 x 30 boxes at every other cell of the first map, 16 pixels apart, overlap by 0.3 at most:
    # 19 x 19 trees, which alone would be the 200 detections of the image; and a less sure cat.
    trees = [4 * (38 * y + x) for y in range(0, 38, 2) for x in range(0, 38, 2)]
    cat = 38 * 38 * 4 + 19 * 19 * 6 + 6 * 55
    seen = {tree: [0.1, 0, 0.9] for tree in trees} | {cat: [0.4, 0.6, 0]}
    model, truth = raw_detector(seen), [([box_of(cat)], [0], [False])]
    one = Detection(["cat"], PALETTE[:1])
    with_trees = Detection(["cat", "tree"], PALETTE)
    both = with_trees.evaluate(model, samples(truth), verbose=0).result
    assert both["detections"] == {"cat": 0, "tree": DETECTIONS} and both["mean_ap_area"] == 0
    result = one.evaluate(model, samples(truth), verbose=0, class_map={0: 0}).result
    assert result["detections"] == {"cat": 1} and result["mean_ap_area"] == 1
    assert result["left_out"] == {"classes": 1, "detections": DETECTIONS}


@pytest.mark.parametrize("class_map", [{}, {2: 0}, {0: 2}, {-1: 0}])
def test_a_map_of_classes_that_there_are_not(class_map):
    with pytest.raises(ValueError, match="map from classes of the model, 0 to 1, to .* 0 to 1;"):
        measure(detector([truth[:2] for truth in TRUTH]), class_map=class_map)


# --- figures of an export beside its model -------------------------------------------------------

ROWS = 5
# (box, score, class) of two images: far apart, so that nobody is taken for somebody else.
FIRST = [((10, 20, 30, 60), 0.9, 1), ((50, 20, 70, 60), 0.8, 1), ((0, 0, 8, 8), 0.5, 0)]
SECOND = [((5, 5, 45, 25), 0.7, 2)]


def detections(*images):
    """Outputs of a detector whose images hold these (box, score, class), as they stand."""
    outputs = {
        "boxes": np.zeros((len(images), ROWS, 4), np.float32),
        "scores": np.zeros((len(images), ROWS), np.float32),
        "classes": np.zeros((len(images), ROWS), np.int32),
        "num_detections": np.array([len(image) for image in images], np.int32),
    }
    for number, image in enumerate(images):
        for row, (box, score, label) in enumerate(image):
            outputs["boxes"][number, row] = box
            outputs["scores"][number, row] = score
            outputs["classes"][number, row] = label
    return outputs


def figures(outputs, reference):
    return TASK.differences(detections(*outputs), detections(*reference))


def replaced(image, row, box=None, score=None, label=None):
    """`image` with the named parts of one detection replaced."""
    new = [old if part is None else part for part, old in zip((box, score, label), image[row])]
    return [*image[:row], tuple(new), *image[row + 1 :]]


def test_equal_detections_and_swapped_rows():
    # Rows of a set: SECOND has one, FIRST three; their order says nothing.
    for first in (FIRST, FIRST[::-1]):
        assert figures([first, SECOND], [FIRST, SECOND]) == {
            "sought": 4,
            "missed": 0,
            "invented": 0,
            "count": 0,
            "boxes": 0,
            "largest_box": 0,
            "scores": 0,
        }


def test_a_shifted_box_and_another_score():
    # 2 of the box's 20 pixels to the right. Grown by half a pixel a side it is 21 wide; 19 of
    # them overlap: 19 / (21 + 21 - 19) = 0.83, the same box.
    moved = replaced(FIRST, 0, box=(12, 20, 32, 60), score=0.875)
    found = figures([moved, SECOND], [FIRST, SECOND])
    assert found["missed"] == found["invented"] == found["count"] == 0
    # The largest of four is left out of 99 %, rounded down.
    assert found["boxes"] == 0 and found["largest_box"] == 2
    assert found["scores"] == pytest.approx(0.025)
    everywhere = [((x + 2, y, x2 + 2, y2), *rest) for (x, y, x2, y2), *rest in FIRST[:2]]
    assert figures([everywhere], [FIRST[:2]])["boxes"] == 2
    # 3 pixels: 18 / (21 + 21 - 18) = 0.75, another box: one of four is missed, and one invented.
    moved = replaced(FIRST, 0, box=(13, 20, 33, 60))
    found = figures([moved, SECOND], [FIRST, SECOND])
    assert found["missed"] == found["invented"] == 1 / 4
    assert found["largest_box"] == found["scores"] == 0


def test_another_class_is_another_detection():
    found = figures([replaced(FIRST, 1, label=0), SECOND], [FIRST, SECOND])
    assert found["missed"] == found["invented"] == 1 / 4


def test_a_missing_and_an_additional_detection():
    found = figures([FIRST[:2], SECOND], [FIRST, SECOND])
    assert found["missed"] == 1 / 4 and found["invented"] == 0
    assert found["count"] == 1 / ROWS
    found = figures([FIRST, SECOND], [FIRST[:2], SECOND])
    assert found["missed"] == 0 and found["invented"] == 1 / 4
    assert found["count"] == 1 / ROWS


def test_detections_of_another_image_do_not_count():
    found = figures([SECOND, FIRST], [FIRST, SECOND])
    assert found["missed"] == found["invented"] == 1


def test_empty_detections():
    assert set(figures([[], []], [[], []]).values()) == {0}
    assert figures([[], []], [FIRST, SECOND])["missed"] == 1
    found = figures([FIRST, SECOND], [[], []])
    assert found["missed"] == 0 and found["invented"] == 1


def test_one_detection_serves_once():
    # The reference has two nearly equal boxes, the outputs have one of them.
    twins = [((10, 20, 30, 60), 0.9, 1), ((10, 20, 30, 61), 0.8, 1)]
    assert figures([twins[:1]], [twins])["missed"] == 1 / 2
    # Both are there: each takes its own, although both overlap both, in whatever order.
    found = figures([twins[::-1]], [twins])
    assert found["missed"] == found["largest_box"] == 0


def test_boxes_without_area_overlap_themselves():
    line = [((0, 5, 0, 25), 0.9, 1), ((7, 7, 7, 7), 0.8, 1)]
    found = figures([line], [line])
    assert found["sought"] == 2 and found["missed"] == found["invented"] == 0


def test_low_scores_are_not_looked_for():
    weak = ((80, 80, 90, 90), LEAST_SCORE - 0.01, 1)
    for ours, theirs in (([FIRST + [weak]], [FIRST]), ([FIRST], [FIRST + [weak]])):
        found = figures(ours, theirs)
        assert found["sought"] == 3 and found["missed"] == found["invented"] == 0
        assert found["count"] == 1 / ROWS
    # But they may be what a higher one is found again as, on either side of the level.
    higher = ((80, 80, 90, 90), LEAST_SCORE + 0.01, 1)
    found = figures([FIRST + [weak]], [FIRST + [higher]])
    assert found["missed"] == 0 and found["scores"] == pytest.approx(0.02)
    assert figures([FIRST + [higher]], [FIRST + [weak]])["invented"] == 0


def test_scores_at_the_cut_are_not_looked_for():
    full = [((20 * n, 0, 20 * n + 10, 10), 0.9 - 0.1 * n, 0) for n in range(ROWS)]
    last = full[-1][1]
    near = replaced(full, ROWS - 2, score=last + CUT_MARGIN / 2)
    elsewhere = replaced(near, ROWS - 2, box=(0, 80, 10, 90))
    found = figures([elsewhere], [near])
    assert found["sought"] == ROWS - 2 and found["missed"] == found["invented"] == 0
    # One that is clearly above the cut is missed.
    elsewhere = replaced(full, ROWS - 2, box=(0, 80, 10, 90))
    assert figures([elsewhere], [full])["missed"] == 1 / (ROWS - 1)


def test_rows_after_the_last_detection_do_not_count():
    outputs, reference = detections(FIRST), detections(FIRST)
    outputs["boxes"][0, 3:], outputs["scores"][0, 3:] = 7, 0.9
    assert not parity.exceeded(TASK, TASK.differences(outputs, reference), "float32")
    outputs["num_detections"][0] = 4
    assert TASK.differences(outputs, reference)["invented"] == 1 / 4


def test_outputs_that_are_no_numbers_or_of_another_shape():
    same = detections(FIRST, SECOND)
    for precision in ("float32", "float16"):
        assert not parity.exceeded(TASK, TASK.differences(same, same), precision)
    for value in (np.nan, np.inf):
        for name in ("boxes", "scores"):
            outputs = detections(FIRST, SECOND)
            outputs[name][0, 1] = value
            assert parity.exceeded(TASK, TASK.differences(outputs, same), "float16"), name
    with pytest.raises(ValueError, match="boxes.*expected \\[2, 5, 4\\], received \\[1, 5, 4\\]"):
        TASK.differences(detections(FIRST), detections(FIRST, SECOND))


# --- results -------------------------------------------------------------------------------------

ROAD = ["road", "car"]
PICTURE = np.full((20, 40, 3), 128, np.uint8)


@pytest.mark.parametrize(
    "stems, frames",
    [(["000007", "12"], [7, 12]), (["a", "12"], [1, 2]), (["sub/7", "other/7"], [1, 2])],
)
def test_boxes(tmp_path, stems, frames):
    """All boxes are in the result files, the sure ones in the picture and the line."""
    images = [Found(tmp_path / "in" / f"{stem}.jpg", stem) for stem in stems]
    output = tmp_path / "out"
    output.mkdir()
    written = Detection(ROAD, PALETTE).writer(output)
    outputs = {
        "boxes": np.array([[2, 4, 12, 16], [0, 0, 5, 6], [9, 9, 9, 9]], np.float32),
        "scores": np.array([0.9, 0.25, 0.0], np.float32),
        "classes": np.array([1, 0, 0]),
        "num_detections": 2,
    }
    for image, stem in zip(images, stems):
        assert written.add(image, PICTURE, outputs) == f"{stem}_boxes.jpg: 1 car"
    written.finish(images)
    drawn = {path.relative_to(output).as_posix() for path in output.rglob("*.jpg")}
    assert drawn == {f"{stem}_boxes.jpg" for stem in stems}
    for name, box, score in (("car", [2, 4, 12, 16], 0.9), ("road", [0, 0, 5, 6], 0.25)):
        found = read_mot(output / "mot" / f"det_{name}.txt")
        assert found.frames.tolist() == frames
        np.testing.assert_allclose(found.boxes, [box, box], atol=1e-3)
        np.testing.assert_allclose(found.confidences, [score, score], atol=1e-6)
    lines = (output / "voc" / "comp4_det_test_car.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == stems


def test_a_single_class_has_mot_s_own_file_name(tmp_path):
    written = Detection(ROAD[:1], PALETTE[:1]).writer(tmp_path)
    written.finish([])
    assert [path.name for path in (tmp_path / "mot").iterdir()] == ["det.txt"]


def test_a_split_without_objects_is_refused_before_it_is_used():
    metadata = {
        "class_names": NAMES,
        "palette": TASK.palette,
        "objects": {"train": [1] * len(NAMES), "val": [0] * len(NAMES)},
        "difficult_objects": {"train": [0] * len(NAMES), "val": [0] * len(NAMES)},
    }
    builder = types.SimpleNamespace(name="mine", info=types.SimpleNamespace(metadata=metadata))
    TASK.check_data(builder, "train", is_training=True)
    with pytest.raises(ValueError, match="nothing to measure"):
        TASK.check_data(builder, "val")
    with pytest.raises(ValueError, match="nothing to learn"):
        TASK.check_data(builder, "val", is_training=True)
