"""What a task is: all that segmentation, detection or classification alone knows.

A file of this folder is a task; it calls its `Task` TASK. Fitting, evaluating, predicting,
exporting and attacking ask a task by the members below, and never for its name. Models and
TensorFlow are imported where they are used: drawing what an export found needs neither.

B batch, H W size, C classes, K classes of a unit.
"""

import abc
import dataclasses
from collections.abc import Callable

PICTURES = 4  # drawn during training
WORST = 4  # pictures kept to look at
SURE = 0.5  # score from which a detection or a label counts as an error of its image, if wrong


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What `Task.evaluate` found.

    `result`: ready for JSON, with `images` and the figures; `worst`: what `Task.worst_picture`
    draws, worst first, dicts with `file_name` and `image`; `curves`: of detection and
    classification, by class name (recall, precision).
    """

    result: dict
    worst: list
    curves: dict | None = None


@dataclasses.dataclass(frozen=True)
class Figure:
    """A difference between the outputs of an export and those of its model: 0 if they are equal.

    `meaning`: in words; `limits`: what rounding explains, by the export's precision (none: it is
    only told); `heading`, `text`: its column in a table, and the figure as it stands there.
    """

    meaning: str
    limits: dict = dataclasses.field(default_factory=dict)
    heading: str | None = None
    text: Callable = "{:.1e}".format


class Task(abc.ABC):
    """What a network is for, with the classes of one dataset.

    `class_names`: list of str; `palette`: list of [r, g, b].
    """

    name = ""  # as run.json and model.json have it: the name of the file
    features = ()  # what is read of an example of a prepared dataset
    target = ""  # the entry of a sample that the loss compares with
    criterion = ""  # the entry of an epoch's logs that is highest for the best model
    criterion_name = ""  # how messages call it
    shown = ()  # further entries of the logs, named in the line of an epoch

    def __init__(self, class_names, palette):
        self.class_names, self.palette = list(class_names), [list(color) for color in palette]

    @classmethod
    def of_run(cls, facts):
        """The task of a run, by its run.json (dict)."""
        return cls(facts["dataset"]["class_names"], facts["dataset"]["palette"])

    @classmethod
    @abc.abstractmethod
    def recognizes(cls, model):
        """Whether a model of this package is for this task, by its layers and output."""

    @staticmethod
    @abc.abstractmethod
    def classes(builder):
        """Class names and palette of a prepared dataset: (list of str, list of [r, g, b])."""

    @abc.abstractmethod
    def count_classes(self, model):
        """The classes that a model tells apart: C."""

    def check_model(self, model):
        """Raises ValueError unless the model tells apart the task's classes."""
        classes = self.count_classes(model)
        if not classes == len(self.class_names) == len(self.palette):
            raise ValueError(
                f"The model has {classes} classes, so as many names and colors are expected, "
                f"received {len(self.class_names)} names ({', '.join(self.class_names)}) and "
                f"{len(self.palette)} colors. Do they belong to another dataset?"
            )

    # ---- training

    @abc.abstractmethod
    def targets(self, model):
        """A function of an augmented sample to what the loss compares with, of a static shape."""

    @abc.abstractmethod
    def eval_batches(self, model, builder, split, batch_size=1, few_sizes=False):
        """Every sample of a split once, in order: a tf.data.Dataset of dicts.

        They hold `image` uint8 [B, H, W, 3], `file_name`, the entry `target`, and what `evaluate`
        needs. `few_sizes`: pad images, where they differ, to few sizes, of which XLA compiles each.
        """

    @abc.abstractmethod
    def compile_arguments(self, model):
        """Loss and metrics, as arguments of `Model.compile`."""

    def validate(self, model, samples):
        """Entries for an epoch's logs, beside those of `Model.fit`: {"val_...": number}.

        `samples`: as of `eval_batches`.
        """
        return {}

    @abc.abstractmethod
    def validation_picture(self, model, samples):
        """Samples (list of dicts of arrays, without B) and what the model finds: uint8 [h, w, 3]."""

    # ---- evaluation

    options = ()  # of `evaluate`, beside those that all have

    @abc.abstractmethod
    def evaluate(self, model, samples, worst=WORST, verbose=1):
        """Measures the model on every sample of `eval_batches`: an `Evaluation`.

        `worst`: pictures to keep; `verbose`: 1 shows a progress bar.
        Raises: ValueError if there is nothing to measure, or model, samples and names do not match.
        """

    @abc.abstractmethod
    def table(self, result):
        """The result of an evaluation as text."""

    @abc.abstractmethod
    def charts(self, evaluation):
        """Charts of an `Evaluation`: {name: figure of `drawing.charts`}."""

    @abc.abstractmethod
    def worst_picture(self, found):
        """One of `Evaluation.worst` beside the truth: uint8 [h, w, 3]."""

    # ---- export and prediction

    minimum_side = 1  # pixels, of the images of an export
    maximum_pixels = 2**24  # B x H x W of a call: a server refuses what would take all its memory
    figures = {}  # of `differences`, {name: Figure}
    reference = "serving_default"  # the signature that `differences` compares with

    @abc.abstractmethod
    def signatures(self, network, pictures, portable):
        """What an export answers: {name: function of a tensor to a dict of tensors}.

        `serving_default` is the first, `raw` what the network gives; they take images as the
        tf.TensorSpec `pictures` says. `encoded` takes image files, a string tensor [B].
        `portable`: use only operations that the converters for other runtimes know.
        """

    def assets(self, model):
        """Arrays to lie beside an export, {name: array}."""
        return {}

    def postprocessing(self):
        """Constants of what is done to the raw output, for model.json."""
        return None

    @abc.abstractmethod
    def differences(self, outputs, reference):
        """Figures of `figures` for the outputs of serving_default, {name: float}.

        `reference`: what the signature `reference` of the model itself gives for the same images.
        Raises: ValueError if the shapes do not match.
        """

    @abc.abstractmethod
    def writer(self, output, score=SURE):
        """Writes what was predicted into a folder.

        Returns an object with `add(path, picture, outputs) -> a line about it`, for each picture
        uint8 [H, W, 3] and its outputs of serving_default (without B), and `finish(paths)`.
        """

    @abc.abstractmethod
    def prediction_picture(self, image, output):
        """What a model says of an image: uint8 [h, w, 3].

        `image` uint8 [H, W, 3]; `output`: the model's for it, without B (of a dict its logits).
        """

    # ---- explanation

    @abc.abstractmethod
    def class_objective(self, model, index, region=None):
        """The class `index` (int or list) as an Objective of `explain.activation_maximization`.

        `region`: bool [H, W], the pixels that count; ValueError where outputs have no pixels.
        """

    # ---- attacks: units are what the model classifies one by one

    unit = ""  # its name: pixel, anchor, label
    truth = ""  # a sample's entry, where the truth is known
    image_share = 1.0  # of an image's units (objects) to be reached for the image to count so
    accuracies = ()  # names of the figures of `attack_figures`
    goals = ""  # flags of the goals that there are, for messages

    def unit_logits(self, output):
        """The model's output (of a dict its logits) as logits of units [B, *units, K]."""
        return output

    def check_goal(self, goal):
        """Raises ValueError for a goal (`attacks.judge.Goal`) that an attack cannot have here."""

    @abc.abstractmethod
    def attack_labels(self, goal, logits, output, samples):
        """The classes of the units to get away from, or those wanted: int [B, *units].

        `logits` [B, *units, K] and `output` (NumPy) are of the clean images; `samples`: list of B
        dicts, see `attacks.judge.Judge`.
        """

    def detections(self, model):
        """A function of the model's output (NumPy) to what was found in each image, a list of B.

        Dicts of `boxes` float32 [D, 4] relative xyxy, `labels` int [D], `scores` float32 [D], best
        first; None where objects are not what the task is about.
        """
        return lambda output: [None] * len(output)

    def objects_reached(self, example):
        """Which objects of the clean picture an attack reached, bool [O]; None: there are none.

        `example`: `attacks.judge.Example`.
        """
        return None

    @abc.abstractmethod
    def attack_counts(self, example, view):
        """What `attack_figures` needs of one image, seen as `view` (`attacks.judge.View`)."""

    @abc.abstractmethod
    def attack_figures(self, counts):
        """Figures of all images, from their `attack_counts`: {name: number, None or dict}."""

    @abc.abstractmethod
    def view_picture(self, image, view):
        """A `View` of the image drawn: uint8 [h, w, 3]."""
