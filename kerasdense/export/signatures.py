"""What an exported model answers: the functions of an artefact, from pictures to results.

B batch, H W size.
"""

import dataclasses
import math

import keras
import numpy as np
import tensorflow as tf

from kerasdense.export.folding import fold_batch_normalization
from kerasdense.models.outputs import main_output
from kerasdense.tasks.base import Intake

PRECISIONS = ("float32", "float16", "bfloat16", "int8")
# The largest number of a precision that has a smaller range than float32.
LARGEST = {"float16": float(np.finfo(np.float16).max)}


@dataclasses.dataclass(frozen=True)
class Form:
    """In which form a model is exported.

    `format`: a key of `formats.FORMATS`; `precision`: one of PRECISIONS (outputs are float32 in
    each of them); `batch_size`, `size`: B and (H, W) of the input, if they are to be fixed; `xla`:
    whether XLA compiles the network of a SavedModel, once for each shape of its input.

    Raises: ValueError for what is none of these.
    """

    format: str = "saved_model"
    precision: str = "float32"
    batch_size: int | None = None
    size: tuple[int, int] | None = None
    xla: bool = False

    def __post_init__(self):
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"precision: expected one of {PRECISIONS}, received {self.precision!r}"
            )
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, received {self.batch_size}.")
        if self.xla and self.format != "saved_model":
            raise ValueError(f"XLA compiles a saved_model alone, received format {self.format!r}.")

    @property
    def images(self):
        """The tf.TensorSpec of the input, uint8 [B, H, W, 3]."""
        sides = self.size or (None, None)
        return tf.TensorSpec([self.batch_size, *sides, 3], tf.uint8, "images")


def serve(model, task, form=Form(), portable=False, folded=True):
    """The signatures of `model` as a tf.Module, with the network's variables: what is exported.

    Args:
        model: a keras.Model of the package. Its auxiliary outputs are dropped.
        task: `tasks.base.Task`, whose `signatures` say what is answered.
        form: of its precision, batch size and size.
        portable: use only operations that the converters for other runtimes know. The checks of
            the input, which are none of them, are left out.
        folded: whether batch normalization is merged into the convolutions.

    The functions raise tf.errors.InvalidArgumentError for no images, sides below `smallest_side`,
    more than the task's `maximum_pixels`, and files that cannot be decoded.
    Raises: ValueError under another backend than TensorFlow, and for weights beyond float16.
    """
    network = in_precision(model, "float32")
    if folded:
        network = fold_batch_normalization(network)
    if form.precision != "float32":
        network = in_precision(network, form.precision)
    check = tf.identity if portable else _checker(task)
    served = tf.Module()
    # Only the variables: tracking the Keras model would save its training functions too.
    served.parameters = [variable.value for variable in network.variables]
    files = tf.TensorSpec([form.batch_size], tf.string, "image_bytes")
    functions = task.signatures(network, Intake(form.images, check, _decode, form.xla), portable)
    for name, function in functions.items():
        if name == "encoded":
            function, spec = _of_some(function), files
        else:
            spec = form.images
        setattr(served, name, tf.function(function, input_signature=[spec], autograph=False))
    served.names = tuple(functions)
    return served


def in_precision(model, precision):
    """`model` rebuilt with layers of one precision and the same weights, its output the logits.

    Layers that always compute in float32, such as ImageNetPreprocessing, do so here, too. The
    auxiliary outputs of a model that returns a dict are dropped.
    Raises: ValueError under another backend than TensorFlow, and for weights beyond float16.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"An export needs Keras' TensorFlow backend, received {keras.backend.backend()!r}. Set "
            f"KERAS_BACKEND=tensorflow and load the same .keras file."
        )
    weights = model.get_weights()
    largest = max((float(np.max(np.abs(w))) for w in weights if w.size), default=0.0)
    if largest > LARGEST.get(precision, math.inf):
        raise ValueError(
            f"The weights reach {largest:.3g}, more than {precision} can hold. Export in float32."
        )
    rebuilt = model.__class__.from_config(_with_policies(model.get_config(), precision))
    rebuilt.set_weights(weights)
    if isinstance(rebuilt.output, dict):
        rebuilt = keras.Model(rebuilt.input, main_output(rebuilt.output), name=model.name)
    return rebuilt


def smallest_side(task):
    """Pixels: the smallest side of images that an export takes."""
    return 1 if task.pads_images else task.minimum_side


def _checker(task):
    """A function that passes on `images` uint8 [B, H, W, 3] a server can take."""
    smallest = smallest_side(task)
    # What is computed counts: a million pictures of a pixel each are padded, too.
    computed = task.minimum_side if task.pads_images else 1

    def check(images):
        batch, height, width, _ = tf.unstack(tf.shape(images, out_type=tf.int64))
        checks = [
            tf.debugging.assert_positive(batch, "No images: expected a batch of one at least."),
            tf.debugging.assert_greater_equal(
                tf.minimum(height, width),
                tf.constant(smallest, tf.int64),
                f"Images too small: expected sides of at least {smallest} pixels.",
            ),
            tf.debugging.assert_less_equal(
                batch * tf.maximum(height, computed) * tf.maximum(width, computed),
                tf.constant(task.maximum_pixels, tf.int64),
                f"Too large: expected at most {task.maximum_pixels} pixels in a batch. Send "
                f"fewer or smaller images.",
            ),
        ]
        with tf.control_dependencies([check for check in checks if check is not None]):
            return tf.identity(images)

    return check


def _of_some(function):
    """`function` of image files, of which there must be some."""

    def encoded(image_bytes):
        message = "No files: expected a batch of one at least."
        check = tf.debugging.assert_positive(tf.size(image_bytes), message)
        with tf.control_dependencies([check]):
            return function(tf.identity(image_bytes))

    return encoded


def _decode(data):
    """A file (string) as a picture uint8 [H, W, 3]: gray becomes RGB, alpha is dropped."""

    def decode(channels):
        return tf.io.decode_image(data, channels=channels, expand_animations=False)

    # TensorFlow refuses three channels of a WebP with alpha, and has only them of a JPEG in CMYK.
    is_webp = tf.strings.regex_full_match(tf.strings.substr(data, 0, 12), r"RIFF\C{4}WEBP")
    image = tf.cond(is_webp, lambda: decode(0)[..., :3], lambda: decode(3))
    return tf.ensure_shape(image, [None, None, 3])


def _with_policies(config, precision):
    """A model's configuration with every dtype policy in it replaced by `precision`."""
    if isinstance(config, dict):
        if str(config.get("class_name", "")).endswith("DTypePolicy"):
            return {**config, "class_name": "DTypePolicy", "config": {"name": precision}}
        return {key: _with_policies(value, precision) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(_with_policies(value, precision) for value in config)
    return config
