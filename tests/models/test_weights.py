"""Weights: every format of a file reaches the backbone by name, and what fits not is told."""

import re

import h5py
import keras
import numpy as np
import pytest
from conftest import REAL_DATA, needs_real_data
from small_models import randomize

from kerasdense.models import backbones, fcn_vgg16, ladder_densenet, ssd300, weights
from kerasdense.models.weights import WeightsReport, load_weights

# Weight files: a tiny LadderDenseNet stands for every architecture.


def tiny():
    return ladder_densenet((1, 1, 1, 1), num_classes=3)


def write_legacy_h5(path, model, rename=lambda name: name, skip=lambda name: False):
    """The .h5 layout of keras.applications: groups by layer, their names in attributes."""
    with h5py.File(path, "w") as file:
        layers = [layer for layer in model.layers if layer.weights and not skip(layer.name)]
        file.attrs["layer_names"] = [rename(layer.name).encode() for layer in layers]
        for layer in layers:
            group = file.create_group(rename(layer.name))
            names = [f"{rename(layer.name)}/{variable.name}:0" for variable in layer.weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, variable in zip(names, layer.weights):
                group[name] = keras.ops.convert_to_numpy(variable)


def backbone_variables(model):
    return {
        variable.path: keras.ops.convert_to_numpy(variable)
        for variable in model.variables
        if re.match(r"conv\d|pool\d", variable.path)
    }


def save(model, path):
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    else:
        model.save(path)  # .h5: Keras 2's whole model, weights below "model_weights"


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("name", ["m.keras", "m.weights.h5", "m.h5", "legacy.h5", "old.h5"])
def test_every_format_loads_the_backbone_and_leaves_the_head(tmp_path, capsys, name):
    source, path = randomize(tiny(), seed=1), tmp_path / name
    if name == "legacy.h5":
        write_legacy_h5(path, source)
    elif name == "old.h5":  # early DenseNet files: "conv1/bn"
        write_legacy_h5(path, source, rename=lambda name: name.replace("conv1_", "conv1/"))
    else:
        save(source, path)
    model = tiny()
    head = keras.ops.convert_to_numpy(model.get_layer("score").kernel)
    report = load_weights(model, "densenet", path)
    expected, actual = backbone_variables(source), backbone_variables(model)
    assert set(report.loaded) == set(expected) and report.skipped == ()
    for variable in expected:
        np.testing.assert_array_equal(actual[variable], expected[variable])
    np.testing.assert_array_equal(head, model.get_layer("score").kernel)
    # conv1: 1 kernel + 4 of its batch normalization; a dense layer 2 (1 + 4), of which there are
    # four; a transition 1 + 4, of which there are three: 5 + 40 + 15 = 60
    assert capsys.readouterr().out == f"backbone weights: 60 tensors loaded from {path}\n"


def test_missing_layers_and_other_shapes_are_skipped_with_a_reason(tmp_path, capsys):
    source = ladder_densenet((1, 1, 2, 1), num_classes=3)  # conv5 sees 16 channels more
    path = tmp_path / "part.h5"
    write_legacy_h5(path, source, skip=lambda name: name.startswith("conv2"))
    model = tiny()
    report = load_weights(model, "densenet", path)
    # conv2: 2 kernels + 8 statistics. conv4 has 72 channels here and 104 there: the transition
    # after it differs in all 5 tensors; of conv5, the first normalization (4) and the 1x1.
    assert {report.reasons[x] for x in report.skipped if "conv2" in x} == {"not in file"}
    assert report.reasons["pool4_conv/kernel"] == (
        "of shape (1, 1, 104, 52) in file, (1, 1, 72, 36) in model"
    )
    assert len(report.loaded) == 60 - 20 and set(report.reasons) == set(report.skipped)
    assert capsys.readouterr().out == (
        f"backbone weights: 40 tensors loaded from {path}, 20 skipped (conv2: 10 not in file, "
        "pool4: 5 of another shape, conv5: 5 of another shape)\n"
    )


def test_no_weights_is_an_empty_report(capsys):
    assert load_weights(tiny(), "densenet", None) == WeightsReport()
    assert capsys.readouterr().out == ""


def test_files_that_do_not_fit(tmp_path):
    model = tiny()
    with pytest.raises(FileNotFoundError, match='"imagenet", None or an existing file'):
        load_weights(model, "densenet", tmp_path / "absent.h5")
    other = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save_weights(other)
    with pytest.raises(ValueError, match="no weight of .* fits a densenet backbone: all 60"):
        load_weights(model, "densenet", other)
    nameless = tmp_path / "nameless.h5"
    with h5py.File(nameless, "w") as file:
        file["layers/dense/vars/0"] = np.zeros(3)
    with pytest.raises(ValueError, match="names no layers"):
        load_weights(model, "densenet", nameless)
    with pytest.raises(ValueError, match="architecture: expected one of .* received 'vgg19'"):
        load_weights(model, "vgg19", other)


@pytest.mark.parametrize("name", ["m.keras", "m.weights.h5", "legacy.h5"])
def test_truncated_files_are_named(tmp_path, name):
    path = tmp_path / name
    if name == "legacy.h5":
        write_legacy_h5(path, tiny())
    else:
        save(tiny(), path)
    content, model = path.read_bytes(), tiny()
    for length in (len(content) * 2 // 3, 100, 0):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=f'"{path}" cannot be read'):
            load_weights(model, "densenet", path)


def test_imagenet_weights_without_a_network(monkeypatch):
    def download(**options):
        raise Exception("URL fetch failure on https://example.org/resnet50.h5: None")

    monkeypatch.setitem(backbones.IMAGENET_NETWORKS, "densenet121", download)
    with pytest.raises(ValueError, match="could not be downloaded .* pass weights=None") as caught:
        load_weights(tiny(), "densenet121", "imagenet")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match='no ImageNet weights for "densenet", only for'):
        ladder_densenet((1, 1, 1, 1), num_classes=3, weights="imagenet")


def test_imagenet_weights_come_from_keras_applications(monkeypatch):
    source = randomize(backbones.densenet((1, 1, 1, 1)), seed=2)
    monkeypatch.setitem(backbones.IMAGENET_NETWORKS, "densenet121", lambda **options: source)
    model = tiny()
    report = load_weights(model, "densenet121", "imagenet")
    assert report.source == "imagenet" and len(report.loaded) == 60
    np.testing.assert_array_equal(
        source.get_layer("conv1_conv").kernel, model.get_layer("conv1_conv").kernel
    )


def test_vgg16_classifier_becomes_convolutions(tmp_path):
    """At the center of a 7 x 7 map, fc6 sees what the classifier's fc1 sees: the whole map."""
    rng, path = np.random.default_rng(0), tmp_path / "classifier.h5"
    kernel = rng.normal(0, 0.01, (7 * 7 * 512, 8)).astype("float32")
    bias = rng.normal(0, 1, 8).astype("float32")
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = ["fc1"]
        group = file.create_group("fc1")
        group.attrs["weight_names"] = ["fc1_W_1:0", "fc1_b_1:0"]  # as Keras 1 named them
        group["fc1_W_1:0"], group["fc1_b_1:0"] = kernel, bias
    model = fcn_vgg16(3, weights=str(path), fc_width=8)
    taps = [model.get_layer(name).output for name in ("block5_pool", "fc6")]
    image = rng.integers(0, 256, (1, 224, 224, 3), "uint8")
    features, fc6 = keras.Model(model.input, taps)(image)
    classifier = np.maximum(np.reshape(features, (1, -1)) @ kernel + bias, 0)
    np.testing.assert_allclose(fc6[:, 3, 3], classifier, rtol=1e-3, atol=1e-3)


def test_ssd_sub_samples_a_classifier_of_the_published_size():
    for layer, shape in {"fc6": (3, 3, 512, 1024), "fc7": (1, 1, 1024, 1024)}.items():
        classifier = np.broadcast_to(np.float32(0), weights.CLASSIFIER_KERNELS[layer])
        steps = tuple(slice(None, None, step) for step in weights.SSD_STEPS[layer])
        assert classifier[steps].shape == shape
    assert np.prod(weights.CLASSIFIER_KERNELS["fc6"]) == 25088 * 4096


def small_classifier(monkeypatch, path):
    """A file of VGG-16 at 1/64 of its width, classifier included: fc1 of 64, fc2 of 64 units."""
    monkeypatch.setattr(
        weights, "CLASSIFIER_KERNELS", {"fc6": (7, 7, 8, 64), "fc7": (1, 1, 64, 64)}
    )
    rng = np.random.default_rng(1)
    shapes = {"fc1": (7 * 7 * 8, 64), "fc2": (64, 64)}
    arrays = {
        name: [rng.normal(0, 0.1, shape), rng.normal(0, 0.1, shape[1])]
        for name, shape in shapes.items()
    }
    arrays["block5_conv1"] = [rng.normal(0, 0.1, (3, 3, 8, 8)), rng.normal(0, 0.1, 8)]
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = list(arrays)
        for name, values in arrays.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/kernel:0", f"{name}/bias:0"]
            for weight, value in zip(group.attrs["weight_names"], values):
                group[weight] = value.astype("float32")
    return {name: [value.astype("float32") for value in arrays[name]] for name in arrays}


def test_ssd_takes_every_third_row_and_fourth_channel_of_the_classifier(monkeypatch, tmp_path):
    arrays = small_classifier(monkeypatch, tmp_path / "vgg16.h5")
    model = ssd300(2, weights=None, width=1 / 64)
    report = load_weights(model, "vgg16", tmp_path / "vgg16.h5")
    # block5_conv1, fc6 and fc7, of 13 convolutions and two
    assert len(report.loaded) == 6 and len(report.skipped) == 2 * 12
    fc6, fc7 = model.get_layer("fc6"), model.get_layer("fc7")
    (fc1_kernel, fc1_bias), (fc2_kernel, fc2_bias) = arrays["fc1"], arrays["fc2"]
    kernel = np.asarray(fc6.kernel)
    for row, column, channel, unit in [(0, 0, 0, 0), (1, 2, 3, 5), (2, 1, 7, 15)]:
        # The classifier's rows are a flattened 7 x 7 x 8 map.
        flat = ((3 * row) * 7 + 3 * column) * 8 + channel
        assert kernel[row, column, channel, unit] == fc1_kernel[flat, 4 * unit]
    np.testing.assert_array_equal(fc6.bias, fc1_bias[[0, 4, 8, 12, *range(16, 64, 4)]])
    np.testing.assert_array_equal(fc7.kernel[0, 0, 3, 5], fc2_kernel[12, 20])
    np.testing.assert_array_equal(fc7.bias[15], fc2_bias[60])


def test_fcn_does_not_sub_sample(monkeypatch, tmp_path):
    """An FCN whose fc7 happens to have SSD's width keeps its random weights, and says so."""
    small_classifier(monkeypatch, tmp_path / "vgg16.h5")
    with pytest.raises(ValueError, match="all 30 tensors would be skipped"):
        fcn_vgg16(2, weights=tmp_path / "vgg16.h5", fc_width=16)


@pytest.mark.parametrize("name", ["ssd.keras", "ssd.weights.h5"])
def test_an_ssd_takes_all_but_the_predictions_from_an_ssd(tmp_path, capsys, name):
    source = ssd300(3, weights=None, width=1 / 64, name="source")
    for variable in source.trainable_variables:
        variable.assign_add(keras.random.normal(variable.shape, seed=3))
    save(source, tmp_path / name)
    model = ssd300(5, weights=tmp_path / name, width=1 / 64)
    for layer in model.layers:
        if layer.weights and not layer.name.startswith("head"):
            for ours, theirs in zip(layer.weights, source.get_layer(layer.name).weights):
                np.testing.assert_array_equal(ours, theirs)
    # 13 convolutions, fc6, fc7, 8 of the extra levels, and the scale of conv4_3
    expected = f"backbone weights: {2 * (13 + 2 + 8) + 1} tensors loaded from {tmp_path / name}\n"
    assert capsys.readouterr().out == expected


def test_ssd_of_another_width_refuses_weights(tmp_path):
    save(ssd300(1, weights=None, width=1 / 32), tmp_path / "wide.weights.h5")
    with pytest.raises(ValueError, match=r"no weight of .* fits a vgg16 backbone: all 47 tensors"):
        ssd300(1, weights=tmp_path / "wide.weights.h5", width=1 / 64)


WEIGHTS = REAL_DATA.parent / "weights" / "resnet50_conv1-conv4_notop.h5"


@needs_real_data(WEIGHTS)
def test_real_resnet50_file_loads_conv1_to_conv4():
    report = load_weights(backbones.resnet50(16), "resnet50", WEIGHTS)
    # Convolutions with batch normalization have 2 + 4 tensors: conv1 1, then stages of 3, 4, 6
    # and 3 blocks of three each, and a projection a stage.
    assert len(report.loaded) == 6 * (1 + (3 * 3 + 1) + (4 * 3 + 1) + (6 * 3 + 1))
    assert len(report.skipped) == 6 * (3 * 3 + 1)
    assert all(path.startswith("conv5") for path in report.skipped)
