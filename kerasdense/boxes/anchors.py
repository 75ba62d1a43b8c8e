"""SSD's anchors (the paper's "default boxes"), their matching with objects, and the targets.

Reference: Liu et al., "SSD: Single shot multibox detector", ECCV 2016 (sec. 2.2 and 3), and the
authors' published configurations. Legend: A anchors, N objects of one image.
"""

import dataclasses
import math

import numpy as np

from kerasdense.boxes import geometry

MATCHED_IOU = 0.5  # Liu et al. 2016, sec. 2.2


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where a model's anchors lie.

    Attributes:
        image_size: side of the input, pixels.
        map_sizes: side of each level's feature map, cells.
        steps: distance of a level's cells, pixels.
        sizes: {scales: sides of the square anchors, pixels}, one more than there are levels.
        ratios: width / height of each level's oblong anchors, which also come upright.
    """

    image_size: int
    map_sizes: tuple
    steps: tuple
    sizes: dict
    ratios: tuple

    @property
    def anchors_per_cell(self):
        """Anchors in a cell of each level: two squares, and two of each ratio."""
        return tuple(2 + 2 * len(ratios) for ratios in self.ratios)


# Liu et al. 2016, sec. 3 and 3.1-3.4; sizes and steps as in the authors' published configurations.
LAYOUTS = {
    "ssd300": Layout(
        image_size=300,
        map_sizes=(38, 19, 10, 5, 3, 1),
        steps=(8, 16, 32, 64, 100, 300),
        sizes={
            "voc": (30, 60, 111, 162, 213, 264, 315),
            "coco": (21, 45, 99, 153, 207, 261, 315),
        },
        ratios=((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
    ),
    "ssd512": Layout(
        image_size=512,
        map_sizes=(64, 32, 16, 8, 4, 2, 1),
        steps=(8, 16, 32, 64, 128, 256, 512),
        sizes={
            "voc": (35.84, 76.8, 153.6, 230.4, 307.2, 384, 460.8, 537.6),
            "coco": (20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72),
        },
        ratios=((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,)),
    ),
}


def ssd300_anchors(scales="voc", clip=False):
    """Anchors of SSD300: float32 [8732, 4], center_xywh relative to the image; order: `anchors`.

    Args:
        scales: "voc", or "coco" with smaller anchors.
        clip: whether widths and heights above the image's are cut to it, as torchvision does.

    Raises:
        ValueError: for other scales.
    """
    return anchors("ssd300", scales, clip)


def ssd512_anchors(scales="voc", clip=False):
    """Anchors of SSD512: float32 [24564, 4], as `ssd300_anchors` otherwise."""
    return anchors("ssd512", scales, clip)


def anchors(name, scales, clip):
    """Anchors of the layout `name` of LAYOUTS; arguments and errors as of `ssd300_anchors`.

    Level by level, row by row; in a cell: the square of size s_k, that of sqrt(s_k s_k+1), then
    the ratios 2, 1/2, 3, 1/3 at the area of s_k.
    """
    layout = LAYOUTS[name]
    if scales not in layout.sizes:
        raise ValueError(f"scales: expected one of {tuple(layout.sizes)}, received {scales!r}")
    sizes = layout.sizes[scales]
    levels = []
    for level, (cells, step) in enumerate(zip(layout.map_sizes, layout.steps)):
        size, next_size = sizes[level : level + 2]
        mean_size = math.sqrt(size * next_size)
        shapes = [(size, size), (mean_size, mean_size)]
        for ratio in layout.ratios[level]:
            long, short = size * math.sqrt(ratio), size / math.sqrt(ratio)
            shapes += [(long, short), (short, long)]
        centers = (np.arange(cells) + 0.5) * step
        grid = np.empty((cells, cells, len(shapes), 4))
        grid[..., 0] = centers[None, :, None]
        grid[..., 1] = centers[:, None, None]
        grid[..., 2:] = shapes
        levels.append(grid.reshape(-1, 4))
    found = np.concatenate(levels) / layout.image_size  # [A, 4]
    if clip:
        found[:, 2:] = np.minimum(found[:, 2:], 1)
    return found.astype(np.float32)


def match(boxes, anchors):
    """The object that each anchor is to predict: int32 [A], -1 for none. TensorFlow.

    Args:
        boxes: float32 [N, 4], xyxy; N may be 0.
        anchors: np.float32 [A, 4], center_xywh.

    First every object gets one anchor: pairs of an object and an anchor are taken in the order of
    falling IoU (among equals, of the object, then of the anchor), and a pair is kept if neither
    has a partner yet and they overlap. So no object loses its anchor to an object that overlaps
    it less; only where all anchors that overlap an object are better used does it get none. Then
    every other anchor gets the object of its highest IoU (the first among equals), if that is at
    least 0.5.

    Reference: Liu et al. 2016, sec. 2.2.
    """
    import tensorflow as tf

    # A box without area, which matches nothing: so there is a row also where there is no object.
    boxes = tf.concat([tf.reshape(boxes, (-1, 4)), tf.zeros((1, 4))], axis=0)  # [N+1, 4]
    overlaps = geometry.iou(boxes, geometry.xyxy_from_center_xywh(anchors))  # [N+1, A]
    matched = tf.where(tf.reduce_max(overlaps, axis=0) >= MATCHED_IOU)  # [P, 1]
    objects = tf.argmax(tf.gather(overlaps, matched[:, 0], axis=1), output_type=tf.int32)  # [P]
    # int32 [A]; anchors of the first step overwrite those of the second.
    result = tf.tensor_scatter_nd_update(tf.fill([len(anchors)], -1), matched, objects)
    chosen, found = _one_anchor_each(overlaps)
    objects = tf.where(found)  # [M, 1]
    chosen = tf.gather(chosen, objects)  # [M, 1]
    return tf.tensor_scatter_nd_update(result, chosen, tf.cast(objects[:, 0], tf.int32))


def encode_targets(boxes, labels, anchors):
    """What the model is to predict for one image: float32 [A, 5]. TensorFlow, for tf.data.

    Args:
        boxes: float32 [N, 4], xyxy relative to the image; N may be 0.
        labels: int [N], 0-based classes.
        anchors: np.float32 [A, 4], center_xywh.

    The first number is the class, 0 for background and label + 1 for an object; then the four
    offsets of `geometry.encode`, 0 for background.
    """
    import tensorflow as tf

    objects = match(boxes, anchors)  # [A]
    matched = tf.where(objects >= 0)  # [P, 1]
    objects = tf.gather(objects, matched[:, 0])  # [P]
    classes = tf.cast(tf.gather(labels, objects), tf.float32)[:, None] + 1  # [P, 1]
    offsets = geometry.encode(
        tf.gather(tf.reshape(boxes, (-1, 4)), objects), tf.gather(anchors, matched[:, 0])
    )  # [P, 4]
    targets = tf.concat([classes, offsets], axis=-1)  # [P, 5]
    return tf.tensor_scatter_nd_update(tf.zeros((len(anchors), 5)), matched, targets)  # [A, 5]


def _one_anchor_each(overlaps):
    """The anchor of each object, and whether it has one: [N, A] to int32 [N], bool [N].

    Every object asks for its best anchor; of those that ask for the same one, the best keeps it
    and the others go on to their next best; until nobody is refused. That ends with the same
    pairs as taking all pairs in falling order (both are the one stable matching), in as many
    rounds as there are refusals in a row, which are few.
    """
    import tensorflow as tf

    order = tf.range(tf.shape(overlaps)[0])  # [N]
    columns = tf.range(tf.shape(overlaps)[1])  # [A]

    def best(overlaps):
        return tf.argmax(overlaps, axis=1, output_type=tf.int32), tf.reduce_max(overlaps, axis=1)

    def refused(chosen, value):
        same = chosen[:, None] == chosen  # [N, N]
        better = (value > value[:, None]) | ((value == value[:, None]) & (order < order[:, None]))
        return tf.reduce_any(same & better, axis=1) & (value > 0)  # [N]

    def ask_again(chosen, value):
        rows = tf.where(refused(chosen, value))  # [R, 1]
        last_chosen, last_value = tf.gather(chosen, rows), tf.gather(value, rows)  # [R, 1]
        left = tf.gather(overlaps, rows[:, 0])  # [R, A]
        is_left = (left < last_value) | ((left == last_value) & (columns > last_chosen))
        next_chosen, next_value = best(tf.where(is_left, left, 0.0))  # [R]
        return (
            tf.tensor_scatter_nd_update(chosen, rows, next_chosen),
            tf.tensor_scatter_nd_update(value, rows, next_value),
        )

    chosen, value = tf.while_loop(
        lambda chosen, value: tf.reduce_any(refused(chosen, value)), ask_again, best(overlaps)
    )
    return chosen, value > 0
