"""Keras layers the models are built from; backend-agnostic."""

import keras

MINIMUM_SIZE = 64  # pixels: two cells of the coarsest (stride 32) feature map
MAXIMUM_CLASSES = 255  # masks are uint8, in which 255 means ignore
PREPROCESSING_MODES = ("caffe", "torch")


@keras.saving.register_keras_serializable(package="kerasdense")
class ImageNetPreprocessing(keras.layers.Layer):
    """uint8 RGB images [B, H, W, 3] to the float32 input of an ImageNet network [B, H, W, 3].

    Args:
        mode: "caffe" (BGR minus the mean colour: VGG, ResNet) or "torch" (RGB scaled to [0, 1],
            then by mean and deviation of each channel: DenseNet).

    The layer computes in float32 under every dtype policy: float16 cannot hold the input's mean
    subtraction exactly.

    Raises:
        ValueError: for another mode, and when called with images smaller than 64 pixels a side.
    """

    def __init__(self, mode, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        if mode not in PREPROCESSING_MODES:
            raise ValueError(f"mode: expected one of {PREPROCESSING_MODES}, received {mode!r}")
        self.mode = mode

    def call(self, images):
        for size in images.shape[1:3]:
            if size is not None and size < MINIMUM_SIZE:
                raise ValueError(
                    f"images: expected a height and a width of at least {MINIMUM_SIZE} pixels, "
                    f"received shape {tuple(images.shape)}; pad or enlarge the images"
                )
        return keras.applications.imagenet_utils.preprocess_input(
            keras.ops.cast(images, "float32"), data_format="channels_last", mode=self.mode
        )  # [B, H, W, 3]

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "mode": self.mode}


@keras.saving.register_keras_serializable(package="kerasdense")
class ResizeLike(keras.layers.Layer):
    """Resizes a map [B, h, w, C] to the height and width of a reference [B, H, W, any].

    Bilinear with half-pixel centers, called as `ResizeLike()([features, reference])`. Only the
    size of the reference is used, so H and W may be unknown until the model runs.

    The layer computes in float32 and returns float32 under every dtype policy: half-precision
    logits would cost accuracy, and XLA cannot compile the gradient of a half-precision resize.
    """

    def __init__(self, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)

    def call(self, inputs):
        features, reference = inputs
        size = keras.ops.shape(reference)[1:3]
        if all(isinstance(side, int) for side in size):
            return keras.ops.image.resize(
                features, size, interpolation="bilinear", data_format="channels_last"
            )  # [B, H, W, C]
        # A size known at run time only exists in TensorFlow's graphs, and keras.ops refuses it.
        import tensorflow as tf

        return tf.image.resize(features, size)  # [B, H, W, C]

    def compute_output_shape(self, input_shape):
        features, reference = input_shape
        return (features[0], *reference[1:3], features[3])


def score(num_classes, name, use_bias=True, kernel_initializer="he_normal"):
    """The 1x1 convolution [B, H, W, any] to class scores [B, H, W, num_classes], in float32.

    Raises:
        ValueError: `num_classes` is not an int from 2 to 255.
    """
    if not isinstance(num_classes, int) or not 2 <= num_classes <= MAXIMUM_CLASSES:
        raise ValueError(
            f"num_classes: expected an int from 2 to {MAXIMUM_CLASSES}, received {num_classes!r}"
        )
    return keras.layers.Conv2D(
        num_classes,
        1,
        use_bias=use_bias,
        kernel_initializer=kernel_initializer,
        dtype="float32",
        name=name,
    )


@keras.saving.register_keras_serializable(package="kerasdense")
class Recompute(keras.layers.Wrapper):
    """Calls a model of one input and one output without keeping its inner activations.

    While training, the backward pass computes them again (gradient checkpointing): less memory
    for one more forward pass. Outputs, gradients and batch statistics are those of the model.
    """

    def call(self, x, training=False):
        if not training:
            return self.layer(x, training=False)
        variables = self.layer.variables
        state = self.layer.non_trainable_variables

        # A function without side effects: its second run must not update the batch statistics
        # again, and the JAX backend can only recompute such a function.
        def run(x, *values):
            with keras.StatelessScope(state_mapping=list(zip(variables, values))) as scope:
                y = self.layer(x, training=True)
            return [y, *(scope.get_current_value(variable) for variable in state)]

        values = [keras.ops.convert_to_tensor(variable) for variable in variables]
        y, *new_state = keras.remat(run)(x, *values)
        for variable, value in zip(state, new_state):
            variable.assign(value)
        return y

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)
