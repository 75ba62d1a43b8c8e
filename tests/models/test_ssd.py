"""SSD300 and SSD512: published sizes, names, first loss, and a step under every precision."""

import itertools

import keras
import numpy as np
import pytest
from conftest import trains
from models.parameters import convolution, vgg16_parameters
from small_models import with_policy

from kerasdense import tasks
from kerasdense.boxes.anchors import encode_targets, ssd300_anchors, ssd512_anchors
from kerasdense.models import ssd300, ssd512
from kerasdense.models.losses import confidence_loss, localization_loss
from kerasdense.models.ssd import anchors_of

SMALL = {"weights": None, "width": 1 / 16}

VGG16 = [f"block{block}_conv{x}" for block in range(1, 6) for x in range(1, 3 if block < 3 else 4)]
POOLS = [f"block{block}_pool" for block in range(1, 6)]


def parameters(channels, anchors, extras, num_classes):
    """Parameters of an SSD from the layer sizes of the paper."""
    total = vgg16_parameters() + 512  # scales of conv4_3
    total += convolution(3, 512, 1024) + convolution(1, 1024, 1024)
    for source, reduced, filters, size in extras:
        total += convolution(1, source, reduced) + convolution(size, reduced, filters)
    for width, k in zip(channels, anchors):
        total += convolution(3, width, k * (num_classes + 1)) + convolution(3, width, 4 * k)
    return total


def images_for(model, count=2, seed=0):
    side = model.input_shape[1]
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), "uint8")


def targets_for(anchors):
    """Two images: one with three objects, one without any."""
    boxes = np.array([[0.1, 0.2, 0.4, 0.5], [0.5, 0.5, 0.9, 0.9], [0.3, 0.1, 0.35, 0.2]], "float32")
    some = encode_targets(boxes, np.array([0, 2, 1]), anchors)
    none = encode_targets(np.zeros((0, 4), "float32"), np.zeros(0, "int64"), anchors)
    return np.stack([some, none])


def targets_of_all_sizes(anchors):
    """As `targets_for`, with objects for each level: its weights would not train without them."""
    sides = np.array([0.04, 0.1, 0.2, 0.26, 0.4, 0.56, 0.72, 0.9], "float32")[:, None]
    boxes = np.concatenate([0 * sides, 0 * sides, sides, sides], axis=1)
    targets = targets_for(anchors)
    targets[0] = encode_targets(boxes, np.arange(len(boxes)) % 3, anchors)
    return targets


@pytest.mark.parametrize("num_classes, published", [(20, 26_285_486), (90, 35_641_826)])
def test_ssd300_has_the_published_layers(num_classes, published):
    model = ssd300(num_classes, weights=None)
    extras = [(1024, 256, 512, 3), (512, 128, 256, 3), (256, 128, 256, 3), (256, 128, 256, 3)]
    expected = parameters((512, 1024, 512, 256, 256, 256), (4, 6, 6, 6, 4, 4), extras, num_classes)
    assert model.count_params() == expected == published
    assert model.output_shape == (None, 8732, num_classes + 5)


def test_ssd512_has_the_published_layers():
    model = ssd512(20, weights=None)
    extras = [
        (1024, 256, 512, 3),
        (512, 128, 256, 3),
        (256, 128, 256, 3),
        (256, 128, 256, 3),
        (256, 128, 256, 4),
    ]
    channels, anchors = (512, 1024, 512, 256, 256, 256, 256), (4, 6, 6, 6, 6, 4, 4)
    assert model.count_params() == parameters(channels, anchors, extras, 20)
    assert model.output_shape == (None, 24564, 25)


@pytest.mark.parametrize(
    "build, extras, pads", [(ssd300, range(6, 10), (6, 7)), (ssd512, range(6, 11), range(6, 11))]
)
def test_names(build, extras, pads):
    model = build(3, **SMALL)
    levels = range(1, len(extras) + 3)
    expected = {"images", "preprocess", *VGG16, *POOLS, "block4_norm", "fc6", "fc7", "raw"}
    expected |= {f"extra{extra}_{x}" for extra in extras for x in (1, 2)}
    expected |= {f"extra{extra}_2_pad" for extra in pads}
    expected |= {f"head{level}_{kind}" for level in levels for kind in ("classes", "boxes")}
    assert {layer.name for layer in model.layers} == expected
    assert model.layers[-1].name == "raw" and model.name == build.__name__


@pytest.mark.parametrize(
    "build, sides", [(ssd300, (38, 19, 10, 5, 3, 1)), (ssd512, (64, 32, 16, 8, 4, 2, 1))]
)
def test_the_levels_have_the_published_sizes(build, sides):
    model = build(3, **SMALL)
    for level, side in enumerate(sides, start=1):
        assert model.get_layer(f"head{level}_boxes").output.shape[1:3] == (side, side)


def test_the_anchors_of_the_first_level_read_the_place_they_are_at():
    """Where the image changes, the anchors whose predictions change most are."""
    keras.utils.set_random_seed(0)
    model = ssd300(3, **SMALL)
    first_level = ssd300_anchors()[:5776]
    plain = np.full((1, 300, 300, 3), 128, "uint8")
    for x, y in ((60, 220), (220, 60), (150, 150)):
        patched = plain.copy()
        patched[:, y - 10 : y + 10, x - 10 : x + 10] = images_for(model)[:1, :20, :20]
        change = np.abs(np.asarray(model(patched)) - np.asarray(model(plain)))[0].sum(axis=-1)
        center = first_level[np.argmax(change[:5776]), :2] * 300
        assert np.all(np.abs(center - [x, y]) < 40)


def test_the_first_loss_is_that_of_guessing():
    """Random weights: features and logits in range, so that SGD at the paper's rate can start."""
    keras.utils.set_random_seed(0)
    model = ssd300(20, weights=None)
    blocks = np.random.default_rng(0).integers(0, 256, (1, 10, 10, 3), "uint8")
    images = np.repeat(np.repeat(blocks, 30, axis=1), 30, axis=2)
    taps = [model.get_layer(name).output for name in ("block1_conv1", "fc7", "extra9_2")]
    *features, raw = keras.Model(model.input, [*taps, model.output])(images)
    for x in features:
        assert 0.1 < np.sqrt(np.mean(np.square(x))) < 5
    logits = np.asarray(raw)[..., :-4]
    assert np.sqrt(np.mean(logits**2)) < 1
    y_true = targets_for(ssd300_anchors())[:1]
    # One positive and three negatives for each matched anchor, all near log(C + 1)
    confidence = float(confidence_loss(y_true, raw)[0])
    assert abs(confidence / 4 - np.log(21)) < 0.5
    assert float(localization_loss(y_true, raw)[0]) < 4  # offsets of order 1, four of them


def test_the_file_round_trip(tmp_path):
    model = ssd300(2, **SMALL)
    images = images_for(model)
    raw = keras.ops.convert_to_numpy(model(images))
    assert raw.dtype == np.float32 and raw.shape == (2, 8732, 7)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(raw, loaded(images))


def test_one_image_does_not_depend_on_the_others():
    model = ssd300(2, **SMALL)
    images = images_for(model, count=3)
    together = np.asarray(model(images))
    np.testing.assert_allclose(np.asarray(model(images[1:2]))[0], together[1], atol=1e-4)


def test_one_class_is_enough():
    model = ssd300(1, weights=None, width=1 / 64)
    assert model.output_shape == (None, 8732, 6)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_classes": 0}, "num_classes: expected an int of at least 1, received 0"),
        ({"num_classes": "20"}, "num_classes: expected an int of at least 1, received '20'"),
        ({"width": 0}, "width: expected a number above 0, received 0"),
        ({"scales": "mot"}, r"scales: expected one of \('voc', 'coco'\), received 'mot'"),
        ({"weights": "absent.h5"}, 'received "absent.h5", which is not a file'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        ssd300(**({"num_classes": 2} | SMALL | arguments))


def test_images_of_another_size_are_refused():
    model = ssd300(1, weights=None, width=1 / 64)
    with pytest.raises(ValueError, match=r"expected shape=\(None, 300, 300, 3\)"):
        model(np.zeros((1, 512, 512, 3), "uint8"))


POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")


@pytest.mark.slow  # every day a tiny one is fitted for the tests of the program
@pytest.mark.parametrize(
    "name, policy, jit_compile",
    [
        *itertools.product(["ssd300"], POLICIES, (False, True)),
        # The same layers and one level more: two are enough.
        ("ssd512", "float32", False),
        ("ssd512", "mixed_float16", True),
    ],
)
def test_trains_a_step(name, policy, jit_compile):
    build, anchors = {
        "ssd300": (ssd300, ssd300_anchors()),
        "ssd512": (ssd512, ssd512_anchors()),
    }[name]
    model = with_policy(policy, build, 3, **SMALL)
    for layer in ("block4_norm", "head1_classes", "head2_boxes", "raw"):
        assert model.get_layer(layer).compute_dtype == "float32"
    arguments = tasks.of_model(model).compile_arguments(model)
    model.compile(keras.optimizers.SGD(1e-3), **arguments, jit_compile=jit_compile)
    targets = targets_of_all_sizes(anchors)
    logs = trains(model, images_for(model), targets)
    np.testing.assert_allclose(
        logs["loss"], logs["confidence_loss"] + logs["localization_loss"], rtol=1e-4
    )
    assert logs["positives"] == np.sum(targets[..., 0] > 0) / 2


def test_a_model_knows_its_anchors(tmp_path):
    model = ssd300(1, weights=None, width=1 / 64, scales="coco", clip_anchors=True)
    np.testing.assert_array_equal(anchors_of(model), ssd300_anchors("coco", clip=True))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(anchors_of(loaded), ssd300_anchors("coco", clip=True))
    np.testing.assert_array_equal(
        anchors_of(ssd512(1, weights=None, width=1 / 64)), ssd512_anchors()
    )


def test_a_model_without_anchors():
    images = keras.Input((8, 8, 3))
    model = keras.Model(images, keras.layers.Flatten()(images), name="flat")
    with pytest.raises(ValueError, match='"flat" has no anchors: expected one built by ssd300'):
        anchors_of(model)
