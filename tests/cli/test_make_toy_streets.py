"""make-toy-streets: drawn scenes as files."""

import pytest

from kerasdense.cli import make_toy_streets
from kerasdense.data import datasets, toy_layouts


@pytest.fixture
def asked(monkeypatch):
    """What the writers were asked for; they write nothing."""
    calls = []

    def writer(layout):
        def write(folder, count):
            calls.append((layout, folder, count))
            return 3 * count

        return write

    writers = {layout: writer(layout) for layout in toy_layouts.WRITERS}
    monkeypatch.setattr(toy_layouts, "WRITERS", writers)
    return calls


def test_each_layout_has_a_writer():
    assert tuple(make_toy_streets.COUNTS) == tuple(toy_layouts.WRITERS)


@pytest.mark.parametrize(
    "flags, layout, count",
    [
        ((), "folder", 8),
        (("--count", 3), "folder", 3),
        (("--layout", "voc"), "voc", 8),
        (("--layout", "cityscapes"), "cityscapes", 4),  # whose frames are large
        (("--layout", "mot15", "--count", 5), "mot15", 5),
    ],
)
def test_layout_and_count(kerasdense, asked, tmp_path, flags, layout, count):
    status, out, _ = kerasdense("make-toy-streets", "--output", tmp_path, *flags)
    assert (status, out) == (0, f"{3 * count} scenes written to {tmp_path}\n")
    assert asked == [(layout, tmp_path, count)]


@pytest.mark.parametrize("flags", [("--count", 0), ("--count", 2.5), ("--layout", "coco")])
def test_what_cannot_be_written(kerasdense, asked, tmp_path, flags):
    status, _, err = kerasdense("make-toy-streets", "--output", tmp_path, *flags)
    assert status == 2 and flags[0] in err and not asked


def test_files_of_the_same_name_are_replaced_and_others_left(kerasdense, tmp_path):
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "scene_000.png").write_text("no picture")
    (tmp_path / "mine.txt").write_text("mine")
    status, *_ = kerasdense("make-toy-streets", "--output", tmp_path, "--count", 2)
    assert status == 0 and (tmp_path / "mine.txt").read_text() == "mine"
    found = datasets.load("folder", tmp_path, tmp_path / "prepared").info.splits
    assert found["train"].num_examples + found["val"].num_examples == 2
