"""The package's layers hold: a module imports only from a lower level."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "kerasdense"
LEVELS = {
    "labels": 0, "layers": 0, "boxes": 0, "gradients": 0,
    "backbones": 1, "drawing": 1, "anchors": 1, "annotation_files": 1, "average_precision": 1,
    "parity": 1,
    "data": 2, "datasets": 2, "models": 2, "metrics": 2, "losses": 2, "postprocessing": 2,
    "runs": 2, "cost": 2, "folding": 2, "warmup": 2, "results": 2,
    "prediction": 2, "visualization": 2, "attribution": 2, "adversarial": 2,
    "signatures": 3, "adversarial_training": 3,
    "training": 4, "evaluation": 4, "export": 4, "comparison": 4,
    "robustness": 5, "command_line": 5,
    "robustness_report": 6, "benchmarking": 6,
}  # fmt: skip
WITHOUT_TENSORFLOW = (
    "labels", "layers", "boxes", "backbones", "drawing", "anchors", "annotation_files",
    "average_precision", "parity", "models", "metrics", "losses", "runs", "cost", "folding",
    "results", "prediction", "training", "gradients", "visualization", "attribution", "adversarial",
    "adversarial_training", "benchmarking",
)  # fmt: skip
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room(path):
    """The first name below the package: `models/fcn.py` lives in `models`."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_modules(path, top_level_only=False):
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write absolute imports"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_only_from_lower_levels(path):
    here = room(path)
    for name in imported_modules(path):
        parts = name.split(".")
        if parts[0] != "kerasdense" or parts[1] == "__version__":
            continue
        there = parts[1]
        assert there == here or LEVELS[there] < LEVELS[here], f"{here} imports {there}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_backend_agnostic_modules_do_not_import_tensorflow(path):
    if room(path) in WITHOUT_TENSORFLOW:
        roots = {name.split(".")[0] for name in imported_modules(path, top_level_only=True)}
        assert not roots & {"tensorflow", "keras_cv", "tensorflow_datasets"}


def test_every_module_has_a_level():
    assert {room(path) for path in MODULES} == set(LEVELS)
