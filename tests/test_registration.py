"""Saved models load after `import kerasdense`, in whatever order and from whatever module."""

import json
import os
import re
import subprocess
import sys
import zipfile

import keras
import pytest
import small_models
from conftest import REPOSITORY

import kerasdense
from kerasdense.models import ladder_densenet
from kerasdense.models.losses import multi_label_loss
from kerasdense.training import optimizers

PACKAGE = REPOSITORY / "kerasdense"
LOAD = """
import sys
loaded = [keras.models.load_model(path) for path in sys.argv[1:]]
print(*[model.name for model in loaded], type(loaded[-1].optimizer).__name__)
"""
# One of each module, as the first runs have them in their files.
NAMES = ("ResizeLike", "MeanIoU", "multi_label_loss", "TwoRates")
ORDERS = {
    "keras first": "import keras, kerasdense",
    "kerasdense first": "import kerasdense, keras",
    # Modules that are not done with their own imports when Keras is there.
    "by a metric": "import kerasdense.metrics.mean_iou, keras",
    "by an optimizer": "import kerasdense.training.optimizers, keras",
    "by a gradient": "import kerasdense.explain.gradients, keras",
    "by a model": "from kerasdense.models.layers import ResizeLike; import keras",
}


def python(code, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment,
        capture_output=True, text=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A ladder, an SSD, and a compiled model with all else that is registered."""
    folder = tmp_path_factory.mktemp("saved")
    keras.utils.set_random_seed(0)
    ladder = ladder_densenet((1, 1, 1, 1), num_classes=3)
    ladder.save(folder / "ladder.keras")
    small_models.small_detector().save(folder / "ssd.keras")
    model = small_models.small_classifier()
    names = {variable.path for variable in model.trainable_variables[:2]}
    optimizer = optimizers.grouped(
        model, lambda slow: keras.optimizers.SGD(0.1, global_clipnorm=1.0), names
    )
    model.compile(optimizer, multi_label_loss)
    model.save(folder / "last.keras")
    return [folder / f"{name}.keras" for name in ("ladder", "ssd", "last")]


@pytest.mark.parametrize("order", ORDERS)
def test_all_names_are_known_in_any_order(order):
    pytest.importorskip("jax")  # with which Keras is imported in a second, without TensorFlow
    names = "print(*keras.saving.get_custom_objects())"
    done = python(f"{ORDERS[order]}; {names}", KERAS_BACKEND="jax")
    assert done.returncode == 0, done.stderr
    assert {f"kerasdense>{name}" for name in NAMES} <= set(done.stdout.split())


@pytest.mark.slow
@pytest.mark.parametrize("order", ["keras first", "kerasdense first"])
def test_a_fresh_python_loads_saved_models(files, order):
    done = python(ORDERS[order] + LOAD, *files)
    assert done.returncode == 0, done.stderr
    *names, optimizer = done.stdout.split()
    assert names == ["ladder_densenet", "ssd300", "small_classifier"] and optimizer == "TwoRates"


def test_a_name_is_enough_wherever_its_module_went(files, tmp_path):
    moved = tmp_path / "moved.keras"
    with zipfile.ZipFile(files[0]) as old, zipfile.ZipFile(moved, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                text = re.sub(r'"kerasdense\.[\w.]+"', '"kerasdense.gone"', content.decode())
                assert json.loads(text) and text.count("kerasdense.gone") > 1
                content = text.encode()
            new.writestr(name, content)
    assert keras.models.load_model(moved).count_params() > 0


@pytest.mark.slow
def test_without_kerasdense_the_file_is_refused(files):
    done = python("import keras" + LOAD, files[0])
    assert done.returncode == 1 and "kerasdense" in done.stderr


def test_importing_it_alone_loads_nothing_heavy():
    done = python(
        "import kerasdense, sys; names = {name.split('.')[0] for name in sys.modules}; "
        "print({'keras', 'tensorflow', 'numpy', 'jax'} & names)"
    )
    assert done.stdout == "set()\n", done.stderr


def test_where_there_is_no_keras_nothing_more_is_needed(tmp_path):
    hidden = (
        "import importlib.util as util, sys; find = util.find_spec; "
        "util.find_spec = lambda name, *rest: None if name == 'keras' else find(name, *rest); "
        "sys.modules['wrapt'] = None; import kerasdense.export.predictor"
    )
    done = python(hidden)
    assert done.returncode == 0, done.stderr


def test_every_module_that_registers_is_named():
    found = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for path in PACKAGE.rglob("*.py")
        if "@keras.saving.register_keras_serializable" in path.read_text()
    }
    assert set(kerasdense.REGISTERING) == found
