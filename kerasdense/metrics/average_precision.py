"""Average precision of detections by the rules of PASCAL VOC and of COCO, and of image labels.

Ground truth and detections of a whole set are flat arrays, one row a box, and are matched without
a Python loop over boxes or images. G objects, D detections, C classes, P pairs of a detection and
an object of its image and class; for COCO also T thresholds and R ranges of area; N images.

Reference: Everingham et al. 2010, The PASCAL VOC Challenge, section 4.2, and the devkit's
VOCevaldet.m and VOCevalcls.m; Lin et al. 2014, Microsoft COCO, and pycocotools' cocoeval.py.
"""

import contextlib
import dataclasses
import io

import numpy as np

from kerasdense.boxes.geometry import area, iou

IOU_THRESHOLD = 0.5  # VOC's
RECALL_STEPS = 10  # VOC2007: recall 0, 0.1, ... 1
PAIRS_AT_ONCE = 2**20  # bounds the memory of the matching
COCO_NAMES = (
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
    "AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class GroundTruth:
    """The objects of a set: `images` int [G] (any numbers), `boxes` float [G, 4] continuous xyxy,
    `labels` int [G] from 0, `difficult` bool [G].
    """

    images: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray


@dataclasses.dataclass(frozen=True)
class Detections:
    """The detections of a set: `images` int [D], numbered as in the ground truth, `boxes` float
    [D, 4] continuous xyxy in the same units, `labels` int [D] from 0, `scores` float [D].
    """

    images: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


def joined(parts):
    """Several `GroundTruth`, or several `Detections`, as one; an image keeps its number."""
    fields = [field.name for field in dataclasses.fields(parts[0])]
    return type(parts[0])(
        *(np.concatenate([getattr(part, field) for part in parts]) for field in fields)
    )


@dataclasses.dataclass(frozen=True)
class VocClassResult:
    """VOC's figures of one class.

    `ap_area` (area under the curve, all points) and `ap_11point` are NaN where the class has no
    object that counts. `ground_truth` counts the objects that are not difficult. `detections`
    counts all; those that found a difficult object are neither true nor false positives.
    `precision`, `recall`: float64 [true_positives + false_positives], by falling confidence.
    """

    ap_area: float
    ap_11point: float
    ground_truth: int
    detections: int
    true_positives: int
    false_positives: int
    precision: np.ndarray
    recall: np.ndarray


@dataclasses.dataclass(frozen=True)
class VocResult:
    """`classes`: one `VocClassResult` a label. The means leave out the `absent_classes` (their
    number) without an object that counts. Of the detections, in the order they were given,
    `correct` bool [D] are the true positives and `on_difficult` bool [D] do not count.
    """

    classes: tuple[VocClassResult, ...]
    correct: np.ndarray
    on_difficult: np.ndarray
    mean_ap_area: float
    mean_ap_11point: float
    absent_classes: int


@dataclasses.dataclass(frozen=True)
class LabelResult:
    """`classes`: one `VocClassResult` a label, whose objects and detections are images. The means
    leave out the `absent_classes` (their number) that no image shows.
    """

    classes: tuple[VocClassResult, ...]
    mean_ap_area: float
    mean_ap_11point: float
    absent_classes: int


@dataclasses.dataclass(frozen=True)
class CocoResult:
    """`summary`: COCO's twelve numbers by their `COCO_NAMES`, NaN where no object is of that
    size. `class_ap`: float64 [C], AP of each class, NaN without an object that counts.
    """

    summary: dict[str, float]
    class_ap: np.ndarray


# --- VOC ---------------------------------------------------------------------------------------


def voc_average_precision(ground_truth, detections, num_classes, iou_threshold=IOU_THRESHOLD):
    """Average precision as the VOC devkit measures it, by both of its rules: a `VocResult`.

    A detection belongs to the object of its image and class that it overlaps best, the first of
    equals. It is a true positive if their IoU reaches `iou_threshold` and no detection of higher
    confidence (of equal confidence and earlier place) took the object; else a false positive.
    If that object is difficult the detection does not count. Boxes may be relative or in pixels.

    Raises:
        ValueError: no object that counts, or arrays that are broken; the message names the row.
    """
    if not 0 < iou_threshold <= 1:
        raise ValueError(f"Expected an IoU threshold above 0 up to 1, received {iou_threshold}.")
    ground_truth, detections = _checked(ground_truth, detections, num_classes)
    truth_group, group = _groups(ground_truth, detections, num_classes)
    order = np.lexsort((-detections.scores, detections.labels))
    detections, group = _rows(detections, order), group[order]
    truth_order = np.argsort(truth_group, kind="stable")
    ground_truth, truth_group = _rows(ground_truth, truth_order), truth_group[truth_order]

    best = _best_object(ground_truth, truth_group, detections, group, iou_threshold)  # [D]
    found = np.flatnonzero(best >= 0)
    is_first = np.zeros(len(best), bool)  # of those that found the same object
    is_first[found[np.unique(best[found], return_index=True)[1]]] = True
    on_difficult = np.zeros(len(best), bool)
    on_difficult[found] = ground_truth.difficult[best[found]]

    objects = np.bincount(ground_truth.labels[~ground_truth.difficult], minlength=num_classes)
    edges = np.searchsorted(detections.labels, np.arange(num_classes + 1))
    classes = tuple(
        _voc_class(is_first[first:last], on_difficult[first:last], int(count))
        for first, last, count in zip(edges[:-1], edges[1:], objects)
    )
    as_given = np.argsort(order)
    return VocResult(
        classes,
        correct=(is_first & ~on_difficult)[as_given],
        on_difficult=on_difficult[as_given],
        **_means(classes),
    )


def label_average_precision(truth, scores):
    """Average precision of image labels as the VOC devkit measures it: a `LabelResult`.

    For each class all images are ranked by falling score, equal ones in their given order.

    Args:
        truth: int [N, C]: 1 where the image shows the class, 0 where not, -1 where it does not
            count: such an image has no place in that ranking.
        scores: float [N, C], of any range.

    Raises:
        ValueError: arrays of another shape or content, or no label that is 1.

    Reference: VOCevalcls.m of the VOC 2007 devkit.
    """
    truth, scores = np.asarray(truth), np.asarray(scores, np.float64)
    if truth.ndim != 2 or truth.shape != scores.shape:
        raise ValueError(
            f"Expected image labels and scores of one shape [N, C], received {truth.shape} and "
            f"{scores.shape}."
        )
    if not np.isin(truth, (-1, 0, 1)).all() or not np.isfinite(scores).all():
        raise ValueError("Expected image labels out of -1, 0 and 1, and finite scores.")
    if not (truth == 1).any():
        raise ValueError(
            f"None of the {len(truth)} images shows any class, and average precision is not "
            f"defined. Is this the right split, and are its annotations where they should be?"
        )
    order = np.argsort(-scores, axis=0, kind="stable")
    ranked = np.take_along_axis(truth, order, axis=0)  # [N, C]
    classes = tuple(
        _voc_class(labels == 1, labels == -1, int(np.sum(labels == 1))) for labels in ranked.T
    )
    return LabelResult(classes, **_means(classes))


def _means(classes):
    """The fields that `VocResult` and `LabelResult` share, of `VocClassResult`s."""
    return {
        "mean_ap_area": float(np.nanmean([figures.ap_area for figures in classes])),
        "mean_ap_11point": float(np.nanmean([figures.ap_11point for figures in classes])),
        "absent_classes": sum(not figures.ground_truth for figures in classes),
    }


def _best_object(ground_truth, truth_group, detections, group, iou_threshold):
    """The row of the object that each detection overlaps best, or -1 below the threshold: [D]."""
    starts = np.searchsorted(truth_group, group, side="left")
    counts = np.searchsorted(truth_group, group, side="right") - starts
    best = np.full(len(group), -1)
    pairs = np.cumsum(counts)
    cuts = np.searchsorted(pairs, np.arange(PAIRS_AT_ONCE, pairs[-1:].sum(), PAIRS_AT_ONCE))
    for part in np.split(np.arange(len(group)), cuts):
        part = part[counts[part] > 0]
        if not len(part):
            continue
        owners, objects = _pairs(starts[part], counts[part])  # [P]
        overlaps = _pair_iou(detections.boxes[part[owners]], ground_truth.boxes[objects])  # [P]
        firsts = np.cumsum(counts[part]) - counts[part]
        highest = np.maximum.reduceat(overlaps, firsts)
        is_highest = np.flatnonzero(overlaps == highest[owners])
        _, first = np.unique(owners[is_highest], return_index=True)
        best[part] = np.where(highest >= iou_threshold, objects[is_highest[first]], -1)
    return best


def _voc_class(is_first, on_difficult, objects):
    """The figures of one class, its detections (or images) sorted by falling confidence."""
    is_counted = ~on_difficult
    hits = is_first[is_counted]
    true_positives = np.cumsum(hits)
    precision = true_positives / np.arange(1, len(hits) + 1)
    ap_area = ap_11point = float("nan")
    if objects:
        envelope = np.maximum.accumulate(precision[::-1])[::-1]  # best at this recall or above
        ap_area = float(envelope[hits].sum() / objects)  # each hit adds 1 / objects of recall
        # Recall >= k / 10 in whole numbers: in floating point 0.6 may fall below "0.6".
        needed = -(-np.arange(RECALL_STEPS + 1) * objects // RECALL_STEPS)
        at = np.searchsorted(true_positives, needed)
        ap_11point = float(np.append(envelope, 0.0)[at].mean())  # not reached: precision 0
    return VocClassResult(
        ap_area=ap_area,
        ap_11point=ap_11point,
        ground_truth=objects,
        detections=len(is_first),
        true_positives=int(hits.sum()),
        false_positives=int((~hits).sum()),
        precision=precision,
        recall=true_positives / objects if objects else np.full(len(hits), np.nan),
    )


# --- COCO --------------------------------------------------------------------------------------


def coco_average_precision(ground_truth, detections, num_classes):
    """COCO's twelve numbers and the AP of each class, as pycocotools has them: a `CocoResult`.

    Boxes in pixels; the area of an object is that of its box. Difficult objects take the part of
    COCO's crowds, the only objects that pycocotools ignores: a detection is ignored, too, if such
    an object covers enough of it (intersection / area of the detection), however many there are.

    COCOeval gives the thresholds and the summary. Its matching and its curves are Python loops
    over images, classes, areas, thresholds and boxes; here they are array operations that follow
    the same rules to the same numbers.

    Raises:
        ValueError: as `voc_average_precision`, or boxes that are not in pixels.
    """
    from pycocotools.cocoeval import COCOeval

    ground_truth, detections = _checked(ground_truth, detections, num_classes)
    if ground_truth.boxes.max() <= 2:
        raise ValueError(
            "COCO's areas need boxes in pixels, and the ground truth ends at "
            f"{ground_truth.boxes.max():g}. Multiply relative boxes by the size of their image."
        )
    evaluator = COCOeval(iouType="bbox")
    parameters = evaluator.params
    precision, recall = _coco_curves(ground_truth, detections, num_classes, parameters)
    evaluator.eval = {"precision": precision, "recall": recall}
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator.summarize()
    summary = np.where(evaluator.stats < 0, np.nan, evaluator.stats).tolist()
    class_ap = precision[:, :, :, 0, -1].mean(axis=(0, 1))  # [C], objects of all sizes
    return CocoResult(
        summary=dict(zip(COCO_NAMES, summary)),
        class_ap=np.where(class_ap < 0, np.nan, class_ap),
    )


def _coco_curves(ground_truth, detections, num_classes, parameters):
    """What COCOeval.accumulate leaves in `eval`: precision [T, recall levels, C, R, limits] and
    recall [T, C, R, limits], -1 where a class has no object that counts.
    """
    truth_group, group = _groups(ground_truth, detections, num_classes)
    order = np.lexsort((-detections.scores, group))
    place = np.arange(len(order)) - np.searchsorted(group[order], group[order])
    limits = parameters.maxDets
    order, place = order[place < limits[-1]], place[place < limits[-1]]
    detections, group = _rows(detections, order), group[order]
    truth_order = np.argsort(truth_group, kind="stable")
    ground_truth, truth_group = _rows(ground_truth, truth_order), truth_group[truth_order]

    thresholds, ranges = np.array(parameters.iouThrs), np.array(parameters.areaRng)
    truth_ignored = ground_truth.difficult | _is_outside(ground_truth.boxes, ranges)  # [R, G]
    matched, ignored = _coco_match(
        ground_truth, truth_group, truth_ignored, detections, group, place, thresholds
    )
    ignored |= ~matched & _is_outside(detections.boxes, ranges)[:, None]  # [R, T, D]
    is_true, is_false = matched & ~ignored, ~matched & ~ignored

    levels = np.array(parameters.recThrs)
    shape = len(thresholds), num_classes, len(ranges), len(limits)
    precision, recall = -np.ones((shape[0], len(levels), *shape[1:])), -np.ones(shape)
    for c, m in np.ndindex(num_classes, len(limits)):
        of_class = ground_truth.labels == c
        rows = np.flatnonzero((detections.labels == c) & (place < limits[m]))
        rows = rows[np.argsort(-detections.scores[rows], kind="stable")]
        for r in range(len(ranges)):
            objects = np.count_nonzero(of_class & ~truth_ignored[r])
            if not objects:
                continue
            hits = np.cumsum(is_true[r][:, rows], axis=1)  # [T, detections of the class]
            counted = hits + np.cumsum(is_false[r][:, rows], axis=1)
            envelope = np.zeros((len(thresholds), len(rows) + 1))  # precision 0 beyond the end
            envelope[:, :-1] = hits / (counted + np.spacing(1))
            envelope = np.maximum.accumulate(envelope[:, ::-1], axis=1)[:, ::-1]
            recalls = hits / objects
            for t in range(len(thresholds)):
                precision[t, :, c, r, m] = envelope[t, np.searchsorted(recalls[t], levels)]
            recall[:, c, r, m] = recalls[:, -1] if len(rows) else 0
    return precision, recall


def _coco_match(ground_truth, truth_group, truth_ignored, detections, group, place, thresholds):
    """Which detections found an object, and which of them an ignored one: bool [R, T, D] twice.

    In an image and class the detections choose in the order of their `place`: of the objects that
    are free the one of highest IoU (the last of equals), an ignored one only if there is no other.
    In each turn of the loop all images, classes, ranges and thresholds take part.
    """
    starts = np.searchsorted(truth_group, group, side="left")
    counts = np.searchsorted(truth_group, group, side="right") - starts
    is_crowd = ground_truth.difficult
    taken = np.zeros((len(truth_ignored), len(thresholds), len(truth_group)), bool)
    matched = np.zeros((len(truth_ignored), len(thresholds), len(group)), bool)
    ignored = np.zeros_like(matched)
    for turn in range(place.max(initial=-1) + 1):
        choosers = np.flatnonzero((place == turn) & (counts > 0))
        if not len(choosers):
            continue
        owners, objects = _pairs(starts[choosers], counts[choosers])  # [P]
        boxes, others = detections.boxes[choosers[owners]], ground_truth.boxes[objects]
        # The part of a box that a crowd covers is its IoU with what they share.
        shared = np.clip(others, np.tile(boxes[:, :2], 2), np.tile(boxes[:, 2:], 2))
        overlaps = _pair_iou(boxes, np.where(is_crowd[objects, None], shared, others))
        order = np.lexsort((overlaps, owners))  # the best of each chooser is its last
        objects, overlaps = objects[order], overlaps[order]
        is_free = (overlaps >= thresholds[:, None]) & (is_crowd[objects] | ~taken[:, :, objects])
        rank = np.arange(len(objects)) + len(objects) * ~truth_ignored[:, None, objects]
        firsts = np.cumsum(counts[choosers]) - counts[choosers]
        best = np.maximum.reduceat(np.where(is_free, rank, -1), firsts, axis=2)  # [R, T, choosers]
        matched[:, :, choosers] = best >= 0
        ignored[:, :, choosers] = (best >= 0) & (best < len(objects))
        r, t, chooser = np.nonzero(best >= 0)
        taken[r, t, objects[best[r, t, chooser] % len(objects)]] = True
    return matched, ignored


def _is_outside(boxes, ranges):
    areas = area(boxes)
    return (areas < ranges[:, :1]) | (areas > ranges[:, 1:])  # [R, boxes]


# --- both --------------------------------------------------------------------------------------


def _groups(ground_truth, detections, num_classes):
    """One number for each pair of class and image, class by class: of the objects [G] and of the
    detections [D].
    """
    images, image = np.unique(
        np.concatenate([ground_truth.images, detections.images]), return_inverse=True
    )
    group = np.concatenate([ground_truth.labels, detections.labels]) * len(images) + image
    return np.split(group, [len(ground_truth.images)])


def _rows(arrays, rows):
    """The same dataclass with these rows only."""
    fields = (field.name for field in dataclasses.fields(arrays))
    return type(arrays)(**{name: getattr(arrays, name)[rows] for name in fields})


def _pairs(starts, counts):
    """All pairs of an owner with its `counts` members, numbered from `starts`: int [P] twice."""
    owners = np.repeat(np.arange(len(counts)), counts)
    firsts = np.cumsum(counts) - counts
    return owners, np.arange(len(owners)) - firsts[owners] + starts[owners]


def _pair_iou(boxes1, boxes2):
    return iou(boxes1[:, None], boxes2[:, None])[:, 0, 0]  # [P]


def _checked(ground_truth, detections, num_classes):
    """Both with int64, float64 and bool arrays; see `voc_average_precision` for what raises."""
    ground_truth = _checked_boxes(ground_truth, "Ground truth", num_classes)
    if not len(ground_truth.boxes):
        raise ValueError(
            "The ground truth holds no object at all, and average precision is not defined. "
            "Is this the right split, and are its annotations where they should be?"
        )
    if ground_truth.difficult.all():
        raise ValueError(
            f"All {len(ground_truth.boxes)} objects of the ground truth are difficult ones, which "
            "do not count: average precision is not defined."
        )
    return ground_truth, _checked_boxes(detections, "Detections", num_classes)


def _checked_boxes(arrays, what, num_classes):
    dtypes = {"images": np.int64, "boxes": np.float64, "labels": np.int64, "scores": np.float64}
    values = {}
    for name in (field.name for field in dataclasses.fields(arrays)):
        value = np.asarray(getattr(arrays, name))
        if name in ("images", "labels") and value.size and value.dtype.kind not in "iu":
            raise ValueError(f"{what}: expected integer {name}, received {value.dtype}.")
        values[name] = value.astype(dtypes.get(name, bool))
    count = len(values["images"])
    for name, value in values.items():
        expected = (count, 4) if name == "boxes" else (count,)
        if value.shape != expected:
            raise ValueError(f"{what}: expected {name} {expected}, received {value.shape}.")
    boxes, labels = values["boxes"], values["labels"]
    checks = {
        "finite coordinates": np.isfinite(boxes).all(axis=1),
        "left <= right and top <= bottom": (boxes[:, 2:] >= boxes[:, :2]).all(axis=1),
        f"a label from 0 to {num_classes - 1}": (labels >= 0) & (labels < num_classes),
        "a finite score": np.isfinite(values.get("scores", np.zeros(count))),
    }
    for expected, is_right in checks.items():
        if not is_right.all():
            row = np.argmin(is_right)
            received = ", ".join(f"{name} {value[row].tolist()}" for name, value in values.items())
            raise ValueError(
                f"{what}, row {row}: expected {expected}; received {received}. "
                f"{np.sum(~is_right)} of {count} rows are broken in this way."
            )
    return type(arrays)(**values)
