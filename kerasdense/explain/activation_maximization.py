"""Feature visualization: first-layer filters as pictures, and images that maximize an objective.

Images that excite a unit, by gradient ascent: Erhan et al., "Visualizing higher-layer features of
a deep network", 2009; a class: Simonyan et al., "Deep inside convolutional networks", ICLR
workshop 2014. Kept natural by blurring between steps: Yosinski et al., "Understanding neural
networks through deep visualization", ICML workshop 2015; by random transformations and a
parametrization in Fourier space: Olah et al., "Feature visualization", Distill 2017.

B batch, H W size of the images, h w of a layer's map, K channels, C classes, A anchors, S steps.
"""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from kerasdense.explain import gradients
from kerasdense.models.layers import ImageNetPreprocessing, MINIMUM_SIZE

SIZE = (128, 128)  # pixels, of the images for models that take any size
STEPS = 128
LEARNING_RATE = 8.0  # gray levels
MOMENTUM = 0.9
PARAMETRIZATIONS = ("pixel", "fourier")
GRAY = 127.5  # the middle of the pixels' range, 0 to 255
START_DEVIATION = 4.0  # gray levels, of a start image's noise
# Of the first step's; without any at the end, the grid of the model's strides shows.
FINAL_BLUR = 0.3
REPORTS = 20  # calls of `progress` in an optimization
# Square root of the covariance of the colors of ImageNet's pixels, RGB by row, the directions of
# most to least variance by column: the constants of tensorflow/lucid, param/color.py.
COLOR_CORRELATION = np.array(
    [[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]], np.float32
)


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


@dataclasses.dataclass(frozen=True)
class Objective:
    """What is to be maximized: for each image one of several scores of one output of a model.

    Args:
        kind: what the scores belong to, for messages.
        layer: name of the layer whose output it is; None is the model's output, its logits.
        scores: function from that output to float32 [B, K].
        index: which of the K, or a sequence with one for each image.
    """

    kind: str
    layer: str | None
    scores: Callable
    index: object = 0


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


def channel(layer, index):
    """A channel of a layer, averaged over its map: `index` 0 to K - 1, or one for each image."""
    return Objective("channel", layer, lambda features: ops.mean(_rows(features), axis=1), index)


def layer(name):
    """A whole layer: the mean square of its outputs (Mordvintsev et al., "DeepDream", 2015)."""

    def scores(features):
        return ops.mean(ops.square(_rows(features)), axis=(1, 2))[:, None]

    return Objective("layer", name, scores)


def unit(layer, index, position=None):
    """One position of a channel of a layer.

    A unit after a ReLU that is silent on gray images has no gradient to follow; the layer before
    the activation has.

    Args:
        index: channel, 0 to K - 1, or one for each image.
        position: (y, x) in the layer's map; None is its center.
    """

    def scores(features):
        _expect_rank(features, 4, f'The layer "{layer}"', "maps [B, h, w, K] of units")
        height, width = features.shape[1:3]
        y, x = (height // 2, width // 2) if position is None else position
        if not (0 <= y < height and 0 <= x < width):
            raise ValueError(
                f'There is no unit at {(y, x)}: at this size the map of "{layer}" is '
                f"{height}x{width}."
            )
        return features[:, y, x]

    return Objective("channel", layer, scores, index)


def class_logit(index):
    """The logit of a class of a classifier: `index` 0 to C - 1, or one for each image."""

    def scores(logits):
        _expect_rank(logits, 2, "The model", "a classifier's logits [B, C]")
        return logits

    return Objective("class", None, scores, index)


def segmentation_class(index, region=None):
    """The mean logit of a class of a segmentation model.

    Args:
        index: class, 0 to C - 1, or one for each image.
        region: bool [H, W], the pixels of the map that count; None is all.
    """
    region = None if region is None else np.asarray(region, bool)

    def scores(logits):
        _expect_rank(logits, 4, "The model", "a segmentation model's logits [B, H, W, C]")
        if region is None:
            return ops.mean(_rows(logits), axis=1)
        if region.shape != tuple(logits.shape[1:3]) or not region.any():
            raise ValueError(
                f"The region has {region.sum()} pixels of a map {region.shape}, expected at least "
                f"one of a map {tuple(logits.shape[1:3])}."
            )
        inside = ops.convert_to_tensor(region[..., None].astype(np.float32))
        return ops.sum(logits * inside, axis=(1, 2)) / float(region.sum())

    return Objective("class", None, scores, index)


def anchor_class(anchor, index):
    """The logit of a class of SSD's raw output, at an anchor.

    Args:
        anchor: 0 to A - 1, or several, over whose logits the mean is taken.
        index: class, 0 to C - 1 (without the background), or one for each image.
    """
    anchors = np.atleast_1d(np.asarray(anchor))

    def scores(raw):
        _expect_rank(raw, 3, "The model", "SSD's raw output [B, A, C + 5]")
        if not (0 <= anchors.min() and anchors.max() < raw.shape[1]):
            raise ValueError(
                f"The model has the anchors 0 to {raw.shape[1] - 1}, received {anchors.tolist()}."
            )
        logits = ops.take(raw, anchors.astype(np.int32), axis=1)[..., 1:-4]  # [B, anchors, C]
        return ops.mean(logits, axis=1)

    return Objective("class", None, scores, index)


def first_layer_filters(model):
    """The kernels of a model's first convolution as pictures: uint8 [K, k, k, 3].

    RGB as the images are, whatever the model makes of their colors before: a picture shows the
    image that the filter answers most to. Mid-gray is 0; each filter reaches black or white with
    its largest magnitude.

    Raises: ValueError if the model has no convolution.
    """
    found = [item for item in model.layers if isinstance(item, keras.layers.Conv2D)]
    if not found:
        raise ValueError(
            f'The model "{model.name}" has no convolution among its layers: '
            f"{', '.join(item.name for item in model.layers)}."
        )
    # What comes before, mean and order of the colors, maps a pixel's RGB by a matrix. Its rows are
    # the differences that the primary colors make, away from the padding.
    height, width = image_size(model)
    colors = np.concatenate([np.zeros((1, 3)), np.eye(3)]).astype(np.float32)
    images = np.broadcast_to(colors[:, None, None], (4, height, width, 3))
    prepared = gradients.on_pixels(model, found[0].input)(ops.convert_to_tensor(images))
    prepared = ops.convert_to_numpy(prepared)[:, height // 2, width // 2]  # [4, 3]
    colors_to_channels = prepared[1:] - prepared[0]  # [RGB, channels]
    kernel = ops.convert_to_numpy(found[0].kernel)  # [k, k, channels, K]
    filters = np.einsum("yxik,ci->kyxc", kernel, colors_to_channels)  # [K, k, k, RGB]
    largest = np.abs(filters).max(axis=(1, 2, 3), keepdims=True)
    largest[largest == 0] = 1
    return np.rint(GRAY + GRAY * filters / largest).astype(np.uint8)


def maximize(
    model,
    objectives,
    size=None,
    steps=STEPS,
    learning_rate=LEARNING_RATE,
    regularization=Regularization(),  # noqa: B008  (frozen)
    parametrization=None,
    seed=0,
    batch_size=16,
    frames=0,
    xla=False,
    progress=None,
):
    """Images that maximize objectives, by gradient ascent from gray noise: a `Maximized`.

    The gradient of each image is scaled to a root mean square of 1, so images of one batch do not
    feel each other: image i is, up to rounding, the only image of a call with `seed` + i.

    Args:
        model: a `keras.Model` of images [B, H, W, 3].
        objectives: an `Objective`, or a list of them or of pairs (weight, Objective), which are
            added. Where an objective's index is a sequence, there are as many images.
        size: (H, W) in pixels; None is the model's own, or `SIZE` if it takes any.
        steps: S.
        learning_rate: root mean square of a step without momentum, about, in gray levels.
        regularization: None for none: what maximizes the objective, natural or not.
        parametrization: "fourier": a spectrum of decorrelated colors, in which low frequencies
            weigh more, as in natural images; "pixel"; None is "fourier", and without
            regularization "pixel".
        seed: of the start images and all that is drawn; the same seed gives the same images.
        batch_size: number of images that are optimized at once.
        frames: how many images along the way are returned.
        xla: whether TensorFlow compiles with XLA; JAX always does.
        progress: called as `progress(done, total)` with numbers of steps, of all batches.

    Raises: ValueError for an objective that the model does not have, a size that it does not take,
        numbers out of their range, and an objective that is not finite.
    """
    objectives = [objectives] if isinstance(objectives, Objective) else objectives
    objectives = [(1.0, each) if isinstance(each, Objective) else each for each in objectives]
    parametrization = parametrization or ("fourier" if regularization else "pixel")
    _check_numbers(steps, learning_rate, parametrization, seed, batch_size, frames)
    size = image_size(model, size)
    function, indices = _weighted_sum(model, objectives, size)  # [B, objectives]
    measure = gradients.compiled(function, model, xla)
    ascend = gradients.compiled(
        _ascent(function, learning_rate, regularization, parametrization), model, xla
    )
    shown = _evenly(steps, frames)
    marks = sorted({*shown, *_evenly(steps, min(steps, REPORTS) + 1)})

    batches = np.array_split(np.arange(len(indices)), -(-len(indices) // batch_size))

    def optimized(number, rows):
        """Images, objectives before and after, and frames of a batch."""
        chosen = ops.convert_to_tensor(indices[rows])

        def objective(pictures, when):
            found = measure(ops.convert_to_tensor(pictures.astype(np.float32)), chosen)
            return _finite(ops.convert_to_numpy(found), when)

        values, draws = _drawn(seed + rows, size, steps, regularization, parametrization)
        state = (values, ops.zeros_like(values))
        pictures = _pictures(values, parametrization)
        start = objective(pictures, "at the start")
        taken = [pictures] if 0 in shown else []
        for first, last in zip(marks[:-1], marks[1:]):
            bounds = (ops.convert_to_tensor(mark, "int32") for mark in (first, last))
            state = ascend(state, draws, chosen, *bounds)
            _finite(ops.convert_to_numpy(state[1]), f"before step {last}")
            if last in shown:
                taken.append(_pictures(state[0], parametrization))
            if progress:
                progress(number * steps + last, len(batches) * steps)
        pictures = _pictures(state[0], parametrization)
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
    preprocessed = any(isinstance(item, ImageNetPreprocessing) for item in model.layers)
    if min(size) < (MINIMUM_SIZE if preprocessed else 1):
        raise ValueError(
            f'"{model.name}" takes images of at least {MINIMUM_SIZE} pixels a side, received size '
            f"{size[0]}x{size[1]}."
        )
    return tuple(size)


def spectrum_image(spectrum):
    """A spectrum float32 [B, 3, H, W, 2] as an image float32 [B, H, W, 3] between 0 and 255.

    The last axis is the real and the imaginary part of the discrete Fourier transform (unitary)
    of a decorrelated color in gray levels, divided by a weight that falls with the frequency f as
    1 / f. The mean of all squared weights is 1, so that a spectrum of independent numbers gives
    colors of their deviation.
    """
    height, width = spectrum.shape[2:4]
    weights = 1 / np.maximum(_frequencies(height, width), 1 / max(height, width))
    weights *= np.sqrt(height * width / np.mean(np.square(weights)))  # the root: unitary
    weights = weights.astype(np.float32)
    wave, _ = ops.ifft2((spectrum[..., 0] * weights, spectrum[..., 1] * weights))  # [B, 3, H, W]
    mixing = COLOR_CORRELATION / np.linalg.norm(COLOR_CORRELATION, axis=0).max()
    colors = ops.matmul(ops.transpose(wave, (0, 2, 3, 1)), mixing.T)  # [B, H, W, 3]
    return 255 * ops.sigmoid(colors * (4 / 255))  # of slope 1 at mid-gray


def transform(images, shift, factor, angle):
    """Images [B, H, W, 3] enlarged by `factor` [B], turned by `angle` [B], moved by `shift`.

    Bilinear, about the center, of the image continued periodically; angles counterclockwise in
    radians, shifts [B, 2] as (y, x) in pixels.
    """
    batch, (height, width) = ops.shape(images)[0], images.shape[1:3]
    y = np.arange(height, dtype=np.float32)[:, None] - (height - 1) / 2  # [H, 1]
    x = np.arange(width, dtype=np.float32) - (width - 1) / 2  # [W]
    cosine, sine = (part(angle) / factor for part in (ops.cos, ops.sin))
    cosine, sine = cosine[:, None, None], sine[:, None, None]
    y, x = cosine * y + sine * x, cosine * x - sine * y  # [B, H, W], where a pixel comes from
    y = y + (height - 1) / 2 - shift[:, 0, None, None]
    x = x + (width - 1) / 2 - shift[:, 1, None, None]
    top, left = ops.floor(y), ops.floor(x)
    below, right = y - top, x - left
    # Keras' affine_transform does not compile with XLA, and its map_coordinates takes 16 to 30
    # times as long as four gathers.
    pixels = ops.reshape(images, (-1, 3))
    first = ops.reshape(ops.arange(batch) * (height * width), (-1, 1, 1))
    top, left = ops.cast(top, "int32"), ops.cast(left, "int32")
    total = 0.0
    for row, share_y in ((top, 1 - below), (top + 1, below)):
        for column, share_x in ((left, 1 - right), (left + 1, right)):
            place = first + row % height * width + column % width  # [B, H, W]
            total += (share_y * share_x)[..., None] * ops.take(pixels, place, axis=0)
    return total


def blur(images, deviation):
    """Images [B, H, W, 3] blurred by a Gaussian of `deviation` [B] in pixels, periodically."""
    channels = ops.transpose(images, (0, 3, 1, 2))
    real, imaginary = ops.fft2((channels, ops.zeros_like(channels)))
    passed = _gaussian(deviation, *channels.shape[2:])
    real, _ = ops.ifft2((real * passed, imaginary * passed))
    return ops.transpose(real, (0, 2, 3, 1))


def _ascent(function, learning_rate, regularization, parametrization):
    """The loop from step `first` to `last`, as a function of tensors, for `gradients.compiled`."""
    transformed = regularization and any(
        (regularization.jitter, regularization.scaling, regularization.rotation)
    )

    def program(state, draws, indices, first, last):
        def step(number, state):
            values, velocity = state
            seen = [draws[name][number] for name in ("shift", "factor", "angle") if transformed]

            def objective(pixels):
                pixels = transform(pixels, *seen) if transformed else pixels
                return ops.sum(function(pixels, indices)), None

            pixels = _pixels(values, parametrization)
            _, direction = gradients.value_and_gradient(objective, pixels)
            direction = _normalized(direction)

            def gain(values):
                pixels = _pixels(values, parametrization)
                penalty = _penalty(pixels, regularization) if regularization else 0.0
                return ops.sum(pixels * direction) - penalty, None

            _, direction = gradients.value_and_gradient(gain, values)
            velocity = MOMENTUM * velocity + (1 - MOMENTUM) * _normalized(direction)
            values = values + learning_rate * velocity
            if regularization and regularization.blur:
                values = _blurred(values, draws["blur"][number], parametrization)
            if parametrization == "pixel":
                values = ops.clip(values, 0, 255)
            return values, velocity

        return ops.fori_loop(first, last, step, state)

    return program


def _pixels(values, parametrization):
    """What is optimized as an image float32 [B, H, W, 3]."""
    return spectrum_image(values) if parametrization == "fourier" else values


def _pictures(values, parametrization):
    pixels = ops.convert_to_numpy(_pixels(values, parametrization))
    return np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)


def _blurred(values, deviation, parametrization):
    if parametrization == "pixel":
        return blur(values, deviation)
    return values * _gaussian(deviation, *values.shape[2:4])[..., None]


def _drawn(seeds, size, steps, regularization, parametrization):
    """What is optimized, at the start; and what is drawn for all steps, a dict of [S, B, ...]."""
    shape = (*size, 3) if parametrization == "pixel" else (3, *size, 2)
    center = GRAY if parametrization == "pixel" else 0.0
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


def _gaussian(deviation, height, width):
    """What a Gaussian of `deviation` [B] pixels leaves of each frequency: [B, 1, H, W]."""
    exponent = -2 * np.pi**2 * np.square(_frequencies(height, width)).astype(np.float32)
    return ops.exp(ops.square(deviation)[:, None, None, None] * exponent)


def _frequencies(height, width):
    """Cycles a pixel, float64 [H, W], in the order of the discrete Fourier transform."""
    return np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))


def _weighted_sum(model, objectives, size):
    """The sum of the objectives as a function of pixels [B, H, W, 3] and indices [B, objectives].

    Returns it, and the indices int32 of all images.
    """
    if not objectives or not all(np.isfinite(weight) for weight, _ in objectives):
        raise ValueError(
            f"Expected at least one objective and finite weights, received the weights "
            f"{[weight for weight, _ in objectives]}."
        )
    columns = [np.atleast_1d(np.asarray(objective.index)) for _, objective in objectives]
    lengths = sorted({len(column) for column in columns} - {1})
    if len(lengths) > 1 or any(column.ndim > 1 or not column.size for column in columns):
        raise ValueError(
            f"Expected one index, or one for each image, received "
            f"{' and '.join(map(str, (column.shape for column in columns)))} of them."
        )
    outputs = [_output(model, objective) for _, objective in objectives]
    features_of = gradients.on_pixels(model, outputs)
    for spec, column, (_, objective) in zip(
        features_of.compute_output_spec(keras.KerasTensor((1, *size, 3))), columns, objectives
    ):
        count = objective.scores(ops.zeros(spec.shape)).shape[-1]
        if column.dtype.kind not in "iu" or column.min() < 0 or column.max() >= count:
            owner = "model" if objective.layer is None else f'layer "{objective.layer}"'
            plural = "classes" if objective.kind == "class" else f"{objective.kind}s"
            raise ValueError(
                f"The {owner} has the {plural} 0 to {count - 1}, received "
                f"{', '.join(map(str, column))}."
            )
    indices = np.stack(np.broadcast_arrays(*columns), axis=1).astype(np.int32)

    def function(pixels, indices):
        total = 0.0
        for i, (features, (weight, objective)) in enumerate(zip(features_of(pixels), objectives)):
            scores = ops.cast(objective.scores(features), "float32")  # [B, K]
            score = ops.take_along_axis(scores, indices[:, i : i + 1], axis=1)[:, 0]  # [B]
            total += weight * score
        return total

    return function, indices


def _output(model, objective):
    """The symbolic output that an objective scores."""
    if objective.layer is not None:
        return gradients.layer_output(model, objective.layer)
    if isinstance(model.output, dict) and "logits" in model.output:
        return model.output["logits"]
    return model.output


def _rows(features):
    """Features [B, ..., K] as [B, positions, K]."""
    return ops.reshape(features, (ops.shape(features)[0], -1, features.shape[-1]))


def _expect_rank(features, rank, owner, expected):
    if len(features.shape) != rank:
        raise ValueError(
            f"{owner} gives {tuple(features.shape)}, expected {expected}. Choose another objective."
        )


def _check_numbers(steps, learning_rate, parametrization, seed, batch_size, frames):
    least = {"steps": (steps, 1), "batch_size": (batch_size, 1), "frames": (frames, 0)}
    least["seed"] = (seed, 0)
    for name, (value, limit) in least.items():
        if not isinstance(value, int) or value < limit:
            raise ValueError(f"{name}: expected an int of at least {limit}, received {value!r}.")
    if not 0 < learning_rate < np.inf:
        raise ValueError(f"learning_rate: expected a number above 0, received {learning_rate!r}.")
    if parametrization not in PARAMETRIZATIONS:
        raise ValueError(
            f"parametrization: expected one of {PARAMETRIZATIONS}, received {parametrization!r}."
        )


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
