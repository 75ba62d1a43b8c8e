"""Tasks are found by the names of their files, and by the models they are for."""

import inspect
import subprocess
import sys

import keras
import pytest
from conftest import REPOSITORY
from small_models import BUILD, small_model

from kerasdense import tasks
from kerasdense.tasks.base import Task


def test_names():
    assert tasks.names() == ("classification", "detection", "segmentation")
    for name in tasks.names():
        assert issubclass(tasks.named(name), Task) and tasks.named(name).name == name
        assert tasks.named(name).__module__ == f"kerasdense.tasks.{name}"


@pytest.mark.parametrize("name", ["depth", "base", "", None])
def test_an_unknown_task_is_named(name):
    with pytest.raises(ValueError, match=f"no task {name!r}: expected one of classification, det"):
        tasks.named(name)


@pytest.mark.parametrize(
    "kind, classes", [("segmentation", 4), ("detection", 2), ("classification", 3)]
)
def test_the_task_of_a_model(kind, classes):
    model = BUILD[kind]()
    task = tasks.of_model(model)
    assert task.name == kind and task.count_classes(model) == classes
    assert task.class_names == [str(index) for index in range(classes)]
    task.check_model(model)
    names, palette = ["a", "b", "c", "d"][:classes], [[1, 2, 3]] * classes
    task = tasks.of_model(model, tuple(names), palette)
    assert (task.class_names, task.palette) == (names, palette)
    task = tasks.of_model(model, names[1:], palette)
    with pytest.raises(ValueError, match=f"{classes} classes.*received {classes - 1} names"):
        task.check_model(model)


def test_auxiliary_logits_change_nothing():
    model = small_model(auxiliary=True)
    task = tasks.of_model(model)
    assert task.name == "segmentation" and task.count_classes(model) == 4


def test_a_foreign_model_has_no_task():
    inputs = keras.Input((5, 7), name="series")
    for outputs in (inputs, {"scores": inputs}, [inputs, inputs]):
        model = keras.Model(inputs, outputs, name="foreign")
        with pytest.raises(ValueError, match=r'"foreign" gives .*Expected logits \[B, H, W, C\]'):
            tasks.of_model(model)


@pytest.mark.parametrize("kind", tasks.names())
def test_the_task_of_a_run(kind):
    dataset = {"class_names": ["a", "b"], "palette": [[0, 0, 0], [9, 9, 9]]}
    task = tasks.of_run({"task": kind, "dataset": dataset, "arguments": {"size": [64, 96]}})
    assert type(task) is tasks.named(kind)
    assert (task.class_names, task.palette) == (["a", "b"], [[0, 0, 0], [9, 9, 9]])
    if kind == "classification":
        assert task.image_size_of(None) == (64, 96)


def test_what_a_task_is_stands_in_the_base_class():
    """Each member is documented; a task defines no public one that the base class lacks."""
    for name, member in vars(Task).items():
        if inspect.isfunction(member) or isinstance(member, (classmethod, staticmethod)):
            assert name == "__init__" or inspect.getdoc(getattr(Task, name)), name
    known = {*vars(Task), "__module__", "__doc__", "__firstlineno__", "__static_attributes__"}
    for name in tasks.names():
        task = tasks.named(name)
        assert not inspect.isabstract(task) and inspect.getdoc(task)
        own = {each for each in vars(task) if not each.startswith("_")}
        assert own <= known, own - known


PROGRAM = """
import sys
for name in ("tensorflow", "keras", "matplotlib"):
    sys.modules[name] = None  # importing it raises ImportError
import numpy
from kerasdense import tasks
for name in tasks.names():
    tasks.named(name)(["a"], [[0, 0, 0]])
task = tasks.named("detection")(["a"], [[0, 0, 0]])
outputs = {"boxes": numpy.zeros((1, 5, 4)), "scores": numpy.zeros((1, 5)),
           "classes": numpy.zeros((1, 5), int), "num_detections": numpy.zeros(1, int)}
print(task.differences(outputs, outputs)["sought"])
"""


def test_tasks_need_neither_tensorflow_nor_keras():
    """Predicting with an export needs its runtime alone."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.returncode == 0 and done.stdout.split() == ["0.0"], done.stderr
