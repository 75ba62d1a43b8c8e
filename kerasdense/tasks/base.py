"""What a task is: all that segmentation, detection or classification alone knows.

A file of this folder is a task; it calls its `Task` TASK. Fitting, evaluating, predicting,
exporting and attacking ask a task by the members below, and never for its name. Models and
TensorFlow are imported where they are used: drawing what an export found needs neither.

B batch, H W size, C classes, K classes of a unit.
"""

import abc
import dataclasses
import math
import re
from collections.abc import Callable

import numpy as np

from kerasdense.drawing.progress import Progress

PICTURES = 4  # drawn during training
WORST = 4  # pictures kept to look at
NO_REGION = "A region is of pixels of a label map: expected a class of a segmentation model."
LONGEST_REASON = 300  # characters
NODE = "[[{{node"  # what TensorFlow writes after the cause of an error
# Of terminals, and TensorFlow's names of operations.
NOISE = re.compile(r"\x1b\[[\d;]*m|\{\{function_node [^}]*\}\}\s*|\s*\[Op:[^\]]*\](\s*name:)?")
SURE = 0.5  # score from which a detection or a label counts as an error of its image, if wrong


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What `Task.evaluate` or `Task.measure` found.

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
    only told); `heading`, `text`: its column in a table, and the figure as it stands there;
    `counts`: it is no difference, but the number of things compared; `most`: its largest value.
    """

    meaning: str
    limits: dict = dataclasses.field(default_factory=dict)
    heading: str | None = None
    text: Callable = "{:.1e}".format
    counts: bool = False
    most: float = math.inf


@dataclasses.dataclass(frozen=True)
class Intake:
    """How an export takes pictures.

    `images`: their tf.TensorSpec, uint8 [B, H, W, 3]; `check`: passes on images that a server can
    take, and raises for others; `decode`: an image file (string) as a picture uint8 [H, W, 3];
    `xla`: whether XLA is to compile the network.
    """

    images: object
    check: Callable
    decode: Callable
    xla: bool = False


class Task(abc.ABC):
    """What a network is for, with the classes of one dataset.

    `class_names`: list of str; `palette`: list of [r, g, b].
    """

    name = ""  # as run.json and model.json have it: the name of the file
    features = ()  # what is read of an example of a prepared dataset
    target = ""  # the entry of a sample that the loss compares with
    criterion = ""  # the entry of an epoch's logs that is highest for the best model
    criterion_name = ""  # how messages call it
    accuracy = ""  # the entry of an evaluation's result that is highest for the best model, 0 to 1
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
        """Whether a model is for this task and no other, by its layers and output."""

    @staticmethod
    @abc.abstractmethod
    def classes(builder):
        """Class names and palette of a prepared dataset: (list of str, list of [r, g, b])."""

    def image_size_of(self, model):
        """(H, W) that images are warped to for a model; None: each keeps its own."""
        return None

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

    def class_heads(self, model):
        """The layers whose last axis is the classes of each cell: {name: rows before the classes}.

        Such a row is SSD's background. A model that goes on from one of other classes matches the
        others by the classes' names.
        """
        return {}

    def check_data(self, builder, split, is_training=False, may_lack_classes=False):
        """Says what the truth of a split lacks.

        `builder`: a prepared dataset; `is_training`: whether the split is to be trained on;
        `may_lack_classes`: the model may know by now what the split does not show.
        Raises: ValueError if nothing can be learned, or measured, of it.
        """

    @abc.abstractmethod
    def targets(self, model):
        """A function of an augmented sample to what the loss compares with, of a static shape."""

    @abc.abstractmethod
    def eval_batches(
        self, builder, split, image_size=None, batch_size=1, few_sizes=False, targets=None
    ):
        """Every sample of a split once, in order: a tf.data.Dataset of dicts.

        They hold `image` uint8 [B, H, W, 3], `file_name`, and what `evaluate` needs.

        Args:
            image_size: (H, W) that images are warped to, where the task warps them: `image_size_of`
                a model.
            few_sizes: pad images, where they differ, to few sizes, of which XLA compiles each.
            targets: what makes the entry `target`, should `evaluate` not need it: `targets` of a
                model.
        """

    @abc.abstractmethod
    def compile_arguments(self, model):
        """Loss and metrics, as arguments of `Model.compile`."""

    def validate(self, model, samples):
        """Entries for an epoch's line, beside those of `Model.evaluate`, which has just run.

        {"val_...": number, or a dict of numbers (None: unknown) by class}; `samples`: as of
        `eval_batches`.
        """
        return {}

    @abc.abstractmethod
    def validation_picture(self, model, samples):
        """What the model finds in samples (list of dicts, without B): a picture uint8 [h, w, 3]."""

    # ---- evaluation

    options = ()  # of `evaluate`, beside those that all have

    @abc.abstractmethod
    def evaluate(self, model, samples, worst=WORST, verbose=1):
        """Measures the model on every sample of `eval_batches`: an `Evaluation`.

        `worst`: pictures to keep; `verbose`: 1 tells how far it is.
        Raises: ValueError if there is nothing to measure, or model, samples and names do not match.
        """

    @abc.abstractmethod
    def measure(self, predict, samples, worst=WORST, verbose=1):
        """As `evaluate`, of what is no Keras model, such as an export.

        `predict`: a function of images uint8 [B, H, W, 3] to the outputs of `serving_default`,
        arrays by name, as `export.predictor.Predictor.predict`. The result has the same entries.
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

    minimum_side = 1  # pixels, of the images that a network takes
    pads_images = False  # an export pads smaller ones up to it; without, it refuses them
    maximum_pixels = 2**24  # B x H x W of a call: a server refuses what would take all its memory
    figures = {}  # of `differences`, {name: Figure}
    reference = "serving_default"  # the signature that `differences` compares with

    @abc.abstractmethod
    def signatures(self, network, intake, portable):
        """What an export answers: {name: function of a tensor to a dict of tensors}.

        `serving_default` is the first; `raw` gives what the network does, one tensor; `encoded`
        takes image files, a string tensor [B], all others images, see `Intake`.
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

        Returns an object with `output`; `add(image, picture, outputs) -> a line about it`, for each
        `data.images.Found`, its picture uint8 [H, W, 3] and its outputs of serving_default (without
        B), which raises ValueError where these do not fit the picture or the classes; and
        `finish(images)`, of all of them in order. Results go where `Found.name` says.
        """

    def cityscapes_writer(self, output, protocol):
        """As `writer`, which also writes label maps for the Cityscapes server.

        `protocol`: `data.cityscapes_frames.Protocol`; the outputs that are added are of what it
        lets the model see, the pictures are whole frames.
        Raises: ValueError unless the task finds label maps of the classes of Cityscapes.
        """
        raise ValueError(f"Label maps of Cityscapes are asked for, received a {self.name} model.")

    # ---- explanation

    def class_objective(self, model, index, region=None):
        """The class `index` (int or list) as an Objective of `explain.objectives`.

        `region`: bool [H, W], the pixels that count; ValueError where outputs have no pixels.
        """
        raise ValueError(f"A {self.name} model has no classes to visualize.")

    def evidence_picture(self, name, image, output, heat, index):
        """An image beside where evidence for the class `index` lies in it: uint8 [h, w, 3].

        `name`: its file's; `image` uint8 [H, W, 3]; `output`: the model's for it, without B (of a
        dict its logits); `heat` float32 [H, W] from 0 to 1, of `explain.class_activation_maps`.
        """
        raise ValueError(f"A {self.name} model has no class scores of an image to map.")

    # ---- attacks: units are what the model classifies one by one; a task without units leaves
    # these members alone

    unit = ""  # its name: pixel, anchor, label
    truth = ""  # a sample's entry, where the truth is known
    image_share = 1.0  # of an image's units (objects) to be reached for the image to count so
    accuracies = ()  # names of those `attack_figures` that are accuracies, 0 to 1: one at least
    goals = ""  # flags of the goals that there are, for messages

    def unit_logits(self, output):
        """The model's output (of a dict its logits) as logits of units [B, *units, K].

        By `keras.ops`: the output may be symbolic. Units of two axes are pixels, and K their
        classes.
        """
        return output

    def check_goal(self, goal):
        """Raises ValueError for a goal (`attacks.judge.Goal`) that an attack cannot have here."""
        raise ValueError(f"A {self.name} model has no units to attack.")

    def attack_labels(self, goal, logits, output, samples):
        """The classes of the units to get away from, or those wanted: int [B, *units].

        `logits` [B, *units, K] and `output` (NumPy) are of the clean images; `samples`: list of B
        dicts, see `attacks.judge.Judge`.
        """
        raise NotImplementedError

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

    def attack_counts(self, example, view):
        """What `attack_figures` needs of one image, seen as `view` (`attacks.judge.View`).

        Those of several images add up with `+`.
        """
        raise NotImplementedError

    def attack_figures(self, counts):
        """Figures from the sum of images' `attack_counts`: {name: number, None or dict}."""
        raise NotImplementedError

    def view_picture(self, image, view):
        """A `View` of the image drawn: uint8 [h, w, 3]."""
        raise NotImplementedError


def progress(batches, verbose):
    """The batches of a tf.data.Dataset; tells how many are done if `verbose`."""
    steps = int(batches.cardinality())
    with Progress(steps if steps >= 0 else None, "batches", shown=bool(verbose)) as shown:
        for number, batch in enumerate(batches, 1):
            yield batch
            shown.update(number)


def predicted(predict, images, names):
    """`predict(images)`, of `Task.measure`; its ValueError then begins with the files' names."""
    try:
        return predict(images)
    except ValueError as error:
        raise ValueError(f"{', '.join(names)}: {error}") from error


def check_finite(outputs, what, where):
    """Raises ValueError unless all of a model's outputs (NumPy) are finite."""
    if not np.isfinite(outputs).all():
        raise ValueError(not_finite(what, where))


def not_finite(what, where):
    """What is wrong with a model whose outputs are not finite."""
    return (
        f"The model's {what} are not finite for {where}. Either its weights are broken, or "
        f"its values leave the range of float16: fit in float32 or mixed_bfloat16."
    )


def reason(error):
    """The cause that an error (or text) of Keras or a runtime names: a line without full stop.

    TensorFlow tells it last, below a trace of the whole program and between names of operations;
    so of a long text the end is kept.
    """
    text = NOISE.sub("", str(error))
    if NODE in text:
        text = text.split(NODE, 1)[0].strip().splitlines()[-1]
    asserted = re.search(r"assertion failed: \[(.*?)\]", text)
    text = asserted[1] if asserted else text
    # Lines of OpenVINO's source, and what Keras adds of its own.
    lines = text.split("Arguments received by ", 1)[0].splitlines()
    places = "Exception from ", "Check '", "Exception encountered when calling "
    text = " ".join(" ".join(line for line in lines if not line.strip().startswith(places)).split())
    if len(text) > LONGEST_REASON:
        text = "… " + text[-LONGEST_REASON:].split(" ", 1)[-1]
    return text.rstrip(".! ") or type(error).__name__


def check_shape(name, values, shape):
    """Raises ValueError unless the outputs of an export have the shape of its model's."""
    if values.shape != shape:
        raise ValueError(
            f"The {name} of both models must have one shape to be compared, expected "
            f"{list(shape)}, received {list(values.shape)}."
        )


def file_names(batch):
    """The entry `file_name` [B] of a batch as a list of str."""
    return [name.decode() if isinstance(name, bytes) else str(name) for name in batch]
