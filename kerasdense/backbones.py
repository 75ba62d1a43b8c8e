"""ImageNet backbones: dilation and stride surgery, taps by stride, and weights by layer name.

The only file that knows the layer names of keras.applications. Legend: B batch, H W size.
"""

import dataclasses
import io
import itertools
import math
import re
import zipfile
import zlib
from pathlib import Path

import h5py
import keras

from kerasdense.layers import (
    BatchNormalization,
    DilatedConv2D,
    ImageNetPreprocessing,
    L2Normalization,
    Recompute,
)

OUTPUT_STRIDES = (32, 16, 8)

# Tap of each stage, by the stride that the stage has in the classification network.
VGG16_TAPS = {
    "stride4": "block2_pool",
    "stride8": "block3_pool",
    "stride16": "block4_pool",
    "stride32": "block5_pool",
}
VGG16_SSD_TAPS = {"stride8": "block4_norm", "stride16": "fc7"}
RESNET50_TAPS = {
    "stride4": "conv2_block3_out",
    "stride8": "conv3_block4_out",
    "stride16": "conv4_block6_out",
    "stride32": "conv5_block3_out",
}

VGG16_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels, convolutions
GROWTH_RATE = 32  # new channels of each dense layer: Huang et al. 2017, table 1
DENSENET_BLOCKS = {  # Huang et al. 2017, table 1
    "densenet121": (6, 12, 24, 16),
    "densenet169": (6, 12, 32, 32),
    "densenet201": (6, 12, 48, 32),
}

# The layers of each family that carry backbone weights. In models.fcn.fcn_vgg16 fc6 and fc7
# belong to the head, but their weights come from the classifier's fc1 and fc2.
BACKBONE_LAYERS = {
    "vgg16": r"block[1-5]_conv\d|fc[67]",
    "resnet50": r"conv1_(conv|bn)|conv[2-5]_block\d+_\d_(conv|bn)",
    # "bn", after the last dense block, is the classifier's alone.
    "densenet": r"conv1_(conv|bn)|conv[2-5]_block\d+_\d_(conv|bn)|pool[2-4]_(conv|bn)|bn",
}
WEIGHT_ORDER = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")
CLASSIFIER_NAMES = {"fc6": "fc1", "fc7": "fc2"}
# What else an SSD can take over from a file of an SSD, made by models.ssd.
SSD_LAYERS = r"block4_norm|extra\d+_[12]"
# SSD's fc6 and fc7 are every third row and column and every fourth channel of the classifier's:
# Liu et al., "SSD", ECCV 2016, sec. 3, and the authors' published code.
CLASSIFIER_KERNELS = {"fc6": (7, 7, 512, 4096), "fc7": (1, 1, 4096, 4096)}
SSD_STEPS = {"fc6": (3, 3, 1, 4), "fc7": (1, 1, 4, 4)}

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


def vgg16():
    """VGG-16 without its classifier: images uint8 [B, H, W, 3] to a dict of feature maps.

    Returns a `keras.Model` whose output is {"stride4": [B, H/4, W/4, 128], "stride8": [..., 256],
    "stride16": [..., 512], "stride32": [..., 512]}: the poolings' outputs. Sizes round up.

    Reference: Simonyan & Zisserman, "Very deep convolutional networks for large-scale image
    recognition", ICLR 2015.
    """
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
        output_stride: 32, 16 (no pooling before block 4, which is dilated by 2) or 8 (none before
            blocks 3 and 4, which are dilated by 2 and 4).
        momentum, epsilon: of every batch normalization.
        recompute: keep only each dense block's output for the backward pass, and compute the rest
            again: less memory, more time. The blocks' layers then lie in four nested models.

    Returns a `keras.Model` whose output is {"stride4", "stride8", "stride16", "stride32"}: the
    outputs of the dense blocks before their transitions (for DenseNet-121: 256, 512, 1024 and
    1024 channels). A key names the block by its stride in the classification network, as in
    `resnet50`.

    Raises:
        ValueError: for another output stride, or blocks that are not four positive ints.

    Reference: Huang et al., "Densely connected convolutional networks", CVPR 2017; taps and
    dilation as in Kreso et al., "Ladder-style DenseNets", ICCV-W 2017, sec. 3.
    """
    blocks = tuple(blocks)
    if len(blocks) != 4 or not all(isinstance(size, int) and size > 0 for size in blocks):
        raise ValueError(f"blocks: expected four positive ints, received {blocks}")
    dilations = _dilations(output_stride)

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

    def dense_block(x, size, dilation, name):
        for index in range(1, size + 1):
            layer = f"{name}_block{index}"
            new = normalization(x, f"{layer}_0")
            new = convolution(new, 4 * GROWTH_RATE, 1, f"{layer}_1_conv")
            new = normalization(new, f"{layer}_1")
            new = convolution(new, GROWTH_RATE, 3, f"{layer}_2_conv", dilation)  # [B, H, W, 32]
            x = keras.layers.Concatenate(name=f"{layer}_concat")([x, new])
        return x  # [B, H, W, C + 32 size]

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
        if recompute:
            inner = keras.Input((None, None, x.shape[-1]), name=f"{stage}_input")
            block = keras.Model(inner, dense_block(inner, size, dilation, stage), name=stage)
            x = Recompute(block, name=f"{stage}_recompute")(x)
        else:
            x = dense_block(x, size, dilation, stage)
        taps[f"stride{2**number}"] = x
    return keras.Model(images, taps, name="densenet")


def tap_layers(model):
    """Names of the backbone's tap layers in a finished model: {"stride4": name, ...}.

    Raises:
        ValueError: the model is not built on one of this module's backbones.
    """
    names = [layer.name for layer in model.layers]
    for taps in (VGG16_SSD_TAPS, VGG16_TAPS, RESNET50_TAPS):
        if set(taps.values()) <= set(names):
            return dict(taps)
    taps = {}
    for name in names:  # the last concatenation of each dense block, or the block as a whole
        found = re.fullmatch(r"conv(\d)_(block\d+_concat|recompute)", name)
        if found:
            taps[f"stride{2 ** int(found[1])}"] = name
    if len(taps) != 4:
        raise ValueError(f'the model "{model.name}" has no VGG-16, ResNet-50 or DenseNet inside')
    return taps


def densenet_name(blocks):
    """The `architecture` of `load_weights` that these dense blocks make."""
    names = {tuple(sizes): name for name, sizes in DENSENET_BLOCKS.items()}
    return names.get(tuple(blocks), "densenet")


def _vgg16(mode, image_size=None, width=1.0, last_pool=(2, 2)):
    """VGG-16's convolutions and poolings, as a model from uint8 images to block5_pool.

    `last_pool`: size and stride of block5_pool.
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
        size, stride = last_pool if block == len(VGG16_BLOCKS) else (2, 2)
        # "same": like Caffe's, a pooling keeps the last row and column of an odd-sized map.
        x = keras.layers.MaxPooling2D(
            size, strides=stride, padding="same", name=f"block{block}_pool"
        )(x)
    return keras.Model(images, x, name="vgg16")


def _preprocessed_images(mode, image_size=None):
    images = keras.Input((image_size, image_size, 3), dtype="uint8", name="images")
    return images, ImageNetPreprocessing(mode, name="preprocess")(images)  # [B, H, W, 3]


def _dilations(output_stride):
    """Dilation rate of each stage that keeps its resolution."""
    if output_stride not in OUTPUT_STRIDES:
        raise ValueError(
            f"output_stride: expected one of {OUTPUT_STRIDES}, received {output_stride!r}"
        )
    return {32: {}, 16: {"conv5": 2}, 8: {"conv4": 2, "conv5": 4}}[output_stride]


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


@dataclasses.dataclass(frozen=True)
class WeightsReport:
    """What `load_weights` did.

    Attributes:
        source: "imagenet", the file's path, or None.
        loaded: paths of the variables that were set.
        skipped: paths of the backbone's variables that were not.
        reasons: {path: reason} of every skipped variable.
    """

    source: str | None = None
    loaded: tuple = ()
    skipped: tuple = ()
    reasons: dict = dataclasses.field(default_factory=dict)

    def __str__(self):
        if self.source is None:
            return "backbone weights: random"
        line = f"backbone weights: {len(self.loaded)} tensors loaded from {self.source}"
        if not self.skipped:
            return line
        counts = {}
        for path, reason in self.reasons.items():
            stage = path.split("/")[-2].split("_")[0]
            reason = reason if reason == "not in file" else "of another shape"
            counts[stage, reason] = counts.get((stage, reason), 0) + 1
        parts = [f"{stage}: {count} {reason}" for (stage, reason), count in counts.items()]
        return f"{line}, {len(self.skipped)} skipped ({', '.join(parts)})"


def load_weights(model, architecture, weights):
    """Sets the backbone's weights of a model by layer name and shape, and prints one line.

    Args:
        model: a model built on one of this module's backbones.
        architecture: "vgg16", "resnet50", "densenet121", "densenet169", "densenet201", or
            "densenet" (any other blocks; no ImageNet weights).
        weights: None (nothing is loaded), "imagenet" (keras.applications' file, downloaded once
            into Keras' cache), or the path of a file: a legacy keras.applications `.h5`, which
            may hold some layers only, a whole `.keras` model, or a `.weights.h5`.

    Only the backbone is loaded, also from a file of a whole model. For "vgg16" the classifier's
    fc1 and fc2 become the convolutions fc6 and fc7, sub-sampled for an SSD; from a file of an SSD,
    an SSD also takes the scale of conv4_3 and the extra levels, so all but the predictions.

    Returns a `WeightsReport`.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: an unknown architecture, no access to the ImageNet weights, a file that cannot
            be read, or one of which nothing fits.
    """
    family = "densenet" if str(architecture).startswith("densenet") else architecture
    if family not in BACKBONE_LAYERS:
        raise ValueError(
            f"architecture: expected one of {(*IMAGENET_NETWORKS, 'densenet')}, "
            f"received {architecture!r}"
        )
    if weights is None:
        return WeightsReport()
    if weights == "imagenet":
        arrays = _arrays_of_model(_imagenet_network(architecture))
    else:
        arrays = _arrays_of_file(Path(weights))
    layers = [layer for layer in _layers(model) if layer.weights]
    names = {layer.name for layer in layers}
    targets = [
        layer
        for layer in layers
        if re.fullmatch(BACKBONE_LAYERS[family], layer.name)
        or (re.fullmatch(SSD_LAYERS, layer.name) and layer.name in arrays)
    ]
    if VGG16_SSD_TAPS["stride8"] in names:
        _subsample_classifier(arrays)

    loaded, reasons = [], {}
    for layer in targets:
        source = arrays.get(layer.name) or arrays.get(CLASSIFIER_NAMES.get(layer.name), [])
        for variable, value in itertools.zip_longest(layer.weights, source[: len(layer.weights)]):
            if value is None:
                reasons[variable.path] = "not in file"
                continue
            if layer.name in CLASSIFIER_NAMES and value.size == math.prod(variable.shape):
                value = value.reshape(variable.shape)  # [25088, 4096] -> [7, 7, 512, 4096]
            if value.shape != tuple(variable.shape):
                reasons[variable.path] = (
                    f"of shape {value.shape} in file, {tuple(variable.shape)} in model"
                )
                continue
            variable.assign(value)
            loaded.append(variable.path)
    report = WeightsReport(str(weights), tuple(loaded), tuple(reasons), reasons)
    if not loaded:
        raise ValueError(
            f"no weight of {weights} fits a {architecture} backbone: all "
            f"{len(report.skipped)} tensors would be skipped, the first because it is "
            f"{next(iter(reasons.values()), 'absent')}; expected a file of a {architecture}"
        )
    print(report, flush=True)
    return report


def _subsample_classifier(arrays):
    """Puts SSD's fc6 and fc7 in the place of those of a VGG-16 classifier, or an FCN's."""
    for layer, classifier_layer in CLASSIFIER_NAMES.items():
        source = arrays.get(layer) or arrays.get(classifier_layer, [])
        shape, steps = CLASSIFIER_KERNELS[layer], SSD_STEPS[layer]
        if [value.size for value in source] == [math.prod(shape), shape[-1]]:
            kernel, bias = source
            kernel = kernel.reshape(shape)[tuple(slice(None, None, step) for step in steps)]
            arrays[layer] = [kernel, bias[:: steps[-1]]]


def _layers(model):
    """All layers, those of nested models included."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Wrapper):
            layer = layer.layer
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
        else:
            yield layer


def _arrays_of_model(model):
    """{layer name: [array]} of a model."""
    return {layer.name: layer.get_weights() for layer in _layers(model)}


def _imagenet_network(architecture):
    if architecture not in IMAGENET_NETWORKS:
        raise ValueError(
            f'there are no ImageNet weights for "{architecture}", only for '
            f"{tuple(IMAGENET_NETWORKS)}; pass weights=None or a file"
        )
    try:
        return IMAGENET_NETWORKS[architecture](
            include_top=architecture == "vgg16", weights="imagenet"
        )
    except Exception as error:  # keras.utils.get_file raises a bare Exception without a network
        raise ValueError(
            f"the ImageNet weights of {architecture} could not be downloaded "
            f"({' '.join(str(error).split())}); pass weights=None (--weights none) for random "
            "ones, or the path of a file"
        ) from error


def _arrays_of_file(path):
    """{layer name: [array]} of a weights file."""
    if not path.is_file():
        raise FileNotFoundError(
            f'weights: expected "imagenet", None or an existing file, received "{path}", '
            "which is not a file"
        )
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                content = io.BytesIO(archive.read("model.weights.h5"))
        else:
            content = path
        with h5py.File(content, "r") as file:
            group = file.get("model_weights", file)  # where Keras 2 kept a whole model's weights
            if "layer_names" in group.attrs:
                return _arrays_of_legacy_h5(group)
            arrays = _arrays_of_keras3_h5(file)
    except (OSError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f'weights: "{path}" cannot be read ({" ".join(str(error).split())}); expected a '
            "complete keras.applications .h5, .keras or .weights.h5 file; fetch or save it anew"
        ) from error
    if not arrays:
        raise ValueError(
            f'weights: "{path}" names no layers, so its weights cannot be matched; expected a '
            "keras.applications .h5, or a .keras or .weights.h5 file of a recent Keras 3; load "
            "the file into its model and save that anew"
        )
    return arrays


def _arrays_of_legacy_h5(group):
    """{layer name: [array]} of the .h5 layout of Keras 1 and 2: a group a layer."""
    arrays = {}
    for layer_name in _names(group, "layer_names"):
        layer = group[layer_name]
        names = _names(layer, "weight_names")
        short_names = [name.rsplit("/", 1)[-1].removesuffix(":0") for name in names]
        if set(short_names) <= set(WEIGHT_ORDER):  # Keras 1 named them otherwise, in this order
            order = [WEIGHT_ORDER.index(name) for name in short_names]
            names = [name for _, name in sorted(zip(order, names))]
        # Layer "conv1/bn" of old DenseNet files is "conv1_bn" today.
        arrays[layer_name.replace("/", "_")] = [layer[name][()] for name in names]
    return arrays


def _arrays_of_keras3_h5(file):
    """{layer name: [array]} of the .weights.h5 layout of Keras 3: each "vars" group has a name."""
    arrays = {}

    def collect(path, group):
        if path.endswith("/vars") and "name" in group.attrs:
            arrays[group.attrs["name"]] = [group[str(index)][()] for index in range(len(group))]

    file.visititems(collect)
    return arrays


def _names(group, attribute):
    names = [*group.attrs[attribute]]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]
