"""How well a model stands attacks: adversarial examples saved, loaded, judged again and counted.

An adversarial picture is written as PNG, read back, and only what the model says of the pixels in
that file counts. B batch, H W size, C classes, O objects. A unit is what the model classifies one
by one: a pixel of segmentation [H, W], an anchor of an SSD [A], a label of a classifier [C].
"""

import contextlib
import dataclasses
import math
import re
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kerasdense.attacks import methods
from kerasdense.boxes import geometry
from kerasdense.drawing import pictures
from kerasdense.explain import gradients
from kerasdense.models.ssd import anchors_of
from kerasdense.metrics.average_precision import Detections, GroundTruth, voc_average_precision
from kerasdense.tasks.evaluation import SURE, joined
from kerasdense.metrics.labels import IGNORE
from kerasdense.metrics.mean_iou import confusion_matrix, mean_iou, per_class_iou, pixel_accuracy
from kerasdense.boxes.suppression import decode_detections
from kerasdense.tasks.results import unused_name
from kerasdense.export.signatures import task_of

UNITS = {"segmentation": "pixel", "detection": "anchor", "classification": "label"}
# A sample's entry, where it is known.
TRUTH = {"segmentation": "mask", "detection": "boxes", "classification": "targets"}
# Share of an image's units that must be reached for the image to count as reached. A few pixels
# of thousands may resist; of an image's objects or labels none may.
IMAGE_SHARE = {"segmentation": 0.99, "detection": 1.0, "classification": 1.0}
SAME_PLACE = 0.5  # IoU from which two boxes are of the same object, as VOC has it
WHEN = ("before", "after")
CLEAN = "the clean prediction"
FIGURES = ("pixel_accuracy", "mean_iou", "label_accuracy", "mean_ap")
DISTANCES = ("l2", "linf", "mean", "psnr")
SUMMED = (
    "counted", "reached_before", "reached", "fooled", "changed", "to_change", "changed_as_wanted",
    "counted_outside", "reached_outside", "objects", "objects_reached",
)  # fmt: skip


def distances(images, changed):
    """How far `changed` is from `images`, both [B, H, W, 3] with pixels from 0 to 255.

    Returns a dict of float64 [B]: `l2` and `linf`, the norms of the difference in gray levels
    (1/255 of the range); `mean`, its mean absolute value; `psnr` in dB, infinite for no difference.
    Raises: ValueError if the shapes differ.
    """
    images, changed = np.asarray(images), np.asarray(changed)
    if images.shape != changed.shape or images.ndim != 4:
        raise ValueError(
            f"Distances are between images of one shape, expected [B, H, W, 3] twice, received "
            f"{list(images.shape)} and {list(changed.shape)}."
        )
    difference = (changed.astype(np.float64) - images).reshape(len(images), -1)
    mean_square = np.square(difference).mean(axis=1)
    with np.errstate(divide="ignore"):
        psnr = 10 * np.log10(255**2 / mean_square)
    return {
        "l2": np.sqrt(np.square(difference).sum(axis=1)),
        "linf": np.abs(difference).max(axis=1),
        "mean": np.abs(difference).mean(axis=1),
        "psnr": psnr,
    }


def saved_and_loaded(picture, path):
    """`picture` [H, W, 3] written to `path` as PNG and read back: uint8 [H, W, 3].

    Floats are clipped to 0..255 and rounded, as a file holds whole gray levels.
    """
    rounded = np.rint(np.clip(np.asarray(picture), 0, 255)).astype(np.uint8)
    pictures.save_picture(path, rounded)
    return pictures.load_picture(path)


@dataclasses.dataclass(frozen=True)
class Goal:
    """What an attack is after; without arguments, that as many units as possible are wrong.

    At most one of these makes it a targeted one:
        moves: {a: b}, classes from 0 (without background): what is predicted as a becomes b, and
            everything else stays as it was predicted.
        target_map: int [H, W], the wanted class of each pixel, 255 where any will do.
        suppress: whether all objects of a detector shall vanish.
    `confidence`: probability from which a wanted (or wrong) class counts, None for any.
    """

    moves: dict | None = None
    target_map: np.ndarray | None = None
    suppress: bool = False
    confidence: float | None = None

    def __post_init__(self):
        kinds = (self.moves is not None) + (self.target_map is not None) + self.suppress
        if kinds > 1:
            raise ValueError(
                "An attack has one goal: expected moves, a target map or suppress, received "
                f"{kinds} of them."
            )

    @property
    def targeted(self):
        return self.moves is not None or self.target_map is not None or self.suppress


@dataclasses.dataclass(frozen=True)
class View:
    """What a model sees in an image.

    `prediction` int [*units]; `confidence` float32 [*units], the probability of the prediction;
    `success` bool [*units], whether the goal is reached there; `detections` of a detector: a dict
    of `boxes` float32 [D, 4] relative xyxy, `labels` int [D], `scores` float32 [D], best first.
    """

    prediction: np.ndarray
    confidence: np.ndarray
    success: np.ndarray
    detections: dict | None


@dataclasses.dataclass(frozen=True)
class Example:
    """One image, attacked and judged.

    `sample`: what was attacked, see `Judge`; `adversarial` uint8 [H, W, 3], as read from its file
    `path` (None if that is gone); `labels` int [*units], the classes to get away from, or those
    wanted; `counted` bool [*units], where they are classes at all; `clean` and `attacked`: views
    of the two pictures.
    """

    sample: dict
    adversarial: np.ndarray
    path: Path | None
    goal: Goal
    labels: np.ndarray
    counted: np.ndarray
    clean: View
    attacked: View


@dataclasses.dataclass(frozen=True)
class Batch:
    """Samples of one size before the attack: see `Judge.look`."""

    samples: list
    images: np.ndarray
    labels: np.ndarray
    counted: np.ndarray
    views: list


class Judge:
    """Attacks batches of samples, and judges what survives as a file.

    A sample is a dict of `image` uint8 [H, W, 3] and `file_name`; where only some pixels may
    change of `region` bool [H, W]; and where the truth is known of `mask` int [H, W]
    (segmentation), of `boxes` float [O, 4] relative xyxy, `labels` int [O] and `difficult` bool
    [O] (detection), or of `targets` [C], 1, 0 or -1 for not counted (classification).

    Args:
        model: segmentation model, SSD or classifier.
        goal: a `Goal`.
        folder: where the adversarial pictures stay, NAME.png; None keeps none.
    """

    def __init__(self, model, goal=Goal(), folder=None):
        self.model, self.goal, self.folder = model, goal, folder
        self.task = task_of(model)
        self.logits_of = gradients.compiled(methods.unit_logits(model), model)
        self.taken = set()
        if self.task == "detection":
            anchors = anchors_of(model)
            self.decode = tf.function(lambda raw: decode_detections(raw, anchors))
            if not goal.targeted:
                raise ValueError(
                    "An attack on a detector needs a goal: all objects suppressed, or a class "
                    "moved to another."
                )
        if goal.target_map is not None and self.task != "segmentation":
            raise ValueError("A target map is for segmentation models, received another model.")
        if goal.suppress and self.task != "detection":
            raise ValueError("Only a detector has objects to suppress, received another model.")

    def look(self, samples):
        """The samples (list of dicts, images of one size) as a `Batch`: clean views and labels.

        Raises: ValueError if mask, region or target map have not the size of their image.
        """
        for sample in samples:
            for kind in ("mask", "region"):
                if kind in sample:
                    _check_size(kind, sample[kind], sample)
            if self.goal.target_map is not None:
                _check_size("target map", self.goal.target_map, sample)
        images = np.stack([sample["image"] for sample in samples])
        with _failures(samples):
            logits, raw = self._outputs(images)
        labels = self._labels(samples, logits, raw)
        views, counted = self._views(logits, raw, labels)
        return Batch(samples, images, labels, counted, views)

    def attack(self, batch, attack_batch, **options):
        """The `Example` of each sample after `attack_batch(images, labels, **options)`.

        `attack_batch`: as `methods.attacker` gives. An image in which no unit counts, or all
        have reached the goal before, is left as it is.
        """
        open_units = batch.counted & ~np.stack([view.success for view in batch.views])
        rows = open_units.any(axis=tuple(range(1, open_units.ndim)))
        changed = batch.images.copy()
        if rows.any():
            if options.get("start") is not None:
                options["start"] = options["start"][rows]
            if "region" in batch.samples[0]:
                regions = np.stack([sample["region"] for sample in batch.samples])
                options["mask"] = regions[rows]
            with _failures(batch.samples):
                changed[rows] = attack_batch(batch.images[rows], batch.labels[rows], **options)
        return self.judge(batch, changed)

    def judge(self, batch, changed):
        """The `Example` of each sample, its image changed to `changed` [B, H, W, 3].

        This is where all numbers come from: the picture is written, read back and given to the
        model.
        """
        with tempfile.TemporaryDirectory() as aside:
            folder = Path(aside if self.folder is None else self.folder)
            paths = [folder / f"{self._name(s['file_name'])}.png" for s in batch.samples]
            loaded = np.stack([saved_and_loaded(*each) for each in zip(changed, paths)])
        logits, raw = self._outputs(loaded)
        views, _ = self._views(logits, raw, batch.labels)
        return [
            Example(
                sample,
                loaded[i],
                paths[i] if self.folder else None,
                self.goal,
                batch.labels[i],
                batch.counted[i],
                batch.views[i],
                views[i],
            )
            for i, sample in enumerate(batch.samples)
        ]

    def _outputs(self, images):
        """Logits of the units float32 [B, *units, K], and the raw output of a detector."""
        logits = keras.ops.convert_to_numpy(self.logits_of(images.astype(np.float32)))
        if not np.isfinite(logits).all():
            raise ValueError(
                f"The logits of {self.model.name} are not finite. Either its weights are broken, "
                f"or its values leave the range of float16: fit in float32 or mixed_bfloat16."
            )
        if self.task != "detection":
            return logits, None
        return logits, keras.ops.convert_to_numpy(self.model.predict_on_batch(images))

    def _labels(self, samples, logits, raw):
        """The classes to get away from, or those wanted: int [B, *units]."""
        goal, predictions = self.goal, logits.argmax(axis=-1)
        if self.task == "detection":
            if goal.suppress:
                return methods.detection_targets(raw, suppress=True)
            moves = {old + 1: new + 1 for old, new in goal.moves.items()}  # 0 is the background
            return methods.detection_targets(raw, moves=moves, score=SURE)
        if goal.moves is not None and self.task == "classification":
            labels = predictions.astype(np.int32)
            for old, new in goal.moves.items():
                shown = predictions[:, old] == 1
                labels[shown, old], labels[shown, new] = 0, 1
            return labels
        if goal.moves is not None:
            return methods.moved(predictions, goal.moves)
        if goal.target_map is None:
            key = TRUTH[self.task]
            truth = [
                sample.get(key, prediction) for sample, prediction in zip(samples, predictions)
            ]
            return np.stack(truth).astype(np.int32)
        return np.broadcast_to(goal.target_map.astype(np.int32), predictions.shape)

    def _views(self, logits, raw, labels):
        success, counted = (
            keras.ops.convert_to_numpy(each)
            for each in methods.succeeded(
                logits, labels, self.goal.targeted, self.goal.confidence
            )
        )
        probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
        # Of the logits, as the attack sees it: probabilities may round to equal ones.
        predictions, confidences = logits.argmax(axis=-1), probabilities.max(axis=-1)
        detections = [None] * len(logits)
        if raw is not None:
            found = {key: value.numpy() for key, value in self.decode(raw).items()}
            detections = [
                {
                    "boxes": found["boxes"][i][:count],
                    "labels": found["classes"][i][:count],
                    "scores": found["scores"][i][:count],
                }
                for i, count in enumerate(found["num_detections"])
            ]
        views = [View(*each) for each in zip(predictions, confidences, success, detections)]
        return views, counted

    def _name(self, file_name):
        stem = re.sub(r"[^\w.-]+", "_", Path(file_name).stem)
        return unused_name(stem, self.taken, (".png",))


def objects_reached(example):
    """Whether each object that a detector saw for sure (score >= 0.5) in the clean picture is gone.

    Boxes are of the same object from an IoU of 0.5. An object to suppress is gone if no sure box
    of any class is left on it; one to be moved is reached if a sure box of the wanted class lies
    on it, and none of its own class. Objects of classes that are not to be moved are left out.

    Returns: bool [O].
    """
    clean, attacked = (
        sure_detections(view.detections) for view in (example.clean, example.attacked)
    )
    moves = example.goal.moves
    reached = []
    for box, label in zip(clean["boxes"], clean["labels"]):
        if moves is not None and label not in moves:
            continue
        overlaps = geometry.iou(box[None], attacked["boxes"])[0] >= SAME_PLACE
        there = set(attacked["labels"][overlaps].tolist())
        reached.append(not there if moves is None else moves[label] in there and label not in there)
    return np.array(reached, bool)


class Tally:
    """Counts examples into a report that is ready for JSON.

    Args:
        task: see `signatures.task_of`.
        class_names: list of str.
        image_share: share of an image's units that must be reached for the image to count as
            reached; None is the task's of `IMAGE_SHARE`.
    """

    def __init__(self, task, class_names, image_share=None):
        self.task, self.class_names = task, class_names
        self.image_share = IMAGE_SHARE[task] if image_share is None else image_share
        self.rows, self.wrong_confidence = [], 0.0
        self.targeted = None  # known once there is an example
        classes = 2 if task == "classification" else len(class_names)
        self.matrices = {when: np.zeros((classes, classes), np.int64) for when in WHEN}
        self.truth, self.found = [], {when: [] for when in WHEN}
        self.sure = dict.fromkeys(WHEN, 0)

    def add(self, example):
        """Counts an `Example` and returns its row of the report, ready for JSON."""
        counted, reached = example.counted, example.attacked.success & example.counted
        before = example.clean.success & counted
        fooled = reached & ~before
        changed = (example.clean.prediction != example.attacked.prediction) & counted
        self.targeted = example.goal.targeted
        confidence = float(example.attacked.confidence[fooled].sum(dtype=np.float64))
        self.wrong_confidence += confidence
        row = {
            "file_name": example.sample["file_name"],
            "adversarial": example.path and example.path.name,
            "counted": int(counted.sum()),
            "reached_before": int(before.sum()),
            "reached": int(reached.sum()),
            "fooled": int(fooled.sum()),
            "changed": int(changed.sum()),
            "wrong_confidence": ratio(confidence, fooled.sum()),
            "measured_against": "the truth" if self._knows_truth(example) else CLEAN,
        }
        if example.goal.targeted:
            to_change = counted & (example.labels != example.clean.prediction)
            row["to_change"] = int(to_change.sum())
            row["changed_as_wanted"] = int((to_change & reached).sum())
        if self.task == "segmentation" and "region" in example.sample:
            outside = ~example.sample["region"]
            row["counted_outside"] = int((counted & outside).sum())
            row["reached_outside"] = int((reached & outside).sum())
        if self.task == "detection":
            objects = objects_reached(example)
            row |= {"objects": len(objects), "objects_reached": int(objects.sum())}
            row["image_reached"] = self._is_reached(len(objects), 0, objects.sum())
            self._add_boxes(example)
        else:
            row["image_reached"] = self._is_reached(counted.sum(), before.sum(), reached.sum())
            row |= self._add_labels(example)
        away = distances(example.sample["image"][None], example.adversarial[None])
        row |= {name: _finite(away[name][0]) for name in DISTANCES}
        self.rows.append(row)
        return row

    def result(self):
        """The report so far, a dict ready for JSON.

        `success` tells of all counted units the share that reached the goal `before` and after
        the attack (`by_pixel`, `by_anchor` or `by_label`); the share `fooled`, which did not
        reach it before and does now; and the share `changed`, whose prediction is another.
        `by_image`: of the images with something to reach, those where `image_share` of it was
        reached: of all their units and of those that were not there before, or of their objects.
        `of_wanted_changes`: under a target, of the units that were predicted as something else.
        `by_object`: see `objects_reached`. What is undefined is None.
        """
        if not self.rows:
            raise ValueError("Nothing to report: no image was attacked.")
        total = {key: sum(row[key] for row in self.rows) for key in SUMMED if key in self.rows[0]}
        images = [row["image_reached"] for row in self.rows if row["image_reached"] is not None]
        unit = UNITS[self.task]
        success = {
            f"by_{unit}": ratio(total["reached"], total["counted"]),
            "before": ratio(total["reached_before"], total["counted"]),
            "fooled": ratio(total["fooled"], total["counted"]),
            "changed": ratio(total["changed"], total["counted"]),
            "by_image": ratio(sum(images), len(images)),
            "image_share": self.image_share,
            "images_with_something_to_reach": len(images),
        }
        if "counted_outside" in total:
            outside = ratio(total["reached_outside"], total["counted_outside"])
            success["by_pixel_outside_the_region"] = outside
        if self.targeted:
            success["of_wanted_changes"] = ratio(total["changed_as_wanted"], total["to_change"])
        if self.task == "detection":
            success["by_object"] = ratio(total["objects_reached"], total["objects"])
            success["objects"] = total["objects"]
        measured = self._boxes_result() if self.task == "detection" else self._labels_result()
        return {
            "images": len(self.rows),
            "targeted": self.targeted,
            f"counted_{unit}s": total["counted"],
            "success": success,
            "measured_against": " and ".join(
                sorted({row["measured_against"] for row in self.rows})
            ),
            **measured,
            "wrong_confidence": ratio(self.wrong_confidence, total["fooled"]),
            "distance": {name: _spread([row[name] for row in self.rows]) for name in DISTANCES},
            "unchanged_images": sum(row["linf"] == 0 for row in self.rows),
        }

    def _knows_truth(self, example):
        return TRUTH[self.task] in example.sample

    def _is_reached(self, counted, before, after):
        """Whether an image is reached; None if there is nothing to reach in it."""
        if counted == before:
            return None
        share = min(after / counted, (after - before) / (counted - before))
        return bool(share >= self.image_share)

    def _add_labels(self, example):
        """Counts a label map (or labels), and returns the image's own figures."""
        truth = example.sample.get(TRUTH[self.task])
        truth = example.clean.prediction if truth is None else np.asarray(truth, np.int32)
        truth = np.where(truth < 0, IGNORE, truth)  # -1: a label that does not count
        row = {}
        for when, view in zip(WHEN, (example.clean, example.attacked)):
            counts = confusion_matrix(truth, view.prediction, len(self.matrices[when]))
            matrix = keras.ops.convert_to_numpy(counts)
            self.matrices[when] += matrix
            for name, value in self._accuracies(matrix).items():
                row.setdefault(name, {})[when] = value
        return row

    def _accuracies(self, matrix):
        if self.task == "classification":
            return {"label_accuracy": _finite(pixel_accuracy(matrix))}
        return {
            "pixel_accuracy": _finite(pixel_accuracy(matrix)),
            "mean_iou": _finite(mean_iou(matrix)),
        }

    def _labels_result(self):
        result = {}
        for when, matrix in self.matrices.items():
            values = self._accuracies(matrix)
            if self.task == "segmentation":
                ious = map(_finite, per_class_iou(matrix))
                values["per_class_iou"] = dict(zip(self.class_names, ious))
            for name, value in values.items():
                result.setdefault(name, {})[when] = value
        return result

    def _add_boxes(self, example):
        sample, image = example.sample, len(self.rows)
        known = self._knows_truth(example)
        truth = sample if known else sure_detections(example.clean.detections)
        count = len(truth["labels"])
        difficult = truth["difficult"] if known else np.zeros(count, bool)
        self.truth.append(
            GroundTruth(np.full(count, image), truth["boxes"], truth["labels"], difficult)
        )
        for when, view in zip(WHEN, (example.clean, example.attacked)):
            found = view.detections
            self.sure[when] += int((found["scores"] >= SURE).sum())
            images = np.full(len(found["labels"]), image)
            self.found[when].append(
                Detections(images, found["boxes"], found["labels"], found["scores"])
            )

    def _boxes_result(self):
        """Average precision, None where the images show no object that counts, and `found`: how
        many sure detections there are; new ones may be among them.
        """
        truth, result = joined(self.truth), {"found": self.sure}
        for when, found in self.found.items():
            values = {"mean_ap": None, "ap": dict.fromkeys(self.class_names)}
            if not truth.difficult.all():
                voc = voc_average_precision(truth, joined(found), len(self.class_names))
                values["mean_ap"] = _finite(voc.mean_ap_area)
                values["ap"] = {
                    name: _finite(each.ap_area) for name, each in zip(self.class_names, voc.classes)
                }
            for name, value in values.items():
                result.setdefault(name, {})[when] = value
        return result


def by_size(samples, batch_size):
    """Yields lists of up to `batch_size` samples whose images have the same size.

    Samples of sizes that are rare come last.
    """
    waiting = {}
    for sample in samples:
        size = sample["image"].shape
        waiting.setdefault(size, []).append(sample)
        if len(waiting[size]) == batch_size:
            yield waiting.pop(size)
    yield from waiting.values()


def robustness_curve(
    model,
    samples,
    class_names,
    attack,
    epsilons,
    goal=Goal(),
    batch_size=1,
    seed=0,
    xla=False,
    count=None,
    verbose=1,
):
    """What remains of the model's accuracy under attacks of rising epsilon, over a whole split.

    An example within a smaller epsilon is one within a larger epsilon, too. So the attack of each
    image starts from its best example so far, and where the larger epsilon does no better, that
    example is kept: more epsilon never means fewer units (for a detector: objects) reached. For
    an untargeted attack these are the wrong pixels, and accuracy never rises. Epsilon 0, the
    clean picture, is the first point.

    Args:
        samples: an iterable of samples as `Judge` takes them; sizes may differ.
        attack: an `methods.Attack` with an epsilon.
        epsilons: in gray levels, rising; under the maximum norm 1 or more, as a file of uint8
            holds no fraction of a level.
        goal: see `Judge`.
        count: number of samples, for the time left; None if unknown.
        verbose: 1 shows a progress bar, 0 nothing.

    Returns: a dict ready for JSON: `epsilons` [E], from 0; `points`, for each of them
        `Tally.result()`; `norm`, `attack`, `seconds`.
    Raises: ValueError if epsilons do not rise or are too small, or there are no samples.
    """
    epsilons = _rising(epsilons, attack.norm)
    judge = Judge(model, goal)
    attack_batch = methods.attacker(model, attack, goal.targeted, goal.confidence, xla)
    tallies = [Tally(judge.task, class_names) for _ in range(1 + len(epsilons))]
    progress = Progress(count and count * len(epsilons), attack, verbose)
    started = time.perf_counter()
    for group in by_size(samples, batch_size):
        batch = judge.look(group)
        best, start = judge.judge(batch, batch.images), None
        _add(tallies[0], best)
        for epsilon, tally in zip(epsilons, tallies[1:]):
            advance = progress.of_batch(len(group))
            found = judge.attack(
                batch, attack_batch, epsilon=epsilon, seed=seed, start=start, progress=advance
            )
            advance()  # also of images that were left as they are
            best = [new if _reached(new) > _reached(old) else old for new, old in zip(found, best)]
            start = np.stack([each.adversarial for each in best]).astype(np.int32) - batch.images
            _add(tally, best)
    return {
        "norm": attack.norm,
        "attack": described(attack),
        "epsilons": [0.0, *epsilons],
        "points": [tally.result() for tally in tallies],
        "seconds": time.perf_counter() - started,
    }


class Progress:
    """A progress bar with the time left over `images` (None: unknown), and their `attack`."""

    def __init__(self, images, attack, verbose=1):
        self.steps, self.shown, self.done = attack.steps, 0, 0
        target = images and images * self.steps
        self.bar = keras.utils.Progbar(target, unit_name="step", verbose=verbose)

    def of_batch(self, images):
        """A function of the number of steps done (None: all) in the next batch of `images`."""
        before = self.done
        self.done += images * self.steps

        def update(steps=None):
            steps = self.steps if steps is None else steps
            position = before + images * steps
            if position > self.shown:  # once at its end, the bar would draw that again
                self.shown = position
                self.bar.update(position)

        return update


@contextlib.contextmanager
def _failures(samples):
    """Tells TensorFlow's errors, such as too little memory, as ValueErrors of these samples."""
    try:
        yield
    except (tf.errors.InvalidArgumentError, tf.errors.ResourceExhaustedError) as error:
        names = ", ".join(sample["file_name"] for sample in samples)
        height, width = samples[0]["image"].shape[:2]
        reason = str(error).strip().splitlines()[0][:300]
        raise ValueError(
            f"The model cannot process {names}, {width}x{height} pixels: {reason}"
        ) from error


def _check_size(kind, values, sample):
    size = sample["image"].shape[:2]
    if values.shape != size:
        raise ValueError(
            f"The {kind} must have the size of the image {sample['file_name']}, expected height "
            f"and width {size}, received {values.shape}."
        )


def sure_detections(found):
    """Those of score 0.5 or more, of a `View`'s detections."""
    keep = found["scores"] >= SURE
    return {key: value[keep] for key, value in found.items()}


def _reached(example):
    """What grows with success: objects; wrong units, if they are wanted; units that count."""
    view = example.attacked
    return (
        0 if view.detections is None else objects_reached(example).sum(),
        0 if example.goal.targeted else (view.prediction != example.labels)[example.counted].sum(),
        view.success[example.counted].sum(),
    )


def _add(tally, examples):
    for example in examples:
        tally.add(example)


def _rising(epsilons, norm):
    epsilons = [float(epsilon) for epsilon in epsilons]
    least = 1 if norm == "linf" else 0
    if (
        not epsilons
        or min(epsilons) < least
        or min(epsilons) <= 0
        or not math.isfinite(max(epsilons))
        or (np.diff(epsilons) <= 0).any()
    ):
        raise ValueError(
            f"A robustness curve needs rising epsilons "
            f"{'of 1 gray level or more (uint8 holds no fraction)' if least else 'above 0'}, "
            f"received {epsilons}."
        )
    return epsilons


def ratio(part, whole):
    """A share as a float, None of nothing."""
    return float(part) / float(whole) if whole else None


def described(attack):
    """An `methods.Attack` ready for JSON: functions by their names."""
    parts = {field.name: getattr(attack, field.name) for field in dataclasses.fields(attack)}
    parts["step"] = parts["step"].move
    return {
        name: part.__name__.lstrip("_") if callable(part) else part for name, part in parts.items()
    }


def _finite(number):
    """A float for JSON, None where it is not finite."""
    return float(number) if math.isfinite(number) else None


def _spread(values):
    """Mean, least and largest of the values that are numbers."""
    values = [value for value in values if value is not None]
    if not values:
        return {"mean": None, "least": None, "largest": None}
    return {"mean": float(np.mean(values)), "least": min(values), "largest": max(values)}
