"""The pictures that int8 is fitted to, and the others that it is judged by."""

import numpy as np
import pytest
from PIL import Image
from small_models import small_classifier, small_detector, small_model, small_task

from kerasdense import tasks
from kerasdense.data import datasets
from kerasdense.export import calibration
from kerasdense.export.artefact import export
from kerasdense.export.parity import Reference
from kerasdense.export.predictor import Predictor
from kerasdense.export.signatures import Form


@pytest.fixture
def folder(tmp_path):
    """Three pictures, each of one gray level and of a size of its own."""
    for level in (10, 20, 30):
        Image.new("L", (60 + level, 50), level).save(tmp_path / f"{level}.png")
    return tmp_path


def test_pictures_of_a_folder(folder):
    found = calibration.of_folder(folder, small_task("segmentation"), small_model(), Form())
    assert [each.shape for each in found.batches] == [(1, 50, w, 3) for w in (70, 80, 90)]
    assert [each.max() for each in found.batches] == [each.min() for each in found.batches]
    assert [int(each[0, 0, 0, 0]) for each in found.batches] == [10, 20, 30]
    assert not found.judged, "no truth is known"


def test_they_have_the_form_of_the_export(folder):
    form = Form("litert", batch_size=2, size=(64, 96))
    found = calibration.of_folder(folder, small_task("segmentation"), small_model(), form)
    assert {each.shape for each in found.batches} == {(2, 64, 96, 3)}


def test_many_are_thinned_out_evenly(folder, monkeypatch):
    monkeypatch.setattr(calibration, "PICTURES", 2)
    found = calibration.of_folder(folder, small_task("segmentation"), small_model(), Form())
    assert [int(each[0, 0, 0, 0]) for each in found.batches] == [10, 30]


def test_what_is_no_picture_is_named(folder):
    (folder / "a.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="a.png"):
        calibration.of_folder(folder, small_task("segmentation"), small_model(), Form())


@pytest.fixture(scope="module")
def builder(toy_folder, prepared_dir):
    return datasets.load("folder", str(toy_folder), str(prepared_dir))


def test_half_of_a_small_split_is_held_back_to_judge(builder):
    task = tasks.named("segmentation")(*datasets.classes(builder, "mask"))
    model = small_model(classes=len(task.class_names))
    found = calibration.of_dataset(builder, "train", task, model, Form())
    images = [sample["image"].numpy() for sample in task.eval_batches(builder, "train")]
    np.testing.assert_array_equal(np.concatenate(found.batches), np.concatenate(images[::2]))
    others = images[1::2]
    assert found.judged == len(others) > 0

    reference = Reference(model, task)
    seen = []

    def predict(images):
        seen.append(images)
        return reference.predict(images)

    accuracies = [found.accuracy(predict, [place]) for place in range(found.judged)]
    np.testing.assert_array_equal(np.concatenate(seen), np.concatenate(others))
    assert all(0 <= each <= 1 for each in accuracies)
    whole = found.accuracy(predict, list(range(found.judged)))
    assert min(accuracies) - 0.2 < whole < max(accuracies) + 0.2


@pytest.fixture
def detections(tmp_path, prepared_dir):
    """A detector's dataset of twelve pictures, every third without an object, and its task."""
    for place in range(12):
        image = tmp_path / "images" / "train" / f"{place:02}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (80, 60), (20 * place, 100, 50)).save(image)
        objects = (
            ""
            if place % 3 == 0
            else (
                "<object><name>cell</name><bndbox><xmin>10</xmin><ymin>10</ymin>"
                "<xmax>50</xmax><ymax>50</ymax></bndbox></object>"
            )
        )
        label = tmp_path / "annotations" / "train" / f"{place:02}.xml"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(f"<annotation>{objects}</annotation>")
    (tmp_path / "classes.txt").write_text("cell\nplatelet\n")
    builder = datasets.load("folder_detection", str(tmp_path), str(prepared_dir))
    return builder, tasks.named("detection")(*datasets.classes(builder, "labels"))


def test_pictures_without_objects_judge_nothing_alone(detections, tmp_path):
    builder, task = detections
    model = small_detector()
    found = calibration.of_dataset(builder, "train", task, model, Form("openvino", "int8"))
    samples = list(task.eval_batches(builder, "train", task.image_size_of(model)))
    is_empty = [not np.any(sample["labels"] >= 0) for sample in samples[1::2]]
    assert 0 < sum(is_empty) < found.judged == 6
    predict = Reference(model, task).predict
    alone = [found.accuracy(predict, [place]) for place in range(6)]
    assert [each is None for each in alone] == is_empty
    assert 0 <= found.accuracy(predict, range(6)) <= 1


@pytest.mark.slow
def test_a_detector_is_judged_by_pictures_without_objects_too(detections, tmp_path, capsys):
    pytest.importorskip("nncf")
    builder, task = detections
    model = small_detector()
    found = calibration.of_dataset(builder, "train", task, model, Form("openvino", "int8"))
    version = export(
        model, task, tmp_path / "name", Form("openvino", "int8"), calibration=found,
        check=lambda predictor: None,
    )  # fmt: skip
    assert Predictor(version).precision == "int8"
    assert capsys.readouterr().out.count("accuracy in float32: ") == 1


def test_label_maps_of_another_size_than_the_export_s_judge_nothing(builder):
    task = tasks.named("segmentation")(*datasets.classes(builder, "mask"))
    model = small_model(classes=len(task.class_names))
    form = Form("litert", batch_size=1, size=(64, 96))
    found = calibration.of_dataset(builder, "train", task, model, form)
    assert {each.shape for each in found.batches} == {(1, 64, 96, 3)} and not found.judged


def test_a_network_with_a_size_of_its_own_is_fitted_to_pictures_of_it(folder):
    task = small_task("classification")
    found = calibration.of_folder(folder, task, small_classifier(), Form())
    size = task.image_size_of(small_classifier())
    assert {each.shape[1:3] for each in found.batches} == {size}
