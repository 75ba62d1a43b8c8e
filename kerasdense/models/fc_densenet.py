"""FC-DenseNet, "the one hundred layers tiramisu": a DenseNet that goes down and up again.

Reference: Jegou, Drozdzal, Vazquez, Romero & Bengio, "The one hundred layers tiramisu: Fully
convolutional DenseNets for semantic segmentation", CVPR Workshops 2017. Legend: B batch, H W
size, C classes.
"""

import keras

from kerasdense.models.layers import BatchNormalization, CropLike, ImageNetPreprocessing, score
from kerasdense.models.weights import load_weights

LAYERS = (4, 5, 7, 10, 12, 15)  # FC-DenseNet103: Jegou et al. 2017, table 2
GROWTH_RATE = 16  # new channels of each layer; this and the next two: the same section, 4.1
FIRST_CHANNELS = 48
DROPOUT = 0.2
MAXIMUM_BLOCKS = 7  # 6 poolings: a side of 64 pixels then has one cell left

# Of batch normalization: the defaults of Lasagne, which SimJeg/FC-DenseNet is written with.
MOMENTUM, EPSILON = 0.9, 1e-4


def fc_densenet(
    num_classes,
    layers=LAYERS,
    growth_rate=GROWTH_RATE,
    first_channels=FIRST_CHANNELS,
    dropout=DROPOUT,
    weights=None,
    name="fc_densenet",
):
    """FC-DenseNet: images uint8 [B, H, W, 3] to float32 logits [B, H, W, C]; H, W >= 64.

    Dense blocks with 2x2 max pooling between go down, one lies at the bottom, and as many go up
    again: there a transposed convolution doubles the size of what the block below has added, which
    is joined with the output of the block of that size on the way down. The last block's output
    is scored at full size.

    Args:
        num_classes: C, from 2 to 255.
        layers: of the dense blocks on the way down and of the one at the bottom, 2 to 7 positive
            ints; those on the way up mirror them. (5, 5, 5, 5, 5, 5) is FC-DenseNet67; so is
            (4, 4, 4, 4, 4, 4) with `growth_rate=12` FC-DenseNet56.
        growth_rate: channels that each layer adds.
        first_channels: of the first convolution.
        dropout: share of the values that each layer's output loses in training, below 1.
        weights: None or a file of such a network, see `weights.load_weights`; there are no
            ImageNet weights.

    Raises:
        ValueError, FileNotFoundError: an argument is not as described.

    Keras-FCN's DenseNet_FCN is this network built by keras-contrib, first with 5 layers in each
    block, later with those of FC-DenseNet103. Its poolings take the mean, and it enlarges by
    repeating pixels. Here both are the paper's. The authors' code evaluates with the statistics of
    each batch; here they are moving averages, as everywhere in this package.
    """
    _check(layers, growth_rate, first_channels, dropout)

    def layer(x, filters, size, name):  # normalized, activated, convolved, dropped out
        x = BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, name=f"{name}_bn")(x)
        x = keras.layers.ReLU(name=f"{name}_relu")(x)
        x = keras.layers.Conv2D(
            filters, size, padding="same", kernel_initializer="he_uniform", name=f"{name}_conv"
        )(x)
        return keras.layers.Dropout(dropout, name=f"{name}_dropout")(x)

    def dense_block(x, size, name):
        """The input with what `size` layers add, and that alone."""
        added = []
        for index in range(1, size + 1):
            added.append(layer(x, growth_rate, 3, f"{name}_layer{index}"))
            x = keras.layers.Concatenate(name=f"{name}_layer{index}_concat")([x, added[-1]])
        if len(added) > 1:
            added = [keras.layers.Concatenate(name=f"{name}_added")(added)]
        return x, added[0]  # [B, h, w, any + size growth_rate], [B, h, w, size growth_rate]

    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    x = ImageNetPreprocessing("torch", name="preprocess")(images)
    x = keras.layers.Conv2D(
        first_channels, 3, padding="same", kernel_initializer="he_uniform", name="first_conv"
    )(x)  # [B, H, W, 48]
    *down, bottom = layers
    skips = []
    for number, size in enumerate(down, start=1):
        x, _ = dense_block(x, size, f"down{number}")
        skips.append((number, size, x))  # [B, H/2^(number-1), W/2^(number-1), any]
        x = layer(x, x.shape[-1], 1, f"down{number}_transition")
        x = keras.layers.MaxPooling2D(2, name=f"down{number}_pool")(x)  # rounds down
    _, added = dense_block(x, bottom, "bottleneck")
    for number, size, skip in reversed(skips):
        x = keras.layers.Conv2DTranspose(
            added.shape[-1], 3, strides=2, kernel_initializer="he_uniform", name=f"up{number}"
        )(added)  # [B, 2h+1, 2w+1, any]: h, w may have been rounded down
        x = CropLike(name=f"up{number}_crop")([x, skip])
        x = keras.layers.Concatenate(name=f"up{number}_concat")([x, skip])
        x, added = dense_block(x, size, f"up{number}")
    logits = score(num_classes, name="score", kernel_initializer="he_uniform")(x)  # [B, H, W, C]
    model = keras.Model(images, logits, name=name)
    load_weights(model, "fc_densenet", weights)
    return model


def fc_densenet103(num_classes=11, weights=None, name="fc_densenet103"):
    """`fc_densenet` of 103 convolutions: 9,425,163 parameters at 11 classes."""
    return fc_densenet(num_classes, weights=weights, name=name)


def _check(layers, growth_rate, first_channels, dropout):
    if not 2 <= len(layers) <= MAXIMUM_BLOCKS or not all(map(_is_positive, layers)):
        raise ValueError(
            f"layers: expected 2 to {MAXIMUM_BLOCKS} positive ints, the last of the block at the "
            f"bottom, received {layers!r}"
        )
    for name, value in (("growth_rate", growth_rate), ("first_channels", first_channels)):
        if not _is_positive(value):
            raise ValueError(f"{name}: expected a positive int, received {value!r}")
    if not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
        raise ValueError(f"dropout: expected a number from 0 on and below 1, received {dropout!r}")


def _is_positive(value):
    return isinstance(value, int) and value > 0
