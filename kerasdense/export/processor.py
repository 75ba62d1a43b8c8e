"""What this machine's processor computes fast, so that the precision can be chosen by it.

Linux tells what a processor can; elsewhere nothing is known, and float32 is the choice.
"""

import os
import platform
import re
from pathlib import Path

FACTS = Path("/proc/cpuinfo")
# Of x86, by the names that Linux gives them. AMX and AVX512-BF16 multiply bfloat16, VNNI int8.
FLAGS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_bf16": "AVX512-BF16",
    "avx512_vnni": "AVX512-VNNI",
    "amx_bf16": "AMX-BF16",
    "amx_int8": "AMX-INT8",
}
FAST_BFLOAT16 = ("AMX-BF16", "AVX512-BF16")  # the first is the faster


def abilities():
    """What the processor has of FLAGS, a tuple of names; empty where nobody tells."""
    flags = set(_fact("flags").split())
    return tuple(name for flag, name in FLAGS.items() if flag in flags)


def description():
    """The processor, its cores and abilities in one line."""
    name = _fact("model name") or platform.processor() or platform.machine()
    found = ", ".join(abilities()) or "no abilities known"
    return f"{name}, {cores()} cores: {found}"


def cores():
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def best_precision():
    """What networks are best computed in here: ("float32" or "bfloat16", why)."""
    found = abilities()
    fast = next((name for name in FAST_BFLOAT16 if name in found), None)
    if fast:
        return "bfloat16", f"this processor has {fast}"
    if not found:
        return "float32", "nothing tells what this processor can"
    return "float32", f"this processor has none of {', '.join(FAST_BFLOAT16)}"


def _fact(key):
    """What Linux tells of the first processor under a key; empty where it does not."""
    try:
        text = FACTS.read_text()
    except OSError:
        return ""
    found = re.search(rf"^{key}\s*:\s*(.*)$", text, re.MULTILINE)
    return found[1] if found else ""
