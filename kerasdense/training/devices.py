"""What a run computes on, and with which versions."""

from importlib import metadata

import keras

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


def versions():
    """Versions of Python packages that decide a run's numbers, as a dict."""
    found = {"backend": keras.backend.backend()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue  # not installed: nothing to report
    return found
