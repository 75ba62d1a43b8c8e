"""The peak of a process's memory."""

import numpy as np
import pytest

from kerasdense.benchmarks.memory import DeviceMemory, ResidentMemory


def test_resident_memory_counts_what_is_held_between_reset_and_peak():
    memory = ResidentMemory()
    if memory.before is None:
        pytest.skip("no /proc here")
    memory.reset()
    before = memory.peak()
    held = np.ones((2**24,), "float32")  # 64 MiB
    assert memory.peak() - before >= 60
    del held


def test_device_memory_is_what_is_read_in_mebibytes():
    assert DeviceMemory(lambda: 3 * 2**20).peak() == 3
