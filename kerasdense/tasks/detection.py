"""Detection: boxes with a class each, by an SSD.

B batch, H W size, C classes, A anchors, N objects, D detections of an image.
"""

import dataclasses
import functools
from pathlib import Path

import numpy as np

from kerasdense.boxes import geometry, suppression
from kerasdense.data import formats
from kerasdense.data.images import unused_name
from kerasdense.drawing import pictures
from kerasdense.metrics.average_precision import (
    Detections,
    GroundTruth,
    coco_average_precision,
    joined,
    voc_average_precision,
)
from kerasdense.metrics.tables import (
    average_precision_table,
    average_precisions,
    curves,
    number,
    percent,
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

OFFSETS = 4  # of the raw output, after the class logits
SAME_PLACE = 0.5  # IoU from which two boxes are of the same object, as VOC has it
RIGHT = (60, 180, 75)  # color of a detection that found an object

# Of an export beside its model: detections of a lower score are not looked for. There are many,
# and rounding moves some of them across the least score that the suppression keeps.
LEAST_SCORE = 0.1
# Nor are, where all D rows are taken, those that score so little more than the last row: rounding
# moves some of them across the cut.
CUT_MARGIN = 0.01
# From this IoU on, boxes of one class are the same. Of two anchors that predict nearly one box with
# nearly one score, rounding decides which suppresses the other: that moves a few boxes by a part of
# their size, so that not the largest difference is limited, but the one that most keep.
SAME_BOX = 0.8
MOST = 0.99


class Detection(Task):
    """Boxes with a class each: the raw output of an SSD, float32 [B, A, C + 1 + 4]."""

    name = "detection"
    features = ("image", "boxes", "labels", "difficult", "file_name")
    target = "targets"
    criterion = "val_mean_ap"
    criterion_name = "val mean AP"
    accuracy = "mean_ap_area"
    shown = ("confidence_loss", "localization_loss", "positives")

    @classmethod
    def recognizes(cls, model):
        from kerasdense.models.ssd import is_ssd

        return is_ssd(model)

    @staticmethod
    def classes(builder):
        from kerasdense.data import datasets

        return datasets.classes(builder, "box")

    def image_size_of(self, model):
        return tuple(model.input.shape[1:3])

    def count_classes(self, model):
        return model.output.shape[-1] - 1 - OFFSETS

    # ---- training

    def class_heads(self, model):
        from kerasdense.models.outputs import heads
        from kerasdense.models.ssd import predictions_of

        maps = predictions_of(model).input  # those of classes, then those of boxes
        return dict.fromkeys(heads(model, maps[: len(maps) // 2]), 1)

    def check_data(self, builder, split, is_training=False, may_lack_classes=False):
        """As of `Task`: refuses a split without objects, and names classes that are not shown."""
        from kerasdense.data import datasets

        datasets.check_objects(builder, split, is_training)

    def targets(self, model):
        from kerasdense.boxes.anchors import encode_targets

        anchors = _anchors_of(model)
        return lambda sample: encode_targets(sample["boxes"], sample["labels"], anchors)  # [A, 5]

    def eval_batches(
        self, builder, split, image_size=None, batch_size=1, few_sizes=False, targets=None
    ):
        """As of `Task`, dicts as `data.pipeline.warped_batches` gives, at `image_size`."""
        from kerasdense.data import pipeline

        split = pipeline.Split(builder, split, self.features)
        return pipeline.warped_batches(split, image_size, batch_size, targets)

    def compile_arguments(self, model):
        import keras

        from kerasdense.models import losses

        # Not the functions themselves: Keras would wrap them during the first step, and a step
        # that makes variables is traced twice.
        metrics = [
            keras.metrics.MeanMetricWrapper(function, name=function.__name__)
            for function in (losses.confidence_loss, losses.localization_loss, losses.positives)
        ]
        return {"loss": losses.MultiboxLoss(), "metrics": metrics}

    def validate(self, model, samples):
        result = self.evaluate(model, samples, worst=0, coco=False).result
        return {
            "val_mean_ap": result["mean_ap_area"],
            "val_mean_ap_11point": result["mean_ap_11point"],
            "val_per_class_ap": result["ap_area"],
        }

    def validation_picture(self, model, samples):
        raw = model.predict_on_batch(np.stack([sample["image"] for sample in samples]))
        rows = []
        for sample, found in zip(samples, self.detections(model)(np.asarray(raw))):
            image, real = sample["image"], sample["labels"] >= 0  # the rest is padding
            truth = self._drawn(image, sample["boxes"][real], sample["labels"][real])
            rows.append([image, truth, self._drawn(image, **sure_detections(found))])
        return pictures.gallery(rows, captions=["image", "truth", "detections"])

    # ---- evaluation

    options = ("class_map",)

    def evaluate(self, model, samples, worst=WORST, verbose=1, coco=True, class_map=None):
        """Measures the model on every sample: average precision of its detections.

        `samples`: of them `image`, `boxes`, `labels`, `difficult`, `size` and `file_name` are
        used; `coco`: also COCO's numbers.

        `class_map`: of a model of other classes, {its class: that of the samples}, by index. Boxes
        of the classes that map to one are suppressed together, each anchor's by the sum of their
        probabilities. Classes that map to nothing count as background: of the 200 detections of an
        image none is theirs. A class of the samples that nothing maps to is not found, and counts
        in the means with AP 0. The result then holds `left_out`, the number of `classes` that map
        to nothing and of the `detections` of these, as they would be without the map; and
        `unmapped_classes`, names of those that nothing maps to.

        Returns an `Evaluation`. Its result holds by class name `ap_area`, `ap_11point` (None for a
        class without objects), `ground_truth`, `detections`, `true_positives`, `false_positives`;
        `mean_ap_area`, `mean_ap_11point`, `images`, `absent_classes`, and `coco`, its twelve
        numbers. The worst images are those with most `errors` at score 0.5 or more (a wrong
        detection or a missed object each), with `image` uint8 [H, W, 3], `size`, `boxes`,
        `labels`, `difficult`, and of `detections`: `boxes`, `labels`, `scores`, `correct`.
        Raises: as of `Task`.
        Reference: Everingham et al. 2010, "The PASCAL VOC Challenge", sec. 4.2; Lin et al. 2014,
        "Microsoft COCO".
        """
        classes = len(self.class_names)
        if class_map is not None:
            _check_class_map(class_map, self.count_classes(model), classes)
        elif self.count_classes(model) != classes:
            raise ValueError(
                f"The model has {self.count_classes(model)} classes, the dataset {classes}: "
                f"{', '.join(self.class_names)}. Evaluate on the dataset the run was fitted on."
            )
        detections_of, left_out = self.detections(model), []

        def found_in(images, names):
            raw = np.asarray(model.predict_on_batch(images))
            check_finite(raw, "outputs", ", ".join(names))
            if class_map is not None:
                for detections in detections_of(raw):
                    left_out.append(np.sum(~np.isin(detections["labels"], list(class_map))))
                raw = mapped_raw(raw, class_map, classes)
            return detections_of(raw)

        evaluation = self._counted(found_in, samples, worst, verbose, coco)
        if class_map is not None:
            mapped = set(class_map.values())
            evaluation.result["unmapped_classes"] = [
                name for index, name in enumerate(self.class_names) if index not in mapped
            ]
            evaluation.result["left_out"] = {
                "classes": self.count_classes(model) - len(class_map),
                "detections": int(sum(left_out)),
            }
        return evaluation

    def measure(self, predict, samples, worst=WORST, verbose=1):
        """As of `Task`, by `boxes`, `scores`, `classes` and `num_detections` of `signatures`."""

        def found_in(images, names):
            outputs = predicted(predict, images, names)
            height, width = images.shape[1:3]
            found = []
            for i, name in enumerate(names):
                detections = _of_image(outputs, i)
                self._check_detections(detections, outputs["num_detections"][i], name)
                boxes = detections["boxes"] / np.array([width, height, width, height])  # relative
                labels, scores = detections["classes"], detections["scores"]
                found.append({"boxes": boxes, "labels": labels, "scores": scores})
            return found

        return self._counted(found_in, samples, worst, verbose)

    def _check_detections(self, found, count, name):
        """Raises ValueError unless detections of an export (`_of_image`) can be."""
        for key in ("boxes", "scores"):
            check_finite(found[key], key, name)
        if not 0 <= count == len(found["scores"]):
            raise ValueError(
                f"{name}: num_detections is {count}, but there are {len(found['scores'])} boxes."
            )
        classes, labels = len(self.class_names), found["classes"]
        if count and not 0 <= labels.min() <= labels.max() < classes:
            raise ValueError(
                f"{name}: the detections are of classes {labels.min()} to {labels.max()}, but "
                f"there are {classes} (0-{classes - 1}). Does the model belong to another dataset?"
            )

    def _counted(self, found_in, samples, worst, verbose, coco=True):
        """The `Evaluation` of `evaluate`, by `found_in(images, names)`, as `detections` gives."""
        classes = len(self.class_names)
        names, truth, found = [], [], []
        for batch in progress(samples, verbose):
            batch = {key: value.numpy() for key, value in batch.items()}
            batch_names = file_names(batch["file_name"])
            for i, detections in enumerate(found_in(batch["image"], batch_names)):
                image = len(names)
                names.append(batch_names[i])
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
                found.append(
                    Detections(
                        np.full(len(detections["labels"]), image),
                        detections["boxes"] * in_pixels,
                        detections["labels"],
                        detections["scores"],
                    )
                )
        if not names:
            raise ValueError("Nothing to evaluate: the split holds no images.")
        truth, found = joined(truth), joined(found)
        voc = voc_average_precision(truth, found, classes)
        result = average_precisions(voc, self.class_names) | {"images": len(names)}
        for key in ("ground_truth", "detections", "true_positives", "false_positives"):
            counts = [getattr(each, key) for each in voc.classes]
            result[key] = dict(zip(self.class_names, counts))
        if coco:
            summary = coco_average_precision(truth, found, classes).summary
            result["coco"] = {name: number(value) for name, value in summary.items()}
        worst_images = _worst_images(samples, names, truth, found, voc, worst) if worst else []
        return Evaluation(result, worst_images, curves(voc, self.class_names))

    def table(self, result):
        columns = {
            "objects": "ground_truth",
            "detections": "detections",
            "true": "true_positives",
            "false": "false_positives",
        }
        lines = [average_precision_table(result, columns)]
        if "coco" in result:
            numbers = [f"{name} {percent(value)}" for name, value in result["coco"].items()]
            lines += ["COCO: " + ", ".join(numbers[:6]), "      " + ", ".join(numbers[6:])]
        if "left_out" in result:
            lines.append(
                "Classes of the model that map to nothing: {classes}; of these {detections} "
                "detections are left out.".format(**result["left_out"])
            )
        if result.get("unmapped_classes"):
            lines.append(
                f"Nothing maps to {', '.join(result['unmapped_classes'])}: not found, and in the "
                "means where there are objects."
            )
        return "\n".join(lines)

    def charts(self, evaluation):
        from kerasdense.drawing import charts

        precisions = evaluation.result["ap_area"]
        figure = charts.precision_recall(evaluation.curves, precisions, self.palette)
        return {"precision_recall": figure}

    def worst_picture(self, found):
        """Truth, difficult objects dashed; and the sure detections, right green and wrong red."""
        image = pictures.resized(found["image"], found["size"])
        truth = image
        for kind in (False, True):
            mine = found["difficult"] == kind
            truth = self._drawn(truth, found["boxes"][mine], found["labels"][mine], dashed=kind)
        correct = found["detections"]["correct"]
        boxes, labels, scores = (found["detections"][key] for key in ("boxes", "labels", "scores"))
        colors = [RIGHT if each else pictures.WRONG for each in correct]
        drawn = self._drawn(image, boxes, labels, scores, colors=colors)
        name = Path(found["file_name"]).name
        return pictures.gallery([[truth, drawn]], [f"{name}, truth", f"{found['errors']} errors"])

    def _drawn(self, image, boxes, labels, scores=None, **how):
        return pictures.draw_boxes(
            image, boxes, labels, self.class_names, self.palette, scores, **how
        )

    # ---- export and prediction

    maximum_pixels = 2**27  # the pictures are shrunk first
    figures = {
        "sought": Figure(
            "detections of the model that are looked for",
            heading="sought",
            text="{:.0f}".format,
            counts=True,
        ),
        "missed": Figure(
            "share of the model's detections that are missing",
            {"float32": 0.01, "float16": 0.05, "bfloat16": 0.1, "int8": 0.2},
            "missed",
            lambda share: f"{100 * share:.2f} %",
            most=1.0,
        ),
        "invented": Figure(
            "share of the detections that the model does not have",
            {"float32": 0.01, "float16": 0.05, "bfloat16": 0.1, "int8": 0.2},
            "invented",
            lambda share: f"{100 * share:.2f} %",
            most=1.0,
        ),
        "count": Figure(
            "difference of num_detections as a share of the rows",
            {"float32": 0.02, "float16": 0.1, "bfloat16": 0.2, "int8": 0.2},
            most=1.0,
        ),
        "boxes": Figure(
            "difference in pixels that 99 % of the boxes keep",
            {"float32": 0.1, "float16": 1.0, "bfloat16": 3.0, "int8": 5.0},
            "pixels",
        ),
        "largest_box": Figure("difference of a box in pixels", {}, "largest"),
        "scores": Figure(
            "difference of a score",
            {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.1, "int8": 0.2},
            "score",
            most=1.0,
        ),
    }

    def signatures(self, network, intake, portable):
        """What an export answers.

        serving_default, of `images` uint8 [B, H, W, 3]: `boxes` float32 [B, 200, 4], xyxy in pixels
            of the input; `scores` float32 [B, 200]; `classes` int32 [B, 200], index into the class
            names; `num_detections` int32 [B]. The best of an image first, zeros after the last.
        raw: `raw` float32 [B, A, C + 1 + 4], see `models.ssd300`.
        encoded: `image_bytes` string [B], files of any sizes, to what serving_default returns.
        """
        import tensorflow as tf

        from kerasdense.data.augment import resize_image

        anchors, size = _anchors_of(network), self.image_size_of(network)
        raw_of = tf.function(
            lambda images: tf.cast(network(images, training=False), tf.float32),
            input_signature=[tf.TensorSpec([intake.images.shape[0], *size, 3], tf.uint8)],
            autograph=False,
            jit_compile=intake.xla or None,
        )

        def detections(shrunk, sizes):
            """Of pictures [B, h, w, 3] that were `sizes` int32 [B, 2], height and width."""
            found = suppression.decode_detections(raw_of(shrunk), anchors, portable)
            scale = tf.cast(tf.gather(sizes, [1, 0, 1, 0], axis=1), tf.float32)  # [B, 4]
            return found | {"boxes": found["boxes"] * scale[:, None]}

        def raw(images):
            return {"raw": raw_of(resize_image(intake.check(images), size))}

        def serving_default(images):
            images = intake.check(images)
            shape = tf.shape(images)
            sizes = tf.tile(shape[None, 1:3], [shape[0], 1])
            return detections(resize_image(images, size), sizes)

        def encoded(image_bytes):
            def shrink(data):
                image = intake.check(intake.decode(data)[None])[0]
                return resize_image(image, size), tf.shape(image)[:2]

            types = (tf.TensorSpec([*size, 3], tf.uint8), tf.TensorSpec([2], tf.int32))
            return detections(*tf.map_fn(shrink, image_bytes, fn_output_signature=types))

        return {"serving_default": serving_default, "raw": raw, "encoded": encoded}

    def assets(self, model):
        return {"anchors": _anchors_of(model)}

    def postprocessing(self):
        return {
            "least_score": suppression.LEAST_SCORE,
            "candidates": suppression.CANDIDATES,
            "overlap": suppression.OVERLAP,
            "detections": suppression.DETECTIONS,
            "variances": list(geometry.VARIANCES),
        }

    def differences(self, outputs, reference):
        """Figures of the sets of boxes, not of their rows.

        `outputs`, `reference`: dicts of `boxes` float32 [B, D, 4], xyxy in pixels, `scores` float32
        [B, D], the reference's the best first, `classes` int32 [B, D], `num_detections` int32 [B].

        The reference's detections, the best first, take the one of their class that they overlap
        most, from SAME_BOX on. Those well above LEAST_SCORE and the cut are `sought` (their
        number); `missed` is the share of them that found none, `invented` the share of such outputs
        that nobody took. Of the found, `boxes` is the difference (of any side, in pixels) that a
        share MOST of them keep, `largest_box` and `scores` are the largest ones. `count` is the
        largest difference of `num_detections` as a share of D.
        """
        for name, values in reference.items():
            check_shape(name, outputs[name], values.shape)
        sought, missed, high, invented = [], [], [], []
        boxes, scores = [], []  # differences of the found
        for image in range(len(reference["scores"])):
            ours, theirs = _of_image(outputs, image), _of_image(reference, image)
            level = max(LEAST_SCORE, reference["scores"][image, -1] + CUT_MARGIN)
            partner = _partners(theirs, ours)  # [N], -1 for none
            is_sought, is_high = theirs["scores"] >= level, ours["scores"] >= level
            is_alone = ~np.isin(np.arange(len(is_high)), partner)
            pairs = np.flatnonzero(is_sought & (partner >= 0))
            found = {name: values[partner[pairs]] for name, values in ours.items()}
            boxes.extend(np.abs(found["boxes"] - theirs["boxes"][pairs]).max(axis=-1))
            scores.extend(np.abs(found["scores"] - theirs["scores"][pairs]))
            sought.append(is_sought.sum())
            missed.append(is_sought.sum() - len(pairs))
            high.append(is_high.sum())
            invented.append((is_high & is_alone).sum())
        counts = np.abs(outputs["num_detections"].astype(int) - reference["num_detections"])
        return {
            "sought": float(sum(sought)),
            "missed": float(sum(missed) / max(1, sum(sought))),
            "invented": float(sum(invented) / max(1, sum(high))),
            "count": float(counts.max() / reference["scores"].shape[1]),
            "boxes": float(np.quantile(boxes or [0.0], MOST, method="lower")),
            "largest_box": float(max(boxes, default=0.0)),
            "scores": float(np.max(scores, initial=0.0)),
        }

    def writer(self, output, score=SURE):
        return Boxes(self, output, score)

    # ---- explanation

    def class_objective(self, model, index, region=None):
        """The class at the anchor that overlaps best with the central half of the image."""
        from kerasdense.explain import objectives

        if region is not None:
            raise ValueError(NO_REGION)
        boxes = geometry.xyxy_from_center_xywh(np.asarray(_anchors_of(model)))
        middle = np.array([[0.25, 0.25, 0.75, 0.75]], np.float32)
        anchor = int(np.argmax(geometry.iou(boxes, middle)[:, 0]))
        place = f"at the central anchor, {anchor}"
        return dataclasses.replace(objectives.anchor_class(anchor, index), place=place)

    # ---- attacks

    unit = "anchor"
    truth = "boxes"
    accuracies = ("mean_ap",)
    goals = "--suppress or --target-class A:B"

    def unit_logits(self, output):
        return output[..., :-OFFSETS]  # [B, A, C + 1], background first

    def check_goal(self, goal):
        if goal.target_map is not None:
            raise ValueError("A target map is for segmentation models, received another model.")
        if not goal.targeted:
            raise ValueError(
                f"An attack on a detector needs a goal: all objects suppressed, or a class moved "
                f"to another ({self.goals})."
            )

    def attack_labels(self, goal, logits, output, samples):
        # 0 is the background
        moves = goal.moves and {old + 1: new + 1 for old, new in goal.moves.items()}
        return detection_targets(output, goal.suppress, moves)

    def detections(self, model):
        anchors, decode = _anchors_of(model), _decoder()

        def detect(output):
            found = {key: value.numpy() for key, value in decode(output, anchors).items()}
            return [
                {
                    "boxes": found["boxes"][i][:count],
                    "labels": found["classes"][i][:count],
                    "scores": found["scores"][i][:count],
                }
                for i, count in enumerate(found["num_detections"])
            ]

        return detect

    def objects_reached(self, example):
        """Whether each object that was seen for sure (score >= 0.5) in the clean picture is gone.

        Boxes are of the same object from an IoU of 0.5. An object to suppress is gone if no sure
        box of any class is left on it; one to be moved is reached if a sure box of the wanted
        class lies on it, and none of its own class. Objects of classes that are not to be moved
        are left out.
        """
        views = example.clean, example.attacked
        clean, attacked = (sure_detections(view.detections) for view in views)
        moves, reached = example.goal.moves, []
        for box, label in zip(clean["boxes"], clean["labels"]):
            if moves is not None and label not in moves:
                continue
            overlaps = geometry.iou(box[None], attacked["boxes"])[0] >= SAME_PLACE
            there = set(attacked["labels"][overlaps].tolist())
            if moves is None:
                reached.append(not there)
            else:
                reached.append(moves[label] in there and label not in there)
        return np.array(reached, bool)

    def attack_counts(self, example, view):
        """The truth, or where it is unknown what was seen for sure before, and what is found."""
        known = self.truth in example.sample
        truth = example.sample if known else sure_detections(example.clean.detections)
        difficult = truth["difficult"] if known else np.zeros(len(truth["labels"]), bool)
        return [(truth["boxes"], truth["labels"], difficult, view.detections)]

    def attack_figures(self, counts):
        """Average precision, None where the images show no object that counts, and `found`: how
        many sure detections there are; new ones may be among them.
        """
        truth = joined(
            [
                GroundTruth(np.full(len(labels), image), boxes, labels, difficult)
                for image, (boxes, labels, difficult, _) in enumerate(counts)
            ]
        )
        found = joined(
            [
                Detections(
                    np.full(len(seen["labels"]), image), seen["boxes"], seen["labels"],
                    seen["scores"],
                )
                for image, (*_, seen) in enumerate(counts)
            ]
        )  # fmt: skip
        figures = {
            "found": int((found.scores >= SURE).sum()),
            "mean_ap": None,
            "ap": dict.fromkeys(self.class_names),
        }
        if not truth.difficult.all():
            voc = voc_average_precision(truth, found, len(self.class_names))
            result = average_precisions(voc, self.class_names)
            figures |= {"mean_ap": result["mean_ap_area"], "ap": result["ap_area"]}
        return figures

    def view_picture(self, image, view):
        return self._drawn(image, **sure_detections(view.detections))


class Boxes:
    """Draws boxes of at least `score`, NAME_boxes.jpg, and writes all to VOC's and MOT's files."""

    def __init__(self, task, output, score):
        self.task, self.output, self.score = task, output, score
        self.taken, self.found = set(), []

    def add(self, image, picture, outputs):
        """Draws what was detected in `picture` uint8 [H, W, 3]; returns a line about it.

        `boxes` float [D, 4], xyxy in pixels; `scores` [D]; `classes` int [D]; `num_detections`.
        """
        count, class_names = outputs["num_detections"], self.task.class_names
        if not 0 <= count <= len(outputs["boxes"]):
            raise ValueError(
                f"num_detections is {count}, but there are {len(outputs['boxes'])} boxes."
            )
        boxes, scores, classes = (outputs[key][:count] for key in ("boxes", "scores", "classes"))
        shown = scores >= self.score
        height, width = picture.shape[:2]
        drawn = pictures.draw_boxes(
            picture,
            boxes[shown] / [width, height, width, height],
            classes[shown],
            class_names,
            self.task.palette,
            scores[shown],
        )
        name = unused_name(image.name, self.taken, ("_boxes",))
        pictures.save_picture(self.output / f"{name}_boxes.jpg", drawn)
        self.found.append((image, name, boxes, classes, scores))
        counts = np.bincount(classes[shown], minlength=len(class_names))
        parts = [f"{n} {each}" for each, n in zip(class_names, counts) if n]
        return f"{name}_boxes.jpg: {', '.join(parts) or 'nothing'}"

    def finish(self, images):
        """Writes voc/comp4_det_test_CLASS.txt and mot/det.txt."""
        frames, class_names = _frame_numbers(images), self.task.class_names
        formats.write_voc_results(
            self.output / "voc",
            "test",
            [name for _, name, *_ in self.found],
            [(boxes, classes, scores) for _, _, boxes, classes, scores in self.found],
            class_names,
        )
        (self.output / "mot").mkdir(exist_ok=True)
        for index, class_name in enumerate(class_names):
            mot_frames, mot_boxes, mot_scores = [], np.zeros((0, 4)), np.zeros(0)
            for image, _, boxes, classes, scores in self.found:
                mine = classes == index
                mot_frames += [frames[image]] * int(mine.sum())
                mot_boxes = np.concatenate([mot_boxes, boxes[mine]])
                mot_scores = np.concatenate([mot_scores, scores[mine]])
            name = "det.txt" if len(class_names) == 1 else f"det_{class_name}.txt"
            formats.write_mot(self.output / "mot" / name, mot_frames, mot_boxes, mot_scores)


def _frame_numbers(images):
    """The number of each frame: that of its name, if all are different numbers, else its place."""
    stems = [image.path.stem for image in images]
    if all(stem.isdecimal() and int(stem) for stem in stems) and len(set(map(int, stems))) == len(
        stems
    ):
        return {image: int(image.path.stem) for image in images}
    return {image: place for place, image in enumerate(images, 1)}


def sure_detections(found):
    """Those of score 0.5 or more, of one image's `Detection.detections`."""
    keep = found["scores"] >= SURE
    return {key: value[keep] for key, value in found.items()}


def detection_targets(raw, suppress=False, moves=None, score=SURE):
    """Classes that an attack on an SSD aims at: int32 [B, A], 0 = background, -1 = left out.

    Args:
        raw: the model's output for the clean images, float [B, A, C + 1 + 4].
        suppress: let every anchor say background, so that nothing is found.
        moves: {class: wanted class}, counted with background as 0. Anchors that give the class at
            least `score` are to say the wanted one. Their neighbors, which say background but
            give it 0.01 or more, are to keep saying so: else they would find the object in
            their place. All others are left out.
        score: probability, 0 to 1.

    Raises: ValueError unless one of `suppress` and `moves` is given.
    """
    if bool(suppress) == bool(moves):
        raise ValueError(
            f"Expected either suppress=True or moves={{class: class}}, received "
            f"suppress={suppress!r} and moves={moves!r}."
        )
    logits = np.asarray(raw, np.float64)[..., :-OFFSETS]  # [B, A, C + 1]
    if suppress:
        return np.zeros(logits.shape[:-1], np.int32)
    probabilities = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities /= probabilities.sum(axis=-1, keepdims=True)
    predicted = logits.argmax(axis=-1)
    targets = np.full(logits.shape[:-1], -1, np.int32)
    for old in moves:
        weak = (predicted == 0) | (predicted == old)
        targets[weak & (probabilities[..., old] >= suppression.LEAST_SCORE)] = 0
    for old, new in moves.items():  # last, for an anchor may be weak in one class and sure of one
        targets[probabilities[..., old] >= score] = new
    return targets


def mapped_raw(raw, class_map, classes):
    """The raw output of a model as that of one which knows the `classes` of another dataset.

    An anchor shows one class, so the probability of a class is the sum of those that map to it, and
    that of the background the sum of all others.

    Args:
        raw: of the model, float32 [B, A, M + 1 + 4], background first.
        class_map: {class of the model: class of the dataset}, counted without background.
        classes: how many the dataset has, C.

    Returns float32 [B, A, C + 1 + 4]; a class that nothing maps to has the logit -inf.
    """
    logits = raw[..., :-OFFSETS]
    targets = np.zeros(logits.shape[-1], int)  # of each logit its new place, 0 the background
    for old, new in class_map.items():
        targets[old + 1] = new + 1
    # log(sum(exp)) of the logits are the logits of sums of probabilities; of one logit it is itself
    parts = [
        np.logaddexp.reduce(logits[..., targets == place], axis=-1) for place in range(classes + 1)
    ]
    return np.concatenate([np.stack(parts, axis=-1), raw[..., -OFFSETS:]], axis=-1)


def _check_class_map(class_map, known, classes):
    if (
        not class_map
        or not set(class_map) <= set(range(known))
        or not set(class_map.values()) <= set(range(classes))
    ):
        raise ValueError(
            f"Expected a map from classes of the model, 0 to {known - 1}, to those of the dataset, "
            f"0 to {classes - 1}; received {class_map}."
        )


@functools.cache
def _decoder():
    """`suppression.decode_detections` as one TensorFlow program."""
    import tensorflow as tf

    def decode(raw, anchors):
        return suppression.decode_detections(raw, anchors)

    return tf.function(decode, autograph=False)


def _anchors_of(model):
    from kerasdense.models.ssd import anchors_of

    return anchors_of(model)


def _worst_images(samples, names, truth, found, voc, count):
    """The images of most errors, read once more."""
    sure = found.scores >= SURE
    wrong = sure & ~voc.correct & ~voc.on_difficult
    errors = np.bincount(found.images[wrong], minlength=len(names))
    errors += np.bincount(truth.images[~truth.difficult], minlength=len(names))
    errors -= np.bincount(found.images[sure & voc.correct], minlength=len(names))
    ranked = [image for image in np.argsort(-errors, kind="stable")[:count] if errors[image]]
    worst_images = {}
    for image, sample in enumerate(samples.unbatch()):
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


def _of_image(outputs, image):
    """The detections of one image of a batch, without the rows after the last."""
    count = outputs["num_detections"][image]
    return {name: outputs[name][image, :count] for name in ("boxes", "scores", "classes")}


def _partners(theirs, ours):
    """For each of `theirs` [N] the row of the same detection in `ours` [M], or -1: int [N]."""
    overlaps = geometry.iou(_grown(theirs["boxes"]), _grown(ours["boxes"]))  # [N, M]
    same = (overlaps >= SAME_BOX) & (theirs["classes"][:, None] == ours["classes"])
    overlaps = np.where(same, overlaps, 0)
    partners = np.full(len(overlaps), -1)
    for row in range(len(overlaps)):
        if overlaps[row].any():
            partners[row] = overlaps[row].argmax()
            overlaps[:, partners[row]] = 0
    return partners


def _grown(boxes):
    """Boxes larger by half a pixel a side, so that those without area overlap themselves."""
    return boxes + np.array([-0.5, -0.5, 0.5, 0.5], np.float32)


TASK = Detection
