"""Networks of the published size, built once and only read."""

import functools

import keras
import pytest
from small_models import randomize

from kerasdense.models import ladder_densenet121


@pytest.fixture(scope="session")
def ladder121():
    """`(output stride, prediction stride) -> LadderDenseNet-121` for 19 classes."""
    return functools.cache(lambda *strides: ladder_densenet121(19, *strides, weights=None))


@pytest.fixture(scope="session")
def keras_densenet121():
    """DenseNet-121 of keras.applications with random weights, to the means of its features."""
    network = keras.applications.DenseNet121(include_top=False, weights=None, pooling="avg")
    return randomize(network, seed=3)
