"""The Predictor: what it loads, what it refuses, and what it does without; and predict.py."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from test_export import NAMES, PALETTE, pictures, small_model

from kerasdense import runs
from kerasdense.export import export
from kerasdense.prediction import Predictor

REPOSITORY = Path(__file__).resolve().parents[1]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(REPOSITORY),
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A run as training leaves it, of a tiny model."""
    folder = tmp_path_factory.mktemp("run")
    dataset = {"name": "camvid", "source": None, "class_names": NAMES, "palette": PALETTE}
    runs.write_run(folder, {"model": {"name": "small"}, "dataset": dataset})
    small_model().save(folder / "best.keras")
    return folder


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    name = tmp_path_factory.mktemp("saved") / "name"
    export(small_model(), name, NAMES, PALETTE)
    return name


def test_encoded_files_equal_arrays(saved_model):
    predictor = Predictor(saved_model)
    images = pictures(2, 24, 36)
    expected = predictor.predict(images)
    files = [tf.io.encode_png(image).numpy() for image in images]
    outputs = predictor.predict_encoded(files)
    np.testing.assert_array_equal(outputs["labels"], expected["labels"])
    np.testing.assert_allclose(outputs["confidence"], expected["confidence"], atol=1e-6)
    # A JPEG is what TensorFlow decodes it to; a grey one counts as RGB.
    jpeg = tf.io.encode_jpeg(images[0]).numpy()
    decoded = tf.io.decode_jpeg(jpeg).numpy()
    np.testing.assert_array_equal(
        predictor.predict_encoded([jpeg])["labels"], predictor.predict(decoded[None])["labels"]
    )
    grey = tf.io.encode_png(images[0][..., :1]).numpy()
    np.testing.assert_array_equal(
        predictor.predict_encoded([grey])["labels"],
        predictor.predict(np.repeat(images[:1, ..., :1], 3, axis=-1))["labels"],
    )


def test_encoded_files_of_two_sizes_or_damaged(saved_model):
    predictor = Predictor(saved_model)
    small, large = (tf.io.encode_png(pictures(1, side, side)[0]).numpy() for side in (8, 9))
    for files in ([small, large], [b"no picture"], [small[:40]]):
        with pytest.raises(ValueError, match="one size"):
            predictor.predict_encoded(files)
    for files in (small, "path.png", ["path.png"]):
        with pytest.raises(ValueError, match="list of bytes"):
            predictor.predict_encoded(files)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((1, 8, 8, 4), np.uint8),
        np.zeros((1, 8, 8, 3), np.float32),
    ],
)
def test_images_must_be_a_uint8_batch(saved_model, images):
    for call in (Predictor(saved_model).predict, Predictor(saved_model).predict_probabilities):
        with pytest.raises(ValueError, match="uint8 \\[B, H, W, 3\\], received"):
            call(images)


def test_newest_version_by_number(tmp_path):
    name = tmp_path / "name"
    for _ in range(2):
        export(small_model(), name, NAMES, PALETTE)
    (name / "2").rename(name / "10")
    (name / "99").mkdir()  # holds no SavedModel
    assert Predictor(name).directory == name / "10"
    assert Predictor(name / "1").directory == name / "1"
    assert Predictor(str(name)).predict(pictures(1, 8, 8))["labels"].shape == (1, 8, 8)


def test_what_is_no_saved_model(tmp_path, saved_model):
    with pytest.raises(FileNotFoundError, match="no folder"):
        Predictor(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="empty folder"):
        Predictor(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="classes.json"):
        Predictor(tmp_path)
    (tmp_path / "assets").mkdir()
    classes = saved_model / "1" / "assets" / "classes.json"
    (tmp_path / "assets" / "classes.json").write_bytes(classes.read_bytes())
    with pytest.raises(ValueError, match="damaged"):
        Predictor(tmp_path)


def test_needs_tensorflow_and_numpy_only(saved_model):
    program = f"""
import sys
for name in ("keras", "PIL", "tensorflow_datasets", "keras_cv"):
    sys.modules[name] = None  # importing it raises ImportError
import numpy
from kerasdense.prediction import Predictor
labels = Predictor({str(saved_model)!r}).predict(numpy.zeros((2, 9, 7, 3), "uint8"))["labels"]
print(labels.shape, "kerasdense.layers" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(2, 9, 7) False"


@pytest.fixture
def script(monkeypatch, capsys):
    """Runs a script in this process: (exit status, what it printed, its errors)."""

    def call(name, *arguments):
        path = REPOSITORY / "scripts" / name
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            runpy.run_path(str(path), run_name="__main__")
        printed = capsys.readouterr()
        return exit_.value.code or 0, printed.out, printed.err

    return call


def test_predict_script(script, run_folder, saved_model, tmp_path):
    """Both ways give one label map; names stay apart; a bad image is skipped with status 1."""
    one, two = tmp_path / "one", tmp_path / "two"
    for number, folder in enumerate((one, two)):
        folder.mkdir()
        Image.fromarray(pictures(1, 30, 40, seed=number)[0]).save(folder / "same.png")
    Image.fromarray(pictures(1, 20, 20)[0]).save(two / "same_overlay.png")
    Image.fromarray(pictures(1, 20, 20)[0]).save(two / "legend.png")
    (two / "broken.jpg").write_text("no picture")
    (two / "notes.txt").write_text("not looked at")
    status, out, err = script(
        "predict.py", "--run", run_folder, one, two, "--output", tmp_path / "by_run"
    )
    assert status == 1 and len(err.splitlines()) == 2 and "broken.jpg" in err
    assert "4 of 5 images predicted" in out
    names = ["legend_2", "same", "same_2", "same_overlay_2"]
    endings = (".png", "_overlay.png")
    expected = {"legend.png"} | {name + ending for name in names for ending in endings}
    assert {path.name for path in (tmp_path / "by_run").iterdir()} == expected

    (two / "broken.jpg").unlink()
    status, out, err = script(
        "predict.py", "--saved-model", saved_model, one, two, "--output", tmp_path / "by_export"
    )
    assert status == 0 and not err
    for name in names:
        with Image.open(tmp_path / "by_run" / f"{name}.png") as first:
            with Image.open(tmp_path / "by_export" / f"{name}.png") as second:
                assert first.mode == second.mode == "P"
                np.testing.assert_array_equal(np.asarray(first), np.asarray(second))
    source = one / "same.png"
    with Image.open(source) as file:
        image = np.asarray(file)
    with Image.open(tmp_path / "by_run" / "same.png") as file:
        labels = np.asarray(file)
    model_labels = np.asarray(small_model()(image[None], training=False)).argmax(axis=-1)[0]
    np.testing.assert_array_equal(labels, model_labels)


def test_predict_script_does_not_overwrite_images(script, saved_model, tmp_path):
    picture = tmp_path / "a.png"
    Image.fromarray(pictures(1, 8, 8)[0]).save(picture)
    before = picture.read_bytes()
    model = ("--saved-model", saved_model)
    status, _, err = script("predict.py", *model, tmp_path, "--output", tmp_path)
    assert status == 2 and err.startswith("error: ") and "--output" in err
    assert picture.read_bytes() == before
    # Results below the folder are fine, and are not taken for images the next time.
    for _ in range(2):
        status, out, _ = script("predict.py", *model, tmp_path, "--output", tmp_path / "out")
        assert status == 0 and "1 of 1 images" in out
    (tmp_path / "empty").mkdir()
    status, _, err = script("predict.py", *model, tmp_path / "empty", "--output", tmp_path / "o")
    assert status == 2 and "No images" in err


def test_export_script(script, run_folder, tmp_path):
    output = tmp_path / "name"
    status, out, err = script("export.py", "--run", run_folder, "--output", output)
    assert status == 0, err
    assert str(output / "1") in out and "in float32 at 100.000 % of the pixels" in out


def test_run_facts_round_trip(tmp_path):
    facts = {"task": "detection", "model": {"name": "x"}, "dataset": {"name": "mot15"}}
    runs.write_run(tmp_path / "run", facts)
    assert runs.read_run(tmp_path / "run") == facts
    del facts["task"]  # as the first runs were written
    runs.write_run(tmp_path / "run", facts)
    assert runs.read_run(tmp_path / "run") == facts | {"task": "segmentation"}
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]


def test_damaged_runs_are_named(tmp_path, run_folder):
    with pytest.raises(FileNotFoundError, match="run.json"):
        runs.load_run(tmp_path)
    (tmp_path / "run.json").write_text('{"model": ')
    with pytest.raises(ValueError, match="damaged"):
        runs.load_run(tmp_path)
    (tmp_path / "run.json").write_text('{"model": {}}')
    with pytest.raises(ValueError, match="lacks dataset"):
        runs.load_run(tmp_path)
    runs.write_run(tmp_path, json.loads((run_folder / "run.json").read_text()))
    with pytest.raises(FileNotFoundError, match="best.keras"):
        runs.load_run(tmp_path)
    whole = (run_folder / "best.keras").read_bytes()
    for content in (b"", b"no model", whole[: len(whole) // 2]):
        (tmp_path / "best.keras").write_bytes(content)
        with pytest.raises(ValueError, match="best.keras cannot be loaded"):
            runs.load_run(tmp_path)
