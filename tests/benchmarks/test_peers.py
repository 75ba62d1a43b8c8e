"""What is compared with other packages, and torchvision's own networks where it is installed."""

import json
from importlib import util

import numpy as np
import pytest

from kerasdense.benchmarks import peers, runtimes, steps, workloads
from kerasdense.benchmarks.processes import Schedule
from kerasdense.benchmarks.workloads import Workload

INFER = Workload("infer", "", {}, (64, 96), batch_size=2, backend="jax")
BOTH = ("float32", "mixed_bfloat16")
needs_torchvision = pytest.mark.skipif(
    util.find_spec("torchvision") is None, reason="torchvision is not installed"
)


def test_each_comparison_is_of_the_same_work():
    found = peers.comparisons(INFER, BOTH, peers.PACKAGES)
    fcn, strided, ssd = found
    assert fcn.startswith("FCN") and strided.startswith("strided") and ssd.startswith("SSD300")
    for title, comparison in found.items():
        names = ["torchvision eager", "torchvision channels_last", "torchvision compiled"]
        names += ["kerasdense Keras"]  # nobody exports under JAX: ours is the Keras model
        if title == strided:
            names = ["keras_hub DeepLabV3+", "kerasdense fcn_resnet50, skips to 1/4"]
        labels = [f"{precision} {name}" for precision in ("float32", "bfloat16") for name in names]
        assert list(comparison.rows) == labels and not comparison.left_out
        rows = comparison.rows.values()
        assert len({(row.work, row.size, row.batch_size, row.classes) for row in rows}) == 1
        for label, row in comparison.rows.items():
            precision, package, runtime = label.split()[:3]
            assert row.package == package and row.computed_in == precision
            if package == "torchvision":
                assert row.backend == "torch" and row.runtime == runtime and not row.options
            else:
                assert row.backend == "jax" and row.runtime == "keras"


def test_what_is_not_installed_or_has_no_such_work_is_left_out():
    train = Workload("train", "", {}, (64, 96))
    (title,) = found = peers.comparisons(train, BOTH[:1], ["torchvision"])
    assert title.startswith("FCN") and "float32 kerasdense Keras" in found[title].rows
    (title,) = peers.comparisons(INFER, BOTH, ["keras_hub"])
    assert title.startswith("strided")


@pytest.mark.parametrize("suppresses", [False, True])
def test_ours_are_exports_and_boxes_are_compared_where_torchvision_finds_some(
    monkeypatch, suppresses
):
    row = Workload("infer", "any", {}, (64, 96), runtime="openvino")
    monkeypatch.setattr(runtimes, "exported", lambda workload: ({"OpenVINO": row}, ["not ONNX"]))
    monkeypatch.setattr(peers, "_torchvision_suppresses", lambda: suppresses)
    like = Workload("infer", "", {}, (64, 96))
    fcn, ssd, boxes = peers.comparisons(like, BOTH, ["torchvision"]).values()
    for each in (fcn, ssd, boxes):
        assert each.rows["float32 kerasdense OpenVINO"] is row
    assert fcn.left_out == ["not ONNX"], "told once, whatever the precisions"
    assert boxes.left_out[-1] == "not ONNX"
    assert ("bfloat16 torchvision eager" in boxes.rows) == suppresses
    assert any("lacks the operator nms" in line for line in boxes.left_out) != suppresses
    assert not suppresses or boxes.rows["float32 torchvision eager"].work == "detect"


def row_of(package, precision="float32"):
    return Workload("infer", "any", {}, (64, 96), precision=precision, package=package)


def result_of(*seconds):
    return {
        "seconds": list(seconds),
        "milliseconds": 1000 * float(np.median(seconds)),
        "images_per_second": 1.0,
        "first_step": 1.0,
        "peak_mebibytes": None,
        "macs": None,
    }


def test_the_best_of_both_sides_are_compared_within_the_turns():
    rows = {
        "float32 torchvision eager": row_of("torchvision"),
        "float32 torchvision compiled": row_of("torchvision"),
        "float32 kerasdense SavedModel": row_of("kerasdense"),
        "float32 kerasdense OpenVINO": row_of("kerasdense"),
        "bfloat16 torchvision eager": row_of("torchvision", "mixed_bfloat16"),
        "bfloat16 kerasdense OpenVINO": row_of("kerasdense", "mixed_bfloat16"),
    }
    measured = dict(
        zip(
            rows,
            [
                result_of(9, 9, 9),
                result_of(2, 4, 8),  # the machine slows down
                result_of(3, 4, 12),
                result_of(1, 3, 4),
                {"failed": "no such instruction"},
                result_of(1, 1, 1),
            ],
        )
    )
    best, half = peers.fastest(rows, measured)
    # Turn by turn 9/2, 9/4, 9/8; 3/2, 4/4, 12/8; 1/2, 3/4, 4/8.
    ratios = [measured[label]["of_theirs"] for label in list(rows)[:4]]
    assert ratios == [9 / 4, 1, 3 / 2, 1 / 2]
    assert best == {
        "precision": "float32",
        "of_theirs": 1 / 2,
        "ours": "float32 kerasdense OpenVINO",
        "theirs": "float32 torchvision compiled",
    }
    assert half["precision"] == "bfloat16" and half["theirs"] is None
    assert half["ours"] == "bfloat16 kerasdense OpenVINO" and half["of_theirs"] is None


FAILED = {"failed": "gcc is missing"}


@pytest.mark.parametrize(
    "eager, compiled, ours, complete",
    [
        (result_of(2), result_of(1), result_of(1), True),
        (result_of(2), FAILED, result_of(1), True),
        (result_of(2), result_of(1), FAILED, False),
        (FAILED, FAILED, result_of(1), False),
    ],
    ids=["all", "torch.compile fails", "ours fails", "nothing of theirs"],
)
def test_the_table_and_its_status(monkeypatch, capsys, eager, compiled, ours, complete):
    rows = {
        "float32 torchvision eager": row_of("torchvision"),
        "float32 torchvision compiled": row_of("torchvision"),
        "float32 kerasdense OpenVINO": row_of("kerasdense"),
    }
    comparison = peers.Comparison(rows, ["ONNX in bfloat16 is left out: why"])
    monkeypatch.setattr(peers, "installed", lambda: ["torchvision"])
    monkeypatch.setattr(peers, "comparisons", lambda *arguments: {"FCN": comparison})
    results = [dict(each) for each in (eager, compiled, ours)]
    monkeypatch.setattr(steps, "measure", lambda rows, schedule: dict(zip(rows, results)))
    status = steps.benchmark_peers(("infer",), (64, 96), 1, ("float32",), Schedule(1))
    out = capsys.readouterr().out
    assert status == (0 if complete else 1)
    assert "cores" in out.splitlines()[0], "the processor comes first"
    assert "ONNX in bfloat16 is left out: why" in out
    (found,) = json.loads(out.splitlines()[-1])
    assert found["comparison"] == "FCN" and found["work"] == "infer"
    assert list(found["rows"]) == list(rows)
    if "failed" in compiled:
        assert "float32 torchvision compiled  failed: gcc is missing" in out
    if complete and compiled is FAILED:
        assert "best of theirs: float32 0.50 (kerasdense OpenVINO / torchvision eager)" in out
    elif complete:
        assert "best of theirs: float32 1.00 (kerasdense OpenVINO / torchvision compiled)" in out


def test_boxes_of_nobody_else_are_no_failure():
    rows = {"float32 kerasdense OpenVINO": row_of("kerasdense")}
    measured = {"float32 kerasdense OpenVINO": result_of(1)}
    (best,) = peers.fastest(rows, measured)
    assert best["of_theirs"] is None and peers.is_complete(rows, measured)


@needs_torchvision
@pytest.mark.parametrize("runtime", ["eager", "channels_last"])
def test_torchvisions_ssd_gives_what_ours_does(runtime):
    workload = Workload(
        "infer", "ssd300_vgg16", {}, (300, 300), classes=3, package="torchvision", runtime=runtime
    )
    run, facts, _ = peers.build_torchvision(workload)
    run(1)
    assert facts["size"] == (300, 300) and facts["macs"] > 0


@pytest.mark.slow
@needs_torchvision
@pytest.mark.parametrize("work", ["infer", "train"])
@pytest.mark.parametrize("precision", BOTH)
def test_torch_compiles_what_it_runs(work, precision):
    import torch

    if work == "train":
        torch._dynamo.reset()
    workload = Workload(
        work, "fcn_resnet50", {}, (64, 64), classes=3, precision=precision, package="torchvision",
        runtime="compiled",
    )  # fmt: skip
    run, facts, _ = peers.build_torchvision(workload)
    run(2)
    assert facts["macs"] > 0


@needs_torchvision
def test_torchvisions_boxes_are_as_many_as_ours(monkeypatch):
    import torch

    boxes = peers._importable_torchvision("ops.boxes")
    # It may be missing, and here nothing is to be suppressed.
    monkeypatch.setattr(boxes, "nms", lambda boxes, scores, overlap: torch.argsort(-scores))
    monkeypatch.setattr(workloads, "FOUND", 50)
    ssd = peers.torchvision_ssd300(3).eval()
    images = torch.from_numpy(workloads.random_images(INFER, (300, 300))).permute(0, 3, 1, 2)
    forward = peers._boxes(ssd, images)
    with torch.inference_mode():
        found = forward(images)[0]
    assert len(found["scores"]) in (49, 50), "the last lies on the very limit"
    assert min(found["scores"]) > 0.0099
