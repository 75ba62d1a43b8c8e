"""A run of one epoch, fitted once."""

import shutil

import pytest
from training.toy import fit


@pytest.fixture(scope="session")
def one_epoch(tmp_path_factory):
    """The folder of the run, only to be read."""
    folder = tmp_path_factory.mktemp("toy") / "run"
    fit(folder)
    return folder


@pytest.fixture
def begun(one_epoch, tmp_path):
    """A copy of it to go on with."""
    return shutil.copytree(one_epoch, tmp_path / "begun")
