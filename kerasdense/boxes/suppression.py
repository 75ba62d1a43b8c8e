"""From the raw output of an SSD to detections: the same code evaluates, predicts and is exported.

All of it is TensorFlow, which is imported where it is used.
B batch, A anchors, C classes, K candidates, D detections.
"""

import numpy as np

from kerasdense.boxes import geometry

# Liu et al. 2016, sec. 2.4 (inference) and 3.1
LEAST_SCORE = 0.01
CANDIDATES = 400  # of each class and image, the best by score, before non-maximum suppression
OVERLAP = 0.45  # IoU above which the lower score is suppressed
DETECTIONS = 200  # kept of each image, the best of all classes


def decode_detections(raw, anchors, portable=False):
    """Detections of a batch: decoded, the best of each class, non-maximum suppression by class.

    Args:
        raw: output of `models.ssd`, float32 [B, A, C + 1 + 4]: logits, background first, and
            encoded offsets. A NumPy array, or a tensor of TensorFlow.
        anchors: float32 [A, 4] of the model, see `models.ssd.anchors_of`.
        portable: use only operations that XLA and the converters for other runtimes know. The
            same detections (of those of equal score others may be taken), somewhat slower.

    Returns a dict of tensors, best scores first, zeros after the last detection:
        `boxes` float32 [B, 200, 4], xyxy relative to the image and inside it; `scores` float32
        [B, 200]; `classes` int32 [B, 200], 0 for the first class after the background;
        `num_detections` int32 [B].

    Reference: Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016, sec. 2.4.
    """
    import tensorflow as tf

    raw = tf.cast(raw, tf.float32)
    scores = tf.nn.softmax(raw[..., :-4])[..., 1:]  # [B, A, C]
    candidates = min(CANDIDATES, scores.shape[1])
    scores, indices = tf.math.top_k(tf.transpose(scores, [0, 2, 1]), candidates)  # [B, C, K]
    boxes = geometry.decode(raw[..., -4:], anchors)  # [B, A, 4]
    found = tf.gather(boxes, indices, batch_dims=1)  # [B, C, K, 4]
    # Clipped before the suppression, as in the authors' code: overlaps are those inside the image.
    found = geometry.clip(found)
    return (_suppress_portably if portable else _suppress)(found, scores)


def _suppress(found, scores):
    """Non-maximum suppression of boxes [B, C, K, 4] and their scores [B, C, K], the best first."""
    import tensorflow as tf

    kept = tf.image.combined_non_max_suppression(
        tf.transpose(found, [0, 2, 1, 3]),
        tf.transpose(scores, [0, 2, 1]),
        max_output_size_per_class=scores.shape[2],
        max_total_size=DETECTIONS,
        iou_threshold=OVERLAP,
        score_threshold=LEAST_SCORE,
    )
    return {
        "boxes": kept.nmsed_boxes,
        "scores": kept.nmsed_scores,
        "classes": tf.cast(kept.nmsed_classes, tf.int32),
        "num_detections": kept.valid_detections,
    }


def _suppress_portably(found, scores):
    """The same by operators that every converter and XLA take.

    What all runtimes have suppresses boxes of a single class, so classes take turns.
    """
    import tensorflow as tf

    classes, candidates = scores.shape[1:]
    found = tf.reshape(found, [-1, candidates, 4])  # [B C, K, 4]
    scores = tf.reshape(scores, [-1, candidates])  # [B C, K]
    # LiteRT keeps a box without area again and again: these get a square outside the image each,
    # so that they too suppress nothing.
    left = 2 + 2 * np.arange(candidates, dtype=np.float32)
    squares = np.stack([left, 0 * left, left + 1, 0 * left + 1], axis=-1)  # [K, 4]
    boxes = tf.where(geometry.area(found)[..., None] > 0, found, squares)
    kept, counts = tf.map_fn(
        # Not by `tf.image`, whose padded one is a loop of TensorFlow's own, and whose other one has
        # as many outputs as there are: LiteRT pads these nevertheless.
        lambda of_class: tuple(
            tf.raw_ops.NonMaxSuppressionV4(
                boxes=of_class[0],
                scores=of_class[1],
                max_output_size=candidates,
                iou_threshold=OVERLAP,
                score_threshold=LEAST_SCORE,
                pad_to_max_output_size=True,
            )
        ),
        (boxes, scores),
        fn_output_signature=(tf.TensorSpec([candidates], tf.int32), tf.TensorSpec([], tf.int32)),
    )  # [B C, K], [B C]
    padding = tf.range(candidates) >= counts[:, None]
    scores = tf.where(padding, 0.0, tf.gather(scores, kept, batch_dims=1))
    found = tf.gather(found, kept, batch_dims=1)

    rows = classes * candidates
    short = max(DETECTIONS - rows, 0)  # a toy's few candidates
    scores = tf.pad(tf.reshape(scores, [-1, rows]), [[0, 0], [0, short]])
    found = tf.pad(tf.reshape(found, [-1, rows, 4]), [[0, 0], [0, short], [0, 0]])
    scores, best = tf.math.top_k(scores, DETECTIONS)  # [B, D]
    meant = scores > 0
    return {
        "boxes": tf.where(meant[..., None], tf.gather(found, best, batch_dims=1), 0.0),
        "scores": scores,
        "classes": tf.where(meant, best // candidates, 0),
        "num_detections": tf.reduce_sum(tf.cast(meant, tf.int32), axis=-1),
    }
