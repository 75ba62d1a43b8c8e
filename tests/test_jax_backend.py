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

from kerasdense.models import fcn_resnet50, fcn_vgg16, ladder_densenet

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
assert not any(name.split(".")[0] == "tensorflow" for name in sys.modules)
print("all models trained")
"""

FIT_SCRIPT = """
import sys

sys.modules["tensorflow"] = None

import keras
import numpy as np

from kerasdense import training
from kerasdense.backbones import WeightsReport
from kerasdense.layers import ImageNetPreprocessing, ResizeLike

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

def fit(epochs):
    return training.fit(
        lambda: (model(), WeightsReport()),
        lambda is_pretrained: keras.optimizers.Adam(1e-3),
        endless,
        Batches(),
        sys.argv[1],
        run={
            "model": {"name": "tiny"},
            "arguments": {},
            "dataset": {"class_names": ["dark", "bright"], "palette": [[0, 0, 0], [9, 9, 9]]},
        },
        epochs=epochs,
        steps_per_epoch=2,
    )

fit(1)
fit(2)  # resumes
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
