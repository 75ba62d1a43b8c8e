"""What an exported model answers: the functions of an artefact, from pictures to results.

B batch, H W size, C classes, A anchors.
"""

import keras
import numpy as np
import tensorflow as tf

from kerasdense.models.ssd import anchors_of
from kerasdense.data.augment import resize_image
from kerasdense.export.folding import fold_batch_normalization
from kerasdense.models.layers import MINIMUM_SIZE
from kerasdense.boxes.suppression import decode_detections

SIGNATURES = {
    "segmentation": ("serving_default", "probabilities", "raw", "encoded"),
    "detection": ("serving_default", "raw", "encoded"),
}
PRECISIONS = ("float32", "float16")
MINIMUM_SIDE = {"segmentation": MINIMUM_SIZE, "detection": 1}
# B x H x W of one call: a server refuses what would take all its memory. Segmentation takes some
# hundred bytes a pixel (AtrousFCN_Resnet50_16s 240); detection shrinks its pictures first.
MAXIMUM_PIXELS = {"segmentation": 2**24, "detection": 2**27}


def task_of(model):
    """What a model is made for: "segmentation", "detection" (SSD) or "classification"."""
    if not isinstance(model.output, dict) and len(model.output.shape) == 2:
        return "classification"
    try:
        anchors_of(model)
    except ValueError:
        return "segmentation"
    return "detection"


def served_task(model):
    """As `task_of`, of a model that has signatures.

    Raises: ValueError for a classifier, which has none.
    """
    task = task_of(model)
    if task == "classification":
        raise ValueError(
            f'The model "{model.name}" is a classifier, which can be neither exported nor used by '
            f"predict.py: expected a segmentation model or an SSD. Load its run by "
            f"kerasdense.runs.load_run and call the model on uint8 images [B, H, W, 3]; the "
            f"sigmoid of its logits is the probability of each label."
        )
    return task


def serve(model, precision="float32", batch_size=None, size=None, portable=False):
    """The signatures of `model` as a tf.Module, with the network's variables: what is exported.

    Args:
        model: a keras.Model of the package. Its auxiliary outputs are dropped.
        precision: of the network: "float32", or "float16" (its outputs are float32 then, too).
        batch_size, size: B and (H, W), if they are to be fixed.
        portable: use only operations that the converters for other runtimes know. The checks of
            the input, which are none of them, are left out.

    Segmentation, of `images` uint8 [B, H, W, 3]:
        serving_default: `labels` uint8 [B, H, W], `confidence` float32 [B, H, W].
        probabilities: `probabilities` float32 [B, H, W, C].
        raw: `logits` float32 [B, H, W, C].
        encoded: `image_bytes` string [B], files of one size, to what serving_default returns.
    Detection:
        serving_default: `boxes` float32 [B, 200, 4], xyxy in pixels of the input; `scores` float32
            [B, 200]; `classes` int32 [B, 200], index into the class names; `num_detections` int32
            [B]. The best of an image first, zeros after the last.
        raw: `raw` float32 [B, A, C + 1 + 4], see `models.ssd300`.
        encoded: `image_bytes` string [B], files of any sizes.

    The functions raise tf.errors.InvalidArgumentError for no images, sides below MINIMUM_SIDE, more
    than MAXIMUM_PIXELS, and files that cannot be decoded.
    """
    task = served_task(model)
    network = for_inference(model, precision)
    functions = {"segmentation": _segmentation, "detection": _detection}[task]
    check = tf.identity if portable else _checker(task)
    pictures = tf.TensorSpec([batch_size, *(size or (None, None)), 3], tf.uint8, "images")
    served = tf.Module()
    # Only the variables: tracking the Keras model would save its training functions too.
    served.parameters = [variable.value for variable in network.variables]
    files = tf.TensorSpec([batch_size], tf.string, "image_bytes")
    for name, function in functions(network, pictures, check, portable).items():
        spec = files if name == "encoded" else pictures
        setattr(served, name, tf.function(function, input_signature=[spec]))
    return served


def for_inference(model, precision="float32"):
    """`model` rebuilt to predict: of one precision, batch normalization merged, logits alone.

    Raises: ValueError under another backend than TensorFlow, and for weights beyond float16.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {PRECISIONS}, received {precision!r}")
    folded = fold_batch_normalization(in_precision(model, "float32"))
    return folded if precision == "float32" else in_precision(folded, precision)


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
    if largest > float(np.finfo(precision).max):
        raise ValueError(
            f"The weights reach {largest:.3g}, more than {precision} can hold. Export in float32."
        )
    rebuilt = model.__class__.from_config(_with_policies(model.get_config(), precision))
    rebuilt.set_weights(weights)
    if isinstance(rebuilt.output, dict):
        rebuilt = keras.Model(rebuilt.input, rebuilt.output["logits"], name=model.name)
    return rebuilt


def _segmentation(network, pictures, check, portable):
    # A tf.function of its own, so that all signatures share one trace of the network.
    logits_of = tf.function(
        lambda images: tf.cast(network(images, training=False), tf.float32),
        input_signature=[pictures],
    )

    def raw(images):
        return {"logits": logits_of(check(images))}

    def probabilities(images):
        return {"probabilities": tf.nn.softmax(logits_of(check(images)))}

    def serving_default(images):
        logits = logits_of(check(images))  # [B, H, W, C]
        return {
            "labels": tf.cast(tf.argmax(logits, axis=-1, output_type=tf.int32), tf.uint8),
            "confidence": tf.reduce_max(tf.nn.softmax(logits), axis=-1),
        }

    def encoded(image_bytes):
        decoded = tf.TensorSpec([None, None, 3], tf.uint8)
        images = tf.map_fn(_decode, _some(image_bytes), fn_output_signature=decoded)
        return serving_default(tf.ensure_shape(images, pictures.shape))

    return {
        "serving_default": serving_default,
        "probabilities": probabilities,
        "raw": raw,
        "encoded": encoded,
    }


def _detection(network, pictures, check, portable):
    anchors, size = anchors_of(network), tuple(network.input.shape[1:3])
    raw_of = tf.function(
        lambda images: tf.cast(network(images, training=False), tf.float32),
        input_signature=[tf.TensorSpec([pictures.shape[0], *size, 3], tf.uint8)],
    )

    def detections(shrunk, sizes):
        """Of pictures [B, h, w, 3] that were `sizes` int32 [B, 2], height and width."""
        found = decode_detections(raw_of(shrunk), anchors, portable)
        scale = tf.cast(tf.gather(sizes, [1, 0, 1, 0], axis=1), tf.float32)  # [B, 4]
        return found | {"boxes": found["boxes"] * scale[:, None]}

    def raw(images):
        return {"raw": raw_of(resize_image(check(images), size))}

    def serving_default(images):
        images = check(images)
        shape = tf.shape(images)
        return detections(resize_image(images, size), tf.tile(shape[None, 1:3], [shape[0], 1]))

    def encoded(image_bytes):
        def shrink(data):
            image = check(_decode(data)[None])[0]
            return resize_image(image, size), tf.shape(image)[:2]

        types = (tf.TensorSpec([*size, 3], tf.uint8), tf.TensorSpec([2], tf.int32))
        return detections(*tf.map_fn(shrink, _some(image_bytes), fn_output_signature=types))

    return {"serving_default": serving_default, "raw": raw, "encoded": encoded}


def _checker(task):
    """A function that passes on `images` uint8 [B, H, W, 3] a server can take."""

    def check(images):
        batch, height, width, _ = tf.unstack(tf.shape(images, out_type=tf.int64))
        checks = [
            tf.debugging.assert_positive(batch, "No images: expected a batch of one at least."),
            tf.debugging.assert_greater_equal(
                tf.minimum(height, width),
                tf.constant(MINIMUM_SIDE[task], tf.int64),
                f"Images too small: expected sides of at least {MINIMUM_SIDE[task]} pixels.",
            ),
            tf.debugging.assert_less_equal(
                batch * height * width,
                tf.constant(MAXIMUM_PIXELS[task], tf.int64),
                f"Too large: expected at most {MAXIMUM_PIXELS[task]} pixels in a batch. Send "
                f"fewer or smaller images.",
            ),
        ]
        with tf.control_dependencies([check for check in checks if check is not None]):
            return tf.identity(images)

    return check


def _some(image_bytes):
    message = "No files: expected a batch of one at least."
    with tf.control_dependencies([tf.debugging.assert_positive(tf.size(image_bytes), message)]):
        return tf.identity(image_bytes)


def _decode(data):
    """A file (string) as a picture uint8 [H, W, 3]: grey becomes RGB, alpha is dropped."""

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
