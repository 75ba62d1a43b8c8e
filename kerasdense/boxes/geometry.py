"""Geometry of boxes: overlap, formats, and the encoding that SSD regresses.

Boxes are `xyxy` = (left, top, right, bottom), float32, relative to the image (0 to 1); anchors
are `center_xywh` = (center x, center y, width, height), likewise. Every function takes NumPy
arrays (and returns NumPy), TensorFlow tensors (in tf.data, which is TensorFlow's under every
Keras backend) or tensors of the Keras backend.
Legend: N, M boxes; A anchors.
"""

import sys

import numpy as np

# Offsets are divided by these, so that all four have deviations near 1 (Liu et al. 2016; the
# values are those of the authors' published code).
VARIANCES = (0.1, 0.1, 0.2, 0.2)

# Sides below this are encoded as this, for a finite logarithm: far below a pixel of any image.
SMALLEST_SIDE = 1e-6
SMALLEST_UNION = 1e-30  # far below the area of such a box: what 0 is divided by instead of 0


def area(boxes):
    """Area of each box: [..., 4] to [...]; 0 where right < left or bottom < top."""
    space = _namespace(boxes)
    zero = np.float32(0)
    width = space.maximum(boxes[..., 2] - boxes[..., 0], zero)
    height = space.maximum(boxes[..., 3] - boxes[..., 1], zero)
    return width * height


def iou(boxes1, boxes2):
    """Intersection over union of all pairs: [..., N, 4] and [..., M, 4] to [..., N, M].

    Between 0 and 1; 0, not NaN, where both boxes have no area.
    """
    space = _namespace(boxes1, boxes2)
    rows = boxes1[..., :, None, :]  # [..., N, 1, 4]
    columns = boxes2[..., None, :, :]  # [..., 1, M, 4]
    left, top = (space.maximum(rows[..., side], columns[..., side]) for side in (0, 1))
    right, bottom = (space.minimum(rows[..., side], columns[..., side]) for side in (2, 3))
    zero = np.float32(0)
    intersection = space.maximum(right - left, zero) * space.maximum(bottom - top, zero)
    union = area(boxes1)[..., :, None] + area(boxes2)[..., None, :] - intersection
    return intersection / space.maximum(union, np.float32(SMALLEST_UNION))


def clip(boxes):
    """Boxes [..., 4] cut at the image's borders, 0 and 1."""
    space = _namespace(boxes)
    return space.minimum(space.maximum(boxes, np.float32(0)), np.float32(1))


def center_xywh_from_xyxy(boxes):
    """(left, top, right, bottom) to (center x, center y, width, height): [..., 4]."""
    left, top, right, bottom = _columns(boxes)
    columns = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
    return _namespace(boxes).stack(columns, axis=-1)


def xyxy_from_center_xywh(boxes):
    """(center x, center y, width, height) to (left, top, right, bottom): [..., 4]."""
    x, y, width, height = _columns(boxes)
    columns = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    return _namespace(boxes).stack(columns, axis=-1)


def encode(boxes, anchors):
    """Offsets [..., A, 4] that lead from each anchor to its box; `decode` is the inverse.

    Args:
        boxes: [..., A, 4], xyxy, one for each anchor. Sides below 1e-6 count as 1e-6.
        anchors: [A, 4], center_xywh.

    The center's offset is in sides of the anchor, the size's is the logarithm of the ratio, both
    divided by VARIANCES.

    Reference: Liu et al., "SSD: Single shot multibox detector", ECCV 2016, sec. 2.2.
    """
    space = _namespace(boxes, anchors)
    x, y, width, height = _columns(center_xywh_from_xyxy(boxes))
    anchor_x, anchor_y, anchor_width, anchor_height = _columns(anchors)
    smallest = np.float32(SMALLEST_SIDE)
    columns = [
        (x - anchor_x) / anchor_width / VARIANCES[0],
        (y - anchor_y) / anchor_height / VARIANCES[1],
        space.log(space.maximum(width, smallest) / anchor_width) / VARIANCES[2],
        space.log(space.maximum(height, smallest) / anchor_height) / VARIANCES[3],
    ]
    return space.stack(columns, axis=-1)


def decode(offsets, anchors):
    """Boxes [..., A, 4], xyxy, from offsets [..., A, 4] and anchors [A, 4], center_xywh."""
    space = _namespace(offsets, anchors)
    x, y, width, height = _columns(offsets)
    anchor_x, anchor_y, anchor_width, anchor_height = _columns(anchors)
    columns = [
        anchor_x + x * VARIANCES[0] * anchor_width,
        anchor_y + y * VARIANCES[1] * anchor_height,
        anchor_width * space.exp(width * VARIANCES[2]),
        anchor_height * space.exp(height * VARIANCES[3]),
    ]
    return xyxy_from_center_xywh(space.stack(columns, axis=-1))


def _columns(boxes):
    return [boxes[..., index] for index in range(4)]


def _namespace(*arrays):
    """The library whose functions compute on these arrays."""
    if all(isinstance(array, np.ndarray) for array in arrays):
        return np
    tensorflow = sys.modules.get("tensorflow")  # where it is not loaded, there is no tensor of it
    if tensorflow and any(tensorflow.is_tensor(array) for array in arrays):
        return tensorflow.experimental.numpy
    import keras  # only here: measuring detections is NumPy's work, and starts in no time

    return keras.ops
