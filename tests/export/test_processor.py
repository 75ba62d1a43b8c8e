"""What the processor can, read from Linux' description of it."""

import os

import pytest

from kerasdense.export import processor

CPUINFO = "processor\t: 0\nmodel name\t: {name}\nflags\t\t: fpu sse2 {flags}\n\nprocessor\t: 1\n"


@pytest.fixture
def described(monkeypatch, tmp_path):
    """A machine whose processor has some flags."""

    def describe(flags, name="Some CPU @ 2 GHz"):
        path = tmp_path / "cpuinfo"
        path.write_text(CPUINFO.format(name=name, flags=flags))
        monkeypatch.setattr(processor, "FACTS", path)

    return describe


@pytest.mark.parametrize(
    "flags, found, precision, why",
    [
        ("avx512_bf16 amx_bf16", ("AVX512-BF16", "AMX-BF16"), "bfloat16", "has AMX-BF16"),
        ("avx512_bf16 avx512_vnni", ("AVX512-BF16", "AVX512-VNNI"), "bfloat16", "has AVX512-BF16"),
        ("avx2", ("AVX2",), "float32", "has none of AMX-BF16, AVX512-BF16"),
        ("avx512_bf16x", (), "float32", "nothing tells"),  # no part of a flag's name is that flag
    ],
)
def test_abilities_decide_the_precision(described, flags, found, precision, why):
    described(flags)
    assert processor.abilities() == found
    best, reason = processor.best_precision()
    assert best == precision and why in reason


def test_description(described, monkeypatch):
    described("avx2 avx512f")
    monkeypatch.setattr(processor, "cores", lambda: 2)
    assert processor.description() == "Some CPU @ 2 GHz, 2 cores: AVX2, AVX-512"
    described("")
    assert processor.description().endswith("2 cores: no abilities known")


def test_where_nobody_tells_float32_is_chosen(monkeypatch, tmp_path):
    monkeypatch.setattr(processor, "FACTS", tmp_path / "absent")
    assert processor.abilities() == ()
    assert processor.best_precision()[0] == "float32"
    assert "cores" in processor.description()


def test_only_cores_that_may_be_used_count(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3, 5}, raising=False)
    assert processor.cores() == 3
