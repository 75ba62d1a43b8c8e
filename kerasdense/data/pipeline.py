"""The pipelines from a prepared dataset to batches: one for training, two for evaluation.

All read the prepared (TFDS) form of a dataset and differ in everything else: training draws
without end from shuffled, augmented samples; evaluation takes every sample once, segmentation at
its full size, detection warped to the model's.
"""

import tensorflow as tf
import tensorflow_datasets as tfds

from kerasdense.data.augment import PADDING, warp
from kerasdense.metrics.labels import IGNORE

SHUFFLE_BYTES = 512 * 2**20  # of encoded examples kept in memory to draw from
PREFETCHED = 4  # batches ready for the model

# What a task reads of an example; no other picture in it is decoded.
SEGMENTATION = ("image", "mask", "file_name")
DETECTION = ("image", "boxes", "labels", "difficult", "file_name")


def class_map(sample):
    """The target of segmentation: the mask as uint8 `[H, W]`."""
    return tf.squeeze(sample["mask"], -1)


def image_labels(num_classes):
    """The target of multi-label classification, a function of a sample: float32 `[C]`.

    From `labels` and `difficult` of the sample's objects, for each class: 1, an object of it is in
    the picture; 0, none; -1, only difficult ones, so that the label does not count. To be right,
    the labels need all objects: augmentation for them must not crop.

    Reference: Everingham et al., The PASCAL VOC challenge 2007, development kit: the image sets of
    the classification task mark such pictures as difficult.
    """

    def targets(sample):
        shown = tf.one_hot(sample["labels"], num_classes, True, False, dtype=tf.bool)  # [N, C]
        easy = tf.reduce_any(shown & ~sample["difficult"][:, None], axis=0)  # [C]
        difficult = tf.reduce_any(shown, axis=0)
        return tf.where(easy, 1.0, tf.where(difficult, -1.0, 0.0))

    return targets


def train_batches(
    builder,
    split,
    batch_size,
    augment,
    seed=0,
    first_step=0,
    features=SEGMENTATION,
    targets=class_map,
):
    """Shuffled, augmented batches without end, ready for `Model.fit`.

    The order of the steps, and why: records are shuffled while they are still small (encoded),
    anew in each pass; passes follow each other without a gap, so that every batch is full;
    decoding, augmentation and the encoding of targets run in parallel; batches are prefetched.
    The stream is a function of `seed` alone, whatever the number of threads, and `first_step`
    continues it exactly where an interrupted run left off, without decoding what came before.

    Args:
        builder: a prepared TFDS builder, see `kerasdense.datasets.load`.
        split: name of the split, e.g. `"train"`.
        batch_size: samples a batch.
        augment: `op(sample, seed) -> sample` of `kerasdense.data.augment` that gives all samples
            the same static size.
        seed: seed of the order and of the augmentation, at least 0.
        first_step: number of batches to leave out at the start.
        features: names of the features a sample holds: `SEGMENTATION` or `DETECTION`.
        targets: `(sample) -> tensor` of one augmented sample, of a static shape; for detection
            e.g. `lambda sample: anchors.encode_targets(sample["boxes"], sample["labels"], boxes)`,
            for classification `image_labels(num_classes)`.

    Returns:
        A `tf.data.Dataset` of `(images, targets)`: uint8 `[B, H, W, 3]` and what `targets` gives,
        batched (by default uint8 `[B, H, W]`, 255 = ignore), with static shapes (XLA needs them).

    Raises:
        ValueError: If the split does not exist or is empty, the dataset lacks one of the
            features, `batch_size` is not positive, or `seed` is negative.
    """
    count = _split_size(builder, split)
    _check_batch_size(batch_size)
    if seed < 0:
        raise ValueError(f"The seed of a pipeline must be at least 0, received {seed}.")
    records = _records(builder, split, features)
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


def eval_batches(builder, split, batch_size=1, multiple=1):
    """Every sample of a split for segmentation, once, in order, at its full size.

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
        ValueError: If the split does not exist or is empty, the dataset has no masks, or
            `batch_size` is not positive.
    """

    def pad(sample):
        extent = tf.shape(sample["image"])[:2]
        missing = (-extent) % multiple
        paddings = [[0, missing[0]], [0, missing[1]]]
        return {
            "image": tf.pad(sample["image"], [*paddings, [0, 0]], constant_values=PADDING),
            "mask": tf.pad(class_map(sample), paddings, constant_values=IGNORE),
            "file_name": sample["file_name"],
        }

    padding_values = {
        "image": tf.constant(PADDING, tf.uint8),
        "mask": tf.constant(IGNORE, tf.uint8),
        "file_name": "",
    }
    return _in_order(builder, split, SEGMENTATION, pad, batch_size, padding_values)


def detection_eval_batches(builder, split, size, batch_size=1, targets=None):
    """Every sample of a split for detection, once, in order, its image warped to `size`.

    Boxes are relative to the image, so warping leaves them as they are; times `size` of the
    sample they are pixels of the original image.

    Args:
        builder: a prepared TFDS builder, see `kerasdense.datasets.load`.
        split: name of the split, e.g. `"val"`.
        size: `(height, width)` of the model's input, in pixels.
        batch_size: samples a batch; the last batch may hold fewer.
        targets: as in `train_batches`, to measure a validation loss; None leaves them out.

    Returns:
        A `tf.data.Dataset` of dicts, M being the largest number of objects in the batch:
        `image` uint8 `[B, *size, 3]`; `boxes` float32 `[B, M, 4]` relative xyxy, padded with 0;
        `labels` int64 `[B, M]`, padded with -1; `difficult` bool `[B, M]`; `size` int32 `[B, 2]`,
        height and width of the original image in pixels; `file_name` string `[B]`; `targets` if
        asked for, `[B, ...]`. Its cardinality is known.

    Raises:
        ValueError: If the split does not exist or is empty, the dataset has no boxes, or
            `batch_size` or `size` is not positive.
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
    return _in_order(builder, split, DETECTION, warp_and_encode, batch_size, padding_values)


def _in_order(builder, split, features, prepare, batch_size, padding_values):
    """Every sample of a split once, decoded, given to `prepare`, and batched."""
    count = _split_size(builder, split)
    _check_batch_size(batch_size)
    return (
        _records(builder, split, features)
        .map(lambda record: prepare(_decode(builder, record)), num_parallel_calls=tf.data.AUTOTUNE)
        .padded_batch(batch_size, padding_values=padding_values)
        .apply(tf.data.experimental.assert_cardinality(-(-count // batch_size)))
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


def _records(builder, split, features):
    """The examples of a split in their stored order: only `features`, pictures still encoded."""
    stored = builder.info.features
    missing = [name for name in features if name not in stored]
    if missing:
        raise ValueError(
            f"{builder.name} holds no {' and no '.join(missing)}, but {', '.join(features)} are "
            f"to be read. It holds: {', '.join(stored)}."
        )
    pictures = [name for name in stored if isinstance(stored[name], tfds.features.Image)]
    return builder.as_dataset(
        split=split,
        decoders=dict.fromkeys(pictures, tfds.decode.SkipDecoding()),
        read_config=tfds.ReadConfig(try_autocache=False),
    ).map(lambda record: {name: record[name] for name in features})


def _decode(builder, record):
    stored = builder.info.features
    return {
        name: stored[name].decode_example(value)  # uint8 [H, W, 3 or 1]
        if isinstance(stored[name], tfds.features.Image)
        else value
        for name, value in record.items()
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
