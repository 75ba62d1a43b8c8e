"""`kerasdense fit` as a user calls it, on a handful of drawn scenes: records, and mistakes."""

import json
import shutil

import keras
import numpy as np
import pytest
from conftest import REAL_DATA, SCENES, needs_real_data
from PIL import Image

from kerasdense import __version__, models
from kerasdense.data.sources import toy_streets
from kerasdense.export import processor
from kerasdense.training import run_folder

BOX_NAMES = ["car", "pedestrian"]


def record_of(run):
    return json.loads((run / "run.json").read_text())


def lines_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_trained(run, function, **arguments):
    """All kernels are finite and other than they began."""
    keras.utils.set_random_seed(0)
    before = getattr(models, function)(weights=None, **arguments)
    after, _ = run_folder.load_run(run, run_folder.LAST)
    for old, new in zip(before.trainable_variables, after.trainable_variables, strict=True):
        assert np.isfinite(new).all()
        if old.path.endswith("kernel"):
            assert not np.array_equal(old, new), old.path


def test_a_run_records_what_was_run(segmentation_run):
    record = record_of(segmentation_run)
    assert record["task"] == "segmentation" and record["model"]["name"] == "ladder_densenet"
    assert record["model"]["arguments"] == {
        "blocks": [1, 1, 1, 1], "output_stride": 32, "prediction_stride": 4, "auxiliary": False,
    }  # fmt: skip
    assert record["arguments"]["size"] == [64, 64]
    assert record["arguments"]["workdir"] == str(segmentation_run)
    assert record["command"].startswith("kerasdense fit ladder_densenet --source ")
    assert not {"network", "command_line"} & set(record["arguments"])
    dataset = record["dataset"]
    assert dataset["class_names"] == list(toy_streets.CLASSES)
    assert sum(dataset["splits"].values()) == SCENES
    assert record["parameters"]["trainable"] == record["parameters"]["groups"][0]["parameters"]
    assert record["versions"]["kerasdense"] == __version__
    classes = len(dataset["class_names"])
    assert_trained(
        segmentation_run, "ladder_densenet", num_classes=classes, **record["model"]["arguments"]
    )


def test_a_detector_s_run_records_the_parts_of_the_loss(detection_run):
    record = record_of(detection_run)
    assert record["task"] == "detection"
    assert record["model"] == {
        "name": "ssd300", "arguments": {"scales": "voc", "width": 1 / 64},
    }  # fmt: skip
    assert record["dataset"]["class_names"] == BOX_NAMES
    (line,) = lines_of(detection_run)
    assert line["loss"] == pytest.approx(
        line["confidence_loss"] + line["localization_loss"], rel=0.2
    )  # the loss holds the weights' decay as well
    assert line["positives"] > 0 and 0 <= line["val_mean_ap"] <= 1
    assert_trained(detection_run, "ssd300", num_classes=2, width=1 / 64)


def test_a_classifier_s_run_records_its_average_precision(classification_run):
    record = record_of(classification_run)
    assert record["task"] == "classification"
    assert record["model"] == {
        "name": "densenet_classifier", "arguments": {"blocks": [1, 1, 1, 1]},
    }  # fmt: skip
    assert record["dataset"]["class_names"] == BOX_NAMES
    lines = lines_of(classification_run)
    assert [line["epoch"] for line in lines] == [1, 2]
    assert all(0 <= line["val_mean_ap"] <= 1 and line["val_loss"] > 0 for line in lines)
    # Falls with power 1.5 from 1e-3 to 1e-4 over 4 steps: after 2 of them half the way is left.
    rates = [line["learning_rates"] for line in lines]
    np.testing.assert_allclose(rates, [[1e-4 + 9e-4 * 0.5**1.5], [1e-4]], rtol=1e-5)
    best = run_folder.summary(classification_run)["best_epoch"]
    assert best["val_mean_ap"] == max(line["val_mean_ap"] for line in lines)
    assert list((classification_run / "tensorboard" / "pictures").iterdir())
    blocks = record["model"]["arguments"]["blocks"]
    assert_trained(classification_run, "densenet_classifier", num_classes=2, blocks=blocks)


def test_a_complete_run_is_left_alone(segmentation_run, fit_flags, kerasdense):
    before = (segmentation_run / "last.keras").read_bytes()
    status, out, _ = kerasdense(*fit_flags("ladder_densenet", segmentation_run))
    assert status == 0 and "is complete" in out
    assert (segmentation_run / "last.keras").read_bytes() == before


def test_a_run_is_resumed(classification_run, fit_flags, kerasdense, tmp_path):
    run = shutil.copytree(classification_run, tmp_path / "run")
    flags = fit_flags("densenet121_classifier", run, "--epochs", 3)
    status, out, err = kerasdense(*flags)
    assert status == 0 and "after epoch 2 of 3" in out and "epoch 3/3" in out, err
    assert "--epochs raised from 2 to 3" in out and record_of(run)["arguments"]["epochs"] == 3
    before, _ = run_folder.load_run(classification_run, run_folder.LAST)
    after, _ = run_folder.load_run(run, run_folder.LAST)
    for old, new in zip(before.trainable_variables, after.trainable_variables, strict=True):
        assert np.isfinite(new).all()
        assert not np.array_equal(old, new) or "kernel" not in old.path, old.path


def test_the_precision_of_auto_is_kept(
    segmentation_run, fit_flags, kerasdense, tmp_path, monkeypatch
):
    shutil.copytree(segmentation_run, tmp_path / "run")
    monkeypatch.setattr(processor, "best_precision", lambda: ("bfloat16", "a test says so"))
    auto = ("--precision", "auto")
    status, out, err = kerasdense(*fit_flags("ladder_densenet", tmp_path / "run", *auto))
    assert status == 0 and "precision float32: that of the run" in out, err
    status, out, err = kerasdense(*fit_flags("ladder_densenet", tmp_path / "new", *auto))
    assert status == 0 and "precision mixed_bfloat16: a test says so" in out, err
    run = json.loads((tmp_path / "new" / "run.json").read_text())
    assert run["arguments"]["precision"] == "mixed_bfloat16"
    # The same command on another machine goes on with what the run began with.
    monkeypatch.setattr(processor, "best_precision", lambda: ("float32", "a test says so"))
    status, out, err = kerasdense(*fit_flags("ladder_densenet", tmp_path / "new", *auto))
    assert status == 0 and "precision mixed_bfloat16: that of the run" in out, err


def test_a_run_of_before_an_option_is_complete_or_another(
    segmentation_run, fit_flags, kerasdense, tmp_path
):
    run = shutil.copytree(segmentation_run, tmp_path / "run")
    record = record_of(run)
    for name in ("validation_split", "variant", "adversarial_steps"):
        del record["arguments"][name]
    run_folder.write_run(run, record)
    status, out, err = kerasdense(*fit_flags("ladder_densenet", run))
    assert status == 0 and "is complete" in out, err
    flags = fit_flags("ladder_densenet", run, "--adversarial-steps", 2)
    status, _, err = kerasdense(*flags)
    assert status == 2 and "--adversarial-steps was None, now 2" in err


@pytest.mark.slow  # what is taken is tested without a fit, in training/test_initialization.py
def test_a_fit_goes_on_from_another_model(classification_run, fit_flags, kerasdense, tmp_path):
    flags = fit_flags("ladder_densenet", tmp_path / "run", "--initialize", classification_run)
    # The training is hardly any: what the run begins with is still there.
    status, out, err = kerasdense(*flags, "--learning-rate", 1e-9, "--steps-per-epoch", 1)
    assert status == 0, err
    assert f"initialized from {classification_run / 'best.keras'}: " in out
    assert "variables left as they were, not in the source: " in out
    source, _ = run_folder.load_run(classification_run)
    model, facts = run_folder.load_run(tmp_path / "run")
    np.testing.assert_allclose(
        model.get_layer("conv1_conv").kernel, source.get_layer("conv1_conv").kernel, atol=1e-6
    )
    assert facts["arguments"]["initialize"] == str(classification_run)
    assert facts["weights"]["source"] == str(classification_run / "best.keras")
    rates = [group["learning_rate"] for group in facts["parameters"]["groups"]]
    assert sorted(rates) == [pytest.approx(0.5e-9), pytest.approx(1e-9)]
    status, out, err = kerasdense(*flags, "--learning-rate", 1e-9, "--steps-per-epoch", 1)
    assert status == 0 and "is complete" in out, err


def test_a_source_of_another_network_is_refused(segmentation_run, fit_flags, kerasdense, tmp_path):
    flags = fit_flags("fcn", tmp_path / "run", "--backbone", "resnet50")
    status, _, err = kerasdense(*flags, "--initialize", segmentation_run)
    assert status == 2 and "is of another network: only " in err
    assert "Expected a model on a resnet50" in err and not (tmp_path / "run").exists()


def test_what_is_validated_is_not_trained_on_under_another_name(toy_folder, kerasdense, tmp_path):
    data = tmp_path / "data"
    for kind in ("images", "masks"):
        (data / kind).mkdir(parents=True)
        for split in ("train", "val"):
            (data / kind / split).symlink_to(toy_folder / kind)
    shutil.copy(toy_folder / "classes.txt", data)
    status, _, err = kerasdense(
        "fit", "ladder_densenet", "--dataset", "folder", "--source", data, "--weights", "none",
        "--prepared-dir", tmp_path / "prepared", "--workdir", tmp_path / "run",
    )  # fmt: skip
    assert status == 2 and "of the split 'val' is a picture of the split 'train', too" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("task", ["segmentation", "detection", "classification"])
def test_runs_of_the_scripts_before_the_program_are_complete(
    task, request, fit_flags, kerasdense, tmp_path
):
    """They recorded the same arguments, of SSD its `--model`, and the first ones no task."""
    network = {
        "segmentation": "ladder_densenet", "detection": "ssd300",
        "classification": "densenet121_classifier",
    }[task]  # fmt: skip
    run = shutil.copytree(request.getfixturevalue(f"{task}_run"), tmp_path / "run")
    record = record_of(run)
    record["command"] = f"scripts/fit_{network}.py --workdir {run}"
    record["arguments"] |= {"train_split": None, "workdir": "elsewhere"}
    if task == "detection":
        record["arguments"]["model"] = "ssd300"
    if task == "segmentation":
        del record["task"]
    del record["dataset"]["mask_values"], record["dataset"]["images"]
    run_folder.write_run(run, record)
    epochs = len(lines_of(run))
    status, out, err = kerasdense(*fit_flags(network, run, "--epochs", epochs))
    assert status == 0 and f"{run} is complete: {epochs} epochs" in out, err


def masks_only(toy_folder, tmp_path):
    """Data for segmentation alone: scenes and masks, without annotations."""
    folder = tmp_path / "masks_only"
    folder.mkdir()
    for name in ("images", "masks", "classes.txt"):
        (folder / name).symlink_to(toy_folder / name)
    return folder


@pytest.mark.parametrize(
    "network, flags, words",
    [
        ("ladder_densenet", ["--size", "32x64"], "--size 32x64 is too small"),
        ("ladder_densenet", ["--scales", "1"], "--scales expects LOWEST,HIGHEST"),
        ("ladder_densenet", ["--train-split", "both"], "no split 'both', but train, val"),
        ("ladder_densenet", ["--adversarial-epsilon", 4], "no effect without --adversarial-steps"),
        ("ladder_densenet", ["--dataset", "camwid"], "Unknown dataset 'camwid': there are camvid"),
        ("ladder_densenet", ["--source", "/nowhere"], "/nowhere"),
        ("ladder_densenet", ["--weights", "/nowhere.h5"], "/nowhere.h5"),
        ("ladder_densenet", ["--validation-split", "test"], "no split 'test'. It has: train, val"),
        ("ladder_densenet", ["--mask-values", "0,255"], "for each of the 8 classes sky, building"),
        ("ladder_densenet", ["--dataset", "folder_detection"],
         "--dataset folder_detection holds boxes, expected masks (label maps): take folder for"),
        ("ssd300", ["--dataset", "folder"],
         "--dataset folder holds masks (label maps), expected boxes: take folder_detection for"),
        ("densenet121_classifier", ["--dataset", "folder"], "holds masks (label maps), expected b"),
        ("densenet121_classifier", ["--size", "63x96"], "63x96 is too small: the models expect at"),
        ("densenet121_classifier", ["--blocks", "1,1,1"],
         "blocks: expected four positive ints, received (1, 1, 1)"),
        ("densenet121_classifier", ["--weights", "imagenet"], 'no ImageNet weights for "densenet"'),
        ("densenet121_classifier", ["--validation-split", "test"],
         "no split 'test'. It has: train, val"),
    ],
)  # fmt: skip
def test_mistakes_leave_nothing_behind(
    network, flags, words, fit_flags, toy_folder, kerasdense, tmp_path
):
    if flags == ["--dataset", "folder"]:
        flags = [*flags, "--source", masks_only(toy_folder, tmp_path)]
    status, _, err = kerasdense(*fit_flags(network, tmp_path / "new", *flags))
    assert status == 2 and words in err
    assert err.startswith("error: ") and err.count("\n") == 1 and "Traceback" not in err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "task, network, flags, words",
    [
        ("segmentation", "ladder_densenet", ["--variant", "32x"], "--variant was ladder_4x, now"),
        ("segmentation", "ladder_densenet", ["--mask-values", "0,1,2,3,4,5,6,7"],
         "--mask-values was None, now [0, 1, 2, 3, 4, 5, 6, 7]"),
        ("detection", "ssd300", ["--anchors", "coco"], "--anchors was voc, now coco; model was"),
        ("classification", "densenet121_classifier", ["--epochs", 2, "--learning-rate", 0.5],
         "holds another run: --learning-rate was 0.001, now 0.5."),
    ],
)  # fmt: skip
def test_another_run_in_the_workdir_is_refused(
    task, network, flags, words, request, fit_flags, kerasdense
):
    run = request.getfixturevalue(f"{task}_run")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    status, _, err = kerasdense(*fit_flags(network, run, *flags))
    assert status == 2 and f"error: The workdir {run} holds another run: " in err and words in err
    assert err.count("\n") == 1
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*")}


def test_a_workdir_that_cannot_be_written(fit_flags, kerasdense):
    status, _, err = kerasdense(*fit_flags("densenet121_classifier", "/proc/run"))
    assert status == 2 and "/proc/run" in err and err.count("\n") == 1


def test_a_loss_that_explodes_names_its_step(fit_flags, kerasdense, tmp_path):
    more = ("--learning-rate", 1e30, "--steps-per-epoch", 6)
    flags = fit_flags("densenet121_classifier", tmp_path / "run", *more)
    status, _, err = kerasdense(*flags)
    assert status == 2 and "at step" in err and err.count("\n") == 1
    assert not (tmp_path / "run" / "last.keras").exists()


def toy_fcn(num_classes, weights, output_stride, skips):
    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    x = keras.layers.Rescaling(1 / 255)(images)
    x = keras.layers.Conv2D(num_classes, 3, padding="same", name="score")(x)
    return keras.Model(images, x, name=f"toy_{output_stride}_{len(skips)}")


def test_options_of_a_network_and_adversarial_examples(
    fit_flags, kerasdense, monkeypatch, tmp_path
):
    monkeypatch.setattr(models, "fcn_resnet50", toy_fcn)  # large; see below
    flags = (
        "--backbone", "resnet50", "--skips", "16,8", "--photometric", "--adversarial-steps", 1,
        "--average-weights", 0.9,
    )  # fmt: skip
    status, out, err = kerasdense(*fit_flags("fcn", tmp_path / "run", *flags))
    assert status == 0, err
    assert "changed by up to 4 gray levels in 1 step(s)" in out
    record = record_of(tmp_path / "run")
    assert record["model"] == {
        "name": "fcn_resnet50", "arguments": {"output_stride": 32, "skips": [16, 8]},
    }  # fmt: skip
    assert record["arguments"]["adversarial_steps"] == 1 and record["arguments"]["photometric"]
    model, _ = run_folder.load_run(tmp_path / "run")
    assert model.name == "toy_32_2"
    (line,) = lines_of(tmp_path / "run")
    assert np.isfinite(line["loss"]) and 0 <= line["val_mean_iou"] <= 1


@pytest.fixture
def binary_folder(tmp_path):
    """Squares of 96x96 pixels with masks of 0 and 255; one picture of val is 10x40."""
    root = tmp_path / "binary"
    sizes = {"train": [(96, 96)] * 2, "val": [(96, 96), (10, 40)]}
    for split, shapes in sizes.items():
        names = [f"{split}{number}" for number in range(len(shapes))]
        for name, (height, width) in zip(names, shapes):
            mask = np.zeros((height, width), np.uint8)
            mask[2 : height // 2, 5 : width // 2] = 255
            for folder, picture in (("images", np.stack([mask] * 3, axis=-1)), ("masks", mask)):
                (root / folder).mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(root / folder / f"{name}.png")
        (root / "splits").mkdir(exist_ok=True)
        (root / "splits" / f"{split}.txt").write_text("\n".join(names))
    (root / "classes.txt").write_text("background\nsquare\n")
    return root


def test_masks_that_teach_nothing_are_refused(binary_folder, fit_flags, kerasdense, tmp_path):
    prepared_dir = tmp_path / "prepared"
    flags = ("--source", binary_folder, "--prepared-dir", prepared_dir)
    fit = fit_flags("ladder_densenet", tmp_path / "run", *flags)
    status, _, err = kerasdense(*fit)
    assert status == 2 and "hold only 0 and 255" in err and "--mask-values 0,255" in err
    status, _, err = kerasdense(*fit, "--mask-values", "0,1")
    assert status == 2 and "split 'train' of folder is of the class square" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_mask_values_and_small_pictures_last_a_whole_run(
    binary_folder, fit_flags, kerasdense, tmp_path
):
    run = tmp_path / "run"
    flags = ("--source", binary_folder, "--prepared-dir", tmp_path / "prepared")
    fit = (*fit_flags("ladder_densenet", run, *flags), "--mask-values", "0,255")
    status, out, err = kerasdense(*fit)
    assert status == 0, err
    assert "val 2 images, pixels: background" in out and "padded" in out
    assert record_of(run)["dataset"]["mask_values"] == [0, 255]
    (line,) = lines_of(run)
    assert np.isfinite(line["val_loss"])
    status, out, err = kerasdense("evaluate", "--run", run)  # knows the values
    assert status == 0, err
    (path,) = run.glob("evaluation/*/evaluation.json")
    # what is measured has no padding in it
    assert json.loads(path.read_text())["pixels"] == 96 * 96 + 10 * 40
    status, out, err = kerasdense(*fit, "--mask-values", "255,0")
    assert status == 2 and "--mask-values was [0, 255], now [255, 0]" in err


@pytest.mark.slow
def test_a_large_network_takes_steps(fit_flags, kerasdense, tmp_path):
    status, _, err = kerasdense(*fit_flags("atrous_fcn_resnet50", tmp_path / "run"))
    assert status == 0, err
    record = record_of(tmp_path / "run")
    assert record["arguments"]["learning_rate"] == 0.01 * 2 / 16  # for batches of 2
    assert_trained(tmp_path / "run", "atrous_fcn_resnet50", num_classes=len(toy_streets.CLASSES))


@pytest.mark.slow
@needs_real_data("BCCD")
def test_a_few_real_pictures_are_learned_by_heart(kerasdense, tmp_path):
    """What the recipe's docstring documents for ten pictures, reduced to four."""
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
    status, _, err = kerasdense(
        "fit", "ssd300", "--dataset", "folder_detection", "--source", source,
        "--prepared-dir", tmp_path / "prepared", "--workdir", tmp_path / "run",
        "--weights", "none", "--width", 0.125, "--optimizer", "adam", "--learning-rate", 1e-3,
        "--augmentation", "none", "--validation-split", "train", "--batch-size", 4,
        "--epochs", 1, "--steps-per-epoch", 300,
    )  # fmt: skip
    assert status == 0, err
    (line,) = lines_of(tmp_path / "run")
    assert line["val_mean_ap"] >= 0.9
