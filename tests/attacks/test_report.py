"""What tables and pictures of attacks hold; how they look is for eyes."""

import math

import numpy as np
import pytest
from test_robustness import (
    ANY,
    NAMES,
    PALETTE,
    attacked,
    block_detector,
    blocks,
    color_model,
    label_model,
    leads,
    sample,
)

from kerasdense.attacks import report
from kerasdense.metrics.labels import IGNORE
from kerasdense.attacks.judge import Goal


def test_the_table_tells_before_and_after():
    _, result, _ = attacked(color_model(), [sample(leads(4, 20, -4))], 3)
    text = report.table(result)
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
    (row,), _, (example,) = attacked(model(), [sample(image)], 8, goal, names=names)
    picture = report.picture(example, row, names, PALETTE)
    side = image.shape[1] * math.ceil(report.NARROW / image.shape[1])
    assert picture.dtype == np.uint8 and picture.shape[1] >= 5 * side
    assert not np.array_equal(
        picture, report.picture(example, row, names, PALETTE, amplify=1)
    )


def test_a_picture_where_nothing_counts_and_one_with_a_wish():
    void = sample(leads(4, 4), mask=np.full((1, 2), IGNORE))
    for samples, goal in (([void], ANY), ([sample(leads(4, 20))], Goal(moves={0: 1}))):
        (row,), _, (example,) = attacked(color_model(), samples, 3, goal)
        assert report.picture(example, row, NAMES, PALETTE).ndim == 3
        captions = report._captions(row, goal, NAMES)
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
