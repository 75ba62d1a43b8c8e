"""What TensorFlow writes when it is loaded: in processes of their own, mostly with one made up."""

import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from kerasdense.cli.start_up import LEVEL, told

INFORMATION = (
    "I0000 00:00:1795702185.883943    9321 port.cc:153] oneDNN custom operations are on.\n"
)
WARNING = "W0000 00:00:1795702185.883943    9321 util.cc:1] Slow.\n"
ERROR = "E0000 00:00:1795702209.299603    9321 cuda_dnn.cc:1] No room for cuDNN.\n"
OTHERS = "tensorflow/__init__.py:3: DeprecationWarning: old\n"
HEAD = "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
CONTINUED = "To enable the following instructions: AVX2 FMA, in other operations, rebuild.\n"
ALL = HEAD + INFORMATION + CONTINUED + WARNING + ERROR + OTHERS
MADE_UP = f"""
import os, sys
os.write(2, {ALL!r}.encode())
print("loaded with", os.environ[{LEVEL!r}])
if os.environ.get("BROKEN"):
    raise ImportError("no AVX here")
"""
LOAD = """
from kerasdense.cli.start_up import quiet_tensorflow
quiet_tensorflow()
import tensorflow
import sys
print("told later", file=sys.stderr)
"""


@pytest.mark.parametrize(
    "hidden, left",
    [
        ("I", WARNING + ERROR + OTHERS),
        ("IW", ERROR + OTHERS),
        ("IWE", OTHERS),
    ],
)
def test_lines_below_the_level_are_hidden(hidden, left):
    assert told(ALL, hidden) == left


def python(code, folder, **environment):
    """Runs code where `import tensorflow` finds what lies in `folder`: a CompletedProcess."""
    kept = {name: value for name, value in os.environ.items() if name != LEVEL}
    path = os.pathsep.join(map(str, (folder, REPOSITORY)))
    return subprocess.run(
        [sys.executable, "-c", code],
        env=kept | {"PYTHONPATH": path, **environment}, capture_output=True, text=True,
    )  # fmt: skip


@pytest.fixture
def made_up(tmp_path):
    (tmp_path / "tensorflow.py").write_text(MADE_UP)
    return tmp_path


def test_errors_and_what_others_say_are_told(made_up):
    done = python(LOAD, made_up)
    assert done.returncode == 0, done.stderr
    assert OTHERS in done.stderr and "told later" in done.stderr
    assert INFORMATION not in done.stderr and WARNING not in done.stderr
    # Without a CUDA driver TensorFlow's errors are of GPUs that are not there.
    level = done.stdout.split()[-1]
    assert level in ("2", "3") and (ERROR in done.stderr) == (level == "2")


def test_a_look_for_tensorflow_is_no_import(made_up):
    """Keras on another backend, and a fit, look whether it is there."""
    look = 'import importlib.util\nimportlib.util.find_spec("tensorflow")\nimport tensorflow'
    done = python(LOAD.replace("import tensorflow", look), made_up)
    assert done.returncode == 0 and INFORMATION not in done.stderr, done.stderr


@pytest.mark.parametrize("level, left", [("0", ALL), ("1", WARNING + ERROR + OTHERS)])
def test_a_level_of_the_user_s_own_counts(made_up, level, left):
    done = python(LOAD, made_up, **{LEVEL: level})
    assert done.stdout == f"loaded with {level}\n"
    assert done.stderr == left + "told later\n"


def test_an_installation_that_is_broken_says_why(made_up):
    done = python(LOAD, made_up, BROKEN="yes")
    assert done.returncode == 1 and done.stderr.endswith("ImportError: no AVX here\n")


def test_without_tensorflow_nothing_is_loaded(tmp_path):
    code = "from kerasdense.cli.start_up import quiet_tensorflow; quiet_tensorflow(); import sys; "
    done = python(code + "assert not {'tensorflow', 'keras'} & set(sys.modules)", tmp_path)
    assert done.returncode == 0, done.stderr


PROGRAM = "from kerasdense.cli.main import main; main(['inspect', 'ssd300', '--size', '300x300'{}])"


def test_the_program_begins_with_a_line_of_its_own(tmp_path):
    done = python(PROGRAM.format(""), tmp_path)
    assert done.returncode == 0 and done.stderr == ""


@pytest.mark.slow
def test_verbose_shows_what_tensorflow_tells(tmp_path):
    done = python(PROGRAM.format(", '--verbose'"), tmp_path)
    assert done.returncode == 0 and "oneDNN custom operations are on" in done.stderr
