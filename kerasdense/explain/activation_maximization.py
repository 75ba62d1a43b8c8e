"""Images that maximize an objective, by gradient ascent.

Images that excite a unit: Erhan et al., "Visualizing higher-layer features of a deep network",
2009; a class: Simonyan et al., "Deep inside convolutional networks", ICLR workshop 2014. Kept
natural by blurring between steps: Yosinski et al., "Understanding neural networks through deep
visualization", ICML workshop 2015; by random transformations and a parametrization in Fourier
space: Olah et al., "Feature visualization", Distill 2017.

B batch, H W size of the images, S steps.
"""

import dataclasses

import numpy as np
from keras import ops

from kerasdense.explain import gradients
from kerasdense.explain.objectives import weighted_sum
from kerasdense.explain.transforms import blur, gaussian, spectrum_image, transform
from kerasdense.models.layers import minimum_side

SIZE = (128, 128)  # pixels, of the images for models that take any size
MOMENTUM = 0.9
PARAMETRIZATIONS = ("pixel", "fourier")
GRAY = 127.5  # the middle of the pixels' range, 0 to 255
START_DEVIATION = 4.0  # gray levels, of a start image's noise
# Of the first step's; without any at the end, the grid of the model's strides shows.
FINAL_BLUR = 0.3
REPORTS = 20  # calls of `progress` in an optimization


@dataclasses.dataclass(frozen=True)
class Regularization:
    """What keeps an image natural while it is optimized; 0 turns a part off.

    Shift, size and angle are drawn for each step and image and change what the model sees of the
    image, which is continued periodically. The blur is drawn likewise, changes the image itself
    and becomes weaker towards the last step. The penalties are gradients beside that of the
    objective, which is scaled to a root mean square of 1, so that one weight suits all layers.

    Args:
        jitter: largest shift in pixels.
        scaling: largest change of the size; 0.1 is by factors from 0.9 to 1.1.
        rotation: largest angle in degrees.
        blur: largest standard deviation in pixels, in the first step.
        total_variation: weight of the differences of neighboring pixels.
        l2: weight of the squared distance from gray.

    Raises: ValueError for a negative or infinite number, and a scaling of 1 or above.
    """

    jitter: int = 8
    scaling: float = 0.1
    rotation: float = 5.0
    blur: float = 1.0
    total_variation: float = 0.05
    l2: float = 0.05

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if not 0 <= value < np.inf or (name == "scaling" and value >= 1):
                limit = "below 1" if name == "scaling" else "finite"
                raise ValueError(f"{name}: expected at least 0 and {limit}, received {value!r}.")

    @property
    def transforms(self):
        """Whether the model sees a transformed image."""
        return any((self.jitter, self.scaling, self.rotation))


@dataclasses.dataclass(frozen=True)
class Ascent:
    """How images come about, from gray noise: the same ascent gives the same images.

    Args:
        size: (H, W) in pixels; None is the model's own, or `SIZE` if it takes any.
        steps: S.
        learning_rate: root mean square of a step without momentum, about, in gray levels.
        regularization: None for none: what maximizes the objective, natural or not.
        parametrization: "fourier": a spectrum of decorrelated colors, in which low frequencies
            weigh more, as in natural images; "pixel"; None becomes "fourier", and without
            regularization "pixel".
        seed: of the start images and all that is drawn.
        frames: how many images along the way are kept.

    Raises: ValueError for a number out of its range.
    """

    size: tuple | None = None
    steps: int = 128
    learning_rate: float = 8.0
    regularization: Regularization | None = Regularization()
    parametrization: str | None = None
    seed: int = 0
    frames: int = 0

    def __post_init__(self):
        for name, least in (("steps", 1), ("seed", 0), ("frames", 0)):
            _check_int(name, getattr(self, name), least)
        if not 0 < self.learning_rate < np.inf:
            raise ValueError(
                f"learning_rate: expected a number above 0, received {self.learning_rate!r}."
            )
        if self.parametrization is None:
            chosen = "fourier" if self.regularization else "pixel"
            object.__setattr__(self, "parametrization", chosen)
        if self.parametrization not in PARAMETRIZATIONS:
            raise ValueError(
                f"parametrization: expected one of {PARAMETRIZATIONS}, received "
                f"{self.parametrization!r}."
            )


@dataclasses.dataclass(frozen=True)
class Maximized:
    """Images [B, H, W, 3] uint8, and their objectives [B] float32 without any transformation.

    `start`: the objective of the start images; `end`: of the images; `frames`: images along the
    way, from the start to the end.
    """

    images: np.ndarray
    start: np.ndarray
    end: np.ndarray
    frames: list


def maximize(model, objectives, ascent=None, batch_size=16, xla=False, progress=None):
    """Images that maximize objectives: a `Maximized`.

    The gradient of each image is scaled to a root mean square of 1, so images of one batch do not
    feel each other: image i is, up to rounding, the only image of an ascent with `seed` + i.

    Args:
        model: a `keras.Model` of images [B, H, W, 3].
        objectives: an `explain.objectives.Objective`, or a list of them or of pairs (weight,
            Objective), which are added. Where an objective's index is a sequence, there are as
            many images.
        ascent: an `Ascent`; None is the usual one.
        batch_size: number of images that are optimized at once.
        xla: whether TensorFlow compiles with XLA; JAX always does.
        progress: called as `progress(done, total)` with numbers of steps, of all batches.

    Raises: ValueError for an objective that the model does not have, a size that it does not take,
        a batch size below 1, and an objective that is not finite.
    """
    ascent = ascent or Ascent()
    _check_int("batch_size", batch_size, 1)
    size, steps = image_size(model, ascent.size), ascent.steps
    function, indices = weighted_sum(model, objectives, size)  # [B, objectives]
    measure = gradients.compiled(function, model, xla)
    climb = gradients.compiled(_climb(function, ascent), model, xla)
    shown = _evenly(steps, ascent.frames)
    marks = sorted({*shown, *_evenly(steps, min(steps, REPORTS) + 1)})

    batches = np.array_split(np.arange(len(indices)), -(-len(indices) // batch_size))

    def optimized(number, rows):
        """Images, objectives before and after, and frames of a batch."""
        chosen = ops.convert_to_tensor(indices[rows])

        def objective(pictures, when):
            found = measure(ops.convert_to_tensor(pictures.astype(np.float32)), chosen)
            return _finite(ops.convert_to_numpy(found), when)

        values, draws = _drawn(ascent.seed + rows, size, ascent)
        state = (values, ops.zeros_like(values))
        pictures = _pictures(values, ascent)
        start = objective(pictures, "at the start")
        taken = [pictures] if 0 in shown else []
        for first, last in zip(marks[:-1], marks[1:]):
            bounds = (ops.convert_to_tensor(mark, "int32") for mark in (first, last))
            state = climb(state, draws, chosen, *bounds)
            _finite(ops.convert_to_numpy(state[1]), f"before step {last}")
            if last in shown:
                taken.append(_pictures(state[0], ascent))
            if progress:
                progress(number * steps + last, len(batches) * steps)
        pictures = _pictures(state[0], ascent)
        return pictures, start, objective(pictures, f"after {steps} steps"), taken

    results = [optimized(number, rows) for number, rows in enumerate(batches)]
    pictures, start, end, taken = zip(*results)
    taken = [np.concatenate(frame) for frame in zip(*taken)]
    return Maximized(np.concatenate(pictures), np.concatenate(start), np.concatenate(end), taken)


def image_size(model, size=None):
    """The (height, width) in pixels of images for a model: `size`; None is its own, or `SIZE`.

    Raises: ValueError if the model takes no images, or none of this size.
    """
    shape = model.inputs[0].shape
    if len(model.inputs) > 1 or len(shape) != 4 or shape[3] != 3:
        raise ValueError(
            f'"{model.name}" takes {[tuple(x.shape) for x in model.inputs]}, expected a model of '
            f"images [B, H, W, 3]."
        )
    size = size or tuple(own or default for own, default in zip(shape[1:3], SIZE))
    if any(own not in (None, side) for own, side in zip(shape[1:3], size)):
        raise ValueError(
            f'"{model.name}" takes images of {shape[1]}x{shape[2]}, received size '
            f"{size[0]}x{size[1]}."
        )
    least = minimum_side(model)
    if min(size) < least:
        raise ValueError(
            f'"{model.name}" takes images of at least {least} pixels a side, received size '
            f"{size[0]}x{size[1]}."
        )
    return tuple(size)


def _climb(function, ascent):
    """The loop from step `first` to `last`, as a function of tensors, for `gradients.compiled`."""
    regularization = ascent.regularization
    transformed = regularization and regularization.transforms

    def program(state, draws, indices, first, last):
        def step(number, state):
            values, velocity = state
            seen = [draws[name][number] for name in ("shift", "factor", "angle") if transformed]

            def objective(pixels):
                pixels = transform(pixels, *seen) if transformed else pixels
                return ops.sum(function(pixels, indices)), None

            pixels = _pixels(values, ascent)
            _, direction = gradients.value_and_gradient(objective, pixels)
            direction = _normalized(direction)

            def gain(values):
                pixels = _pixels(values, ascent)
                penalty = _penalty(pixels, regularization) if regularization else 0.0
                return ops.sum(pixels * direction) - penalty, None

            _, direction = gradients.value_and_gradient(gain, values)
            velocity = MOMENTUM * velocity + (1 - MOMENTUM) * _normalized(direction)
            values = values + ascent.learning_rate * velocity
            if regularization and regularization.blur:
                values = _blurred(values, draws["blur"][number], ascent)
            if ascent.parametrization == "pixel":
                values = ops.clip(values, 0, 255)
            return values, velocity

        return ops.fori_loop(first, last, step, state)

    return program


def _pixels(values, ascent):
    """What is optimized as an image float32 [B, H, W, 3]."""
    return spectrum_image(values) if ascent.parametrization == "fourier" else values


def _pictures(values, ascent):
    pixels = ops.convert_to_numpy(_pixels(values, ascent))
    return np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)


def _blurred(values, deviation, ascent):
    if ascent.parametrization == "pixel":
        return blur(values, deviation)
    return values * gaussian(deviation, *values.shape[2:4])[..., None]


def _drawn(seeds, size, ascent):
    """What is optimized, at the start; and what is drawn for all steps, a dict of [S, B, ...]."""
    on_pixels, steps = ascent.parametrization == "pixel", ascent.steps
    shape, center = ((*size, 3), GRAY) if on_pixels else ((3, *size, 2), 0.0)
    regularization = ascent.regularization
    values, draws = [], {"shift": [], "factor": [], "angle": [], "blur": []}
    fading = np.linspace(1, FINAL_BLUR, steps)
    for seed in seeds:  # each image has its own, so that others do not change it
        rng = np.random.default_rng(seed)
        values.append(center + START_DEVIATION * rng.standard_normal(shape))
        if regularization:
            jitter, scaling = int(regularization.jitter), regularization.scaling
            turn = np.deg2rad(regularization.rotation)
            draws["shift"].append(rng.integers(-jitter, jitter + 1, (steps, 2)))
            draws["factor"].append(rng.uniform(1 - scaling, 1 + scaling, steps))
            draws["angle"].append(rng.uniform(-turn, turn, steps))
            draws["blur"].append(rng.uniform(0, regularization.blur, steps) * fading)
    draws = {name: np.stack(drawn, axis=1) for name, drawn in draws.items() if drawn}
    tensors = [ops.convert_to_tensor(np.asarray(x, np.float32)) for x in (values, *draws.values())]
    return tensors[0], dict(zip(draws, tensors[1:]))


def _penalty(pixels, regularization):
    """Total variation and distance from gray; their gradients are at most of order 1 a pixel."""
    down, right = (pixels - ops.roll(pixels, 1, axis=axis) for axis in (1, 2))
    # One gray level rounds off the root at 0, where it has no gradient.
    variation = ops.sum(ops.sqrt(ops.square(down) + ops.square(right) + 1.0))
    distance = ops.sum(ops.square(pixels - GRAY)) / (2 * GRAY)
    return regularization.total_variation * variation + regularization.l2 * distance


def _normalized(direction):
    """Each of [B, ...] at a root mean square of 1; zero stays zero."""
    axes = tuple(range(1, len(direction.shape)))
    mean_square = ops.mean(ops.square(direction), axis=axes, keepdims=True)
    return direction / ops.maximum(ops.sqrt(mean_square), 1e-18)


def _check_int(name, value, least):
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{name}: expected an int of at least {least}, received {value!r}.")


def _evenly(steps, count):
    """`count` step numbers from 0 to `steps`, both included where there are two or more."""
    return sorted(set(np.rint(np.linspace(steps, 0, count)).astype(int).tolist()))


def _finite(values, when):
    if not np.isfinite(values).all():
        raise ValueError(
            f"The objective or its gradient is not finite {when}. Are the model's weights, and the "
            f"weights of the objectives, finite and of a usual size?"
        )
    return values
