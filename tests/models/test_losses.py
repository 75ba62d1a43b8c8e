"""SSD's loss on a handful of anchors, worked out by hand, and what must never break it; that of a
classifier on a handful of labels, and that of coarse logits on a handful of pixels.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasdense.models.losses import (
    LabelDistributionCrossentropy,
    MultiboxLoss,
    confidence_loss,
    label_distributions,
    localization_loss,
    multi_label_loss,
    positives,
)


def targets(classes, offsets=0.0):
    """[B, A, 5] from classes [B, A] and offsets that broadcast to [B, A, 4]."""
    classes = np.asarray(classes, "float32")
    offsets = np.broadcast_to(np.asarray(offsets, "float32"), (*classes.shape, 4))
    return np.concatenate([classes[..., None], offsets * (classes[..., None] > 0)], axis=-1)


def predictions(logits, offsets=0.0):
    """[B, A, C + 5] from logits [B, A, C + 1] and offsets that broadcast to [B, A, 4]."""
    logits = np.asarray(logits, "float32")
    offsets = np.broadcast_to(np.asarray(offsets, "float32"), (*logits.shape[:-1], 4))
    return np.concatenate([logits, offsets], axis=-1)


def background_logits(probabilities):
    """Logits (background, object) whose softmax has these probabilities of an object."""
    probabilities = np.asarray(probabilities)
    return np.stack([np.zeros_like(probabilities), np.log(probabilities / (1 - probabilities))], -1)


def batch(seed=0, images=3, anchors=50, classes=4, share=0.1):
    rng = np.random.default_rng(seed)
    labels = rng.integers(1, classes + 1, (images, anchors)) * (
        rng.random((images, anchors)) < share
    )
    y_true = targets(labels, rng.normal(0, 1, (images, anchors, 4)))
    return y_true, rng.normal(0, 2, (images, anchors, classes + 5)).astype("float32")


def test_loss_by_hand():
    # One image, six anchors, one class. Anchor 1 holds an object, predicted with probability 1/2;
    # the background anchors are called objects with these probabilities, so their cross-entropy
    # is -log of one less. Three negatives for the positive: those of 0.9, 0.8 and 0.6.
    y_true = targets([[0, 1, 0, 0, 0, 0]], [[[0, 0, 0, 0], [1, -1, 0, 2], *[[0] * 4] * 4]])
    y_pred = predictions(
        background_logits([[0.6, 0.5, 0.1, 0.9, 0.3, 0.8]]),
        [[[9, 9, 9, 9], [1.5, -1, 0.25, -1], *[[9] * 4] * 4]],
    )
    confidence = -np.log([0.5, 0.4, 0.1, 0.2]).sum()
    # Differences 0.5, 0, 0.25 and 3: half their squares below 1, else less one half.
    localization = 0.5 * 0.25 + 0 + 0.5 * 0.0625 + 2.5
    np.testing.assert_allclose(confidence_loss(y_true, y_pred), [confidence], rtol=1e-5)
    np.testing.assert_allclose(localization_loss(y_true, y_pred), [localization], rtol=1e-5)
    np.testing.assert_allclose(MultiboxLoss()(y_true, y_pred), confidence + localization, rtol=1e-5)
    np.testing.assert_array_equal(positives(y_true, y_pred), [1])


def test_negatives_are_mined_in_each_image_and_the_batch_divides():
    # The first image has two objects, so six negatives, all it has; the second has one, so three
    # of its seven; the third none, so none. Every cross-entropy is log 2.
    classes = [[1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0, 0], [0] * 8]
    y_true, y_pred = targets(classes), predictions(np.zeros((3, 8, 2)))
    matched = 3
    expected = (8 + 4 + 0) * np.log(2) / matched
    np.testing.assert_allclose(MultiboxLoss()(y_true, y_pred), expected, rtol=1e-6)
    # Of an image, its share times the number of images: their mean is the loss.
    shares = np.array([8, 4, 0]) * np.log(2) / matched * 3
    np.testing.assert_allclose(confidence_loss(y_true, y_pred), shares, rtol=1e-6)
    np.testing.assert_array_equal(positives(y_true, y_pred), [2, 1, 0])


@pytest.mark.parametrize("ratio, count", [(1, 2), (2, 4), (1.5, 3), (100, 18)])
def test_the_ratio_of_negatives(ratio, count):
    # 20 anchors, two objects: 2 ratio negatives, at most the 18 there are.
    y_true, y_pred = targets([[1, 1] + [0] * 18]), predictions(np.zeros((1, 20, 5)))
    expected = (2 + count) * np.log(5) / 2
    np.testing.assert_allclose(MultiboxLoss(ratio)(y_true, y_pred), expected, rtol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_ties_choose_the_first_negatives_and_exactly_so_many(jit_compile):
    y_true = targets([[0, 0, 1, 0, 0, 0, 0, 0]])
    y_pred = tf.constant(predictions(np.zeros((1, 8, 2))))

    @tf.function(jit_compile=jit_compile)
    def gradient(y_pred):
        with tf.GradientTape() as tape:
            tape.watch(y_pred)
            loss = MultiboxLoss()(y_true, y_pred)
        return tape.gradient(loss, y_pred)

    moved = np.any(gradient(y_pred)[0].numpy() != 0, axis=-1)
    np.testing.assert_array_equal(np.flatnonzero(moved), [0, 1, 2, 3])


@pytest.mark.parametrize("seed", range(3))
def test_the_loss_is_the_sum_over_chosen_anchors(seed):
    """Against the definition, written out with a sort of each image's negatives."""
    y_true, y_pred = batch(seed)
    logits = y_pred[..., :-4].astype("float64")
    logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    total, matched = 0.0, 0
    for image in range(len(y_true)):
        labels = y_true[image, :, 0].astype(int)
        losses = -logits[image, np.arange(len(labels)), labels]
        count = np.sum(labels > 0)
        negatives = np.sort(losses[labels == 0])[::-1][: 3 * count]
        difference = np.abs(y_true[image, :, 1:] - y_pred[image, :, -4:])[labels > 0]
        smooth = np.where(difference < 1, difference**2 / 2, difference - 0.5)
        total += losses[labels > 0].sum() + negatives.sum() + smooth.sum()
        matched += count
    np.testing.assert_allclose(MultiboxLoss()(y_true, y_pred), total / matched, rtol=1e-5)


def test_the_loss_is_the_sum_of_its_parts():
    y_true, y_pred = batch()
    parts = confidence_loss(y_true, y_pred) + localization_loss(y_true, y_pred)
    np.testing.assert_allclose(MultiboxLoss()(y_true, y_pred), np.mean(parts), rtol=1e-6)


def test_only_chosen_anchors_have_a_gradient():
    y_true, y_pred = batch()
    y_pred = tf.constant(y_pred)
    with tf.GradientTape() as tape:
        tape.watch(y_pred)
        loss = MultiboxLoss()(y_true, y_pred)
    gradient = tape.gradient(loss, y_pred).numpy()
    positive = y_true[..., 0] > 0
    np.testing.assert_array_equal(np.any(gradient[..., -4:] != 0, axis=-1), positive)
    moved = np.any(gradient[..., :-4] != 0, axis=-1)
    assert np.all(moved[positive])
    counts = positive.sum(axis=1)
    np.testing.assert_array_equal((moved & ~positive).sum(axis=1), 3 * counts)
    cross_entropy = -np.asarray(tf.nn.log_softmax(y_pred[..., :-4]))[..., 0]  # of background
    for image in range(len(y_true)):
        negative = ~positive[image]
        least_chosen = cross_entropy[image][moved[image] & negative].min()
        assert least_chosen >= cross_entropy[image][~moved[image] & negative].max()


@pytest.mark.parametrize("jit_compile", [False, True])
def test_no_objects_at_all(jit_compile):
    y_true, y_pred = targets(np.zeros((2, 10))), tf.constant(batch(images=2, anchors=10)[1])

    @tf.function(jit_compile=jit_compile)
    def step(y_pred):
        with tf.GradientTape() as tape:
            tape.watch(y_pred)
            loss = MultiboxLoss()(y_true, y_pred)
        return loss, tape.gradient(loss, y_pred)

    loss, gradient = step(y_pred)
    assert loss == 0 and np.all(gradient.numpy() == 0)


def test_nothing_but_objects():
    y_true = targets(np.ones((2, 5)))
    loss = MultiboxLoss()(y_true, predictions(np.zeros((2, 5, 3))))
    np.testing.assert_allclose(loss, np.log(3), rtol=1e-6)


def test_large_logits_stay_finite():
    y_true = targets([[1, 0, 0]])
    loss = MultiboxLoss()(y_true, predictions([[[1e4, -1e4], [-1e4, 1e4], [0, 0]]]))
    # 20,000 for the object, 20,000 and log 2 for the negatives
    np.testing.assert_allclose(loss, 40000 + np.log(2), rtol=1e-6)


def test_a_loss_that_is_not_a_number_is_not_hidden():
    y_true, y_pred = batch()
    y_pred[0] = np.nan
    assert np.isnan(MultiboxLoss()(y_true, y_pred))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_predictions_are_summed_in_float32(dtype):
    # 4 x 8732 anchors of log 21 add up to 106,000: float16 ends at 65,504.
    y_true, y_pred = targets(np.ones((4, 8732))), tf.zeros((4, 8732, 25), dtype)
    for function in (MultiboxLoss(), confidence_loss):
        loss = function(y_true, y_pred)
        assert loss.dtype == tf.float32
        np.testing.assert_allclose(loss, np.full(loss.shape, np.log(21)), rtol=1e-4)


def test_loss_and_metrics_survive_a_file(tmp_path):
    inputs = keras.Input((6, 7))
    model = keras.Model(inputs, keras.layers.Dense(7)(inputs))
    metrics = [confidence_loss, localization_loss, positives]
    model.compile("sgd", MultiboxLoss(negatives_per_positive=2), metrics=metrics)
    y_true, y_pred = batch(images=3, anchors=6, classes=2, share=0.3)
    before = model.evaluate(y_pred, y_true, batch_size=3, return_dict=True, verbose=0)
    assert set(before) == {"loss", "confidence_loss", "localization_loss", "positives"}
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    after = loaded.evaluate(y_pred, y_true, batch_size=3, return_dict=True, verbose=0)
    assert after == before
    assert loaded.loss.negatives_per_positive == 2
    assert before["positives"] == np.sum(y_true[..., 0] > 0) / 3


def test_the_logged_parts_add_up_to_the_logged_loss():
    inputs = keras.Input((50, 9))
    model = keras.Model(inputs, keras.layers.Identity()(inputs))
    model.compile("sgd", MultiboxLoss(), metrics=[confidence_loss, localization_loss])
    y_true, y_pred = batch(images=7)
    logs = model.evaluate(y_pred, y_true, batch_size=3, return_dict=True, verbose=0)  # 3, 3, 1
    np.testing.assert_allclose(
        logs["loss"], logs["confidence_loss"] + logs["localization_loss"], rtol=1e-5
    )


@pytest.mark.parametrize("ratio", [0, -1])
def test_bad_ratio(ratio):
    with pytest.raises(ValueError, match="negatives_per_positive: expected a number above 0"):
        MultiboxLoss(negatives_per_positive=ratio)


# --- labels of images ----------------------------------------------------------------------------


def logits_of(probabilities):
    probabilities = np.asarray(probabilities)
    return np.log(probabilities / (1 - probabilities)).astype("float32")


# Two images, three classes; of six labels four count. Their cross-entropy is -log of the
# probability of what is true: 0.5, 0.9 and, of the second image, 0.25, 0.8.
LABELS = np.float32([[1, 0, -1], [-1, 1, 0]])
LOGITS = logits_of([[0.5, 0.1, 0.3], [0.6, 0.25, 0.2]])


def test_the_loss_of_labels_is_the_mean_over_those_that_count():
    expected = -np.log([0.5, 0.9, 0.25, 0.8]).mean()
    np.testing.assert_allclose(np.mean(multi_label_loss(LABELS, LOGITS)), expected, rtol=1e-5)
    # In one image three labels count, in the other one: all four weigh the same.
    labels = np.float32([[1, 0, 0], [-1, -1, 0]])
    expected = -np.log([0.5, 0.9, 0.7, 0.8]).mean()
    np.testing.assert_allclose(np.mean(multi_label_loss(labels, LOGITS)), expected, rtol=1e-5)


def test_labels_that_do_not_count_change_nothing():
    changed = np.where(LABELS < 0, 80.0, LOGITS).astype("float32")
    np.testing.assert_array_equal(
        multi_label_loss(LABELS, changed), multi_label_loss(LABELS, LOGITS)
    )
    logits = tf.constant(LOGITS)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = tf.reduce_mean(multi_label_loss(LABELS, logits))
    # The derivative of the cross-entropy is probability minus truth.
    expected = np.array([[0.5 - 1, 0.1, 0], [0, 0.25 - 1, 0.2]]) / 4
    np.testing.assert_allclose(tape.gradient(loss, logits), expected, rtol=1e-4)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_no_label_counts_at_all(jit_compile):
    function = tf.function(multi_label_loss, jit_compile=jit_compile)
    np.testing.assert_array_equal(function(-np.ones((2, 3), "float32"), LOGITS), [0, 0])


def test_large_logits_of_labels_stay_finite():
    labels, logits = np.float32([[1, 0]]), np.float32([[-200, 200]])
    np.testing.assert_allclose(multi_label_loss(labels, logits), [200])
    np.testing.assert_allclose(multi_label_loss(labels, -logits), [0])
    assert np.isnan(multi_label_loss(labels, np.float32([[np.nan, 0]]))).all()


def test_a_single_class_is_no_special_case():
    labels, logits = np.float32([[1], [0], [-1]]), logits_of([[0.5], [0.1], [0.7]])
    model = keras.Sequential([keras.Input((1,)), keras.layers.Activation("linear")])
    model.compile(loss=multi_label_loss)
    expected = -np.log([0.5, 0.9]).mean()
    np.testing.assert_allclose(model.evaluate(logits, labels, verbose=0), expected, rtol=1e-5)


# Cells of 2 x 2 pixels: all of one class; two classes; half ignored; a quarter ignored.
MASK = np.array([[[1, 1, 0, 2], [1, 1, 0, 0], [255, 0, 2, 255], [255, 0, 0, 1]]], "uint8")
SHARES = [[[0, 1, 0], [3 / 4, 0, 1 / 4]], [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]]]


def distribution_loss(masks, logits):
    return float(LabelDistributionCrossentropy()(masks, np.asarray(logits, "float32")))


def test_shares_of_labels_in_boxes_by_hand():
    shares, counted = label_distributions(MASK.astype("int32"), (2, 2), 3)
    np.testing.assert_allclose(shares, [SHARES], rtol=1e-6)
    np.testing.assert_array_equal(counted, [[[True, True], [False, True]]])


def test_pixels_belong_to_the_cell_of_their_center():
    # Of seven pixels to two cells the fourth's center, 3.5, is on the border: to the latter.
    row = np.array([[[0, 0, 0, 1, 1, 1, 1]]], "int32")
    shares, _ = label_distributions(row, (1, 2), 2)
    np.testing.assert_array_equal(shares, [[[[1, 0], [0, 1]]]])
    # To three cells, of 7/3 pixels: centers 0.5, 1.5 | 2.5, 3.5, 4.5 | 5.5, 6.5.
    shares, _ = label_distributions(np.array([[[0, 1, 0, 1, 1, 0, 0]]], "int32"), (1, 3), 2)
    np.testing.assert_allclose(shares[0, 0], [[1 / 2, 1 / 2], [1 / 3, 2 / 3], [1, 0]], rtol=1e-6)


def test_loss_of_coarse_logits_by_hand():
    probabilities = np.full((1, 2, 2, 3), [0.2, 0.5, 0.3])
    # Cells: -log 0.5; 3/4 of 0.2 and 1/4 of 0.3; not counted; a third of each.
    cells = [
        -np.log(0.5),
        -0.75 * np.log(0.2) - 0.25 * np.log(0.3),
        -(np.log(0.2) + np.log(0.5) + np.log(0.3)) / 3,
    ]
    assert distribution_loss(MASK, np.log(probabilities)) == pytest.approx(np.mean(cells))
    # Two images of which one counts three cells, the other one: all four weigh the same.
    other = np.full_like(MASK, 255)
    other[0, :2, :2] = 2
    both = np.concatenate([MASK, other])
    expected = np.mean([*cells, -np.log(0.3)])
    logits = np.log(np.concatenate([probabilities] * 2))
    assert distribution_loss(both, logits) == pytest.approx(expected)


def test_at_full_resolution_it_is_the_usual_cross_entropy():
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 5, (2, 7, 9)).astype("uint8")
    masks[:, :2] = 255
    logits = rng.normal(size=(2, 7, 9, 5)).astype("float32")
    usual = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    assert distribution_loss(masks, logits) == pytest.approx(float(usual(masks, logits)), rel=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("size", [(2, 2), (1, 1), (1, 3), (3, 5)])
def test_gradients_of_coarse_logits_are_probability_minus_share(size, jit_compile):
    rng = np.random.default_rng(0)
    masks = rng.choice(np.array([0, 1, 2, 255], "uint8"), (2, 11, 13), p=[0.3, 0.2, 0.1, 0.4])
    logits = tf.constant(rng.normal(size=(2, *size, 3)), tf.float16)
    loss = LabelDistributionCrossentropy()

    @tf.function(jit_compile=jit_compile)
    def gradient(masks, logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(masks, logits)
        return tape.gradient(value, logits)

    # By a loop over the cells.
    expected = np.zeros(logits.shape)
    for index in np.ndindex(2, *size):
        image, i, j = index
        box = masks[image][np.ix_(cell_of(11, size[0]) == i, cell_of(13, size[1]) == j)]
        if (box == 255).mean() < 0.5:
            shares = np.bincount(box[box < 3], minlength=3) / (box < 3).sum()
            expected[index] = np.asarray(tf.nn.softmax(logits[index])) - shares
    expected /= (expected != 0).any(axis=-1).sum()
    np.testing.assert_allclose(gradient(masks, logits), expected, atol=2e-3)  # float16


def cell_of(pixels, cells):
    return np.floor((np.arange(pixels) + 0.5) / (pixels / cells)).astype(int)


def test_sizes_that_are_known_when_it_runs():
    loss = LabelDistributionCrossentropy()
    signature = [tf.TensorSpec([None] * 3, tf.uint8), tf.TensorSpec([None, None, None, 3])]
    program = tf.function(loss, input_signature=signature)
    rng = np.random.default_rng(0)
    for masks, cells in (((1, 4, 4), (2, 2)), ((2, 97, 131), (1, 2))):
        masks = rng.integers(0, 3, masks).astype("uint8")
        logits = rng.normal(size=(len(masks), *cells, 3)).astype("float32")
        np.testing.assert_allclose(program(masks, logits), loss(masks, logits), rtol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_no_cell_counts_at_all(jit_compile):
    loss = LabelDistributionCrossentropy()

    @tf.function(jit_compile=jit_compile)
    def both(masks, logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(masks, logits)
        return value, tape.gradient(value, logits)

    masks = np.full((2, 4, 4), 255, "uint8")
    masks[1, :, ::2] = 1  # exactly half of each cell
    value, gradient = both(masks, tf.fill((2, 2, 2, 3), 30.0))
    assert value == 0 and not np.any(gradient)


def test_labels_that_are_no_class_are_not_swallowed():
    masks = MASK.copy()
    masks[0, 0, 0] = 3
    assert np.isnan(distribution_loss(masks, np.zeros((1, 2, 2, 3))))


def test_the_loss_of_coarse_logits_survives_its_configuration():
    loss = LabelDistributionCrossentropy(ignore=7)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(copy) is LabelDistributionCrossentropy and copy.get_config() == loss.get_config()
    masks = np.where(MASK == 255, 7, MASK)
    logits = np.random.default_rng(0).normal(size=(1, 2, 2, 3)).astype("float32")
    assert float(copy(masks, logits)) == pytest.approx(distribution_loss(MASK, logits))
