"""The run folder: what is written, read again, and named where it is not as it should be."""

import json
import os
import shutil
import types
from pathlib import Path

import keras
import numpy as np
import pytest
from training.toy import fit, lines, run_facts

from kerasdense.data import datasets, files, overlap
from kerasdense.training import run_folder
from kerasdense.training.checkpoints import save_checkpoint


def test_what_was_written_is_read(tmp_path):
    facts = run_facts() | {"task": "detection"}
    run_folder.write_run(tmp_path / "new" / "run", facts)
    found = run_folder.read_run(tmp_path / "new" / "run")
    assert found == json.loads(json.dumps(facts))
    assert os.listdir(tmp_path / "new" / "run") == ["run.json"]


def test_the_first_runs_did_not_name_their_task(tmp_path):
    run_folder.write_run(tmp_path, run_facts())
    assert "task" not in json.loads((tmp_path / "run.json").read_text())
    assert run_folder.read_run(tmp_path)["task"] == "segmentation"


@pytest.mark.parametrize(
    "text, error, words",
    [
        (None, FileNotFoundError, "is no run folder: it holds no run.json"),
        ('{"model": ', ValueError, "run.json is damaged, expected JSON"),
        ("[1, 2]", ValueError, "run.json lacks model and dataset. Was it written by a fit"),
        ('{"model": {}}', ValueError, "run.json lacks dataset"),
    ],
)
def test_no_or_a_damaged_record(tmp_path, text, error, words):
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    for read in (run_folder.read_run, run_folder.load_run, run_folder.summary):
        with pytest.raises(error, match=words):
            read(tmp_path)


def test_the_best_model_is_loaded_or_the_last(one_epoch):
    best, facts = run_folder.load_run(one_epoch)
    last, _ = run_folder.load_run(one_epoch, run_folder.LAST)
    assert facts["model"]["name"] == best.name == "toy"
    for a, b in zip(best.weights, last.weights, strict=True):  # there was but one epoch
        np.testing.assert_array_equal(a, b)
    assert getattr(best, "optimizer", None) is None


@pytest.mark.parametrize("precision", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_the_last_model_has_its_averages_too(tmp_path, precision):
    keras.config.set_dtype_policy(precision)
    try:
        averaged = fit(tmp_path, epochs=2, average_weights=0.9, pretrained=["old/kernel"])
    finally:
        keras.config.set_dtype_policy("float32")
    facts = run_facts() | {"arguments": {"average_weights": 0.9, "precision": precision}}
    run_folder.write_run(tmp_path, facts)
    last, _ = run_folder.load_run(tmp_path, run_folder.LAST)
    assert keras.config.dtype_policy().name == "float32"
    stored = run_folder.load_model(tmp_path / "last.keras", compile=False)
    kernels = [model.get_layer("old").kernel for model in (averaged, last, stored)]
    np.testing.assert_allclose(kernels[0], kernels[1], rtol=1e-6)
    assert not np.allclose(kernels[1], kernels[2])


def test_a_run_without_a_finished_epoch(begun):
    (begun / "best.keras").unlink()
    with pytest.raises(FileNotFoundError, match="holds no best.keras yet"):
        run_folder.load_run(begun)


def damaged(path, how):
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "empty": b"",
            "cut": content[:middle],
            "overwritten": content[:1000] + bytes(2000) + content[3000:],
        }[how]
    )


@pytest.mark.parametrize("how", ["empty", "cut", "overwritten"])
def test_a_damaged_model_is_named(begun, how):
    for name in ("best.keras", "last.keras"):
        damaged(begun / name, how)
    with pytest.raises(ValueError, match="best.keras cannot be loaded: .*repeat the fit"):
        run_folder.load_run(begun)
    with pytest.raises(ValueError, match="last.keras cannot be loaded: .*repeat the fit"):
        fit(begun, epochs=2)


# --- its dataset --------------------------------------------------------------------------------


@pytest.fixture
def loaded(monkeypatch):
    """What `datasets.load` was called with; it gives the classes of `run_facts`."""
    calls = []

    def load(name, source=None, prepared_dir=None, mask_values=None):
        calls.append((name, source, prepared_dir, mask_values))
        dataset = run_facts()["dataset"]
        names = dataset["class_names"][:2] if name == "other" else dataset["class_names"]
        metadata = {"class_names": names, "palette": dataset["palette"][: len(names)]}
        features = {"image": None, "mask": None, "file_name": None}
        splits = {"train": types.SimpleNamespace(num_examples=20)}
        splits["val"] = types.SimpleNamespace(num_examples=4)
        info = types.SimpleNamespace(metadata=metadata, features=features, splits=splits)
        config = types.SimpleNamespace(source=None)
        return types.SimpleNamespace(name=name, info=info, builder_config=config)

    monkeypatch.setattr(datasets, "load", load)
    return calls


def facts_with(**dataset):
    facts = run_facts() | {"task": "segmentation"}
    return facts | {"dataset": facts["dataset"] | dataset}


def test_a_run_s_own_dataset_is_the_default(loaded):
    facts = facts_with(source="/data", prepared_dir="/prepared", mask_values=[0, 128, 255])
    builder, name = run_folder.load_dataset(facts)
    assert name == builder.name == "toy"
    run_folder.load_dataset(facts, "toy", source="/copy", prepared_dir="/elsewhere")
    run_folder.load_dataset(facts, "toy", mask_values=(0, 1, 2))
    # The run's source, and how its masks are read, belong to its own dataset alone.
    run_folder.load_dataset(facts, "toy/again")
    run_folder.load_dataset(facts_with())  # of an old run
    assert loaded == [
        ("toy", "/data", "/prepared", [0, 128, 255]),
        ("toy", "/copy", "/elsewhere", [0, 128, 255]),
        ("toy", "/data", "/prepared", (0, 1, 2)),
        ("toy/again", None, "/prepared", None),
        ("toy", None, None, None),
    ]


def test_other_splits_than_those_of_the_run_are_said(loaded, monkeypatch, capsys):
    run_folder.load_dataset(facts_with(source="/data"))
    assert capsys.readouterr().out == ""
    facts = facts_with(source="/data", splits={"train": 21, "val": 3}, mask_values=None)
    run_folder.load_dataset(facts)
    (line,) = capsys.readouterr().out.splitlines()
    assert "21 train + 3 val images when the run was fitted, 20 train + 4 val now" in line
    assert "may be in another split" in line and "rule" not in line
    run_folder.load_dataset(facts, "toy", source="/copy")  # another dataset
    run_folder.load_dataset(facts_with(splits={}, mask_values=None))
    assert capsys.readouterr().out == ""
    # As many images as then may be others.
    monkeypatch.setattr(overlap, "digests", lambda source: {"train": "a", "val": "b"})
    run_folder.load_dataset(facts_with(images={"train": "a", "val": "b"}))
    run_folder.load_dataset(facts_with())  # the first runs did not record them
    assert capsys.readouterr().out == ""
    run_folder.load_dataset(facts_with(images={"train": "b", "val": "a"}))
    assert "(20 train + 4 val images as then, but others)" in capsys.readouterr().out


def test_a_dataset_without_what_the_task_reads_is_refused_before_it_is_prepared(loaded):
    with pytest.raises(ValueError, match="camvid holds masks.*expected boxes: take folder_det"):
        run_folder.load_dataset(facts_with() | {"task": "detection"}, "camvid")
    assert loaded == []


def test_a_run_of_no_dataset(loaded):
    with pytest.raises(ValueError, match="fitted on no dataset of ours. Name one by --dataset"):
        run_folder.load_dataset(facts_with(name=None))
    assert run_folder.load_dataset(facts_with(name=None), "toy")[1] == "toy"


def test_a_dataset_of_other_classes(loaded):
    words = "knows the classes black, gray, white, other has black, gray. Take a dataset"
    with pytest.raises(ValueError, match=words):
        run_folder.load_dataset(facts_with(), "other")


def test_other_classes_may_be_asked_for(loaded):
    facts = facts_with()
    builder, name = run_folder.load_dataset(facts, "other", same_classes=False)
    assert name == builder.name == "other"
    with pytest.raises(ValueError, match="classes in this order, or pay."):
        run_folder.check_classes(facts, ["black", "gray"], "other", ", or pay")
    run_folder.check_classes(facts, ["black", "gray", "white"], "other")
    with pytest.raises(ValueError, match="mine has gray, black, white. Take"):  # another order
        run_folder.check_classes(facts, ["gray", "black", "white"], "mine")


# --- the split it is measured on ----------------------------------------------------------------


@pytest.fixture
def split_builder(tmp_path):
    """`(folder, **names of pictures by split) -> builder` of a dataset with these files."""

    def make(folder, **splits):
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        pairs = {}
        for split, names in splits.items():
            pairs[split] = [files.Pair(name, root / name, root / name) for name in names]
            for name in names:
                (root / name).write_text(f"{folder} {name}")
        return types.SimpleNamespace(
            builder_config=types.SimpleNamespace(source=files.Source(root, pairs)),
            info=types.SimpleNamespace(splits=dict.fromkeys(splits)),
        )

    return make


def run_on(builder, name, **arguments):
    source = builder.builder_config.source
    images = overlap.digests(source)
    facts = facts_with(name=name, source=source and str(source.root), images=images)
    return facts | {"arguments": arguments}


def test_the_default_is_the_run_s_own_validation_split():
    facts = facts_with(name="voc_detection") | {"arguments": {"validation_split": "test"}}
    assert run_folder.validation_split(facts) == "test"
    assert run_folder.validation_split(facts, "voc_detection") == "test"
    assert run_folder.validation_split(facts, "camvid") == "val"
    for arguments in ({}, {"validation_split": None}):  # early runs did not record it
        assert run_folder.validation_split(facts | {"arguments": arguments}) == "val"
    assert run_folder.training_split(facts) == "train"
    assert run_folder.training_split({"arguments": {"train_split": "trainval"}}) == "trainval"


NAME = "voc_detection/voc2007"
VOC = {"train": ["a"], "val": ["b"], "trainval": ["a", "b"], "test": ["c"]}


@pytest.mark.parametrize(
    "trained, on",
    [
        (None, {"train", "trainval"}),
        ("train", {"train", "trainval"}),
        ("val", {"val", "trainval"}),
        ("trainval", {"train", "val", "trainval"}),
    ],
)
def test_a_split_was_trained_on_if_one_picture_was(split_builder, trained, on):
    builder = split_builder("voc", **VOC)
    facts = run_on(builder, NAME, train_split=trained)
    found = {split: run_folder.trained_on(facts, builder, NAME, split) for split in VOC}
    assert found == {split: split in on for split in VOC}


def test_another_configuration_may_hold_what_was_trained_on(split_builder, monkeypatch):
    fitted, both = split_builder("voc", **VOC), split_builder("both", train=["x"], val=["y"])
    both.builder_config.source.splits["val"] += fitted.builder_config.source.splits["train"]
    monkeypatch.setattr(overlap, "source_of", lambda name, source: fitted.builder_config.source)
    facts = run_on(fitted, NAME)
    assert run_folder.trained_on(facts, both, "voc_detection/07+12", "val") is True
    assert run_folder.trained_on(facts, both, "voc_detection/07+12", "train") is False


def test_copies_of_the_pictures_are_known_again(split_builder, toy_folder, tmp_path):
    source = overlap.source_of("folder", toy_folder)
    images = overlap.digests(source)
    facts = facts_with(name="folder", source=str(toy_folder), images=images) | {"arguments": {}}
    copied = split_builder("copy", val=[])
    train, val = (overlap.images_in(source, split) for split in ("train", "val"))
    for picture, trained in ((val[0], False), (train[0], True)):
        path = shutil.copy(picture, tmp_path / "copy")
        pair = files.Pair("copy", Path(path), Path(path))
        copied.builder_config.source.splits["val"].append(pair)
        assert run_folder.trained_on(facts, copied, "folder", "val") is trained


def test_a_dataset_that_has_moved_is_known_by_the_names_of_its_pictures(split_builder, tmp_path):
    builder = split_builder("moved", **VOC)
    facts = run_on(builder, NAME, train_split="trainval")
    facts["dataset"]["source"] = str(tmp_path / "gone")
    found = {split: run_folder.trained_on(facts, builder, NAME, split) for split in VOC}
    assert found == {"train": True, "val": True, "trainval": True, "test": False}
    assert run_folder.trained_on(facts, builder, "voc_detection/voc2012", "test") is None
    more = split_builder("moved", **VOC, more=["d"])
    assert run_folder.trained_on(facts, more, NAME, "train") is True
    early = run_on(builder, NAME)
    early["dataset"]["source"] = str(tmp_path / "gone")
    del early["dataset"]["images"]
    found = [run_folder.trained_on(early, builder, NAME, split) for split in ("train", "val")]
    assert found == [True, None]
    # Another folder, whose splits have the same names, tells nothing.
    other = split_builder("other", train=["x"], val=["y"])
    found = [run_folder.trained_on(facts, other, NAME, split) for split in ("train", "val")]
    assert found == [None, None]


def test_lists_that_were_edited_tell_of_what_is_left_alone(split_builder):
    builder = split_builder("voc", **VOC)
    facts = run_on(builder, NAME)
    builder.builder_config.source.splits["train"][0] = builder.builder_config.source.splits[
        "test"
    ].pop()  # "c" is trained on now, and "a" was
    assert run_folder.trained_on(facts, builder, NAME, "val") is None
    del facts["dataset"]["images"]  # as of the first runs
    assert run_folder.trained_on(facts, split_builder("voc", **VOC), NAME, "val") is None


def test_drawn_pictures_have_no_files(split_builder):
    drawn = drawn_data()
    facts = run_on(drawn, "toy_streets")
    assert run_folder.trained_on(facts, drawn, "toy_streets", "train") is True
    assert run_folder.trained_on(facts, drawn, "toy_streets", "val") is False
    voc = split_builder("voc", **VOC)
    assert run_folder.trained_on(facts, voc, NAME, "train") is False
    assert run_folder.trained_on(run_on(voc, NAME), drawn, "toy_streets", "train") is False
    # A dataset that there is no more.
    assert run_folder.trained_on(facts_with(name="old", source="x"), voc, NAME, "test") is None
    # Weights that others have trained, on whatever it was.
    assert run_folder.trained_on(facts_with(name=None), voc, NAME, "test") is None


def test_what_a_run_began_with_was_trained_on_pictures_too(split_builder, tmp_path):
    builder, other = split_builder("voc", **VOC), split_builder("other", train=["x"])
    first, second = tmp_path / "runs" / "first", tmp_path / "runs" / "second"
    run_folder.write_run(first, run_on(builder, NAME, train_split="val"))
    facts = run_on(other, "camvid", initialize=str(first / "last.keras"))
    run_folder.write_run(second, facts)
    third = run_on(drawn_data(), "toy_streets", initialize=str(second))
    found = {split: run_folder.trained_on(third, builder, NAME, split) for split in VOC}
    # The second's own pictures, those of camvid, are not there to compare.
    assert found == {"train": None, "val": True, "trainval": True, "test": None}
    (first / "best.keras").touch()
    weighted = run_on(drawn_data(), "toy_streets")
    weighted |= {"weights": {"source": str(first / "best.keras")}}
    assert run_folder.trained_on(weighted, builder, NAME, "val") is True
    (first / "best.keras").unlink()
    assert run_folder.trained_on(weighted, builder, NAME, "val") is True  # run.json is there
    weighted["weights"]["source"] = str(tmp_path / "gone" / "best.keras")
    assert run_folder.trained_on(weighted, builder, NAME, "val") is None
    weighted["weights"]["source"] = "imagenet"
    assert run_folder.trained_on(weighted, builder, NAME, "val") is False
    (first / "run.json").unlink()
    assert run_folder.trained_on(third, builder, NAME, "val") is None
    again = run_on(builder, NAME, initialize=str(second))
    run_folder.write_run(second, again)
    assert run_folder.trained_on(again, builder, NAME, "val") is False


def drawn_data():
    return types.SimpleNamespace(builder_config=types.SimpleNamespace(source=None))


def test_a_split_that_was_trained_on_is_refused(split_builder):
    builder = split_builder("voc", **VOC)
    facts = run_on(builder, NAME, train_split="trainval", validation_split="test")
    words = "trained on pictures of voc_detection/voc2007, split val.*Take --split test, or insist"
    with pytest.raises(ValueError, match=words):
        run_folder.check_measured(facts, builder, NAME, "val")
    assert run_folder.check_measured(facts, builder, NAME, "val", allow_trained=True) is True
    assert run_folder.check_measured(facts, builder, NAME, "test") is False
    with pytest.raises(ValueError, match="no split 'dev'. It has: train, val, trainval, test"):
        run_folder.check_measured(facts, builder, NAME, "dev")


# --- what an export tells of it -----------------------------------------------------------------


def test_the_summary_names_the_best_epoch_and_no_local_path(begun):
    other = lines(begun)[0] | {"epoch": 2, "val_mean_iou": 2.0}
    unmeasured = {"epoch": 3, "loss": 0.5}
    with open(begun / "metrics.jsonl", "a") as file:
        file.write("".join(json.dumps(line) + "\n" for line in (other, unmeasured)))
    # What the line tells is not of this model: a kill came between both.
    assert run_folder.summary(begun)["best_epoch"] == lines(begun)[0]
    model, _ = run_folder.load_run(begun)
    save_checkpoint(model, begun / "best.keras", 2)
    found = run_folder.summary(begun)
    assert found["best_epoch"] == other
    assert found["model"] == run_facts()["model"]
    assert (found["dataset"]["name"], found["dataset"]["splits"]) == (
        "toy",
        {"train": 20, "val": 4},
    )
    assert (found["dataset"]["images"], found["dataset"]["mask_values"]) == (None, None)
    assert found["arguments"] == {"train_split": "train", "validation_split": "val"}
    assert found["begun_with"] == []
    assert found["versions"] and found["parameters"] and str(begun) not in json.dumps(found)


def test_imported_weights_have_no_epochs(tmp_path):
    run_folder.write_run(tmp_path, run_facts() | {"task": "detection"})
    assert run_folder.summary(tmp_path)["best_epoch"] is None


def exported(run, facts):
    """What an export tells of a run with these facts, after a way through JSON."""
    run_folder.write_run(run, facts)
    told = {"task": "segmentation", "class_names": ["a"], "palette": [[0, 0, 0]]}
    return run_folder.exported_facts(
        json.loads(json.dumps(told | {"run": run_folder.summary(run)}))
    )


@pytest.mark.parametrize(
    "trained, on", [("train", {"train", "trainval"}), ("val", {"val", "trainval"})]
)
def test_an_export_tells_the_splits_of_its_run(split_builder, tmp_path, trained, on):
    builder = split_builder("voc", **VOC)
    facts = run_on(builder, NAME, train_split=trained, validation_split="test")
    told = exported(tmp_path / "run", facts)
    assert str(tmp_path) not in json.dumps(told)
    assert run_folder.validation_split(told) == "test" and told["dataset"]["name"] == NAME
    assert (told["task"], told["dataset"]["class_names"]) == ("segmentation", ["a"])
    found = {split: run_folder.trained_on(told, builder, NAME, split) for split in VOC}
    assert found == {split: split in on for split in VOC}
    # Another folder with pictures of these names is taken for it, one with others tells nothing.
    moved, other = split_builder("moved", **VOC), split_builder("other", train=["x"], val=["y"])
    assert run_folder.trained_on(told, moved, NAME, "trainval") is True
    assert [run_folder.trained_on(told, other, NAME, split) for split in ("train", "val")] == [
        None, None,
    ]  # fmt: skip
    assert run_folder.trained_on(told, builder, "voc_detection/voc2012", "test") is None


def test_an_export_tells_what_its_run_began_with(split_builder, tmp_path):
    builder, other = split_builder("voc", **VOC), split_builder("other", train=["x"], val=["y"])
    first = tmp_path / "first"
    run_folder.write_run(first, run_on(builder, NAME, train_split="val"))
    facts = run_on(other, "camvid", initialize=str(first))
    told = exported(tmp_path / "second", facts)
    assert [run["arguments"] for run in told["begun_with"]] == [{"train_split": "val"}]
    assert str(tmp_path) not in json.dumps(told)
    # The pictures of camvid, which it was fitted to itself, are not there to compare.
    found = {split: run_folder.trained_on(told, builder, NAME, split) for split in VOC}
    assert found == {"train": None, "val": True, "trainval": True, "test": None}
    facts["arguments"]["initialize"] = str(tmp_path / "gone")
    assert exported(tmp_path / "second", facts)["begun_with"] == [None]


def test_an_export_of_drawn_pictures(split_builder, tmp_path):
    drawn, voc = drawn_data(), split_builder("voc", **VOC)
    told = exported(tmp_path / "drawn", run_on(drawn, "toy_streets"))
    found = [run_folder.trained_on(told, drawn, "toy_streets", each) for each in ("train", "val")]
    assert found == [True, False]
    assert run_folder.trained_on(told, voc, NAME, "train") is False
    told = exported(tmp_path / "voc", run_on(voc, NAME))
    assert run_folder.trained_on(told, drawn, "toy_streets", "train") is False


@pytest.mark.parametrize(
    "told, is_other",
    [({}, False), ({"images": None}, False), ({"images": {"train": "of others"}}, True)],
)
def test_splits_of_pictures_that_nobody_told_are_no_others(told, is_other, capsys):
    builder = drawn_data()
    builder.info = types.SimpleNamespace(splits={"train": types.SimpleNamespace(num_examples=3)})
    dataset = {"name": "toy_streets", "splits": {"train": 3}} | told
    run_folder.report_other_splits(builder, dataset)
    assert ("are not those of the run" in capsys.readouterr().out) == is_other


def test_exports_of_before_tell_less(split_builder, tmp_path):
    builder = split_builder("voc", **VOC)
    told = {"task": "detection", "class_names": ["a"], "palette": [[0, 0, 0]]}
    old = told | {"run": {"dataset": {"name": NAME, "splits": {"train": 1}}, "best_epoch": None}}
    for facts in (old, told | {"run": None}, told):
        known = run_folder.exported_facts(facts)
        found = [run_folder.trained_on(known, builder, NAME, split) for split in VOC]
        assert found == [None] * len(VOC)
    # A run of the first, which recorded no pictures.
    facts = run_on(builder, NAME)
    del facts["dataset"]["images"]
    known = exported(tmp_path / "run", facts)
    assert run_folder.trained_on(known, builder, NAME, "train") is None
    with pytest.raises(ValueError, match="fitted on no dataset of ours. Name one by --dataset"):
        run_folder.load_dataset(run_folder.exported_facts(told))
