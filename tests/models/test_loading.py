"""A model by the name of its function, or by its file."""

import numpy as np
import pytest
from small_models import pictures, small_model

from kerasdense import models
from kerasdense.models.loading import load_model


def test_a_model_by_its_function():
    model = load_model("ladder_densenet", blocks=(1, 1, 1, 1), num_classes=3)
    assert model.name == "ladder_densenet" and model.output.shape[-1] == 3
    assert all(callable(getattr(models, name)) for name in models.__all__)


def test_a_model_by_its_file(tmp_path):
    model = small_model()
    model.compile("sgd", "mse")
    model.save(tmp_path / "model.keras")
    loaded = load_model(str(tmp_path / "model.keras"))
    images = pictures(1, 64, 66)
    np.testing.assert_array_equal(loaded(images), model(images))
    assert not loaded.compiled


def test_mistakes_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file .*absent.keras"):
        load_model(str(tmp_path / "absent.keras"))
    with pytest.raises(
        ValueError, match="no model 'unet'. Expected a .keras file or one of: .*fcn"
    ):
        load_model("unet")
    words = "unexpected keyword argument 'colour'.*help.kerasdense.models.ladder_densenet"
    with pytest.raises(ValueError, match=words):
        load_model("ladder_densenet", blocks=(1, 1, 1, 1), colour=3)
    with pytest.raises(ValueError, match="missing 1 required .* 'blocks'"):
        load_model("ladder_densenet")
