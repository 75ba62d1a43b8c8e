"""Work measured in processes of its own: facts, turns, failures; and a step that is traced once."""

import keras
import pytest
import tensorflow as tf

from kerasdense.benchmarks import measuring
from kerasdense.benchmarks.measuring import Workload
from kerasdense.models.cost import total_cost
from kerasdense.models import ladder_densenet

TINY = {"blocks": [1, 1, 1, 1]}


def test_alternatives_take_turns_and_the_first_turns_do_not_count():
    calls = []
    alternatives = {name: lambda name=name: calls.append(name) for name in "ab"}
    seconds = measuring.in_turns(alternatives, turns=3, warm_up=2)
    assert calls == ["a", "b"] * 5
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}


def test_the_ratio_is_the_median_over_the_turns():
    # 6 / 2, 4 / 4 and 1 / 2 times as fast
    seconds = {"a": [2, 4, 2], "b": [6, 4, 1]}
    assert measuring.times_as_fast("a", "b", seconds) == 1


def test_work_is_measured_and_a_failure_costs_only_its_own_row():
    workloads = {
        "train": Workload("train", "ladder_densenet", TINY, (64, 64), batch_size=2, classes=3),
        "infer": Workload("infer", "ssd300", {"width": 0.02}, (64, 64), classes=3),
        "unknown": Workload("infer", "ladder", {}, (64, 64)),
    }
    results = measuring.measure(workloads, turns=2, steps=1)
    assert list(results) == list(workloads)
    assert "no model 'ladder'" in results["unknown"]["failed"]
    train, infer = results["train"], results["infer"]
    model = ladder_densenet((1, 1, 1, 1), 3)
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


def test_work_that_fails_first_leaves_no_ratio_and_alone_gives_all_rows():
    workloads = {
        "small": Workload("infer", "ladder_densenet", TINY, (63, 64), classes=3),
        "right": Workload("infer", "ladder_densenet", TINY, (64, 64), classes=3),
    }
    results = measuring.measure(workloads, turns=1, steps=1, alone=True)
    assert "at least 64 pixels" in results["small"]["failed"]
    assert results["right"]["first_over_this"] is None and results["right"]["milliseconds"] > 0


@pytest.mark.parametrize(
    "shape, targets",
    [((3,), (2, 3)), ((8, 9), (2, 8, 5)), ((64, 64, 3), (2, 64, 64))],
    ids=["classifier", "SSD", "segmentation"],
)
def test_each_task_has_its_loss_and_is_traced_once(shape, targets):
    images = keras.Input((64, 64, 3), dtype="uint8")
    x = keras.layers.Flatten()(keras.layers.MaxPooling2D(16)(keras.layers.Rescaling(0.01)(images)))
    units = 1
    for side in shape:
        units *= side
    model = keras.Model(images, keras.layers.Reshape(shape)(keras.layers.Dense(units)(x)))
    traces, train_step = [], model.train_step
    model.train_step = lambda *batch: traces.append(1) or train_step(*batch)
    workload = Workload("train", "any", {}, (64, 64), batch_size=2, classes=3)
    _, random = measuring._random_batch(model, workload, (64, 64))
    assert random.shape == targets
    run = measuring._keras_steps(model, workload, (64, 64))
    before = [weight.copy() for weight in model.get_weights()]
    run(2)
    run(1)
    # An optimizer that is built inside the first step makes TensorFlow trace it twice.
    assert len(traces) == 1 and int(model.optimizer.iterations) == 3
    assert any((old != new).any() for old, new in zip(before, model.get_weights()))


def test_resident_memory_counts_what_is_held_between_reset_and_peak():
    memory = measuring._ResidentMemory()
    if memory.before is None:
        pytest.skip("no /proc here")
    memory.reset()
    before = memory.peak()
    held = tf.ones((2**24,)).numpy().copy()  # 64 MiB
    assert memory.peak() - before >= 60
    del held
