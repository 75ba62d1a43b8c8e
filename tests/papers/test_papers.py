"""The rows are those of the papers, and each of their commands is one that the program knows."""

import re

import pytest

from kerasdense.cli.main import parser_of
from kerasdense.papers import ROWS
from kerasdense.papers.datasets import ALL
from kerasdense.papers.row import Figure, Step

NAMES = {
    "ladder/32x", "ladder/dilated_8x_4x", "ladder/ladder_4x", "ladder/coarse", "ladder/submission",
    "mot/acf", "mot/ssd_voc", "mot/ssd_mot", "voc/ssd300", "voc/ssd512", "voc/classifier",
    "atrous/voc2012", "atrous/sbd", "fig4", "fig5",
}  # fmt: skip
PLACES = {data.name: f"my {data.name}" for data in ALL} | {"runs": "my runs", "results": "my out"}
STEPS = [
    pytest.param(name, step, is_small, id=f"{name}-{place}-{'small' if is_small else 'full'}")
    for name, row in ROWS.items()
    for place, step in enumerate(row.steps)
    for is_small in (False, True)
]


def parsed(step, is_small=False):
    command, *rest = step.arguments(PLACES, is_small)
    return parser_of(command).parse_args(rest)


def test_rows_of_the_papers():
    assert NAMES <= set(ROWS)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("ladder/32x", [0.6252]),
        ("ladder/dilated_8x_4x", [0.7156]),
        ("ladder/ladder_4x", [0.7282]),
        ("ladder/submission", [0.75, 0.784]),
        ("ladder/ldn", [0.785, 0.799, 0.801]),
        ("mot/acf", [0.602, 0.602]),
        ("mot/ssd_voc", [0.5706, 0.5706]),
        ("mot/ssd_mot", [0.755, 0.755]),
        ("voc/ssd300", [0.772]),
        ("voc/ssd512", [0.798]),
        ("atrous/voc2012", [0.5606, 0.899]),
        ("atrous/sbd", [0.6611, 0.9]),
    ],
)
def test_published_numbers(name, published):
    assert [figure.published for figure in ROWS[name].figures] == published


@pytest.mark.parametrize(("name", "step", "is_small"), STEPS)
def test_the_program_knows_each_command(name, step, is_small):
    parsed(step, is_small)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_reads_what_it_needs_and_no_more(name):
    row = ROWS[name]
    read = set(re.findall(r"\{(\w+)\}", " ".join(step.command for step in row.steps)))
    assert read - {"runs", "results"} == {need.data.name for need in row.needs}


@pytest.mark.parametrize("name", ROWS)
def test_a_run_is_fitted_before_it_is_used(name):
    fitted = set()
    for step in ROWS[name].steps:
        arguments = parsed(step)
        used = [getattr(arguments, "run", None)]
        if getattr(arguments, "initialize", None):
            assert arguments.initialize.name == "last.keras"  # no choice by what is reported
            used.append(arguments.initialize.parent)
        assert {run for run in used if run} <= fitted
        if step.fits:
            fitted.add(arguments.workdir)


def test_runs_that_rows_share_are_fitted_by_one_command():
    commands = {}
    for row in ROWS.values():
        for step in row.steps:
            if step.fits:
                commands.setdefault(parsed(step).workdir, set()).add((step.command, step.small))
    assert all(len(same) == 1 for same in commands.values())


@pytest.mark.parametrize("name", ROWS)
def test_each_number_is_written_by_a_step(name):
    row = ROWS[name]
    written = set()
    for step in row.steps:
        output = getattr(parsed(step), "output", None)
        written |= {step.output} if step.output else {f"{output}/evaluation.json"}
    for figure in row.figures:
        assert {figure.file, f"my out/{figure.file}"} & written


def test_a_reported_split_chooses_no_epoch():
    """Measured is the last epoch, wherever a number stands beside a published one."""
    for row in ROWS.values():
        for step in row.steps:
            if step.command.startswith("evaluate "):
                assert parsed(step).checkpoint == "last"


def test_places_may_hold_spaces_and_small_flags_win():
    step = Step("fit x --source {voc} --epochs 9", "--epochs 1")
    assert step.arguments({"voc": "a b"}) == ["fit", "x", "--source", "a b", "--epochs", "9"]
    assert step.arguments({"voc": "a b"}, is_small=True)[-4:] == ["--epochs", "9", "--epochs", "1"]


def test_ours_is_read_from_the_results(tmp_path):
    figure = Figure("mean IoU", 0.5, "val/evaluation.json", "mean_iou")
    assert figure.ours(tmp_path) is None
    (tmp_path / "val").mkdir()
    (tmp_path / "val/evaluation.json").write_text('{"mean_iou": 0.25}')
    assert figure.ours(tmp_path) == 0.25
