"""How far the outputs of an exported model are from those of the model it comes from.

The figures are floats, 0 for equal outputs and growing with the difference; NaN in an output makes
a figure NaN, or its detection a missed one. B batch, H W size, C classes, D detections.
"""

import numpy as np

from kerasdense.boxes.geometry import iou

# Detections of a lower score are not looked for: there are many, and rounding moves some of them
# across the least score that the suppression keeps.
LEAST_SCORE = 0.1
# Nor are, where all D rows are taken, those that score so little more than the last row: rounding
# moves some of them across the cut.
CUT_MARGIN = 0.01
# From this IoU on, boxes of one class are the same. Of two anchors that predict nearly one box with
# nearly one score, rounding decides which suppresses the other: that moves a few boxes by a part of
# their size, so that not the largest difference is limited, but the one that most keep.
SAME_BOX = 0.8
MOST = 0.99

MEANINGS = {
    "other_labels": "share of the pixels with another label",
    "margin": "lead, in probability, of the reference's label over another that was given",
    "confidence": "difference of confidence",
    "missed": "share of the reference's detections that are missing",
    "invented": "share of the detections that the reference does not have",
    "count": "difference of num_detections as a share of the rows",
    "boxes": "difference in pixels that 99 % of the boxes keep",
    "largest_box": "difference of a box in pixels",
    "scores": "difference of a score",
    "relative": "difference of the raw output as a share of its largest value",
}
# What rounding explains, by the precision of the exported model.
TOLERANCES = {
    "float32": {
        "other_labels": 1e-3,
        "margin": 1e-3,
        "confidence": 1e-3,
        "missed": 0.01,
        "invented": 0.01,
        "count": 0.02,
        "boxes": 0.1,
        "scores": 1e-3,
        "relative": 1e-4,
    },
    "float16": {
        "other_labels": 0.01,
        "margin": 0.05,
        "confidence": 0.03,
        "missed": 0.05,
        "invented": 0.05,
        "count": 0.1,
        "boxes": 1.0,
        "scores": 0.05,
        "relative": 0.02,
    },
}


def compare_labels(outputs, reference):
    """Figures of segmentation: `other_labels`, `margin` and `confidence`.

    Args:
        outputs: dict of `labels` uint8 [B, H, W] and `confidence` float32 [B, H, W].
        reference: probabilities, float [B, H, W, C].

    `other_labels` is the share of pixels whose label is not the most probable one; `margin` by how
    much, in probability, the reference prefers its own there: little if two classes are equal but
    for rounding. `confidence` is its largest difference at any pixel, whatever the label.
    Raises: ValueError if the shapes do not match.
    """
    labels, confidence = outputs["labels"], outputs["confidence"]
    _check_shape("labels", labels, reference.shape[:-1])
    _check_shape("confidence", confidence, reference.shape[:-1])
    best = reference.max(axis=-1)  # [B, H, W]
    valid = labels < reference.shape[-1]
    index = np.where(valid, labels, 0).astype(int)
    given = np.take_along_axis(reference, index[..., None], axis=-1)[..., 0]  # [B, H, W]
    return {
        "other_labels": float(np.mean(labels != reference.argmax(axis=-1))),
        "margin": float(np.max(best - np.where(valid, given, 0))),
        "confidence": float(np.max(np.abs(best - confidence))),
    }


def compare_raw(raw, reference):
    """Largest difference of two float arrays: `absolute`, and `relative` to the largest value.

    Raises: ValueError if the shapes do not match.
    """
    _check_shape("raw output", raw, reference.shape)
    reference = reference.astype(np.float64)
    difference = np.max(np.abs(raw - reference))
    largest = max(np.max(np.abs(reference)), 1e-30)  # all zeros: no share of it is small
    return {"absolute": float(difference), "relative": float(difference / largest)}


def compare_detections(outputs, reference):
    """Figures of detection: of the sets of boxes, not of their rows.

    Args:
        outputs, reference: dicts of `boxes` float32 [B, D, 4], xyxy in pixels, `scores` float32
            [B, D], the reference's the best first, `classes` int32 [B, D] and `num_detections`
            int32 [B].

    The reference's detections, the best first, take the one of their class that they overlap most,
    from SAME_BOX on. Those well above LEAST_SCORE and the cut are `sought` (their number); `missed`
    is the share of them that found none, `invented` the share of such outputs that nobody took.
    Of the found, `boxes` is the difference (of any side, in pixels) that a share MOST of them keep,
    `largest_box` and `scores` are the largest ones. `count` is the largest difference of
    `num_detections` as a share of D.
    Raises: ValueError if the shapes do not match.
    """
    for name, values in reference.items():
        _check_shape(name, outputs[name], values.shape)
    sought, missed, high, invented = [], [], [], []
    boxes, scores = [], []  # differences of the found
    for image in range(len(reference["scores"])):
        ours, theirs = _detections(outputs, image), _detections(reference, image)
        level = max(LEAST_SCORE, reference["scores"][image, -1] + CUT_MARGIN)
        partner = _partners(theirs, ours)  # [N], -1 for none
        is_sought, is_high = theirs["scores"] >= level, ours["scores"] >= level
        is_alone = ~np.isin(np.arange(len(is_high)), partner)
        pairs = np.flatnonzero(is_sought & (partner >= 0))
        found = {name: values[partner[pairs]] for name, values in ours.items()}
        boxes.extend(np.abs(found["boxes"] - theirs["boxes"][pairs]).max(axis=-1))
        scores.extend(np.abs(found["scores"] - theirs["scores"][pairs]))
        sought.append(is_sought.sum())
        missed.append(is_sought.sum() - len(pairs))
        high.append(is_high.sum())
        invented.append((is_high & is_alone).sum())
    counts = np.abs(outputs["num_detections"].astype(int) - reference["num_detections"])
    return {
        "sought": float(sum(sought)),
        "missed": float(sum(missed) / max(1, sum(sought))),
        "invented": float(sum(invented) / max(1, sum(high))),
        "count": float(counts.max() / reference["scores"].shape[1]),
        "boxes": float(np.quantile(boxes or [0.0], MOST, method="lower")),
        "largest_box": float(max(boxes, default=0.0)),
        "scores": float(np.max(scores, initial=0.0)),
    }


def exceeded(figures, precision):
    """A phrase for each figure beyond what rounding explains; none if the outputs agree.

    `precision`: "float32" or "float16", of the exported model.
    """
    return [
        f"{MEANINGS[name]}: {figures[name]:.3g}, expected at most {limit:g} in {precision}"
        for name, limit in TOLERANCES[precision].items()
        if name in figures and not figures[name] <= limit  # NaN is beyond, too
    ]


def _check_shape(name, values, shape):
    if values.shape != shape:
        raise ValueError(
            f"The {name} of both models must have one shape to be compared, expected "
            f"{list(shape)}, received {list(values.shape)}."
        )


def _detections(outputs, image):
    """The detections of one image of a batch, without the rows after the last."""
    count = outputs["num_detections"][image]
    return {name: outputs[name][image, :count] for name in ("boxes", "scores", "classes")}


def _partners(theirs, ours):
    """For each of `theirs` [N] the row of the same detection in `ours` [M], or -1: int [N]."""
    overlaps = iou(_grown(theirs["boxes"]), _grown(ours["boxes"]))  # [N, M]
    same = (overlaps >= SAME_BOX) & (theirs["classes"][:, None] == ours["classes"])
    overlaps = np.where(same, overlaps, 0)
    partners = np.full(len(overlaps), -1)
    for row in range(len(overlaps)):
        if overlaps[row].any():
            partners[row] = overlaps[row].argmax()
            overlaps[:, partners[row]] = 0
    return partners


def _grown(boxes):
    """Boxes larger by half a pixel a side, so that those without area overlap themselves."""
    return boxes + np.array([-0.5, -0.5, 0.5, 0.5], np.float32)
