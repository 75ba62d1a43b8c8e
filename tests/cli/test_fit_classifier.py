"""A small classifier as a user fits and evaluates it, on drawn scenes, and mistakes."""

import json
import shutil

import numpy as np
import pytest
from conftest import REAL_DATA, needs_real_data
from PIL import Image
from test_detection_scripts import Quiet
from test_scripts import run

from kerasdense.training import run_folder

FIT = "fit_densenet121_classifier"
NAMES = ["car", "pedestrian"]
TINY = ["--weights", "none", "--blocks", "1,1,1,1", "--size", "64x96", "--batch-size", 2]


@pytest.fixture
def script(monkeypatch, capsys):
    return lambda name, *arguments: run(monkeypatch, capsys, name, *arguments)


def fit_flags(place, *more):
    return [
        "--dataset", "folder_detection", "--source", place / "toy",
        "--prepared-dir", place / "prepared", "--workdir", place / "run", *TINY,
        "--epochs", 2, "--steps-per-epoch", 2, *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """Six scenes with boxes, and one fitted run on them."""
    place = tmp_path_factory.mktemp("workplace")
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, *arguments in (
            ("make_toy_streets", "--output", place / "toy", "--count", 6),
            (FIT, *fit_flags(place)),
        ):
            status, *_ = run(monkeypatch, Quiet, name, *arguments)
            assert status == 0
    return place


def test_a_run_records_the_task_and_its_average_precision(workplace):
    record = json.loads((workplace / "run" / "run.json").read_text())
    assert record["task"] == "classification"
    assert record["model"] == {
        "name": "densenet_classifier", "arguments": {"blocks": [1, 1, 1, 1]},
    }  # fmt: skip
    assert record["dataset"]["class_names"] == NAMES and record["arguments"]["size"] == [64, 96]
    lines = [
        json.loads(line) for line in (workplace / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert all(0 <= line["val_mean_ap"] <= 1 and line["val_loss"] > 0 for line in lines)
    # Falls with power 1.5 from 1e-3 to 1e-4 over 4 steps: after 2 of them half the way is left.
    rates = [line["learning_rates"] for line in lines]
    np.testing.assert_allclose(rates, [[1e-4 + 9e-4 * 0.5**1.5], [1e-4]], rtol=1e-5)
    best = run_folder.summary(workplace / "run")["best_epoch"]
    assert best["val_mean_ap"] == max(line["val_mean_ap"] for line in lines)
    assert list((workplace / "run" / "tensorboard" / "pictures").iterdir())


def test_evaluate_writes_the_promised_keys_and_pictures(workplace, script):
    status, out, err = script("evaluate", "--run", workplace / "run", "--split", "train")
    assert status == 0 and "mean AP" in out and "pedestrian" in out, err
    folder = workplace / "run" / "evaluation"
    result = json.loads((folder / "evaluation.json").read_text())
    assert {
        "mean_ap_area", "mean_ap_11point", "ap_area", "ap_11point", "ground_truth", "ignored",
        "true_positives", "false_positives", "images", "absent_classes", "dataset", "split", "run",
    } == set(result)  # fmt: skip
    assert set(result["ap_area"]) == set(NAMES) and result["split"] == "train"
    assert (folder / "precision_recall.png").exists()
    worst = sorted(folder.glob("worst_*.png"))
    assert 0 < len(worst) <= 4
    # The scene is 256 wide, enlarged to 400; two margins of 8.
    assert Image.open(worst[0]).size[0] == 416


def test_the_best_model_of_the_run_measures_what_was_logged(workplace, script):
    script("evaluate", "--run", workplace / "run", "--output", workplace / "val")
    result = json.loads((workplace / "val" / "evaluation.json").read_text())
    best = run_folder.summary(workplace / "run")["best_epoch"]
    assert result["mean_ap_area"] == pytest.approx(best["val_mean_ap"])
    assert result["mean_ap_11point"] == pytest.approx(best["val_mean_ap_11point"])


def test_a_run_is_resumed(workplace, script, tmp_path):
    shutil.copytree(workplace / "run", tmp_path / "run")
    flags = fit_flags(workplace, "--workdir", tmp_path / "run", "--epochs", 3)
    status, _, err = script(FIT, *flags)
    assert status == 2 and "holds another run: epochs was 2, now 3" in err
    # As if interrupted: the recipe had three epochs.
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    record["arguments"]["epochs"] = 3
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    status, out, err = script(FIT, *flags)
    assert status == 0 and "after epoch 2 of 3" in out and "epoch 3/3" in out, err
    status, out, _ = script(FIT, *flags)
    assert status == 0 and "is complete" in out


def test_flips_alone(workplace, script, tmp_path):
    status, _, err = script(
        FIT, *fit_flags(workplace, "--workdir", tmp_path / "run", "--augmentation", "flip"),
        "--epochs", 1, "--steps-per-epoch", 1,
    )  # fmt: skip
    assert status == 0, err


def test_a_classifier_is_neither_exported_nor_predicted_with(workplace, script, tmp_path):
    for name, arguments in (
        ("export", ["--output", tmp_path / "saved"]),
        ("predict", [workplace / "toy" / "images", "--output", tmp_path / "out"]),
    ):
        status, _, err = script(name, "--run", workplace / "run", *arguments)
        assert status == 2 and "is a classifier" in err and "load_run" in err
        assert err.startswith("error: ") and err.count("\n") == 1
        assert not list(tmp_path.iterdir())
    # What the message advises.
    model, facts = run_folder.load_run(workplace / "run")
    image = np.asarray(Image.open(workplace / "toy" / "images" / "scene_000.png"))
    assert model(image[None]).shape == (1, len(facts["dataset"]["class_names"]))


def masks_only(place):
    """Data for segmentation alone: scenes and masks, without annotations."""
    folder = place / "masks_only"
    if not folder.exists():
        folder.mkdir()
        for name in ("images", "masks", "classes.txt"):
            (folder / name).symlink_to(place / "toy" / name)
    return folder


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--dataset", "folder"], "folder holds no boxes and no labels"),
        (["--dataset", "camwid"], "Unknown dataset 'camwid'"),
        (["--size", "63x96"], "--size 63x96 is too small: the models expect at least 64 pixels"),
        (["--blocks", "1,1,1"], "blocks: expected four positive ints, received (1, 1, 1)"),
        (["--weights", "imagenet"], 'no ImageNet weights for "densenet"'),
        (["--validation-split", "test"], "no split 'test'. It has: train, val"),
        (["--learning-rate", "0.5"], "holds another run: learning_rate was 0.001, now 0.5"),
    ],
)
def test_mistakes_give_one_line_and_status_2(workplace, script, tmp_path, flags, words):
    flags = list(flags)
    if flags == ["--dataset", "folder"]:
        flags += ["--source", masks_only(workplace)]
    if flags[0] != "--learning-rate":
        flags += ["--workdir", tmp_path / "new"]
    status, _, err = script(FIT, *fit_flags(workplace, *flags))
    assert status == 2 and words in err
    assert err.startswith("error: ") and err.count("\n") == 1 and "Traceback" not in err
    assert not (tmp_path / "new").exists()


def test_label_maps_are_not_averaged(workplace, script):
    status, _, err = script("evaluate", "--run", workplace / "run", "--flip")
    assert status == 2 and "a classification run takes neither" in err


def test_inspect_model_prints_totals(script):
    status, out, _ = script(
        "inspect_model", "densenet_classifier", "--options", "blocks=1,1,1,1", "--size", "64x64",
        "--classes", 3,
    )  # fmt: skip
    assert status == 0 and "avg_pool" in out and "multiply-adds" in out
    # (68 channels of the last block + a bias) for each of 3 classes
    assert any("logits" in line and "207" in line.split() for line in out.splitlines())


@pytest.mark.slow
@needs_real_data("VOCdevkit/VOC2012")
def test_real_voc_with_difficult_objects(script, tmp_path):
    common = ["--source", REAL_DATA / "VOCdevkit", "--prepared-dir", tmp_path / "prepared"]
    status, _, err = script(
        FIT, "--dataset", "voc_detection/voc2012", *common, *TINY, "--workdir", tmp_path / "run",
        "--epochs", 1, "--steps-per-epoch", 2, "--augmentation", "none",
    )  # fmt: skip
    assert status == 0, err
    status, out, err = script("evaluate", "--run", tmp_path / "run")
    assert status == 0, err
    result = json.loads((tmp_path / "run" / "evaluation" / "evaluation.json").read_text())
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
