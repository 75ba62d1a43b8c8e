"""Augmentation ops, each eagerly and in tf.data: geometry, label ids, padding, determinism.

For detection: boxes stay with their objects, chances and constraints hold.
"""

import numpy as np
import pytest
import tensorflow as tf

from kerasdense.data import augment
from kerasdense.metrics.labels import IGNORE


def sample(height=40, width=60, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": tf.constant(rng.integers(0, 256, (height, width, 3)), tf.uint8),
        "mask": tf.constant(rng.choice([0, 15, IGNORE], (height, width, 1)), tf.uint8),
        "file_name": tf.constant("a"),
    }


def both_ways(op, sample, seed=(3, 7)):
    """Applies an op eagerly and inside tf.data, checks that both agree, and returns the result."""
    eager = op(sample, tf.constant(seed, tf.int64))
    dataset = tf.data.Dataset.from_tensors(sample).map(lambda s: op(s, tf.constant(seed, tf.int64)))
    traced = next(iter(dataset))
    for key in eager:
        np.testing.assert_array_equal(eager[key], traced[key])
        assert eager[key].dtype == traced[key].dtype == sample[key].dtype
    return eager, dataset.element_spec


def coordinates(height, width):
    """A sample whose image tells each pixel's row and column, and whose mask its column."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows, columns, np.zeros_like(rows)], axis=-1)
    return {
        "image": tf.constant(image, tf.uint8),
        "mask": tf.constant(columns[..., None], tf.uint8),
    }


def test_scale_crop_has_static_shape_and_keeps_other_entries():
    op = augment.random_scale_crop((32, 48))
    result, spec = both_ways(op, sample())
    assert spec["image"].shape == (32, 48, 3) and spec["mask"].shape == (32, 48, 1)
    assert result["file_name"] == b"a"


@pytest.mark.parametrize("seed", range(8))
def test_scale_crop_invents_no_class(seed):
    result, _ = both_ways(augment.random_scale_crop((32, 48)), sample(), (seed, 1))
    assert set(np.unique(result["mask"])) <= {0, 15, IGNORE}


def test_scale_one_is_a_plain_crop_aligned_in_image_and_mask():
    op = augment.random_scale_crop((16, 24), scales=(1, 1))
    result, _ = both_ways(op, coordinates(40, 60))
    image, mask = result["image"].numpy(), result["mask"].numpy()
    np.testing.assert_array_equal(image[..., 1], mask[..., 0])
    np.testing.assert_array_equal(np.diff(image[..., 0].astype(int), axis=0), 1)
    np.testing.assert_array_equal(np.diff(image[..., 1].astype(int), axis=1), 1)


def test_all_offsets_occur_and_are_about_equally_likely():
    op = augment.random_scale_crop((4, 5), scales=(1, 1))
    # A 6x6 picture leaves 3 row offsets and 2 column offsets: 6 windows.
    source = coordinates(6, 6)
    seeds = tf.data.Dataset.range(1200).map(lambda i: op(source, tf.stack([i, i])))
    corners = [tuple(s["image"].numpy()[0, 0, :2]) for s in seeds]
    windows, counts = np.unique(corners, axis=0, return_counts=True)
    assert {tuple(window) for window in windows} == {(r, c) for r in range(3) for c in range(2)}
    assert counts.min() > 140 and counts.max() < 260  # 200 expected, deviation 13


def test_whole_picture_at_scale_one_is_unchanged():
    source = sample(32, 48)
    result, _ = both_ways(augment.random_scale_crop((32, 48), scales=(1, 1)), source)
    np.testing.assert_array_equal(result["image"], source["image"])
    np.testing.assert_array_equal(result["mask"], source["mask"])


def test_small_picture_is_padded_with_ignore():
    source = {
        "image": tf.fill([10, 10, 3], tf.constant(200, tf.uint8)),
        "mask": tf.fill([10, 10, 1], tf.constant(4, tf.uint8)),
    }
    result, _ = both_ways(augment.random_scale_crop((16, 32), scales=(1, 1)), source)
    mask, image = result["mask"].numpy()[..., 0], result["image"].numpy()
    assert (mask == 4).sum() == 100 and (mask == IGNORE).sum() == 16 * 32 - 100
    assert (image[mask == 4] == 200).all() and (image[mask == IGNORE] == augment.PADDING).all()


def test_upscaling_doubles_structures():
    # Columns 0-29 are class 1, 30-59 class 2: at scale 2 the border still divides 1 from 2.
    mask = np.where(np.arange(60) < 30, 1, 2)[None, :, None].repeat(40, axis=0)
    source = {
        "image": tf.constant(mask.repeat(3, axis=-1) * 100, tf.uint8),
        "mask": tf.constant(mask, tf.uint8),
    }
    result, _ = both_ways(augment.random_scale_crop((80, 120), scales=(2, 2)), source)
    labels = result["mask"].numpy()[..., 0]
    assert (labels[:, :60] == 1).all() and (labels[:, 60:] == 2).all()
    assert (result["image"].numpy()[:, :59] == 100).all()


@pytest.mark.parametrize("target", [(7, 30), (20, 13), (40, 60)])
def test_nearest_is_tensorflows_nearest(target):
    mask = sample()["mask"]
    ours = augment._nearest(mask[..., 0], (5, 9), (30, 45), target)
    reference = tf.image.resize(mask[5:35, 9:54], target, "nearest")[..., 0]
    np.testing.assert_array_equal(ours, reference)


def test_scales_are_log_uniform_within_their_range():
    op = augment.random_scale_crop((8, 8), scales=(0.5, 2))
    # On a 64-pixel ramp, neighbors in the crop differ by 1 / scale source pixels.
    source = coordinates(64, 64)
    rows = np.array([op(source, tf.constant([i, 0]))["image"].numpy()[:, 0, 0] for i in range(200)])
    steps = (rows[:, -1].astype(float) - rows[:, 0]) / 7
    assert 0.4 <= steps.min() < 0.7 and 1.7 < steps.max() <= 2.2
    assert 0.85 < np.median(steps) < 1.2


def test_flip_mirrors_both_or_neither_and_twice_is_identity():
    source = sample()
    flip = augment.random_flip()
    seen = set()
    for seed in range(10):
        result, _ = both_ways(flip, source, (seed, 0))
        mirrored = not np.array_equal(result["image"], source["image"])
        seen.add(mirrored)
        expected = source["mask"][:, ::-1] if mirrored else source["mask"]
        np.testing.assert_array_equal(result["mask"], expected)
        if mirrored:
            twice = flip(result, tf.constant([seed, 0], tf.int64))
            np.testing.assert_array_equal(twice["image"], source["image"])
    assert seen == {True, False}


def test_photometric_leaves_the_mask_and_gray_level_range():
    source = sample()
    result, _ = both_ways(augment.photometric_jitter(), source)
    np.testing.assert_array_equal(result["mask"], source["mask"])
    assert not np.array_equal(result["image"], source["image"])


def test_photometric_without_strength_changes_nothing():
    reds = np.stack([np.full((16, 16), 194), *np.mgrid[50:66, 50:66]], axis=-1)  # hue around 0
    for image in (sample(200, 300)["image"], tf.constant(reds, tf.uint8)):
        source = {"image": image, "file_name": tf.constant("a")}
        result, _ = both_ways(augment.photometric_jitter(0, 0, 0, 0), source)
        difference = result["image"].numpy().astype(int) - image.numpy()
        assert np.abs(difference).max() <= 1  # a round trip through hue


def test_compose_gives_each_op_a_seed_of_its_own_and_is_reproducible():
    draws = []

    def record(sample, seed):
        draws.append(tuple(seed.numpy()))
        return sample

    augment.compose(record, record)(sample(), tf.constant([1, 2], tf.int64))
    augment.compose(record, record)(sample(), tf.constant([1, 2], tf.int64))
    assert draws[0] != draws[1] and draws[:2] == draws[2:]


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="positive height and width, received 0x5"):
        augment.random_scale_crop((0, 5))
    with pytest.raises(ValueError, match="lowest <= highest, received"):
        augment.random_scale_crop((4, 5), scales=(2, 1))


# --- boxes -------------------------------------------------------------------------------------

# Three objects, each bright in one channel alone, on black: object i is where channel i exceeds
# half of its brightness, also after bilinear resizing. The mean color stays below that half.
BRIGHT, HALF = 255, 127
PIXELS = [[5, 8, 25, 20], [40, 30, 58, 44], [70, 4, 78, 50]]  # xyxy
HEIGHT, WIDTH = 60, 80


def scene():
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for channel, (left, top, right, bottom) in enumerate(PIXELS):
        image[top:bottom, left:right, channel] = BRIGHT
    return {
        "image": tf.constant(image),
        "mask": tf.constant((image > 0) @ np.array([[1], [2], [3]], np.uint8), tf.uint8),
        "boxes": tf.constant(np.array(PIXELS) / [WIDTH, HEIGHT, WIDTH, HEIGHT], tf.float32),
        "labels": tf.constant([0, 1, 2], tf.int64),
        "difficult": tf.constant([False, True, False]),
        "file_name": tf.constant("a"),
    }


def blank(height, width, count=0):
    """A gray picture with `count` random boxes."""
    rng = np.random.default_rng(count)
    corners = rng.random((count, 2)) * 0.9
    boxes = np.concatenate([corners, corners + 0.02 + 0.07 * rng.random((count, 2))], axis=1)
    return {
        "image": tf.fill([height, width, 3], tf.constant(200, tf.uint8)),
        "boxes": tf.constant(boxes.reshape(-1, 4), tf.float32),
        "labels": tf.range(count, dtype=tf.int64),
        "difficult": tf.zeros([count], tf.bool),
    }


def without(sample, *names):
    return {name: value for name, value in sample.items() if name not in names}


def over_seeds(op, sample, count, *names):
    """What `op` makes of `sample` under `count` seeds, or its entries `names`: a list of dicts.

    In tf.data, and under the first seed eagerly as well, which must be the same.
    """

    def apply(number):
        result = op(sample, tf.stack([number, 7]))
        return {name: result[name] for name in names or result}

    dataset = tf.data.Dataset.range(count).map(apply)
    results = list(dataset.as_numpy_iterator())
    for name, value in apply(tf.constant(0, tf.int64)).items():
        np.testing.assert_array_equal(results[0][name], value)
        assert name == "window" or dataset.element_spec[name].dtype == sample[name].dtype
    return results


def windows_over_seeds(op, sample, count):
    return np.array([result["window"] for result in over_seeds(op, sample, count, "window")])


def extent(bright):
    """Rectangle xyxy in pixels around the True pixels of a map [H, W]."""
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def assert_boxes_surround_their_objects(result):
    image, boxes, labels = result["image"], result["boxes"], result["labels"]
    height, width = image.shape[:2]
    assert len(boxes) == len(labels) == len(result["difficult"])
    assert (boxes >= 0).all() and (boxes <= 1).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    np.testing.assert_array_equal(result["difficult"], labels == 1)
    for box, label in zip(boxes, labels):
        seen = extent(image[..., label] > HALF)
        np.testing.assert_allclose(box * [width, height, width, height], seen, atol=1.01)
        if "mask" in result:
            assert np.abs(extent(result["mask"][..., 0] == label + 1) - seen).max() <= 1


GEOMETRY = {
    "warp": augment.warp((97, 113)),
    "expand": augment.compose(augment.random_expand(probability=1), augment.warp((150, 170))),
    "crop": augment.compose(augment.random_iou_crop(), augment.warp((150, 170))),
    "flip": augment.random_flip(),
    "flip before warp": augment.compose(
        augment.random_expand(), augment.random_iou_crop(), augment.random_flip(),
        augment.warp((150, 170)),
    ),
    "crop, then expand": augment.compose(
        augment.random_iou_crop(), augment.random_expand(), augment.warp((150, 170))
    ),
    "scale_crop": augment.random_scale_crop((90, 100), scales=(0.7, 2.0)),
    "all but colors": augment.compose(
        augment.random_expand(), augment.random_iou_crop(), augment.warp((150, 170)),
        augment.random_flip(),
    ),
}  # fmt: skip
CUTTING = ("crop", "flip before warp", "crop, then expand", "scale_crop", "all but colors")


@pytest.mark.parametrize("name", GEOMETRY)
def test_boxes_stay_around_their_objects(name):
    results = over_seeds(GEOMETRY[name], scene(), 40)
    for result in results:
        assert set(result) == set(scene())
        assert_boxes_surround_their_objects(result)
    counts = {len(result["boxes"]) for result in results}
    assert max(counts) == 3
    assert (min(counts) < 3) == (name in CUTTING)


def test_an_object_is_dropped_when_its_center_is_outside_and_clipped_otherwise():
    # From 0.25 of the width on, object 0 (center 0.1875) is out. From column 52 and down to row
    # 30, object 1 (center 49) is out, and object 2 (rows 4 to 50, center 27) is cut.
    cases = [([0.25, 0, 1, 1], [1, 2]), ([52 / 80, 0, 1, 0.5], [2]), ([0, 0, 0.5, 0.5], [0])]
    for window, expected in cases:
        sample = scene() | {"window": tf.constant(window, tf.float32)}
        (result,) = over_seeds(augment.warp((120, 120)), sample, 1)
        np.testing.assert_array_equal(result["labels"], expected)
        assert_boxes_surround_their_objects(result)


def test_warp_leaves_boxes_and_resizes_as_one_function_does():
    op = augment.warp((300, 200))
    result, spec = both_ways(op, without(scene(), "mask"))
    assert spec["image"].shape == (300, 200, 3)
    np.testing.assert_array_equal(result["boxes"], scene()["boxes"])
    alone = augment.resize_image(scene()["image"], (300, 200))
    np.testing.assert_array_equal(result["image"], alone)
    batch = augment.resize_image(tf.stack([scene()["image"], 255 - scene()["image"]]), (300, 200))
    np.testing.assert_array_equal(batch[0], alone)
    assert batch.dtype == tf.uint8


def test_resize_is_bilinear_at_pixel_centers_and_rounds_to_nearest():
    # Two pixels 0 and 255 to four: centers at -0.25, 0.25, 0.75, 1.25 pixels.
    image = tf.constant([[[0, 0, 0], [255, 255, 255]]], tf.uint8)
    result = augment.resize_image(image, (1, 4))[0, :, 0]
    np.testing.assert_array_equal(result, [0, 64, 191, 255])  # 63.75, 191.25


def test_windows_of_the_whole_change_nothing():
    sample = scene() | {"window": tf.constant([0.0, 0.0, 1.0, 1.0])}
    shown = augment.warp((99, 101))(sample, tf.constant([0, 0], tf.int64))
    plain = augment.warp((99, 101))(scene(), tf.constant([0, 0], tf.int64))
    for name in plain:
        np.testing.assert_array_equal(shown[name], plain[name])


def test_flip_twice_is_identity():
    sample = scene() | {"window": tf.constant([-0.25, -0.5, 1.5, 1.25])}
    seen = set()
    for seed in range(8):
        once, _ = both_ways(augment.random_flip(), sample, (seed, 0))
        twice, _ = both_ways(augment.random_flip(), once, (seed, 0))
        seen.add(np.array_equal(once["boxes"], sample["boxes"]))
        for name in ("image", "mask", "labels", "file_name"):
            np.testing.assert_array_equal(twice[name], sample[name])
        for name in ("boxes", "window"):
            np.testing.assert_allclose(twice[name], sample[name], atol=1e-7)
    assert seen == {True, False}


def test_mirrored_boxes_by_hand():
    flip, sample = augment.random_flip(), without(scene(), "mask")
    results = [flip(sample, tf.constant([seed, 0], tf.int64)) for seed in range(8)]
    mirrored = next(r for r in results if not np.array_equal(r["image"], sample["image"]))
    # Columns 5 to 25 of 80 become 55 to 75; rows stay.
    expected = np.array([55 / 80, 8 / 60, 75 / 80, 20 / 60])
    np.testing.assert_allclose(mirrored["boxes"][0], expected, atol=1e-6)


def test_the_canvas_has_the_mean_color_whatever_happens_to_the_picture():
    op = augment.compose(
        augment.random_expand(probability=1),
        augment.warp((64, 64), recolor=augment.photometric_distortion(probability=1)),
    )
    shares = []
    for result in over_seeds(op, scene(), 20):
        canvas = (result["image"] == [123, 117, 104]).all(-1)  # red, green, blue
        np.testing.assert_array_equal(result["mask"][..., 0] == IGNORE, canvas)
        shares.append(1 - canvas.mean())  # of the picture: 1 / ratio^2
    assert 0.05 < min(shares) < 0.1 and 0.5 < max(shares) < 1


def test_recoloring_sees_the_picture_at_its_new_size_alone():
    def inverted(sample, seed):
        return sample | {"image": 255 - sample["image"]}

    sample = scene() | {"window": tf.constant([-1.0, 0.0, 1.0, 1.0])}
    (result,) = over_seeds(augment.warp((60, 160), recolor=inverted), sample, 1)
    np.testing.assert_array_equal(result["image"][:, 80:], 255 - sample["image"])
    np.testing.assert_array_equal(result["image"][:, :80] - np.uint8([123, 117, 104]), 0)


def test_expansion_happens_half_the_time_by_one_to_four():
    windows = windows_over_seeds(augment.random_expand(), blank(6, 8), 400)
    happens = (windows != [0, 0, 1, 1]).any(axis=1)
    assert 160 < happens.sum() < 240  # 200 expected, deviation 10
    windows = windows[happens]
    ratios = windows[:, 2:] - windows[:, :2]
    np.testing.assert_allclose(ratios[:, 0], ratios[:, 1], rtol=1e-5)
    assert 1 <= ratios.min() < 1.2 and 3.8 < ratios.max() <= 4
    assert 2.2 < ratios.mean() < 2.8  # 2.5 expected, deviation 0.06
    assert (windows[:, :2] <= 0).all() and (windows[:, 2:] >= 1).all()
    places = -windows[:, :2] / (ratios - 1)  # of the picture in its slack: uniform in 0 to 1
    assert (np.abs(places.mean(0) - 0.5) < 0.09).all()  # deviation 0.02
    assert places.min() < 0.1 and places.max() > 0.9
    assert abs(np.corrcoef(places.T)[0, 1]) < 0.3  # deviation 0.07


def test_expansion_happens_never_or_always_if_asked():
    for probability, expected in ((0, 0), (1, 40)):
        op = augment.random_expand(probability=probability)
        windows = windows_over_seeds(op, blank(6, 8), 40)
        assert (windows != [0, 0, 1, 1]).any(axis=1).sum() == expected


@pytest.mark.parametrize("least", [0.1, 0.5, 0.7, 0.0])
def test_crops_keep_their_constraints(monkeypatch, least):
    monkeypatch.setattr(augment, "MINIMUM_IOUS", (least,))
    sample = scene() | {"boxes": tf.constant([[0.1, 0.2, 0.8, 0.9], [0.5, 0.5, 0.6, 0.65]])}
    boxes = sample["boxes"].numpy().astype(float)
    windows = windows_over_seeds(augment.random_iou_crop(), sample, 200)
    whole = (windows == [0, 0, 1, 1]).all(axis=1)
    assert 60 < whole.sum() < 140  # two options: 100 expected, deviation 7
    for left, top, right, bottom in windows[~whole].astype(float):
        assert -1e-6 <= left < right <= 1 + 1e-6 and -1e-6 <= top < bottom <= 1 + 1e-6
        width, height = right - left, bottom - top
        assert min(width, height) > 0.2999
        assert 0.4999 < width * WIDTH / (height * HEIGHT) < 2.0001
        x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
        inside = (left < x) & (x < right) & (top < y) & (y < bottom)
        across = np.minimum(boxes[:, 2], right) - np.maximum(boxes[:, 0], left)
        along = np.minimum(boxes[:, 3], bottom) - np.maximum(boxes[:, 1], top)
        common = np.clip(across, 0, None) * np.clip(along, 0, None)
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        ious = common / (areas + width * height - common)
        assert ious[inside].max() > least - 1e-5
    sides = windows[~whole][:, 2:] - windows[~whole][:, :2]
    if least <= 0.1:  # hardly a constraint for so large an object: sides are drawn from 0.3 to 1
        assert sides.min() < 0.4 and sides.max() > 0.9


def test_all_seven_options_of_a_crop_are_alike():
    # The object fills the picture, so IoU = area of the window. Six options are always possible,
    # of 50 windows some reach 0.7; 0.9 may fail: each has a share of 1/7 to 1/6.
    sample = blank(50, 60) | {"boxes": tf.constant([[0.0, 0.0, 1.0, 1.0]])}
    windows = windows_over_seeds(augment.random_iou_crop(), sample, 700)
    areas = np.prod(windows[:, 2:] - windows[:, :2], axis=1)
    whole = (windows == [0, 0, 1, 1]).all(axis=1)
    assert 70 < whole.sum() < 150  # 100 to 117 expected, deviation 10
    assert 20 < (areas[~whole] >= 0.9).sum() < 130  # where 0.9 succeeds, and some of the others
    assert (areas >= 0.7).sum() > 250  # the whole, 0.7 and 0.9 alone: 3/7 of 700 = 300
    assert (areas < 0.3).sum() > 10  # "any" and 0.1 alone leave these
    assert (areas < 0.09).sum() == 0  # 0.3 by 0.3


def test_a_tiny_object_leaves_any_and_the_whole_alike():
    # 0.02 x 0.02 against at least 0.3 x 0.3: IoU at most 0.0045, so two options are left.
    sample = blank(50, 60) | {"boxes": tf.constant([[0.49, 0.49, 0.51, 0.51]])}
    windows = windows_over_seeds(augment.random_iou_crop(), sample, 200)
    whole = (windows == [0, 0, 1, 1]).all(axis=1)
    assert 65 < whole.sum() < 135  # 100 expected, deviation 7


def test_every_crop_of_a_picture_with_objects_keeps_one():
    op = augment.compose(augment.random_expand(), augment.random_iou_crop(), augment.warp((8, 8)))
    for sample in (without(scene(), "mask"), blank(60, 80, 5), blank(48, 64, 1)):
        counts = [len(result["labels"]) for result in over_seeds(op, sample, 100, "labels")]
        assert min(counts) >= 1 and max(counts) == len(sample["labels"])


def test_odd_pictures_pass_through_everything():
    sizes = [(1, 1), (1, 80), (80, 1), (3, 500), (37, 53)]
    samples = [blank(*size, count) for size in sizes for count in (0, 1, 300)]
    shapes = {"image": [None, None, 3], "boxes": [None, 4], "labels": [None], "difficult": [None]}
    signature = {name: tf.TensorSpec(shapes[name], samples[0][name].dtype) for name in shapes}
    op = augment.ssd_augmentation((32, 40))
    dataset = tf.data.Dataset.from_generator(lambda: iter(samples), output_signature=signature)
    dataset = dataset.repeat(10).enumerate()
    results = dataset.map(lambda i, sample: op(sample, tf.stack([i, 3]))).as_numpy_iterator()
    for sample, result in zip(10 * samples, results, strict=True):
        boxes, count = result["boxes"], len(sample["labels"])
        assert result["image"].shape == (32, 40, 3)
        assert len(boxes) == len(result["labels"]) == len(result["difficult"]) <= count
        assert (len(boxes) == 0) == (count == 0)
        assert ((boxes >= 0) & (boxes <= 1)).all() and (boxes[:, 2:] > boxes[:, :2]).all()


def test_boxes_without_area_go():
    boxes = [[0.2, 0.2, 0.2, 0.5], [0.1, 0.1, 0.4, 0.4], [-0.5, 0.2, -0.1, 0.4], [0.9, 0.9, 1.4, 1]]
    sample = blank(20, 30, 4) | {"boxes": tf.constant(boxes)}
    op = augment.compose(augment.random_expand(probability=0), augment.warp((10, 10)))
    (result,) = over_seeds(op, sample, 1)
    np.testing.assert_array_equal(result["labels"], [1])


def test_ssd_augmentation_is_a_function_of_the_seed_with_static_shape():
    op, sample = augment.ssd_augmentation((48, 64)), without(scene(), "mask")
    first, spec = both_ways(op, sample, (1, 2))
    again = op(sample, tf.constant([1, 2], tf.int64))
    for name in sample:
        np.testing.assert_array_equal(first[name], again[name])
    assert spec["image"].shape == (48, 64, 3) and spec["boxes"].shape == (None, 4)
    results = over_seeds(op, sample, 10, "image")
    assert len({result["image"].tobytes() for result in results}) == 10


def distort(colors, count, **settings):
    """The colors [N, 3] under `count` seeds, by the changes in `settings` alone: int [N, 3]."""
    none = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "probability": 1}
    op = augment.photometric_distortion(**none | settings)
    sample = {"image": tf.constant(np.array([colors], np.uint8))}
    return [result["image"][0].astype(int) for result in over_seeds(op, sample, count)]


def test_brightness_shifts():
    shifts = []
    for first, second in distort([[100, 120, 140], [0, 250, 20]], 40, brightness=32):
        shift = first[0] - 100
        np.testing.assert_array_equal(first, np.array([100, 120, 140]) + shift)
        np.testing.assert_array_equal(second, np.clip(np.array([0, 250, 20]) + shift, 0, 255))
        shifts.append(shift)
    assert -32 <= min(shifts) < -20 and 20 < max(shifts) <= 32


def test_contrast_multiplies():
    factors = []
    for first, second in distort([[40, 80, 120], [0, 10, 250]], 40, contrast=0.5):
        factor = first[2] / 120
        np.testing.assert_allclose(first, np.array([40, 80, 120]) * factor, atol=1)
        np.testing.assert_allclose(second, np.clip([0, 10 * factor, 250 * factor], 0, 255), atol=3)
        factors.append(factor)
    assert 0.495 < min(factors) < 0.7 and 1.3 < max(factors) < 1.505


def test_saturation_blends_with_gray():
    factors, color = [], np.array([150, 100, 50])
    gray = 0.2989 * 150 + 0.587 * 100 + 0.114 * 50
    for colored, neutral in distort([color, [90, 90, 90]], 40, saturation=0.5):
        np.testing.assert_array_equal(neutral, 90)
        factor = (colored[0] - colored[2]) / 100
        np.testing.assert_allclose(colored, gray + factor * (color - gray), atol=1.5)
        factors.append(factor)
    assert 0.49 < min(factors) < 0.7 and 1.3 < max(factors) < 1.51


def test_hue_turns():
    degrees = []
    for red, neutral in distort([[255, 0, 0], [77, 77, 77]], 40, hue=18):
        np.testing.assert_array_equal(neutral, 77)
        assert red[0] == 255 and min(red[1:]) == 0
        degrees.append((red[1] - red[2]) * 60 / 255)  # green rises by 255 in 60 degrees
    assert -18.1 < min(degrees) < -10 and 10 < max(degrees) < 18.1


@pytest.mark.parametrize(
    "change", [{"brightness": 32}, {"contrast": 0.5}, {"saturation": 0.5}, {"hue": 18}]
)
def test_each_color_change_happens_half_the_time(change):
    color = [200, 100, 50]
    changed = [
        np.abs(result - color).max() > 1
        for result in distort([color], 200, probability=0.5, **change)
    ]
    assert 65 < sum(changed) < 130  # a little below 100 expected: some amounts are tiny


def test_color_changes_are_independent():
    def effects(measure, **change):  # under 200 seeds, the same for all changes
        return [measure(*result[0]) for result in distort([[150, 90, 90]], 200, **chance, **change)]

    chance = {"probability": 0.5}
    found = np.array([
        effects(lambda r, g, b: r - 150, brightness=32),
        effects(lambda r, g, b: r - 150, contrast=0.5),
        effects(lambda r, g, b: r - g - 60, saturation=0.5),
        effects(lambda r, g, b: g - b, hue=18),
    ])  # fmt: skip
    for values in (found, np.abs(found) > 1):  # how much, and whether at all
        assert np.abs(np.corrcoef(values) - np.eye(4)).max() < 0.3  # deviation 0.07


def test_contrast_comes_first_or_last():
    # The first color tells the factor of contrast c, the second then that of saturation s. The
    # third clips: contrast first fades min(255, c p) by s, contrast last multiplies the faded p.
    third = np.array([255.0, 200, 60])

    def faded(color, factor):
        gray = color @ [0.2989, 0.587, 0.114]
        return np.clip(gray + factor * (color - gray), 0, 255)

    colors = [[80, 80, 80], [30, 70, 120], third]
    first = []
    for neutral, probe, clipped in distort(colors, 150, contrast=0.5, saturation=0.5):
        c = neutral[0] / 80
        s = (probe[2] - probe[0]) / (90 * c)
        if_first = faded(np.clip(c * third, 0, 255), s)
        if_last = np.clip(c * faded(third, s), 0, 255)
        if np.abs(if_first - if_last).max() < 12:
            continue
        errors = np.abs(clipped - if_first).max(), np.abs(clipped - if_last).max()
        assert min(errors) < 5
        first.append(errors[0] < errors[1])
    assert len(first) > 20 and 0.2 < np.mean(first) < 0.8


def test_without_chance_colors_stay():
    image = tf.constant(np.random.default_rng(0).integers(0, 256, (20, 30, 3)), tf.uint8)
    (result,) = over_seeds(augment.photometric_distortion(probability=0), {"image": image}, 1)
    np.testing.assert_array_equal(result["image"], image)


def test_gray_pictures_stay_gray():
    gray = np.random.default_rng(0).integers(0, 256, (20, 30, 1)).repeat(3, axis=2)
    op = augment.photometric_distortion(probability=1)
    for result in over_seeds(op, {"image": tf.constant(gray, tf.uint8)}, 20):
        assert np.ptp(result["image"].astype(int), axis=2).max() <= 1


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: augment.random_expand(largest=0.5), "largest >= 1, received 0.5"),
        (lambda: augment.random_expand(probability=1.5), "between 0 and 1, received 1.5"),
        (lambda: augment.photometric_distortion(probability=-1), "between 0 and 1, received -1"),
        (lambda: augment.warp((0, 300)), "positive height and width, received 0x300"),
        (
            lambda: augment.random_scale_crop((4, 4))(
                augment.random_expand()(blank(6, 6), tf.constant([0, 0])), tf.constant([0, 0])
            ),
            "put warp before",
        ),
    ],
)
def test_mistakes_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_pixels_halfway_between_gray_levels_round_up():
    """Exactly, 240 pixels to 300 give hundredths; float32 misses some halves from below."""
    row = np.random.default_rng(0).integers(0, 256, 240)
    place = (np.arange(300) * 2 + 1) * 4 - 5  # (i + 1/2) 240 / 300 - 1/2, in tenths
    left, tenths = np.clip(place // 10, 0, 238), place - 10 * np.clip(place // 10, 0, 238)
    tenths = np.clip(tenths, 0, 10)  # beyond the outer pixels' centers
    exact = row[left] * (10 - tenths) + row[left + 1] * tenths  # in tenths of a gray level
    assert (exact % 10 == 5).sum() > 5
    picture = np.repeat(row.astype(np.uint8)[None, :, None], 3, axis=-1)  # [1, 240, 3]
    resized = augment.resize_image(picture, (1, 300)).numpy()
    np.testing.assert_array_equal(resized[0, :, 0], (exact + 5) // 10)
