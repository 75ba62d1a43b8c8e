"""Models and `training.fit` run under the JAX backend on a machine without TensorFlow."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import sys

class NoTensorFlow:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tensorflow":
            raise ImportError("tensorflow is blocked in this test")

sys.meta_path.insert(0, NoTensorFlow())

import keras
import numpy as np

from kerasdense.anchors import anchors_of
from kerasdense.losses import (
    MultiboxLoss,
    confidence_loss,
    localization_loss,
    multi_label_loss,
    positives,
)
from kerasdense.models import (
    densenet_classifier,
    fcn_resnet50,
    fcn_vgg16,
    ladder_densenet,
    ssd300,
)

assert keras.backend.backend() == "jax"
models = [
    ladder_densenet((1, 1, 1, 1), num_classes=3),
    fcn_resnet50(3, output_stride=16, skips=(8,), weights=None),
    fcn_vgg16(3, skips=(16, 8), weights=None, fc_width=8),
]
rng = np.random.default_rng(0)
for model in models:
    images = rng.integers(0, 256, (1, 97, 131, 3), "uint8")
    assert model.predict_on_batch(images).shape == (1, 97, 131, 3)
    model.compile(
        keras.optimizers.SGD(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255),
    )
    images = rng.integers(0, 256, (2, 64, 64, 3), "uint8")
    before = keras.ops.convert_to_numpy(model.get_layer("score").kernel)
    loss = model.train_on_batch(images, rng.integers(0, 3, (2, 64, 64), "uint8"))
    assert np.isfinite(loss)
    assert np.any(keras.ops.convert_to_numpy(model.get_layer("score").kernel) != before)

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
before = keras.ops.convert_to_numpy(model.get_layer("head1_classes").kernel)
logs = model.train_on_batch(images, targets, return_dict=True)
assert np.isfinite(logs["loss"]) and logs["positives"] == 10
# Mined as by sorting: the loss of the first prediction, from its definition.
logits = raw[..., :-4] - np.log(np.exp(raw[..., :-4]).sum(-1, keepdims=True))
hardest = np.sort(-np.delete(logits[0, :, 0], range(100, 120)))[-60:]
expected = (hardest.sum() - logits[0, 100:120, 2].sum()) / 20
np.testing.assert_allclose(logs["confidence_loss"], expected, rtol=1e-3)
assert np.any(keras.ops.convert_to_numpy(model.get_layer("head1_classes").kernel) != before)

model = densenet_classifier((1, 1, 1, 1), num_classes=3)
images = rng.integers(0, 256, (2, 97, 131, 3), "uint8")
assert model.predict_on_batch(images).shape == (2, 3)
model.compile(keras.optimizers.SGD(1e-3), multi_label_loss)
before = model.get_layer("logits").get_weights()
logits = keras.ops.convert_to_numpy(model(images, training=True))
loss = model.train_on_batch(images, np.float32([[1, 0, -1], [0, -1, 0]]))
counted = np.logaddexp(0, logits) - np.float32([[1, 0, 0], [0, 0, 0]]) * logits
np.testing.assert_allclose(loss, counted[[0, 0, 1, 1], [0, 1, 0, 2]].mean(), rtol=1e-3)
assert np.any(model.get_layer("logits").get_weights()[0] != before[0])

assert not any(name.split(".")[0] == "tensorflow" for name in sys.modules)
print("all models trained")
"""

FIT_SCRIPT = """
import sys

sys.modules["tensorflow"] = None

import keras
import numpy as np

from kerasdense import training
from kerasdense.adversarial_training import AdversarialExamples
from kerasdense.backbones import WeightsReport
from kerasdense.layers import ImageNetPreprocessing, ResizeLike

CLASS_NAMES, PALETTE = ["dark", "bright"], [[0, 0, 0], [9, 9, 9]]

class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        labels = np.random.default_rng(index).integers(0, 2, (2, 64, 64), "uint8")
        return np.repeat(labels[..., None] * 200, 3, axis=-1), labels

def endless(first_step):
    step = first_step
    while True:
        yield Batches()[step % 3]
        step += 1

def model():
    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    x = ImageNetPreprocessing("torch")(images)
    x = keras.layers.Conv2D(2, 3, strides=2)(x)
    x = keras.layers.BatchNormalization()(x)
    return keras.Model(images, ResizeLike(name="logits")([x, images]))

def fit(workdir, epochs, adversarial=None):
    return training.fit(
        training.segmentation_task(CLASS_NAMES, PALETTE, Batches()),
        lambda: (model(), WeightsReport()),
        lambda is_pretrained: keras.optimizers.Adam(1e-3),
        endless,
        Batches(),
        workdir,
        run={
            "model": {"name": "tiny"},
            "arguments": {},
            "dataset": {"class_names": CLASS_NAMES, "palette": PALETTE},
        },
        epochs=epochs,
        steps_per_epoch=2,
        adversarial=adversarial,
    )

fit(sys.argv[1], 1)
fit(sys.argv[1], 2)  # resumes
fit(sys.argv[1] + "_hardened", 1, AdversarialExamples(steps=2, epsilon=4))
"""


def run_on_jax(script, *arguments):
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    result = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed"),
]


def test_models_train_on_jax_without_tensorflow():
    assert "all models trained" in run_on_jax(SCRIPT)


def test_a_run_is_fitted_and_resumed_on_jax_without_tensorflow(tmp_path):
    printed = run_on_jax(FIT_SCRIPT, tmp_path / "run")
    assert "writes no TensorBoard logs" in printed and "resuming" in printed
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
