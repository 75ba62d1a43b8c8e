"""What TensorFlow writes when it is loaded: hidden, unless the user asks for it.

Its C++ code tells of CPU instructions, oneDNN and absent GPUs. TF_CPP_MIN_LOG_LEVEL hides what is
written later; the first lines come before it is read, so standard error is held back meanwhile.
"""

import contextlib
import ctypes
import os
import re
import sys
import tempfile
from importlib.machinery import PathFinder

LEVEL = "TF_CPP_MIN_LOG_LEVEL"  # 0 shows all, 1 hides information, 2 warnings, 3 errors, too
SEVERITIES = "IWEF"  # first letter of a line of its log, mildest first
LOGGED = re.compile(rf"([{SEVERITIES}])\d{{4}} \d\d:\d\d:\d+\.\d+ ")  # I0000 00:00:1795702.66 ...
# Lines that belong to one of information, and do not look like it.
FURTHER = ("WARNING: All log messages before absl::", "To enable the following instructions:")


def quiet_tensorflow():
    """From now on TensorFlow tells of errors alone; a level that the user has set counts instead.

    Nothing is imported: TensorFlow still is where it is needed.
    """
    level = os.environ.setdefault(LEVEL, "2" if _has_cuda_driver() else "3")
    hidden = SEVERITIES[: int(level)] if level.isdecimal() else ""
    if hidden and "tensorflow" not in sys.modules:
        sys.meta_path.insert(0, _QuietFinder(hidden))


def told(text, hidden):
    """What is left of TensorFlow's first lines without those of the severities `hidden`."""
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if not _is_hidden(line, hidden))


def _is_hidden(line, hidden):
    found = LOGGED.match(line)
    return found[1] in hidden if found else line.startswith(FURTHER)


def _has_cuda_driver():
    """Without one, TensorFlow's errors are that there is none; those of a model are raised."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


class _QuietFinder:
    """Finds TensorFlow for the import system, so that it is loaded without `hidden`."""

    def __init__(self, hidden):
        self.hidden = hidden

    def find_spec(self, name, path=None, target=None):
        if name != "tensorflow":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module):
                with _held_back(self.hidden):
                    load(module)

            spec.loader.exec_module = exec_module
        return spec


@contextlib.contextmanager
def _held_back(hidden):
    """Keeps what is written to standard error, by C++ code too, and then tells the rest of it."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        error_output = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(error_output, 2)
            os.close(error_output)
            kept.seek(0)
            sys.stderr.write(told(kept.read().decode(errors="replace"), hidden))
