"""Work measured in processes of its own: facts, turns, failures."""

import os

import pytest

from kerasdense.benchmarks import processes
from kerasdense.benchmarks.processes import Schedule, measure
from kerasdense.benchmarks.workloads import Workload
from kerasdense.models import densenet_classifier
from kerasdense.models.cost import total_cost

TINY = {"blocks": [1, 1, 1, 1]}


@pytest.mark.slow
def test_work_is_measured_and_a_failure_costs_only_its_own_row():
    workloads = {
        "train": Workload("train", "densenet_classifier", TINY, (64, 64), batch_size=2, classes=3),
        "infer": Workload("infer", "ssd300", {"width": 0.02}, (64, 64), classes=3),
        "unknown": Workload("infer", "ladder", {}, (64, 64)),
    }
    results = measure(workloads, Schedule(turns=2))
    assert list(results) == list(workloads)
    assert "no model 'ladder'" in results["unknown"]["failed"]
    train, infer = results["train"], results["infer"]
    model = densenet_classifier((1, 1, 1, 1), 3, weights=None)
    expected = total_cost(model, (64, 64))
    assert train["parameters"] == expected["parameters"] and train["macs"] == expected["macs"]
    assert train["size"] == [64, 64] and infer["size"] == [300, 300]  # an SSD has its own
    for each in (train, infer):
        assert len(each["seconds"]) == 2 and each["first_step"] > 0
        assert each["peak_mebibytes"] is None or each["peak_mebibytes"] > 1
    # Two images a step.
    assert train["images_per_second"] == pytest.approx(2000 / train["milliseconds"])
    ratios = [theirs / ours for ours, theirs in zip(infer["seconds"], train["seconds"])]
    assert train["first_over_this"] == 1
    assert infer["first_over_this"] == pytest.approx(sum(ratios) / 2)


class Fake:
    """A process that takes a second a step, or fails; what happens to it stands in `events`."""

    events = []
    facts = {"parameters": 7}

    def __init__(self, workload):
        self.workload = workload
        self.events.append(("begin", workload.model))
        if workload.model == "bad":
            raise ValueError("no such work")

    def run(self, steps):
        self.events.append(("run", self.workload.model))
        return 1.0

    def peak_memory(self):
        return None

    def close(self):
        self.events.append(("close", self.workload.model))


@pytest.mark.parametrize("alone", [False, True])
def test_work_that_fails_first_leaves_no_ratio_and_alone_the_next_waits_for_the_end(
    monkeypatch, alone
):
    monkeypatch.setattr(processes, "Process", Fake)
    monkeypatch.setattr(Fake, "events", [])
    workloads = {name: Workload("infer", name, {}, (64, 64)) for name in ("bad", "good", "better")}
    results = measure(workloads, Schedule(turns=1, alone=alone))
    assert results["bad"] == {"failed": "no such work"}
    for name in ("good", "better"):
        assert results[name]["first_over_this"] is None and results[name]["milliseconds"] == 1000
        assert results[name]["parameters"] == 7 and results[name]["seconds"] == [1.0]
    where = Fake.events.index
    assert (where(("close", "good")) < where(("begin", "better"))) == alone


@pytest.mark.slow
def test_jax_needs_no_tensorflow(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['tensorflow'] = None")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    work = Workload("train", "densenet_classifier", TINY, (64, 64), classes=3, backend="jax")
    refused = Workload("infer", "densenet_classifier", TINY, (64, 64), classes=3)
    results = measure({"jax": work, "tensorflow": refused}, Schedule(turns=1))
    assert results["jax"].get("milliseconds", 0) > 0, results["jax"]
    assert "tensorflow" in results["tensorflow"]["failed"]
