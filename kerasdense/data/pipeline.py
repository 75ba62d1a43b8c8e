"""The two pipelines from a prepared dataset to batches: one for training, one for evaluation.

Both read the prepared (TFDS) form of a dataset whose examples hold `image`, `mask` and
`file_name`, and differ in everything else, so they are two functions.
"""

import tensorflow as tf
import tensorflow_datasets as tfds

from kerasdense.data.augment import PADDING
from kerasdense.labels import IGNORE

SHUFFLE_BYTES = 512 * 2**20  # of encoded examples kept in memory to draw from


def train_batches(builder, split, batch_size, augment, seed=0, first_step=0):
    """Shuffled, augmented batches without end, ready for `Model.fit`.

    The order of the steps, and why: records are shuffled while they are still small (encoded),
    anew in each pass; passes follow each other without a gap, so that every batch is full;
    decoding and augmentation run in parallel; batches are prefetched. The stream is a function
    of `seed` alone, whatever the number of threads, and `first_step` continues it exactly where
    an interrupted run left off, without decoding what came before.

    Args:
        builder: a prepared TFDS builder, see `kerasdense.datasets.load`.
        split: name of the split, e.g. `"train"`.
        batch_size: samples a batch.
        augment: `op(sample, seed) -> sample` of `kerasdense.data.augment` that gives all samples
            the same static size.
        seed: seed of the order and of the augmentation, at least 0.
        first_step: number of batches to leave out at the start.

    Returns:
        A `tf.data.Dataset` of `(images, masks)`: uint8 `[B, H, W, 3]` and uint8 `[B, H, W]`,
        255 = ignore, with static shapes (XLA needs them).

    Raises:
        ValueError: If the split does not exist or is empty, `batch_size` is not
            positive, or `seed` is negative.
    """
    count = _split_size(builder, split)
    _check_batch_size(batch_size)
    if seed < 0:
        raise ValueError(f"The seed of a pipeline must be at least 0, received {seed}.")
    records = _records(builder, split)
    bytes_each = max(1, builder.info.splits[split].num_bytes // count)
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
        sample = augment(_decode(builder, record), tf.stack([tf.cast(seed, tf.int64), index]))
        return sample["image"], tf.squeeze(sample["mask"], -1)

    return (
        tf.data.Dataset.range(first_pass, tf.int64.max)
        .flat_map(one_pass)
        .enumerate(start=first_example)
        .map(decode_and_augment, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def eval_batches(builder, split, batch_size=1, multiple=1):
    """Every sample of a split, once, in order, at its full size; nothing is dropped.

    Images of different sizes in one batch are padded at the bottom and the right: the image with
    grey, the mask with *ignore*, so that padding never counts.

    Args:
        builder: a prepared TFDS builder, see `kerasdense.datasets.load`.
        split: name of the split, e.g. `"val"`.
        batch_size: samples a batch; the last batch may hold fewer.
        multiple: heights and widths are padded up to a multiple of this, which bounds how many
            programs a compiler such as XLA must build; 1 leaves the sizes as they are.

    Returns:
        A `tf.data.Dataset` of dicts: `image` uint8 `[B, H, W, 3]`, `mask` uint8 `[B, H, W]`
        (255 = ignore) and `file_name` string `[B]`. Its cardinality is known.

    Raises:
        ValueError: If the split does not exist or is empty, or `batch_size` is not positive.
    """
    count = _split_size(builder, split)
    _check_batch_size(batch_size)

    def decode_and_pad(record):
        sample = _decode(builder, record)
        extent = tf.shape(sample["image"])[:2]
        missing = (-extent) % multiple
        paddings = [[0, missing[0]], [0, missing[1]]]
        return {
            "image": tf.pad(sample["image"], [*paddings, [0, 0]], constant_values=PADDING),
            "mask": tf.pad(sample["mask"][..., 0], paddings, constant_values=IGNORE),
            "file_name": sample["file_name"],
        }

    padding_values = {
        "image": tf.constant(PADDING, tf.uint8),
        "mask": tf.constant(IGNORE, tf.uint8),
        "file_name": "",
    }
    return (
        _records(builder, split)
        .map(decode_and_pad, num_parallel_calls=tf.data.AUTOTUNE)
        .padded_batch(batch_size, padding_values=padding_values)
        .apply(tf.data.experimental.assert_cardinality(-(-count // batch_size)))
        .prefetch(tf.data.AUTOTUNE)
    )


def _records(builder, split):
    """The examples of a split in their stored order, image and mask still encoded."""
    skip = tfds.decode.SkipDecoding()
    return builder.as_dataset(
        split=split,
        decoders={"image": skip, "mask": skip},
        read_config=tfds.ReadConfig(try_autocache=False),
    ).map(lambda record: {key: record[key] for key in ("image", "mask", "file_name")})


def _decode(builder, record):
    features = builder.info.features
    return {
        "image": features["image"].decode_example(record["image"]),  # uint8 [H, W, 3]
        "mask": features["mask"].decode_example(record["mask"]),  # uint8 [H, W, 1]
        "file_name": record["file_name"],
    }


def _split_size(builder, split):
    splits = builder.info.splits
    if split not in splits:
        raise ValueError(f"{builder.name} has no split '{split}'. It has: {', '.join(splits)}.")
    count = splits[split].num_examples
    if not count:
        raise ValueError(f"The split '{split}' of {builder.name} is empty.")
    return count


def _check_batch_size(batch_size):
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, received {batch_size}.")
