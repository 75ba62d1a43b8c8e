"""Our networks as exports: what is written, that it computes the same, and what there is not."""

import importlib
import json
from importlib import util

import keras
import numpy as np
import pytest

from kerasdense.benchmarks import runtimes, workloads
from kerasdense.benchmarks.workloads import Workload
from kerasdense.boxes.suppression import LEAST_SCORE
from kerasdense.export.predictor import RUNTIMES, Predictor

LADDER = Workload("infer", "ladder_densenet", {"blocks": [1, 1, 1, 1]}, (64, 96), 2, classes=5)
SSD = Workload("infer", "ssd300", {"width": 1 / 64}, (64, 64), classes=3)


def having(runtime):
    return pytest.mark.skipif(
        util.find_spec(RUNTIMES[runtime][0]) is None, reason=f"{runtime} is not installed"
    )


@pytest.mark.parametrize(
    "runtime, xla",
    [
        ("saved_model", False),
        pytest.param("saved_model", True, marks=pytest.mark.slow),
        pytest.param("openvino", False, marks=having("openvino")),
    ],
)
def test_exports_answer_what_the_network_gives(tmp_path, runtime, xla):
    workload = Workload(**vars(LADDER) | {"runtime": runtime, "xla": xla})
    version, facts = runtimes.write(workload, tmp_path)
    predictor = Predictor(version)
    assert predictor.facts["xla"] == xla and predictor.facts["input"]["batch_size"] == 2
    images = workloads.random_images(workload, (64, 96))
    (logits,) = predictor.predict(images).values()
    model, expected = workloads.model_and_facts(workload)  # by the same seed
    assert facts == expected and facts["size"] == (64, 96) and facts["macs"] > 0
    reference = np.asarray(model(images, training=False))
    np.testing.assert_allclose(logits, reference, atol=1e-4 * np.abs(reference).max())


def test_an_ssd_has_its_own_size_and_gives_no_boxes_to_infer(tmp_path):
    version, facts = runtimes.write(Workload(**vars(SSD) | {"runtime": "saved_model"}), tmp_path)
    assert facts["size"] == (300, 300)
    (raw,) = Predictor(version).predict(workloads.random_images(SSD, (300, 300))).values()
    assert raw.shape == (1, 8732, 3 + 1 + 4)


def test_a_detector_with_random_weights_finds_as_much_as_a_fitted_one(tmp_path, monkeypatch):
    monkeypatch.setattr(workloads, "FOUND", 70)
    asked = []
    decisive = runtimes._find_some

    def found(model, task, images):
        decisive(model, task, images)
        asked.append(np.asarray(model(images, training=False)))

    monkeypatch.setattr(runtimes, "_find_some", found)
    workload = Workload(**vars(SSD) | {"work": "detect", "runtime": "saved_model"})
    version, _ = runtimes.write(workload, tmp_path)
    scores = np.asarray(keras.ops.softmax(asked[0][..., :4]))[..., 1:]
    # The last of them lies on the very limit, where rounding decides.
    assert 69 <= (scores >= LEAST_SCORE * (1 - 1e-5)).sum() <= 71
    outputs = Predictor(version).predict(workloads.random_images(workload, (300, 300)))
    assert set(outputs) == {"boxes", "scores", "classes", "num_detections"}
    assert 0 < outputs["num_detections"][0] <= 70


@having("openvino")
@having("onnx")
def test_rows_are_all_that_compute_in_a_precision():
    rows, left_out = runtimes.exported(LADDER)
    assert list(rows) == list(runtimes.ROWS) and not left_out
    assert all(Workload(**vars(row) | {"runtime": "keras", "xla": False}) == LADDER
               for row in rows.values())  # fmt: skip
    assert rows["SavedModel, XLA"].xla and not rows["SavedModel"].xla
    rows, left_out = runtimes.exported(Workload(**vars(LADDER) | {"precision": "mixed_bfloat16"}))
    assert list(rows) == ["SavedModel", "SavedModel, XLA", "OpenVINO"]
    (why,) = left_out
    assert why.startswith("ONNX in bfloat16 is left out: ONNX Runtime computes no convolution")


def test_rows_of_a_runtime_that_is_not_installed_are_left_out(monkeypatch):
    imported = importlib.import_module

    def import_module(name):
        if name == "openvino":
            raise ImportError("No module named 'openvino'")
        return imported(name)

    monkeypatch.setattr(runtimes.importlib, "import_module", import_module)
    rows, left_out = runtimes.exported(LADDER)
    assert "OpenVINO" not in rows and "SavedModel" in rows
    assert [why for why in left_out if why.startswith("OpenVINO in float32 is left out: ")]


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_without_tensorflow_there_are_no_exports(backend):
    workload = Workload(**vars(LADDER) | {"backend": backend})
    assert runtimes.can_export(workload) == (backend == "tensorflow")


@pytest.mark.slow
def test_an_export_is_written_by_another_process_which_tells_why_it_fails():
    run, facts, memory = runtimes.build(Workload(**vars(LADDER) | {"runtime": "saved_model"}))
    run(2)
    assert facts["size"] == [64, 96] and facts["parameters"] > 0
    with pytest.raises(ValueError, match="export ended with status 1: ValueError: .*'ladder'"):
        runtimes.build(Workload(**vars(LADDER) | {"runtime": "saved_model", "model": "ladder"}))


def test_a_workload_goes_to_another_process_as_a_line():
    line = json.dumps(vars(LADDER))
    assert "\n" not in line and Workload.read(line) == LADDER
