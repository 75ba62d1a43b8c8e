"""The most memory that a process took, where somebody counts it."""

import contextlib
from pathlib import Path


class ResidentMemory:
    """Peak resident memory of this process, above what it is now."""

    STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def __init__(self):
        self.before = self._read("VmRSS:")

    def reset(self):
        """From now on the peak counts anew."""
        with contextlib.suppress(OSError):  # not Linux: `peak` is None
            self.CLEAR.write_text("5")  # since when VmHWM counts: man 5 proc

    def peak(self):
        """MiB, or None where nobody counts."""
        highest = self._read("VmHWM:")
        return None if highest is None else highest - self.before

    def _read(self, key):
        if not self.STATUS.is_file():
            return None
        lines = self.STATUS.read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


class DeviceMemory:
    """Peak memory of a GPU by `read`, bytes; `reset` begins anew where that is possible."""

    def __init__(self, read, reset=lambda: None):
        self._read, self.reset = read, reset

    def peak(self):
        """MiB."""
        return self._read() / 2**20
