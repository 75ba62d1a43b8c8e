"""Adversarial examples saved, loaded and judged again.

An adversarial picture is written as PNG, read back, and only what the model says of the pixels in
that file counts. B batch, H W size, C classes, O objects; a unit is what the model classifies one
by one, see `units`: a pixel of segmentation [H, W], an anchor of an SSD [A], a label of a
classifier [C].
"""

import contextlib
import dataclasses
import re
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

from kerasdense.attacks.attacker import Attacker
from kerasdense.attacks.units import Criterion, succeeded, unit_outputs
from kerasdense.data.images import unused_name
from kerasdense.drawing import pictures, progress
from kerasdense.explain import gradients
from kerasdense.models.outputs import main_output
from kerasdense.tasks.base import check_finite, reason


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

    @property
    def criterion(self):
        """When a unit is won, a `units.Criterion`."""
        return Criterion(self.targeted, self.confidence)


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
        model: a `keras.Model` of the package.
        task: what it is for, see `tasks.base`.
        goal: a `Goal`.
        folder: where the adversarial pictures stay, NAME.png; None keeps none.

    Raises: ValueError for a goal or a model that does not fit the task.
    """

    def __init__(self, model, task, goal=Goal(), folder=None):
        task.check_goal(goal)
        task.check_model(model)
        self.model, self.task, self.goal, self.folder = model, task, goal, folder
        self.criterion = goal.criterion
        logits, output = unit_outputs(model, task), main_output(model.output)
        # Where the logits are the output, one copy of them is enough.
        outputs = [logits] if logits.shape == output.shape else [logits, output]
        self.outputs_of = gradients.compiled(gradients.on_pixels(model, outputs), model)
        self.detections = task.detections(model)
        self.taken = set()

    def attacker(self, attack, xla=False, seed=0):
        """An `Attacker` of the model, after the judge's goal; arguments as there."""
        return Attacker(self.model, self.task, attack, self.criterion, xla, seed)

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
            logits, output = self._outputs(images)
        labels = self.task.attack_labels(self.goal, logits, output, samples)
        views, counted = self._views(logits, output, labels)
        return Batch(samples, images, labels, counted, views)

    def attack(self, batch, attack_batch, **options):
        """The `Example` of each sample after `attack_batch(images, labels, **options)`.

        `attack_batch`: an `Attacker`, or what is called as one. An image in which no unit counts,
        or all have reached the goal before, is left as it is.
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
        logits, output = self._outputs(loaded)
        views, _ = self._views(logits, output, batch.labels)
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
        """Logits of the units float32 [B, *units, K], and the model's output."""
        outputs = [
            keras.ops.convert_to_numpy(each) for each in self.outputs_of(images.astype(np.float32))
        ]
        logits, output = outputs[0], outputs[-1]
        check_finite(logits, "logits", "the pictures")
        return logits, output

    def _views(self, logits, output, labels):
        success, counted = map(
            keras.ops.convert_to_numpy, succeeded(logits, labels, self.criterion)
        )
        probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
        # Of the logits, as the attack sees it: probabilities may round to equal ones.
        predictions, confidences = logits.argmax(axis=-1), probabilities.max(axis=-1)
        views = [
            View(*each) for each in zip(predictions, confidences, success, self.detections(output))
        ]
        return views, counted

    def _name(self, file_name):
        stem = re.sub(r"[^\w.-]+", "_", Path(file_name).stem)
        return unused_name(stem, self.taken, (".png",))


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


class Progress(progress.Progress):
    """Tells how many steps of an `attack` on `images` (None: unknown) are done."""

    def __init__(self, images, attack, shown=True):
        self.steps, self.done = attack.steps, 0
        super().__init__(images and images * self.steps, "steps", shown=shown)

    def of_batch(self, images):
        """A function of the number of steps done (None: all) in the next batch of `images`."""
        before = self.done
        self.done += images * self.steps

        def update(steps=None):
            self.update(before + images * (self.steps if steps is None else steps))

        return update


@contextlib.contextmanager
def _failures(samples):
    """Tells TensorFlow's errors, such as too little memory, as ValueErrors of these samples."""
    try:
        yield
    except _refusals() as error:
        names = ", ".join(sample["file_name"] for sample in samples)
        height, width = samples[0]["image"].shape[:2]
        raise ValueError(
            f"The model cannot process {names}, {width}x{height} pixels: {reason(error)}"
        ) from error


def _refusals():
    """What TensorFlow raises for images that a model cannot take; nothing, where it is not used."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        return ()
    return tensorflow.errors.InvalidArgumentError, tensorflow.errors.ResourceExhaustedError


def _check_size(kind, values, sample):
    size = sample["image"].shape[:2]
    if values.shape != size:
        raise ValueError(
            f"The {kind} must have the size of the image {sample['file_name']}, expected height "
            f"and width {size}, received {values.shape}."
        )
