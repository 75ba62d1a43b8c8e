"""Average precision: fractions derived by hand, a plain loop over boxes, and pycocotools itself."""

import contextlib
import io
import time
from fractions import Fraction

import numpy as np
import pytest

from kerasdense.metrics import average_precision
from kerasdense.metrics.average_precision import Detections, GroundTruth

SQUARE = [0, 0, 10, 10]
ELSEWHERE = [50, 50, 60, 60]


def truth(*rows):
    """Rows (image, box, label, difficult)."""
    images, boxes, labels, difficult = zip(*rows) if rows else ([], np.zeros((0, 4)), [], [])
    return GroundTruth(np.array(images, int), boxes, np.array(labels, int), difficult)


def found(*rows):
    """Rows (image, box, label, score)."""
    images, boxes, labels, scores = zip(*rows) if rows else ([], np.zeros((0, 4)), [], [])
    return Detections(np.array(images, int), boxes, np.array(labels, int), scores)


def voc(ground_truth, detections, num_classes=1, **options):
    return average_precision.voc_average_precision(ground_truth, detections, num_classes, **options)


def counts(figures):
    return figures.true_positives, figures.false_positives


# --- VOC by hand -------------------------------------------------------------------------------

FOUR_OBJECTS = truth(*[(image, SQUARE, 0, False) for image in range(4)])
# Four objects, one an image; five detections by falling confidence:
#   confidence   0.9    0.8    0.7    0.6    0.5
#   image          0      0      1      2      3
#   box           on   again     on     on   elsewhere
#              right  wrong  right  right   wrong
#   precision     1    1/2    2/3    3/4    3/5
#   recall      1/4    1/4    2/4    3/4    3/4
FIVE_DETECTIONS = found(
    (2, SQUARE, 0, 0.6), (0, SQUARE, 0, 0.9), (3, ELSEWHERE, 0, 0.5),
    (0, SQUARE, 0, 0.8), (1, SQUARE, 0, 0.7),
)  # fmt: skip


def test_five_detections_by_both_rules():
    result = voc(FOUR_OBJECTS, FIVE_DETECTIONS)
    (figures,) = result.classes
    np.testing.assert_allclose(figures.precision, [1, 1 / 2, 2 / 3, 3 / 4, 3 / 5])
    np.testing.assert_allclose(figures.recall, [1 / 4, 1 / 4, 2 / 4, 3 / 4, 3 / 4])
    # Best precision from each recall on: 1 up to 1/4, then 3/4 up to 3/4, then nothing.
    assert figures.ap_area == pytest.approx(Fraction(1, 4) * (1 + 2 * Fraction(3, 4)))
    # Levels 0, 0.1, 0.2: 1. Levels 0.3 to 0.7: 3/4. Levels 0.8, 0.9, 1: 0.
    assert figures.ap_11point == pytest.approx((3 + 5 * Fraction(3, 4)) / 11)
    assert (figures.ground_truth, figures.detections) == (4, 5)
    assert counts(figures) == (3, 2)
    np.testing.assert_array_equal(result.correct, [True, True, False, False, True])
    assert result.mean_ap_area == figures.ap_area
    assert result.mean_ap_11point == figures.ap_11point
    assert result.absent_classes == 0


def test_a_recall_that_equals_a_level_reaches_it():
    # 3 of 5 objects at precision 1: levels 0 to 0.6 are reached, 7 of 11. In floating point
    # linspace(0, 1, 11)[6] is above 3/5. All other fractions likewise: floor(10 hits / n) + 1.
    for objects in range(1, 31):
        ground_truth = truth(*[(image, SQUARE, 0, False) for image in range(objects)])
        for hits in range(1, objects + 1):
            detections = found(*[(image, SQUARE, 0, 1 / (1 + image)) for image in range(hits)])
            levels = 10 * hits // objects + 1
            assert voc(ground_truth, detections).mean_ap_11point == pytest.approx(levels / 11)


def test_a_detection_at_the_threshold_is_right():
    # Half of the object, exactly: IoU 50/100.
    half = found((0, [0, 0, 10, 5], 0, 1.0))
    ground_truth = truth((0, SQUARE, 0, False))
    assert counts(voc(ground_truth, half).classes[0]) == (1, 0)
    assert counts(voc(ground_truth, half, iou_threshold=0.51).classes[0]) == (0, 1)
    less = found((0, [0, 0, 10, 4.999], 0, 1.0))
    assert counts(voc(ground_truth, less).classes[0]) == (0, 1)


def test_the_second_match_is_wrong_even_beside_a_free_object():
    # IoU of the detection with the first object is 1, with the shifted one 80/120 = 2/3.
    shifted = [2, 0, 12, 10]
    ground_truth = truth((0, SQUARE, 0, False), (0, shifted, 0, False))
    twice = found((0, SQUARE, 0, 0.9), (0, SQUARE, 0, 0.8))
    assert counts(voc(ground_truth, twice).classes[0]) == (1, 1)
    each = found((0, SQUARE, 0, 0.9), (0, shifted, 0, 0.8))
    assert counts(voc(ground_truth, each).classes[0]) == (2, 0)


def test_of_objects_that_overlap_equally_the_first_is_meant():
    # The detection lies in the middle of both: IoU 90/110 each.
    left, right, middle = [0, 0, 10, 10], [2, 0, 12, 10], [1, 0, 11, 10]
    easy_first = truth((0, left, 0, False), (0, right, 0, True))
    hard_first = truth((0, right, 0, True), (0, left, 0, False))
    assert counts(voc(easy_first, found((0, middle, 0, 1.0))).classes[0]) == (1, 0)
    assert counts(voc(hard_first, found((0, middle, 0, 1.0))).classes[0]) == (0, 0)


def test_difficult_objects_neither_count_nor_punish():
    ground_truth = truth((0, SQUARE, 0, True), (0, ELSEWHERE, 0, False))
    detections = found(
        (0, SQUARE, 0, 0.9), (0, SQUARE, 0, 0.8), (0, ELSEWHERE, 0, 0.7), (0, SQUARE, 0, 0.6)
    )
    result = voc(ground_truth, detections)
    (figures,) = result.classes
    assert figures.ap_area == figures.ap_11point == 1
    assert (figures.ground_truth, figures.detections) == (1, 4)
    assert counts(figures) == (1, 0)
    np.testing.assert_array_equal(figures.precision, [1])
    np.testing.assert_array_equal(result.correct, [False, False, True, False])
    np.testing.assert_array_equal(result.on_difficult, [True, True, False, True])


def test_ties_in_confidence_keep_their_order():
    ground_truth = truth((0, SQUARE, 0, False))
    right, wrong = (0, SQUARE, 0, 0.5), (0, ELSEWHERE, 0, 0.5)
    assert voc(ground_truth, found(right, wrong)).mean_ap_area == 1
    assert voc(ground_truth, found(wrong, right)).mean_ap_area == 1 / 2
    # Enough of them that an unstable sort would show.
    many = found(right, *[wrong] * 1000)
    assert voc(ground_truth, many).mean_ap_area == 1


def test_images_and_classes_are_kept_apart():
    ground_truth = truth((7, SQUARE, 0, False), (-3, SQUARE, 1, False))
    # Right box, but the wrong image, the wrong class, an image without objects.
    detections = found((-3, SQUARE, 0, 0.9), (7, SQUARE, 1, 0.8), (10**12, SQUARE, 0, 0.7))
    result = voc(ground_truth, detections, num_classes=2)
    assert [counts(figures) for figures in result.classes] == [(0, 2), (0, 1)]
    assert result.mean_ap_area == 0


def test_a_class_without_objects_is_left_out_of_the_mean():
    ground_truth = truth((0, SQUARE, 0, False), (0, SQUARE, 2, True))
    result = voc(ground_truth, found((0, SQUARE, 0, 1.0), (0, SQUARE, 1, 1.0)), num_classes=4)
    assert [figures.ap_area for figures in result.classes][0] == 1
    assert np.isnan([f.ap_area for f in result.classes[1:]]).all()
    assert np.isnan([f.ap_11point for f in result.classes[1:]]).all()
    assert np.isnan(result.classes[1].recall).all()
    assert counts(result.classes[1]) == (0, 1)
    assert result.mean_ap_area == result.mean_ap_11point == 1
    assert result.absent_classes == 3


def test_no_detections_at_all():
    result = voc(FOUR_OBJECTS, found())
    assert result.mean_ap_area == result.mean_ap_11point == 0
    assert result.classes[0].ground_truth == 4 and counts(result.classes[0]) == (0, 0)
    summary = average_precision.coco_average_precision(FOUR_OBJECTS, found(), 1).summary
    assert summary["AP"] == summary["AR100"] == summary["AP_small"] == 0
    assert np.isnan(summary["AP_large"])


def test_boxes_without_area_find_nothing():
    point = [5, 5, 5, 5]
    ground_truth = truth((0, point, 0, False), (0, SQUARE, 0, False))
    assert counts(voc(ground_truth, found((0, point, 0, 1.0))).classes[0]) == (0, 1)


def test_relative_boxes_give_what_pixels_give():
    rng = np.random.default_rng(0)
    ground_truth, detections = random_set(rng)
    relative = [
        type(arrays)(**vars(arrays) | {"boxes": arrays.boxes / [640, 480, 640, 480]})
        for arrays in (ground_truth, detections)
    ]
    pixels = voc(ground_truth, detections, 3, iou_threshold=0.4999)
    assert voc(*relative, 3, iou_threshold=0.4999).mean_ap_area == pixels.mean_ap_area


# --- image labels by hand ----------------------------------------------------------------------

# One class, seven images by falling score, of which the third does not count:
#   shows it      1     0    (-1)    1     0     1     0
#   precision     1    1/2    -     2/3   1/2   3/5   1/2
#   recall       1/3   1/3    -     2/3   2/3    1     1
RANKED = [1, 0, -1, 1, 0, 1, 0]


def labels(truth, scores):
    return average_precision.label_average_precision(np.array(truth), np.array(scores))


def test_a_ranking_of_images_by_both_rules():
    order = [3, 0, 6, 1, 5, 2, 4]  # as the images may come
    scores = np.array([[70], [60], [50], [40.5], [40], [-3], [-1e9]])
    result = labels(np.array(RANKED)[order, None], scores[order])
    (figures,) = result.classes
    np.testing.assert_allclose(figures.precision, [1, 1 / 2, 2 / 3, 1 / 2, 3 / 5, 1 / 2])
    np.testing.assert_allclose(figures.recall, [1 / 3, 1 / 3, 2 / 3, 2 / 3, 1, 1])
    # Best precision from each recall on: 1 up to 1/3, 2/3 up to 2/3, 3/5 up to 1.
    assert figures.ap_area == pytest.approx((1 + Fraction(2, 3) + Fraction(3, 5)) / 3)
    # Levels 0 to 0.3: 1. Levels 0.4 to 0.6: 2/3. Levels 0.7 to 1: 3/5.
    eleven = (4 + 3 * Fraction(2, 3) + 4 * Fraction(3, 5)) / 11
    assert figures.ap_11point == pytest.approx(eleven)
    assert (figures.ground_truth, figures.detections) == (3, 7) and counts(figures) == (3, 3)
    assert result.mean_ap_area == figures.ap_area and result.absent_classes == 0


def test_a_perfect_and_an_upside_down_ranking_of_images():
    truth = np.array([[1, 0], [0, 1], [1, -1], [0, 0]])
    perfect = labels(truth, truth)
    assert perfect.mean_ap_area == perfect.mean_ap_11point == 1
    # First class: two that show it behind two that do not, precision 1/3 and 2/4 there. Second:
    # one behind two, precision 1/3.
    worst = labels(truth, -truth)
    assert [figures.ap_area for figures in worst.classes] == pytest.approx([1 / 2, 1 / 3])
    assert worst.mean_ap_area == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_classes_are_ranked_apart_and_absent_ones_left_out():
    truth = [[1, 0, 0], [0, 0, -1]]
    result = labels(truth, [[0.2, 0.9, 0.1], [0.1, 0.9, 0.9]])
    assert result.classes[0].ap_area == 1 and result.absent_classes == 2
    assert np.isnan([figures.ap_area for figures in result.classes[1:]]).all()
    assert result.mean_ap_area == result.mean_ap_11point == 1


def test_images_of_equal_score_keep_their_order():
    assert labels([[1], [0]], [[0.5], [0.5]]).mean_ap_area == 1
    assert labels([[0], [1]], [[0.5], [0.5]]).mean_ap_area == 1 / 2


@pytest.mark.parametrize(
    "truth, scores, words",
    [
        ([[1, 0]], [[0.5]], r"one shape \[N, C\], received \(1, 2\) and \(1, 1\)"),
        ([1, 0], [0.5, 1], r"one shape \[N, C\], received \(2,\)"),
        ([[2, 0]], [[0.5, 1]], "labels out of -1, 0 and 1"),
        ([[1, 0]], [[0.5, np.nan]], "finite scores"),
        ([[0, -1]], [[0.5, 1]], "None of the 1 images shows any class"),
    ],
)
def test_broken_image_labels(truth, scores, words):
    with pytest.raises(ValueError, match=words):
        labels(truth, scores)


# --- VOC against a loop ------------------------------------------------------------------------


def random_set(rng, integers=False, images=6, num_classes=3, objects=30, detections=150):
    """Crowded images, detections near the objects or anywhere, many equal confidences."""
    corners = rng.uniform(0, 100, (objects, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 130, (objects, 2))], axis=1)
    ground_truth = GroundTruth(
        images=rng.integers(0, images, objects),
        boxes=boxes,
        labels=rng.integers(0, num_classes, objects),
        difficult=rng.random(objects) < 0.3,
    )
    near = rng.integers(0, objects, detections)
    boxes = boxes[near] + rng.normal(0, 6, (detections, 4))
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
    is_stray = rng.random(detections) < 0.2
    detections = Detections(
        images=np.where(
            is_stray, rng.integers(0, images + 1, detections), ground_truth.images[near]
        ),
        boxes=boxes,
        labels=np.where(
            is_stray, rng.integers(0, num_classes, detections), ground_truth.labels[near]
        ),
        scores=np.round(rng.random(detections), 1),
    )
    if integers:  # then many IoUs are equal, too
        for arrays in (ground_truth, detections):
            np.round(arrays.boxes / 8, out=arrays.boxes)
            arrays.boxes[:] *= 8
    return ground_truth, detections


def one_iou(box1, box2):
    width = min(box1[2], box2[2]) - max(box1[0], box2[0])
    height = min(box1[3], box2[3]) - max(box1[1], box2[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (box1, box2)]
    return width * height / (sum(areas) - width * height)


def loop_voc(ground_truth, detections, label, threshold):
    """VOC's rules read aloud: (area, 11 points, right, wrong), None without objects."""
    objects = [i for i in range(len(ground_truth.labels)) if ground_truth.labels[i] == label]
    count = sum(not ground_truth.difficult[i] for i in objects)
    rows = [i for i in range(len(detections.labels)) if detections.labels[i] == label]
    rows.sort(key=lambda i: -detections.scores[i])
    taken, right, wrong, curve = set(), 0, 0, []
    for row in rows:
        best, best_iou = None, -1.0
        for i in objects:
            if ground_truth.images[i] == detections.images[row]:
                overlap = one_iou(ground_truth.boxes[i], detections.boxes[row])
                if overlap > best_iou:
                    best, best_iou = i, overlap
        if best is not None and best_iou >= threshold:
            if ground_truth.difficult[best]:
                continue
            right, wrong = (right, wrong + 1) if best in taken else (right + 1, wrong)
            taken.add(best)
        else:
            wrong += 1
        curve.append((Fraction(right, max(count, 1)), Fraction(right, right + wrong)))
    if not count:
        return None, None, right, wrong
    levels = [
        max((precision for recall, precision in curve if recall >= Fraction(k, 10)), default=0)
        for k in range(11)
    ]
    area, last = Fraction(0), Fraction(0)
    for recall in sorted({recall for recall, _ in curve}):
        best = max(precision for other, precision in curve if other >= recall)
        area, last = area + (recall - last) * best, recall
    return float(area), float(Fraction(sum(levels), 11)), right, wrong


@pytest.mark.parametrize("seed", range(25))
def test_voc_agrees_with_a_loop_over_boxes(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    ground_truth, detections = random_set(rng, integers=seed % 2 == 0)
    threshold = rng.choice([0.3, 0.5, 0.7])
    result = voc(ground_truth, detections, 4, iou_threshold=threshold)
    assert result.absent_classes == 1
    areas = []
    for label, figures in enumerate(result.classes):
        area, points, right, wrong = loop_voc(ground_truth, detections, label, threshold)
        assert counts(figures) == (right, wrong)
        if area is None:
            assert np.isnan(figures.ap_area) and np.isnan(figures.ap_11point)
        else:
            assert figures.ap_area == pytest.approx(area, abs=1e-12)
            assert figures.ap_11point == pytest.approx(points, abs=1e-12)
            areas.append(area)
    assert result.mean_ap_area == pytest.approx(np.mean(areas))
    # In pieces of a few pairs the matching gives the same.
    monkeypatch.setattr(average_precision, "PAIRS_AT_ONCE", 7)
    again = voc(ground_truth, detections, 4, iou_threshold=threshold)
    assert again.mean_ap_area == result.mean_ap_area


# --- COCO against pycocotools -----------------------------------------------------------------


def plain_coco(ground_truth, detections, num_classes):
    """COCOeval as it comes: the twelve numbers and AP of each class, -1 where not defined."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    images = sorted({*ground_truth.images.tolist(), *detections.images.tolist()})

    def dataset(arrays, **more):
        rows = []
        for i in range(len(arrays.images)):
            left, top, right, bottom = np.asarray(arrays.boxes)[i].tolist()
            rows.append({
                "id": i + 1, "image_id": int(arrays.images[i]),
                "category_id": int(arrays.labels[i]),
                "bbox": [left, top, right - left, bottom - top],
                "area": (right - left) * (bottom - top),
                **{name: values[i].item() for name, values in more.items()},
            })  # fmt: skip
        coco = COCO()
        coco.dataset = {
            "images": [{"id": image} for image in images],
            "categories": [{"id": label} for label in range(num_classes)],
            "annotations": rows,
        }
        coco.createIndex()
        return coco

    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = COCOeval(
            dataset(ground_truth, iscrowd=np.array(ground_truth.difficult, int)),
            dataset(detections, score=np.array(detections.scores)),
            "bbox",
        )
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.stats, evaluator.eval["precision"][:, :, :, 0, 2].mean(axis=(0, 1))


def assert_equals_plain_coco(ground_truth, detections, num_classes):
    result = average_precision.coco_average_precision(ground_truth, detections, num_classes)
    stats, class_ap = plain_coco(ground_truth, detections, num_classes)
    assert tuple(result.summary) == average_precision.COCO_NAMES
    ours = np.array(list(result.summary.values()))
    np.testing.assert_allclose(np.nan_to_num(ours, nan=-1), stats, rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.nan_to_num(result.class_ap, nan=-1), class_ap, rtol=0, atol=1e-12)
    return result


@pytest.mark.parametrize("seed", range(30))
def test_coco_is_pycocotools_to_the_last_digit(seed):
    rng = np.random.default_rng(seed)
    sizes = [{}, {"images": 2}, {"images": 40}, {"objects": 4}, {"num_classes": 1, "images": 1}]
    options = {"num_classes": 3} | sizes[seed % 5]
    ground_truth, detections = random_set(rng, integers=seed % 2 == 0, **options)
    assert_equals_plain_coco(ground_truth, detections, options["num_classes"] + 1)


def test_coco_without_any_difficult_object_and_with_all_sizes():
    ground_truth, detections = random_set(np.random.default_rng(1), objects=200, detections=900)
    ground_truth.difficult[:] = False
    result = assert_equals_plain_coco(ground_truth, detections, 3)
    assert all(value > 0 for value in result.summary.values())  # all twelve were at work
    assert result.summary["AP"] == pytest.approx(result.class_ap.mean())


def test_coco_by_hand():
    # Two objects, the first found with an IoU of 0.8 (8 of 10 columns), the other not at all.
    # At the thresholds 0.5 ... 0.8, seven of ten, precision is 1 at the 51 recall levels up to
    # 0.5 of 101.
    ground_truth = truth((0, SQUARE, 0, False), (1, SQUARE, 0, False))
    detections = found((0, [0, 0, 8, 10], 0, 0.5))
    summary = average_precision.coco_average_precision(ground_truth, detections, 1).summary
    assert summary["AP50"] == summary["AP75"] == pytest.approx(51 / 101)
    assert summary["AP"] == summary["AP_small"] == pytest.approx(7 / 10 * 51 / 101)
    assert summary["AR1"] == summary["AR100"] == pytest.approx(7 / 10 * 1 / 2)
    assert np.isnan(summary["AP_medium"]) and np.isnan(summary["AR_large"])


def test_coco_counts_a_hundred_detections_an_image_and_class():
    # The object's own detection comes 101st, then 100th.
    ground_truth = truth((0, SQUARE, 0, False))
    strays = [(0, ELSEWHERE, 0, 0.9)] * 100
    right = (0, SQUARE, 0, 0.5)
    for rows, recall in ((strays, 0), (strays[1:], 1)):
        result = assert_equals_plain_coco(ground_truth, found(*rows, right), 1)
        assert result.summary["AR100"] == recall and result.summary["AR10"] == 0


def test_coco_wants_pixels():
    with pytest.raises(ValueError, match="boxes in pixels.*ends at 0.5"):
        average_precision.coco_average_precision(truth((0, [0, 0, 0.5, 0.5], 0, False)), found(), 1)


def test_coco_prints_nothing(capsys):
    average_precision.coco_average_precision(FOUR_OBJECTS, FIVE_DETECTIONS, 1)
    assert capsys.readouterr() == ("", "")


# --- bad input ---------------------------------------------------------------------------------

EVALUATORS = [average_precision.voc_average_precision, average_precision.coco_average_precision]


@pytest.mark.parametrize("evaluate", EVALUATORS)
@pytest.mark.parametrize(
    "ground_truth, words",
    [
        (truth(), "no object at all"),
        (truth((0, SQUARE, 0, True), (1, SQUARE, 0, True)), "All 2 objects.*difficult"),
        (truth((0, SQUARE, 0, False), (5, [10, 0, 0, 10], 0, False)),
         "Ground truth, row 1: expected left <= right.*images 5, boxes .10.0, 0.0, 0.0, 10.0."),
        (truth((0, [0, 0, np.inf, 1], 0, False)), "Ground truth, row 0: expected finite coord"),
        (truth((0, SQUARE, 2, False)), "Ground truth, row 0: expected a label from 0 to 1"),
    ],
)  # fmt: skip
def test_broken_ground_truth(evaluate, ground_truth, words):
    with pytest.raises(ValueError, match=words):
        evaluate(ground_truth, FIVE_DETECTIONS, 2)


@pytest.mark.parametrize("evaluate", EVALUATORS)
@pytest.mark.parametrize(
    "row, words",
    [
        ((0, [0, 0, np.nan, 1], 0, 0.5), "Detections, row 2: expected finite coordinates"),
        ((0, [0, 5, 1, 4], 0, 0.5), "Detections, row 2: expected left <= right and top <= bottom"),
        ((0, SQUARE, -1, 0.5), "Detections, row 2: expected a label from 0 to 1.*labels -1"),
        ((0, SQUARE, 2, 0.5), "Detections, row 2: expected a label from 0 to 1.*labels 2"),
        ((0, SQUARE, 0, np.nan), "Detections, row 2: expected a finite score.*scores nan"),
        ((0, SQUARE, 0, np.inf), "2 of 4 rows are broken"),
    ],
)
def test_broken_detections(evaluate, row, words):
    rows = [(0, SQUARE, 0, 0.5), (0, SQUARE, 1, 0.5), row, row]
    if "2 of 4" not in words:
        rows = rows[:3]
    with pytest.raises(ValueError, match=words):
        evaluate(FOUR_OBJECTS, found(*rows), 2)


def test_arrays_that_do_not_fit():
    square = [SQUARE]
    with pytest.raises(ValueError, match=r"Detections: expected scores \(1,\), received \(2,\)"):
        voc(FOUR_OBJECTS, Detections([0], square, [0], [0.5, 0.5]))
    with pytest.raises(ValueError, match=r"Detections: expected boxes \(1, 4\), received \(4,\)"):
        voc(FOUR_OBJECTS, Detections([0], SQUARE, [0], [0.5]))
    with pytest.raises(ValueError, match="Detections: expected integer labels, received float64"):
        voc(FOUR_OBJECTS, Detections([0], square, [0.0], [0.5]))
    for threshold in (0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="IoU threshold above 0 up to 1"):
            voc(FOUR_OBJECTS, FIVE_DETECTIONS, iou_threshold=threshold)


# --- size --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("evaluate", EVALUATORS)
def test_a_million_detections_in_twenty_seconds_of_one_core(evaluate):
    # 5,000 images x 200 detections x 20 classes; three detections near each of 40,000 objects.
    rng = np.random.default_rng(0)
    images, detections, objects = 5000, 1_000_000, 40_000
    ground_truth, found_near = random_set(
        rng, images=images, num_classes=20, objects=objects, detections=3 * objects
    )
    strays = detections - 3 * objects
    corners = rng.uniform(0, 400, (strays, 2))
    everything = Detections(
        np.concatenate([found_near.images, rng.integers(0, images, strays)]),
        np.concatenate([
            found_near.boxes,
            np.concatenate([corners, corners + rng.uniform(1, 200, (strays, 2))], axis=1),
        ]),
        np.concatenate([found_near.labels, rng.integers(0, 20, strays)]),
        rng.random(detections),
    )  # fmt: skip
    start = time.process_time()
    evaluate(ground_truth, everything, 20)
    seconds = time.process_time() - start
    print(f"{evaluate.__name__}: {seconds:.1f} s")
    assert seconds < 20
