"""Numbers of reports and curves, derived by hand on models that are linear in the colors."""

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasdense.attacks import judge, methods, report
from kerasdense.metrics.labels import IGNORE
from kerasdense.models.layers import AnchorPredictions
from kerasdense.attacks.judge import Example, Goal, Judge, Tally, View

NAMES = ["red", "green", "blue"]
PALETTE = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
ANY = Goal()
SCALE = 64  # gray levels for one unit of a logit


def color_model(auxiliary=False):
    """Predicts the strongest color: the logits are the pixels over SCALE.

    The steepest way against a color is one gray level less of it and one more of the others: so a
    color that leads by m falls under the maximum norm as soon as 2 epsilon > m, and not before.
    """
    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    x = keras.layers.Rescaling(1 / SCALE)(images)
    layer = keras.layers.Conv2D(3, 1, use_bias=False, name="logits")
    logits = layer(x)
    model = keras.Model(
        images, {"logits": logits, "auxiliary_logits": -logits} if auxiliary else logits
    )
    layer.set_weights([np.eye(3, dtype=np.float32)[None, None]])
    return model


def label_model():
    """Two labels, whose logits are how much red, and green, the picture has above 100."""
    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 4, -25)(images))
    layer = keras.layers.Dense(2, use_bias=False, name="logits")
    model = keras.Model(images, layer(x))
    layer.set_weights([np.eye(3, 2, dtype=np.float32)])
    return model


def block_detector():
    """An SSD300 that finds red (class 0) and green (1) blocks of 100x100 pixels, nine in a picture.

    The logits of a block's square anchor are 0 for the background and (level - 100) / 2 of red and
    of green. Its other anchors, and those of all other maps, are background for sure.
    """
    images = keras.Input((300, 300, 3), dtype="uint8", name="images")
    pixels = keras.layers.Rescaling(1.0)(images)
    maps, heads = ([], []), []
    for step, anchors in zip((8, 16, 32, 64, 100, 300), (4, 6, 6, 6, 4, 4)):
        x = keras.layers.AveragePooling2D(step, padding="same")(pixels)
        heads.append([keras.layers.Conv2D(anchors * width, 1) for width in (3, 4)])
        for of_kind, head in zip(maps, heads[-1]):
            of_kind.append(head(x))
    model = keras.Model(images, AnchorPredictions(2, "ssd300", "voc")(list(maps)))
    for level, (classes, boxes) in enumerate(heads):
        kernel, bias = (np.zeros(weights.shape, np.float32) for weights in classes.weights)
        bias[::3] = 20  # the background of each anchor
        if level == 4:
            kernel[0, 0, :2, 1:3] = np.eye(2) / 2
            bias[:3] = 0, -50, -50
        classes.set_weights([kernel, bias])
        boxes.set_weights([np.zeros(weights.shape, np.float32) for weights in boxes.weights])
    return model


def blocks(colors):
    """A picture of nine blocks, row by row; `colors`: {number of the block: (r, g, b)}."""
    grid = np.zeros((9, 3), np.uint8)
    for number, color in colors.items():
        grid[number] = color
    return grid.reshape(3, 3, 3).repeat(100, axis=0).repeat(100, axis=1)


def leads(*leads_of_red):
    """A row of pixels in which red leads by so many gray levels; negative: green does."""
    return np.array([[[100 + lead, 100, 0] for lead in leads_of_red]], np.uint8)


def sample(image, name="a.png", **truth):
    return {"image": image, "file_name": name, **truth}


def fgsm(model, goal=ANY, norm="linf"):
    attack = methods.METHODS["fgsm"](norm=norm)
    return methods.attacker(model, attack, goal.targeted, goal.confidence)


def attacked(model, samples, epsilon, goal=ANY, folder=None, names=NAMES):
    """Rows and result of an FGSM attack on samples of one size, and the examples."""
    judge = Judge(model, goal, folder)
    examples = judge.attack(judge.look(samples), fgsm(model, goal), epsilon=epsilon)
    tally = Tally(judge.task, names)
    rows = [tally.add(example) for example in examples]
    return rows, tally.result(), examples


# ---- distances


def test_distances_by_hand():
    images = np.full((2, 1, 2, 3), 7, np.uint8)
    changed = images.copy()
    changed[0, 0, 0] = 10, 3, 7  # +3, -4, 0
    found = judge.distances(images, changed)
    np.testing.assert_allclose(found["l2"], [5, 0])
    np.testing.assert_allclose(found["linf"], [4, 0])
    np.testing.assert_allclose(found["mean"], [7 / 6, 0])
    # Mean square error 25 / 6.
    np.testing.assert_allclose(
        found["psnr"], [20 * math.log10(255) - 10 * math.log10(25 / 6), np.inf]
    )


def test_psnr_of_a_change_by_one_level_everywhere():
    images = np.full((1, 5, 4, 3), 100, np.uint8)
    found = judge.distances(images, images - 1)
    assert found["psnr"][0] == pytest.approx(48.1308, abs=1e-4)  # 20 log10 255
    assert found["l2"][0] == pytest.approx(math.sqrt(60)) and found["linf"][0] == 1


def test_distances_of_bytes_do_not_wrap_around():
    found = judge.distances(
        np.zeros((1, 1, 1, 3), np.uint8), np.full((1, 1, 1, 3), 200, np.uint8)
    )
    assert found["linf"][0] == 200 == found["mean"][0]


def test_distances_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"received \[1, 2, 2, 3\] and \[1, 2, 3, 3\]"):
        judge.distances(np.zeros((1, 2, 2, 3)), np.zeros((1, 2, 3, 3)))


# ---- what survives as a file


def test_a_file_gives_back_what_was_written(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    loaded = judge.saved_and_loaded(picture, tmp_path / "a.png")
    np.testing.assert_array_equal(loaded, picture)
    floats = np.array([[[-3.0, 0.49, 0.51], [254.6, 255.4, 300]]])
    loaded = judge.saved_and_loaded(floats, tmp_path / "b.png")
    assert loaded.tolist() == [[[0, 0, 1], [255, 255, 255]]] and loaded.dtype == np.uint8


@pytest.mark.parametrize("change, success", [(0.4, 0), (0.6, 1)])
def test_success_is_what_survives_as_a_file(change, success):
    """Green is behind by nothing: any increase would do, were it still there in the file."""
    model = color_model()
    judge = Judge(model)
    batch = judge.look([sample(leads(0))])
    changed = batch.images + np.array([0, change, 0])
    logits = methods.unit_logits(model)(changed.astype(np.float32))
    assert int(np.argmax(logits)) == 1  # as floats, both are adversarial
    (example,) = judge.judge(batch, changed)
    row = Tally("segmentation", NAMES).add(example)
    assert row["reached"] == success and row["linf"] == round(change)


def test_the_judged_files_stay_where_they_are_wanted(tmp_path):
    model = color_model()
    samples = [sample(leads(9), "x/a b.jpg"), sample(leads(5), "y/a b.jpg")]
    rows, _, examples = attacked(model, samples, 2, folder=tmp_path)
    assert [row["adversarial"] for row in rows] == ["a_b.png", "a_b_2.png"]
    for example, row in zip(examples, rows):
        stored = judge.drawing.load_picture(tmp_path / row["adversarial"])
        np.testing.assert_array_equal(stored, example.adversarial)
    _, _, (example,) = attacked(model, samples[:1], 2)
    assert example.path is None


# ---- reports on label maps


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
    assert "of the wanted changes 0.00 50.00" in " ".join(report.table(result).split())


def test_confidence_counts_only_sure_pixels():
    # On the way to green, red and blue lose 3 levels; blue has none.
    z = np.exp(np.array([101, 103, 0]) / SCALE)
    probability = z[1] / z.sum()
    for confidence, reached in ((probability - 0.01, 1), (probability + 0.01, 0)):
        goal = Goal(moves={0: 1}, confidence=confidence)
        (row,), *_ = attacked(color_model(), [sample(leads(4))], 3, goal)
        assert row["reached"] == reached


def test_a_target_map_and_its_size():
    target = np.array([[1, IGNORE, 0]])
    goal = Goal(target_map=target)
    (row,), result, example = attacked(color_model(), [sample(leads(4, 4, 4))], 3, goal)
    assert (row["counted"], row["reached_before"], row["reached"]) == (2, 1, 2)
    with pytest.raises(
        ValueError, match=r"target map must have the size of the image a.png.*\(1, 2"
    ):
        attacked(color_model(), [sample(leads(4, 4))], 3, goal)


def test_images_without_anything_to_reach_are_left_as_they_are():
    goal = Goal(moves={0: 1})
    samples = [sample(leads(-9, -9), "a.png"), sample(leads(4, -9), "b.png")]
    rows, result, _ = attacked(color_model(), samples, 3, goal)
    assert rows[0]["linf"] == 0 and rows[0]["psnr"] is None and rows[0]["image_reached"] is None
    assert rows[1]["image_reached"] is True
    assert result["success"]["by_image"] == 1 and result["unchanged_images"] == 1
    assert result["success"]["images_with_something_to_reach"] == 1
    _, result, _ = attacked(color_model(), samples[:1], 3, goal)
    assert "nothing was to be reached" in report.table(result)
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
        result
    )


@pytest.mark.parametrize("kind", ["mask", "region"])
def test_maps_of_another_size_are_refused(kind):
    with pytest.raises(ValueError, match=f"The {kind} must have the size of the image a.png"):
        Judge(color_model()).look([sample(leads(1, 2), **{kind: np.zeros((1, 3), int)})])


def test_goals_exclude_each_other():
    with pytest.raises(ValueError, match="one goal"):
        Goal(moves={0: 1}, suppress=True)
    with pytest.raises(ValueError, match="Only a detector"):
        Judge(color_model(), Goal(suppress=True))
    with pytest.raises(ValueError, match="needs a goal"):
        Judge(block_detector())
    with pytest.raises(ValueError, match="for segmentation"):
        Judge(label_model(), Goal(target_map=np.zeros((2, 2), int)))


def test_a_model_with_broken_weights_is_told():
    model = color_model()
    model.get_layer("logits").set_weights([np.full((1, 1, 3, 3), np.nan, np.float32)])
    with pytest.raises(ValueError, match="not finite"):
        Judge(model).look([sample(leads(1))])


def test_too_little_memory_is_told_with_the_name_of_the_image():
    judge = Judge(color_model())

    def attack_batch(images, labels):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating\nand so on")

    with pytest.raises(ValueError, match="cannot process a.png, 2x1 pixels: OOM when allocating$"):
        judge.attack(judge.look([sample(leads(1, 2))]), attack_batch)


def test_the_share_that_makes_an_image_reached_can_be_another():
    _, _, examples = attacked(color_model(), [sample(leads(4, 90))], 3)
    tally = Tally("segmentation", NAMES, image_share=0.5)
    assert tally.add(examples[0])["image_reached"] is True
    assert tally.result()["success"]["image_share"] == 0.5


def test_a_report_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no image was attacked"):
        Tally("segmentation", NAMES).result()


# ---- reports on labels


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


# ---- reports on boxes


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
        assert judge.objects_reached(example).tolist() == [expected]


def test_objects_that_are_unsure_or_not_to_be_moved_are_left_out():
    clean = view([BOX, FAR, FAR], [0, 2, 0], [0.9, 0.9, 0.3])
    example = Example({}, None, None, Goal(moves={0: 1}), None, None, clean, view([], []))
    assert judge.objects_reached(example).tolist() == [False]
    example = Example({}, None, None, Goal(suppress=True), None, None, clean, view([], []))
    assert judge.objects_reached(example).tolist() == [True, True]


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


# ---- curves


def curve(samples, epsilons, goal=ANY, model=None, names=NAMES, **options):
    return judge.robustness_curve(
        model or color_model(), samples, names, methods.METHODS["fgsm"](),
        epsilons, goal, verbose=0, **options,
    )  # fmt: skip


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


def test_each_image_keeps_its_best_of_smaller_epsilons(monkeypatch):
    """An attack that overshoots: it works at epsilon 2, and brings red back at 4."""

    def attacker(model, attack, *others):
        def attack_batch(images, labels, epsilon, start=None, **options):
            starts.append(start)
            change = {2.0: [-2, 2, 0], 4.0: [4, -4, 0]}[epsilon]
            return methods.apply(images, np.array(change)[None, None])

        return attack_batch

    starts = []
    monkeypatch.setattr(adversarial, "attacker", attacker)
    found = curve([sample(leads(3, 9))], [2, 4])
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
    found = judge.robustness_curve(
        color_model(), samples, NAMES, methods.METHODS["segpgd"](steps=3), [1, 2, 3, 5, 9],
        batch_size=2, verbose=0,
    )  # fmt: skip
    accuracies = [point["pixel_accuracy"]["after"] for point in found["points"]]
    judge, tally = Judge(color_model()), Tally("segmentation", NAMES)
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
    picture = report.curve_picture(found, "test")
    assert picture.dtype == np.uint8 and picture.ndim == 3
    assert "mean AP" in report.curve_table(found)


@pytest.mark.parametrize("epsilons", [[], [0.5, 2], [2, 2], [4, 2], [0, 1], [1, np.inf], [np.nan]])
def test_epsilons_that_make_no_curve(epsilons):
    with pytest.raises(ValueError, match="rising epsilons"):
        curve([sample(leads(3))], epsilons)


def test_l2_epsilons_may_be_small():
    attack = methods.METHODS["pgd"](norm="l2", steps=4)
    found = judge.robustness_curve(
        color_model(), [sample(leads(1))], NAMES, attack, [0.5, 8], verbose=0
    )
    # -1 and +1 turn a lead of 1: a length of 1.41, for which half a level is too short.
    assert [point["pixel_accuracy"]["after"] for point in found["points"]] == [1, 1, 0]


def test_a_curve_of_no_samples_is_refused():
    with pytest.raises(ValueError, match="no image was attacked"):
        curve([], [1])


def test_samples_of_one_size_share_batches():
    sizes = [2, 3, 2, 3, 3, 2]
    samples = [sample(np.zeros((1, size, 3), np.uint8), str(i)) for i, size in enumerate(sizes)]
    groups = [[each["file_name"] for each in group] for group in judge.by_size(samples, 2)]
    assert groups == [["0", "2"], ["1", "3"], ["4"], ["5"]]


# ---- text and pictures


def test_an_attack_is_described_in_words():
    described = judge.described(methods.METHODS["segpgd"](steps=3))
    assert described["steps"] == 3 and described["loss"] == "cross_entropy"
    assert described["weights"] == "segpgd_weights" and described["norm"] == "linf"
    json.dumps(described, allow_nan=False)


def test_progress_reaches_its_end_once(capsys):
    attack = methods.METHODS["pgd"](steps=4)
    progress = judge.Progress(3, attack)
    first = progress.of_batch(2)
    first(2)
    first()
    first(4)
    last = progress.of_batch(1)
    last(4)
    last()
    out = capsys.readouterr().out
    assert out.count("12/12") == 1 == out.count("\n")  # at its end it is drawn on every update
