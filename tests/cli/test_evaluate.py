"""`kerasdense evaluate` as a user calls it, on a tiny run of each task."""

import json
import shutil

import keras
import numpy as np
import pytest
from conftest import REAL_DATA, needs_real_data
from PIL import Image

from kerasdense import tasks
from kerasdense.cli import evaluate
from kerasdense.data.sources import toy_streets
from kerasdense.export import processor
from kerasdense.training import run_folder

BOX_NAMES = {"car", "pedestrian"}
ORIGIN = {"dataset", "source", "mask_values", "split", "trained_on", "run", "checkpoint"}


def result_in(folder):
    return json.loads((folder / "evaluation.json").read_text())


def test_segmentation(segmentation_run, toy_folder, kerasdense, tmp_path):
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
    assert result["trained_on"] is False and result["source"] == str(toy_folder)
    # What the run logged of its best, and only, epoch.
    best = run_folder.summary(segmentation_run)["best_epoch"]
    assert result["mean_iou"] == pytest.approx(best["val_mean_iou"], rel=1e-4)
    assert (tmp_path / "confusion_matrix.png").exists()
    assert (tmp_path / "confusion_matrix.pdf").exists()
    (worst,) = tmp_path.glob("worst_1_*.png")
    # Image, truth, prediction and errors side by side; 5 margins of 8, and those of the whole.
    assert Image.open(worst).size[0] == 4 * 256 + 5 * 8 + 2 * 8


def test_the_last_model_is_measured_where_it_is_asked_for(segmentation_run, kerasdense, tmp_path):
    from kerasdense.training.checkpoints import load_model, save_checkpoint

    run = shutil.copytree(segmentation_run, tmp_path / "run")
    last = load_model(run / "last.keras")
    last.get_layer("score").kernel.assign(0 * last.get_layer("score").kernel)  # class 0 everywhere
    save_checkpoint(last, run / "last.keras", 1)
    status, out, err = kerasdense("evaluate", "--run", run, "--checkpoint", "last")
    assert status == 0, err
    measured = result_in(run / "evaluation" / "folder_val_last")
    assert measured["checkpoint"] == "last"
    assert np.sum(measured["confusion_matrix"], axis=0)[1:].tolist() == [0] * 7


@pytest.fixture
def turned_run(segmentation_run, tmp_path):
    """A copy of the run that says it was trained on val, and validated on train."""
    run = shutil.copytree(segmentation_run, tmp_path / "turned")
    facts = run_folder.read_run(run)
    facts["arguments"] |= {"train_split": "val", "validation_split": "train"}
    run_folder.write_run(run, facts)
    return run


def test_the_default_is_the_run_s_validation_split_and_that_of_training_is_refused(
    turned_run, kerasdense
):
    status, out, err = kerasdense("evaluate", "--run", turned_run)
    assert status == 0 and "on folder, split train\n" in out, err
    result = result_in(turned_run / "evaluation" / "folder_train")
    assert result["split"] == "train" and result["trained_on"] is False
    status, _, err = kerasdense("evaluate", "--run", turned_run, "--split", "val")
    assert status == 2 and "was trained on pictures of folder, split val" in err
    assert "Take --split train, or insist by --allow-trained." in err and err.count("\n") == 1
    assert not (turned_run / "evaluation" / "folder_val").exists()


def test_each_result_has_a_folder_of_its_own(
    segmentation_run, toy_folder, kerasdense, tmp_path, monkeypatch
):
    monkeypatch.setattr(processor, "best_precision", lambda: ("bfloat16", "a test says so"))
    run = shutil.copytree(segmentation_run, tmp_path / "run")
    others = shutil.copytree(toy_folder, tmp_path / "other pictures")
    flags = {
        "folder_val": (),
        "folder_val_scales_0.5_1_flip": ("--scales", "0.5,1", "--flip"),
        "folder_other_pictures_val": ("--source", others, "--batch-size", 2),
        "folder_val_values_1_0_2_3_4_5_6_7": ("--mask-values", "1,0,2,3,4,5,6,7"),
        "folder_val_bfloat16": ("--precision", "auto"),
    }
    for more in flags.values():
        status, _, err = kerasdense("evaluate", "--run", run, *more)
        assert status == 0, err
    assert {path.name for path in (run / "evaluation").iterdir()} == set(flags)
    results = {name: result_in(run / "evaluation" / name) for name in flags}
    # The same pictures, one by one and in one batch, alone and beside others.
    alone, copied = results["folder_val"], results["folder_other_pictures_val"]
    assert copied["confusion_matrix"] == alone["confusion_matrix"]
    assert copied["source"] == str(others) and copied["trained_on"] is False
    swapped = results["folder_val_values_1_0_2_3_4_5_6_7"]
    assert swapped["mask_values"] == [1, 0, 2, 3, 4, 5, 6, 7] and alone["mask_values"] is None
    rows = alone["confusion_matrix"]
    assert swapped["confusion_matrix"] == [rows[1], rows[0], *rows[2:]]


@pytest.mark.parametrize(
    "parts, options, name",
    [
        (["folder", "val", "values", "0_255"], {}, "folder_val_values_0_255"),
        (["camvid", "CamVid", "val"], {}, "camvid_val"),
        (["voc_detection/07+12", "val"], {"flip": True}, "voc_detection_07+12_val_flip"),
        (
            ["folder", "my data", "test"],
            {"scales": (0.75, 1.0)},
            "folder_my_data_test_scales_0.75_1",
        ),
    ],
)
def test_the_folder_says_whose_result_it_holds(parts, options, name):
    assert evaluate._folder_name(parts, options) == name


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
    status, out, err = kerasdense("evaluate", *arguments, "--allow-trained")
    assert status == 0 and "mean AP" in out and "pedestrian" in out, err
    assert "split train, which the run was trained on" in out
    result = result_in(tmp_path)
    assert {
        "mean_ap_area", "mean_ap_11point", "ap_area", "ap_11point", "ground_truth", "ignored",
        "true_positives", "false_positives", "images", "absent_classes", *ORIGIN,
    } == set(result)  # fmt: skip
    assert set(result["ap_area"]) == BOX_NAMES and result["split"] == "train"
    assert result["trained_on"] is True
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
    "task, flags, size",
    [
        ("segmentation", (), 1),
        ("segmentation", ("--batch-size", 3), 3),
        ("classification", (), 8),
        ("classification", ("--batch-size", 1), 1),
    ],
)
def test_images_measured_at_once(task, flags, size, request, kerasdense, monkeypatch, tmp_path):
    run, asked = request.getfixturevalue(f"{task}_run"), []

    def stop(self, builder, split, image_size, batch_size):
        asked.append(batch_size)
        raise ValueError("enough is known")

    monkeypatch.setattr(tasks.named(task), "eval_batches", stop)
    kerasdense("evaluate", "--run", run, "--output", tmp_path, *flags)
    assert asked == [size]


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


# --- a dataset of other classes -----------------------------------------------------------------

MAPPED = {"class_map", "left_out", "unmapped_classes"}


@pytest.fixture(scope="module")
def other_folder(toy_folder, tmp_path_factory):
    """The drawn scenes with other names of the classes, in another order, and one more."""
    folder = shutil.copytree(toy_folder, tmp_path_factory.mktemp("other") / "toy")
    (folder / "box_classes.txt").write_text("cow\nwalker\nCar\n")
    for path in (folder / "annotations").rglob("*.xml"):
        text = path.read_text().replace(">car<", ">Car<").replace(">pedestrian<", ">walker<")
        path.write_text(text)
    return folder


def test_other_classes_are_measured_through_a_map(
    detection_run, other_folder, kerasdense, tmp_path
):
    run = shutil.copytree(detection_run, tmp_path / "run")
    arguments = ("evaluate", "--run", run, "--source", other_folder, "--split", "train")
    arguments += ("--allow-trained",)  # where both classes are
    status, _, err = kerasdense(*arguments)
    assert status == 2 and "knows the classes car, pedestrian" in err and err.count("\n") == 1
    assert "those whose names agree: --map car=Car." in err
    status, out, err = kerasdense(*arguments, "--map", "Pedestrian=walker")
    assert status == 0 and "classes: pedestrian -> walker\n" in out, err
    assert "Nothing maps to cow, Car" in out and "mean AP" in out
    folder = run / "evaluation" / "folder_detection_toy_train_map_pedestrian-walker"
    result = result_in(folder)
    assert set(result) >= {"mean_ap_area", "coco", *ORIGIN, *MAPPED}
    assert result["class_map"] == {"pedestrian": "walker"} and result["trained_on"] is True
    assert result["unmapped_classes"] == ["cow", "Car"] and result["left_out"]["classes"] == 1
    # There are cars, which are not looked for, and no cows.
    assert result["ap_area"]["Car"] == result["detections"]["Car"] == 0
    assert result["ap_area"]["cow"] is None and result["ground_truth"]["Car"] > 0
    assert result["mean_ap_area"] == result["ap_area"]["walker"] / 2
    assert (folder / "precision_recall.png").exists() and list(folder.glob("worst_1_*.png"))


@pytest.mark.parametrize(
    "text, words",
    [
        ("person=walker", "--map person=walker, the run's classes: There is no class 'person'"),
        ("car=bus", "--map car=bus, folder_detection's classes: There is no class 'bus'"),
        ("car=walker,car=cow", "--map names 'car' of the run twice, for walker and cow"),
        ("car", "expected CLASS=CLASS,... such as person=pedestrian, received 'car'"),
        ("car=", "expected CLASS=CLASS,..."),
        ("car=walker,", "expected CLASS=CLASS,..."),
    ],
)
def test_maps_that_cannot_be(detection_run, other_folder, text, words, kerasdense, tmp_path):
    arguments = ("--run", detection_run, "--source", other_folder, "--output", tmp_path / "new")
    status, _, err = kerasdense("evaluate", *arguments, "--map", text)
    assert status == 2 and words in err and not (tmp_path / "new").exists()


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_only_classes_of_boxes_are_mapped(task, request, kerasdense, other_folder):
    run = request.getfixturevalue(f"{task}_run")
    status, _, err = kerasdense("evaluate", "--run", run, "--map", "car=car")
    words = f"error: --map is not for a {task} run: only classes of boxes are mapped."
    assert status == 2 and words in err and err.count("\n") == 1


def test_a_map_is_suggested_only_where_it_can_be(
    classification_run, detection_run, other_folder, kerasdense
):
    flags = "--source", other_folder
    _, _, err = kerasdense("evaluate", "--run", classification_run, *flags)
    assert "with the same classes in this order." in err and "--map" not in err
    _, _, err = kerasdense("attack", "--run", detection_run, *flags, "--suppress")
    assert "with the same classes in this order." in err and "--map" not in err


@pytest.mark.slow
def test_a_run_that_was_imported_is_measured_through_a_map(
    detection_run, other_folder, kerasdense, tmp_path
):
    """Of torchvision's COCO classes: it was fitted on no dataset of ours."""
    from kerasdense.models import ssd300, torchvision

    names = torchvision.class_names(90)
    facts = run_folder.read_run(detection_run)
    facts |= {"arguments": {}, "weights": {"source": str(tmp_path / "x.pth")}}
    facts["dataset"] = facts["dataset"] | {
        "name": None, "source": None, "class_names": names, "palette": [[9, 9, 9]] * 90,
        "splits": {}, "images": {},
    }  # fmt: skip
    run_folder.write_run(tmp_path / "run", facts)
    ssd300(90, weights=None, width=1 / 64).save(tmp_path / "run" / "best.keras")
    arguments = ("--run", tmp_path / "run", "--dataset", "folder_detection", "--source")
    arguments += (other_folder, "--map", "truck=Car,person=walker,car=Car,bus=Car")
    status, out, err = kerasdense("evaluate", *arguments)
    assert status == 0 and "whether the run was trained on it is unknown" in out, err
    (folder,) = (tmp_path / "run" / "evaluation").iterdir()
    # In the order of the run's classes; of more than 40 letters a hash.
    written = "person-walker+car-Car+bus-Car+truck-Car"
    assert len(written) <= 40 and folder.name == f"folder_detection_toy_val_map_{written}"
    result = result_in(folder)
    assert result["left_out"]["classes"] == 86 and result["trained_on"] is None
    mapped = {"person": "walker", "car": "Car", "bus": "Car", "truck": "Car"}
    assert result["class_map"] == mapped and result["unmapped_classes"] == ["cow"]


@pytest.mark.parametrize("text", ["a-b+c-d+" * 6, "traffic light-Car"])
def test_a_long_or_odd_part_of_a_folder_s_name_is_a_hash(text):
    assert len(evaluate._short(text)) == 8 and evaluate._short("a-b+c-d") == "a-b+c-d"


@pytest.mark.parametrize(
    "flags, words",
    [
        (("--split", "test"), "no split 'test'. It has: train, val"),
        (("--dataset", "camwid"), "Unknown dataset 'camwid'"),
        (
            ("--dataset", "folder_detection", "--source", "{toy}"),
            "--dataset folder_detection holds boxes, expected masks",
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


# --- exports ------------------------------------------------------------------------------------

OF_EXPORT = (ORIGIN - {"run", "checkpoint"}) | {"export", "format", "precision", "computed_in"}


def agree(found, expected):
    """Whether figures agree up to rounding: counts within 1 %, shares within 0.01."""
    for name, value in expected.items():
        if isinstance(value, dict):
            agree(found[name], value)
        elif isinstance(value, float):
            assert found[name] == pytest.approx(value, abs=0.01), name
        elif isinstance(value, int):
            assert abs(found[name] - value) <= max(2, value / 100), name


@pytest.mark.parametrize(
    "task", ["segmentation", "detection", pytest.param("classification", marks=pytest.mark.slow)]
)
def test_an_export_has_the_numbers_of_its_run(
    task, request, toy_folder, prepared_dir, kerasdense, tmp_path
):
    run, name = (request.getfixturevalue(f"{task}_{what}") for what in ("run", "export"))
    folder = shutil.copytree(name, tmp_path / "name")
    data = ("--source", toy_folder, "--prepared-dir", prepared_dir)
    status, expected, err = kerasdense("evaluate", "--run", run, "--output", tmp_path / "run")
    assert status == 0, err
    status, out, err = kerasdense("evaluate", "--saved-model", folder, *data)
    assert status == 0, err
    dataset = "folder" if task == "segmentation" else "folder_detection"
    # It was not trained on val, and the table is that of the run.
    assert f"{folder / '1'} on {dataset}, split val\n" in out
    assert [line.split()[:1] for line in out.splitlines()[-6:-1]] == [
        line.split()[:1] for line in expected.splitlines()[-6:-1]
    ]
    output = folder / "1" / "evaluation" / f"{dataset}_toy_val"
    found, expected = result_in(output), result_in(tmp_path / "run")
    assert set(found) - OF_EXPORT == set(expected) - ORIGIN and OF_EXPORT <= set(found)
    assert (found["export"], found["format"]) == (str(folder / "1"), "saved_model")
    assert found["precision"] == found["computed_in"] == "float32"
    assert found["trained_on"] is False and found["source"] == str(toy_folder)
    agree(found, {name: value for name, value in expected.items() if name not in ORIGIN})
    assert list(output.glob("worst_1_*.png")) and list(output.glob("*.pdf"))


def test_an_export_is_not_measured_on_what_it_was_trained_on(
    classification_export, toy_folder, prepared_dir, kerasdense, tmp_path
):
    folder = shutil.copytree(classification_export, tmp_path / "name")
    data = ("--source", toy_folder, "--prepared-dir", prepared_dir, "--split", "train")
    arguments = ("evaluate", "--saved-model", folder / "1", *data)
    status, _, err = kerasdense(*arguments)
    assert status == 2 and "was trained on pictures of folder_detection, split train" in err
    assert "Take --split val, or insist by --allow-trained." in err and err.count("\n") == 1
    status, out, err = kerasdense(*arguments, "--allow-trained")
    assert status == 0 and "split train, which the run was trained on" in out, err
    # An export of before does not know.
    file = folder / "1" / "assets" / "model.json"
    facts = json.loads(file.read_text())
    facts["run"] = {"dataset": {"name": "folder_detection"}}
    file.write_text(json.dumps(facts))
    status, out, err = kerasdense(*arguments)
    assert status == 0 and "whether the run was trained on it is unknown" in out, err
    assert result_in(folder / "1" / "evaluation" / "folder_detection_toy_train")[
        "trained_on"
    ] is None  # fmt: skip


@pytest.mark.parametrize(
    "flags, words",
    [
        (("--scales", "0.5,1"), "--scales is not for an export (--saved-model): it answers labels"),
        (("--flip",), "--flip is not for an export (--saved-model): it answers labels"),
        (("--map", "car=car"), "--map is not for an export (--saved-model): classes are mapped"),
        (("--checkpoint", "last"), "--checkpoint is not for an export (--saved-model): it holds"),
        ((), "folder needs a source folder (source, --source), received none. A run remembers"),
        (("--precision", "bfloat16"), "computes in float32, received precision 'bfloat16'"),
        (("--run", "x"), "--run: not allowed with argument --saved-model"),
    ],
)
def test_what_is_not_for_an_export(segmentation_export, flags, words, kerasdense, tmp_path):
    output = tmp_path / "new"
    arguments = ("--saved-model", segmentation_export, "--output", output, *flags)
    status, _, err = kerasdense("evaluate", *arguments)
    assert status == 2 and words in err and "Traceback" not in err and not output.exists()
    assert err.count("\n") == 1 or err.startswith("usage: ")


def test_an_export_of_other_classes(detection_export, other_folder, kerasdense, tmp_path):
    arguments = ("--saved-model", detection_export, "--source", other_folder)
    status, _, err = kerasdense("evaluate", *arguments, "--output", tmp_path / "new")
    assert status == 2 and "The model knows the classes car, pedestrian, folder_detection" in err
    assert "with the same classes in this order." in err and "--map" not in err


def test_one_of_a_run_and_an_export_is_measured(kerasdense):
    status, _, err = kerasdense("evaluate")
    assert status == 2 and "one of the arguments --run --saved-model is required" in err


@pytest.mark.parametrize(
    "task", ["segmentation", pytest.param("detection", marks=pytest.mark.slow)]
)
def test_a_run_is_measured_in_another_precision(task, request, kerasdense, tmp_path):
    run = request.getfixturevalue(f"{task}_run")
    results = []
    for flags in ((), ("--precision", "float32"), ("--precision", "bfloat16")):
        output = tmp_path / "_".join(("new", *flags))
        status, _, err = kerasdense("evaluate", "--run", run, *flags, "--output", output)
        assert status == 0, err
        results.append(result_in(output))
    fitted, same, other = results
    assert (same.pop("computed_in"), other.pop("computed_in")) == ("float32", "bfloat16")
    assert same == fitted and other.keys() == fitted.keys()  # it was fitted in float32


def test_a_run_is_not_rebuilt_in_its_own_precision(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")  # which rebuilds none
    fitted = {"arguments": {"precision": "mixed_bfloat16"}}
    assert evaluate._computing("a model", "bfloat16", fitted) == "a model"
    assert evaluate._computing("a model", "float32", {}) == "a model", "first runs do not tell"
    with pytest.raises(ValueError, match="--precision float32 of a run fitted in mixed_bfloat16"):
        evaluate._computing("a model", "float32", fitted)


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
    result = result_in(tmp_path / "run" / "evaluation" / "voc_detection_voc2012_val")
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
