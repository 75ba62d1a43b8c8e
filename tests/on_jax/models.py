"""Every model predicts and takes a training step on JAX."""

import keras
import numpy as np

from kerasdense import tasks
from kerasdense.models import (
    densenet_classifier,
    fc_densenet,
    fcn_resnet50,
    fcn_vgg16,
    ladder_densenet,
    ssd300,
)
from kerasdense.models.losses import (
    MultiboxLoss,
    confidence_loss,
    localization_loss,
    multi_label_loss,
    positives,
)
from kerasdense.models.ssd import anchors_of

rng = np.random.default_rng(0)


def drawn(self, shape, dtype=None, **options):
    return np.float32(rng.normal(0, np.prod(shape[:-1]) ** -0.5, shape))


# Drawn by JAX, the weights of each shape would be a program to compile: a minute in all.
keras.initializers.VarianceScaling.__call__ = drawn


def arrays(model):
    return [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]


def assert_trained(model, before):
    """Every kernel is finite and other than before."""
    after = arrays(model)
    assert all(np.isfinite(each).all() for each in after)
    for variable, old, new in zip(model.trainable_variables, before, after, strict=True):
        assert variable.name != "kernel" or np.any(old != new), variable.path


for model in (
    ladder_densenet((1, 1, 1, 1), num_classes=3),
    fcn_resnet50(3, output_stride=16, skips=(8,), weights=None),
    fcn_vgg16(
        3, skips=(16, 8), weights=None, fc_width=8, upsampling="learned", skip_fusion="concat"
    ),
    fc_densenet(3, layers=(1, 1), growth_rate=4, first_channels=8),
):
    images = rng.integers(0, 256, (1, 97, 131, 3), "uint8")
    assert model.predict_on_batch(images).shape == (1, 97, 131, 3)
    model.compile(
        keras.optimizers.SGD(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255),
    )
    images = rng.integers(0, 256, (2, 64, 64, 3), "uint8")
    before = arrays(model)
    assert np.isfinite(model.train_on_batch(images, rng.integers(0, 3, (2, 64, 64), "uint8")))
    assert_trained(model, before)

# The ladder of 2020: its split, grids and sums, and a loss at every step.
design = {"output_stride": 64, "pyramid": (4, 1), "blend": "sum", "auxiliary": True}
model = ladder_densenet((1, 1, 2, 1), num_classes=3, **design)
outputs = model.predict_on_batch(rng.integers(0, 256, (1, 97, 131, 3), "uint8"))
assert outputs["logits"].shape == (1, 97, 131, 3) and len(outputs) == 5
task = tasks.named("segmentation")(["a", "b", "c"], [[0, 0, 0]] * 3)
model.compile(keras.optimizers.SGD(1e-3), **task.compile_arguments(model))
images = rng.integers(0, 256, (2, 128, 192, 3), "uint8")
masks = dict.fromkeys(outputs, rng.integers(0, 3, (2, 128, 192), "uint8"))
before = arrays(model)
assert np.isfinite(model.train_on_batch(images, masks)).all()
assert_trained(model, before)

model = ssd300(3, weights=None, width=1 / 64)
images = rng.integers(0, 256, (2, 300, 300, 3), "uint8")
raw = model.predict_on_batch(images)
assert raw.shape == (2, 8732, 8) and raw.dtype == "float32"
assert anchors_of(model).shape == (8732, 4)
model.compile(
    keras.optimizers.SGD(1e-3),
    MultiboxLoss(),
    metrics=[confidence_loss, localization_loss, positives],
)
targets = np.zeros((2, 8732, 5), "float32")  # the second image holds no object
targets[0, 100:120, 0], targets[0, 100:120, 1:] = 2, 0.5
before = arrays(model)
logs = model.train_on_batch(images, targets, return_dict=True)
assert np.isfinite(logs["loss"]) and logs["positives"] == 10
# Mined as by sorting: the loss of the first prediction, from its definition.
logits = raw[..., :-4] - np.log(np.exp(raw[..., :-4]).sum(-1, keepdims=True))
hardest = np.sort(-np.delete(logits[0, :, 0], range(100, 120)))[-60:]
expected = (hardest.sum() - logits[0, 100:120, 2].sum()) / 20
np.testing.assert_allclose(logs["confidence_loss"], expected, rtol=1e-3)
after = dict(zip((variable.path for variable in model.trainable_variables), arrays(model)))
assert all(np.isfinite(each).all() for each in after.values())
old = dict(zip(after, before))
for name in ("block1_conv1", "head1_classes", "head1_boxes"):  # what the objects' anchors are of
    assert np.any(after[f"{name}/kernel"] != old[f"{name}/kernel"]), name

model = densenet_classifier((1, 1, 1, 1), num_classes=3)
images = rng.integers(0, 256, (2, 97, 131, 3), "uint8")
assert model.predict_on_batch(images).shape == (2, 3)
model.compile(keras.optimizers.SGD(1e-3), multi_label_loss)
before = arrays(model)
logits = keras.ops.convert_to_numpy(model(images, training=True))
loss = model.train_on_batch(images, np.float32([[1, 0, -1], [0, -1, 0]]))
counted = np.logaddexp(0, logits) - np.float32([[1, 0, 0], [0, 0, 0]]) * logits
np.testing.assert_allclose(loss, counted[[0, 0, 1, 1], [0, 1, 0, 2]].mean(), rtol=1e-3)
assert_trained(model, before)
