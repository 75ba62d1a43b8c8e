"""What a run computes on, and with which versions."""

import keras
import pytest

from kerasdense import __version__
from kerasdense.export import processor
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


@pytest.mark.parametrize(
    "capability, policy",
    [(None, "float32"), (6.1, "float32"), (7.5, "mixed_float16"), (8.0, "mixed_bfloat16")],
)
def test_a_gpu_s_policy_is_that_of_its_tensor_cores(capability, policy, monkeypatch):
    monkeypatch.setattr(devices, "has_gpu", lambda: True)
    monkeypatch.setattr(devices, "_compute_capability", lambda: capability)
    found, why = devices.best_policy()
    assert found == policy and (str(capability) in why or capability in (None, 8.0))


@pytest.mark.parametrize("backend, policy", [("tensorflow", "mixed_bfloat16"), ("jax", "float32")])
def test_a_processor_s_policy_is_that_of_its_instructions(backend, policy, monkeypatch, capsys):
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    monkeypatch.setattr(processor, "best_precision", lambda: ("bfloat16", "it has AMX"))
    assert devices.policy("auto") == policy
    assert capsys.readouterr().out.startswith(f"precision {policy}: ")
    # All of a fitted network computes in it, while training keeps weights in float32.
    assert devices.computing("auto") == policy.removeprefix("mixed_")
    assert capsys.readouterr().out.startswith(f"precision {policy.removeprefix('mixed_')}: ")
    assert devices.policy("mixed_float16") == "mixed_float16"
    assert devices.computing("float16") == "float16"
    assert not capsys.readouterr().out, "what was asked for needs no reason"
    assert devices.policy("auto", xla=True) == "float32", "which only converts"
