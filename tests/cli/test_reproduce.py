"""Rows of papers are told, run step by step, and put beside what was published."""

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import REAL_DATA, call, needs_real_data

from kerasdense.cli import reproduce
from kerasdense.papers import ROWS

SLOW_ROWS = sorted(set(ROWS) - {"mot/acf"})


@pytest.fixture
def steps(monkeypatch):
    """The commands that would have been run in processes; each ends with status 0."""
    commands = []

    def run(program, stdout=None, **options):
        commands.append(program[3:])
        if "make-toy-streets" in program:
            Path(program[-1]).mkdir(parents=True)
        return subprocess.CompletedProcess(
            program, 0, '{"mean_ap_area": 0.5}\n' if stdout else None
        )

    monkeypatch.setattr(reproduce.subprocess, "run", run)
    return commands


def test_lists_all_rows_with_their_numbers(kerasdense, tmp_path):
    status, out, _ = kerasdense("reproduce", "--runs", tmp_path)
    assert status == 0
    assert all(name in out for name in ROWS)
    assert "published 62.52 %" in out
    assert "ours" not in out


def test_a_dry_run_tells_data_steps_and_numbers_and_does_nothing(kerasdense, steps, tmp_path):
    runs = tmp_path / "my runs"
    status, out, _ = kerasdense(
        "reproduce", "ladder/coarse", "--dry-run", "--cityscapes", tmp_path, "--runs", runs
    )
    assert status == 0
    assert not steps
    assert not runs.exists()
    lines = [shlex.split(line) for line in out.splitlines() if line.startswith("  kerasdense ")]
    assert [line[1] for line in lines] == ["fit", "fit", "evaluate"]
    fine = lines[1]
    assert fine[fine.index("--initialize") + 1] == str(runs / "ladder_coarse" / "last.keras")
    assert fine[fine.index("--source") + 1] == str(tmp_path)
    (coarse,) = (line for line in out.splitlines() if "gtCoarse/train_extra" in line)
    assert "missing" in coarse
    assert "www.cityscapes-dataset.com" in out
    assert "not yet" in out


def test_full_scale_needs_its_data(kerasdense, steps, tmp_path):
    status, _, error = kerasdense(
        "reproduce", "mot/ssd_voc", "--voc", tmp_path, "--mot15", tmp_path, "--runs", tmp_path
    )
    assert status == 2
    assert not steps
    for part in ("VOC2007/ImageSets/Main/test.txt", "--voc", "--mot15", "--scale small"):
        assert part in error


@pytest.mark.parametrize(
    ("flags", "word"),
    [(("--voc", "x"), "mot/acf reads none of it"), (("--mot15", "x", "--scale", "small"), "draws")],
)
def test_a_folder_that_would_not_be_read_is_refused(kerasdense, steps, tmp_path, flags, word):
    status, _, error = kerasdense("reproduce", "mot/acf", *flags, "--runs", tmp_path)
    assert status == 2
    assert word in error
    assert not steps


def test_an_unknown_row_names_those_there_are(kerasdense):
    status, _, error = kerasdense("reproduce", "ladder/64x")
    assert status == 2
    assert "ladder/32x" in error


def test_fit_options_go_to_fits_alone(steps, tmp_path):
    (tmp_path / "train").mkdir()
    flags = "--fit-options=--precision mixed_bfloat16 --weights 'my file.h5'"
    assert (
        call("reproduce", "mot/ssd_mot", "--mot15", tmp_path, "--runs", tmp_path / "runs", flags)
        == 0
    )
    fit, evaluate = steps
    assert fit[-4:] == ["--precision", "mixed_bfloat16", "--weights", "my file.h5"]
    assert "--precision" not in evaluate


@pytest.mark.parametrize(
    ("name", "flags", "words"),
    [
        ("mot/ssd_mot", "--workdir elsewhere", "--workdir of its fits is what makes the row"),
        ("mot/ssd_mot", "--data voc_detection", "--dataset of its fits"),
        ("mot/ssd_mot", "--bogus", "unrecognized arguments: --bogus"),
        ("mot/acf", "--epochs 1", "mot/acf fits nothing"),
    ],
)
def test_fit_options_that_cannot_be(kerasdense, steps, tmp_path, name, flags, words):
    (tmp_path / "train").mkdir()
    status, _, error = kerasdense(
        "reproduce", name, "--dry-run", "--mot15", tmp_path, f"--fit-options={flags}"
    )
    assert status == 2
    assert words in error
    assert not steps


def test_small_numbers_are_none_of_the_full_scale(kerasdense, steps, tmp_path):
    assert call("reproduce", "mot/acf", "--scale", "small", "--runs", tmp_path) == 0
    _, full, _ = kerasdense("reproduce", "--runs", tmp_path)
    assert "ours" not in full
    _, small, _ = kerasdense("reproduce", "--runs", tmp_path, "--scale", "small")
    assert "ours 50.00 %" in small


def test_a_step_ends_with_the_row(tmp_path):
    """Asked to end, a row takes the process of its step along."""
    (tmp_path / "train").mkdir()
    script = (
        "import sys; from kerasdense.cli import reproduce; "
        "reproduce.PROGRAM = (sys.executable, '-c', "
        "'import os, time; print(os.getpid(), flush=True); time.sleep(60)'); "
        f"from kerasdense.cli.main import main; main({['reproduce', 'mot/ssd_mot']!r} + "
        f"['--mot15', {str(tmp_path)!r}, '--runs', {str(tmp_path / 'runs')!r}])"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as row:
        step = next(int(line) for line in row.stdout if line.strip().isdecimal())
        row.terminate()
        assert row.wait(30) == 143
    deadline = time.monotonic() + 10
    while Path(f"/proc/{step}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    with pytest.raises(ProcessLookupError):
        os.kill(step, 0)


def test_ours_stands_beside_the_published(kerasdense, steps, tmp_path):
    (tmp_path / "train").mkdir()
    runs = tmp_path / "runs"
    status, out, _ = kerasdense("reproduce", "mot/acf", "--mot15", tmp_path, "--runs", runs)
    assert status == 0
    line = next(line for line in out.splitlines() if line.startswith("AP, area"))
    assert line.split()[-4:] == ["60.2", "%", "50.00", "%"]
    facts = json.loads((runs / "results/mot/acf/reproduction.json").read_text())
    assert facts["figures"]["AP, area under the curve"] == {"published": 0.602, "ours": 0.5}
    assert shlex.split(facts["commands"][0])[0] == "kerasdense"
    _, listed, _ = kerasdense("reproduce", "--runs", runs)
    assert "ours 50.00 %" in listed


def test_a_step_that_fails_ends_the_row(kerasdense, monkeypatch, tmp_path):
    (tmp_path / "train").mkdir()
    statuses = iter([7])  # a second step would raise StopIteration
    monkeypatch.setattr(
        reproduce.subprocess,
        "run",
        lambda program, **options: subprocess.CompletedProcess(program, next(statuses)),
    )
    status, out, error = kerasdense(
        "reproduce", "mot/ssd_mot", "--mot15", tmp_path, "--runs", tmp_path / "runs"
    )
    assert status == 7
    assert "step 1 of 2" in error
    assert "results" not in out.splitlines()[-1]


def test_a_number_of_an_earlier_run_is_not_taken_for_a_new_one(kerasdense, monkeypatch, tmp_path):
    (tmp_path / "train").mkdir()
    runs = tmp_path / "runs"
    old = runs / "results/mot/acf/detections.json"
    old.parent.mkdir(parents=True)
    old.write_text('{"mean_ap_area": 0.9}')
    monkeypatch.setattr(
        reproduce.subprocess,
        "run",
        lambda program, **options: subprocess.CompletedProcess(program, 1, ""),
    )
    status, _, _ = kerasdense("reproduce", "mot/acf", "--mot15", tmp_path, "--runs", runs)
    assert status == 1
    _, listed, _ = kerasdense("reproduce", "--runs", runs)
    assert "ours" not in listed


def test_the_chain_of_acf_on_drawn_sequences(kerasdense, tmp_path):
    status, _, _ = kerasdense("reproduce", "mot/acf", "--scale", "small", "--runs", tmp_path)
    assert status == 0
    facts = json.loads((tmp_path / "small/results/mot/acf/reproduction.json").read_text())
    assert 0 < facts["figures"]["AP, area under the curve"]["ours"] < 1
    assert facts["scale"] == "small"


@pytest.fixture(scope="module")
def small_runs(tmp_path_factory):
    """Shared, as rows share their fits."""
    return tmp_path_factory.mktemp("reproduced") / "runs"


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_ROWS)
def test_each_chain_runs_on_drawn_data(name, small_runs):
    assert call("reproduce", name, "--scale", "small", "--runs", small_runs) == 0
    row, results = ROWS[name], small_runs / "small" / "results" / name
    for figure in row.figures:
        assert 0 <= figure.ours(results) <= 1
    for picture in row.pictures:
        path = results / picture
        assert path.is_file() or any(path.iterdir())


@needs_real_data("MOT15/train/TUD-Campus/det/det.txt")
def test_acf_on_a_real_sequence(kerasdense, tmp_path):
    source = tmp_path / "MOT15"
    (source / "train").mkdir(parents=True)
    (source / "train/TUD-Campus").symlink_to(REAL_DATA / "MOT15/train/TUD-Campus")
    status, _, _ = kerasdense("reproduce", "mot/acf", "--mot15", source, "--runs", tmp_path)
    assert status == 0
    ours = ROWS["mot/acf"].figures[0].ours(tmp_path / "results/mot/acf")
    assert 0.4 < ours < 0.8  # the published number, of eleven sequences, is 0.602
