"""The pipelines from a prepared dataset to batches: one for training, two for evaluation.

All read the prepared (TFDS) form of a dataset and differ in everything else: training draws
without end from shuffled, augmented samples; evaluation takes every sample once, at its full size
or warped to a model's.
"""

import dataclasses

import tensorflow as tf
import tensorflow_datasets as tfds

from kerasdense.data import datasets
from kerasdense.data.augment import PADDING, warp
from kerasdense.metrics.labels import IGNORE

SHUFFLE_BYTES = 512 * 2**20  # of encoded examples kept in memory to draw from
PREFETCHED = 4  # batches ready for the model


@dataclasses.dataclass(frozen=True)
class Split:
    """A split of a prepared dataset, and what of its examples is read.

    `builder`: a prepared TFDS builder, see `kerasdense.data.datasets.load`; `name`: of the split,
    e.g. "train"; `features`: names of what a sample holds: no other picture in it is decoded.

    Raises:
        ValueError: If the split does not exist or is empty, or the dataset lacks a feature.
    """

    builder: object
    name: str
    features: tuple

    def __post_init__(self):
        splits, stored = self.builder.info.splits, self.builder.info.features
        if self.name not in splits:
            raise ValueError(
                f"{self.builder.name} has no split '{self.name}'. It has: {', '.join(splits)}. "
                "Choose another (--validation-split of fit, --split of other commands)"
                f"{self._own_cure()}."
            )
        if not self.count:
            raise ValueError(f"The split '{self.name}' of {self.builder.name} is empty.")
        missing = [name for name in self.features if name not in stored]
        if missing:
            raise ValueError(
                f"{self.builder.name} holds no {' and no '.join(missing)}, but "
                f"{', '.join(self.features)} are to be read. It holds: {', '.join(stored)}."
            )

    def _own_cure(self):
        """How own data get a split that they do not have."""
        if not datasets.has_own_classes(self.builder):
            return ""
        if self.name not in ("val", "test"):
            return ""
        return f", or make it: images in images/{self.name}/, or a list splits/{self.name}.txt"

    @property
    def count(self):
        """Number of its examples."""
        return self.builder.info.splits[self.name].num_examples

    def records(self):
        """The examples in their stored order, pictures still encoded."""
        pictures = [name for name in self.builder.info.features if self._is_picture(name)]
        return self.builder.as_dataset(
            split=self.name,
            decoders=dict.fromkeys(pictures, tfds.decode.SkipDecoding()),
            read_config=tfds.ReadConfig(try_autocache=False),
        ).map(lambda record: {name: record[name] for name in self.features})

    def decode(self, record):
        """One of `records` with its pictures decoded: uint8 [H, W, 3], masks [H, W, 1]."""
        stored = self.builder.info.features
        return {
            name: stored[name].decode_example(value) if self._is_picture(name) else value
            for name, value in record.items()
        }

    def _is_picture(self, name):
        return isinstance(self.builder.info.features[name], tfds.features.Image)


def train_batches(split, batch_size, augment, targets, seed=0, first_step=0):
    """Shuffled, augmented batches without end, ready for `Model.fit`.

    The order of the steps, and why: records are shuffled while they are still small (encoded),
    anew in each pass; passes follow each other without a gap, so that every batch is full;
    decoding, augmentation and the encoding of targets run in parallel; batches are prefetched.
    The stream is a function of `seed` alone, whatever the number of threads, and `first_step`
    continues it exactly where an interrupted run left off, without decoding what came before.

    Args:
        split: a `Split`.
        batch_size: samples a batch.
        augment: `op(sample, seed) -> sample` of `kerasdense.data.augment` that gives all samples
            the same static size.
        targets: `(sample) -> tensor` of one augmented sample, of a static shape: `targets(model)`
            of a task.
        seed: seed of the order and of the augmentation, at least 0.
        first_step: number of batches to leave out at the start.

    Returns:
        A `tf.data.Dataset` of `(images, targets)`: uint8 `[B, H, W, 3]` and what `targets` gives,
        batched, with static shapes (XLA needs them).

    Raises:
        ValueError: If `batch_size` is not positive, or `seed` is negative.
    """
    _check_batch_size(batch_size)
    if seed < 0:
        raise ValueError(f"The seed of a pipeline must be at least 0, received {seed}.")
    records, count = split.records(), split.count
    bytes_each = max(1, split.builder.info.splits[split.name].num_bytes // count)
    buffer = min(count, max(256, SHUFFLE_BYTES // bytes_each))
    first_example = first_step * batch_size
    first_pass, done_in_pass = divmod(first_example, count)

    def one_pass(number):
        # In this traced function, set_seed concerns the function's own graph alone. Without a
        # graph seed above 0, shuffle takes no tensor as its own seed.
        tf.random.set_seed(seed + 1)
        shuffled = records.shuffle(buffer, seed=number, reshuffle_each_iteration=False)
        return shuffled.skip(tf.where(number == first_pass, tf.cast(done_in_pass, tf.int64), 0))

    def decode_and_augment(index, record):
        sample = augment(split.decode(record), tf.stack([tf.cast(seed, tf.int64), index]))
        return sample["image"], targets(sample)

    return (
        tf.data.Dataset.range(first_pass, tf.int64.max)
        .flat_map(one_pass)
        .enumerate(start=first_example)
        .map(decode_and_augment, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size, drop_remainder=True)
        .prefetch(PREFETCHED)
        .with_options(_options())
    )


def full_size_batches(split, batch_size=1, multiple=1, minimum=1):
    """Every sample of a split with label maps, once, in order, at its full size.

    Images of different sizes in one batch, and those that are smaller than a network takes, are
    padded at the bottom and the right: the image with gray, the mask with *ignore*, so that padding
    never counts.

    Args:
        split: a `Split` with the features `image`, `mask` and `file_name`.
        batch_size: samples a batch; the last batch may hold fewer.
        multiple: heights and widths are padded up to a multiple of this, which bounds how many
            programs a compiler such as XLA must build; 1 leaves the sizes as they are.
        minimum: heights and widths are padded up to this many pixels.

    Returns:
        A `tf.data.Dataset` of dicts: `image` uint8 `[B, H, W, 3]`, `mask` uint8 `[B, H, W]`
        (255 = ignore), `size` int32 `[B, 2]`, height and width without padding, and `file_name`
        string `[B]`. Its cardinality is known.

    Raises:
        ValueError: If `batch_size` is not positive.
    """

    def pad(sample):
        extent = tf.shape(sample["image"])[:2]
        padded = tf.maximum(extent, minimum)
        missing = padded + (-padded) % multiple - extent
        paddings = [[0, missing[0]], [0, missing[1]]]
        return {
            "image": tf.pad(sample["image"], [*paddings, [0, 0]], constant_values=PADDING),
            "mask": tf.pad(sample["mask"][..., 0], paddings, constant_values=IGNORE),
            "size": extent,
            "file_name": sample["file_name"],
        }

    padding_values = {
        "image": tf.constant(PADDING, tf.uint8),
        "mask": tf.constant(IGNORE, tf.uint8),
        "size": 0,
        "file_name": "",
    }
    return _in_order(split, pad, batch_size, padding_values)


def warped_batches(split, size, batch_size=1, targets=None):
    """Every sample of a split with boxes, once, in order, its image warped to `size`.

    Boxes are relative to the image, so warping leaves them as they are; times `size` of the
    sample they are pixels of the original image.

    Args:
        split: a `Split` with the features `image`, `boxes`, `labels`, `difficult`, `file_name`.
        size: `(height, width)` of the images to give, in pixels.
        batch_size: samples a batch; the last batch may hold fewer.
        targets: as in `train_batches`, to measure a validation loss; None leaves them out.

    Returns:
        A `tf.data.Dataset` of dicts, M being the largest number of objects in the batch:
        `image` uint8 `[B, *size, 3]`; `boxes` float32 `[B, M, 4]` relative xyxy, padded with 0;
        `labels` int64 `[B, M]`, padded with -1; `difficult` bool `[B, M]`; `size` int32 `[B, 2]`,
        height and width of the original image in pixels; `file_name` string `[B]`; `targets` if
        asked for, `[B, ...]`. Its cardinality is known.

    Raises:
        ValueError: If `batch_size` or `size` is not positive.
    """
    to_size = warp(size)

    def warp_and_encode(sample):
        extent = tf.shape(sample["image"])[:2]
        sample = to_size(sample, None) | {"size": extent}
        return sample if targets is None else sample | {"targets": targets(sample)}

    padding_values = {
        "image": tf.constant(0, tf.uint8),  # all have one size: padded nowhere
        "boxes": 0.0,
        "labels": tf.constant(-1, tf.int64),
        "difficult": False,
        "size": 0,
        "file_name": "",
    }
    if targets is not None:
        padding_values["targets"] = None  # zero of any type; padded nowhere either
    return _in_order(split, warp_and_encode, batch_size, padding_values)


def _in_order(split, prepare, batch_size, padding_values):
    """Every sample of a split once, decoded, given to `prepare`, and batched."""
    _check_batch_size(batch_size)
    return (
        split.records()
        .map(lambda record: prepare(split.decode(record)), num_parallel_calls=tf.data.AUTOTUNE)
        .padded_batch(batch_size, padding_values=padding_values)
        .apply(tf.data.experimental.assert_cardinality(-(-split.count // batch_size)))
        .prefetch(PREFETCHED)
        .with_options(_options())
    )


def _options():
    """Without the autotuner: AUTOTUNE of `map` then means a call for each core, 16 at most.

    The end of an iterator waits until its autotuner wakes up, which in TensorFlow 2.21 may take as
    long as the iterator lived, up to a minute, after every validation. (AUTOTUNE of `prefetch`
    would then double the buffer whenever it was drained, until it holds thousands of batches.)
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return options


def _check_batch_size(batch_size):
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, received {batch_size}.")
