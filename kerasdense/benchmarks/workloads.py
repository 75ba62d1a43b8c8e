"""What is measured: models by their names, and work that a process does over and over.

B batch, H W size, C classes, A anchors. Importing this file imports no Keras: a process chooses its
backend first.
"""

import dataclasses
import json
import os

BACKENDS = ("tensorflow", "jax")
MOMENTUM, LEARNING_RATE = 0.9, 1e-4  # of SGD, by which everybody trains here
FOUND = 1000  # anchors' scores of classes that are looked at in "detect", as in a full picture
SMOOTH_SIZE = (192, 256)  # of the pictures of `random_model`, where a model has no size of its own


def backend():
    """The backend that Keras takes here."""
    return os.environ.get("KERAS_BACKEND", BACKENDS[0])


@dataclasses.dataclass(frozen=True)
class NamedModel:
    """A model by the name of its function (or .keras file), its options, and both as one `text`."""

    text: str
    name: str
    options: dict

    def __str__(self):
        return self.text

    def load(self, classes):
        """The `keras.Model`, with random weights. Raises: as `models.loading.load_model`."""
        from kerasdense.models.loading import load_model

        return load_model(self.name, num_classes=classes, weights=None, **self.options)


@dataclasses.dataclass(frozen=True)
class Workload:
    """What a process does over and over on the same random images.

    Attributes:
        work: "train", a step of SGD with momentum from uint8 images to new weights, as `Model.fit`
            runs it; "infer", from uint8 images to logits, batch normalization merged as in an
            export; or "detect", of an SSD, from uint8 images to boxes of which a network finds
            FOUND. Images and outputs stay on the device.
        model: of `kerasdense.models`, or of the other package.
        options: of the model's function.
        size: height and width, pixels. An SSD has its own.
        batch_size, classes: B and C.
        precision: a dtype policy of Keras.
        xla: whether TensorFlow compiles by XLA; JAX always does.
        backend: "tensorflow" or "jax"; "torch" for torchvision.
        package: "kerasdense", "torchvision" or "keras_hub".
        runtime: what computes it. Of kerasdense "keras", the graph of the Keras model, or (not to
            train) the format of an export, which `Predictor` opens: "saved_model", "openvino" or
            "onnx". Of torchvision "eager" (in NCHW), "channels_last", or "compiled", which is
            channels_last by `torch.compile`, weights frozen but to train. Of keras_hub "keras".
    """

    work: str
    model: str
    options: dict
    size: tuple
    batch_size: int = 1
    classes: int = 19
    precision: str = "float32"
    xla: bool = False
    backend: str = "tensorflow"
    package: str = "kerasdense"
    runtime: str = "keras"

    @property
    def computed_in(self):
        """What the precision computes in, as exports name it: "float32" or "bfloat16"."""
        return self.precision.removeprefix("mixed_")

    @classmethod
    def read(cls, line):
        """The workload that `dataclasses.asdict` and JSON made a line of, for another process."""
        values = json.loads(line)
        return cls(**values | {"size": tuple(values["size"])})


def build(workload):
    """A function of a number of steps, the model's facts, and the memory to watch."""
    import keras

    memory, device = keras_device()
    keras.config.set_dtype_policy(workload.precision)
    model, facts = model_and_facts(workload)
    if workload.work == "infer":
        from kerasdense.export.folding import fold_batch_normalization

        model = fold_batch_normalization(model)
    steps = keras_steps(model, workload, facts["size"])
    return steps, facts | {"device": device}, memory


def model_and_facts(workload):
    """Our model of a workload with random weights; its `parameters`, `macs` and `size`."""
    import keras

    from kerasdense.models.cost import total_cost

    keras.utils.set_random_seed(0)
    model = NamedModel(workload.model, workload.model, workload.options).load(workload.classes)
    model = logits_alone(model)
    size = image_size(model, workload.size)
    total = total_cost(model, size)
    return model, {name: total[name] for name in ("parameters", "macs")} | {"size": size}


def logits_alone(model):
    """The model without the auxiliary logits that only a loss of its own sees."""
    import keras

    if not isinstance(model.output, dict):
        return model
    return keras.Model(model.inputs[0], model.output["logits"], name=model.name)


def image_size(model, asked):
    """(H, W) of the model's images: its own, or those `asked` for."""
    return tuple(own or side for own, side in zip(model.input.shape[1:3], asked))


def keras_device():
    """The memory to watch, and the device's name."""
    import keras

    from kerasdense.benchmarks.memory import DeviceMemory, ResidentMemory
    from kerasdense.training.devices import has_gpu

    gpu = has_gpu()
    if keras.backend.backend() == "jax":
        import jax

        device = jax.devices()[0]
        memory = DeviceMemory(lambda: device.memory_stats()["peak_bytes_in_use"]) if gpu else None
        name = device.device_kind
    else:
        import tensorflow as tf

        memory, name = None, "CPU"
        if gpu:
            memory = DeviceMemory(
                lambda: tf.config.experimental.get_memory_info("GPU:0")["peak"],
                lambda: tf.config.experimental.reset_memory_stats("GPU:0"),
            )
            details = tf.config.experimental.get_device_details(
                tf.config.list_physical_devices("GPU")[0]
            )
            name = details.get("device_name", "GPU")
    return memory or ResidentMemory(), name


def keras_steps(model, workload, size, dtype="uint8"):
    """A function that runs a number of steps of a Keras model, and returns when they are done."""
    import keras

    images, targets = random_batch(model, workload, size)
    if workload.work == "infer":
        from kerasdense.explain import gradients

        images = keras.ops.convert_to_tensor(images.astype(dtype))
        forward = gradients.compiled(
            lambda images: model(images, training=False), model, workload.xla
        )

        def infer(steps):
            for _ in range(steps):
                outputs = forward(images)
            _wait_for(outputs)

        return infer
    compile_for_training(model, workload.xla)
    batches = _endless(images.astype(dtype), targets)

    def train(steps):
        model.fit(batches, steps_per_epoch=steps, verbose=0, shuffle=False)

    return train


def compile_for_training(model, xla=False):
    """Compiles a model of any task with its loss and SGD, ready for its first step.

    `xla`: whether TensorFlow uses it; JAX always does.
    """
    import keras

    from kerasdense import tasks

    optimizer = keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM)
    optimizer.build(model.trainable_variables)  # else TensorFlow traces the first step twice
    loss = tasks.of_model(model).compile_arguments(model)["loss"]
    on_jax = keras.backend.backend() == "jax"
    model.compile(optimizer, loss, jit_compile=xla or on_jax)


def random_batch(model, workload, size):
    """uint8 images [B, H, W, 3], and targets of the shape that the model's loss compares with."""
    import numpy as np

    images, rng = random_images(workload, size), np.random.default_rng(1)
    shape = model.output.shape
    if len(shape) == 2:  # labels [B, C]
        return images, rng.integers(0, 2, (workload.batch_size, shape[1])).astype("float32")
    if len(shape) == 4:  # classes [B, H, W]
        return images, rng.integers(0, workload.classes, images.shape[:3], np.uint8)
    targets = np.zeros((workload.batch_size, shape[1], 5), "float32")  # [B, A, 1 + 4]
    targets[:, ::400, 0] = 1  # some twenty matched anchors an image
    return images, targets


def random_images(workload, size):
    """uint8 images [B, H, W, 3]."""
    import numpy as np

    return np.random.default_rng(0).integers(0, 256, (workload.batch_size, *size, 3), np.uint8)


def background_offset(logits):
    """What to add to an SSD's logits of the background so that it finds FOUND candidates.

    With random weights it would find nothing or take everything, and suppression takes its time by
    what is found. `logits` [A, C + 1] of an image, background first.
    """
    import numpy as np

    from kerasdense.boxes.suppression import LEAST_SCORE

    logits = np.asarray(logits, np.float64)
    logits = logits - logits.max(axis=1, keepdims=True)  # else exponentials overflow
    background, classes = logits[:, :1], np.exp(logits[:, 1:])  # [A, 1], [A, C]
    # A softmax of at least LEAST_SCORE leaves so much for the exponential of the background.
    left = classes / LEAST_SCORE - classes.sum(axis=1, keepdims=True)
    most = np.log(np.maximum(left, np.finfo(np.float64).tiny)) - background  # [A, C]
    return float(np.sort(most.ravel())[-min(FOUND, most.size)])


def random_model(named, classes):
    """A `NamedModel` with random weights whose activations are as large as a fitted one's.

    Random moments of batch normalization would blow them up or let them vanish, so the moments are
    those of two pictures. No kernel stays zero.
    """
    import keras
    import numpy as np

    from kerasdense.models.layers import leaf_layers

    keras.utils.set_random_seed(0)
    model = logits_alone(named.load(classes))
    rng = np.random.default_rng(0)
    for layer in leaf_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # the next batch's moments replace the old ones
            layer.gamma.assign(rng.uniform(0.5, 1.5, layer.gamma.shape))
            # Positive, so that most units are on: a deep network of random ReLUs around zero
            # multiplies the rounding of float16 by hundreds, which fitted ones do not.
            layer.beta.assign(rng.uniform(0.5, 1.5, layer.beta.shape))
    for variable in model.trainable_variables:
        if variable.path.endswith("kernel") and not keras.ops.any(variable):
            variable.assign(rng.normal(0, 0.1, variable.shape))
    model(smooth_pictures(image_size(model, SMOOTH_SIZE)), training=True)
    return model


def smooth_pictures(size):
    """Two pictures uint8 [2, H, W, 3] that look like something out of focus."""
    import numpy as np

    from kerasdense.drawing import pictures

    noise = np.random.default_rng(0).integers(0, 256, (2, 12, 16, 3), np.uint8)
    return np.stack([pictures.resized(picture, size) for picture in noise])


def _endless(images, targets):
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        options = tf.data.Options()
        options.autotune.enabled = False  # see data.pipeline: its end would be waited for
        return tf.data.Dataset.from_tensors((images, targets)).repeat().with_options(options)

    def batches():
        while True:
            yield images, targets

    return batches()


def _wait_for(outputs):
    import keras

    if keras.backend.backend() == "jax":
        import jax

        jax.block_until_ready(outputs)
    else:
        import tensorflow as tf

        tf.test.experimental.sync_devices()
