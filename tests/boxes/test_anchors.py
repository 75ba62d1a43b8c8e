"""Anchors by hand, matching against its definition, and targets that decode to the objects."""

import numpy as np
import pytest
import tensorflow as tf

from kerasdense.boxes import geometry
from kerasdense.boxes.anchors import encode_targets, match, ssd300_anchors, ssd512_anchors

# (first anchor, cells a side, anchors a cell) of each level
SSD300_LEVELS = [(0, 38, 4), (5776, 19, 6), (7942, 10, 6), (8542, 5, 6), (8692, 3, 4), (8728, 1, 4)]


def random_objects(count, seed=0):
    rng = np.random.default_rng(seed)
    sizes = rng.uniform(0.02, 0.7, (count, 2))
    corners = rng.uniform(0, 1 - sizes)
    labels = rng.integers(0, 20, count)
    return np.concatenate([corners, corners + sizes], axis=1).astype("float32"), labels


def test_the_number_of_anchors():
    # 38^2 4 + 19^2 6 + 10^2 6 + 5^2 6 + 3^2 4 + 4
    assert 5776 + 2166 + 600 + 150 + 36 + 4 == 8732
    # 64^2 4 + (32^2 + 16^2 + 8^2 + 4^2) 6 + (2^2 + 1) 4
    assert 16384 + 6144 + 1536 + 384 + 96 + 16 + 4 == 24564
    for scales in ("voc", "coco"):
        for clip in (False, True):
            assert ssd300_anchors(scales, clip).shape == (8732, 4)
            assert ssd512_anchors(scales, clip).shape == (24564, 4)
    assert ssd300_anchors().dtype == ssd512_anchors().dtype == np.float32


def test_the_first_cell_of_ssd300():
    # Cells are 8 pixels apart, so the first center is at 4 of 300. The squares have 30 and
    # sqrt(30 60) pixels; ratio 2 stretches 30 by sqrt(2) one way and shrinks it the other way.
    root = np.sqrt(2)
    shapes = [(30, 30), (np.sqrt(1800),) * 2, (30 * root, 30 / root), (30 / root, 30 * root)]
    expected = [[4 / 300, 4 / 300, width / 300, height / 300] for width, height in shapes]
    np.testing.assert_allclose(ssd300_anchors()[:4], expected, rtol=1e-6)


def test_the_order_of_ratios_with_three():
    # Level 2: 19 cells 16 pixels apart, sizes 60 and 111. Ratios 2, 1/2, 3, 1/3.
    ratios = np.array([1, 1, 2, 1 / 2, 3, 1 / 3])
    side = np.array([60, np.sqrt(60 * 111), 60, 60, 60, 60])
    cell = ssd300_anchors()[5776 : 5776 + 6] * 300
    np.testing.assert_allclose(cell[:, :2], 8, rtol=1e-6)
    np.testing.assert_allclose(cell[:, 2] / cell[:, 3], ratios, rtol=1e-5)
    np.testing.assert_allclose(cell[:, 2] * cell[:, 3], side**2, rtol=1e-5)


def test_rows_come_before_columns():
    anchors = ssd300_anchors()
    for first, cells, k in SSD300_LEVELS:
        level = anchors[first : first + cells * cells * k].reshape(cells, cells, k, 4)
        assert np.all(level[..., 0] == level[:1, :, :1, 0])  # x: the same in every row
        assert np.all(level[..., 1] == level[:, :1, :1, 1])  # y: the same in every column
        if cells > 1:
            assert np.all(np.diff(level[0, :, 0, 0]) > 0) and np.all(np.diff(level[:, 0, 0, 1]) > 0)


def test_the_scales_of_each_model():
    expected = {
        (ssd300_anchors, "voc", 300): (30, 60, 111, 162, 213, 264),
        (ssd300_anchors, "coco", 300): (21, 45, 99, 153, 207, 261),
        (ssd512_anchors, "voc", 512): (35.84, 76.8, 153.6, 230.4, 307.2, 384, 460.8),
        (ssd512_anchors, "coco", 512): (20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8),
    }
    levels = {
        ssd300_anchors: SSD300_LEVELS,
        ssd512_anchors: list(
            zip((0, 16384, 22528, 24064, 24448, 24544, 24560), (64, 32, 16, 8, 4, 2, 1))
        ),
    }
    for (function, scales, image_size), sizes in expected.items():
        firsts = [level[0] for level in levels[function]]
        np.testing.assert_allclose(function(scales)[firsts, 2] * image_size, sizes, rtol=1e-6)
    # The last square of all: of sizes 264 and 315, 460.8 and 537.6 (VOC).
    np.testing.assert_allclose(ssd300_anchors()[-3, 2] * 300, np.sqrt(264 * 315), rtol=1e-6)
    np.testing.assert_allclose(ssd512_anchors()[-3, 2] * 512, np.sqrt(460.8 * 537.6), rtol=1e-6)


def test_the_last_level_has_one_cell_in_the_middle():
    for anchors in (ssd300_anchors(), ssd512_anchors()):
        np.testing.assert_allclose(anchors[-4:, :2], 0.5)


def test_clipping_changes_sides_above_one_only():
    plain, clipped = ssd300_anchors("coco"), ssd300_anchors("coco", clip=True)
    np.testing.assert_array_equal(
        clipped, np.concatenate([plain[:, :2], np.minimum(plain[:, 2:], 1)], 1)
    )
    assert plain[:, 2:].max() > 1 and clipped[:, 2:].max() == 1  # 261 sqrt(2) = 369 of 300 pixels


def test_unknown_scales():
    with pytest.raises(ValueError, match=r"expected one of \('voc', 'coco'\), received 'mot'"):
        ssd300_anchors("mot")


# Matching


def greedy(overlaps):
    """The definition, written out: {object: anchor} of the first step. overlaps: [N, A]."""
    pairs = np.argwhere(overlaps > 0)
    order = np.lexsort((pairs[:, 1], pairs[:, 0], -overlaps[tuple(pairs.T)]))
    partners, taken = {}, set()
    for row, column in pairs[order]:
        if row not in partners and column not in taken:
            partners[row] = column
            taken.add(column)
    return partners


def matched_by_definition(boxes, anchors):
    result = np.full(len(anchors), -1)
    if len(boxes):
        overlaps = np.asarray(
            geometry.iou(tf.constant(boxes), geometry.xyxy_from_center_xywh(anchors))
        )
        result = np.where(overlaps.max(axis=0) >= 0.5, overlaps.argmax(axis=0), -1)
        for row, column in greedy(overlaps).items():
            result[column] = row
    return result


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [1, 3, 20, 60])
def test_matching_is_what_its_definition_says(count, seed):
    boxes, _ = random_objects(count, seed)
    anchors = ssd300_anchors()
    actual = match(boxes, anchors).numpy()
    assert actual.dtype == np.int32
    np.testing.assert_array_equal(actual, matched_by_definition(boxes, anchors))


@pytest.mark.parametrize("seed", range(5))
def test_matching_with_few_anchors_and_many_conflicts(seed):
    """30 objects for 40 anchors, coordinates on a coarse grid: refusals in chains, and ties."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 6, (30, 2))
    boxes = np.concatenate([corners, corners + rng.integers(1, 3, (30, 2))], 1) / np.float32(8)
    boxes = boxes.astype("float32")
    anchors = np.concatenate([rng.integers(1, 8, (40, 2)), rng.integers(1, 4, (40, 2))], 1) / 8
    anchors = anchors.astype("float32")
    actual = match(boxes, anchors).numpy()
    np.testing.assert_array_equal(actual, matched_by_definition(boxes, anchors))
    assert len(set(actual)) > 10


def test_the_better_object_keeps_the_anchor_and_the_other_takes_its_next_best():
    anchors = np.array(
        [[0.3, 0.5, 0.4, 0.4], [0.42, 0.5, 0.4, 0.4], [0.9, 0.1, 0.1, 0.1]], "float32"
    )
    first = [0.12, 0.3, 0.5, 0.7]  # inside anchor 0, (0.1 .. 0.5): 0.38 / 0.4
    second = [0.1, 0.3, 0.5, 0.7]  # is anchor 0
    # With anchor 1, (0.22 .. 0.62), the first has 0.28 of 0.12 .. 0.62 in common: 0.56.
    np.testing.assert_array_equal(match(np.array([second, first], "float32"), anchors), [0, 1, -1])
    np.testing.assert_array_equal(match(np.array([first, second], "float32"), anchors), [1, 0, -1])


def test_an_object_gets_its_best_anchor_even_below_one_half():
    anchors = ssd300_anchors()
    small = np.array([[0.51, 0.51, 0.52, 0.53]], "float32")
    objects = match(small, anchors).numpy()
    overlaps = geometry.iou(geometry.xyxy_from_center_xywh(anchors), small)[:, 0]
    assert overlaps.max() < 0.5 and np.sum(objects >= 0) == 1
    assert overlaps[objects == 0] == overlaps.max()


def test_every_place_in_the_image_has_anchors():
    """An object of one pixel, here or there: so no object of an image remains without."""
    for anchors, side in ((ssd300_anchors(), 300), (ssd512_anchors("coco"), 512)):
        line = np.linspace(0, side - 1, 10)
        corner = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
        pixels = (np.concatenate([corner, corner + 1], axis=1) / side).astype("float32")
        overlaps = geometry.iou(pixels, geometry.xyxy_from_center_xywh(anchors))
        assert np.all(overlaps.max(axis=1) > 0)


def test_equal_objects_get_an_anchor_each():
    boxes = np.tile(np.array([[0.2, 0.2, 0.6, 0.7]], "float32"), (12, 1))
    anchors = ssd300_anchors()
    objects = match(boxes, anchors).numpy()
    assert set(objects) == {-1, *range(12)}
    # The earlier object takes the better anchor; what else overlaps by half belongs to the first.
    overlaps = geometry.iou(boxes[:1], geometry.xyxy_from_center_xywh(anchors))[0]
    forced = [overlaps[objects == index].max() for index in range(1, 12)]
    assert sorted(forced, reverse=True) == forced
    assert np.sum(objects >= 0) == max(12, np.sum(overlaps >= 0.5))


def test_objects_without_area_match_nothing():
    boxes = np.array([[0.5, 0.5, 0.5, 0.5], [0.2, 0.2, 0.5, 0.5], [0.9, 0.1, 0.9, 0.9]], "float32")
    assert set(match(boxes, ssd300_anchors()).numpy()) == {-1, 1}


# Targets


def both_ways(boxes, labels, anchors):
    """Targets inside tf.data; eager ones must be equal."""
    dataset = tf.data.Dataset.from_tensors((boxes, labels))
    dataset = dataset.map(lambda boxes, labels: encode_targets(boxes, labels, anchors))
    assert dataset.element_spec == tf.TensorSpec((len(anchors), 5), tf.float32)
    targets = next(iter(dataset)).numpy()
    np.testing.assert_allclose(
        targets, encode_targets(boxes, labels, anchors), rtol=1e-5, atol=1e-5
    )
    return targets


@pytest.mark.parametrize("anchors", [ssd300_anchors("coco", clip=True), ssd512_anchors()])
def test_targets_decode_to_the_objects(anchors):
    boxes, labels = random_objects(20)
    targets = both_ways(boxes, labels, anchors)
    objects = match(boxes, anchors).numpy()
    positive = objects >= 0
    np.testing.assert_array_equal(targets[positive, 0], labels[objects[positive]] + 1)
    np.testing.assert_array_equal(targets[~positive], 0)
    decoded = geometry.decode(targets[:, 1:], anchors)[positive]
    np.testing.assert_allclose(decoded, boxes[objects[positive]], atol=1e-5)
    assert set(objects[positive]) == set(range(20))


def test_every_positive_has_half_an_overlap_or_is_an_objects_only_choice():
    boxes, labels = random_objects(20, seed=3)
    anchors = ssd300_anchors()
    positive = encode_targets(boxes, labels, anchors).numpy()[:, 0] > 0
    overlaps = geometry.iou(boxes, geometry.xyxy_from_center_xywh(anchors))
    assert np.all(positive[overlaps.max(axis=0) >= 0.5])
    forced = positive & (overlaps.max(axis=0) < 0.5)
    assert 0 < forced.sum() <= 20


def test_targets_of_an_image_without_objects():
    none = np.zeros((0, 4), "float32"), np.zeros(0, "int64")
    np.testing.assert_array_equal(both_ways(*none, ssd300_anchors()), np.zeros((8732, 5)))


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_labels_of_every_integer_type(dtype):
    boxes, labels = random_objects(3)
    targets = both_ways(boxes, labels.astype(dtype), ssd300_anchors())
    assert set(targets[:, 0]) == {0, *(labels + 1)}


def test_hundreds_of_objects_of_which_many_coincide():
    boxes, labels = random_objects(150)
    boxes, labels = np.concatenate([boxes, boxes]), np.concatenate([labels, labels])
    targets = both_ways(boxes, labels, ssd300_anchors())
    assert np.all(np.isfinite(targets))
    assert set(match(boxes, ssd300_anchors()).numpy()) == {-1, *range(300)}


def test_targets_compile_once_for_any_number_of_objects():
    def samples():
        for count in (0, 1, 5, 0, 17):
            yield random_objects(count)

    dataset = tf.data.Dataset.from_generator(
        samples,
        output_signature=(tf.TensorSpec((None, 4)), tf.TensorSpec((None,), tf.int64)),
    )
    dataset = dataset.map(lambda *sample: encode_targets(*sample, ssd300_anchors())).batch(5)
    counts = tf.reduce_sum(tf.cast(next(iter(dataset))[..., 0] > 0, tf.int32), axis=1).numpy()
    assert counts[0] == counts[3] == 0 and counts[1] >= 1 and counts[2] >= 5 and counts[4] >= 17
