"""ImageNet backbones: dilation and stride surgery, and taps by stride.

The only file that knows the layer names of keras.applications. Legend: B batch, H W size.
"""

import re

import keras

from kerasdense.models.layers import (
    BatchNormalization,
    DilatedConv2D,
    ImageNetPreprocessing,
    L2Normalization,
    Recompute,
)

OUTPUT_STRIDES = (32, 16, 8)
VGG16_OUTPUT_STRIDES = (32, 16)
DENSENET_OUTPUT_STRIDES = (64, *OUTPUT_STRIDES)

# Tap of each stage, by the stride that the stage has in the classification network.
VGG16_TAPS = {
    "stride4": "block2_pool",
    "stride8": "block3_pool",
    "stride16": "block4_pool",
    "stride32": "block5_pool",
}
VGG16_ATROUS_TAPS = VGG16_TAPS | {"stride32": "block5_conv3"}
VGG16_SSD_TAPS = {"stride8": "block4_norm", "stride16": "fc7"}
RESNET50_TAPS = {
    "stride4": "conv2_block3_out",
    "stride8": "conv3_block4_out",
    "stride16": "conv4_block6_out",
    "stride32": "conv5_block3_out",
}
# Of models.fc_densenet, the layers of each block on the way down; the last is the block's tap.
FC_DENSENET_TAPS = r"down(\d)_layer\d+_concat"

VGG16_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels, convolutions
GROWTH_RATE = 32  # new channels of each dense layer: Huang et al. 2017, table 1
DENSENET_BLOCKS = {  # Huang et al. 2017, table 1
    "densenet121": (6, 12, 24, 16),
    "densenet169": (6, 12, 32, 32),
    "densenet201": (6, 12, 48, 32),
}
SPLIT_POOL = "conv4_split_pool"  # of a DenseNet whose third dense block is split

# The layers of each family that carry backbone weights. In models.fcn.fcn_vgg16 fc6 and fc7
# belong to the head, but their weights come from the classifier's fc1 and fc2.
BACKBONE_LAYERS = {
    "vgg16": r"block[1-5]_conv\d|fc[67]",
    "resnet50": r"conv1_(conv|bn)|conv[2-5]_block\d+_\d_(conv|bn)",
    # "bn", after the last dense block, is the classifier's and models.fcn.fcn_densenet's alone.
    "densenet": r"conv1_(conv|bn)|conv[2-5]_block\d+_\d_(conv|bn)|pool[2-4]_(conv|bn)|bn",
    # models.fc_densenet, all but its scores: a network of its own, not made of the others.
    "fc_densenet": r"first_conv|(down|up)\d(_\w+)?|bottleneck_\w+",
}

# The deviation of an image's pixels from the mean color, in gray levels. VGG has no batch
# normalization, so without this factor in the first convolution random weights would carry it
# through to the scores, and training would diverge.
PIXEL_DEVIATION = 70.0

IMAGENET_NETWORKS = {
    "vgg16": keras.applications.VGG16,
    "resnet50": keras.applications.ResNet50,
    "densenet121": keras.applications.DenseNet121,
    "densenet169": keras.applications.DenseNet169,
    "densenet201": keras.applications.DenseNet201,
}


def vgg16(output_stride=32):
    """VGG-16 without its classifier: images uint8 [B, H, W, 3] to a dict of feature maps.

    Args:
        output_stride: 32, or 16: without the last pooling.

    Returns a `keras.Model` whose output is {"stride4": [B, H/4, W/4, 128], "stride8": [..., 256],
    "stride16": [..., 512], "stride32": [..., 512]}: the poolings' outputs, and with
    `output_stride=16` as the last that of the last convolution, which has the resolution of
    "stride16". Sizes round up.

    Raises:
        ValueError: for another output stride.

    Reference: Simonyan & Zisserman, "Very deep convolutional networks for large-scale image
    recognition", ICLR 2015; without the pooling as in aurora95/Keras-FCN, AtrousFCN_Vgg16_16s.
    """
    if output_stride not in VGG16_OUTPUT_STRIDES:
        raise ValueError(
            f"output_stride: VGG-16 has {VGG16_OUTPUT_STRIDES}, received {output_stride!r}; "
            "ResNet-50 and DenseNets have 8, too"
        )
    if output_stride == 16:
        return _tapped(_vgg16("caffe", last_pool=None), VGG16_ATROUS_TAPS, "vgg16")
    return _tapped(_vgg16("caffe"), VGG16_TAPS, "vgg16")


def vgg16_ssd(image_size, width=1.0):
    """VGG-16 as SSD uses it: images uint8 [B, S, S, 3] to a dict of two feature maps.

    Args:
        image_size: S, pixels.
        width: factor of all channels; weights of VGG-16 fit 1.0 only.

    The last pooling keeps the resolution, fc6 is a 3x3 convolution dilated by 6, fc7 a 1x1.
    Returns a `keras.Model` whose output is {"stride8": [B, S/8, S/8, 512], conv4_3 normalized;
    "stride16": [B, S/16, S/16, 1024], fc7}. Sizes round up.

    Reference: Liu et al., "SSD: Single shot multibox detector", ECCV 2016, sec. 3 and 3.1.
    """
    network = _vgg16("ssd", image_size, width, last_pool=(3, 1))
    x = network.output
    for name, size, dilation in (("fc6", 3, 6), ("fc7", 1, 1)):
        x = _convolution_class(dilation)(
            scaled_channels(1024, width),
            size,
            padding="same",
            dilation_rate=dilation,
            activation="relu",
            kernel_initializer="he_normal",
            name=name,
        )(x)  # [B, S/16, S/16, 1024]
    normalized = L2Normalization(name="block4_norm")(network.get_layer("block4_conv3").output)
    outputs = {"stride8": normalized, "stride16": x}
    return keras.Model(network.inputs[0], outputs, name="vgg16_ssd")


def scaled_channels(channels, width):
    """Channels of a layer in a network of this width, at least 1."""
    return max(1, round(channels * width))


def resnet50(output_stride=32, momentum=0.99, epsilon=1.001e-5):
    """ResNet-50 (v1) without its classifier: images uint8 [B, H, W, 3] to a dict of feature maps.

    Args:
        output_stride: 32, 16 (conv5 keeps the resolution, its 3x3s dilated by 2) or 8 (conv4 and
            conv5 keep it, dilated by 2 and 4).
        momentum, epsilon: of every batch normalization.

    Returns a `keras.Model` whose output is {"stride4": [B, H/4, W/4, 256], "stride8": [..., 512],
    "stride16": [..., 1024], "stride32": [..., 2048]}. A key names the stage by its stride in the
    classification network: with `output_stride=8` the maps "stride16" and "stride32" have the
    resolution of "stride8". Weights fit all three: `dilated(x)[:, ::2, ::2] == strided(x)`.

    Raises:
        ValueError: for another output stride.

    Reference: He et al., "Deep residual learning for image recognition", CVPR 2016; dilation as
    in Chen et al., "DeepLab", TPAMI 2018, sec. 3.1.
    """
    _, x = _preprocessed_images("caffe")
    network = keras.applications.ResNet50(include_top=False, weights=None, input_tensor=x)
    changes = {}
    for stage, dilation in _dilations(output_stride).items():
        for name in ("block1_0_conv", "block1_1_conv"):  # projection and first 1x1 hold the stride
            changes[f"{stage}_{name}"] = {"strides": 1}
        for layer in network.layers:
            if re.fullmatch(rf"{stage}_block\d+_2_conv", layer.name):  # every 3x3 of the stage
                changes[layer.name] = {"dilation_rate": dilation}
    return _tapped(_clone(network, changes, momentum, epsilon), RESNET50_TAPS, "resnet50")


def densenet(blocks, output_stride=32, momentum=0.99, epsilon=1.001e-5, recompute=False):
    """DenseNet without its classifier: images uint8 [B, H, W, 3] to a dict of feature maps.

    Args:
        blocks: layers of the four dense blocks, such as (6, 12, 24, 16) for DenseNet-121.
        output_stride: 32, 16 (no pooling before block 4, which is dilated by 2), 8 (none before
            blocks 3 and 4, which are dilated by 2 and 4) or 64: one pooling more, 2x2, splits
            block 3 after half of its layers (12 of the 24 of DenseNet-121), rounded down.
        momentum, epsilon: of every batch normalization.
        recompute: keep only each dense block's output for the backward pass, and compute the rest
            again: less memory, more time. The blocks' layers then lie in nested models, one for
            each block or half of it.

    Returns a `keras.Model` whose output is {"stride4", "stride8", "stride16", "stride32"}: the
    outputs of the dense blocks before their transitions (for DenseNet-121: 256, 512, 1024 and
    1024 channels). A key names the block by its stride in the classification network, as in
    `resnet50`. With `output_stride=64` there are five maps, each named by its own stride:
    "stride16" is the first half of block 3 before its pooling (640 channels), "stride32" the
    second, "stride64" block 4. Layer names and weights are those of the unsplit network.

    Raises:
        ValueError: for another output stride, blocks that are not four positive ints, or a third
            block of one layer that is to be split.

    Reference: Huang et al., "Densely connected convolutional networks", CVPR 2017; taps and
    dilation as in Kreso et al., "Ladder-style DenseNets", ICCV-W 2017, sec. 3; the split as in
    Kreso et al., "Efficient ladder-style DenseNets for semantic segmentation of large images",
    IEEE T-ITS 2020.
    """
    blocks = tuple(blocks)
    if len(blocks) != 4 or not all(isinstance(size, int) and size > 0 for size in blocks):
        raise ValueError(f"blocks: expected four positive ints, received {blocks}")
    dilations = _dilations(output_stride, DENSENET_OUTPUT_STRIDES)
    is_split = output_stride == 64
    if is_split and blocks[2] < 2:
        raise ValueError(
            f"blocks: output_stride=64 splits the third dense block, so it needs at least 2 "
            f"layers, received {blocks}"
        )

    def convolution(x, filters, size, name, dilation=1):
        return _convolution_class(dilation)(
            filters,
            size,
            padding="same",
            dilation_rate=dilation,
            use_bias=False,
            kernel_initializer="he_normal",
            name=name,
        )(x)

    def normalization(x, name):  # batch normalization and ReLU
        x = BatchNormalization(momentum=momentum, epsilon=epsilon, name=f"{name}_bn")(x)
        return keras.layers.ReLU(name=f"{name}_relu")(x)

    def dense_layers(x, indices, dilation, name):
        for index in indices:
            layer = f"{name}_block{index}"
            new = normalization(x, f"{layer}_0")
            new = convolution(new, 4 * GROWTH_RATE, 1, f"{layer}_1_conv")
            new = normalization(new, f"{layer}_1")
            new = convolution(new, GROWTH_RATE, 3, f"{layer}_2_conv", dilation)  # [B, H, W, 32]
            x = keras.layers.Concatenate(name=f"{layer}_concat")([x, new])
        return x  # [B, H, W, C + 32 for each layer]

    def dense_block(x, indices, dilation, name, part=None):
        if not recompute:
            return dense_layers(x, indices, dilation, name)
        part = part or name
        inner = keras.Input((None, None, x.shape[-1]), name=f"{part}_input")
        block = keras.Model(inner, dense_layers(inner, indices, dilation, name), name=part)
        return Recompute(block, name=f"{part}_recompute")(x)

    images, x = _preprocessed_images("torch")
    x = keras.layers.ZeroPadding2D(3, name="conv1_pad")(x)
    x = keras.layers.Conv2D(
        64, 7, strides=2, use_bias=False, kernel_initializer="he_normal", name="conv1_conv"
    )(x)  # [B, H/2, W/2, 64]
    x = normalization(x, "conv1")
    x = keras.layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = keras.layers.MaxPooling2D(3, strides=2, name="pool1")(x)  # [B, H/4, W/4, 64]
    taps = {}
    for number, size in enumerate(blocks, start=2):
        stage = f"conv{number}"
        if number > 2:  # the transition halves the channels, and the size where not dilated
            transition = f"pool{number - 1}"
            x = normalization(x, transition)
            x = convolution(x, x.shape[-1] // 2, 1, f"{transition}_conv")
            if stage not in dilations:
                x = keras.layers.AveragePooling2D(2, name=f"{transition}_pool")(x)
        dilation = dilations.get(stage, 1)
        first = 1  # layer of the block
        if is_split and number == 4:
            first += size // 2
            x = dense_block(x, range(1, first), dilation, stage, f"{stage}_split")
            taps["stride16"] = x
            x = keras.layers.AveragePooling2D(2, name=SPLIT_POOL)(x)
        x = dense_block(x, range(first, size + 1), dilation, stage)
        stride = 2 ** (number + 1 if is_split and number >= 4 else number)
        taps[f"stride{stride}"] = x
    return keras.Model(images, taps, name="densenet")


def tap_layers(model):
    """Names of the backbone's tap layers in a finished model: {"stride4": name, ...}.

    A DenseNet that is split, of output stride 64, has five of them, see `densenet`. Those of an
    FC-DenseNet are its blocks on the way down, from "stride1" on.

    Raises:
        ValueError: the model is not built on one of this module's backbones.
    """
    names = [layer.name for layer in model.layers]
    for taps in (VGG16_SSD_TAPS, VGG16_TAPS, VGG16_ATROUS_TAPS, RESNET50_TAPS):
        if set(taps.values()) <= set(names):
            return dict(taps)
    found = map(re.compile(FC_DENSENET_TAPS).fullmatch, names)
    taps = {f"stride{2 ** (int(each[1]) - 1)}": each[0] for each in found if each}
    if taps:
        return taps
    for name in names:  # the last concatenation of each dense block, or the block as a whole
        found = re.fullmatch(r"conv(\d)_(block\d+_concat|recompute)", name)
        if found:
            taps[f"stride{2 ** int(found[1])}"] = name
    if len(taps) != 4:
        raise ValueError(f'the model "{model.name}" has no VGG-16, ResNet-50 or DenseNet inside')
    if SPLIT_POOL in names:
        before = model.get_layer(SPLIT_POOL).input
        (first_half,) = (layer.name for layer in model.layers if layer.output is before)
        taps |= {"stride32": taps["stride16"], "stride64": taps["stride32"]}
        taps["stride16"] = first_half
    return taps


def densenet_name(blocks):
    """The `architecture` of `load_weights` that these dense blocks make."""
    names = {tuple(sizes): name for name, sizes in DENSENET_BLOCKS.items()}
    return names.get(tuple(blocks), "densenet")


def _vgg16(mode, image_size=None, width=1.0, last_pool=(2, 2)):
    """VGG-16's convolutions and poolings, as a model from uint8 images to block5_pool.

    `last_pool`: size and stride of block5_pool; None for a model to block5_conv3.
    """
    images, x = _preprocessed_images(mode, image_size)
    # He initialization for an input of this deviation instead of 1.
    initializer = keras.initializers.VarianceScaling(2 / PIXEL_DEVIATION**2)
    for block, (channels, count) in enumerate(VGG16_BLOCKS, start=1):
        for index in range(1, count + 1):
            x = keras.layers.Conv2D(
                scaled_channels(channels, width),
                3,
                padding="same",
                activation="relu",
                kernel_initializer=initializer,
                name=f"block{block}_conv{index}",
            )(x)
            initializer = "he_normal"
        pool = last_pool if block == len(VGG16_BLOCKS) else (2, 2)
        if pool is None:
            break
        size, stride = pool
        # "same": like Caffe's, a pooling keeps the last row and column of an odd-sized map.
        x = keras.layers.MaxPooling2D(
            size, strides=stride, padding="same", name=f"block{block}_pool"
        )(x)
    return keras.Model(images, x, name="vgg16")


def _preprocessed_images(mode, image_size=None):
    images = keras.Input((image_size, image_size, 3), dtype="uint8", name="images")
    return images, ImageNetPreprocessing(mode, name="preprocess")(images)  # [B, H, W, 3]


def _dilations(output_stride, allowed=OUTPUT_STRIDES):
    """Dilation rate of each stage that keeps its resolution."""
    if output_stride not in allowed:
        raise ValueError(f"output_stride: expected one of {allowed}, received {output_stride!r}")
    return {16: {"conv5": 2}, 8: {"conv4": 2, "conv5": 4}}.get(output_stride, {})


def _clone(network, changes, momentum, epsilon):
    """The network rebuilt with changed layer configurations: {layer name: {argument: value}}."""

    def clone(layer):
        config = layer.get_config() | changes.get(layer.name, {})
        if isinstance(layer, keras.layers.BatchNormalization):
            config |= {"momentum": momentum, "epsilon": epsilon}
            return BatchNormalization.from_config(config)
        if isinstance(layer, keras.layers.Conv2D):
            config["kernel_initializer"] = "he_normal"  # for training from random weights
            return _convolution_class(config["dilation_rate"]).from_config(config)
        return type(layer).from_config(config)

    return keras.models.clone_model(network, clone_function=clone)


def _convolution_class(dilation_rate):
    return keras.layers.Conv2D if dilation_rate in (1, (1, 1)) else DilatedConv2D


def _tapped(network, taps, name):
    outputs = {stride: network.get_layer(layer).output for stride, layer in taps.items()}
    return keras.Model(network.inputs[0], outputs, name=name)
