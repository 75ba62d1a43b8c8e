"""The scripts on a small SSD300 as a user calls them: fit, evaluate, export, predict, compare."""

import json

import numpy as np
import pytest
from conftest import REAL_DATA, needs_real_data
from PIL import Image
from test_scripts import run

from kerasdense.data.formats import read_mot, read_voc_results
from kerasdense.export.predictor import Predictor

TINY = ["--weights", "none", "--width", "0.0625", "--optimizer", "adam"]
NAMES = ["car", "pedestrian"]


class Quiet:
    """Stands for capsys in a fixture of the whole module."""

    readouterr = staticmethod(lambda: type("Output", (), {"out": "", "err": ""}))


@pytest.fixture
def script(monkeypatch, capsys):
    return lambda name, *arguments: run(monkeypatch, capsys, name, *arguments)


def fit_flags(place, *more):
    return [
        "--dataset", "folder_detection", "--source", place / "toy",
        "--prepared-dir", place / "prepared", "--workdir", place / "run", *TINY,
        "--batch-size", 2, "--epochs", 1, "--steps-per-epoch", 2, *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """Six scenes with boxes, one fitted run on them, and its export."""
    place = tmp_path_factory.mktemp("workplace")
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, *arguments in (
            ("make_toy_streets", "--output", place / "toy", "--count", 6),
            ("fit_ssd300", *fit_flags(place)),
            ("export", "--run", place / "run", "--output", place / "saved"),
        ):
            status, *_ = run(monkeypatch, Quiet, name, *arguments)
            assert status == 0
    return place


def test_a_run_records_the_task_and_the_parts_of_the_loss(workplace):
    record = json.loads((workplace / "run" / "run.json").read_text())
    assert record["task"] == "detection" and record["model"]["name"] == "ssd300"
    assert record["dataset"]["class_names"] == NAMES
    (line,) = (workplace / "run" / "metrics.jsonl").read_text().splitlines()
    line = json.loads(line)
    assert line["loss"] == pytest.approx(
        line["confidence_loss"] + line["localization_loss"], rel=0.2
    )  # the loss holds the weights' decay as well
    assert line["positives"] > 0 and 0 <= line["val_mean_ap"] <= 1


def test_evaluate_writes_the_promised_keys_and_pictures(workplace, script):
    status, out, err = script("evaluate", "--run", workplace / "run", "--split", "val")
    assert status == 0 and "mean AP" in out and "pedestrian" in out, err
    folder = workplace / "run" / "evaluation"
    result = json.loads((folder / "evaluation.json").read_text())
    assert {"mean_ap_area", "mean_ap_11point", "coco", "images"} <= set(result)
    assert set(result["ap_area"]) == set(NAMES) and (folder / "precision_recall.png").exists()
    status, _, err = script("evaluate", "--run", workplace / "run", "--flip")
    assert status == 2 and "--flip" in err


def test_run_and_saved_model_find_the_same_boxes(workplace, script):
    images = workplace / "toy" / "images"
    for kind, model in (("run", "run"), ("saved-model", "saved")):
        status, out, err = script(
            "predict", f"--{kind}", workplace / model, images,
            "--output", workplace / kind, "--score", 0.2,
        )  # fmt: skip
        assert status == 0, err
    for name in NAMES:
        first, second = (
            read_mot(workplace / kind / "mot" / f"det_{name}.txt")
            for kind in ("run", "saved-model")
        )
        np.testing.assert_allclose(first.boxes, second.boxes, atol=0.01)
        np.testing.assert_array_equal(first.frames, second.frames)
        # The same boxes in VOC's form, image by image.
        results = read_voc_results(workplace / "run" / "voc", NAMES)[name]
        np.testing.assert_allclose(sorted(results.scores), sorted(first.confidences), atol=1e-5)
    stems = sorted(path.stem for path in images.iterdir())
    for stem in stems:
        assert (workplace / "run" / f"{stem}_boxes.jpg").exists()


def test_the_served_boxes_are_pixels_of_pictures_of_any_size(workplace):
    predictor = Predictor(workplace / "saved")
    assert predictor.task == "detection" and predictor.class_names == NAMES
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


def test_a_sequence_of_frames_becomes_a_det_txt_that_can_be_evaluated(workplace, script, tmp_path):
    frames = tmp_path / "SEQ" / "img1"
    frames.mkdir(parents=True)
    (tmp_path / "SEQ" / "seqinfo.ini").write_text("[Sequence]\n")
    for number, path in zip((3, 7), sorted((workplace / "toy" / "images").iterdir())):
        Image.open(path).save(frames / f"{number:06d}.jpg")
    status, _, err = script(
        "predict", "--saved-model", workplace / "saved", tmp_path / "SEQ",
        "--output", tmp_path / "out",
    )  # fmt: skip
    assert status == 0, err
    assert set(read_mot(tmp_path / "out" / "mot" / "det_car.txt").frames) <= {3, 7}
    (tmp_path / "gt.txt").write_text("3,1,10,10,20,20,1,-1,-1,-1\n")
    status, out, _ = script(
        "evaluate_detections", "--format", "mot", "--ground-truth", tmp_path / "gt.txt",
        "--detections", tmp_path / "out" / "mot" / "det_car.txt",
    )  # fmt: skip
    assert status == 0 and json.loads(out)["ground_truth"] == 1


def test_another_model_in_the_same_workdir_is_refused(workplace, script):
    status, _, err = script("fit_ssd300", *fit_flags(workplace, "--anchors", "coco"))
    assert status == 2 and "holds another run" in err and err.count("\n") == 1


@pytest.mark.slow
@needs_real_data("BCCD")
def test_a_few_real_pictures_are_learned_by_heart(script, tmp_path):
    """What the fit script's docstring documents for ten pictures, reduced to four."""
    source, numbers = tmp_path / "four", {"train": (1, 3, 4, 9), "val": (0,)}
    for folder, ending in (("JPEGImages", "jpg"), ("Annotations", "xml")):
        (source / folder).mkdir(parents=True)
        for number in sum(numbers.values(), ()):
            name = f"BloodImage_{number:05d}.{ending}"
            (source / folder / name).symlink_to(REAL_DATA / "BCCD" / folder / name)
    lists = source / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for split, chosen in numbers.items():
        (lists / f"{split}.txt").write_text("".join(f"BloodImage_{n:05d}\n" for n in chosen))
    status, _, err = script(
        "fit_ssd300", "--dataset", "folder_detection", "--source", source,
        "--prepared-dir", tmp_path / "prepared", "--workdir", tmp_path / "run",
        "--weights", "none", "--width", 0.125, "--optimizer", "adam", "--learning-rate", 1e-3,
        "--augmentation", "none", "--validation-split", "train", "--batch-size", 4,
        "--epochs", 1, "--steps-per-epoch", 300,
    )  # fmt: skip
    assert status == 0, err
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    assert line["val_mean_ap"] >= 0.9
