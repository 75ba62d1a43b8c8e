"""From logits to average precision: a classifier that knows the truth, and one that errs."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasdense.tasks import evaluation

NAMES = ["cat", "dog", "owl"]
# Three images; the cat of the last is a difficult one.
TRUTH = [[1, 0, 0], [0, 1, 0], [-1, 1, 0]]


def samples(truth=TRUTH, batch_size=2):
    """Batches as `pipeline.detection_eval_batches` has them; an image tells its number."""
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
    return evaluation.evaluate_classification(
        classifier(logits), samples(), NAMES, verbose=0, **options
    )


def test_a_classifier_that_knows_the_truth():
    result, curves, _ = measure(4 * np.array(TRUTH) - 1)
    assert result["mean_ap_area"] == result["mean_ap_11point"] == 1
    assert result["ap_area"] == {"cat": 1, "dog": 1, "owl": None}
    assert result["images"] == 3 and result["absent_classes"] == 1
    assert result["ground_truth"] == result["true_positives"] == {"cat": 1, "dog": 2, "owl": 0}
    assert result["ignored"] == {"cat": 1, "dog": 0, "owl": 0}
    assert result["false_positives"] == {"cat": 0, "dog": 0, "owl": 0}
    np.testing.assert_array_equal(curves["dog"][0], [1 / 2, 1, 1])
    table = evaluation.classification_table(result)
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
    result, *_ = evaluation.evaluate_classification(
        classifier(logits), samples(truth), ["cat"], verbose=0
    )
    assert result["mean_ap_area"] == 1


def test_an_image_where_nothing_counts_is_no_worst_one():
    truth = [[-1], [1]]
    _, _, worst = evaluation.evaluate_classification(
        classifier([[5], [5]]), samples(truth), ["cat"], verbose=0
    )
    assert [found["file_name"] for found in worst] == ["1.jpg"]


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="logits are not finite for 0.jpg, 1.jpg"):
        measure(np.full((3, 3), np.nan))
    with pytest.raises(ValueError, match=r"\(None, 2\), expected a logit for each .* 3 classes"):
        measure(np.zeros((3, 2)))
    maps = types.SimpleNamespace(output=keras.KerasTensor((None, None, None, 3)))
    with pytest.raises(ValueError, match="Evaluate a classifier"):
        evaluation.evaluate_classification(maps, samples(), NAMES, verbose=0)
    with pytest.raises(ValueError, match="holds no images"):
        evaluation.evaluate_classification(
            classifier(np.zeros((3, 3))), samples().take(0), NAMES, verbose=0
        )
    with pytest.raises(ValueError, match="None of the 3 images shows any class"):
        evaluation.evaluate_classification(
            classifier(np.zeros((3, 3))), samples(np.zeros((3, 3))), NAMES, verbose=0
        )


def test_pictures_have_their_labels_above_them():
    image = np.zeros((100, 500, 3), np.uint8)
    probabilities = np.array([0.9, 0.6, 0.2])
    # Each line of text takes 26 pixels: what is shown, then what is wrong, then what is ignored.
    for labels, lines in (([1, 1, 0], 1), ([1, 0, 0], 2), ([-1, 0, 1], 3), ([0, 1, 0], 2)):
        picture = evaluation.labelled_picture(image, np.array(labels), probabilities, NAMES)
        assert picture.shape == (100 + 26 * lines, 500, 3) and picture.dtype == np.uint8
        np.testing.assert_array_equal(picture[26 * lines :], image)
    small = evaluation.labelled_picture(image[:, :200], np.array([1, 1, 1]), probabilities, NAMES)
    assert small.shape == (200 + 26, 400, 3)


def test_pictures_of_training():
    draw = evaluation.classification_pictures(samples(), NAMES, count=2)
    picture = draw(classifier(np.zeros((3, 3))))
    assert picture.dtype == np.uint8 and picture.shape[1] == 2 * 400 + 3 * 8
