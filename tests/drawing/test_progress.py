"""What is told while work goes on: lines in a file, one bar in a terminal."""

import io
import sys

import pytest
import rich

from kerasdense.drawing import progress
from kerasdense.drawing.progress import Progress, duration


class Clock:
    """A minute passes between two looks."""

    def __init__(self):
        self.minutes = -1

    def __call__(self):
        self.minutes += 1
        return 60.0 * self.minutes


def test_a_file_gets_plain_lines(monkeypatch, capsys):
    monkeypatch.setattr(progress.time, "perf_counter", Clock())
    with Progress(8, "steps", "epoch 1/2") as shown:
        shown.update(2, "loss 0.5")
        shown.update(4)
    first, second = capsys.readouterr().out.splitlines()
    # Two looks for each line: whether it is time, and when it was told.
    assert first == "  epoch 1/2: 2/8 steps, loss 0.5, 2m00s, 6m00s left"
    assert second == "  epoch 1/2: 4/8 steps, 4m00s, 4m00s left"


def test_lines_come_every_so_often_alone(capsys):
    with Progress(100, "steps") as shown:
        for done in range(101):
            shown.update(done)
    assert capsys.readouterr().out == ""


def test_an_unknown_total_and_silence(monkeypatch, capsys):
    monkeypatch.setattr(progress.time, "perf_counter", Clock())
    Progress(None, "batches").update(3)
    Progress(None, "batches", shown=False).update(3)
    assert capsys.readouterr().out == "  3 batches, 2m00s\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    # Not by a fixture's setattr of sys.stdout: pytest puts its own back before the test.
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


def test_a_terminal_has_one_bar_that_goes(terminal, monkeypatch):
    rich.get_console()  # others use it, while standard output is no terminal
    monkeypatch.setattr(sys, "stdout", terminal)
    with Progress(3, "steps", "epoch 1/2") as shown:
        shown.update(1, "loss 0.5")
        shown.bar.refresh()
        assert "epoch 1/2" in terminal.getvalue() and "1/3" in terminal.getvalue()
        assert "loss 0.5" in terminal.getvalue()
    assert shown.bar is None
    ended = terminal.getvalue()
    shown.update(2)
    assert terminal.getvalue() == ended
    assert "\x1b[?25h" in ended  # the cursor is back


def test_the_bar_goes_when_all_is_done(terminal, monkeypatch):
    monkeypatch.setattr(sys, "stdout", terminal)
    shown = Progress(None, "steps")
    shown.of(1, 2)
    assert shown.bar
    shown.of(2, 2)
    assert shown.bar is None


@pytest.mark.parametrize(
    "seconds, text", [(0.4, "0m00s"), (59.6, "1m00s"), (75, "1m15s"), (7325, "2h02m")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text
