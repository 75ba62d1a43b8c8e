"""Weights read from files of others, and matched with a model's layers by name and shape."""

import dataclasses
import io
import itertools
import math
import re
import zipfile
import zlib
from pathlib import Path

import h5py

from kerasdense.models.backbones import BACKBONE_LAYERS, IMAGENET_NETWORKS, VGG16_SSD_TAPS
from kerasdense.models.layers import leaf_layers

WEIGHT_ORDER = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")
CLASSIFIER_NAMES = {"fc6": "fc1", "fc7": "fc2"}
# What else an SSD can take over from a file of an SSD, made by models.ssd.
SSD_LAYERS = r"block4_norm|extra\d+_[12]"
# SSD's fc6 and fc7 are every third row and column and every fourth channel of the classifier's:
# Liu et al., "SSD", ECCV 2016, sec. 3, and the authors' published code.
CLASSIFIER_KERNELS = {"fc6": (7, 7, 512, 4096), "fc7": (1, 1, 4096, 4096)}
SSD_STEPS = {"fc6": (3, 3, 1, 4), "fc7": (1, 1, 4, 4)}


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
        model: a model built on one of `models.backbones`.
        architecture: "vgg16", "resnet50", "densenet121", "densenet169", "densenet201", or
            "densenet" (any other blocks) or "fc_densenet"; the last two without ImageNet weights.
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
    backbone = _backbone_layers(architecture)
    if weights is None:
        return WeightsReport()
    if weights == "imagenet":
        arrays = _arrays_of_model(_imagenet_network(architecture))
    else:
        arrays = read_weights(Path(weights))
    layers = [layer for layer in leaf_layers(model) if layer.weights]
    names = {layer.name for layer in layers}
    targets = [
        layer
        for layer in layers
        if re.fullmatch(backbone, layer.name)
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


def backbone_paths(model, architecture):
    """Paths of the variables of a model's backbone; `architecture` as of `load_weights`."""
    layers = _backbone_layers(architecture)
    return [
        variable.path
        for layer in leaf_layers(model)
        if re.fullmatch(layers, layer.name)
        for variable in layer.weights
    ]


def _backbone_layers(architecture):
    """A regular expression of the names of a backbone's layers."""
    family = "densenet" if str(architecture).startswith("densenet") else architecture
    if family not in BACKBONE_LAYERS:
        raise ValueError(
            f"architecture: expected one of {(*IMAGENET_NETWORKS, 'densenet', 'fc_densenet')}, "
            f"received {architecture!r}"
        )
    return BACKBONE_LAYERS[family]


def _subsample_classifier(arrays):
    """Puts SSD's fc6 and fc7 in the place of those of a VGG-16 classifier, or an FCN's."""
    for layer, classifier_layer in CLASSIFIER_NAMES.items():
        source = arrays.get(layer) or arrays.get(classifier_layer, [])
        shape, steps = CLASSIFIER_KERNELS[layer], SSD_STEPS[layer]
        if [value.size for value in source] == [math.prod(shape), shape[-1]]:
            kernel, bias = source
            kernel = kernel.reshape(shape)[tuple(slice(None, None, step) for step in steps)]
            arrays[layer] = [kernel, bias[:: steps[-1]]]


def _arrays_of_model(model):
    """{layer name: [array]} of a model."""
    return {layer.name: layer.get_weights() for layer in leaf_layers(model)}


def _imagenet_network(architecture):
    if architecture not in IMAGENET_NETWORKS:
        raise ValueError(
            f'there are no ImageNet weights for "{architecture}", only for '
            f"{tuple(IMAGENET_NETWORKS)}; pass weights=None (--weights none) or a file"
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


def read_weights(path):
    """{layer name: [array]} of a file, in the order of the layers' weights; as of `load_weights`.

    Raises: FileNotFoundError; ValueError if it cannot be read.
    """
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
