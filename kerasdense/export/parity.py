"""How far the outputs of an exported model are from those of the model it comes from.

The figures are floats, 0 for equal outputs and growing with the difference; NaN in an output makes
a figure NaN, or its detection a missed one. What they mean, a task says: `Task.figures`.
"""

import numpy as np
import tensorflow as tf

from kerasdense.drawing import pictures
from kerasdense.export.signatures import serve
from kerasdense.tasks.base import Figure, check_shape, reason

# A model whose outputs are huge, as of a first step, rounds by more than others do: an export is
# refused from so many times of what rounding explains on.
GROSS = 10
NEARLY_ALL = 0.9  # of the largest value of a figure, from which on all is wrong
RANDOM_SIZE = (192, 256)  # of a random picture, where any size is taken
# Of the raw output, whatever the task.
RAW = {
    "relative": Figure(
        "difference of the raw output as a share of its largest value",
        {"float32": 1e-4, "float16": 0.02, "bfloat16": 0.1},
    )
}


class Reference:
    """What a Keras model answers in float32: as it was fitted, nothing folded or converted.

    Called like `predictor.Predictor`, with images uint8 [B, H, W, 3].
    """

    def __init__(self, model, task):
        self._served = serve(model, task, folded=False)

    def predict(self, images):
        """What `Predictor.predict` of an export returns."""
        return self.signature("serving_default", images)

    def raw(self, images):
        """What the network gives, float32 [B, ...]."""
        (output,) = self.signature("raw", images).values()
        return output

    def signature(self, name, images):
        """The outputs of a signature, {name: array}."""
        outputs = getattr(self._served, name)(tf.constant(images))
        return {key: value.numpy() for key, value in outputs.items()}


def check(predictor, model, task, picture=None):
    """The figures of an export beside its model on one picture, {name: float}.

    `predictor`: a `predictor.Predictor`; `picture`: uint8 [H, W, 3], resized where the export takes
    one size alone; None: `random_picture`.
    A line says so where a figure is beyond what rounding explains.
    Raises: ValueError if it fails on it, or a figure is far beyond that.
    """
    taken = predictor.facts["input"]
    size = (taken["height"], taken["width"]) if taken["height"] else None
    if picture is None:
        picture = random_picture(size or RANDOM_SIZE)
    elif size:
        picture = pictures.resized(picture, size)
    images = np.repeat(picture[None], taken["batch_size"] or 1, axis=0)
    try:
        outputs = predictor.predict(images)
    except ValueError:
        raise  # it does not take such pictures, and says so
    except Exception as error:  # each runtime has its own
        height, width = picture.shape[:2]
        raise ValueError(
            f"It fails on a picture of {height}x{width}: {reason(error)}. Choose another format, "
            f"or a fixed --size."
        ) from error
    figures = compare(lambda images: outputs, Reference(model, task), task, [images])
    precision = predictor.facts["precision"]
    differences = "; ".join(exceeded(task, figures, precision))
    if exceeded(task, figures, precision, GROSS):
        raise ValueError(
            f"It differs from its model: {differences}. Choose another format or precision, or "
            f"compare on a picture of what the model knows (--image)."
        )
    if differences:
        print(
            f"note: it differs from its model by more than rounding explains in most models: "
            f"{differences}. Look at it with check-export, on pictures of what the model knows."
        )
    return figures


def random_picture(size):
    """A random picture uint8 [H, W, 3] that looks like something out of focus."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    return pictures.resized(noise, size)


def compare(predict, reference, task, batches):
    """The figures of a task for the outputs of `predict` on batches of images, {name: float}.

    `predict`: of a `predictor.Predictor`; `reference`: `Reference`.
    """
    outputs = _joined(predict(images) for images in batches)
    expected = _joined(reference.signature(task.reference, images) for images in batches)
    return task.differences(outputs, expected)


def compare_raw(raw, reference):
    """Largest difference of two float arrays: `absolute`, and `relative` to the largest value.

    Raises: ValueError if the shapes do not match.
    """
    check_shape("raw output", raw, reference.shape)
    reference = reference.astype(np.float64)
    difference = np.max(np.abs(raw - reference))
    largest = max(np.max(np.abs(reference)), 1e-30)  # all zeros: no share of it is small
    return {"absolute": float(difference), "relative": float(difference / largest)}


def exceeded(task, figures, precision, times=1):
    """A phrase for each figure beyond what rounding explains; none if the outputs agree.

    `precision`: of the exported model, one of `signatures.PRECISIONS`; `times`: so many times that.
    """
    known = task.figures | RAW
    return [
        f"{known[name].meaning}: {figures[name]:.3g}, expected at most {limit:g} in {precision}"
        for name, limit in limits(task, precision).items()
        # NaN is beyond, too
        if name in figures
        and not figures[name] <= min(times * limit, NEARLY_ALL * known[name].most)
    ]


def limits(task, precision):
    """The largest value of each figure that rounding explains, {name: float}."""
    known = task.figures | RAW
    return {
        name: figure.limits[precision]
        for name, figure in known.items()
        if precision in figure.limits
    }


def _joined(outputs):
    """The outputs of several batches as those of one."""
    outputs = list(outputs)
    return {name: np.concatenate([each[name] for each in outputs]) for name in outputs[0]}
