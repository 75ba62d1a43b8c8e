"""A run is fitted, resumed, and hardened on JAX, also with auxiliary logits."""

import contextlib
import io
import itertools
import json
import tempfile
from pathlib import Path

import keras
import numpy as np

from kerasdense import tasks
from kerasdense.models.layers import ImageNetPreprocessing, ResizeLike
from kerasdense.models.weights import WeightsReport
from kerasdense.training import fitting
from kerasdense.training.adversarial import AdversarialExamples
from kerasdense.training.run_folder import load_run

DATASET = {"class_names": ["dark", "bright"], "palette": [[0, 0, 0], [9, 9, 9]]}


def batch(index):
    labels = np.random.default_rng(index).integers(0, 2, (2, 64, 64), "uint8")
    return np.repeat(labels[..., None] * 200, 3, axis=-1), labels


def train_batches(model, first_step):
    return (batch(step % 3) for step in itertools.count(first_step))


def validation(model):
    return [dict(zip(("image", "mask"), batch(index))) for index in range(3)]


def build_model(auxiliary=False):
    keras.utils.set_random_seed(0)
    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    x = ImageNetPreprocessing("torch")(images)
    x = keras.layers.Conv2D(2, 3, strides=2)(x)
    x = keras.layers.BatchNormalization()(x)
    logits = ResizeLike(name="logits")([x, images])
    both = {"logits": logits, "auxiliary_logits": -logits}
    return keras.Model(images, both if auxiliary else logits), WeightsReport()


def weights():
    return [keras.ops.convert_to_numpy(each) for each in build_model()[0].trainable_variables]


def fit(workdir, epochs, adversarial=None, build=build_model):
    """The weights after it, and what it printed."""
    schedule = fitting.Schedule(
        epochs, 2, lambda is_pretrained: keras.optimizers.Adam(1e-3), adversarial=adversarial
    )
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        model = fitting.fit(
            tasks.named("segmentation")(**DATASET),
            build,
            fitting.Data(train_batches, validation),
            schedule,
            workdir,
            {"model": {"name": "tiny"}, "arguments": {}, "dataset": DATASET},
        )
    found = [keras.ops.convert_to_numpy(each) for each in model.trainable_variables]
    assert all(np.isfinite(each).all() for each in found)
    return found, printed.getvalue()


def differ(some, others):
    return any(np.any(a != b) for a, b in zip(some, others, strict=True))


with tempfile.TemporaryDirectory() as place:
    folder = Path(place, "run")
    first, printed = fit(folder, 1)
    assert "writes no TensorBoard logs" in printed and differ(first, weights())
    second, printed = fit(folder, 2)
    assert f"resuming {folder} after epoch 1 of 2" in printed and differ(second, first)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert all(0 <= line["val_mean_iou"] <= 1 for line in lines)
    model, facts = load_run(folder)
    assert facts["versions"]["backend"] == "jax"
    assert model.predict_on_batch(batch(0)[0]).shape == (2, 64, 64, 2)
    # The same steps on images that each makes harder end elsewhere.
    hardened, printed = fit(Path(place, "hardened"), 1, AdversarialExamples(steps=2, epsilon=4))
    assert "up to 4 gray levels in 2 step(s)" in printed and differ(hardened, first)
    both, _ = fit(Path(place, "auxiliary"), 1, build=lambda: build_model(auxiliary=True))
    assert differ(both, weights())
