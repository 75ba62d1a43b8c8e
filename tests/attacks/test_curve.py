"""Robustness curves derived by hand, on models that are linear in the colors."""

import json

import numpy as np
import pytest
from attacks.by_hand import (
    ANY,
    BOXES,
    COLORS,
    NAMES,
    PALETTE,
    block_detector,
    blocks,
    color_model,
    leads,
    sample,
)

from kerasdense import tasks
from kerasdense.attacks.curve import chart, robustness_curve, table
from kerasdense.attacks.judge import Goal, Judge
from kerasdense.attacks.methods import METHODS
from kerasdense.attacks.report import Tally
from kerasdense.attacks.universal import apply
from kerasdense.metrics.labels import IGNORE


def curve(
    samples, epsilons, goal=ANY, model=None, names=NAMES, attack=None, attacker=None, **options
):
    model = model or color_model()
    task = tasks.of_model(model, names, PALETTE[: len(names)])
    judge = Judge(model, task, goal)
    attacker = attacker or judge.attacker(attack or METHODS["fgsm"]())
    return robustness_curve(judge, attacker, samples, epsilons, **options)


def test_a_curve_by_hand_over_images_of_two_sizes():
    samples = [
        sample(leads(3, 7), "a.png", mask=np.array([[0, 0]])),
        sample(leads(11, 15, 90), "b.png", mask=np.array([[0, 0, IGNORE]])),
        sample(leads(-3, 3), "c.png", mask=np.array([[1, 1]])),  # the second is wrong
    ]
    found = curve(samples, [1, 2, 4, 6, 8], batch_size=2)
    assert found["epsilons"] == [0, 1, 2, 4, 6, 8]
    accuracies = [point["pixel_accuracy"]["after"] for point in found["points"]]
    # Six pixels, five of them right at first, with leads of 3, 7, 11, 15 and 3.
    np.testing.assert_allclose(accuracies, np.array([5, 5, 3, 2, 1, 0]) / 6)
    assert all(point["images"] == 3 for point in found["points"])
    assert found["points"][0]["unchanged_images"] == 3
    json.dumps(found, allow_nan=False)
    ious = [point["mean_iou"]["after"] for point in found["points"]]
    # Clean: red 4 of 5, green 1 of 2. At 2: red 3 of 6 (one missed, two wrong), green 0 of 3.
    assert ious[0] == pytest.approx((4 / 5 + 1 / 2) / 2) and ious[2] == pytest.approx((3 / 6) / 2)


def test_each_image_keeps_its_best_of_smaller_epsilons():
    """An attack that overshoots: it works at epsilon 2, and brings red back at 4."""

    class Overshooting:
        attack = METHODS["fgsm"]()

        def __call__(self, images, labels, epsilon, start=None, **options):
            starts.append(start)
            change = {2.0: [-2, 2, 0], 4.0: [4, -4, 0]}[epsilon]
            return apply(images, np.array(change)[None, None])

    starts = []
    found = curve([sample(leads(3, 9))], [2, 4], attacker=Overshooting())
    assert [point["pixel_accuracy"]["after"] for point in found["points"]] == [1, 0.5, 0.5]
    assert found["points"][2]["distance"]["linf"]["largest"] == 2
    assert starts[0] is None and starts[1][0, 0, 0].tolist() == [-2, 2, 0]


def test_accuracy_never_rises_with_epsilon_on_noise():
    generator = np.random.default_rng(1)
    samples = [
        sample(
            generator.integers(90, 120, (6, 5, 3), np.uint8),
            f"{i}.png",
            mask=generator.integers(0, 3, (6, 5)),
        )
        for i in range(3)
    ]
    attack = METHODS["segpgd"](steps=3)
    found = curve(samples, [1, 2, 3, 5, 9], attack=attack, batch_size=2)
    accuracies = [point["pixel_accuracy"]["after"] for point in found["points"]]
    judge, tally = Judge(color_model(), COLORS), Tally(COLORS)
    batch = judge.look(samples)
    for example in judge.judge(batch, batch.images):
        tally.add(example)
    assert accuracies[0] == tally.result()["pixel_accuracy"]["before"]
    assert (np.diff(accuracies) <= 0).all() and accuracies[-1] < accuracies[0] / 2


def test_a_curve_of_a_detector():
    image = blocks({0: (104, 0, 0), 8: (110, 0, 0)})
    found = curve(
        [sample(image)], [1, 8, 30], Goal(suppress=True), block_detector(), ["red", "green"]
    )
    assert [point["success"]["by_object"] for point in found["points"]] == [0, 0, 1 / 2, 1]
    (axes,) = chart(BOXES, found, "test").axes
    drawn = {line.get_label(): line.get_ydata().tolist() for line in axes.lines}
    assert drawn["objects not reached"] == [1, 1, 1 / 2, 0] and "mean AP" in drawn
    assert "gray levels" in axes.get_xlabel()
    assert "mean AP" in table(BOXES, found)


@pytest.mark.parametrize("epsilons", [[], [0.5, 2], [2, 2], [4, 2], [0, 1], [1, np.inf], [np.nan]])
def test_epsilons_that_make_no_curve(epsilons):
    with pytest.raises(ValueError, match="rising epsilons"):
        curve([sample(leads(3))], epsilons)


def test_l2_epsilons_may_be_small():
    attack = METHODS["pgd"](norm="l2", steps=4)
    found = curve([sample(leads(1))], [0.5, 8], attack=attack)
    # -1 and +1 turn a lead of 1: a length of 1.41, for which half a level is too short.
    assert [point["pixel_accuracy"]["after"] for point in found["points"]] == [1, 1, 0]


def test_a_curve_of_no_samples_is_refused():
    with pytest.raises(ValueError, match="no image was attacked"):
        curve([], [1])
