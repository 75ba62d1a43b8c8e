"""Models that go on from others: what is taken, matched by the names of classes, and left."""

import shutil

import keras
import numpy as np
import pytest
from training.toy import fit, run_facts

from kerasdense import tasks
from kerasdense.models import (
    densenet_classifier,
    fcn_densenet,
    fcn_resnet50,
    ladder_densenet,
    ssd300,
)
from kerasdense.training import initialization
from kerasdense.training.checkpoints import save_checkpoint
from kerasdense.training.initialization import initialize
from kerasdense.training.run_folder import write_run

BLOCKS = (1, 1, 1, 1)
OLD = ["sky", "car", "road"]
NEW = ["road", "tram", "Car", "tree"]  # road was the third, Car the second; two are new


def task(name, classes):
    return tasks.named(name)(classes, [[0, 0, 0]] * len(classes))


def randomized(model, seed):
    """Every variable random, also the zeros and ones of the layers' own beginning."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if "seed" not in variable.path:
            variable.assign(rng.normal(size=variable.shape))
    return model


def run_of(model, classes, folder, task_name="segmentation"):
    """A run folder with this model as its best."""
    facts = {"task": task_name, "model": {"name": model.name, "arguments": {}}, "arguments": {}}
    write_run(folder, facts | {"dataset": {"class_names": classes, "palette": []}})
    save_checkpoint(model, folder / "best.keras", 1)
    return folder


@pytest.fixture(scope="module")
def ladder():
    return randomized(ladder_densenet(BLOCKS, len(OLD), auxiliary=True), 1)


@pytest.fixture(scope="module")
def ladder_run(ladder, tmp_path_factory):
    return run_of(ladder, OLD, tmp_path_factory.mktemp("ladder"))


def test_the_rows_of_a_class_head_follow_the_names(ladder, ladder_run):
    model = randomized(ladder_densenet(BLOCKS, len(NEW), auxiliary=True), 2)
    before = {variable.path: np.array(variable) for variable in model.variables}
    found = initialize(model, task("segmentation", NEW), ladder_run)
    old = {variable.path: np.array(variable) for variable in ladder.variables}
    heads = {"score/kernel", "auxiliary_score/kernel"}
    for variable in model.variables:
        if variable.path not in heads:
            np.testing.assert_array_equal(variable, old[variable.path])
    for path in heads:
        new = np.array({variable.path: variable for variable in model.variables}[path])
        np.testing.assert_array_equal(new[..., 0], old[path][..., 2])  # road
        np.testing.assert_array_equal(new[..., 2], old[path][..., 1])  # Car is car
        for own in (1, 3):
            np.testing.assert_array_equal(new[..., own], before[path][..., own])
    assert set(found.matched) == heads and len(found.taken) == len(model.variables) - 2
    assert not found.left
    text = str(found)
    assert "classes matched by name: road, Car" in text
    assert "new here, left as they were: tram, tree" in text and "without a place here: sky" in text


def test_equal_names_in_another_order_are_not_taken_as_they_stand(ladder, ladder_run):
    model = ladder_densenet(BLOCKS, len(OLD))  # without auxiliary logits
    found = initialize(model, task("segmentation", OLD[::-1]), ladder_run)
    kernel, old = (each.get_layer("score").kernel for each in (model, ladder))
    np.testing.assert_array_equal(kernel, np.array(old)[..., ::-1])
    assert found.classes == tuple(OLD[::-1]) and not found.new_classes


def test_a_recomputing_model_goes_on_from_another(ladder, ladder_run):
    model = ladder_densenet(BLOCKS, len(OLD), recompute=True)
    found = initialize(model, task("segmentation", OLD), ladder_run)
    assert not found.left
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    np.testing.assert_allclose(model(images), ladder(images)["logits"], rtol=1e-3, atol=1e-3)


def test_every_anchor_s_rows_follow_the_names(tmp_path):
    old = randomized(ssd300(len(OLD), weights=None, width=1 / 64), 1)
    run = run_of(old, OLD, tmp_path / "run", "detection")
    model = randomized(ssd300(len(NEW), weights=None, width=1 / 64), 2)
    before = {layer.name: layer.get_weights() for layer in model.layers}
    found = initialize(model, task("detection", NEW), run)
    # Levels of 4, 6, 6, 6, 4, 4 anchors a cell; the background is the first row of each.
    for level, anchors in enumerate((4, 6, 6, 6, 4, 4), 1):
        name = f"head{level}_classes"
        for number in range(2):  # kernel and bias
            new = model.get_layer(name).get_weights()[number]
            source, own = old.get_layer(name).get_weights()[number], before[name][number]
            for k in range(anchors):
                row = {name: 5 * k + 1 + i for i, name in enumerate(NEW)}
                other = {name: 4 * k + 1 + i for i, name in enumerate(OLD)}
                for i, j in (
                    (5 * k, 4 * k),
                    (row["road"], other["road"]),
                    (row["Car"], other["car"]),
                ):
                    np.testing.assert_array_equal(new[..., i], source[..., j])
                for i in (row["tram"], row["tree"]):
                    np.testing.assert_array_equal(new[..., i], own[..., i])
        boxes = f"head{level}_boxes"
        for a, b in zip(model.get_layer(boxes).get_weights(), old.get_layer(boxes).get_weights()):
            np.testing.assert_array_equal(a, b)
    assert len(found.matched) == 12 and not found.left


def test_a_classifier_and_a_segmentation_model_share_their_backbone(tmp_path):
    old = randomized(densenet_classifier(BLOCKS, len(OLD)), 1)
    run = run_of(old, OLD, tmp_path / "run", "classification")
    new = densenet_classifier(BLOCKS, len(NEW))
    found = initialize(new, task("classification", NEW), run)
    kernel, source = (model.get_layer("logits").get_weights()[0] for model in (new, old))
    np.testing.assert_array_equal(kernel[:, [0, 2]], source[:, [2, 1]])
    assert set(found.matched) == {"logits/kernel", "logits/bias"}

    ladder = ladder_densenet(BLOCKS, len(NEW))
    found = initialize(ladder, task("segmentation", NEW), run)
    stem = ladder.get_layer("conv1_conv").kernel
    np.testing.assert_array_equal(stem, old.get_layer("conv1_conv").kernel)
    assert not found.matched and found.left["score/kernel"] == "not in the source"
    assert "variables left as they were, not in the source: " in str(found)


def test_a_file_without_names(ladder_run, tmp_path):
    file = shutil.copy(ladder_run / "best.keras", tmp_path / "alone.keras")
    model = ladder_densenet(BLOCKS, len(OLD))
    found = initialize(model, task("segmentation", ["a", "b", "c"]), file)
    assert not found.names_known and found.matched == ("score/kernel",)
    assert "does not name its classes" in str(found)
    found = initialize(ladder_densenet(BLOCKS, 5), task("segmentation", list("abcde")), file)
    assert found.left == {"score/kernel": "of another number of classes"}
    # Beside its run.json a file has names.
    found = initialize(model, task("segmentation", OLD), ladder_run / "best.keras")
    assert found.names_known and found.classes == tuple(OLD)


def test_weights_alone(ladder, tmp_path):
    ladder.save_weights(tmp_path / "ladder.weights.h5")
    model = ladder_densenet(BLOCKS, len(OLD))
    initialize(model, task("segmentation", OLD), tmp_path / "ladder.weights.h5")
    np.testing.assert_array_equal(model.get_layer("score").kernel, ladder.get_layer("score").kernel)


def test_what_cannot_be_a_source(ladder_run, tmp_path):
    model, mine = ladder_densenet(BLOCKS, 3), task("segmentation", OLD)
    with pytest.raises(FileNotFoundError, match="There is no .*nowhere to initialize from"):
        initialize(model, mine, tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="holds no run.json"):
        initialize(model, mine, tmp_path)
    shutil.copy(ladder_run / "run.json", tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no best.keras yet"):
        initialize(model, mine, tmp_path)
    (tmp_path / "best.keras").write_bytes(b"half a file")
    with pytest.raises(ValueError, match="cannot be read"):
        initialize(model, mine, tmp_path)
    images = keras.Input((None, None, 3))
    other = keras.Model(images, keras.layers.Conv2D(3, 1, name="lonely")(images), name="other")
    with pytest.raises(ValueError, match="Nothing of .* fits other"):
        initialize(other, mine, ladder_run)


def test_several_scores_are_class_heads():
    model = fcn_resnet50(3, skips=(16, 8), weights=None)
    assert set(task("segmentation", OLD).class_heads(model)) == {
        "score", "score_stride16", "score_stride8",
    }  # fmt: skip


def test_layers_that_take_scores_are_matched_on_every_axis_of_classes(tmp_path):
    def fcn(classes):
        choices = {"upsampling": "learned", "skip_fusion": "concat"}
        return fcn_densenet(BLOCKS, len(classes), skips=(8,), **choices)

    old = randomized(fcn(OLD), 1)
    run = run_of(old, OLD, tmp_path / "run")
    model = randomized(fcn(NEW), 2)
    before = {layer.name: layer.get_weights() for layer in model.layers}
    mine = task("segmentation", NEW)
    assert set(mine.class_heads(model)) == {
        "score", "score_stride8", "up_stride8", "up_stride8_blend", "logits",
    }  # fmt: skip
    found = initialize(model, mine, run)
    assert not found.left and len(found.matched) == 2 * 2 + 3
    for name in ("up_stride8", "logits"):  # [2 factor, 2 factor, C]
        new, source = (each.get_layer(name).get_weights()[0] for each in (model, old))
        np.testing.assert_array_equal(new[..., [0, 2]], source[..., [2, 1]])  # road, Car
        np.testing.assert_array_equal(new[..., [1, 3]], before[name][0][..., [1, 3]])
    # [1, 1, 2 C, C]: rows of the upsampled scores, then of the skip's.
    new, source = (each.get_layer("up_stride8_blend").get_weights()[0] for each in (model, old))
    own = before["up_stride8_blend"][0]
    matched = {0: 2, 2: 1}
    for i in range(2 * len(NEW)):
        for j in range(len(NEW)):
            half, row = divmod(i, len(NEW))
            if row in matched and j in matched:
                expected = source[0, 0, half * len(OLD) + matched[row], matched[j]]
            else:
                expected = own[0, 0, i, j]
            assert new[0, 0, i, j] == expected


@pytest.mark.parametrize(
    "here, there, pairs",
    [
        (["Car", "car"], ["car"], {1: 0}),  # the exact name, once
        (["car"], ["Car", "CAR"], {}),  # none of two
        (["Car", "CAR"], ["car"], {}),
        (["Car", "Bus"], ["bus", "Car"], {0: 1, 1: 0}),
    ],
)
def test_names_in_another_case_are_matched_where_that_is_unambiguous(here, there, pairs):
    assert dict(initialization._Classes.matched(here, there).pairs) == pairs


def test_the_averages_of_a_last_model_are_taken(tmp_path):
    names = ["a", "b", "c"]
    averaged = fit(tmp_path, epochs=2, average_weights=0.9, pretrained=["old/kernel"])
    write_run(
        tmp_path,
        run_facts()
        | {
            "arguments": {"average_weights": 0.9},
            "dataset": {"class_names": names, "palette": [[0, 0, 0]] * 3},
        },
    )
    model = keras.models.clone_model(averaged)
    initialize(model, task("segmentation", names), tmp_path / "last.keras")
    kernels = [each.get_layer("old").kernel for each in (averaged, model)]
    np.testing.assert_allclose(*kernels, rtol=1e-6)


def test_an_upsampling_by_another_factor_is_of_another_shape(tmp_path):
    source = fcn_densenet(BLOCKS, 3, skips=(16,), upsampling="learned")
    run_of(source, OLD, tmp_path)
    model = fcn_densenet(BLOCKS, 3, skips=(16, 8), upsampling="learned")
    found = initialize(model, task("segmentation", OLD), tmp_path)
    assert found.left["logits/kernel"] == "of another shape"
