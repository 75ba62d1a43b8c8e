"""Augmentation ops, each eagerly and in tf.data: geometry, label ids, padding, determinism."""

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
    # On a 64-pixel ramp, neighbours in the crop differ by 1 / scale source pixels.
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


def test_photometric_leaves_the_mask_and_grey_level_range():
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
