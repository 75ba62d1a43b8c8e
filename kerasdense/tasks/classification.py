"""Classification: which classes does a picture show? Each class is a question of its own.

B batch, H W size, C classes, N objects.
"""

import json
from pathlib import Path

import numpy as np

from kerasdense.data.images import unused_name
from kerasdense.drawing import pictures
from kerasdense.metrics.average_precision import label_average_precision
from kerasdense.metrics.labels import IGNORE
from kerasdense.metrics.tables import (
    average_precision_table,
    average_precisions,
    curves,
    number,
)
from kerasdense.tasks.base import (
    NO_REGION,
    SURE,
    WORST,
    Evaluation,
    Figure,
    Task,
    check_finite,
    check_shape,
    file_names,
    predicted,
    progress,
)

CAPTION = 15  # pixels: the least height of the text of labels
CAPTIONED = 400  # pixels: the least width of a picture that has its labels above it
TALLEST = 1600  # pixels: as far as a narrow picture grows for them; paper is the rest
NEAREST = 1e-45, 1 - 2**-25  # to 0 and 1: no float32 lies between


class Classification(Task):
    """Several labels for each picture: logits float32 [B, C], whose sigmoids are probabilities.

    `image_size`: (H, W) that pictures are warped to.
    """

    name = "classification"
    features = ("image", "boxes", "labels", "difficult", "file_name")
    target = "targets"
    criterion = "val_mean_ap"
    criterion_name = "val mean AP"
    accuracy = "mean_ap_area"

    def __init__(self, class_names, palette, image_size=None):
        super().__init__(class_names, palette)
        self.image_size = image_size and tuple(image_size)

    @classmethod
    def of_run(cls, facts):
        dataset = facts["dataset"]
        size = facts.get("arguments", {}).get("size")
        return cls(dataset["class_names"], dataset["palette"], size)

    @classmethod
    def recognizes(cls, model):
        return len(getattr(model.output, "shape", ())) == 2

    @staticmethod
    def classes(builder):
        from kerasdense.data import datasets

        return datasets.classes(builder, "box")

    def image_size_of(self, model):
        return self.image_size

    def count_classes(self, model):
        return model.output.shape[-1]

    # ---- training

    def class_heads(self, model):
        from kerasdense.models.outputs import heads

        return dict.fromkeys(heads(model, model.output), 0)

    def check_data(self, builder, split, is_training=False, may_lack_classes=False):
        """As of `Task`: refuses a split without objects, and names classes that are not shown."""
        from kerasdense.data import datasets

        datasets.check_objects(builder, split, is_training)

    def targets(self, model):
        return image_labels(len(self.class_names))

    def eval_batches(
        self, builder, split, image_size=None, batch_size=1, few_sizes=False, targets=None
    ):
        """As of `Task`, dicts as `data.pipeline.warped_batches` gives, at `image_size`.

        `targets` float32 [B, C]: 1 present, 0 absent, -1 not counted; always there.
        """
        from kerasdense.data import pipeline

        if image_size is None:
            raise ValueError(
                "It is unknown to which size the pictures of this classifier are warped: expected "
                "`size`, [height, width], among the arguments in the run's run.json."
            )
        split = pipeline.Split(builder, split, self.features)
        labels = image_labels(len(self.class_names))
        return pipeline.warped_batches(split, image_size, batch_size, labels)

    def compile_arguments(self, model):
        from kerasdense.models.losses import multi_label_loss

        return {"loss": multi_label_loss}

    def validate(self, model, samples):
        result = self.evaluate(model, samples, worst=0).result
        return {
            "val_mean_ap": result["mean_ap_area"],
            "val_mean_ap_11point": result["mean_ap_11point"],
            "val_per_class_ap": result["ap_area"],
        }

    def validation_picture(self, model, samples):
        logits = model.predict_on_batch(np.stack([sample["image"] for sample in samples]))
        row = [
            self._labelled(sample["image"], sample["targets"], found)
            for sample, found in zip(samples, _sigmoid(np.asarray(logits)))
        ]
        return pictures.gallery([row])

    # ---- evaluation

    def evaluate(self, model, samples, worst=WORST, verbose=1):
        """Measures the model on every sample: average precision of its labels.

        `samples`: of them `image`, `targets`, `size` and `file_name` are used.

        Returns an `Evaluation`. Its result holds by class name `ap_area`, `ap_11point` (None for a
        class that no image shows), `ground_truth` (images that show it), `ignored` (images where it
        does not count), and at a probability of 0.5 or more `true_positives` and
        `false_positives`; `mean_ap_area`, `mean_ap_11point`, `images`, `absent_classes`. The worst
        images are those of the highest `loss`, with `image` uint8 [H, W, 3], `size`, `labels` [C]
        as in the targets and `probabilities` float32 [C].
        Raises: as of `Task`.
        Reference: Everingham et al. 2010, "The PASCAL VOC Challenge", sec. 4.1.
        """
        if not self.recognizes(model) or self.count_classes(model) != len(self.class_names):
            raise ValueError(
                f"The model's output is {tuple(model.output.shape)}, expected a logit for each of "
                f"the dataset's {len(self.class_names)} classes: {', '.join(self.class_names)}. "
                f"Evaluate a classifier, on the dataset the run was fitted on."
            )

        def logits_of(images, names):
            return np.asarray(model.predict_on_batch(images))

        return self._counted(logits_of, samples, worst, verbose)

    def measure(self, predict, samples, worst=WORST, verbose=1):
        """As of `Task`, by `probabilities` float32 [B, C].

        They rank as their logits do, but for images whose probabilities round to the same, as to 0
        or to 1: these tie, while `evaluate` may tell their logits apart.
        """

        def logits_of(images, names):
            probabilities = predicted(predict, images, names)["probabilities"].astype(np.float64)
            check_shape("probabilities", probabilities, (len(names), len(self.class_names)))
            check_finite(probabilities, "probabilities", ", ".join(names))
            if not 0 <= probabilities.min() <= probabilities.max() <= 1:
                raise ValueError(
                    f"{', '.join(names)}: expected probabilities from 0 to 1, received "
                    f"{probabilities.min()} to {probabilities.max()}."
                )
            inside = np.clip(probabilities, *NEAREST)  # 0 and 1 have no logit
            return np.log(inside) - np.log1p(-inside)

        return self._counted(logits_of, samples, worst, verbose)

    def _counted(self, logits_of, samples, worst, verbose):
        """The `Evaluation` of `evaluate`, by `logits_of(images, names)`, float [B, C]."""
        truth, scores, worst_images = [], [], []
        for batch in progress(samples, verbose):
            batch = {key: value.numpy() for key, value in batch.items()}
            names = file_names(batch["file_name"])
            logits = logits_of(batch["image"], names)  # [B, C]
            check_finite(logits, "logits", ", ".join(names))
            truth.append(batch["targets"].astype(int))
            scores.append(logits)
            worst_images += _labelled_images(batch, names, logits)
            worst_images = sorted(worst_images, key=lambda found: -found["loss"])[:worst]
        if not truth:
            raise ValueError("Nothing to evaluate: the split holds no images.")
        truth, scores = np.concatenate(truth), np.concatenate(scores)  # [images, C]
        # By logits, not probabilities, which become equal where they round to 0 or 1.
        found = label_average_precision(truth, scores)
        result = average_precisions(found, self.class_names) | {"images": len(truth)}
        sure = _sigmoid(scores) >= SURE
        for key, images in {
            "ground_truth": truth == 1,
            "ignored": truth == -1,
            "true_positives": sure & (truth == 1),
            "false_positives": sure & (truth == 0),
        }.items():
            result[key] = dict(zip(self.class_names, images.sum(axis=0).tolist()))
        return Evaluation(result, worst_images, curves(found, self.class_names))

    def table(self, result):
        columns = {
            "images": "ground_truth",
            "ignored": "ignored",
            "true": "true_positives",
            "false": "false_positives",
        }
        return average_precision_table(result, columns)

    def charts(self, evaluation):
        from kerasdense.drawing import charts

        precisions = evaluation.result["ap_area"]
        figure = charts.precision_recall(evaluation.curves, precisions, self.palette)
        return {"precision_recall": figure}

    def worst_picture(self, found):
        """The image in its own shape, below what it shows and what was found."""
        image = pictures.resized(found["image"], found["size"])
        picture = self._labelled(image, found["labels"], found["probabilities"])
        name = f"{Path(found['file_name']).name}, loss {found['loss']:.2f}"
        return pictures.gallery([[picture]], [name])

    def _labelled(self, image, labels, probabilities):
        """`image` uint8 [H, W, 3] below lines of text that tell its labels and what was found.

        `labels` [C]: 1 present, 0 absent, -1 not counted; `probabilities` [C]. There is a line for
        the classes that are present, one for the wrong ones of probability 0.5 or more, and one
        for those that do not count.
        """
        found = {
            "shows": labels == 1,
            "wrong": (labels == 0) & (probabilities >= SURE),
            "not counted": labels == -1,
        }
        height, width = image.shape[:2]
        if width < CAPTIONED:
            factor = min(CAPTIONED / width, max(1, TALLEST / height))
            image = pictures.resized(image, (round(height * factor), round(width * factor)))
            paper = ((0, 0), (0, CAPTIONED - image.shape[1]), (0, 0))
            image = np.pad(image, paper, constant_values=pictures.PAPER[0])
        text = max(CAPTION, pictures.text_size(image))
        for what, chosen in reversed(found.items()):
            if chosen.any() or what == "shows":
                best_first = sorted(np.flatnonzero(chosen), key=lambda index: -probabilities[index])
                line = ", ".join(self._share(i, probabilities) for i in best_first)
                line = f"{what}: {line or 'none of the classes'}"
                # Without the margin, in which the next line would be indented.
                margin = pictures.MARGIN
                image = pictures.gallery([[image]], [line], text)[:-margin, margin:-margin]
        return image

    def _share(self, index, probabilities):
        return f"{self.class_names[index]} {100 * probabilities[index]:.0f} %"

    # ---- export and prediction

    @property
    def minimum_side(self):
        from kerasdense.models.layers import MINIMUM_SIZE

        return 1 if self.image_size else MINIMUM_SIZE

    @property
    def maximum_pixels(self):
        return 2**27 if self.image_size else super().maximum_pixels  # shrunk first, or as they are

    figures = {
        "probabilities": Figure(
            "difference of a probability",
            {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.2, "int8": 0.2},
            "probability",
            most=1.0,
        ),
    }

    def signatures(self, network, intake, portable):
        """What an export answers.

        serving_default, of `images` uint8 [B, H, W, 3]: `probabilities` float32 [B, C].
        raw: `logits` float32 [B, C].
        encoded: `image_bytes` string [B], files of any sizes, to what serving_default returns.
        Pictures are warped to `image_size` first; without one, those of a batch have one size.
        """
        import tensorflow as tf

        from kerasdense.data.augment import resize_image

        size = self.image_size or (None, None)
        logits_of = tf.function(
            lambda images: tf.cast(network(images, training=False), tf.float32),
            input_signature=[tf.TensorSpec([intake.images.shape[0], *size, 3], tf.uint8)],
            autograph=False,
            jit_compile=intake.xla or None,
        )

        def warped(images):
            return resize_image(images, size) if self.image_size else images

        def raw(images):
            return {"logits": logits_of(warped(intake.check(images)))}

        def serving_default(images):
            return {"probabilities": tf.sigmoid(raw(images)["logits"])}

        def encoded(image_bytes):
            spec = tf.TensorSpec([*size, 3], tf.uint8)
            images = tf.map_fn(
                lambda data: warped(intake.check(intake.decode(data)[None]))[0],
                image_bytes,
                fn_output_signature=spec,
            )
            return {"probabilities": tf.sigmoid(logits_of(images))}

        return {"serving_default": serving_default, "raw": raw, "encoded": encoded}

    def differences(self, outputs, reference):
        """The largest difference of `probabilities` float32 [B, C]."""
        ours, theirs = outputs["probabilities"], reference["probabilities"]
        check_shape("probabilities", ours, theirs.shape)
        return {"probabilities": float(np.max(np.abs(ours - theirs)))}

    def writer(self, output, score=SURE):
        return Labels(self, output, score)

    # ---- explanation

    def class_objective(self, model, index, region=None):
        from kerasdense.explain import objectives

        if region is not None:
            raise ValueError(NO_REGION)
        return objectives.class_logit(index)

    def evidence_picture(self, name, image, output, heat, index):
        share = f"{self.class_names[index]} {100 * _sigmoid(output)[index]:.1f} %"
        return pictures.gallery([[image, pictures.heat_overlay(image, heat)]], [name, share])

    # ---- attacks

    unit = "label"
    truth = "targets"
    accuracies = ("label_accuracy",)
    goals = "--target-class A:B"

    def unit_logits(self, output):
        """Two classes of each label, absent (always 0) and present: [B, C, 2]."""
        from keras import ops

        return ops.stack([ops.zeros_like(output), output], axis=-1)

    def check_goal(self, goal):
        if goal.target_map is not None:
            raise ValueError("A target map is for segmentation models, received another model.")
        if goal.suppress:
            raise ValueError("Only a detector has objects to suppress, received another model.")

    def attack_labels(self, goal, logits, output, samples):
        predictions = logits.argmax(axis=-1)  # [B, C]
        if goal.moves is None:
            known = [sample.get(self.truth, seen) for sample, seen in zip(samples, predictions)]
            return np.stack(known).astype(np.int32)
        labels = predictions.astype(np.int32)
        for old, new in goal.moves.items():
            shown = predictions[:, old] == 1
            labels[shown, old], labels[shown, new] = 0, 1
        return labels

    def attack_counts(self, example, view):
        """Counts of labels absent and present, [truth, prediction], without those left out.

        The measure is the truth, or where it is unknown the clean prediction.
        """
        from keras import ops

        from kerasdense.metrics.mean_iou import confusion_matrix

        truth = np.asarray(example.sample.get(self.truth, example.clean.prediction), np.int32)
        truth = np.where(truth < 0, IGNORE, truth)  # -1: a label that does not count
        return ops.convert_to_numpy(confusion_matrix(truth, view.prediction, 2)).astype(np.int64)

    def attack_figures(self, counts):
        from kerasdense.metrics.mean_iou import pixel_accuracy

        return {"label_accuracy": number(pixel_accuracy(counts))}

    def view_picture(self, image, view):
        present = np.where(view.prediction == 1, view.confidence, 1 - view.confidence)
        return self._labelled(image, view.prediction, present)


class Labels:
    """Writes pictures below their labels, NAME_labels.jpg, and all probabilities, labels.json."""

    def __init__(self, task, output, score):
        self.task, self.output, self.score = task, output, score
        self.taken, self.found = set(), {}

    def add(self, image, picture, outputs):
        """Draws the labels of `picture` uint8 [H, W, 3]; returns a line about it.

        `probabilities` float32 [C]; a label is shown from the writer's `score` on.
        """
        probabilities = outputs["probabilities"]
        labels = (probabilities >= self.score).astype(int)
        name = unused_name(image.name, self.taken, ("_labels",))
        drawn = self.task._labelled(picture, labels, np.where(labels, probabilities, 0))
        pictures.save_picture(self.output / f"{name}_labels.jpg", drawn)
        self.found[str(image.path)] = dict(zip(self.task.class_names, map(float, probabilities)))
        shown = sorted(np.flatnonzero(labels), key=lambda index: -probabilities[index])
        parts = [self.task._share(index, probabilities) for index in shown]
        return f"{name}_labels.jpg: {', '.join(parts) or 'nothing'}"

    def finish(self, images):
        """Writes labels.json: {path: {class name: probability}}."""
        (self.output / "labels.json").write_text(json.dumps(self.found, indent=1) + "\n")


def image_labels(num_classes):
    """The target of multi-label classification, a function of a sample: float32 [C].

    From `labels` and `difficult` of the sample's objects, for each class: 1, an object of it is in
    the picture; 0, none; -1, only difficult ones, so that the label does not count. To be right,
    the labels need all objects: augmentation for them must not crop.

    Reference: Everingham et al., The PASCAL VOC challenge 2007, development kit: the image sets of
    the classification task mark such pictures as difficult.
    """
    import tensorflow as tf

    def targets(sample):
        shown = tf.one_hot(sample["labels"], num_classes, True, False, dtype=tf.bool)  # [N, C]
        easy = tf.reduce_any(shown & ~sample["difficult"][:, None], axis=0)  # [C]
        difficult = tf.reduce_any(shown, axis=0)
        return tf.where(easy, 1.0, tf.where(difficult, -1.0, 0.0))

    return targets


def _labelled_images(batch, names, logits):
    """The images of a batch as `Evaluation.worst` holds them, not yet chosen."""
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


TASK = Classification
