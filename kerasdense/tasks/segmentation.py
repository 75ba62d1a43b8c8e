"""Segmentation: a class for each pixel.

B batch, H W size, C classes.
"""

import math
from pathlib import Path

import numpy as np

from kerasdense.data.images import unused_name
from kerasdense.drawing import pictures
from kerasdense.metrics.labels import IGNORE
from kerasdense.metrics.tables import iou_table, number
from kerasdense.tasks.base import (
    SURE,
    WORST,
    Evaluation,
    Figure,
    Task,
    check_finite,
    check_shape,
    file_names,
    not_finite,
    predicted,
    progress,
    reason,
)

AUXILIARY_SHARE = 0.3  # of the loss, where a model has auxiliary logits (Kreso et al., 2017)
# Of the loss, that of the logits of all steps of a ladder together, in equal parts. That the rest
# is the main loss's, and the parts equal, is Kreso et al.'s code of 2020 (ivankreso/LDN), which
# leaves the number to its user; 0.4 is that of Zhao et al., "PSPNet", CVPR 2017, sec. 5.2.
STEPS_SHARE = 0.4
SIZE_STEP = 128  # pixels: what images are padded to a multiple of, where few sizes are wanted
LEGEND_WIDTH = 800  # pixels, if there are many classes
MANY_CLASSES = 40


class Segmentation(Task):
    """A class for each pixel: logits float32 [B, H, W, C], label maps uint8 [B, H, W]."""

    name = "segmentation"
    features = ("image", "mask", "file_name")
    target = "mask"
    criterion = "val_mean_iou"
    criterion_name = "val mean IoU"
    accuracy = "mean_iou"

    @classmethod
    def recognizes(cls, model):
        return len(getattr(_logits(model.output), "shape", ())) == 4

    @staticmethod
    def classes(builder):
        from kerasdense.data import datasets

        return datasets.classes(builder, "mask")

    def count_classes(self, model):
        return _logits(model.output).shape[-1]

    # ---- training

    def class_heads(self, model):
        from kerasdense.models.outputs import heads

        return dict.fromkeys(heads(model, model.output), 0)

    def check_data(self, builder, split, is_training=False, may_lack_classes=False):
        """Names classes that no pixel of the masks has.

        Raises: ValueError if all pixels are ignored, or where the user's own list names a class
        that the split to be trained on does not show.
        """
        from kerasdense.data import datasets

        unseen = datasets.unseen_classes(builder, split)
        if not unseen:
            return
        if len(unseen) == len(self.class_names):
            raise ValueError(
                f"All pixels of the masks of the split '{split}' of {builder.name} are {IGNORE} "
                f"(ignore): there is nothing to learn or to measure. Choose another split."
            )
        names = ", ".join(unseen)
        if is_training and not may_lack_classes and datasets.has_own_classes(builder):
            raise ValueError(
                f"No pixel of the masks of the split '{split}' of {builder.name} is of the "
                f"class{'es' if len(unseen) > 1 else ''} {names}, which could not be learned. "
                f"{_unseen_cure(builder, split, unseen)}"
            )
        print(f"{builder.name}: no pixel of the masks of the split '{split}' is of {names}")

    def targets(self, model):
        return lambda sample: sample["mask"][..., 0]  # uint8 [H, W]

    def eval_batches(
        self, builder, split, image_size=None, batch_size=1, few_sizes=False, targets=None
    ):
        """As of `Task`: dicts of `image`, `mask` uint8 [B, H, W] (255 = ignore), `file_name`.

        Images keep their own sizes, and the mask is the target. `size` int32 [B, 2]: height and
        width without padding, which smaller images have up to `minimum_side`.
        """
        from kerasdense.data import datasets, pipeline

        # Padding is seen by what lies beside it, so that a score with it differs a little.
        multiple = SIZE_STEP if few_sizes and not datasets.have_one_size(builder, split) else 1
        split = pipeline.Split(builder, split, self.features)
        return pipeline.full_size_batches(split, batch_size, multiple, self.minimum_side)

    def compile_arguments(self, model):
        import keras

        from kerasdense.metrics.mean_iou import MeanIoU
        from kerasdense.models.losses import LabelDistributionCrossentropy
        from kerasdense.models.outputs import step_logits

        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=IGNORE)
        if not isinstance(model.output, dict):
            return {"loss": loss, "metrics": [MeanIoU(len(self.class_names))]}
        steps = step_logits(model.output)
        if steps:
            auxiliary, share = dict.fromkeys(steps, LabelDistributionCrossentropy()), STEPS_SHARE
        else:
            auxiliary, share = {"auxiliary_logits": loss}, AUXILIARY_SHARE
        return {
            "loss": {"logits": loss, **auxiliary},
            "loss_weights": {
                "logits": 1 - share,
                **dict.fromkeys(auxiliary, share / len(auxiliary)),
            },
            "metrics": {"logits": MeanIoU(len(self.class_names))},
        }

    def validate(self, model, samples):
        """IoU by class, from the confusion matrix that `Model.evaluate` has just counted."""
        from kerasdense.metrics.mean_iou import MeanIoU, per_class_iou

        compiled = (each for group in model.metrics for each in getattr(group, "metrics", []))
        (metric,) = (each for each in compiled if isinstance(each, MeanIoU))
        ious = map(number, per_class_iou(metric.matrix()))
        return {"val_per_class_iou": dict(zip(self.class_names, ious))}

    def validation_picture(self, model, samples):
        rows = []
        for sample in samples:
            logits = _logits(model.predict_on_batch(sample["image"][None]))[0]  # [H, W, C]
            image, truth, prediction = (
                _without_padding(values, sample.get("size"))
                for values in (sample["image"], sample["mask"], np.argmax(logits, axis=-1))
            )
            overlays = [
                pictures.overlay(image, labels, self.palette) for labels in (truth, prediction)
            ]
            rows.append([image, *overlays])
        return pictures.gallery(rows, captions=["image", "truth", "prediction"])

    # ---- evaluation

    options = ("scales", "flip")

    def evaluate(self, model, samples, worst=WORST, verbose=1, scales=(1.0,), flip=False):
        """Measures the model on every sample, at the labels' own resolution.

        Logits are resized to the labels' size before the argmax. With several `scales` (factors of
        the image's height and width), or `flip` (also mirrored left to right), the softmax of each
        pass is resized, and the passes are averaged.

        Returns an `Evaluation` whose result holds `mean_iou`, `per_class_iou` (by class name, None
        for a class absent from truth and prediction), `pixel_accuracy`, `confusion_matrix` (rows
        truth), `images`, `pixels`, `absent_classes`, `scales`, `flip`; the worst images are those
        of the lowest `pixel_accuracy`, with `image` [H, W, 3], `mask`, `prediction` uint8 [H, W].
        Raises: as of `Task`.
        Reference: Shelhamer et al. 2017, "Fully convolutional networks", sec. 5 (mean IU).
        """
        import tensorflow as tf

        scales = tuple(float(scale) for scale in scales)
        self._check(model, scales)
        predict = predictor(model, scales, flip)

        # One program for all sizes: pictures of a data set may all differ.
        @_program(
            tf.TensorSpec([None, None, None, 3], tf.uint8), tf.TensorSpec([None] * 3, tf.uint8)
        )
        def step(images, masks):
            return self._compared(predict(images, tf.shape(masks)[1:]), masks)

        def compared(batch, names):
            try:
                return step(batch["image"], batch["mask"])
            except (tf.errors.InvalidArgumentError, tf.errors.ResourceExhaustedError) as error:
                raise ValueError(_failure(error, batch, names)) from error

        return self._counted(compared, samples, worst, verbose, scales, flip)

    def measure(self, predict, samples, worst=WORST, verbose=1):
        """As of `Task`, by `labels` uint8 [B, H, W] and `confidence` float32 [B, H, W].

        Where a mask has another size than its image, the labels are resized to it by nearest
        neighbor, while `evaluate` resizes the logits.
        """
        import tensorflow as tf

        def compared(batch, names):
            images, masks = batch["image"].numpy(), batch["mask"].numpy()
            if "size" in batch:  # a picture as it is: what it needs of padding an export adds
                size = batch["size"].numpy().max(axis=0)
                images, masks = (values[:, : size[0], : size[1]] for values in (images, masks))
            outputs = predicted(predict, images, names)
            check_shape("labels", outputs["labels"], images.shape[:3])
            check_finite(outputs["confidence"], "confidences", ", ".join(names))
            self._check_labels(outputs["labels"])
            labels = tf.constant(outputs["labels"], tf.uint8)
            if images.shape[:3] != masks.shape:
                labels = tf.image.resize(labels[..., None], masks.shape[1:], "nearest")[..., 0]
            return self._compared(labels, tf.constant(masks))

        return self._counted(compared, samples, worst, verbose)

    def _compared(self, predictions, masks):
        """Counts of the pixels of label maps [B, H, W], for `_counted`: tensors.

        `predictions` uint8 [B, H, W]; the confusion matrix [C, C]; and of each image how many
        pixels are right, and how many count, int64 [B].
        """
        import tensorflow as tf

        from kerasdense.metrics.mean_iou import confusion_matrix

        predictions = tf.cast(predictions, tf.int32)
        valid = masks != IGNORE
        right = tf.logical_and(valid, tf.cast(masks, tf.int32) == predictions)
        return (
            tf.cast(predictions, tf.uint8),
            confusion_matrix(*map(_of_backend, (masks, predictions)), len(self.class_names)),
            tf.math.count_nonzero(right, axis=[1, 2]),
            tf.math.count_nonzero(valid, axis=[1, 2]),
        )

    def _counted(self, compared, samples, worst, verbose, scales=(1.0,), flip=False):
        """The `Evaluation` of `evaluate`, by `compared(batch, names)`, which is as `_compared`."""
        from kerasdense.metrics.mean_iou import mean_iou, per_class_iou, pixel_accuracy

        classes = len(self.class_names)
        matrix = np.zeros((classes, classes), np.int64)
        images, worst_images = 0, []
        for batch in progress(samples, verbose):
            names = file_names(batch["file_name"].numpy())
            self._check_batch(batch, names)
            predictions, counts, right, valid = compared(batch, names)
            images += len(names)
            matrix += np.asarray(counts)
            for i, (name, good, counted) in enumerate(zip(names, right.numpy(), valid.numpy())):
                if not (counted and worst):
                    continue  # nothing but ignored pixels is neither good nor bad
                accuracy = good / counted
                if len(worst_images) == worst and accuracy >= worst_images[-1]["pixel_accuracy"]:
                    continue
                found = {"file_name": name, "pixel_accuracy": float(accuracy)}
                maps = {"image": batch["image"], "mask": batch["mask"], "prediction": predictions}
                maps = {key: values[i].numpy() for key, values in maps.items()}
                size = batch["size"][i].numpy() if "size" in batch else None
                found |= {key: _without_padding(values, size) for key, values in maps.items()}
                worst_images.append(found)
                worst_images.sort(key=lambda image: image["pixel_accuracy"])
                del worst_images[worst:]
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
            "per_class_iou": dict(zip(self.class_names, map(number, ious))),
            "confusion_matrix": matrix.tolist(),
        }
        return Evaluation(result, worst_images)

    def table(self, result):
        return iou_table(result)

    def charts(self, evaluation):
        from kerasdense.drawing import charts

        matrix = evaluation.result["confusion_matrix"]
        return {"confusion_matrix": charts.confusion_matrix(matrix, self.class_names)}

    def worst_picture(self, found):
        """Image, truth, prediction and errors side by side, the legend below."""
        image, mask, prediction = found["image"], found["mask"], found["prediction"]
        if image.shape[:2] != mask.shape:
            image = pictures.resized(image, mask.shape)
        row = [
            image,
            pictures.overlay(image, mask, self.palette),
            pictures.overlay(image, prediction, self.palette),
            pictures.error_map(image, mask, prediction),
        ]
        errors = f"errors ({100 * found['pixel_accuracy']:.1f} % are right)"
        captions = [Path(found["file_name"]).name, "truth", "prediction", errors]
        return self._with_legend(pictures.gallery([row], captions))

    def _with_legend(self, picture):
        legend = pictures.legend(self.class_names, self.palette, picture.shape[1])
        return pictures.gallery([[picture], [legend]])

    def _check(self, model, scales):
        classes = self.count_classes(model)
        if classes != len(self.class_names):
            raise ValueError(
                f"The model has {classes} classes, the dataset {len(self.class_names)}: "
                f"{', '.join(self.class_names)}. Evaluate on the dataset the run was fitted on."
            )
        if not scales or not all(0 < scale < math.inf for scale in scales):
            raise ValueError(f"Scales must be positive numbers, received {list(scales)}.")

    def _check_labels(self, labels):
        """Raises ValueError for label maps (array) that hold what is no class."""
        classes = len(self.class_names)
        if labels.max(initial=0) >= classes:
            raise ValueError(
                f"The labels go from {labels.min()} to {labels.max()}, but there are {classes} "
                f"classes (0-{classes - 1}). Does the model belong to another dataset?"
            )

    def _check_batch(self, batch, names):
        image, mask, classes = batch["image"], batch["mask"], len(self.class_names)
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

    # ---- export and prediction

    @property
    def minimum_side(self):
        from kerasdense.models.layers import MINIMUM_SIZE

        return MINIMUM_SIZE

    pads_images = True
    # Some hundred bytes a pixel are taken: by AtrousFCN_Resnet50_16s 240.
    maximum_pixels = 2**24
    reference = "probabilities"
    figures = {
        "other_labels": Figure(
            "share of the pixels with another label",
            {"float32": 1e-3, "float16": 0.01, "bfloat16": 0.03, "int8": 0.08},
            "other labels",
            lambda share: f"{100 * share:.3f} %",
            most=1.0,
        ),
        "margin": Figure(
            "lead, in probability, of the reference's label over another that was given",
            {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.4},
            "margin",
        ),
        "confidence": Figure(
            "difference of confidence",
            {"float32": 1e-3, "float16": 0.03, "bfloat16": 0.25},
            "confidence",
        ),
    }

    def check_model(self, model):
        super().check_model(model)
        if len(self.class_names) > IGNORE:
            raise ValueError(
                f"Labels are exported as uint8 and {IGNORE} means ignore, so at most {IGNORE} "
                f"classes are possible, received {len(self.class_names)}."
            )

    def signatures(self, network, intake, portable):
        """What an export answers, of `images` uint8 [B, H, W, 3].

        Images below `minimum_side` are padded as `data.pipeline.full_size_batches` pads, and what
        is answered is cropped to them.

        serving_default: `labels` uint8 [B, H, W], `confidence` float32 [B, H, W].
        probabilities: `probabilities` float32 [B, H, W, C].
        raw: `logits` float32 [B, H, W, C].
        encoded: `image_bytes` string [B], files of one size, to what serving_default returns.
        """
        import tensorflow as tf

        batch, *size, channels = intake.images.shape
        padded = [side and max(side, self.minimum_side) for side in size]  # None where free
        # A tf.function of its own, so that all signatures share one trace of the network.
        logits_of = tf.function(
            lambda images: tf.cast(network(images, training=False), tf.float32),
            input_signature=[tf.TensorSpec([batch, *padded, channels], intake.images.dtype)],
            autograph=False,
            jit_compile=intake.xla or None,
        )

        def cropped(images, outputs):
            """As far as the images that were given; nothing to do where none can be padded."""
            if padded == size and None not in size:
                return outputs
            height, width = tf.unstack(tf.shape(images)[1:3])
            return {
                name: tf.ensure_shape(maps[:, :height, :width], [batch, *size, *maps.shape[3:]])
                for name, maps in outputs.items()
            }

        def padded_logits(images):
            return logits_of(_padded(intake.check(images), self.minimum_side))

        def raw(images):
            return cropped(images, {"logits": padded_logits(images)})

        def probabilities(images):
            return {"probabilities": tf.nn.softmax(raw(images)["logits"])}

        def serving_default(images):
            logits = padded_logits(images)  # [B, H or more, W or more, C]
            labels = tf.cast(tf.argmax(logits, axis=-1, output_type=tf.int32), tf.uint8)
            confidence = tf.reduce_max(tf.nn.softmax(logits), axis=-1)
            return cropped(images, {"labels": labels, "confidence": confidence})

        def encoded(image_bytes):
            decoded = tf.TensorSpec([None, None, 3], tf.uint8)
            images = tf.map_fn(intake.decode, image_bytes, fn_output_signature=decoded)
            return serving_default(tf.ensure_shape(images, intake.images.shape))

        return {
            "serving_default": serving_default,
            "probabilities": probabilities,
            "raw": raw,
            "encoded": encoded,
        }

    def differences(self, outputs, reference):
        """Figures of `labels` uint8 [B, H, W] and `confidence` float32 [B, H, W].

        `reference`: dict of `probabilities`, float [B, H, W, C]. `other_labels` is the share of
        pixels whose label is not the most probable one; `margin` by how much, in probability, the
        reference prefers its own there: little if two classes are equal but for rounding.
        `confidence` is its largest difference at any pixel, whatever the label.
        """
        labels, confidence = outputs["labels"], outputs["confidence"]
        reference = reference["probabilities"]
        check_shape("labels", labels, reference.shape[:-1])
        check_shape("confidence", confidence, reference.shape[:-1])
        best = reference.max(axis=-1)  # [B, H, W]
        valid = labels < reference.shape[-1]
        index = np.where(valid, labels, 0).astype(int)
        given = np.take_along_axis(reference, index[..., None], axis=-1)[..., 0]  # [B, H, W]
        return {
            "other_labels": float(np.mean(labels != reference.argmax(axis=-1))),
            "margin": float(np.max(best - np.where(valid, given, 0))),
            "confidence": float(np.max(np.abs(best - confidence))),
        }

    def writer(self, output, score=SURE):
        return LabelMaps(self, output)

    def cityscapes_writer(self, output, protocol):
        return CityscapesLabelMaps(self, output, protocol)

    # ---- explanation

    def class_objective(self, model, index, region=None):
        from kerasdense.explain import objectives

        return objectives.segmentation_class(index, region)

    def evidence_picture(self, name, image, output, heat, index):
        prediction = pictures.overlay(image, output.argmax(axis=-1), self.palette)
        row = [image, prediction, pictures.heat_overlay(image, heat)]
        captions = [name, "prediction", self.class_names[index]]
        return self._with_legend(pictures.gallery([row], captions))

    # ---- attacks

    unit = "pixel"
    truth = "mask"
    image_share = 0.99  # a few pixels of thousands may resist
    accuracies = ("pixel_accuracy", "mean_iou")
    goals = "--target-class A:B or --target-map FILE"

    def check_goal(self, goal):
        if goal.suppress:
            raise ValueError("Only a detector has objects to suppress, received another model.")

    def attack_labels(self, goal, logits, output, samples):
        predictions = logits.argmax(axis=-1)  # [B, H, W]
        if goal.moves is not None:
            return moved(predictions, goal.moves)
        if goal.target_map is not None:
            return np.broadcast_to(goal.target_map.astype(np.int32), predictions.shape)
        known = [sample.get(self.truth, seen) for sample, seen in zip(samples, predictions)]
        return np.stack(known).astype(np.int32)

    def attack_counts(self, example, view):
        """The confusion matrix with the truth, or where it is unknown with the clean prediction."""
        from keras import ops

        from kerasdense.metrics.mean_iou import confusion_matrix

        truth = np.asarray(example.sample.get(self.truth, example.clean.prediction), np.int32)
        truth = np.where(truth < 0, IGNORE, truth)
        matrix = confusion_matrix(truth, view.prediction, len(self.class_names))
        return ops.convert_to_numpy(matrix).astype(np.int64)  # of all images, more than int32 holds

    def attack_figures(self, counts):
        from kerasdense.metrics.mean_iou import mean_iou, per_class_iou, pixel_accuracy

        ious = map(number, per_class_iou(counts))
        return {
            "pixel_accuracy": number(pixel_accuracy(counts)),
            "mean_iou": number(mean_iou(counts)),
            "per_class_iou": dict(zip(self.class_names, ious)),
        }

    def view_picture(self, image, view):
        return pictures.overlay(image, view.prediction, self.palette)


class LabelMaps:
    """Writes label maps, NAME.png, overlays on the images, NAME_overlay.png, and legend.png.

    An overlay has a legend of its own, of the classes that it shows.
    """

    def __init__(self, task, output):
        self.task, self.output = task, output
        self.taken = {"legend"}
        width = LEGEND_WIDTH if len(task.palette) > MANY_CLASSES else None
        legend = pictures.legend(task.class_names, task.palette, width)
        pictures.save_picture(output / "legend.png", legend)

    def add(self, image, picture, outputs):
        """Writes `labels` uint8 [H, W] of `picture` uint8 [H, W, 3]; returns a line about it.

        Raises: ValueError for labels of another size than the picture, or of no class.
        """
        self.task._check_labels(outputs["labels"])
        return self._write(image, picture, outputs["labels"])

    def _write(self, image, picture, labels):
        """As `add`, of labels of which some may be IGNORE."""
        palette = self.task.palette
        overlay = pictures.overlay(picture, labels, palette)  # checks the size
        name = unused_name(image.name, self.taken, ("", "_overlay"))
        pictures.save_label_map(self.output / f"{name}.png", labels, palette)
        explained = pictures.with_legend(overlay, labels, self.task.class_names, palette)
        pictures.save_picture(self.output / f"{name}_overlay.png", explained)
        return f"{name}.png: {self._summary(labels)}"

    def _summary(self, labels):
        """The three largest classes with their shares."""
        names, labels = self.task.class_names, labels[labels != IGNORE]
        shares = np.bincount(labels, minlength=len(names)) / labels.size
        largest = [i for i in np.argsort(-shares)[:3] if shares[i] > 0]
        return ", ".join(f"{names[i]} {100 * shares[i]:.0f} %" for i in largest)

    def finish(self, images):
        """Everything is written already."""


class CityscapesLabelMaps(LabelMaps):
    """As `LabelMaps`, and cityscapes_ids/CITY_SEQ_FRAME_pred.png: label ids, uint8 [1024, 2048].

    What a protocol did not let the model see is IGNORE in NAME.png, unlabeled in the label ids.
    """

    def __init__(self, task, output, protocol):
        from kerasdense.data import cityscapes_frames

        self.frames, self.protocol = cityscapes_frames, protocol
        self.ids = cityscapes_frames.label_ids(task.class_names)  # before anything is written
        super().__init__(task, output)

    def add(self, image, picture, outputs):
        """As of `LabelMaps`; `labels` uint8 [h, w] are of what the model saw of the picture."""
        labels, size = outputs["labels"], picture.shape[:2]
        seen = self.protocol.size or size
        if labels.shape != seen:
            raise ValueError(
                f"Expected a label for each pixel that the model saw, {list(seen)}, received "
                f"{list(labels.shape)}."
            )
        self.task._check_labels(labels)
        name = self.frames.server_name(image.path)
        line = self._write(image, picture, self.protocol.put_back(labels, size))
        ids = self.ids[self.protocol.put_back(labels, self.frames.FULL_SIZE)]
        pictures.save_picture(self.output / self.frames.FOLDER / name, ids)
        if size == self.frames.FULL_SIZE:
            return line
        return f"{line} (label ids resized from {size[1]}x{size[0]})"


def _without_padding(values, size):
    """An image or label map [H, W, ...] as far as its `size` (height, width); None: all of it."""
    return values if size is None else values[: size[0], : size[1]]


def _unseen_cure(builder, split, unseen):
    """What to do where the training split of the user's own data does not show classes."""
    from kerasdense.data import datasets

    for other in builder.info.splits:
        there = datasets.unseen_classes(builder, other)
        shown = [name for name in unseen if there is not None and name not in there]
        if shown:
            return (
                f"The split '{other}' shows {', '.join(shown)}: choose other images for "
                f"'{split}' (splits/{split}.txt), or give up the class."
            )
    stored = ", ".join(map(str, builder.info.metadata["stored_values"][split]))
    return (
        "Take them out of classes.txt, or say which values of the masks mean the classes "
        f"(--mask-values V0,V1,...): they hold {stored}."
    )


def _padded(images, side):
    """Images uint8 [B, H, W, 3] with sides of at least `side`, gray at the bottom and the right.

    Not by tf.pad: of its output LiteRT's converter does not know that there are three colors.
    """
    import tensorflow as tf

    from kerasdense.data.augment import PADDING

    for axis in (1, 2):
        if images.shape[axis] is None or images.shape[axis] < side:
            batch, *size, _ = tf.unstack(tf.shape(images))
            size[axis - 1] = tf.maximum(side - size[axis - 1], 0)
            gray = tf.fill([batch, *size, 3], tf.constant(PADDING, tf.uint8))
            images = tf.concat([images, gray], axis)
    return images


def predictor(model, scales=(1.0,), flip=False):
    """A function `(images uint8 [B, H, W, 3], size [2]) -> labels int32 [B, h, w]`.

    It averages the softmax of all passes at `size`, and raises tf.errors.InvalidArgumentError when
    logits are not finite. With TensorFlow as Keras' backend it may be traced into a tf.function.
    """
    import tensorflow as tf

    from kerasdense.models.layers import minimum_side

    # A function of its own: it is traced once, not for each scale and once more for its mirror.
    @_program(tf.TensorSpec([None] * 3 + [3], tf.uint8))
    def logits_of(images):
        if _is_tensorflow():
            logits = _logits(model(images, training=False))
        else:
            logits = tf.constant(np.asarray(_logits(model.predict_on_batch(images.numpy()))))
        # The argmax of NaN would be class 0, and the result look merely bad.
        return tf.debugging.check_numerics(logits, "non-finite logits")

    def logits_of_any(images):
        """Of images that may be smaller than the model takes them."""
        side = minimum_side(model)
        if side == 1:
            return logits_of(images)
        height, width = tf.unstack(tf.shape(images)[1:3])
        return logits_of(_padded(images, side))[:, :height, :width]

    def predict(images, size):
        if scales == (1.0,) and not flip:
            logits = _resized(logits_of(images), size)
            return tf.argmax(logits, axis=-1, output_type=tf.int32)
        summed = 0.0
        for scale in scales:
            scaled = _scaled(images, scale)
            # Unscaled images are padded already.
            logits_at = logits_of if scale >= 1 else logits_of_any
            summed += _resized(tf.nn.softmax(logits_at(scaled)), size)
            if flip:
                mirrored = tf.reverse(logits_at(tf.reverse(scaled, [2])), [2])
                summed += _resized(tf.nn.softmax(mirrored), size)
        return tf.argmax(summed, axis=-1, output_type=tf.int32)

    return predict


def _program(*signature):
    """Compiles a function as a tf.function; another backend's cannot be part of one."""
    import tensorflow as tf

    if _is_tensorflow():
        return tf.function(input_signature=signature, autograph=False)
    return lambda function: function


def _of_backend(tensor):
    """TensorFlow's tensor as Keras' backend takes it."""
    return tensor if _is_tensorflow() else tensor.numpy()


def _is_tensorflow():
    import keras

    return keras.backend.backend() == "tensorflow"


def moved(labels, moves):
    """Labels with classes turned into others: `moved(mask, {road: sky})`; the rest is kept."""
    labels = np.asarray(labels)
    targets = labels.astype(np.int32)
    for old, new in moves.items():
        targets[labels == old] = new
    return targets


def _logits(output):
    from kerasdense.models.outputs import main_output

    return main_output(output)


def _resized(maps, size):
    """Bilinear, float32, and nothing to do where the size is right already."""
    import tensorflow as tf

    maps = tf.cast(maps, tf.float32)
    resized = tf.cond(
        tf.reduce_all(tf.shape(maps)[1:3] == size),
        lambda: maps,
        lambda: tf.image.resize(maps, size),
    )
    return tf.ensure_shape(resized, [None, None, None, maps.shape[-1]])


def _scaled(images, scale):
    import tensorflow as tf

    if scale == 1:
        return images
    extent = tf.cast(tf.shape(images)[1:3], tf.float32)
    size = tf.cast(tf.round(extent * scale), tf.int32)
    scaled = tf.image.resize(images, size, antialias=scale < 1)
    return tf.cast(tf.clip_by_value(tf.round(scaled), 0, 255), tf.uint8)


def _failure(error, batch, names):
    where = f"{', '.join(names)}, {batch['image'].shape[2]}x{batch['image'].shape[1]} pixels"
    if "non-finite logits" in str(error):
        return not_finite("logits", where)
    return f"The model cannot process {where}: {reason(error)}"


TASK = Segmentation
