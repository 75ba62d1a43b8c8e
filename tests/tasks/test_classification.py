"""Classification, from logits to average precision: a classifier that knows the truth, and one that
errs; figures of an export beside its model; and the files that predictions leave.
"""

import json
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerasdense.data.images import Found
from kerasdense.drawing import pictures
from kerasdense.export import parity
from kerasdense.tasks.classification import Classification, image_labels

NAMES = ["cat", "dog", "owl"]
TASK = Classification(NAMES, [[0, 0, 0]] * 3)
CAT = Classification(["cat"], [[0, 0, 0]])
# Three images; the cat of the last is a difficult one.
TRUTH = [[1, 0, 0], [0, 1, 0], [-1, 1, 0]]


def samples(truth=TRUTH, batch_size=2):
    """Batches as `pipeline.warped_batches` has them; an image tells its number."""
    count = len(truth)
    images = np.broadcast_to(
        np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 8, 9, 3)
    )
    return tf.data.Dataset.from_tensor_slices(
        {
            "image": images,
            "targets": np.reshape(truth, (count, -1)).astype(np.float32),
            "size": np.tile(np.int32([30, 40]), (count, 1)),
            "file_name": [f"{number}.jpg" for number in range(count)],
        }
    ).batch(batch_size)


def classifier(logits):
    """A stand-in for a model that answers image n with `logits[n]`."""
    logits = np.array(logits, np.float32)
    return types.SimpleNamespace(
        output=keras.KerasTensor((None, logits.shape[-1])),
        predict_on_batch=lambda images: logits[images[:, 0, 0, 0]],
    )


def measure(logits, **options):
    found = TASK.evaluate(classifier(logits), samples(), verbose=0, **options)
    return found.result, found.curves, found.worst


def test_a_classifier_that_knows_the_truth():
    result, curves, _ = measure(4 * np.array(TRUTH) - 1)
    assert result["mean_ap_area"] == result["mean_ap_11point"] == 1
    assert result["ap_area"] == {"cat": 1, "dog": 1, "owl": None}
    assert result["images"] == 3 and result["absent_classes"] == 1
    assert result["ground_truth"] == result["true_positives"] == {"cat": 1, "dog": 2, "owl": 0}
    assert result["ignored"] == {"cat": 1, "dog": 0, "owl": 0}
    assert result["false_positives"] == {"cat": 0, "dog": 0, "owl": 0}
    np.testing.assert_array_equal(curves["dog"][0], [1 / 2, 1, 1])
    table = TASK.table(result)
    assert "1 of 3 classes have no object here" in table
    assert any(line.split() == ["owl", "absent", "absent", "0", "0", "0", "0"]
               for line in table.splitlines())  # fmt: skip


def test_one_that_errs():
    # Cat: image 2 leads, but does not count; then 1, wrongly, then 0: precision 1/2.
    # Dog: 0 wrongly, then 1 and 2: precision 1/2 and 2/3, so 2/3 at every recall.
    logits = [[-1, 9, -2], [0, 8, -2], [9, -7, 3]]
    result, curves, worst = measure(logits, worst=2)
    assert result["ap_area"] == {"cat": 1 / 2, "dog": pytest.approx(2 / 3), "owl": None}
    assert result["mean_ap_area"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    # A logit of 0 is a probability of 0.5, which is enough; the difficult cat punishes nobody.
    assert result["true_positives"] == {"cat": 0, "dog": 1, "owl": 0}
    assert result["false_positives"] == {"cat": 1, "dog": 1, "owl": 1}
    # The losses of images 0 and 2, of what counts: (-1 present, 9 and -2 absent) and (-7 present,
    # 3 absent); a wrong logit of size z costs z + log(1 + e^-z), a right one log(1 + e^-z).
    first = (1 + np.log1p(np.exp(-1)) + 9 + np.log1p(np.exp(-9)) + np.log1p(np.exp(-2))) / 3
    last = (7 + np.log1p(np.exp(-7)) + 3 + np.log1p(np.exp(-3))) / 2
    assert [found["file_name"] for found in worst] == ["2.jpg", "0.jpg"]
    assert [found["loss"] for found in worst] == pytest.approx([last, first], rel=1e-6)
    np.testing.assert_array_equal(worst[0]["labels"], TRUTH[2])
    np.testing.assert_allclose(worst[1]["probabilities"], 1 / (1 + np.exp([1.0, -9, 2])), rtol=1e-5)
    assert worst[0]["size"] == (30, 40) and worst[0]["image"].shape == (8, 9, 3)


def test_images_are_ranked_where_probabilities_are_all_one():
    # In float32 both sigmoids are 1.
    truth, logits = [[0], [1]], [[30], [60]]
    found = CAT.evaluate(classifier(logits), samples(truth), verbose=0)
    assert found.result["mean_ap_area"] == 1


def test_an_image_where_nothing_counts_is_no_worst_one():
    truth = [[-1], [1]]
    found = CAT.evaluate(classifier([[5], [5]]), samples(truth), verbose=0)
    assert [each["file_name"] for each in found.worst] == ["1.jpg"]


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="logits are not finite for 0.jpg, 1.jpg"):
        measure(np.full((3, 3), np.nan))
    with pytest.raises(ValueError, match=r"\(None, 2\), expected a logit for each .* 3 classes"):
        measure(np.zeros((3, 2)))
    maps = types.SimpleNamespace(output=keras.KerasTensor((None, None, None, 3)))
    with pytest.raises(ValueError, match="Evaluate a classifier"):
        TASK.evaluate(maps, samples(), verbose=0)
    with pytest.raises(ValueError, match="holds no images"):
        TASK.evaluate(classifier(np.zeros((3, 3))), samples().take(0), verbose=0)
    with pytest.raises(ValueError, match="None of the 3 images shows any class"):
        TASK.evaluate(classifier(np.zeros((3, 3))), samples(np.zeros((3, 3))), verbose=0)


# --- measured by the answers of an export --------------------------------------------------------


def answering(probabilities):
    """A stand-in for an export that answers image n with `probabilities[n]`."""
    probabilities = np.array(probabilities, np.float32)
    return lambda images: {"probabilities": probabilities[images[:, 0, 0, 0]]}


def test_answers_are_counted_as_a_model_s_are():
    # As of "one that errs": cat 1/2, dog 2/3.
    logits = np.array([[-1, 9, -2], [0, 8, -2], [9, -7, 3]], np.float32)
    found = TASK.measure(answering(1 / (1 + np.exp(-logits))), samples(), worst=2, verbose=0)
    assert found.result["ap_area"] == {"cat": 1 / 2, "dog": pytest.approx(2 / 3), "owl": None}
    result, curves, worst = measure(logits, worst=2)
    assert found.result == result  # with the cat of probability 0.5
    np.testing.assert_array_equal(found.curves["dog"], curves["dog"])
    for ours, theirs in zip(found.worst, worst, strict=True):
        assert ours["file_name"] == theirs["file_name"]
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
        np.testing.assert_allclose(ours["probabilities"], theirs["probabilities"], rtol=1e-5)


def test_small_probabilities_rank_but_those_of_one_tie():
    # The smallest numbers of float32 still tell which is more; above 1 - 2^-24 there is 1 alone.
    truth = [[0], [1]]
    least = np.nextafter(np.float32(0), np.float32(1))
    for given, expected in ((([[0]], [[least]]), 1), (([[1]], [[1]]), 1 / 2)):
        found = CAT.measure(answering(np.concatenate(given)), samples(truth), verbose=0)
        assert found.result["mean_ap_area"] == expected
        assert all(np.isfinite(each["loss"]) for each in found.worst)


@pytest.mark.parametrize(
    "answer, words",
    [
        (np.full((3, 3), np.nan), "probabilities are not finite for 0.jpg, 1.jpg"),
        (np.full((3, 3), 1.5), "0.jpg, 1.jpg: expected probabilities from 0 to 1, received 1.5"),
        (np.zeros((3, 2)), "probabilities of both models must have one shape"),
    ],
)
def test_answers_that_cannot_be(answer, words):
    with pytest.raises(ValueError, match=words):
        TASK.measure(answering(answer), samples(), verbose=0)
    with pytest.raises(ValueError, match="holds no images"):
        TASK.measure(answering(answer), samples().take(0), verbose=0)


# --- labels of a picture -------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(5))
def test_labels_of_a_picture_by_the_rule_of_voc(number):
    # Objects of the classes 0 ... number - 1, of which class 1 is difficult.
    expected = {
        0: [0, 0, 0, 0], 1: [1, 0, 0, 0], 2: [1, -1, 0, 0], 3: [1, -1, 1, 0], 4: [1, -1, 1, 1],
    }[number]  # fmt: skip
    labels = np.arange(number)
    targets = image_labels(4)({"labels": labels, "difficult": labels == 1})
    np.testing.assert_array_equal(targets, expected)


def test_one_easy_object_makes_a_class_present():
    labels, difficult = np.array([2, 0, 2, 1, 1]), np.array([True, False, False, True, True])
    targets = image_labels(4)({"labels": labels, "difficult": difficult})
    assert targets.dtype == tf.float32
    np.testing.assert_array_equal(targets, [1, -1, 1, 0])


# --- pictures ------------------------------------------------------------------------------------

LINE = 26  # pixels of a line of text with its margin, as of the heading


def drawn(shape, labels, probabilities, size=None):
    """The picture of an evaluation without its heading, from one of zeros."""
    found = {
        "file_name": "a.jpg",
        "loss": 1.0,
        "image": np.zeros(shape, np.uint8),
        "size": size or shape[:2],
        "labels": np.array(labels),
        "probabilities": np.array(probabilities),
    }
    margin = pictures.MARGIN
    picture = TASK.worst_picture(found)
    assert picture.dtype == np.uint8
    return picture[LINE:-margin, margin:-margin]


def test_pictures_have_their_labels_above_them():
    probabilities = [0.9, 0.6, 0.2]
    # What is shown, then what is wrong, then what is ignored.
    for labels, lines in (([1, 1, 0], 1), ([1, 0, 0], 2), ([-1, 0, 1], 3), ([0, 1, 0], 2)):
        picture = drawn((100, 500, 3), labels, probabilities)
        assert picture.shape == (100 + LINE * lines, 500, 3)
        assert picture[: LINE * lines].any() and not picture[LINE * lines :].any()
    # Small ones grow to 400 pixels of width, in their own shape.
    assert drawn((100, 200, 3), [1, 1, 1], probabilities).shape == (200 + LINE, 400, 3)
    assert drawn((64, 64, 3), [1, 1, 1], probabilities, (100, 200)).shape == (200 + LINE, 400, 3)
    # Ever so narrow, they get paper beside them instead; the text of large ones grows.
    assert drawn((3000, 1, 3), [1, 1, 1], probabilities).shape == (3000 + LINE, 400, 3)
    assert drawn((40, 1, 3), [1, 1, 1], probabilities).shape == (1600 + LINE, 400, 3)
    large = drawn((1500, 1500, 3), [1, 1, 1], probabilities)
    assert large.shape == (1500 + 2 * LINE, 1500, 3)  # 1500 / 50 pixels, instead of 15


def test_pictures_of_training():
    (batch,) = samples(batch_size=3).as_numpy_iterator()
    two = [{key: value[i] for key, value in batch.items()} for i in range(2)]
    picture = TASK.validation_picture(classifier(np.zeros((3, 3))), two)
    assert picture.dtype == np.uint8 and picture.shape[1] == 2 * 400 + 3 * 8


def test_evidence_stands_beside_the_picture():
    image, heat = np.zeros((30, 500, 3), np.uint8), np.zeros((30, 500), np.float32)
    picture = TASK.evidence_picture("a.jpg", image, np.array([-800.0, 0, 800]), heat, 0)
    assert picture.dtype == np.uint8 and picture.shape[1] == 2 * 500 + 3 * pictures.MARGIN


def test_charts_and_validation():
    found = TASK.evaluate(classifier(np.array(TRUTH)), samples(), verbose=0)
    assert list(TASK.charts(found)) == ["precision_recall"]
    logs = TASK.validate(classifier(np.array(TRUTH)), samples())
    by_class = logs.pop("val_per_class_ap")
    assert logs == {"val_mean_ap": 1, "val_mean_ap_11point": 1}
    assert list(by_class) == TASK.class_names and set(by_class.values()) <= {1, None}


# --- figures of an export beside its model -------------------------------------------------------


def test_the_largest_difference_of_a_probability_counts():
    ours = {"probabilities": np.float32([[0.5, 0.25, 1], [0, 0, 1]])}
    theirs = {"probabilities": np.float32([[0.5, 0.5, 1], [0, 0.125, 1]])}
    assert TASK.differences(ours, theirs) == {"probabilities": 0.25}
    assert TASK.differences(ours, ours) == {"probabilities": 0}
    assert not parity.exceeded(TASK, TASK.differences(ours, ours), "float32")
    for value in (np.nan, np.inf):
        broken = {"probabilities": np.float32([[0.5, value, 1], [0, 0, 1]])}
        assert parity.exceeded(TASK, TASK.differences(broken, theirs), "float16")
    with pytest.raises(ValueError, match=r"probabilities.*expected \[2, 3\], received \[1, 3\]"):
        TASK.differences({"probabilities": np.zeros((1, 3))}, theirs)


# --- results -------------------------------------------------------------------------------------


def test_labels_are_drawn_and_listed(tmp_path):
    picture = np.full((20, 400, 3), 128, np.uint8)
    written = TASK.writer(tmp_path, 0.5)
    outputs = {"probabilities": np.float32([0.5, 0.875, 0.25])}
    line = written.add(Found(tmp_path / "in" / "a.jpg", "a"), picture, outputs)
    assert line == "a_labels.jpg: dog 88 %, cat 50 %"
    nothing = {"probabilities": np.float32([0.125, 0, 0.25])}
    line = written.add(Found(tmp_path / "other" / "a.jpg", "a"), picture, nothing)
    assert line == "a_2_labels.jpg: nothing"
    below = Found(tmp_path / "in" / "sub" / "a.jpg", "sub/a")
    assert written.add(below, picture, nothing) == "sub/a_labels.jpg: nothing"
    assert (tmp_path / "sub" / "a_labels.jpg").exists()
    written.finish([])
    assert {path.name for path in tmp_path.iterdir()} == {
        "a_labels.jpg", "a_2_labels.jpg", "labels.json", "sub",
    }  # fmt: skip
    # All probabilities, also of the labels that are not drawn.
    assert json.loads((tmp_path / "labels.json").read_text()) == {
        str(tmp_path / "in" / "a.jpg"): {"cat": 0.5, "dog": 0.875, "owl": 0.25},
        str(tmp_path / "other" / "a.jpg"): {"cat": 0.125, "dog": 0, "owl": 0.25},
        str(tmp_path / "in" / "sub" / "a.jpg"): {"cat": 0.125, "dog": 0, "owl": 0.25},
    }
    with Image.open(tmp_path / "a_labels.jpg") as file:
        assert file.size == (400, 20 + LINE)


def test_the_score_from_which_labels_are_drawn(tmp_path):
    written = TASK.writer(tmp_path, 0.2)
    outputs = {"probabilities": np.float32([0.5, 0.1, 0.25])}
    image = Found(tmp_path / "a.jpg", "a")
    line = written.add(image, np.zeros((20, 400, 3), np.uint8), outputs)
    assert line == "a_labels.jpg: cat 50 %, owl 25 %"


def test_a_split_without_objects_is_refused_before_it_is_used():
    metadata = {
        "class_names": NAMES,
        "palette": TASK.palette,
        "objects": {"train": [1] * len(NAMES), "val": [0] * len(NAMES)},
        "difficult_objects": {"train": [0] * len(NAMES), "val": [0] * len(NAMES)},
    }
    builder = types.SimpleNamespace(name="mine", info=types.SimpleNamespace(metadata=metadata))
    TASK.check_data(builder, "train", is_training=True)
    with pytest.raises(ValueError, match="nothing to measure"):
        TASK.check_data(builder, "val")
    with pytest.raises(ValueError, match="nothing to learn"):
        TASK.check_data(builder, "val", is_training=True)
