"""A model fitted once for all tests of attacks."""

import keras
import numpy as np
import pytest
from attacks.by_hand import blobs, predicted


@pytest.fixture(scope="session")
def trained():
    """A model fitted to `blobs`, and images that it has not seen."""
    keras.utils.set_random_seed(0)
    images = keras.Input((None, None, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 32, offset=-4)(images)
    for _ in range(2):
        x = keras.layers.Conv2D(12, 5, padding="same", activation="relu")(x)
    model = keras.Model(images, keras.layers.Conv2D(3, 1)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss, metrics=["accuracy"])
    model.fit(*blobs(64, seed=1), batch_size=8, epochs=6, verbose=0)
    images, labels = blobs(8, seed=2)
    assert np.mean(predicted(model, images) == labels) > 0.9
    return model, images, labels
