"""What a run computes on, and with which versions."""

import keras
import pytest

from kerasdense import __version__
from kerasdense.training import devices


@pytest.mark.parametrize("there, found", [(["cpu:0"], False), (["gpu:0", "gpu:1"], True)])
def test_gpus(there, found, monkeypatch):
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: there)
    assert devices.has_gpu() == devices.uses_xla("auto") == found
    assert devices.uses_xla("on") and not devices.uses_xla("off")


def test_jax_compiles_on_cpus_too(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert devices.uses_xla("auto") and not devices.uses_xla("off")


def test_versions(monkeypatch):
    found = devices.versions()
    assert found["keras"] == keras.__version__ and found["kerasdense"] == __version__
    assert found["backend"] == "tensorflow"
    monkeypatch.setattr(devices, "PACKAGES", ("keras", "no such package"))
    assert set(devices.versions()) == {"backend", "keras"}
