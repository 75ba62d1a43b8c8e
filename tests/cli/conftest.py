"""An export of each task's run, made once and only read."""

import pytest
from conftest import call


def exported(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved_models") / run.parent.name
    assert call("export", "--run", run, "--output", folder) == 0
    return folder


@pytest.fixture(scope="session")
def segmentation_export(segmentation_run, tmp_path_factory):
    """NAME of a SavedModel: its version is NAME/1."""
    return exported(segmentation_run, tmp_path_factory)


@pytest.fixture(scope="session")
def detection_export(detection_run, tmp_path_factory):
    return exported(detection_run, tmp_path_factory)


@pytest.fixture(scope="session")
def classification_export(classification_run, tmp_path_factory):
    return exported(classification_run, tmp_path_factory)
