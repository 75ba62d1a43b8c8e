"""Backbones: the a trous identity, names and weights of keras.applications, weight files."""

import re

import h5py
import keras
import numpy as np
import pytest
from conftest import REAL_DATA, needs_real_data

from kerasdense.models import backbones
from kerasdense.models import fcn_vgg16, ladder_densenet, ssd300

IMAGES = np.random.default_rng(0).integers(0, 256, (1, 97, 131, 3), "uint8")
STRIDES = ["stride4", "stride8", "stride16", "stride32"]


def randomize(model, seed=0):
    """Random weights, batch statistics included, that keep activations in range."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif variable.name in ("beta", "bias", "moving_mean"):
            variable.assign(rng.normal(0, 0.1, variable.shape))
    return model


def outputs_of(model, images=IMAGES):
    return {stride: np.asarray(output) for stride, output in model(images).items()}


def assert_equal(actual, expected):
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.fixture(scope="module")
def strided_resnet50():
    return randomize(backbones.resnet50())


@pytest.mark.parametrize("output_stride, stage_steps", [(16, (1, 2)), (8, (2, 4))])
def test_a_trous_identity_of_resnet50(strided_resnet50, output_stride, stage_steps):
    """A dilated stage, sampled at every second or fourth pixel, is the strided stage."""
    dilated = backbones.resnet50(output_stride)
    dilated.set_weights(strided_resnet50.get_weights())
    actual, expected = outputs_of(dilated), outputs_of(strided_resnet50)
    steps = (1, 1, *stage_steps)
    for stride, step in zip(STRIDES, steps):
        assert_equal(actual[stride][:, ::step, ::step], expected[stride])
    # 97 x 131 at stride 8, 16: ceil(97 / 8) = 13, ceil(131 / 8) = 17; 7, 9
    assert actual["stride32"].shape[1:3] == {16: (7, 9), 8: (13, 17)}[output_stride]


def test_surgery_dilates_every_3x3_of_a_stage_and_nothing_else():
    model = backbones.resnet50(8, momentum=0.95, epsilon=1e-5)
    rates = {
        layer.name: layer.dilation_rate[0]
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D) and layer.dilation_rate != (1, 1)
    }
    expected = {f"conv4_block{block}_2_conv": 2 for block in range(1, 7)}
    expected |= {f"conv5_block{block}_2_conv": 4 for block in range(1, 4)}
    assert rates == expected
    assert normalizations(model) == {(0.95, 1e-5)}


def test_momentum_and_epsilon_of_densenet():
    model = backbones.densenet((1, 1, 1, 1), momentum=0.9, epsilon=1e-5)
    assert normalizations(model) == {(0.9, 1e-5)}


def normalizations(model):
    layers = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    return {(layer.momentum, layer.epsilon) for layer in layers}


@pytest.mark.parametrize("output_stride, stage_steps", [(16, (1, 2)), (8, (2, 4))])
def test_a_trous_identity_of_densenet(output_stride, stage_steps):
    """Dilation removes a transition's pooling, so the strided twin must subsample instead."""
    blocks = (1, 2, 2, 2)
    dilated = randomize(backbones.densenet(blocks, output_stride))
    pools = {16: ["pool4_pool"], 8: ["pool3_pool", "pool4_pool"]}[output_stride]

    def subsample(layer):
        config = layer.get_config()
        if layer.name in pools:
            config |= {"pool_size": 1, "strides": 2}
        return type(layer).from_config(config)

    strided = keras.models.clone_model(backbones.densenet(blocks), clone_function=subsample)
    strided.set_weights(dilated.get_weights())
    actual, expected = outputs_of(dilated), outputs_of(strided)
    for stride, step in zip(STRIDES, (1, 1, *stage_steps)):
        assert_equal(actual[stride][:, ::step, ::step], expected[stride])


def test_taps_by_stride(strided_resnet50):
    # (height, width, channels) of 96 x 128 at strides 4, 8, 16, 32
    images = np.zeros((1, 96, 128, 3), "uint8")
    sizes = [(24, 32), (12, 16), (6, 8), (3, 4)]
    # DenseNet: 64 + 32, then (half + 32) of each block of one layer: 96, 80, 72, 68
    for backbone, channels in (
        (backbones.vgg16(), (128, 256, 512, 512)),
        (strided_resnet50, (256, 512, 1024, 2048)),
        (backbones.densenet((1, 1, 1, 1)), (96, 80, 72, 68)),
    ):
        shapes = [output.shape[1:] for output in outputs_of(backbone, images).values()]
        assert list(backbone.output) == STRIDES
        assert shapes == [(*size, count) for size, count in zip(sizes, channels)]


def test_vgg16_is_the_one_of_keras_applications():
    reference = randomize(keras.applications.VGG16(include_top=False, weights=None))
    ours = backbones.vgg16()
    names = [layer.name for layer in ours.layers if layer.weights]
    assert names == [layer.name for layer in reference.layers if layer.weights]
    ours.set_weights(reference.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), "uint8")  # even at stride 16
    expected = reference(keras.applications.vgg16.preprocess_input(images.astype("float32")))
    assert_equal(outputs_of(ours, images)["stride32"], np.asarray(expected))


def test_vgg16_keeps_the_last_row_and_column():
    # 97 -> 49 -> 25 -> 13 -> 7 -> 4, 131 -> 66 -> 33 -> 17 -> 9 -> 5
    assert outputs_of(backbones.vgg16())["stride32"].shape == (1, 4, 5, 512)


@pytest.mark.parametrize("image_size, sides", [(300, (38, 19)), (512, (64, 32))])
def test_vgg16_of_ssd(image_size, sides):
    # 300 -> 150 -> 75 -> 38 -> 19; the last pooling keeps the size
    model = backbones.vgg16_ssd(image_size, width=1 / 32)
    images = np.random.default_rng(0).integers(0, 256, (2, image_size, image_size, 3), "uint8")
    outputs = outputs_of(model, images)
    assert {stride: x.shape for stride, x in outputs.items()} == {
        "stride8": (2, sides[0], sides[0], 512 // 32),
        "stride16": (2, sides[1], sides[1], 1024 // 32),
    }
    lengths = np.linalg.norm(outputs["stride8"], axis=-1)
    np.testing.assert_allclose(lengths, 20, rtol=1e-3)  # no position is all zeros
    fc6, pool5 = model.get_layer("fc6"), model.get_layer("block5_pool")
    assert (fc6.kernel_size, fc6.dilation_rate) == ((3, 3), (6, 6))
    assert (pool5.pool_size, pool5.strides, pool5.padding) == ((3, 3), (1, 1), "same")


def test_random_vgg16_keeps_the_size_of_activations():
    """He initialization keeps the mean square, here from the input's 70^2 to 1."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (1, 20, 20, 3)).repeat(15, axis=1).repeat(15, axis=2)
    for model in (backbones.vgg16(), backbones.vgg16_ssd(300)):
        taps = {name: model.get_layer(name).output for name in ("block1_conv2", "block5_conv3")}
        for features in keras.Model(model.input, taps)(coarse.astype("uint8")).values():
            assert 0.3 < np.sqrt(np.mean(np.square(features))) < 3


def test_taps_of_finished_models():
    ssd = ssd300(1, weights=None, width=1 / 64)
    assert backbones.tap_layers(ssd) == {"stride8": "block4_norm", "stride16": "fc7"}
    fcn = fcn_vgg16(3, weights=None, fc_width=8)
    assert list(backbones.tap_layers(fcn)) == STRIDES
    with pytest.raises(ValueError, match='"other" has no VGG-16'):
        backbones.tap_layers(keras.Sequential([keras.Input((3,))], name="other"))


def test_densenet_is_the_one_of_keras_applications():
    reference = randomize(keras.applications.DenseNet121(include_top=False, weights=None))
    ours = backbones.densenet(backbones.DENSENET_BLOCKS["densenet121"])
    names = {layer.name for layer in ours.layers if layer.weights}
    assert names == {layer.name for layer in reference.layers if layer.weights} - {"bn"}
    for name in names:
        ours.get_layer(name).set_weights(reference.get_layer(name).get_weights())
    tap = keras.Model(reference.input, reference.get_layer("conv5_block16_concat").output)
    expected = tap(keras.applications.densenet.preprocess_input(IMAGES.astype("float32")))
    assert_equal(outputs_of(ours)["stride32"], np.asarray(expected))


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"expected one of \(32, 16, 8\), received 4"):
        backbones.resnet50(output_stride=4)
    with pytest.raises(ValueError, match="expected four positive ints, received"):
        backbones.densenet((1, 2, 0, 1))


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
    report = backbones.load_weights(model, "densenet", path)
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
    report = backbones.load_weights(model, "densenet", path)
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
    assert backbones.load_weights(tiny(), "densenet", None) == backbones.WeightsReport()
    assert capsys.readouterr().out == ""


def test_files_that_do_not_fit(tmp_path):
    model = tiny()
    with pytest.raises(FileNotFoundError, match='"imagenet", None or an existing file'):
        backbones.load_weights(model, "densenet", tmp_path / "absent.h5")
    other = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save_weights(other)
    with pytest.raises(ValueError, match="no weight of .* fits a densenet backbone: all 60"):
        backbones.load_weights(model, "densenet", other)
    nameless = tmp_path / "nameless.h5"
    with h5py.File(nameless, "w") as file:
        file["layers/dense/vars/0"] = np.zeros(3)
    with pytest.raises(ValueError, match="names no layers"):
        backbones.load_weights(model, "densenet", nameless)
    with pytest.raises(ValueError, match="architecture: expected one of .* received 'vgg19'"):
        backbones.load_weights(model, "vgg19", other)


@pytest.mark.parametrize("name", ["m.keras", "m.weights.h5", "legacy.h5"])
def test_truncated_files_are_named(tmp_path, name):
    path = tmp_path / name
    if name == "legacy.h5":
        write_legacy_h5(path, tiny())
    else:
        save(tiny(), path)
    content = path.read_bytes()
    for length in (len(content) * 2 // 3, 100, 0):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=f'"{path}" cannot be read'):
            backbones.load_weights(tiny(), "densenet", path)


def test_imagenet_weights_without_a_network(monkeypatch):
    def download(**options):
        raise Exception("URL fetch failure on https://example.org/resnet50.h5: None")

    monkeypatch.setitem(backbones.IMAGENET_NETWORKS, "densenet121", download)
    with pytest.raises(ValueError, match="could not be downloaded .* pass weights=None") as caught:
        backbones.load_weights(tiny(), "densenet121", "imagenet")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match='no ImageNet weights for "densenet", only for'):
        ladder_densenet((1, 1, 1, 1), num_classes=3, weights="imagenet")


def test_imagenet_weights_come_from_keras_applications(monkeypatch):
    source = randomize(backbones.densenet((1, 1, 1, 1)), seed=2)
    monkeypatch.setitem(backbones.IMAGENET_NETWORKS, "densenet121", lambda **options: source)
    model = tiny()
    report = backbones.load_weights(model, "densenet121", "imagenet")
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
        classifier = np.broadcast_to(np.float32(0), backbones.CLASSIFIER_KERNELS[layer])
        steps = tuple(slice(None, None, step) for step in backbones.SSD_STEPS[layer])
        assert classifier[steps].shape == shape
    assert np.prod(backbones.CLASSIFIER_KERNELS["fc6"]) == 25088 * 4096


def small_classifier(monkeypatch, path):
    """A file of VGG-16 at 1/64 of its width, classifier included: fc1 of 64, fc2 of 64 units."""
    monkeypatch.setattr(
        backbones, "CLASSIFIER_KERNELS", {"fc6": (7, 7, 8, 64), "fc7": (1, 1, 64, 64)}
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
    report = backbones.load_weights(model, "vgg16", tmp_path / "vgg16.h5")
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
    report = backbones.load_weights(backbones.resnet50(16), "resnet50", WEIGHTS)
    # Convolutions with batch normalization have 2 + 4 tensors: conv1 1, then stages of 3, 4, 6
    # and 3 blocks of three each, and a projection a stage.
    assert len(report.loaded) == 6 * (1 + (3 * 3 + 1) + (4 * 3 + 1) + (6 * 3 + 1))
    assert len(report.skipped) == 6 * (3 * 3 + 1)
    assert all(path.startswith("conv5") for path in report.skipped)
