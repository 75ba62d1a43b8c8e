"""Weights of torchvision: the model that takes them computes what the published network does."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasdense.models import ssd300, torchvision

NUM_CLASSES = 3  # without background
MEAN = (123.0, 117.0, 104.0)  # red, green, blue
ANCHORS = (4, 6, 6, 6, 4, 4)


def shapes(num_classes):
    """{name: shape} of the state dict of torchvision's ssd300_vgg16."""
    features = {
        0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128), 12: (256, 256),
        14: (256, 256), 17: (512, 256), 19: (512, 512), 21: (512, 512),
    }  # fmt: skip
    kernels = {f"backbone.features.{n}": (*shape, 3, 3) for n, shape in features.items()}
    kernels |= {f"backbone.extra.0.{n}": (512, 512, 3, 3) for n in (1, 3, 5)}
    kernels["backbone.extra.0.7.1"] = (1024, 512, 3, 3)
    kernels["backbone.extra.0.7.3"] = (1024, 1024, 1, 1)
    extras = ((1024, 256, 512), (512, 128, 256), (256, 128, 256), (256, 128, 256))
    for n, (source, reduced, filters) in enumerate(extras, start=1):
        kernels[f"backbone.extra.{n}.0"] = (reduced, source, 1, 1)
        kernels[f"backbone.extra.{n}.2"] = (filters, reduced, 3, 3)
    for n, (width, k) in enumerate(zip((512, 1024, 512, 256, 256, 256), ANCHORS)):
        rows = {"classification": k * (num_classes + 1), "regression": 4 * k}
        for head, count in rows.items():
            kernels[f"head.{head}_head.module_list.{n}"] = (count, width, 3, 3)
    found = {"backbone.scale_weight": (512,)}
    for name, shape in kernels.items():
        found |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return found


def random_state(num_classes):
    """Random weights, of a size that keeps activations of order 1, and predictions of order 3."""
    rng = np.random.default_rng(0)
    state = {}
    for name, shape in shapes(num_classes).items():
        value = rng.standard_normal(shape, np.float32)
        if name.endswith("weight") and len(shape) == 4:
            gain = 3.0 if name.startswith("head") else 2**0.5
            value *= gain / np.float32(np.prod(shape[1:])) ** 0.5
        if name == "backbone.features.0.weight":
            value /= 70  # the deviation of the input
        if name == "backbone.scale_weight":
            value += 20
        state[name] = value
    return state


def published_network(state, images):
    """The raw output of the published network, restated: images uint8 [B, 300, 300, 3], RGB."""

    def convolve(x, name, stride=1, padding=0, dilation=1):
        x = tf.pad(x, [[0, 0], [padding] * 2, [padding] * 2, [0, 0]])
        kernel = np.moveaxis(state[f"{name}.weight"], (0, 1), (3, 2))  # [out, in, h, w] before
        x = tf.nn.conv2d(x, kernel, stride, "VALID", dilations=dilation)
        return x + state[f"{name}.bias"]

    x = tf.cast(images, tf.float32) - np.array(MEAN, np.float32)
    for n in (0, 2, "pool", 5, 7, "pool", 10, 12, 14, "pool", 17, 19, 21):
        if n == "pool":
            x = tf.nn.max_pool2d(x, 2, 2, "SAME")  # an odd row is a pool of its own
        else:
            x = tf.nn.relu(convolve(x, f"backbone.features.{n}", padding=1))
    norm = tf.sqrt(tf.reduce_sum(x**2, axis=-1, keepdims=True))
    levels = [x / tf.maximum(norm, 1e-12) * state["backbone.scale_weight"]]
    x = tf.nn.max_pool2d(x, 2, 2, "VALID")
    for n in (1, 3, 5):
        x = tf.nn.relu(convolve(x, f"backbone.extra.0.{n}", padding=1))
    x = tf.nn.max_pool2d(x, 3, 1, "SAME")
    x = tf.nn.relu(convolve(x, "backbone.extra.0.7.1", padding=6, dilation=6))
    levels.append(tf.nn.relu(convolve(x, "backbone.extra.0.7.3")))
    for n in (1, 2, 3, 4):
        x = tf.nn.relu(convolve(levels[-1], f"backbone.extra.{n}.0"))
        options = {"stride": 2, "padding": 1} if n < 3 else {}
        levels.append(tf.nn.relu(convolve(x, f"backbone.extra.{n}.2", **options)))
    rows = []
    for n, x in enumerate(levels):
        count = x.shape[1] * x.shape[2] * ANCHORS[n]
        parts = [  # a cell's channels are those of its anchors, one by one
            tf.reshape(
                convolve(x, f"head.{head}_head.module_list.{n}", padding=1),
                (len(images), count, -1),
            )
            for head in ("classification", "regression")
        ]
        rows.append(tf.concat(parts, axis=2))
    return tf.concat(rows, axis=1).numpy()


@pytest.mark.slow
def test_the_model_computes_what_the_published_network_does():
    state = random_state(NUM_CLASSES)
    assert torchvision.count_classes(state, "state.pth") == NUM_CLASSES
    model = ssd300(NUM_CLASSES, weights=None, **torchvision.SSD300_ARGUMENTS)
    torchvision.set_weights(model, state, "state.pth")
    # Coarse patterns, so that all levels see something.
    images = np.random.default_rng(0).integers(0, 256, (2, 12, 12, 3), "uint8")
    images = images.repeat(25, axis=1).repeat(25, axis=2)
    raw = model.predict_on_batch(images)
    expected = published_network(state, images)
    assert raw.shape == expected.shape == (2, 8732, NUM_CLASSES + 1 + 4)
    # Of order 1 to 10 on every level, so that an absolute 1e-3 is a strict test of each.
    for first, last in ((0, 5776), (5776, 7942), (7942, 8542), (8542, 8692), (8692, 8732)):
        assert 0.5 < np.sqrt(np.mean(expected[:, first:last] ** 2)) < 20
    np.testing.assert_allclose(raw, expected, rtol=0, atol=1e-3)


@pytest.fixture(scope="module")
def fitting():
    """A model of one class, and a state dict that fits it."""
    model = ssd300(1, weights=None, **torchvision.SSD300_ARGUMENTS)
    state = {name: np.zeros(shape, np.float32) for name, shape in shapes(1).items()}
    assert len(state) == 71 == len(model.weights)  # 35 convolutions and the scales
    return model, state


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda state: state.pop("backbone.scale_weight"), "backbone.scale_weight is missing."),
        (
            lambda state: [state.pop(name) for name in [*state] if "extra" in name],
            "backbone.extra.0.1.weight is missing; backbone.extra.0.1.bias is missing; "
            "backbone.extra.0.3.weight is missing, and 23 more.",
        ),
        (
            lambda state: state.update({"backbone.extra.1.0.weight": np.zeros((256, 512, 1, 1))}),
            "backbone.extra.1.0.weight is (256, 512, 1, 1), expected (256, 1024, 1, 1).",
        ),
        (
            lambda state: state.update({"backbone.extra.1.0.bias": np.zeros(512)}),
            "backbone.extra.1.0.bias is (512,), expected (256,).",
        ),
        (lambda state: state.update({"fc.weight": np.zeros(1)}), "fc.weight is unknown."),
    ],
)
def test_all_weights_are_set_or_none(fitting, change, message):
    model, state = fitting
    before = [keras.ops.convert_to_numpy(each) for each in model.get_layer("fc6").weights]
    assert before[0].any()
    changed = dict(state)
    change(changed)
    with pytest.raises(ValueError) as error:
        torchvision.set_weights(model, changed, "a/state.pth")
    assert str(error.value) == f"a/state.pth does not fit torchvision's ssd300_vgg16: {message}"
    for value, variable in zip(before, model.get_layer("fc6").weights):
        np.testing.assert_array_equal(value, variable)


@pytest.mark.parametrize("outputs", [None, 0, 4, 9])
def test_another_network_is_named(outputs):
    state = {f"layer{n}.weight": np.zeros(1) for n in range(9)}
    if outputs is not None:
        state[torchvision.FIRST_HEAD] = np.zeros(outputs)
    with pytest.raises(ValueError, match="state.pth is no state dict of torchvision's ssd300_vgg1"):
        torchvision.count_classes(state, "state.pth")


def test_the_names_of_coco():
    names = torchvision.class_names(90)
    assert len(names) == len(set(names)) == 90
    # 80 categories have the ids 1 to 90; these ten ids are not used.
    unused = [12, 26, 29, 30, 45, 66, 68, 69, 71, 83]
    assert [index + 1 for index, name in enumerate(names) if name.startswith("unused")] == unused
    assert (names[0], names[16], names[89]) == ("person", "cat", "toothbrush")
    assert torchvision.class_names(2) == ["class_1", "class_2"]
