"""The table of formats, and what its cells say."""

import numpy as np
import pytest

from kerasdense import tasks
from kerasdense.benchmarks import formats
from kerasdense.benchmarks.workloads import SMOOTH_SIZE, NamedModel, smooth_pictures
from kerasdense.export import parity
from kerasdense.export.formats import ConversionError
from kerasdense.export.signatures import Form

FLOATS = "float32", "float16"
LADDER = NamedModel("ladder", "ladder_densenet", {"blocks": (1, 1, 1, 1)})
SSD = NamedModel("ssd", "ssd300", {"width": 1 / 64})


def cells(out):
    """{model: cells} of the Markdown table."""
    heading, line, *rows = ([part.strip() for part in row.split("|")] for row in out.splitlines())
    assert heading[1] == "model" and set("".join(line)) == {"-"}
    assert all(len(row) == len(heading) for row in (line, *rows))
    return {row[1]: row[2:-1] for row in rows}


@pytest.mark.slow
def test_the_table_of_formats(capsys):
    status = formats.benchmark([LADDER], ["saved_model"], FLOATS, turns=1)
    out, err = capsys.readouterr()
    (row,) = cells(out).values()
    assert status == 0 and len(row) == 2 and list(cells(out)) == ["ladder"], err
    assert all(text.startswith("ok ") and text.endswith("x") for text in row), out


def test_a_cell_that_fails_is_the_exit_status(capsys, monkeypatch):
    def refuses(model, task, directory, form, **options):
        text = "not in | float16"
        raise ValueError(text) if form.precision == "float16" else RuntimeError("no")

    monkeypatch.setattr(formats, "export", refuses)
    assert formats.benchmark([LADDER], ["onnx"], FLOATS, turns=1) == 1
    expected = ["FAILS: export: RuntimeError: no", "refused: not in / float16"]
    assert cells(capsys.readouterr().out) == {"ladder": expected}


def test_cells(monkeypatch):
    class Answers:
        def predict(self, images):
            return {}

    task = tasks.named("segmentation")(["a"], [[0, 0, 0]])

    def cell_if(owner, name, result, precision="float32"):
        def fake(*arguments, **options):
            if isinstance(result, Exception):
                raise result
            return result

        monkeypatch.setattr(owner, name, fake)
        return formats.cell(None, task, Answers(), Form("onnx", precision), turns=1)

    needs = ImportError("needs tf2onnx")
    assert cell_if(formats, "export", needs) == "not installed: needs tf2onnx"
    broken = ConversionError("no such operation")
    assert cell_if(formats, "export", broken).startswith("FAILS: export: ConversionError: no such")
    monkeypatch.setattr(formats, "export", lambda *arguments, **options: "version")
    assert cell_if(formats, "Predictor", needs) == "not installed: needs tf2onnx"
    # What was exported a moment ago is to be loaded.
    damaged = ValueError("damaged")
    assert cell_if(formats, "Predictor", damaged) == "FAILS: ValueError: damaged"
    monkeypatch.setattr(formats, "Predictor", lambda version: Answers())
    seconds = {"exported": [0.2], "fitted": [0.3]}
    monkeypatch.setattr(formats, "in_turns", lambda calls, turns: seconds)
    assert cell_if(parity, "compare", {"confidence": 0.0}) == "ok 1.5x"
    bad = {"confidence": 0.01}  # for float32, not for float16
    assert cell_if(parity, "compare", bad).startswith("FAILS: difference of confidence")
    assert cell_if(parity, "compare", bad, "float16") == "ok 1.5x"


def test_int8_is_fitted_to_the_pictures_of_the_table(monkeypatch):
    asked = {}

    def refuses(model, task, directory, form, check, calibration):
        asked[form.precision] = form, calibration
        raise ValueError("no")

    monkeypatch.setattr(formats, "export", refuses)
    for precision in ("float32", "int8"):
        formats.cell(None, None, None, Form("litert", precision), turns=1)
    assert asked["float32"] == (Form("litert"), None)
    form, calibration = asked["int8"]
    assert form == Form("litert", "int8", batch_size=2, size=SMOOTH_SIZE), "LiteRT takes no other"
    assert np.array_equal(calibration.batches, [smooth_pictures(SMOOTH_SIZE)])


@pytest.mark.parametrize("named, size", [(LADDER, SMOOTH_SIZE), (SSD, (300, 300))])
def test_outputs_are_as_far_apart_as_those_of_a_fitted_model(named, size):
    model = formats.decisive_model(named)
    outputs = np.asarray(model(smooth_pictures(size), training=False))
    tasks.of_model(model)
    classes = formats.CLASSES + (named is SSD)  # and background
    assert outputs[..., :classes].std() == pytest.approx(3, rel=1e-3)
    if named is SSD:
        assert outputs[..., classes:].std() == pytest.approx(1, rel=1e-3)
