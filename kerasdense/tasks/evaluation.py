"""Evaluation over a whole split: a confusion matrix for segmentation, AP for boxes and labels.

B batch, H W size, C classes, A anchors, N objects or detections of an image.
"""

import dataclasses
import math

import keras
import numpy as np
import tensorflow as tf

from kerasdense.drawing import pictures
from kerasdense.models.ssd import anchors_of
from kerasdense.metrics.average_precision import (
    Detections,
    GroundTruth,
    coco_average_precision,
    label_average_precision,
    voc_average_precision,
)
from kerasdense.metrics.labels import IGNORE
from kerasdense.metrics.mean_iou import confusion_matrix, mean_iou, per_class_iou, pixel_accuracy
from kerasdense.boxes.suppression import decode_detections

PICTURES = 4  # drawn during training
WORST = 4  # pictures kept to look at
SURE = 0.5  # score from which a detection or a label counts as an error of its image, if wrong
CAPTIONED = 400  # pixels: the least width of a picture that has its labels above it


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


def evaluate_detections(model, batches, class_names, coco=True, worst=WORST, verbose=1):
    """Measure an SSD on every sample of `batches`: average precision of its detections.

    `batches`: a tf.data.Dataset of dicts as `kerasdense.data.pipeline.detection_eval_batches`
    gives: `image` uint8 [B, H, W, 3] in the model's size, `boxes` float32 [B, N, 4] relative xyxy,
    `labels` int [B, N] (-1 = padding), `difficult` bool [B, N], `size` int [B, 2] (height, width
    of the original image) and `file_name`.
    `coco`: also COCO's numbers; `worst`: images to keep; `verbose`: 1 shows a progress bar.

    Returns: (result, curves, worst_images). `result` is ready for JSON: by class name `ap_area`,
    `ap_11point` (None for a class without objects), `ground_truth`, `detections`,
    `true_positives`, `false_positives`; `mean_ap_area`, `mean_ap_11point`, `images`,
    `absent_classes`, and `coco`, its twelve numbers. `curves`: by class name (recall, precision).
    `worst_images`: those with most errors at score 0.5 or more (a wrong detection or a missed
    object each), worst first, dicts of `file_name`, `errors`, `image` uint8 [H, W, 3], `size`,
    `boxes`, `labels`, `difficult`, and of `detections`: `boxes`, `labels`, `scores`, `correct`.
    Raises: ValueError if there is nothing to measure, or model, boxes and names do not match.
    Reference: Everingham et al. 2010, "The PASCAL VOC Challenge", sec. 4.2; Lin et al. 2014,
    "Microsoft COCO".
    """
    anchors = anchors_of(model)
    if model.output.shape[-1] != len(class_names) + 1 + 4:
        raise ValueError(
            f"The model has {model.output.shape[-1] - 5} classes, the dataset {len(class_names)}: "
            f"{', '.join(class_names)}. Evaluate on the dataset the run was fitted on."
        )
    steps = int(batches.cardinality())
    bar = keras.utils.Progbar(steps if steps >= 0 else None, unit_name="batch", verbose=verbose)
    names, truth, found = [], [], []
    for number, batch in enumerate(batches, 1):
        batch = {key: value.numpy() for key, value in batch.items()}
        raw = keras.ops.convert_to_numpy(model.predict_on_batch(batch["image"]))
        batch_names = [_text(name) for name in batch["file_name"]]
        if not np.isfinite(raw).all():
            raise ValueError(_not_finite("outputs", ", ".join(batch_names)))
        detections = {key: value.numpy() for key, value in _decode(raw, anchors).items()}
        for i, name in enumerate(batch_names):
            image = len(names)
            names.append(name)
            height, width = batch["size"][i]
            in_pixels = np.array([width, height, width, height], np.float64)
            real = batch["labels"][i] >= 0  # the rest is padding
            truth.append(
                GroundTruth(
                    np.full(real.sum(), image),
                    batch["boxes"][i][real] * in_pixels,
                    batch["labels"][i][real],
                    batch["difficult"][i][real],
                )
            )
            count = detections["num_detections"][i]
            found.append(
                Detections(
                    np.full(count, image),
                    detections["boxes"][i][:count] * in_pixels,
                    detections["classes"][i][:count],
                    detections["scores"][i][:count],
                )
            )
        bar.update(number, finalize=number == steps)
    if not names:
        raise ValueError("Nothing to evaluate: the split holds no images.")
    truth, found = joined(truth), joined(found)
    voc = voc_average_precision(truth, found, len(class_names))
    result = _average_precisions(voc, class_names) | {"images": len(names)}
    for key in ("ground_truth", "detections", "true_positives", "false_positives"):
        result[key] = {name: getattr(each, key) for name, each in zip(class_names, voc.classes)}
    if coco:
        summary = coco_average_precision(truth, found, len(class_names)).summary
        result["coco"] = {
            name: None if math.isnan(value) else value for name, value in summary.items()
        }
    worst_images = _worst_detections(batches, names, truth, found, voc, worst) if worst else []
    return result, _curves(voc, class_names), worst_images


def evaluate_classification(model, batches, class_names, worst=WORST, verbose=1):
    """Measure a multi-label classifier on every sample of `batches`: average precision.

    `batches`: a tf.data.Dataset of dicts as `pipeline.detection_eval_batches` gives with the
    targets of `pipeline.image_labels`: `image` uint8 [B, H, W, 3], `targets` float32 [B, C] (1
    present, 0 absent, -1 not counted), `size` int [B, 2] (height, width of the original image)
    and `file_name`.
    `worst`: images to keep; `verbose`: 1 shows a progress bar.

    Returns: (result, curves, worst_images). `result` is ready for JSON: by class name `ap_area`,
    `ap_11point` (None for a class that no image shows), `ground_truth` (images that show it),
    `ignored` (images where it does not count), and at a probability of 0.5 or more
    `true_positives` and `false_positives`; `mean_ap_area`, `mean_ap_11point`, `images`,
    `absent_classes`. `curves`: by class name (recall, precision). `worst_images`: those of the
    highest loss, worst first, dicts of `file_name`, `loss`, `image` uint8 [H, W, 3], `size`,
    `labels` [C] as in the targets and `probabilities` float32 [C].
    Raises: ValueError if there is nothing to measure, or model and names do not match.
    Reference: Everingham et al. 2010, "The PASCAL VOC Challenge", sec. 4.1.
    """
    if len(model.output.shape) != 2 or model.output.shape[-1] != len(class_names):
        raise ValueError(
            f"The model's output is {tuple(model.output.shape)}, expected a logit for each of the "
            f"dataset's {len(class_names)} classes: {', '.join(class_names)}. Evaluate a "
            f"classifier, on the dataset the run was fitted on."
        )
    steps = int(batches.cardinality())
    bar = keras.utils.Progbar(steps if steps >= 0 else None, unit_name="batch", verbose=verbose)
    truth, scores, worst_images = [], [], []
    for number, batch in enumerate(batches, 1):
        batch = {key: value.numpy() for key, value in batch.items()}
        logits = keras.ops.convert_to_numpy(model.predict_on_batch(batch["image"]))  # [B, C]
        names = [_text(name) for name in batch["file_name"]]
        if not np.isfinite(logits).all():
            raise ValueError(_not_finite("logits", ", ".join(names)))
        truth.append(batch["targets"].astype(int))
        scores.append(logits)
        worst_images += _labelled_images(batch, names, logits)
        worst_images = sorted(worst_images, key=lambda found: -found["loss"])[:worst]
        bar.update(number, finalize=number == steps)
    if not truth:
        raise ValueError("Nothing to evaluate: the split holds no images.")
    truth, scores = np.concatenate(truth), np.concatenate(scores)  # [images, C]
    # By logits, not probabilities, which become equal where they round to 0 or 1.
    voc = label_average_precision(truth, scores)
    result = _average_precisions(voc, class_names) | {"images": len(truth)}
    sure = _sigmoid(scores) >= SURE
    for key, images in {
        "ground_truth": truth == 1,
        "ignored": truth == -1,
        "true_positives": sure & (truth == 1),
        "false_positives": sure & (truth == 0),
    }.items():
        result[key] = dict(zip(class_names, images.sum(axis=0).tolist()))
    return result, _curves(voc, class_names), worst_images


def classification_pictures(batches, class_names, count=PICTURES):
    """A function `(model) -> picture` of the first samples with their labels' probabilities.

    `batches`: as for `evaluate_classification`.
    """
    samples = list(batches.unbatch().take(count).as_numpy_iterator())

    def draw(model):
        images = np.stack([sample["image"] for sample in samples])
        probabilities = _sigmoid(keras.ops.convert_to_numpy(model.predict_on_batch(images)))
        return pictures.gallery(
            [
                [
                    labelled_picture(sample["image"], sample["targets"], found, class_names)
                    for sample, found in zip(samples, probabilities)
                ]
            ]
        )

    return draw


def labelled_picture(image, labels, probabilities, class_names):
    """`image` uint8 [H, W, 3] below lines of text that tell its labels and what was found.

    `labels` [C]: 1 present, 0 absent, -1 not counted; `probabilities` [C]. There is a line for the
    classes that are present, one for the wrong ones of probability 0.5 or more, and one for those
    that do not count.
    """
    found = {
        "shows": labels == 1,
        "wrong": (labels == 0) & (probabilities >= SURE),
        "not counted": labels == -1,
    }
    height, width = image.shape[:2]
    if width < CAPTIONED:
        image = pictures.resized(image, (round(height * CAPTIONED / width), CAPTIONED))
    for what, chosen in reversed(found.items()):
        if chosen.any() or what == "shows":
            best_first = sorted(np.flatnonzero(chosen), key=lambda index: -probabilities[index])
            entries = [f"{class_names[i]} {100 * probabilities[i]:.0f} %" for i in best_first]
            line = f"{what}: {', '.join(entries) or 'none of the classes'}"
            # Without the margin, in which the next line would be indented.
            margin = pictures.MARGIN
            image = pictures.gallery([[image]], [line])[:-margin, margin:-margin]
    return image


def _labelled_images(batch, names, logits):
    """The images of a batch as `worst_images` of `evaluate_classification`, not yet chosen."""
    labels = batch["targets"]
    losses = np.logaddexp(0, logits) - labels * logits  # [B, C], binary cross-entropy
    counted = labels >= 0
    return [
        {
            "file_name": name,
            "loss": float(losses[i, counted[i]].mean()),
            "image": batch["image"][i],
            "size": tuple(batch["size"][i].tolist()),
            "labels": labels[i],
            "probabilities": _sigmoid(logits[i]),
        }
        for i, name in enumerate(names)
        if counted[i].any()
    ]


def _sigmoid(logits):
    return np.exp(-np.logaddexp(0, -logits))  # overflows nowhere


def _average_precisions(voc, class_names):
    """The part of a result that detection and classification share."""
    result = {
        "mean_ap_area": voc.mean_ap_area,
        "mean_ap_11point": voc.mean_ap_11point,
        "absent_classes": voc.absent_classes,
    }
    for key in ("ap_area", "ap_11point"):
        values = [getattr(each, key) for each in voc.classes]
        result[key] = {
            name: None if math.isnan(value) else value for name, value in zip(class_names, values)
        }
    return result


def _curves(voc, class_names):
    return {name: (each.recall, each.precision) for name, each in zip(class_names, voc.classes)}


def detection_pictures(batches, class_names, palette, count=PICTURES):
    """A function `(model) -> picture` of the first samples: image, truth, and detections.

    `batches`: as for `evaluate_detections`. Only detections of score `SURE` or more are drawn.
    """
    samples = [
        {key: value.numpy() for key, value in sample.items()}
        for sample in batches.unbatch().take(count)
    ]

    def draw(model):
        raw = keras.ops.convert_to_numpy(
            model.predict_on_batch(np.stack([sample["image"] for sample in samples]))
        )
        found = {key: value.numpy() for key, value in _decode(raw, anchors_of(model)).items()}
        rows = []
        for i, sample in enumerate(samples):
            real = sample["labels"] >= 0
            sure = found["scores"][i] >= SURE
            rows.append(
                [
                    sample["image"],
                    pictures.draw_boxes(
                        sample["image"],
                        sample["boxes"][real],
                        sample["labels"][real],
                        class_names,
                        palette,
                    ),
                    pictures.draw_boxes(
                        sample["image"],
                        found["boxes"][i][sure],
                        found["classes"][i][sure],
                        class_names,
                        palette,
                        found["scores"][i][sure],
                    ),
                ]
            )
        return pictures.gallery(rows, captions=["image", "truth", "detections"])

    return draw


def detection_table(result):
    """The result of `evaluate_detections` as text: a line a class, then the means, in per cent."""
    columns = {
        "objects": "ground_truth",
        "detections": "detections",
        "true": "true_positives",
        "false": "false_positives",
    }
    lines = [_precision_table(result, columns)]
    if "coco" in result:
        numbers = [f"{name} {_percent(value)}" for name, value in result["coco"].items()]
        lines += ["COCO: " + ", ".join(numbers[:6]), "      " + ", ".join(numbers[6:])]
    return "\n".join(lines)


def classification_table(result):
    """The result of `evaluate_classification` as text, as `detection_table`."""
    columns = {
        "images": "ground_truth",
        "ignored": "ignored",
        "true": "true_positives",
        "false": "false_positives",
    }
    return _precision_table(result, columns)


def _precision_table(result, columns):
    """A line a class: average precisions, and counts by `columns`, {heading: key of `result`}."""
    width = max(len("mean AP"), *(len(name) for name in result["ap_area"]))
    form = f"{{:<{width}}}  {{:>7}}  {{:>8}}  {{:>8}}  {{:>10}}  {{:>6}}  {{:>6}}"
    lines = [form.format("class", "AP in %", "11-point", *columns)]
    for name in result["ap_area"]:
        counts = [result[key][name] for key in columns.values()]
        aps = [_percent(result[key][name]) for key in ("ap_area", "ap_11point")]
        lines.append(form.format(name, *aps, *counts))
    lines.append("-" * len(lines[0]))
    means = [_percent(result[key]) for key in ("mean_ap_area", "mean_ap_11point")]
    lines.append(form.format("mean AP", *means, "", "", "", "").rstrip())
    if result["absent_classes"]:
        lines.append(
            f"{result['absent_classes']} of {len(result['ap_area'])} classes have no object here, "
            "and are left out of the means."
        )
    return "\n".join(lines)


def _percent(value):
    return "absent" if value is None else f"{100 * value:.2f}"


@tf.function
def _decode(raw, anchors):
    return decode_detections(raw, anchors)


def joined(parts):
    """GroundTruth or Detections of single images as one."""
    fields = [field.name for field in dataclasses.fields(parts[0])]
    return type(parts[0])(
        *(np.concatenate([getattr(part, field) for part in parts]) for field in fields)
    )


def _worst_detections(batches, names, truth, found, voc, count):
    """The images of most errors, read once more."""
    sure = found.scores >= SURE
    wrong = sure & ~voc.correct & ~voc.on_difficult
    errors = np.bincount(found.images[wrong], minlength=len(names))
    errors += np.bincount(truth.images[~truth.difficult], minlength=len(names))
    errors -= np.bincount(found.images[sure & voc.correct], minlength=len(names))
    ranked = [image for image in np.argsort(-errors, kind="stable")[:count] if errors[image]]
    worst_images = {}
    samples = batches.unbatch()
    for image, sample in enumerate(samples):
        if image not in ranked:
            continue
        mine, shown = truth.images == image, (found.images == image) & sure
        height, width = sample["size"].numpy()
        in_pixels = np.array([width, height, width, height])
        worst_images[image] = {
            "file_name": names[image],
            "errors": int(errors[image]),
            "image": sample["image"].numpy(),
            "size": (int(height), int(width)),
            "boxes": truth.boxes[mine] / in_pixels,
            "labels": truth.labels[mine],
            "difficult": truth.difficult[mine],
            "detections": {
                "boxes": found.boxes[shown] / in_pixels,
                "labels": found.labels[shown],
                "scores": found.scores[shown],
                "correct": (voc.correct | voc.on_difficult)[shown],
            },
        }
        if len(worst_images) == len(ranked):
            break
    return [worst_images[image] for image in ranked]


def predictor(model, scales=(1.0,), flip=False):
    """A function `(images uint8 [B, H, W, 3], size [2]) -> labels int32 [B, h, w]`.

    It averages the softmax of all passes at `size`, and traces into a tf.function, which raises
    tf.errors.InvalidArgumentError when logits are not finite.
    """

    # A function of its own: it is traced once, not for each scale and once more for its mirror.
    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)])
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
        return _not_finite("logits", where)
    reason = str(error).strip().splitlines()[0][:300]
    return f"The model cannot process {where}: {reason}"


def _not_finite(what, where):
    return (
        f"The model's {what} are not finite for {where}. Either its weights are broken, or "
        f"its values leave the range of float16: fit in float32 or mixed_bfloat16."
    )


def _text(name):
    return name.decode() if isinstance(name, bytes) else str(name)
