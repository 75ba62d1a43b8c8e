"""The models train under the JAX backend on a machine without TensorFlow."""

import importlib.util
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

from kerasdense.models import fcn_resnet50, ladder_densenet

assert keras.backend.backend() == "jax"
models = [
    ladder_densenet((1, 1, 1, 1), num_classes=3),
    fcn_resnet50(3, output_stride=16, skips=(8,), weights=None),
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
print("both models trained")
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_models_train_on_jax_without_tensorflow():
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "both models trained" in result.stdout
