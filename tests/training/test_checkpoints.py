"""Models as files that know their epoch, and the lines of the epochs."""

import json

import keras
import numpy as np
import pytest
from training.toy import fit, task

from kerasdense.training.checkpoints import History, epoch_of, load_checkpoint, save_checkpoint


def test_a_checkpoint_knows_its_epoch(one_epoch, tmp_path):
    model, epochs_done, line = load_checkpoint(one_epoch / "last.keras")
    assert epochs_done == 1 and model.optimizer.iterations == 10
    assert line["epoch"] == 1 and "loss" in line and "val_loss" not in line
    assert epoch_of(one_epoch / "best.keras") == 1
    save_checkpoint(model, tmp_path / "other.keras", 7)
    again, epochs_done, line = load_checkpoint(tmp_path / "other.keras")
    assert epochs_done == 7 == epoch_of(tmp_path / "other.keras") and line is None
    for a, b in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert [path.name for path in tmp_path.iterdir()] == ["other.keras"]
    model.save(tmp_path / "by_others.keras")
    assert epoch_of(tmp_path / "by_others.keras") is None


def test_a_full_disk_is_named_and_leaves_the_last_epoch(begun, monkeypatch):
    before = (begun / "last.keras").read_bytes()

    def save(model, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keras.Model, "save", save)
    with pytest.raises(OSError, match=r"Cannot write .*\.keras: No space left .* Make room"):
        fit(begun, epochs=2)
    assert (begun / "last.keras").read_bytes() == before
    assert not list(begun.glob("writing-*"))


def history(path, values, epochs_done=None):
    """A History of epochs with these values of the criterion, None for those not measured."""
    found = [
        {"epoch": epoch} | ({} if value is None else {task().criterion: value})
        for epoch, value in enumerate(values, 1)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in found))
    return History(path, len(found) if epochs_done is None else epochs_done, task())


def test_the_best_epoch_is_the_first_of_the_highest(tmp_path):
    found = history(tmp_path / "metrics.jsonl", [0.25, None, 0.5, 0.5])
    assert found.best()["epoch"] == 3
    assert found.best_line() == "val mean IoU 0.5000 in epoch 3"


def test_without_a_measured_epoch_there_is_no_best(tmp_path):
    found = history(tmp_path / "metrics.jsonl", [None, None])
    assert found.best() is None and found.best_line() == "val mean IoU not measured yet"
    assert not found.stalled(1)
    assert History(tmp_path / "nowhere", 0, task()).epochs == []


@pytest.mark.parametrize(
    "values, patience, stalled",
    [
        ([0.5, 0.4, 0.3], 2, True),
        ([0.5, 0.4, 0.3], 3, False),
        ([0.4, 0.5, 0.3], 2, False),
        ([0.5, 0.5, 0.5], 2, True),  # equal is no better
        ([0.5, None, None], 2, False),  # only what was validated counts
        ([0.5, None, 0.4, None], 2, False),
        ([0.5, None, 0.4, None, 0.5], 2, True),
        ([0.5, 0.4, 0.3], None, False),
    ],
)
def test_patience(tmp_path, values, patience, stalled):
    assert history(tmp_path / "metrics.jsonl", values).stalled(patience) == stalled


def test_lines_beyond_the_saved_epoch_do_not_count(tmp_path):
    path = tmp_path / "metrics.jsonl"
    found = history(path, [0.25, 0.5, 0.75], epochs_done=2)
    assert found.best()["epoch"] == 2
    found.append({"epoch": 3, task().criterion: 0.375})
    written = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line[task().criterion] for line in written] == [0.25, 0.5, 0.375]
    assert [each.name for each in tmp_path.iterdir()] == ["metrics.jsonl"]
