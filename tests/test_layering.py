"""The plan of the house holds: who may import what, and that nobody compares a task's name."""

import ast
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from kerasdense import tasks

PACKAGE = REPOSITORY / "kerasdense"
# A module imports from its own room and from rooms of lower floors.
FLOORS = (
    {"boxes"},
    {"metrics"},
    {"drawing"},
    {"models", "data"},
    {"explain"},
    {"tasks"},
    {"export", "attacks"},
    {"training"},
    {"recipes"},
    {"benchmarks", "papers"},
    {"cli"},
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
WITHOUT_TENSORFLOW = {
    "boxes", "metrics", "drawing", "models", "explain", "tasks", "attacks", "training", "recipes",
    "papers", "cli",
}  # fmt: skip
# A package other than these is known to the rooms named here alone.
EVERYWHERE = {"kerasdense", "keras", "tensorflow", "numpy", "PIL"} | set(sys.stdlib_module_names)
KNOWN_TO = {
    "jax": {"explain", "training", "benchmarks"},  # the other backend: gradients, devices
    "pycocotools": {"metrics"},
    "matplotlib": {"drawing"},
    "rich": {"drawing"},
    "tensorboard": {"training"},
    "h5py": {"models"},
    "tensorflow_datasets": {"data"},
    "absl": {"data"},
    "keras_cv": {"data"},
    "tf2onnx": {"export"},
    "onnx": {"export"},
    "openvino": {"export"},
    "onnxruntime": {"export"},
    "nncf": {"export"},
    "google": {"export"},  # protobuf
    "tensorflow_serving": {"export"},
    "torch": {"models", "benchmarks"},  # files of weights; its models measured beside ours
    "torchvision": {"benchmarks"},
    "keras_hub": {"benchmarks"},
}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room(path):
    """The folder below the package: `models/fcn.py` lives in `models`."""
    return path.relative_to(PACKAGE).parts[0]


def imported_names(path, top_level_only=False):
    tree = ast.parse(path.read_text())
    for node in at_import(tree) if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write absolute imports"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def at_import(node):
    """The nodes that are run when the module is imported: all but the bodies of functions."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.Lambda)):
            yield child
            yield from at_import(child)


def every_module(test):
    return pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))(test)


@every_module
def test_imports_only_from_lower_floors(path):
    here = room(path)
    for name in imported_names(path):
        parts = name.split(".")
        if parts[0] != "kerasdense" or parts[1:] == ["__version__"]:
            continue
        there = parts[1]
        assert there == here or FLOOR_OF[there] < FLOOR_OF[here], f"{here} imports {there}"


@every_module
def test_rooms_that_need_no_tensorflow_do_not_import_it(path):
    if room(path) in WITHOUT_TENSORFLOW:
        roots = {name.split(".")[0] for name in imported_names(path, top_level_only=True)}
        assert not roots & {"tensorflow", "keras_cv", "tensorflow_datasets"}


@every_module
def test_a_package_is_known_to_one_room(path):
    for name in imported_names(path):
        root = name.split(".")[0]
        assert root in EVERYWHERE or room(path) in KNOWN_TO[root], f"{root} in {room(path)}"


def test_every_room_has_a_floor():
    assert {room(path) for path in MODULES} == set(FLOOR_OF)


@every_module
def test_nobody_else_compares_a_tasks_name(path):
    if room(path) == "tasks":
        return
    names = set(tasks.names())

    def is_name(node):
        return isinstance(node, ast.Constant) and node.value in names

    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            inside = [item for side in sides for item in ast.walk(side)]
            assert not any(map(is_name, inside)), f"{path}:{node.lineno} compares a task's name"
        elif isinstance(node, ast.Dict):
            assert not any(map(is_name, node.keys)), f"{path}:{node.lineno} is a table of tasks"
        elif isinstance(node, ast.MatchValue):
            assert not is_name(node.value), f"{path}:{node.lineno} matches a task's name"


def test_what_users_run_without_keras_imports_none():
    # Average precision of files, and what draws the answers of an export.
    modules = ["export.predictor", "data.formats", "data.images", "metrics.average_precision"]
    modules += [f"tasks.{name}" for name in tasks.names()]
    imports = "; ".join(f"import kerasdense.{module}" for module in modules)
    check = "assert not {'keras', 'tensorflow', 'matplotlib'} & set(sys.modules)"
    command = [sys.executable, "-c", f"import sys; {imports}; {check}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr


def test_tests_mirror_the_package():
    for path in (REPOSITORY / "tests").glob("*/test_*.py"):
        room, module = path.parent.name, path.name.removeprefix("test_")
        # A file named like its room is about all of it.
        assert module == f"{room}.py" or (PACKAGE / room / module).is_file(), path
