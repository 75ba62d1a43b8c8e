"""Augmentation: factories of functions `op(sample, seed) -> sample` on a sample dict.

A sample holds `image` uint8 `[H, W, 3]` (RGB) and `mask` uint8 `[H, W, 1]` (class index, 255 =
ignore). An op draws its geometry once and applies it by type: the image bilinearly, the mask by
nearest neighbour, so that no class index is ever invented; what lies outside the image becomes
mean grey and *ignore*. `seed` is an int `[2]` tensor as in `tf.image.stateless_*`: the same seed
gives the same sample, eagerly and in tf.data, whatever the number of threads.
"""

import math

import tensorflow as tf

from kerasdense.labels import IGNORE

PADDING = 127  # grey level outside the image; those pixels are ignored by loss and metrics


def compose(*ops):
    """One op that applies `ops` in order, each with a seed of its own."""

    def apply(sample, seed):
        if ops:
            seeds = tf.unstack(tf.random.split(seed, len(ops)), num=len(ops))
            for op, op_seed in zip(ops, seeds):
                sample = op(sample, op_seed)
        return sample

    return apply


def random_flip():
    """Mirrors image and mask left to right, with probability 1/2."""

    def apply(sample, seed):
        mirrored = tf.random.stateless_uniform([], seed) < 0.5
        maps = {"image": sample["image"], "mask": sample["mask"]}

        # tf.reverse under tf.cond: a slice [:, ::-1] costs more than decoding the picture.
        def mirror():
            return {name: tf.reverse(values, [1]) for name, values in maps.items()}

        return sample | tf.cond(mirrored, mirror, lambda: maps)

    return apply


def random_scale_crop(size, scales=(0.5, 2.0)):
    """Scales by a random factor and cuts a window of `size` out, uniformly over all offsets.

    Equal to scaling the whole picture and cropping then, but only the pixels of the window are
    ever computed: the window is cut out of the source first, at whole pixels. A side on which the
    scaled picture is smaller than the window is padded, at a random place.

    Args:
        size: `(height, width)` of the result, in pixels.
        scales: `(lowest, highest)` factor, drawn log-uniformly, so that x1/2 is as likely as x2.

    Raises:
        ValueError: If a size or a scale is not positive, or the range is upside down.
    """
    size = _checked_size(size)
    lowest, highest = scales
    if not 0 < lowest <= highest:
        raise ValueError(
            f"random_scale_crop expects scales 0 < lowest <= highest, received {scales}."
        )

    def apply(sample, seed):
        draw = tf.random.stateless_uniform([3], seed)
        scale = tf.exp(math.log(lowest) + draw[0] * (math.log(highest) - math.log(lowest)))
        extent = tf.shape(sample["image"])[:2]
        window = _rounded(tf.cast(size, tf.float32) / scale)  # in source pixels, per side
        fits = window <= extent
        scaled = tf.minimum(_rounded(tf.cast(extent, tf.float32) * scale), size)
        window = tf.minimum(window, extent)
        target = tf.where(fits, size, scaled)  # in output pixels, per side
        # A side has slack either in the source (cropped) or in the output (padded), never both.
        offset = _uniform_integer(draw[1:], extent - window)
        before = _uniform_integer(draw[1:], size - target)
        return _window_to_canvas(sample, offset, window, target, before, size)

    return apply


def photometric_jitter(brightness=32.0, contrast=0.5, saturation=0.5, hue=18.0):
    """Changes the colours: brightness, contrast, saturation and hue, each uniformly.

    Args:
        brightness: largest shift, in grey levels.
        contrast, saturation: largest relative change; 0.5 draws factors from 0.5 to 1.5.
        hue: largest shift, in degrees.

    Reference: Liu et al., SSD: Single Shot MultiBox Detector (2016), whose ranges are the
    defaults; here every change is made on every picture.
    """

    def apply(sample, seed):
        draw = tf.random.stateless_uniform([4], seed, -1.0, 1.0)
        image = tf.cast(sample["image"], tf.float32) / 255.0
        image += draw[0] * brightness / 255.0
        image = tf.image.adjust_contrast(image, 1.0 + draw[1] * contrast)
        # A blend with grey, not tf.image.adjust_saturation: that turns some pure reds grey.
        grey = tf.image.rgb_to_grayscale(image)
        image = grey + (image - grey) * (1.0 + draw[2] * saturation)
        image = tf.image.adjust_hue(tf.clip_by_value(image, 0.0, 1.0), draw[3] * hue / 360.0)
        return sample | {"image": tf.image.convert_image_dtype(image, tf.uint8, saturate=True)}

    return apply


def _checked_size(size):
    height, width = size
    if height < 1 or width < 1:
        raise ValueError(f"A crop needs a positive height and width, received {height}x{width}.")
    return int(height), int(width)


def _rounded(values):
    return tf.maximum(tf.cast(tf.round(values), tf.int32), 1)


def _uniform_integer(draw, highest):
    """Turns `draw`, uniform in [0, 1), into an integer uniform in 0 ... highest."""
    return tf.cast(tf.floor(draw * tf.cast(highest + 1, tf.float32)), tf.int32)


def _window_to_canvas(sample, offset, window, target, before, size):
    """Resizes a window of the source to `target` and lays it on an empty canvas of `size`.

    All are `(rows, columns)`: the window lies at `offset` of the source, the result at `before`
    on the canvas.
    """
    image = sample["image"]
    end = offset + window
    image = image[offset[0] : end[0], offset[1] : end[1]]
    # As float32: TensorFlow's kernel for that type is faster by more than the cast costs.
    image = tf.image.resize(tf.cast(image, tf.float32), target)
    image = tf.cast(image + 0.5, tf.uint8)  # all >= 0: rounds to nearest
    mask = _nearest(sample["mask"][..., 0], offset, window, target)[..., None]

    after = size - target - before
    paddings = tf.stack([[before[0], after[0]], [before[1], after[1]], [0, 0]])
    image = tf.pad(image, paddings, constant_values=PADDING)
    mask = tf.pad(mask, paddings, constant_values=IGNORE)
    return sample | {
        "image": tf.ensure_shape(image, [*size, 3]),
        "mask": tf.ensure_shape(mask, [*size, 1]),
    }


def _nearest(mask, offset, window, target):
    """Resizes a window of `mask` [H, W] to `target` as tf.image.resize does with "nearest".

    Rows are gathered, then columns as rows of the transposed map: a third of the time of
    tf.image.resize, which would be half that of decoding the picture.
    """

    def sources(axis):
        centers = tf.range(tf.cast(target[axis], tf.float32)) + 0.5
        step = tf.cast(window[axis], tf.float32) / tf.cast(target[axis], tf.float32)
        return offset[axis] + tf.cast(centers * step, tf.int32)

    return tf.transpose(tf.gather(tf.transpose(tf.gather(mask, sources(0))), sources(1)))
