"""Samples judged by what survives as a file, on models that are linear in the colors."""

import math

import numpy as np
import pytest
import tensorflow as tf
from attacks.by_hand import (
    BOXES,
    COLORS,
    LABELS,
    attacked,
    block_detector,
    color_model,
    label_model,
    leads,
    sample,
)

from kerasdense.attacks.judge import (
    Example,
    Goal,
    Judge,
    Progress,
    View,
    by_size,
    distances,
    saved_and_loaded,
)
from kerasdense.attacks.methods import METHODS
from kerasdense.attacks.report import Tally
from kerasdense.attacks.units import unit_logits
from kerasdense.drawing.pictures import load_picture
from kerasdense.metrics.labels import IGNORE

# ---- distances


def test_distances_by_hand():
    images = np.full((2, 1, 2, 3), 7, np.uint8)
    changed = images.copy()
    changed[0, 0, 0] = 10, 3, 7  # +3, -4, 0
    found = distances(images, changed)
    np.testing.assert_allclose(found["l2"], [5, 0])
    np.testing.assert_allclose(found["linf"], [4, 0])
    np.testing.assert_allclose(found["mean"], [7 / 6, 0])
    # Mean square error 25 / 6.
    np.testing.assert_allclose(
        found["psnr"], [20 * math.log10(255) - 10 * math.log10(25 / 6), np.inf]
    )


def test_psnr_of_a_change_by_one_level_everywhere():
    images = np.full((1, 5, 4, 3), 100, np.uint8)
    found = distances(images, images - 1)
    assert found["psnr"][0] == pytest.approx(48.1308, abs=1e-4)  # 20 log10 255
    assert found["l2"][0] == pytest.approx(math.sqrt(60)) and found["linf"][0] == 1


def test_distances_of_bytes_do_not_wrap_around():
    found = distances(np.zeros((1, 1, 1, 3), np.uint8), np.full((1, 1, 1, 3), 200, np.uint8))
    assert found["linf"][0] == 200 == found["mean"][0]


def test_distances_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"received \[1, 2, 2, 3\] and \[1, 2, 3, 3\]"):
        distances(np.zeros((1, 2, 2, 3)), np.zeros((1, 2, 3, 3)))


# ---- what survives as a file


def test_a_file_gives_back_what_was_written(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    loaded = saved_and_loaded(picture, tmp_path / "a.png")
    np.testing.assert_array_equal(loaded, picture)
    floats = np.array([[[-3.0, 0.49, 0.51], [254.6, 255.4, 300]]])
    loaded = saved_and_loaded(floats, tmp_path / "b.png")
    assert loaded.tolist() == [[[0, 0, 1], [255, 255, 255]]] and loaded.dtype == np.uint8


@pytest.mark.parametrize("change, success", [(0.4, 0), (0.6, 1)])
def test_success_is_what_survives_as_a_file(change, success):
    """Green is behind by nothing: any increase would do, were it still there in the file."""
    model = color_model()
    judge = Judge(model, COLORS)
    batch = judge.look([sample(leads(0))])
    changed = batch.images + np.array([0, change, 0])
    logits = unit_logits(model, COLORS)(changed.astype(np.float32))
    assert int(np.argmax(logits)) == 1  # as floats, both are adversarial
    (example,) = judge.judge(batch, changed)
    row = Tally(COLORS).add(example)
    assert row["reached"] == success and row["linf"] == round(change)


def test_the_judged_files_stay_where_they_are_wanted(tmp_path):
    model = color_model()
    samples = [sample(leads(9), "x/a b.jpg"), sample(leads(5), "y/a b.jpg")]
    rows, _, examples = attacked(model, samples, 2, folder=tmp_path)
    assert [row["adversarial"] for row in rows] == ["a_b.png", "a_b_2.png"]
    for example, row in zip(examples, rows):
        stored = load_picture(tmp_path / row["adversarial"])
        np.testing.assert_array_equal(stored, example.adversarial)
    _, _, (example,) = attacked(model, samples[:1], 2)
    assert example.path is None


# ---- goals and samples


def test_a_target_map_and_its_size():
    target = np.array([[1, IGNORE, 0]])
    goal = Goal(target_map=target)
    (row,), result, example = attacked(color_model(), [sample(leads(4, 4, 4))], 3, goal)
    assert (row["counted"], row["reached_before"], row["reached"]) == (2, 1, 2)
    with pytest.raises(
        ValueError, match=r"target map must have the size of the image a.png.*\(1, 2"
    ):
        attacked(color_model(), [sample(leads(4, 4))], 3, goal)


@pytest.mark.parametrize("kind", ["mask", "region"])
def test_maps_of_another_size_are_refused(kind):
    with pytest.raises(ValueError, match=f"The {kind} must have the size of the image a.png"):
        Judge(color_model(), COLORS).look([sample(leads(1, 2), **{kind: np.zeros((1, 3), int)})])


def test_goals_exclude_each_other():
    with pytest.raises(ValueError, match="one goal"):
        Goal(moves={0: 1}, suppress=True)
    with pytest.raises(ValueError, match="Only a detector"):
        Judge(color_model(), COLORS, Goal(suppress=True))
    with pytest.raises(ValueError, match="needs a goal"):
        Judge(block_detector(), BOXES)
    with pytest.raises(ValueError, match="for segmentation"):
        Judge(label_model(), LABELS, Goal(target_map=np.zeros((2, 2), int)))


def test_a_model_with_broken_weights_is_told():
    model = color_model()
    model.get_layer("logits").set_weights([np.full((1, 1, 3, 3), np.nan, np.float32)])
    with pytest.raises(ValueError, match="not finite"):
        Judge(model, COLORS).look([sample(leads(1))])


def test_too_little_memory_is_told_with_the_name_of_the_image():
    judge = Judge(color_model(), COLORS)

    def attack_batch(images, labels):
        trace = "Graph execution error:\n\nDetected at node a defined at (most recent call last):\n"
        text = f"{trace}\nOOM when allocating\n\t [[{{{{node a}}}}]]\nHint: and so on"
        raise tf.errors.ResourceExhaustedError(None, None, text)

    with pytest.raises(ValueError, match="cannot process a.png, 2x1 pixels: OOM when allocating$"):
        judge.attack(judge.look([sample(leads(1, 2))]), attack_batch)


# ---- objects


def view(boxes, labels, scores=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    found = {"boxes": boxes, "labels": np.array(labels, int)}
    found["scores"] = np.full(len(boxes), 0.9) if scores is None else np.array(scores)
    return View(None, None, None, found)


BOX, FAR = [0.0, 0.0, 0.5, 0.5], [0.6, 0.6, 0.9, 0.9]
HALF = [0.0, 0.0, 0.25, 0.5]  # IoU with BOX is 1 / 2
LESS = [0.0, 0.0, 0.24, 0.5]


@pytest.mark.parametrize(
    "after, suppressed, moved",
    [
        (([], []), True, False),
        (([FAR], [1]), True, False),
        (([BOX], [0]), False, False),
        (([BOX], [1]), False, True),
        (([BOX], [2]), False, False),  # another class than the wanted one
        (([HALF], [1]), False, True),
        (([LESS], [1]), True, False),
        (([BOX, BOX], [0, 1]), False, False),  # its own class is still there
        (([BOX], [1], [0.49]), True, False),  # not sure
    ],
)
def test_when_an_object_is_reached(after, suppressed, moved):
    for goal, expected in ((Goal(suppress=True), suppressed), (Goal(moves={0: 1}), moved)):
        example = Example({}, None, None, goal, None, None, view([BOX], [0]), view(*after))
        assert BOXES.objects_reached(example).tolist() == [expected]


def test_objects_that_are_unsure_or_not_to_be_moved_are_left_out():
    clean = view([BOX, FAR, FAR], [0, 2, 0], [0.9, 0.9, 0.3])
    example = Example({}, None, None, Goal(moves={0: 1}), None, None, clean, view([], []))
    assert BOXES.objects_reached(example).tolist() == [False]
    example = Example({}, None, None, Goal(suppress=True), None, None, clean, view([], []))
    assert BOXES.objects_reached(example).tolist() == [True, True]


# ---- batches


def test_samples_of_one_size_share_batches():
    sizes = [2, 3, 2, 3, 3, 2]
    samples = [sample(np.zeros((1, size, 3), np.uint8), str(i)) for i, size in enumerate(sizes)]
    groups = [[each["file_name"] for each in group] for group in by_size(samples, 2)]
    assert groups == [["0", "2"], ["1", "3"], ["4"], ["5"]]


def test_progress_counts_the_steps_of_all_images(monkeypatch):
    told = []
    progress = Progress(3, METHODS["pgd"](steps=4))
    monkeypatch.setattr(progress, "update", told.append)
    first = progress.of_batch(2)
    first(2)
    first()
    last = progress.of_batch(1)
    last(4)
    assert told == [2 * 2, 2 * 4, 2 * 4 + 4] and progress.total == told[-1]
