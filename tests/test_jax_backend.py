"""What runs under the JAX backend, on a machine without TensorFlow: the scripts in on_jax/.

One process runs them all: starting Keras and JAX takes longer than most of them.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kerasdense import tasks

SCRIPTS = sorted(Path(__file__).with_name("on_jax").glob("*.py"))
RUNNER = """
import contextlib, json, runpy, sys, traceback

from importlib.machinery import PathFinder

class WithoutTensorFlow(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name == "tensorflow" else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutTensorFlow

import keras

assert keras.backend.backend() == "jax"
failures = {}
for script in sys.argv[1:]:
    try:
        with contextlib.redirect_stdout(sys.stderr):
            runpy.run_path(script, run_name="__main__")
        failures[script] = None
    except Exception:
        failures[script] = traceback.format_exc()
assert not any(name.split(".")[0] == "tensorflow" for name in sys.modules)
print(json.dumps(failures))
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed"),
]


def test_on_jax_without_tensorflow():
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # which take longer than these steps
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    result = subprocess.run(
        [sys.executable, "-c", RUNNER, *map(str, SCRIPTS)],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    failures = json.loads(result.stdout.splitlines()[-1])
    assert set(failures) == set(map(str, SCRIPTS)) and len(SCRIPTS) >= 2
    assert not any(failures.values()), "\n".join(
        f"{script}:\n{traceback}" for script, traceback in failures.items() if traceback
    )


def test_evaluation_under_jax():
    """Data and average precision are TensorFlow's and NumPy's, the network is Keras' backend's."""
    files = [Path(__file__).parent / "tasks" / f"test_{name}.py" for name in tasks.names()]
    chosen = "(hand or evaluat or images or average or label or finite) and not one_program"
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider",
         "-m", "not slow", "-k", chosen, *map(str, files)],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        cwd=Path(__file__).parents[1], capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    assert int(re.search(r"(\d+) passed", result.stdout)[1]) >= 20
