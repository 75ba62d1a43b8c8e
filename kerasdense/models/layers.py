"""Keras layers the models are built from; backend-agnostic."""

import functools
import math
import warnings

import keras

MINIMUM_SIZE = 64  # pixels: two cells of a map of stride 32, one of LDN's coarsest
MAXIMUM_CLASSES = 255  # masks are uint8, in which 255 means ignore
PREPROCESSING_MODES = ("caffe", "torch", "ssd")
SSD_MEAN = (104.0, 117.0, 123.0)  # blue, green, red: the mean color of Liu et al.'s Caffe models
L2_NORMALIZATION_SCALE = 20.0  # initial: Liu et al., "SSD", ECCV 2016, sec. 3.1


@keras.saving.register_keras_serializable(package="kerasdense")
class ImageNetPreprocessing(keras.layers.Layer):
    """uint8 RGB images [B, H, W, 3] to the float32 input of an ImageNet network [B, H, W, 3].

    Args:
        mode: "caffe" (BGR minus the mean color: VGG, ResNet), "torch" (RGB scaled to [0, 1],
            then by mean and deviation of each channel: DenseNet) or "ssd" (BGR minus the mean
            color rounded to whole numbers, as SSD was trained).

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
        images = keras.ops.cast(images, "float32")
        if self.mode == "ssd":
            return images[..., ::-1] - keras.ops.convert_to_tensor(SSD_MEAN)  # [B, H, W, 3]
        return keras.applications.imagenet_utils.preprocess_input(
            images, data_format="channels_last", mode=self.mode
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
        if keras.backend.backend() == "tensorflow" and _is_compiled_by_xla():
            return _resized_by_matrices(features, size)
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


def _is_compiled_by_xla():
    """Whether TensorFlow is tracing a function that XLA is to compile."""
    import tensorflow as tf

    try:  # it has no public name
        from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext
    except ImportError:
        warnings.warn(
            "This version of TensorFlow does not tell what XLA compiles. If it does (--xla on, or "
            "a GPU), maps may be resized wrongly in some rows: take --xla off.",
            stacklevel=2,
        )
        return False
    return GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def _resized_by_matrices(features, size):
    """`tf.image.resize`, bilinear, float32, of a map [B, h, w, C] to `size` (H, W), for XLA.

    XLA takes some rows and columns of a resize for their neighbors, such as the middle one of 5
    that become 11 (TensorFlow 2.21).
    """
    import tensorflow as tf

    def weights(before, after):
        """What each of `after` cells takes of each of `before`: float32 [after, before]."""
        before, after = tf.cast(before, tf.float32), tf.cast(after, tf.float32)
        centers = (tf.range(after)[:, None] + 0.5) * (before / after) - 0.5
        distances = tf.clip_by_value(centers, 0.0, before - 1.0) - tf.range(before)
        return tf.maximum(1.0 - tf.abs(distances), 0.0)

    features = tf.cast(features, tf.float32)
    height, width = tf.unstack(tf.shape(features)[1:3])
    features = tf.einsum("ih,bhwc->biwc", weights(height, size[0]), features)
    return tf.einsum("jw,biwc->bijc", weights(width, size[1]), features)  # [B, H, W, C]


@keras.saving.register_keras_serializable(package="kerasdense")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' batch normalization, whose training step is one operation on TensorFlow.

    Takes the arguments of Keras' layer; values, gradients and moving statistics are the same up to
    rounding. Keras computes the moments and the normalization of a training step by a dozen
    operations, each of which reads the whole map; the fused one reads it twice, and the graph of a
    DenseNet-121 shrinks by a third, which is traced and optimized sooner. Maps in half precision
    go in as they are: the moments are float32 inside.

    Only maps [B, H, W, C], normalized over C, are fused. All others, inference and other backends
    are Keras' own.
    """

    def call(self, inputs, training=None, mask=None):
        fused = (
            keras.backend.backend() == "tensorflow"
            and training
            and self.trainable
            and self.input_spec.ndim == 4
            and self.axis in (-1, 3)
            and self.scale
            and self.center
            and mask is None
            and not (self.renorm or self.synchronized)
        )
        if not fused:
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        # The raw operation: its wrappers raise epsilon to at least 1.001e-5.
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=keras.ops.convert_to_tensor(self.gamma),
            offset=keras.ops.convert_to_tensor(self.beta),
            mean=tf.zeros([0]),
            variance=tf.zeros([0]),
            epsilon=self.epsilon,
            is_training=True,
        )
        count = tf.cast(tf.size(inputs) // inputs.shape[-1], variance.dtype)
        variance *= (count - 1) / count  # the operation's is that of a sample, Keras' is not
        for moving, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + new * (1.0 - self.momentum))
        return outputs


@keras.saving.register_keras_serializable(package="kerasdense")
class DilatedConv2D(keras.layers.Conv2D):
    """Keras' Conv2D for dilation rates above 1: one operation on TensorFlow, not three.

    Takes the arguments of Keras' layer, and gives the same values. TensorFlow's `convolution`,
    which Keras calls, rearranges the map into `dilation_rate`^2 small ones before the convolution
    and back after it; its `conv2d` dilates the kernel in place. Where that cannot be
    differentiated (on CPUs, in builds of TensorFlow without oneDNN), and on other backends, the
    layer is Keras' own.
    """

    def convolution_op(self, inputs, kernel):
        if (
            keras.backend.backend() != "tensorflow"
            or self.data_format != "channels_last"
            or self.groups != 1
            or self.padding not in ("same", "valid")
            or not _differentiates_dilation(self.compute_dtype)
        ):
            return super().convolution_op(inputs, kernel)
        import tensorflow as tf

        return tf.nn.conv2d(
            inputs, kernel, self.strides, self.padding.upper(), dilations=self.dilation_rate
        )


@functools.cache
def _differentiates_dilation(dtype):
    """Whether TensorFlow has the gradients of its dilated conv2d here, in this precision."""
    import tensorflow as tf

    # At once, also where a graph is being traced; no tape records in this scope.
    with tf.init_scope():
        maps, kernel = tf.zeros((1, 8, 8, 8), dtype), tf.zeros((3, 3, 8, 8), dtype)
        options = {
            "out_backprop": maps,
            "strides": [1, 1, 1, 1],
            "padding": "SAME",
            "dilations": [1, 2, 2, 1],
        }
        try:
            tf.raw_ops.Conv2DBackpropInput(input_sizes=maps.shape, filter=kernel, **options)
            tf.raw_ops.Conv2DBackpropFilter(input=maps, filter_sizes=kernel.shape, **options)
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            return False
    return True


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


def minimum_side(model):
    """Pixels that the sides of a model's images have at least: of networks of this package 64."""
    preprocessed = any(isinstance(layer, ImageNetPreprocessing) for layer in model.layers)
    return MINIMUM_SIZE if preprocessed else 1


def leaf_layers(model):
    """Yields all layers of a model, instead of wrappers and nested models those inside them."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Wrapper):
            layer = layer.layer
        if isinstance(layer, keras.Model):
            yield from leaf_layers(layer)
        else:
            yield layer


@keras.saving.register_keras_serializable(package="kerasdense")
class L2Normalization(keras.layers.Layer):
    """Scales each position's vector of a map [B, H, W, C] to length 1, then each channel.

    The scales [C] are learned, 20 at first. An all-zero vector stays zero, with a finite
    gradient. The layer computes in float32 and returns float32 under every dtype policy: the
    square of a large feature has no place in float16.

    Reference: Liu et al., "ParseNet: Looking wider to see better", 2015, sec. 3.3; the scale:
    Liu et al., "SSD", ECCV 2016, sec. 3.1.
    """

    EPSILON = 1e-6  # added to the squared length

    def __init__(self, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)

    def build(self, input_shape):
        self.scale = self.add_weight(
            shape=(input_shape[-1],),
            initializer=keras.initializers.Constant(L2_NORMALIZATION_SCALE),
            name="scale",
        )

    def call(self, features):
        squares = keras.ops.sum(keras.ops.square(features), axis=-1, keepdims=True)  # [B, H, W, 1]
        return features * keras.ops.rsqrt(squares + self.EPSILON) * self.scale

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package="kerasdense")
class AnchorPredictions(keras.layers.Layer):
    """Joins the maps of SSD's heads to one row for each anchor: float32 [B, A, C + 1 + 4].

    Called on a list of two lists, of the class maps [B, h, w, k (C + 1)] and of the box maps
    [B, h, w, 4 k], a map for each level of k anchors a cell. A row holds the class logits,
    background first, then four offsets.

    Args:
        num_classes: C, without background.
        layout, scales, clip: which anchors the rows belong to, for `anchors.anchors_of`: the key
            of `anchors.LAYOUTS` and the arguments of `anchors.ssd300_anchors`. A saved model so
            knows its anchors.
    """

    def __init__(self, num_classes, layout, scales, clip=False, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.num_classes, self.layout, self.scales, self.clip = num_classes, layout, scales, clip

    def call(self, inputs):
        class_maps, box_maps = inputs
        classes = self._rows(class_maps, self.num_classes + 1)  # [B, A, C + 1]
        return keras.ops.concatenate([classes, self._rows(box_maps, 4)], axis=-1)

    def _rows(self, maps, width):
        rows = []
        for x in maps:
            count = math.prod(x.shape[1:]) // width
            rows.append(keras.ops.reshape(x, (-1, count, width)))
        return keras.ops.concatenate(rows, axis=1)

    def compute_output_shape(self, input_shape):
        _, box_shapes = input_shape
        anchors = sum(math.prod(shape[1:]) // 4 for shape in box_shapes)
        return (box_shapes[0][0], anchors, self.num_classes + 1 + 4)

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "layout": self.layout,
            "scales": self.scales,
            "clip": self.clip,
        }


@keras.saving.register_keras_serializable(package="kerasdense")
class GridAveragePooling2D(keras.layers.Layer):
    """Averages a map [B, H, W, C] over the cells of a grid: float32 [B, h, w, C].

    Args:
        cells: of the grid along the map's shorter side. The longer one has in proportion more,
            rounded, so that cells are about square.

    Cell i of n along a side of length L is the mean of the positions from floor(i L / n) on and
    before ceil((i + 1) L / n): all that its n-th part of the side touches. Where n does not divide
    L, neighbors share a position. So the grid may be finer than the map. H and W may be unknown
    until the model runs. The layer computes in float32 under every dtype policy.

    Raises:
        ValueError: `cells` is not a positive int.

    Reference: Zhao et al., "Pyramid scene parsing network", CVPR 2017, sec. 3.2; cells as of
    PyTorch's AdaptiveAvgPool2d; their number by the aspect ratio: Kreso et al., "Efficient
    ladder-style DenseNets", IEEE T-ITS 2020.
    """

    def __init__(self, cells, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        if not isinstance(cells, int) or cells < 1:
            raise ValueError(f"cells: expected a positive int, received {cells!r}")
        self.cells = cells

    def call(self, maps):
        height, width = keras.ops.shape(maps)[1:3]
        rows, columns = self._grid(height, width)
        # By products alone, which every runtime knows, also for sizes known at run time only.
        x = keras.ops.matmul(_means(columns, width), maps)  # [B, H, w, C]
        x = keras.ops.transpose(x, (0, 2, 1, 3))  # [B, w, H, C]
        x = keras.ops.matmul(_means(rows, height), x)  # [B, w, h, C]
        return keras.ops.transpose(x, (0, 2, 1, 3))  # [B, h, w, C]

    def _grid(self, *sides):
        """Cells along each side, in whole numbers: of tensors, too, and equal everywhere."""
        if all(isinstance(side, int) for side in sides):
            short = min(sides)
        else:
            short = keras.ops.minimum(*sides)
        return [(2 * self.cells * side + short) // (2 * short) for side in sides]

    def compute_output_shape(self, input_shape):
        batch, *size, channels = input_shape
        grid = (None, None) if None in size else self._grid(*size)
        return (batch, *grid, channels)

    def get_config(self):
        return {**super().get_config(), "cells": self.cells}


def _means(cells, length):
    """The matrix [n, L] that makes L positions the means of `GridAveragePooling2D`'s n cells."""
    cell = keras.ops.arange(cells, dtype="int32")[:, None]  # [n, 1]
    first, end = cell * length // cells, ((cell + 1) * length + cells - 1) // cells
    position = keras.ops.arange(length, dtype="int32")  # [L]
    inside = keras.ops.logical_and(position >= first, position < end)  # [n, L]
    return keras.ops.cast(inside, "float32") / keras.ops.cast(end - first, "float32")


@keras.saving.register_keras_serializable(package="kerasdense")
class LearnedUpsampling(ResizeLike):
    """Upsamples class scores [B, h, w, C] to a reference's size by a filter that is learned.

    Called as `LearnedUpsampling(factor)([scores, reference])`, with a reference [B, H, W, any].
    Where H, W are `factor` times h, w, it is a transposed convolution of stride `factor`, with a
    filter [2 factor, 2 factor] for each class: classes do not mix. Scores are continued by their
    border, which zeros would darken. The filters are those of bilinear interpolation plus
    `kernel` [2 factor, 2 factor, C], zeros at first: the layer begins as `ResizeLike`, to any size.
    If H, W are others, what `kernel` adds is made at `factor` times h, w, and resized from there.

    Args:
        factor: an even int; the ratio of the strides of both maps.

    Raises:
        ValueError: for another factor.

    Reference: Shelhamer, Long & Darrell, "Fully convolutional networks for semantic
    segmentation", TPAMI 2017, sec. 3.3. The authors' published networks have a filter for each
    pair of classes, bilinear where both are the same, else zero, and keep it so.
    """

    # The axes of the kernel that are classes. A layer with this takes scores, and gives scores.
    class_axes = (-1,)

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(factor, int) or factor < 2 or factor % 2:
            raise ValueError(f"factor: expected an even int of at least 2, received {factor!r}")
        self.factor = factor

    def build(self, input_shape):
        scores, _ = input_shape
        self.kernel = self.add_weight(
            shape=(2 * self.factor, 2 * self.factor, scores[-1]),
            initializer="zeros",
            name="kernel",
        )

    def call(self, inputs):
        scores, reference = inputs
        learned = super().call([self._convolved(scores), reference])
        return super().call(inputs) + learned  # [B, H, W, C]

    def _convolved(self, x):
        """The transposed convolution of scores [B, h, w, C] with `kernel`: [B, s h, s w, C]."""
        s, classes = self.factor, x.shape[-1]
        x = keras.ops.concatenate([x[:, :1], x, x[:, -1:]], axis=1)
        x = keras.ops.concatenate([x[:, :, :1], x, x[:, :, -1:]], axis=2)  # [B, h+2, w+2, C]
        # The s x s pixels between the centers of 2 x 2 cells are sums of these four, each by its
        # part of the kernel, so a convolution with s x s outputs a class makes them: Keras has no
        # transposed convolution that keeps channels apart.
        kernel = keras.ops.reshape(self.kernel, (2, s, 2, s, classes))
        # A cell's second half lies on the first of two cells. OpenVINO flips one axis at a time.
        kernel = keras.ops.flip(keras.ops.flip(kernel, axis=0), axis=2)
        kernel = keras.ops.transpose(kernel, (0, 2, 4, 1, 3))
        kernel = keras.ops.reshape(kernel, (2, 2, classes, s * s))
        x = keras.ops.depthwise_conv(x, kernel, data_format="channels_last")
        batch, height, width, _ = keras.ops.shape(x)  # h + 1, w + 1
        x = keras.ops.reshape(x, (-1, width, classes, s, s))  # [B (h+1), w+1, C, s, s]
        x = keras.ops.transpose(x, (0, 3, 1, 4, 2))
        x = keras.ops.reshape(x, (batch, height * s, width * s, classes))
        return x[:, s // 2 : -(s // 2), s // 2 : -(s // 2)]

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@keras.saving.register_keras_serializable(package="kerasdense")
class BlendScores(keras.layers.Conv2D):
    """The 1x1 convolution that blends two maps of class scores: [B, H, W, 2 C] to [B, H, W, C].

    At first it gives their sum. It has no bias, for the scores have one, and is float32 under
    every dtype policy.

    Args:
        filters: C.
    """

    class_axes = (-2, -1)  # as of LearnedUpsampling

    def __init__(self, filters, **kwargs):
        kwargs |= {"kernel_size": 1, "use_bias": False, "dtype": "float32"}
        super().__init__(filters, **kwargs | {"kernel_initializer": _sum_kernel})

    def get_config(self):
        config = super().get_config()
        del config["kernel_initializer"]  # always the same
        return config


def _sum_kernel(shape, dtype=None):
    """The kernel [1, 1, 2 C, C] that adds the first and the second C channels."""
    identity = keras.ops.eye(shape[-1], dtype=dtype)
    return keras.ops.concatenate([identity, identity])[None, None]


@keras.saving.register_keras_serializable(package="kerasdense")
class CropLike(keras.layers.Layer):
    """Cuts a map [B, h, w, C] to the height and width of a reference [B, H, W, any], H <= h.

    Called as `CropLike()([features, reference])`; the last rows and columns go.
    """

    def call(self, inputs):
        features, reference = inputs
        height, width = keras.ops.shape(reference)[1:3]
        return features[:, :height, :width]  # [B, H, W, C]

    def compute_output_shape(self, input_shape):
        features, reference = input_shape
        return (features[0], *reference[1:3], features[3])
