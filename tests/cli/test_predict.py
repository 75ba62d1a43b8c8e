"""`kerasdense predict` as a user calls it: runs and exports agree, files come out, mistakes."""

import json
import os
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
from conftest import REPOSITORY
from PIL import Image

from kerasdense.data.formats import read_mot, read_voc_results
from kerasdense.data.sources import toy_streets
from kerasdense.export import processor
from kerasdense.export.predictor import Predictor

BOX_NAMES = ["car", "pedestrian"]


@pytest.fixture
def predicted(request, kerasdense, toy_folder, tmp_path):
    """Folders of what the run and the export of a task find in the scenes."""

    def predict(task, *flags):
        folders = tmp_path / "run", tmp_path / "saved_model"
        for flag, made, output in zip(("--run", "--saved-model"), ("run", "export"), folders):
            model = request.getfixturevalue(f"{task}_{made}")
            status, out, err = kerasdense(
                "predict", flag, model, toy_folder / "images", "--output", output, *flags
            )
            assert status == 0 and f"6 of 6 images predicted into {output}" in out, err
        return folders

    return predict


def test_run_and_saved_model_predict_the_same_label_maps(predicted, toy_folder):
    folders = predicted("segmentation")
    for path in sorted((toy_folder / "images").iterdir()):
        first, second = (np.asarray(Image.open(folder / path.name)) for folder in folders)
        np.testing.assert_array_equal(first, second)
        assert first.shape == (192, 256) and first.max() < len(toy_streets.CLASSES)
    names = {path.name for path in folders[0].iterdir()}
    assert "legend.png" in names and "scene_000_overlay.png" in names
    assert names == {path.name for path in folders[1].iterdir()}


def test_run_and_saved_model_find_the_same_boxes(predicted, toy_folder):
    folders = predicted("detection", "--score", 0.2)
    for name in BOX_NAMES:
        first, second = (read_mot(folder / "mot" / f"det_{name}.txt") for folder in folders)
        np.testing.assert_allclose(first.boxes, second.boxes, atol=0.01)
        np.testing.assert_array_equal(first.frames, second.frames)
        # The same boxes in VOC's form, image by image.
        results = read_voc_results(folders[0] / "voc", BOX_NAMES)[name]
        np.testing.assert_allclose(sorted(results.scores), sorted(first.confidences), atol=1e-5)
    for path in (toy_folder / "images").iterdir():
        assert (folders[0] / f"{path.stem}_boxes.jpg").exists()


def test_run_and_saved_model_give_the_same_labels(predicted, toy_folder):
    folders = predicted("classification", "--score", 0)
    first, second = (json.loads((folder / "labels.json").read_text()) for folder in folders)
    assert sorted(first) == sorted(second) == sorted(map(str, (toy_folder / "images").iterdir()))
    for path, probabilities in first.items():
        assert list(probabilities) == BOX_NAMES
        assert probabilities == pytest.approx(second[path], abs=1e-4)
        assert all(0 <= probability <= 1 for probability in probabilities.values())
    assert (folders[0] / "scene_000_labels.jpg").exists()


WITHOUT_KERAS = """
import sys
sys.modules["keras"] = sys.modules["tensorflow"] = None
from kerasdense.cli.main import main
from kerasdense.export import predictor

class Served:
    task, class_names, palette = "segmentation", ["dark", "bright"], [[0, 0, 0], [255, 255, 255]]
    facts = {"run": None, "input": {"batch_size": None}}

    def predict(self, images):
        return {"labels": images[..., 0] // 128}

predictor.Predictor = lambda *arguments: Served()  # with the runtime of its own
main()
"""


def test_an_export_is_predicted_with_where_keras_is_not(toy_folder, tmp_path):
    picture = toy_folder / "images" / "scene_000.png"
    result = subprocess.run(
        [
            sys.executable, "-c", WITHOUT_KERAS, "predict", "--saved-model", "any", picture,
            "--output", tmp_path,
        ],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    labels = np.asarray(Image.open(tmp_path / "scene_000.png"))
    np.testing.assert_array_equal(labels, np.asarray(Image.open(picture))[..., 0] // 128)


OF_THE_LADDER = """
import sys
sys.modules["keras"] = sys.modules["tensorflow"] = None
from kerasdense.cli.main import main
from kerasdense.data.cityscapes_frames import CLASSES
from kerasdense.export import predictor

class Served:
    task, class_names = "segmentation", [name for _, name, _ in CLASSES]
    palette = [color for _, _, color in CLASSES]
    facts = {"run": {"dataset": {"name": "cityscapes/ladder"}}, "input": {"batch_size": None}}

    def predict(self, images):
        assert images.shape == (1, 448, 1024, 3)
        return {"labels": images[..., 0] // 16}

predictor.Predictor = lambda *arguments: Served()  # with the runtime of its own
main()
"""


def test_label_ids_for_the_server_of_cityscapes(tmp_path):
    # Above sky (class 10, label id 23), below road (0, 7): and there, on the left, the ego vehicle,
    # painted with red 75, which the model takes for class 75 // 16 = 4, fence (label id 13).
    frame = np.zeros((128, 256, 3), np.uint8)
    frame[:64] = 16 * 10 + 8
    ids = np.zeros((128, 256), np.uint8)
    ids[90:, :64] = 1
    name = "test/ulm/ulm_000000_000019"
    images = tmp_path / "leftImg8bit"
    for path, pixels in (
        (images / f"{name}_leftImg8bit.png", frame),
        (tmp_path / "gtFine" / f"{name}_gtFine_labelIds.png", ids),
        (images / "test/bonn/bonn_000000_000019_leftImg8bit.png", frame),
        (images / "test/bonn/bonn_000001_000019_leftImg8bit.png", frame[:100]),
        (images / "test/bonn/._bonn_000000_000019_leftImg8bit.png", frame),  # of macOS
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    output = tmp_path / "out"
    result = subprocess.run(
        [
            sys.executable, "-c", OF_THE_LADDER, "predict", "--saved-model", "any", images,
            "--cityscapes-ids", "--output", output,
        ],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 1 and result.stderr.count("\n") == 2, result.stderr
    assert "must be twice as wide as high: received 256x100" in result.stderr
    assert "it sees rows 30 to 900 of each frame, at 1024x448" in result.stdout
    assert "The ego vehicle is painted over in 1 of 3 frames" in result.stdout
    assert "2 of 3 images predicted" in result.stdout
    written = {path.name for path in (output / "cityscapes_ids").iterdir()}
    assert written == {"ulm_000000_000019_pred.png", "bonn_000000_000019_pred.png"}
    # Away from edges, in rows of 1024: up to 30 unseen, up to 512 sky, from 720 on the ego vehicle,
    # from 900 on unseen.
    with Image.open(output / "cityscapes_ids" / "ulm_000000_000019_pred.png") as file:
        assert file.mode == "L" and file.size == (2048, 1024)
        found = np.asarray(file)
    rows, left, right = [29, 30, 480, 544, 680, 760, 899, 900], 100, 1900
    assert found[rows, left].tolist() == [0, 23, 23, 7, 7, 13, 13, 0]
    assert found[rows, right].tolist() == [0, 23, 23, 7, 7, 7, 7, 0]
    with Image.open(output / "cityscapes_ids" / "bonn_000000_000019_pred.png") as file:
        np.testing.assert_array_equal(np.asarray(file)[:, left], found[:, right])  # not painted
    # Beside it what is always written, of the frame's size, and there unseen rows are 255.
    labels = np.asarray(Image.open(output / f"{name}_leftImg8bit.png"))
    assert labels.shape == (128, 256)
    assert labels[[3, 4, 60, 70, 111, 112], 200].tolist() == [255, 10, 10, 0, 0, 255]
    assert (output / f"{name}_leftImg8bit_overlay.png").exists()


@pytest.mark.parametrize(
    "task, names, words",
    [
        ("segmentation", ["a"], "a.png; expected CITY_123456_123456_leftImg8bit.png"),
        ("segmentation", ["x/ulm_000000_000019", "y/ulm_000000_000019"], "ids/ulm_000000_000019_p"),
        ("segmentation", ["ulm_000000_000019"], "its 19 classes, received a model of"),
        ("detection", ["ulm_000000_000019"], "received a detection model"),
        ("classification", ["ulm_000000_000019"], "received a classification model"),
    ],
)
def test_what_has_no_label_ids(task, names, words, kerasdense, monkeypatch, tmp_path):
    served = types.SimpleNamespace(
        task=task, class_names=["car", "tree"], palette=[[0, 0, 0], [9, 9, 9]], facts={"run": {}}
    )
    monkeypatch.setattr("kerasdense.export.predictor.Predictor", lambda *arguments: served)
    for name in names:
        path = tmp_path / "in" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (128, 64)).save(path)
    status, _, err = kerasdense(
        "predict", "--saved-model", "any", tmp_path / "in", "--cityscapes-ids",
        "--output", tmp_path / "out",
    )  # fmt: skip
    assert status == 2 and words in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_served_boxes_are_pixels_of_pictures_of_any_size(detection_export):
    predictor = Predictor(detection_export)
    assert predictor.task == "detection" and predictor.class_names == BOX_NAMES
    small = np.random.default_rng(0).integers(0, 256, (2, 100, 50, 3), np.uint8)
    found = predictor.predict(small)
    assert found["boxes"].shape == (2, 200, 4) and found["boxes"].dtype == np.float32
    assert found["classes"].dtype == found["num_detections"].dtype == np.int32
    assert found["boxes"][..., 2].max() <= 50 < found["boxes"][..., 3].max() <= 100
    # Twice as large without interpolation: the warped picture is not quite the same.
    large = predictor.predict(np.repeat(np.repeat(small, 6, axis=1), 6, axis=2))
    assert large["boxes"][..., 3].max() > 500
    with pytest.raises(ValueError, match="detection model"):
        predictor.predict_probabilities(small)


def test_a_sequence_of_frames_becomes_a_det_txt_that_can_be_evaluated(
    detection_export, toy_folder, kerasdense, tmp_path
):
    frames = tmp_path / "SEQ" / "img1"
    frames.mkdir(parents=True)
    (tmp_path / "SEQ" / "seqinfo.ini").write_text("[Sequence]\n")
    for number, path in zip((3, 7), sorted((toy_folder / "images").iterdir())):
        Image.open(path).save(frames / f"{number:06d}.jpg")
    status, _, err = kerasdense(
        "predict", "--saved-model", detection_export, tmp_path / "SEQ",
        "--output", tmp_path / "out",
    )  # fmt: skip
    assert status == 0, err
    assert set(read_mot(tmp_path / "out" / "mot" / "det_car.txt").frames) <= {3, 7}
    (tmp_path / "gt.txt").write_text("3,1,10,10,20,20,1,-1,-1,-1\n")
    status, out, _ = kerasdense(
        "evaluate-detections", "--format", "mot", "--ground-truth", tmp_path / "gt.txt",
        "--detections", tmp_path / "out" / "mot" / "det_car.txt",
    )  # fmt: skip
    assert status == 0 and json.loads(out)["ground_truth"] == 1


def test_a_broken_picture_is_named_skipped_and_counted(
    segmentation_run, toy_folder, kerasdense, tmp_path
):
    good = next((toy_folder / "images").iterdir())
    (tmp_path / "broken.png").write_bytes(good.read_bytes()[:500])
    Image.new("RGB", (5000, 4000)).save(tmp_path / "large.png")
    status, out, err = kerasdense(
        "predict", "--run", segmentation_run, good, tmp_path / "broken.png",
        tmp_path / "large.png", "--output", tmp_path / "out",
    )  # fmt: skip
    assert status == 1 and "[2/3] skipped" in err and "broken.png" in err
    # What TensorFlow says below a trace of the whole program.
    words = "Too large: expected at most 16777216 pixels in a batch. Send fewer or smaller images."
    assert f"[3/3] skipped {tmp_path / 'large.png'}: {words}\n" in err
    assert "2 could not be predicted, see above" in err and "1 of 3 images predicted" in out
    assert (tmp_path / "out" / good.name).exists()


@pytest.mark.parametrize("task", ["segmentation", "detection", "classification"])
def test_the_smallest_pictures_are_predicted(task, request, kerasdense, tmp_path):
    for name, size in (("dot", (1, 1)), ("line", (40, 1)), ("small", (63, 20))):
        Image.new("RGB", size, (200, 10, 10)).save(tmp_path / f"{name}.png")
    images = [tmp_path / f"{name}.png" for name in ("dot", "line", "small")]
    for flag, made in (("--run", "run"), ("--saved-model", "export")):
        model, output = request.getfixturevalue(f"{task}_{made}"), tmp_path / made
        status, out, err = kerasdense("predict", flag, model, *images, "--output", output)
        assert status == 0 and "3 of 3 images predicted" in out, err
        if task == "segmentation":
            sizes = [Image.open(output / path.name).size for path in images]
            assert sizes == [(1, 1), (40, 1), (63, 20)]


def test_sub_folders_are_mirrored(segmentation_export, toy_folder, kerasdense, tmp_path):
    first, second = sorted((toy_folder / "images").iterdir())[:2]
    for place, picture in (("bad/3", first), ("good/3", second), ("3", second)):
        path = tmp_path / "in" / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture.read_bytes())
    (tmp_path / "in" / "._3.png").write_bytes(b"of macOS")
    status, out, err = kerasdense(
        "predict", "--saved-model", segmentation_export, tmp_path / "in", tmp_path / "in" / "3.png",
        "--output", tmp_path / "out",
    )  # fmt: skip
    assert status == 0 and "4 of 4" in out, err
    written = {
        path.relative_to(tmp_path / "out").as_posix() for path in tmp_path.rglob("out/**/*.png")
    }
    names = ("3", "3_2", "bad/3", "good/3")  # the first one was given twice
    assert written == {f"{name}{end}.png" for name in names for end in ("", "_overlay")} | {
        "legend.png"
    }
    maps = {name: np.asarray(Image.open(tmp_path / "out" / f"{name}.png")) for name in names}
    np.testing.assert_array_equal(maps["good/3"], maps["3"])


def test_a_runtime_that_fails_costs_one_picture(
    segmentation_export, toy_folder, kerasdense, monkeypatch, tmp_path
):
    predict, calls = Predictor.predict, []

    def fails_once(self, images):
        calls.append(images)
        if len(calls) == 1:
            raise RuntimeError("Running node 7. " * 50 + "Status Message: no dilation.")
        return predict(self, images)

    monkeypatch.setattr(Predictor, "predict", fails_once)
    status, out, err = kerasdense(
        "predict", "--saved-model", segmentation_export, toy_folder / "images",
        "--output", tmp_path / "out",
    )  # fmt: skip
    assert status == 1 and "5 of 6" in out and err.count("\n") == 2
    assert "The saved_model model fails on it: … " in err and "Message: no dilation\n" in err


def test_a_file_is_no_place_for_results(segmentation_export, toy_folder, kerasdense, tmp_path):
    (tmp_path / "file").touch()
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        status, _, err = kerasdense(
            "predict", "--saved-model", segmentation_export, toy_folder / "images",
            "--output", output,
        )  # fmt: skip
        words = f"{output}: expected a folder, or a name for a new one, but "
        assert (status, err) == (2, f"error: {words}{tmp_path / 'file'} is a file.\n")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--run", "{run}", "{place}"), "No images"),
        (("--run", "{place}", "{images}"), "is no run folder"),
        (("--saved-model", "{place}", "{images}"), "holds no exported model"),
        (("--saved-model", "x", "--checkpoint", "last", "{images}"), "last is of a run, received"),
        (("{images}",), "one of the arguments --run --saved-model is required"),
        (("--run", "{run}", "--saved-model", "{run}", "{images}"), "not allowed with argument"),
    ],
)
def test_mistakes_are_named(segmentation_run, toy_folder, arguments, words, kerasdense, tmp_path):
    places = {"run": segmentation_run, "place": tmp_path, "images": toy_folder / "images"}
    arguments = [argument.format(**places) for argument in arguments]
    status, _, err = kerasdense("predict", *arguments, "--output", tmp_path / "out")
    assert status == 2 and words in err and "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_the_model_of_a_run_may_be_its_last(segmentation_run, toy_folder, kerasdense, tmp_path):
    for path in segmentation_run.glob("*.json"):
        shutil.copy(path, tmp_path)
    for flags, name in (((), "best.keras"), (("--checkpoint", "last"), "last.keras")):
        status, _, err = kerasdense(
            "predict", "--run", tmp_path, *flags, toy_folder / "images", "--output", tmp_path / "x"
        )
        assert status == 2 and f"{tmp_path} holds no {name} yet" in err


def test_a_name_that_is_too_long_costs_its_picture_alone(
    segmentation_export, toy_folder, kerasdense, tmp_path
):
    first, second, *_ = sorted((toy_folder / "images").iterdir())
    (tmp_path / "in").mkdir()
    shutil.copy(first, tmp_path / "in" / f"{'a' * 251}.png")  # with _overlay over 255 letters
    shutil.copy(second, tmp_path / "in" / "b.png")
    folders = tmp_path / "in", "--output", tmp_path / "out"
    status, out, err = kerasdense("predict", "--saved-model", segmentation_export, *folders)
    assert status == 1 and "skipped" in err and "File name too long" in err
    assert "1 of 2 images predicted" in out and (tmp_path / "out" / "b_overlay.png").exists()


def test_an_export_of_a_fixed_batch_is_filled_up(
    segmentation_run, segmentation_export, toy_folder, kerasdense, tmp_path
):
    picture = toy_folder / "images" / "scene_000.png"
    fixed = "--output", tmp_path / "fixed", "--batch-size", 3
    status, _, err = kerasdense("export", "--run", segmentation_run, *fixed)
    assert status == 0, err
    labels = []
    for export in (segmentation_export, tmp_path / "fixed"):
        flags = "--saved-model", export, picture, "--output", tmp_path / "found"
        status, out, err = kerasdense("predict", *flags)
        assert status == 0 and "1 of 1 images predicted" in out, err
        labels.append(np.asarray(Image.open(tmp_path / "found" / "scene_000.png")))
    assert np.mean(labels[0] != labels[1]) < 1e-3


def test_precision_of_a_run_and_of_an_export(
    segmentation_run, segmentation_export, toy_folder, kerasdense, tmp_path, monkeypatch
):
    monkeypatch.setattr(processor, "best_precision", lambda: ("bfloat16", "a test says so"))
    picture = toy_folder / "images" / "scene_000.png"

    def predict(*flags):
        status, out, err = kerasdense("predict", *flags, picture, "--output", tmp_path / "found")
        assert status == 0, err
        return out

    out = predict("--run", segmentation_run, "--precision", "auto")
    assert "precision bfloat16: a test says so" in out, "all of it, unlike in training"
    out = predict("--run", segmentation_run, "--precision", "bfloat16")
    assert "precision bfloat16" not in out and "precision mixed" not in out
    out = predict("--saved-model", segmentation_export, "--precision", "auto")
    assert "precision float32: a saved_model computes in what it was exported in" in out
    status, _, err = kerasdense(
        "predict", "--saved-model", segmentation_export, picture, "--output", tmp_path / "found",
        "--precision", "bfloat16",
    )  # fmt: skip
    assert status == 2 and "computes in float32, received precision 'bfloat16'" in err
