"""Evaluation of a segmentation model: one confusion matrix over a whole split.

B batch, H W size, C classes.
"""

import math

import keras
import numpy as np
import tensorflow as tf

from kerasdense.labels import IGNORE
from kerasdense.metrics import confusion_matrix, mean_iou, per_class_iou, pixel_accuracy

WORST = 4  # pictures kept to look at


def evaluate(model, batches, class_names, scales=(1.0,), flip=False, worst=WORST, verbose=1):
    """Measure `model` on every sample of `batches`, at the labels' own resolution.

    Logits are resized to the labels' size before the argmax. With several `scales`, or `flip`,
    the softmax of each pass is resized, and the passes are averaged.

    `batches`: a tf.data.Dataset of dicts `image` uint8 [B, H, W, 3], `mask` uint8 [B, H, W],
    `file_name` string [B], e.g. `kerasdense.data.pipeline.eval_batches`.
    `scales`: factors of the image's height and width; `flip`: also mirrored left to right.
    `verbose`: 1 shows a progress bar, 0 nothing.

    Returns: (result, worst_images). `result` is ready for JSON: `mean_iou`, `per_class_iou` (by
    class name, None for a class absent from truth and prediction), `pixel_accuracy`,
    `confusion_matrix` (rows truth), `images`, `pixels`, `absent_classes`, `scales`, `flip`.
    `worst_images`: the images of the lowest pixel accuracy, worst first, dicts of `file_name`,
    `pixel_accuracy`, `image` [H, W, 3], `mask` and `prediction` uint8 [H, W].
    Raises: ValueError if there is nothing to measure, or model, masks and names do not match.
    Reference: Shelhamer et al. 2017, "Fully convolutional networks", sec. 5 (mean IU).
    """
    classes = len(class_names)
    scales = tuple(float(scale) for scale in scales)
    _check(model, classes, class_names, scales)
    total = tf.Variable(tf.zeros((classes, classes), tf.int64), trainable=False)
    predict = predictor(model, scales, flip)

    # One program for all sizes: pictures of a data set may all differ.
    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, None, 3], tf.uint8),
            tf.TensorSpec([None, None, None], tf.uint8),
        ]
    )
    def step(images, masks):
        predictions = predict(images, tf.shape(masks)[1:])
        total.assign_add(tf.cast(confusion_matrix(masks, predictions, classes), tf.int64))
        valid = masks != IGNORE
        right = tf.logical_and(valid, tf.cast(masks, tf.int32) == predictions)
        return (
            tf.cast(predictions, tf.uint8),
            tf.math.count_nonzero(right, axis=[1, 2]),
            tf.math.count_nonzero(valid, axis=[1, 2]),
        )

    steps = int(batches.cardinality())
    bar = keras.utils.Progbar(steps if steps >= 0 else None, unit_name="batch", verbose=verbose)
    images, worst_images = 0, []
    for number, batch in enumerate(batches, 1):
        names = [_text(name) for name in batch["file_name"].numpy()]
        _check_batch(batch, names, classes)
        try:
            predictions, right, valid = step(batch["image"], batch["mask"])
        except (tf.errors.InvalidArgumentError, tf.errors.ResourceExhaustedError) as error:
            raise ValueError(_failure(error, batch, names)) from error
        images += len(names)
        for i, (name, good, counted) in enumerate(zip(names, right.numpy(), valid.numpy())):
            if not counted:
                continue  # nothing but ignored pixels: neither good nor bad
            accuracy = good / counted
            if len(worst_images) == worst and accuracy >= worst_images[-1]["pixel_accuracy"]:
                continue
            found = {"file_name": name, "pixel_accuracy": float(accuracy)}
            found["image"], found["mask"] = batch["image"][i].numpy(), batch["mask"][i].numpy()
            found["prediction"] = predictions[i].numpy()
            worst_images.append(found)
            worst_images.sort(key=lambda image: image["pixel_accuracy"])
            del worst_images[worst:]
        bar.update(number, finalize=number == steps)
    matrix = total.numpy()
    if not images:
        raise ValueError("Nothing to evaluate: the split holds no images.")
    if not matrix.sum():
        raise ValueError(
            f"Nothing to evaluate: all pixels of the {images} masks are {IGNORE} (ignore). "
            f"Were the masks made for this list of classes?"
        )
    ious = per_class_iou(matrix)
    result = {
        "mean_iou": mean_iou(matrix),
        "pixel_accuracy": pixel_accuracy(matrix),
        "images": images,
        "pixels": int(matrix.sum()),
        "absent_classes": int(np.isnan(ious).sum()),
        "scales": list(scales),
        "flip": bool(flip),
        "per_class_iou": {
            name: None if math.isnan(iou) else float(iou) for name, iou in zip(class_names, ious)
        },
        "confusion_matrix": matrix.tolist(),
    }
    return result, worst_images


def predictor(model, scales=(1.0,), flip=False):
    """A function `(images uint8 [B, H, W, 3], size [2]) -> labels int32 [B, h, w]`.

    It averages the softmax of all passes at `size`, and traces into a tf.function, which raises
    tf.errors.InvalidArgumentError when logits are not finite.
    """

    def logits_of(images):
        outputs = model(images, training=False)
        logits = outputs["logits"] if isinstance(outputs, dict) else outputs
        # The argmax of NaN would be class 0, and the result look merely bad.
        return tf.debugging.check_numerics(logits, "non-finite logits")

    def predict(images, size):
        if scales == (1.0,) and not flip:
            logits = _resized(logits_of(images), size)
            return tf.argmax(logits, axis=-1, output_type=tf.int32)
        summed = 0.0
        for scale in scales:
            scaled = _scaled(images, scale)
            summed += _resized(tf.nn.softmax(logits_of(scaled)), size)
            if flip:
                mirrored = tf.reverse(logits_of(tf.reverse(scaled, [2])), [2])
                summed += _resized(tf.nn.softmax(mirrored), size)
        return tf.argmax(summed, axis=-1, output_type=tf.int32)

    return predict


def table(result):
    """The result of `evaluate` as text: a line a class, then the means, in per cent."""
    ious = result["per_class_iou"]
    width = max(len("pixel accuracy"), *(len(name) for name in ious))

    def line(name, value):
        return f"{name:<{width}}  " + ("absent" if value is None else f"{100 * value:6.2f}")

    lines = [f"{'class':<{width}}  IoU in %"] + [line(name, iou) for name, iou in ious.items()]
    lines.append("-" * (width + 8))
    lines.append(line("mean IoU", result["mean_iou"]))
    lines.append(line("pixel accuracy", result["pixel_accuracy"]))
    if result["absent_classes"]:
        lines.append(
            f"{result['absent_classes']} of {len(ious)} classes are absent from truth and "
            f"prediction, and left out of the mean."
        )
    return "\n".join(lines)


def _resized(maps, size):
    """Bilinear, float32, and nothing to do where the size is right already."""
    maps = tf.cast(maps, tf.float32)
    resized = tf.cond(
        tf.reduce_all(tf.shape(maps)[1:3] == size),
        lambda: maps,
        lambda: tf.image.resize(maps, size),
    )
    return tf.ensure_shape(resized, [None, None, None, maps.shape[-1]])


def _scaled(images, scale):
    if scale == 1:
        return images
    extent = tf.cast(tf.shape(images)[1:3], tf.float32)
    size = tf.cast(tf.round(extent * scale), tf.int32)
    scaled = tf.image.resize(images, size, antialias=scale < 1)
    return tf.cast(tf.clip_by_value(tf.round(scaled), 0, 255), tf.uint8)


def _check(model, classes, class_names, scales):
    logits = model.output["logits"] if isinstance(model.output, dict) else model.output
    if logits.shape[-1] != classes:
        raise ValueError(
            f"The model has {logits.shape[-1]} classes, the dataset {classes}: "
            f"{', '.join(class_names)}. Evaluate on the dataset the run was fitted on."
        )
    if not scales or not all(0 < scale < math.inf for scale in scales):
        raise ValueError(f"Scales must be positive numbers, received {list(scales)}.")


def _check_batch(batch, names, classes):
    image, mask = batch["image"], batch["mask"]
    if mask.ndim != 3 or image.shape[:1] != mask.shape[:1]:
        raise ValueError(
            f"{names[0]}: expected image [B, H, W, 3] and mask [B, H, W], received "
            f"{image.shape} and {mask.shape}."
        )
    labels = mask.numpy()
    wrong = labels[(labels >= classes) & (labels != IGNORE)]
    if wrong.size:
        raise ValueError(
            f"The mask of {', '.join(names)} holds class {wrong[0]}, but there are {classes} "
            f"classes (0-{classes - 1}, {IGNORE} = ignore). Correct the mask or the class list."
        )


def _failure(error, batch, names):
    where = f"{', '.join(names)}, {batch['image'].shape[2]}x{batch['image'].shape[1]} pixels"
    if "non-finite logits" in str(error):
        return (
            f"The model's logits are not finite for {where}. Either its weights are broken, or "
            f"its values leave the range of float16: fit in float32 or mixed_bfloat16."
        )
    reason = str(error).strip().splitlines()[0][:300]
    return f"The model cannot process {where}: {reason}"


def _text(name):
    return name.decode() if isinstance(name, bytes) else str(name)
