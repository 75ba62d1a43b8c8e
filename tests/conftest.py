"""Where the real data for some tests lies, and how a test says that it needs it."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # numbers must not depend on the machine

import pytest  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[1]
REAL_DATA = Path(os.environ.get("KERASDENSE_REAL_DATA", REPOSITORY.parent / "shared" / "data"))


def needs_real_data(name):
    """A mark that skips a test where the folder or file `REAL_DATA/name` is absent."""
    return pytest.mark.skipif(
        not (REAL_DATA / name).exists(),
        reason=f"no {name} under {REAL_DATA} (set KERASDENSE_REAL_DATA to its parent folder)",
    )
