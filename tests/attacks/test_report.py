"""Numbers of reports, derived by hand; what tables and pictures hold: how they look is for eyes."""

import json
import math

import numpy as np
import pytest
from attacks.by_hand import (
    ANY,
    COLORS,
    NAMES,
    PALETTE,
    SCALE,
    attacked,
    block_detector,
    blocks,
    color_model,
    label_model,
    leads,
    sample,
)

from kerasdense import tasks
from kerasdense.attacks import report
from kerasdense.attacks.judge import Goal
from kerasdense.attacks.report import Tally
from kerasdense.metrics.labels import IGNORE

# ---- label maps


@pytest.mark.parametrize("auxiliary", [False, True])
def test_a_report_counted_by_hand(auxiliary):
    # Truth red red green ignore red; seen red red red red green.
    image = leads(4, 20, 20, 4, -30)
    truth = np.array([[0, 0, 1, IGNORE, 0]])
    (row,), result, (example,) = attacked(color_model(auxiliary), [sample(image, mask=truth)], 3)
    # 2 * 3 > 4: the first turns green. The second and, seen as red against the truth, the third
    # stay; so does the wrong green. The ignored one is not attacked.
    assert example.attacked.prediction.tolist() == [[1, 0, 0, 0, 1]]
    assert (row["counted"], row["reached_before"], row["reached"]) == (4, 2, 3)
    assert result["counted_pixels"] == 4 and result["measured_against"] == "the truth"
    success = result["success"]
    assert success["by_pixel"] == 3 / 4 and success["before"] == 2 / 4
    assert success["fooled"] == 1 / 4 == success["changed"]
    assert success["by_image"] == 0 and success["images_with_something_to_reach"] == 1
    assert result["pixel_accuracy"] == {"before": 2 / 4, "after": 1 / 4}
    # Before: red 2 of 2 + 1 + 1, green 0. After: red 1 of 1 + 2 missed + 1 wrong, green 0 of 3.
    assert result["mean_iou"] == {"before": 1 / 4, "after": 1 / 8}
    assert result["per_class_iou"]["after"] == {"red": 1 / 4, "green": 0, "blue": None}
    # Of the fooled pixel: 101, 103 and 3 over 64.
    z = np.exp(np.array([101, 103, 3]) / SCALE)
    assert result["wrong_confidence"] == pytest.approx(z[1] / z.sum(), rel=1e-5)
    assert row["linf"] == 3


def test_without_truth_the_clean_prediction_is_the_measure():
    (row,), result, _ = attacked(color_model(), [sample(leads(4, 20, -4))], 3)
    assert result["measured_against"] == "the clean prediction"
    assert result["pixel_accuracy"] == {"before": 1, "after": 1 / 3}
    assert result["success"]["before"] == 0 and result["success"]["by_pixel"] == 2 / 3


@pytest.mark.parametrize("weak, reached", [(99, True), (98, False)])
def test_an_image_is_reached_by_99_of_100_pixels(weak, reached):
    image = leads(*[4] * weak, *[90] * (100 - weak))
    (row,), result, _ = attacked(color_model(), [sample(image)], 3)
    assert row["image_reached"] is reached and result["success"]["by_image"] == reached
    assert result["success"]["image_share"] == 0.99


def test_pixels_that_stay_do_not_make_an_image_reached():
    """Of 200 pixels one is red and to become blue: that 199 stay green is no success."""
    image = leads(*[-100] * 199, 100)
    (row,), result, _ = attacked(color_model(), [sample(image)], 3, Goal(moves={0: 2}))
    assert row["reached_before"] == row["reached"] == 199
    assert row["image_reached"] is False and result["success"]["fooled"] == 0


def test_a_class_moved_to_another():
    image = leads(4, -4, 40)
    goal = Goal(moves={0: 1})
    (row,), result, (example,) = attacked(color_model(), [sample(image)], 3, goal)
    assert example.labels.tolist() == [[1, 1, 1]]
    assert example.attacked.prediction.tolist() == [[1, 1, 0]]
    assert (row["reached_before"], row["reached"], row["fooled"]) == (1, 2, 1)
    assert (row["to_change"], row["changed_as_wanted"]) == (2, 1)
    assert result["success"]["of_wanted_changes"] == 1 / 2
    assert "of the wanted changes 0.00 50.00" in " ".join(report.table(COLORS, result).split())


def test_confidence_counts_only_sure_pixels():
    # On the way to green, red and blue lose 3 levels; blue has none.
    z = np.exp(np.array([101, 103, 0]) / SCALE)
    probability = z[1] / z.sum()
    for confidence, reached in ((probability - 0.01, 1), (probability + 0.01, 0)):
        goal = Goal(moves={0: 1}, confidence=confidence)
        (row,), *_ = attacked(color_model(), [sample(leads(4))], 3, goal)
        assert row["reached"] == reached


def test_images_without_anything_to_reach_are_left_as_they_are():
    goal = Goal(moves={0: 1})
    samples = [sample(leads(-9, -9), "a.png"), sample(leads(4, -9), "b.png")]
    rows, result, _ = attacked(color_model(), samples, 3, goal)
    assert rows[0]["linf"] == 0 and rows[0]["psnr"] is None and rows[0]["image_reached"] is None
    assert rows[1]["image_reached"] is True
    assert result["success"]["by_image"] == 1 and result["unchanged_images"] == 1
    assert result["success"]["images_with_something_to_reach"] == 1
    _, result, _ = attacked(color_model(), samples[:1], 3, goal)
    assert "nothing was to be reached" in report.table(COLORS, result)
    # An image of nothing but ignored pixels, alone and beside another.
    void = np.full((1, 2), IGNORE)
    samples = [sample(leads(4, 4), mask=void), sample(leads(4, 4), mask=np.zeros((1, 2), int))]
    rows, result, _ = attacked(color_model(), samples, 3)
    assert rows[0]["counted"] == 0 and rows[1]["reached"] == 2
    rows, result, _ = attacked(color_model(), samples[:1], 3)
    assert result["success"]["by_pixel"] is None and result["pixel_accuracy"]["after"] is None
    json.dumps(result, allow_nan=False)


def test_only_the_region_changes_and_success_outside_is_told():
    region = np.array([[True, False, False]])
    (row,), result, (example,) = attacked(
        color_model(), [sample(leads(4, 4, -4), mask=np.zeros((1, 3), int), region=region)], 3
    )
    difference = example.adversarial.astype(int) - example.sample["image"]
    assert difference[0, 0].any() and not difference[0, 1:].any()
    assert row["reached"] == 2  # the first, and the third, wrong from the beginning
    assert result["success"]["by_pixel_outside_the_region"] == 1 / 2
    assert "wrong pixels outside the region that may change: 50.00 %" in report.table(
        COLORS, result
    )


def test_the_share_that_makes_an_image_reached_can_be_another():
    _, _, examples = attacked(color_model(), [sample(leads(4, 90))], 3)
    tally = Tally(COLORS, image_share=0.5)
    assert tally.add(examples[0])["image_reached"] is True
    assert tally.result()["success"]["image_share"] == 0.5


def test_a_report_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no image was attacked"):
        Tally(COLORS).result()


# ---- labels


def test_labels_of_a_classifier():
    image = np.full((4, 4, 3), 0, np.uint8) + np.array([110, 96, 0], np.uint8)  # red, not green
    model = label_model()
    truth = np.array([1.0, -1.0], np.float32)  # green does not count
    (row,), result, _ = attacked(model, [sample(image, targets=truth)], 8, names=["red", "green"])
    assert (row["counted"], row["reached"]) == (1, 0)  # 102 is still above 100
    (row,), result, example = attacked(model, [sample(image)], 12, names=["red", "green"])
    assert row["counted"] == 2 == row["reached"] and row["image_reached"] is True
    assert result["label_accuracy"] == {"before": 1, "after": 0}
    # Red at 98, green at 108: probabilities of absence and presence.
    absent, present = 1 / (1 + math.exp(-2 / 4)), 1 / (1 + math.exp(-8 / 4))
    assert result["wrong_confidence"] == pytest.approx((absent + present) / 2, rel=1e-4)
    goal = Goal(moves={0: 1})
    (row,), _, (example,) = attacked(model, [sample(image)], 12, goal, names=["red", "green"])
    assert example.labels.tolist() == [0, 1] and row["reached"] == 2


# ---- boxes


def test_suppressed_objects_counted_by_hand():
    """Two red blocks lead the background by 2 and by 5; 8 levels take 4 from each."""
    image = blocks({0: (104, 0, 0), 8: (110, 0, 0)})
    model, goal = block_detector(), Goal(suppress=True)
    (row,), result, (example,) = attacked(model, [sample(image)], 8, goal, names=["red", "green"])
    clean = example.clean.detections
    np.testing.assert_allclose(
        clean["scores"], [1 / (1 + math.exp(-5)), 1 / (1 + math.exp(-2))], rtol=1e-4
    )
    assert (row["objects"], row["objects_reached"], row["image_reached"]) == (2, 1, False)
    assert result["success"]["by_object"] == 1 / 2 and result["success"]["objects"] == 2
    assert (row["counted"], row["reached_before"], row["reached"]) == (8732, 8730, 8731)
    # A score of 1 / (1 + e^2) = 0.12 is no sure detection, but average precision ranks it still.
    assert result["mean_ap"] == {"before": 1, "after": 1} and result["ap"]["after"]["green"] is None
    assert result["found"] == {"before": 2, "after": 1}
    (row,), result, _ = attacked(model, [sample(image)], 30, goal, names=["red", "green"])
    assert row["image_reached"] is True and result["mean_ap"] == {"before": 1, "after": 0}
    json.dumps(result, allow_nan=False)


def test_objects_moved_and_measured_against_truth():
    image = blocks({0: (104, 103, 0), 4: (120, 0, 0)})
    model, goal = block_detector(), Goal(moves={0: 1})
    known = {
        "boxes": np.array([[0, 0, 0.5, 0.5]], np.float32),
        "labels": np.array([0]),
        "difficult": np.array([False]),
    }
    (row,), result, (example,) = attacked(
        model, [sample(image, **known)], 2, goal, names=["red", "green"]
    )
    # Red 102 and green 105 in the first block, 118 and 2 in the other.
    assert (row["objects"], row["objects_reached"]) == (2, 1)
    assert result["measured_against"] == "the truth"
    # Before: the anchor of the first block is [0, 0, 156.5, 156.5] of 300, an IoU of 0.92; the
    # other block's box ranks higher and is false: precision 1 / 2. After: no red one is there.
    assert result["mean_ap"]["before"] == pytest.approx(1 / 2)
    assert result["mean_ap"]["after"] == pytest.approx(1 / 2)


def test_a_picture_without_objects():
    model = block_detector()
    image = blocks({})
    (row,), result, _ = attacked(
        model, [sample(image)], 8, Goal(moves={0: 1}), names=["red", "green"]
    )
    assert row["objects"] == 0 and row["image_reached"] is None and row["counted"] == 0
    assert result["mean_ap"] == {"before": None, "after": None}
    assert result["success"]["by_object"] is None and result["success"]["by_image"] is None
    json.dumps(result, allow_nan=False)


# ---- text and pictures


def test_the_table_tells_before_and_after():
    _, result, _ = attacked(color_model(), [sample(leads(4, 20, -4))], 3)
    text = report.table(COLORS, result)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "pixel accuracy 100.00 33.33" in lines and "wrong pixels 0.00 66.67" in lines
    assert "images reached, of 1 0.00 0.00" in lines
    assert "against the clean prediction" in text and "99 %" in text and "Linf 3.0" in text


@pytest.mark.parametrize(
    "model, image, goal",
    [
        (color_model, leads(4, 20).repeat(70, axis=0), Goal()),
        (block_detector, blocks({0: (104, 0, 0)}), Goal(suppress=True)),
        (label_model, np.full((64, 80, 3), 105, np.uint8), Goal()),
    ],
)
def test_pictures_show_five_panels(model, image, goal):
    names = NAMES if model is color_model else NAMES[:2]
    model = model()
    task = tasks.of_model(model, names, PALETTE[: len(names)])
    (row,), _, (example,) = attacked(model, [sample(image)], 8, goal, names=names)
    picture = report.picture(task, example, row)
    side = image.shape[1] * math.ceil(report.NARROW / image.shape[1])
    assert picture.dtype == np.uint8 and picture.shape[1] >= 5 * side
    assert not np.array_equal(picture, report.picture(task, example, row, amplify=1))


def test_a_picture_where_nothing_counts_and_one_with_a_wish():
    void = sample(leads(4, 4), mask=np.full((1, 2), IGNORE))
    for samples, goal in (([void], ANY), ([sample(leads(4, 20))], Goal(moves={0: 1}))):
        (row,), _, (example,) = attacked(color_model(), samples, 3, goal)
        assert report.picture(COLORS, example, row).ndim == 3
        captions = report._captions(COLORS, row, goal)
        if goal.targeted:
            assert captions == (": red to green", "", ": 50.0 % of the wanted change")
        else:
            assert captions == ("", " (- % right)", " (- % right)")


def test_the_factor_of_the_perturbation_makes_it_visible():
    assert report.visible_factor(np.array([-8, 8])) == 12  # 96 of 127 levels
    assert report.visible_factor(np.array([200])) == 1
    few_stand_out = np.array([0] * 5000 + [4] * 999 + [250])
    assert report.visible_factor(few_stand_out) == 25
    assert report.visible_factor(np.zeros(3, int)) == 100
