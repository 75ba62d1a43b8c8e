"""What a run computes on, and with which versions."""

import re
from importlib import metadata

import keras

from kerasdense.export import processor

PACKAGES = ("kerasdense", "keras", "tensorflow", "tensorflow-cpu", "jax", "numpy")


def has_gpu():
    """Whether the Keras backend sees a GPU."""
    # Not list_devices("gpu"): where there is none, JAX raises.
    return any(device.startswith("gpu") for device in keras.distribution.list_devices())


def uses_xla(xla):
    """Whether "auto", "on" or "off" means XLA here: auto does on GPUs, and under JAX.

    JAX without it computes operation by operation.
    """
    if xla == "auto":
        return has_gpu() or keras.backend.backend() == "jax"
    return xla == "on"


def policy(precision, xla=False):
    """The dtype policy of Keras for "auto", which is told with its reason, or another precision.

    `xla`: whether XLA is to compile.
    """
    if precision != "auto":
        return precision
    found, why = best_policy(xla)
    print(f"precision {found}: {why}")
    return found


def computing(precision):
    """What all of a fitted network is to compute in, such as "bfloat16"; "auto" as of `policy`."""
    if precision != "auto":
        return precision
    found, why = best_policy()
    found = found.removeprefix("mixed_")
    print(f"precision {found}: {why}")
    return found


def best_policy(xla=False):
    """The dtype policy that trains best on this machine: (name, why); `xla`: compiled by it."""
    if has_gpu():
        return _policy_of_gpu(_compute_capability())
    if any(device.startswith("tpu") for device in keras.distribution.list_devices()):
        return "mixed_bfloat16", "TPUs multiply bfloat16"
    if keras.backend.backend() == "jax":
        return "float32", "JAX computes bfloat16 on processors no faster"
    if xla:
        return "float32", "XLA computes bfloat16 on processors no faster"
    found, why = processor.best_precision()
    return ("mixed_bfloat16" if found == "bfloat16" else found), why


def _policy_of_gpu(capability):
    """By NVIDIA's table: tensor cores take float16 from 7.0 on, bfloat16 from 8.0 on."""
    if capability is None:
        return "float32", "this GPU does not tell what it can"
    name = "mixed_bfloat16" if capability >= 8.0 else "mixed_float16"
    return (name if capability >= 7.0 else "float32"), (
        f"this GPU has compute capability {capability:g}"
    )


def _compute_capability():
    """Of the first GPU, such as 8.6; None of others than NVIDIA's."""
    if keras.backend.backend() == "jax":
        import jax

        capability = str(getattr(jax.devices("gpu")[0], "compute_capability", ""))
        return float(capability) if re.fullmatch(r"\d+\.\d+", capability) else None
    import tensorflow as tf

    gpu = tf.config.list_physical_devices("GPU")[0]
    capability = tf.config.experimental.get_device_details(gpu).get("compute_capability")
    return capability and capability[0] + capability[1] / 10


def versions():
    """Versions of Python packages that decide a run's numbers, as a dict."""
    found = {"backend": keras.backend.backend()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue  # not installed: nothing to report
    return found
