"""The figures of parity by hand, and which of them count as rounding."""

import subprocess
import sys

import numpy as np
import pytest

from kerasdense.export.parity import (
    CUT_MARGIN,
    LEAST_SCORE,
    MEANINGS,
    TOLERANCES,
    compare_detections,
    compare_labels,
    compare_raw,
    exceeded,
)

ROWS = 5
# (box, score, class) of two images: far apart, so that nobody is taken for somebody else.
FIRST = [((10, 20, 30, 60), 0.9, 1), ((50, 20, 70, 60), 0.8, 1), ((0, 0, 8, 8), 0.5, 0)]
SECOND = [((5, 5, 45, 25), 0.7, 2)]


def detections(*images):
    """Outputs of a detector whose images hold these (box, score, class), as they stand."""
    outputs = {
        "boxes": np.zeros((len(images), ROWS, 4), np.float32),
        "scores": np.zeros((len(images), ROWS), np.float32),
        "classes": np.zeros((len(images), ROWS), np.int32),
        "num_detections": np.array([len(image) for image in images], np.int32),
    }
    for number, image in enumerate(images):
        for row, (box, score, label) in enumerate(image):
            outputs["boxes"][number, row] = box
            outputs["scores"][number, row] = score
            outputs["classes"][number, row] = label
    return outputs


def figures(outputs, reference):
    return compare_detections(detections(*outputs), detections(*reference))


def replaced(image, row, box=None, score=None, label=None):
    """`image` with the named parts of one detection replaced."""
    new = [old if part is None else part for part, old in zip((box, score, label), image[row])]
    return [*image[:row], tuple(new), *image[row + 1 :]]


# --- segmentation ------------------------------------------------------------------------------

# A picture of 1x2x2 pixels and three classes; labels 0, 1, 2, 0.
PROBABILITIES = np.array(
    [[[[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]], [[0.3, 0.1, 0.6], [0.45, 0.4, 0.15]]]], np.float32
)


def segmented(labels=(0, 1, 2, 0), confidence=(0.7, 0.8, 0.6, 0.45)):
    return {
        "labels": np.array(labels, np.uint8).reshape(1, 2, 2),
        "confidence": np.array(confidence, np.float32).reshape(1, 2, 2),
    }


def test_equal_labels():
    assert compare_labels(segmented(), PROBABILITIES) == {
        "other_labels": 0,
        "margin": 0,
        "confidence": 0,
    }


def test_one_wrong_pixel_of_four():
    # The last pixel is given class 1, to which the reference gives 0.4 instead of 0.45.
    found = compare_labels(segmented(labels=(0, 1, 2, 1)), PROBABILITIES)
    assert found["other_labels"] == 1 / 4 and found["confidence"] == 0
    assert found["margin"] == pytest.approx(0.45 - 0.4, abs=1e-6)
    # Two wrong pixels: the larger lead counts, 0.7 - 0.1.
    found = compare_labels(segmented(labels=(2, 1, 2, 1)), PROBABILITIES)
    assert found["other_labels"] == 2 / 4
    assert found["margin"] == pytest.approx(0.7 - 0.1, abs=1e-6)


def test_a_label_without_a_class_has_no_probability():
    found = compare_labels(segmented(labels=(0, 1, 255, 0)), PROBABILITIES)
    assert found["other_labels"] == 1 / 4 and found["margin"] == pytest.approx(0.6)


def test_confidence_differs_most_where_it_is_too_low_or_too_high():
    for value, difference in ((0.5, 0.2), (1.0, 0.3)):
        found = compare_labels(segmented(confidence=(value, 0.8, 0.6, 0.45)), PROBABILITIES)
        assert found == {
            "other_labels": 0,
            "margin": 0,
            "confidence": pytest.approx(difference, abs=1e-6),
        }


def test_raw_output():
    reference = np.array([[1.0, -4.0], [2.0, 0.0]], np.float32)
    found = compare_raw(reference + np.array([[0, 0], [0.5, -1]], np.float32), reference)
    assert found == {"absolute": 1, "relative": 1 / 4}  # the largest value is -4
    zeros = np.zeros((2, 2), np.float32)
    assert compare_raw(zeros, zeros) == {"absolute": 0, "relative": 0}
    assert compare_raw(zeros + 0.1, zeros)["relative"] > 1


# --- detection ---------------------------------------------------------------------------------


def test_equal_detections_and_swapped_rows():
    # Rows of a set: SECOND has one, FIRST three; their order says nothing.
    for first in (FIRST, FIRST[::-1]):
        assert figures([first, SECOND], [FIRST, SECOND]) == {
            "sought": 4,
            "missed": 0,
            "invented": 0,
            "count": 0,
            "boxes": 0,
            "largest_box": 0,
            "scores": 0,
        }


def test_a_shifted_box_and_another_score():
    # 2 of the box's 20 pixels to the right. Grown by half a pixel a side it is 21 wide; 19 of
    # them overlap: 19 / (21 + 21 - 19) = 0.83, the same box.
    moved = replaced(FIRST, 0, box=(12, 20, 32, 60), score=0.875)
    found = figures([moved, SECOND], [FIRST, SECOND])
    assert found["missed"] == found["invented"] == found["count"] == 0
    # The largest of four is left out of 99 %, rounded down.
    assert found["boxes"] == 0 and found["largest_box"] == 2
    assert found["scores"] == pytest.approx(0.025)
    everywhere = [((x + 2, y, x2 + 2, y2), *rest) for (x, y, x2, y2), *rest in FIRST[:2]]
    assert figures([everywhere], [FIRST[:2]])["boxes"] == 2
    # 3 pixels: 18 / (21 + 21 - 18) = 0.75, another box: one of four is missed, and one invented.
    moved = replaced(FIRST, 0, box=(13, 20, 33, 60))
    found = figures([moved, SECOND], [FIRST, SECOND])
    assert found["missed"] == found["invented"] == 1 / 4
    assert found["largest_box"] == found["scores"] == 0


def test_another_class_is_another_detection():
    found = figures([replaced(FIRST, 1, label=0), SECOND], [FIRST, SECOND])
    assert found["missed"] == found["invented"] == 1 / 4


def test_a_missing_and_an_additional_detection():
    found = figures([FIRST[:2], SECOND], [FIRST, SECOND])
    assert found["missed"] == 1 / 4 and found["invented"] == 0
    assert found["count"] == 1 / ROWS
    found = figures([FIRST, SECOND], [FIRST[:2], SECOND])
    assert found["missed"] == 0 and found["invented"] == 1 / 4
    assert found["count"] == 1 / ROWS


def test_detections_of_another_image_do_not_count():
    found = figures([SECOND, FIRST], [FIRST, SECOND])
    assert found["missed"] == found["invented"] == 1


def test_empty_detections():
    assert set(figures([[], []], [[], []]).values()) == {0}
    assert figures([[], []], [FIRST, SECOND])["missed"] == 1
    found = figures([FIRST, SECOND], [[], []])
    assert found["missed"] == 0 and found["invented"] == 1


def test_one_detection_serves_once():
    # The reference has two nearly equal boxes, the outputs have one of them.
    twins = [((10, 20, 30, 60), 0.9, 1), ((10, 20, 30, 61), 0.8, 1)]
    assert figures([twins[:1]], [twins])["missed"] == 1 / 2
    # Both are there: each takes its own, although both overlap both, in whatever order.
    found = figures([twins[::-1]], [twins])
    assert found["missed"] == found["largest_box"] == 0


def test_boxes_without_area_overlap_themselves():
    line = [((0, 5, 0, 25), 0.9, 1), ((7, 7, 7, 7), 0.8, 1)]
    found = figures([line], [line])
    assert found["sought"] == 2 and found["missed"] == found["invented"] == 0


def test_low_scores_are_not_looked_for():
    weak = ((80, 80, 90, 90), LEAST_SCORE - 0.01, 1)
    for ours, theirs in (([FIRST + [weak]], [FIRST]), ([FIRST], [FIRST + [weak]])):
        found = figures(ours, theirs)
        assert found["sought"] == 3 and found["missed"] == found["invented"] == 0
        assert found["count"] == 1 / ROWS
    # But they may be what a higher one is found again as, on either side of the level.
    higher = ((80, 80, 90, 90), LEAST_SCORE + 0.01, 1)
    found = figures([FIRST + [weak]], [FIRST + [higher]])
    assert found["missed"] == 0 and found["scores"] == pytest.approx(0.02)
    assert figures([FIRST + [higher]], [FIRST + [weak]])["invented"] == 0


def test_scores_at_the_cut_are_not_looked_for():
    full = [((20 * n, 0, 20 * n + 10, 10), 0.9 - 0.1 * n, 0) for n in range(ROWS)]
    last = full[-1][1]
    near = replaced(full, ROWS - 2, score=last + CUT_MARGIN / 2)
    elsewhere = replaced(near, ROWS - 2, box=(0, 80, 10, 90))
    found = figures([elsewhere], [near])
    assert found["sought"] == ROWS - 2 and found["missed"] == found["invented"] == 0
    # One that is clearly above the cut is missed.
    elsewhere = replaced(full, ROWS - 2, box=(0, 80, 10, 90))
    assert figures([elsewhere], [full])["missed"] == 1 / (ROWS - 1)


def test_rows_after_the_last_detection_do_not_count():
    outputs, reference = detections(FIRST), detections(FIRST)
    outputs["boxes"][0, 3:], outputs["scores"][0, 3:] = 7, 0.9
    assert not exceeded(compare_detections(outputs, reference), "float32")
    outputs["num_detections"][0] = 4
    assert compare_detections(outputs, reference)["invented"] == 1 / 4


# --- the verdict -------------------------------------------------------------------------------


def test_equal_outputs_exceed_nothing():
    same = detections(FIRST, SECOND)
    for precision in TOLERANCES:
        assert not exceeded(compare_detections(same, same), precision)
        assert not exceeded(compare_labels(segmented(), PROBABILITIES), precision)
        assert not exceeded(compare_raw(PROBABILITIES, PROBABILITIES), precision)


def test_each_figure_is_named_beyond_its_limit():
    for precision, limits in TOLERANCES.items():
        assert set(limits) == set(MEANINGS) - {"largest_box"}
        for name, limit in limits.items():
            zeros = dict.fromkeys(limits, 0.0)
            assert not exceeded(zeros | {name: limit}, precision)
            (phrase,) = exceeded(zeros | {name: 1.001 * limit}, precision)
            assert phrase.startswith(MEANINGS[name]) and f"{limit:g} in {precision}" in phrase
    assert all(TOLERANCES["float16"][name] > limit for name, limit in TOLERANCES["float32"].items())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outputs_that_are_no_numbers_never_agree(value):
    outputs = segmented(confidence=(0.7, 0.8, value, 0.45))
    assert exceeded(compare_labels(outputs, PROBABILITIES), "float16")
    raw = PROBABILITIES.copy()
    raw[0, 0, 0, 0] = value
    assert exceeded(compare_raw(raw, PROBABILITIES), "float16")
    reference = detections(FIRST, SECOND)
    for name in ("boxes", "scores"):
        outputs = detections(FIRST, SECOND)
        outputs[name][0, 1] = value
        assert exceeded(compare_detections(outputs, reference), "float16"), name


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="labels.*expected \\[1, 2, 1\\], received \\[1, 2, 2\\]"):
        compare_labels(segmented(), PROBABILITIES[:, :, :1])
    with pytest.raises(ValueError, match="confidence"):
        compare_labels(segmented() | {"confidence": np.zeros((1, 2))}, PROBABILITIES)
    with pytest.raises(ValueError, match="raw output"):
        compare_raw(PROBABILITIES, PROBABILITIES[0])
    with pytest.raises(ValueError, match="boxes.*expected \\[2, 5, 4\\], received \\[1, 5, 4\\]"):
        compare_detections(detections(FIRST), detections(FIRST, SECOND))


def test_needs_numpy_alone():
    program = """
import sys
for name in ("tensorflow", "keras"):
    sys.modules[name] = None  # importing it raises ImportError
from kerasdense.parity import compare_detections
from test_parity import FIRST, detections
print(compare_detections(detections(FIRST), detections(FIRST))["sought"])
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(filter(None, sys.path))},
    )
    assert done.returncode == 0 and done.stdout.strip() == "3.0", done.stderr
