"""kerasdense inspect as a user calls it."""

import pytest

from kerasdense.cli import inspect as command
from kerasdense.cli.main import main
from kerasdense.models import ladder_densenet


@pytest.fixture
def inspect(capsys):
    """Calls the command: exit status, standard output, standard error."""

    def call(*arguments):
        with pytest.raises(SystemExit) as exit_of:
            main(["inspect", *arguments])
        output = capsys.readouterr()
        return exit_of.value.code or 0, output.out, output.err

    return call


def test_it_prints_layers_taps_and_totals(inspect):
    status, out, err = inspect(
        "ladder_densenet", "--options", "blocks=1,1,1,1", "--size", "64x64", "--classes", 3
    )
    assert status == 0, err
    assert "ladder_densenet, one image of 64x64" in out and "multiply-adds" in out
    lines = {line.split()[0]: line.split() for line in out.splitlines()}
    taps = [words[-1] for words in lines.values() if words[-1].startswith("stride")]
    assert taps == ["stride4", "stride8", "stride16", "stride32"]
    # The first convolution: 7 x 7 x 3 x 64 weights, at a stride of 2.
    assert lines["conv1_conv"][1:4] == ["Conv2D", "32x32x64", f"{7 * 7 * 3 * 64:,}"]
    assert lines["conv1_conv"][4] == f"{32 * 32 * 7 * 7 * 3 * 64 / 1e6:.1f}"


def test_it_counts_the_model_of_a_run(inspect, segmentation_run):
    status, out, err = inspect(str(segmentation_run), "--size", "64x64")
    assert status == 0 and "conv1_conv" in out, err
    status, _, err = inspect(str(segmentation_run.parent), "--size", "64x64")
    assert status == 2 and "There is no model" in err


def test_it_counts_a_model_file(inspect, tmp_path):
    model = ladder_densenet((1, 1, 1, 1), num_classes=5, name="own")
    model.save(tmp_path / "own.keras")
    status, out, err = inspect(tmp_path / "own.keras", "--size", "64x96")
    assert status == 0, err
    assert "own, one image of 64x96" in out
    assert f"parameters    {model.count_params():,}\n" in out


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["ladder"], "ladder_densenet121"),
        (["none.keras"], "no file none.keras"),
        (["ladder_densenet"], "missing 1 required positional argument: 'blocks'"),
        (["ladder_densenet", "--options", "blocks"], "expected e.g. output_stride=8"),
        (["ladder_densenet", "--size", "64"], "expected HxW"),
    ],
)
def test_mistakes_are_one_line(inspect, arguments, words):
    status, _, err = inspect(*arguments)
    assert status == 2 and words in err.splitlines()[-1] and "Traceback" not in err


@pytest.mark.parametrize(
    "pydot, dot, words",
    [
        (
            False,
            False,
            ("pip install 'kerasdense[plot]') and Graphviz", "apt-get install graphviz"),
        ),
        (False, True, ("--plot needs pydot (./scripts/install plot",)),
        (True, False, ("--plot needs Graphviz's program dot",)),
    ],
)
def test_what_draws_graphs_is_named_where_it_is_missing(
    inspect, monkeypatch, tmp_path, pydot, dot, words
):
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: pydot or None)
    monkeypatch.setattr(command.shutil, "which", lambda name: dot or None)
    status, out, err = inspect("ssd300", "--plot", tmp_path / "model.png")
    assert status == 2 and not out and err.startswith("error: ") and err.count("\n") == 1
    assert all(word in err for word in words), err
    assert len(words) == 2 or (pydot is False) == ("pydot" in err)


def test_a_graph_is_drawn(inspect, monkeypatch, tmp_path):
    pytest.importorskip("pydot")
    if command.shutil.which("dot") is None:
        pytest.skip("no Graphviz")
    status, out, err = inspect("ssd300", "--size", "300x300", "--plot", tmp_path / "model.svg")
    assert status == 0 and (tmp_path / "model.svg").stat().st_size > 1000, err
