"""`kerasdense evaluate` as a user calls it, on a tiny run of each task."""

import json

import numpy as np
import pytest
from conftest import REAL_DATA, needs_real_data
from PIL import Image

from kerasdense.data.sources import toy_streets
from kerasdense.training import run_folder

BOX_NAMES = {"car", "pedestrian"}
ORIGIN = {"dataset", "split", "run"}


def result_in(folder):
    return json.loads((folder / "evaluation.json").read_text())


def test_segmentation(segmentation_run, kerasdense, tmp_path):
    status, out, err = kerasdense("evaluate", "--run", segmentation_run, "--output", tmp_path)
    assert status == 0 and "mean IoU" in out and "pedestrian" in out, err
    result = result_in(tmp_path)
    assert {
        "mean_iou", "per_class_iou", "pixel_accuracy", "confusion_matrix", "images", "pixels",
        "absent_classes", "scales", "flip", *ORIGIN,
    } == set(result)  # fmt: skip
    assert set(result["per_class_iou"]) == set(toy_streets.CLASSES)
    assert np.sum(result["confusion_matrix"]) == result["images"] * 192 * 256 == result["pixels"]
    assert (result["dataset"], result["split"]) == ("folder", "val")
    # What the run logged of its best, and only, epoch.
    best = run_folder.summary(segmentation_run)["best_epoch"]
    assert result["mean_iou"] == pytest.approx(best["val_mean_iou"], rel=1e-4)
    assert (tmp_path / "confusion_matrix.png").exists()
    assert (tmp_path / "confusion_matrix.pdf").exists()
    (worst,) = tmp_path.glob("worst_1_*.png")
    # Image, truth, prediction and errors side by side; 5 margins of 8, and those of the whole.
    assert Image.open(worst).size[0] == 4 * 256 + 5 * 8 + 2 * 8


def test_passes_are_averaged(segmentation_run, kerasdense, tmp_path):
    status, out, err = kerasdense(
        "evaluate", "--run", segmentation_run, "--output", tmp_path, "--scales", "0.5,1", "--flip"
    )
    assert status == 0, err
    result = result_in(tmp_path)
    assert result["scales"] == [0.5, 1.0] and result["flip"] is True


def test_detection(detection_run, kerasdense, tmp_path):
    status, out, err = kerasdense("evaluate", "--run", detection_run, "--output", tmp_path)
    assert status == 0 and "mean AP" in out and "pedestrian" in out and "COCO: " in out, err
    result = result_in(tmp_path)
    assert {
        "mean_ap_area", "mean_ap_11point", "ap_area", "ap_11point", "ground_truth", "detections",
        "true_positives", "false_positives", "images", "absent_classes", "coco", *ORIGIN,
    } == set(result)  # fmt: skip
    assert set(result["ap_area"]) == BOX_NAMES
    best = run_folder.summary(detection_run)["best_epoch"]
    assert result["mean_ap_area"] == pytest.approx(best["val_mean_ap"])
    assert (tmp_path / "precision_recall.png").exists()
    assert (tmp_path / "precision_recall.pdf").exists() and list(tmp_path.glob("worst_1_*.png"))


def test_classification(classification_run, kerasdense, tmp_path):
    arguments = ("--run", classification_run, "--output", tmp_path, "--split", "train")
    status, out, err = kerasdense("evaluate", *arguments)
    assert status == 0 and "mean AP" in out and "pedestrian" in out, err
    result = result_in(tmp_path)
    assert {
        "mean_ap_area", "mean_ap_11point", "ap_area", "ap_11point", "ground_truth", "ignored",
        "true_positives", "false_positives", "images", "absent_classes", *ORIGIN,
    } == set(result)  # fmt: skip
    assert set(result["ap_area"]) == BOX_NAMES and result["split"] == "train"
    assert (tmp_path / "precision_recall.png").exists()
    worst = sorted(tmp_path.glob("worst_*.png"))
    assert 0 < len(worst) <= 4
    # The scene is 256 wide, enlarged to 400; two margins of 8.
    assert Image.open(worst[0]).size[0] == 416


def test_the_best_model_of_the_run_measures_what_was_logged(
    classification_run, kerasdense, tmp_path
):
    (tmp_path / "worst_4_old.png").touch()
    (tmp_path / "worst_of_all.png").touch()
    kerasdense("evaluate", "--run", classification_run, "--output", tmp_path)
    result, best = result_in(tmp_path), run_folder.summary(classification_run)["best_epoch"]
    assert result["mean_ap_area"] == pytest.approx(best["val_mean_ap"])
    assert result["mean_ap_11point"] == pytest.approx(best["val_mean_ap_11point"])
    # Pictures of an earlier evaluation go, others stay.
    assert not (tmp_path / "worst_4_old.png").exists()
    assert (tmp_path / "worst_of_all.png").exists()


@pytest.mark.parametrize(
    "task, flags, words",
    [
        ("classification", ("--flip",), "--flip is"),
        ("detection", ("--flip", "--scales", "1,2"), "--scales and --flip are"),
    ],
)
def test_only_label_maps_are_averaged(task, flags, words, request, kerasdense, tmp_path):
    run = request.getfixturevalue(f"{task}_run")
    status, _, err = kerasdense("evaluate", "--run", run, *flags, "--output", tmp_path / "new")
    assert status == 2 and f"error: {words} not for a {task} run" in err and err.count("\n") == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "flags, words",
    [
        (("--split", "test"), "no split 'test'. It has: train, val"),
        (("--dataset", "camwid"), "Unknown dataset 'camwid'"),
        (
            ("--dataset", "folder_detection", "--source", "{toy}"),
            "folder_detection has car, pedestrian",
        ),
        (("--output", "/proc/run"), "/proc/run"),
        (("--scales", "1,0"), "expected a number above 0, received '0'"),
        (("--run", "{toy}"), "is no run folder: it holds no run.json"),
    ],
)
def test_mistakes_are_named(segmentation_run, toy_folder, flags, words, kerasdense, tmp_path):
    flags = [flag.format(toy=toy_folder) for flag in flags]
    arguments = ("--run", segmentation_run, "--output", tmp_path / "new", *flags)
    status, _, err = kerasdense("evaluate", *arguments)
    assert status == 2 and words in err and "Traceback" not in err
    assert err.count("\n") == 1 or err.startswith("usage: ")


@pytest.mark.slow
@needs_real_data("VOCdevkit/VOC2012")
def test_real_voc_with_difficult_objects(kerasdense, tmp_path):
    status, _, err = kerasdense(
        "fit", "densenet121_classifier", "--dataset", "voc_detection/voc2012",
        "--source", REAL_DATA / "VOCdevkit", "--prepared-dir", tmp_path / "prepared",
        "--workdir", tmp_path / "run", "--weights", "none", "--blocks", "1,1,1,1",
        "--size", "64x96", "--batch-size", 2, "--epochs", 1, "--steps-per-epoch", 2,
        "--augmentation", "none",
    )  # fmt: skip
    assert status == 0, err
    status, out, err = kerasdense("evaluate", "--run", tmp_path / "run")
    assert status == 0, err
    result = result_in(tmp_path / "run" / "evaluation")
    assert result["images"] == 40 and len(result["ap_area"]) == 20
    # Counted in the XML files: images with an easy object of a class, or with difficult ones only.
    easy, only_difficult = voc_counts(REAL_DATA / "VOCdevkit" / "VOC2012", "val")
    assert {k: v for k, v in result["ground_truth"].items() if v} == easy
    assert {k: v for k, v in result["ignored"].items() if v} == only_difficult
    assert result["absent_classes"] == 20 - len(easy)


def voc_counts(root, split):
    """How many images of a split show each class, and only difficult objects of it."""
    easy, only_difficult = {}, {}
    for stem in (root / "ImageSets" / "Main" / f"{split}.txt").read_text().split():
        objects = {}
        for text in (root / "Annotations" / f"{stem}.xml").read_text().split("<object>")[1:]:
            name = text.split("<name>")[1].split("<")[0]
            objects.setdefault(name, []).append("<difficult>1" in text)
        for name, difficult in objects.items():
            counts = only_difficult if all(difficult) else easy
            counts[name] = counts.get(name, 0) + 1
    return easy, only_difficult
