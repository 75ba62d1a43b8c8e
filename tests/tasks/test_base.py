"""What a new task costs: a file. The whole way with a fourth one, without a line elsewhere."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerasdense import recipes, tasks
from kerasdense.export.predictor import Predictor
from kerasdense.tasks.base import LONGEST_REASON, reason

FOURTH = str(Path(__file__).parent / "fourth")


def raised(function, *arguments):
    with pytest.raises(Exception) as caught:
        function(*arguments)
    return caught.value


def test_the_cause_of_an_error_of_tensorflow_stands_below_its_trace():
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None, None])])
    def checked(x):
        tf.debugging.assert_greater(tf.shape(x)[0], 1, "Too few rows.")
        return tf.matmul(x, x)

    error = raised(checked, tf.ones((1, 1)))  # of which the product is no error, too
    assert "most recent call last" in str(error) and reason(error) == "Too few rows"
    error = raised(checked, tf.ones((2, 3)))
    assert reason(error) == "Matrix size-incompatible: In[0]: [2,3], In[1]: [2,3]"
    error = raised(tf.matmul, tf.ones((2, 3)), tf.ones((2, 3)))  # not in a graph
    assert reason(error) == "Matrix size-incompatible: In[0]: [2,3], In[1]: [2,3]"


@pytest.mark.parametrize(
    "text, cause",
    [
        ("", "ValueError"),
        ("It is so.", "It is so"),
        ("Exception from src/core.cpp:1:\nCheck 'a' failed:\nNo such model.\n\n", "No such model"),
        (
            "Exception encountered when calling F.call().\n\n\x1b[1mWrong shape: (1, 2)\x1b[0m\n\n"
            "Arguments received by F.call():\n  • inputs=0",
            "Wrong shape: (1, 2)",
        ),
        (
            "2 root error(s) found.\n  (0) INVALID_ARGUMENT: assertion failed: [No images.] [1]\n"
            "\t [[{{node a}}]]\n\t [[b]]\n  (1) CANCELLED: other\n\t [[{{node c}}]]",
            "No images.",
        ),
    ],
)  # fmt: skip
def test_causes_of_other_errors(text, cause):
    assert reason(ValueError(text)) == cause.rstrip(".")


def test_of_a_long_text_the_end_is_kept():
    found = reason(ValueError("Running node 7 of many. " * 50 + "Status Message: no dilation."))
    assert found.startswith("… ") and found.endswith(" Status Message: no dilation")
    assert LONGEST_REASON - 20 < len(found) <= LONGEST_REASON + 2


@pytest.fixture
def depth(monkeypatch):
    """Puts tests/tasks/fourth/depth.py beside the package's tasks and recipes."""
    for rooms in (tasks, recipes):
        monkeypatch.setattr(rooms, "__path__", [*rooms.__path__, FOURTH])


@pytest.mark.slow
def test_a_fourth_task_is_fitted_evaluated_predicted_and_exported(depth, kerasdense, tmp_path):
    assert "depth" in tasks.names() and "depth" in recipes.names()
    run, toy = tmp_path / "run", tmp_path / "toy"
    data = ("--source", toy, "--prepared-dir", tmp_path / "prepared")
    status, *_ = kerasdense("make-toy-streets", "--output", toy, "--count", 4)
    assert status == 0
    status, out, err = kerasdense(
        "fit", "depth", "--dataset", "folder", *data, "--workdir", run, "--weights", "none",
        "--blocks", "1,1,1,1", "--steps-per-epoch", 2,
    )  # fmt: skip
    assert status == 0, err
    assert "val closeness" in out
    (line,) = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    assert line["val_closeness"] <= 1

    status, out, err = kerasdense("evaluate", "--run", run)
    assert status == 0, err
    measured = run / "evaluation" / "folder_val"
    result = json.loads((measured / "evaluation.json").read_text())
    assert result["error"] == pytest.approx(1 - line["val_closeness"], abs=1e-5)
    assert "mean error of the depth" in out and list(measured.glob("worst_1_*.png"))

    saved, images = tmp_path / "saved", toy / "images"
    status, out, err = kerasdense("export", "--run", run, "--output", saved)
    assert status == 0, err
    assert Predictor(saved).facts["signatures"]["serving_default"]["outputs"] == {
        "depth": {"dtype": "float32", "shape": [None, None, None]}
    }
    status, out, err = kerasdense("check-export", saved, "--run", run, "--images", images,
                                  "--pictures", 2, "--turns", 1)  # fmt: skip
    assert status == 0, err
    kerasdense("evaluate", "--saved-model", saved, *data)
    measured = saved / "1" / "evaluation" / "folder_toy_val" / "evaluation.json"
    assert json.loads(measured.read_text())["error"] == pytest.approx(result["error"], abs=1e-4)
    drawn = []
    for kind, model in (("--run", run), ("--saved-model", saved)):
        output = tmp_path / f"from{kind}"
        status, out, err = kerasdense("predict", kind, model, images, "--output", output)
        assert status == 0, err
        drawn.append(np.asarray(Image.open(next(output.glob("*_depth.png")))).astype(int))
    assert np.abs(drawn[0] - drawn[1]).max() <= 1

    status, _, err = kerasdense("evaluate", "--run", run, "--flip")
    assert status == 2 and "--flip" in err
    status, _, err = kerasdense("attack", "--run", run, "--images", images)
    assert status == 2 and "no units to attack" in err
