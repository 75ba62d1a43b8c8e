"""The recipes: their commands, the papers' numbers, and what they make of options."""

import argparse
import dataclasses
import importlib
import inspect
import re
import shlex
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasdense import models, recipes, tasks
from kerasdense.boxes.anchors import LAYOUTS
from kerasdense.cli.main import parser_of
from kerasdense.models.backbones import DENSENET_BLOCKS
from kerasdense.recipes import recipe as recipe_module
from kerasdense.recipes.recipe import Recipe, _value, check_size

NAMES = recipes.names()
RECIPES = {name: recipes.module(name).RECIPE for name in NAMES}
DATA = ("--dataset", "toy_streets", "--workdir", "runs/new")
PARSER = parser_of("fit")


def options_of(name, *flags):
    """What `kerasdense fit NAME ...` parses."""
    return PARSER.parse_args([name, *DATA, *map(str, flags)])


# --- each file ----------------------------------------------------------------------------------


def test_a_file_is_a_recipe():
    assert set(NAMES) == {
        "atrous_fcn_resnet50", "densenet121_classifier", "fc_densenet", "fcn", "ladder_densenet",
        "ssd300", "ssd512",
    }  # fmt: skip
    assert all(isinstance(recipe, Recipe) for recipe in RECIPES.values())


@pytest.mark.parametrize("name", NAMES)
def test_it_opens_with_its_command(name):
    text = recipes.module(name).__doc__
    title, empty, command, *_ = text.splitlines()
    assert title[-1] in ".?" and not empty
    assert command.startswith(f"    kerasdense fit {name} --dataset ")
    commands = re.findall(r"^    (kerasdense .*)$", re.sub(r"\\\n\s*", "", text), re.MULTILINE)
    for command in commands:
        _, fit, *arguments = shlex.split(command)
        assert fit == "fit" and PARSER.parse_args(arguments).network == name
    assert "ublished" in text or "no recipe" in text  # what the paper reached, if it says so


@pytest.mark.parametrize("name", NAMES)
def test_its_defaults_are_within_what_it_accepts(name):
    options = vars(options_of(name))
    for option in RECIPES[name].options:
        assert options[option.name] == option.default
        assert not option.choices or option.default in option.choices
    expected = RECIPES[name]
    assert options["epochs"] == expected.epochs and options["batch_size"] == expected.batch_size
    assert options["backbone_rate"] == expected.backbone_rate
    rate = expected.learning_rate
    assert options["learning_rate"] == (None if callable(rate) else rate)


@pytest.mark.parametrize("name", NAMES)
def test_the_function_that_it_names_takes_its_arguments(name):
    function, architecture, arguments = RECIPES[name].network(options_of(name))
    inspect.signature(getattr(models, function)).bind(num_classes=3, weights=None, **arguments)
    assert architecture in ("vgg16", "resnet50", "fc_densenet", *DENSENET_BLOCKS)
    assert RECIPES[name].task in tasks.names()


@pytest.mark.parametrize(
    "name, flags, shape",
    [
        ("ladder_densenet", ("--blocks", "1,1,1,1"), (None, None, None, 3)),
        ("ladder_densenet", ("--blocks", "1,1,1,1", "--variant", "32x"), (None, None, None, 3)),
        (
            "ladder_densenet",
            ("--blocks", "1,1,2,1", "--variant", "ldn_64x_4x"),
            dict.fromkeys(
                ("logits", *(f"auxiliary_logits_stride{stride}" for stride in (64, 32, 16, 8))),
                (None, None, None, 3),
            ),
        ),
        ("fc_densenet", ("--layers", "1,1", "--growth-rate", 4), (None, None, None, 3)),
        ("densenet121_classifier", ("--blocks", "1,1,1,1"), (None, 3)),
        ("ssd300", ("--width", 1 / 64), (None, 8732, 3 + 1 + 4)),
        ("ssd512", ("--width", 1 / 64), (None, 24564, 3 + 1 + 4)),
    ],
)
def test_a_small_network_is_for_the_task(name, flags, shape):
    function, _, arguments = RECIPES[name].network(options_of(name, *flags))
    model = getattr(models, function)(num_classes=3, weights=None, **arguments)
    assert keras.tree.map_structure(lambda output: output.shape, model.output) == shape
    assert tasks.named(RECIPES[name].task).recognizes(model)


@pytest.mark.parametrize(
    "name, flags, expected",
    [
        ("ladder_densenet", (), (32, 4)),  # Kreso et al. 2017, the ladder's finest blend
        ("ladder_densenet", ("--variant", "dilated_8x_4x"), (8, 4)),
        ("ladder_densenet", ("--variant", "32x"), (32, 32)),
        ("ladder_densenet", ("--variant", "ldn_64x_4x"), (64, 4)),
        ("fcn", (), (32, ())),
        ("fcn", ("--skips", "16,8"), (32, (16, 8))),
        ("fcn", ("--output-stride", 8), (8, ())),
    ],
)
def test_options_of_the_network(name, flags, expected):
    _, _, arguments = RECIPES[name].network(options_of(name, *flags))
    other = arguments.get("prediction_stride", arguments.get("skips"))
    assert (arguments["output_stride"], other) == expected


def test_choices_of_the_decoder_reach_the_network():
    def arguments(*flags):
        return RECIPES["fcn"].network(options_of("fcn", *flags))

    assert arguments()[2] == {"output_stride": 32, "skips": ()}
    flags = ("--skips", "16", "--upsampling", "learned", "--skip-fusion", "concat")
    assert arguments("--backbone", "densenet121", *flags) == (
        "fcn_densenet",
        "densenet121",
        {
            "blocks": DENSENET_BLOCKS["densenet121"],
            "output_stride": 32,
            "skips": (16,),
            "upsampling": "learned",
            "skip_fusion": "concat",
        },
    )


def test_the_variant_of_2020_is_ldn121_with_its_losses(monkeypatch):
    name, backbone, arguments = RECIPES["ladder_densenet"].network(
        options_of("ladder_densenet", "--variant", "ldn_64x_4x")
    )
    module = importlib.import_module("kerasdense.models.ladder_densenet")
    monkeypatch.setattr(module, name, lambda blocks, *_, **given: given | {"blocks": blocks})
    built = models.ldn121(3, weights=None, auxiliary=True)
    # The prediction stride is that of all ladders where none is named.
    assert arguments.pop("prediction_stride") == 4
    assert backbone == "densenet121"
    assert built == arguments | {"weights": None, "name": "ldn121"}
    with pytest.raises(ValueError, match="--auxiliary has no effect with --variant ldn_64x_4x"):
        RECIPES["ladder_densenet"].network(
            options_of("ladder_densenet", "--variant", "ldn_64x_4x", "--auxiliary")
        )


def test_pretrained_weights_are_those_of_the_backbone():
    def architecture(name, *flags):
        return RECIPES[name].network(options_of(name, *flags))[1]

    for depth, blocks in DENSENET_BLOCKS.items():
        flags = ("--blocks", ",".join(map(str, blocks)))
        assert architecture("ladder_densenet", *flags) == depth
        assert architecture("densenet121_classifier", *flags) == depth
    assert architecture("ladder_densenet", "--blocks", "1,1,1,1") == "densenet"
    assert architecture("ladder_densenet") == "densenet121"
    assert architecture("fcn") == "vgg16" and architecture("fcn", "--backbone", "resnet50") == (
        "resnet50"
    )


# --- the papers' numbers ------------------------------------------------------------------------

STEPS = 120_000  # of SSD's schedule, Liu et al. 2016, sec. 3.1


@pytest.mark.parametrize(
    "name, optimizer, weight_decay, batch_size, epochs, rates",
    [
        # Kreso et al. 2017: 5e-4 falls to a tenth with power 1.5.
        ("ladder_densenet", "Adam", 1e-4, 4, 30,
         {0: 5e-4, STEPS // 2: 5e-5 + 4.5e-4 * 0.5**1.5, STEPS: 5e-5}),
        ("densenet121_classifier", "Adam", 1e-4, 32, 20,
         {0: 1e-3, STEPS // 2: 1e-4 + 9e-4 * 0.5**1.5, STEPS: 1e-4}),
        ("atrous_fcn_resnet50", "SGD", 1e-4, 16, 250,
         {0: 1e-2, STEPS // 2: 1e-2 * 0.5**0.9, STEPS: 0.0}),
        # Jegou et al. 2017: 750 epochs, so 160 steps each, after each of which 0.5 % less.
        ("fc_densenet", "RMSprop", 2e-4, 5, 750,
         {0: 1e-3, 159: 1e-3, 160: 0.995e-3, 1600: 1e-3 * 0.995**10}),
        ("fcn", "SGD", 5e-4, 20, 175, {0: 1e-4, STEPS // 2: 1e-4 * 0.5**0.9, STEPS: 0.0}),
        # Liu et al. 2016: 1e-3 for 80,000 steps, 1e-4 for 20,000, 1e-5 for 20,000.
        ("ssd300", "SGD", 5e-4, 32, 232,
         {0: 1e-3, 80_000: 1e-3, 80_001: 1e-4, 100_000: 1e-4, 100_001: 1e-5, STEPS: 1e-5}),
        ("ssd512", "SGD", 5e-4, 32, 232, {0: 1e-3, 80_001: 1e-4, STEPS: 1e-5}),
    ],
)  # fmt: skip
def test_numbers(name, optimizer, weight_decay, batch_size, epochs, rates):
    recipe, options = RECIPES[name], options_of(name)
    assert _value(recipe.weight_decay, options) == weight_decay
    assert (options.batch_size, options.epochs) == (batch_size, epochs)
    made = recipe.optimizer(options, _value(recipe.learning_rate, options), STEPS)
    assert type(made).__name__ == optimizer
    if optimizer == "SGD":
        assert made.momentum == 0.9
    if optimizer == "RMSprop":  # Lasagne's own, which the authors of FC-DenseNet take
        assert (made.rho, made.epsilon) == (0.9, 1e-6)
    for step, rate in rates.items():
        made.iterations.assign(step)
        assert float(made.learning_rate) == pytest.approx(rate, rel=1e-4), step


def test_ssd_shortens_gradients_that_are_too_long():
    made = RECIPES["ssd300"].optimizer(options_of("ssd300"), 1e-3, 10)
    assert made.global_clipnorm == 10
    options = options_of("ssd300", "--optimizer", "adam")
    made = RECIPES["ssd300"].optimizer(options, 5e-4, 6)
    assert type(made) is keras.optimizers.Adam
    made.iterations.assign(5)  # after 2/3 of 6 steps
    assert float(made.learning_rate) == pytest.approx(5e-5)


def test_the_rates_of_pretrained_weights():
    rates = {name: options_of(name).backbone_rate for name in NAMES}
    assert rates.pop("ladder_densenet") == 0.5
    assert rates.pop("densenet121_classifier") == 0.1
    assert set(rates.values()) == {1.0}


@pytest.mark.parametrize(
    "name, flags, rate",
    [
        ("atrous_fcn_resnet50", (), 0.01),
        ("atrous_fcn_resnet50", ("--batch-size", 4), 0.01 * 4 / 16),
        ("atrous_fcn_resnet50", ("--batch-size", 4, "--learning-rate", 0.005), 0.005),
        ("fcn", ("--batch-size", 4), 1e-4),  # of the other papers no such rule is known
        ("fcn", ("--backbone", "resnet50"), 0.01 * 20 / 16),
        ("fcn", ("--backbone", "resnet50", "--batch-size", 4), 0.01 * 4 / 16),
        ("fcn", ("--backbone", "densenet121"), 0.01 * 20 / 16),
        ("fcn", ("--batch-size", 4, "--learning-rate", 0.005), 0.005),
    ],
)
def test_the_learning_rate_and_what_is_recorded(name, flags, rate):
    recorded = RECIPES[name]._arguments(options_of(name, *flags))
    assert recorded["learning_rate"] == pytest.approx(rate)
    assert recorded["workdir"] == "runs/new"  # a text, for JSON
    assert recorded["train_split"] is None and recorded["seed"] == 0


# --- what is trained on -------------------------------------------------------------------------


def sample(height=80, width=100):
    """A picture whose pixels are all different, its mask, and a box on its left half."""
    image = np.arange(height * width, dtype=np.int64).reshape(height, width)
    image = np.stack([image % 251, image % 241, image % 239], axis=-1).astype(np.uint8)
    return {
        "image": tf.constant(image),
        "mask": tf.constant(image[..., :1] // 100),
        "boxes": tf.constant([[0.1, 0.2, 0.45, 0.8]]),
        "labels": tf.constant([0], tf.int64),
        "difficult": tf.constant([False]),
        "file_name": tf.constant("a"),
    }


def augmented(name, *flags, seed=0):
    """A sample augmented by a recipe, of the features that its task reads: dict of arrays."""
    recipe = RECIPES[name]
    read = tasks.named(recipe.task).features
    given = {key: value for key, value in sample().items() if key in read}
    op = recipe.augmentation(options_of(name, *flags))
    return {key: value.numpy() for key, value in op(given, tf.constant([0, seed])).items()}


@pytest.mark.parametrize(
    "name, flags, size",
    [
        ("ladder_densenet", (), (448, 1024)),
        ("ladder_densenet", ("--size", "64x96"), (64, 96)),
        ("atrous_fcn_resnet50", (), (320, 320)),
        ("fcn", ("--size", "64x64", "--photometric"), (64, 64)),
        ("densenet121_classifier", (), (224, 224)),
        ("densenet121_classifier", ("--size", "64x96"), (64, 96)),
        ("ssd300", (), (300, 300)),
        ("ssd300", ("--augmentation", "flip"), (300, 300)),
        ("ssd512", ("--augmentation", "none"), (512, 512)),
    ],
)
def test_pictures_have_the_size_of_training(name, flags, size):
    found = augmented(name, *flags)
    assert found["image"].shape == (*size, 3) and found["image"].dtype == np.uint8
    if "mask" in found:
        assert found["mask"].shape == (*size, 1)
        assert set(np.unique(found["mask"])) <= {0, 1, 2, 255}


def test_sizes_of_the_anchors_are_those_of_the_pictures():
    for name in ("ssd300", "ssd512"):
        assert augmented(name)["image"].shape[:2] == (LAYOUTS[name].image_size,) * 2


@pytest.mark.parametrize("name", ["ssd300", "densenet121_classifier"])
def test_pictures_are_warped_alone_or_mirrored_too(name):
    plain = augmented(name, "--augmentation", "none")
    for seed in range(1, 4):
        other = augmented(name, "--augmentation", "none", seed=seed)
        np.testing.assert_array_equal(other["image"], plain["image"])
    np.testing.assert_allclose(plain["boxes"], [[0.1, 0.2, 0.45, 0.8]], atol=1e-6)
    mirrored = 0
    for seed in range(12):  # all of one kind: 2 times in 2**12 seeds
        found = augmented(name, "--augmentation", "flip", seed=seed)
        if np.array_equal(found["image"], plain["image"]):
            continue
        mirrored += 1
        np.testing.assert_array_equal(found["image"], plain["image"][:, ::-1])
        np.testing.assert_allclose(found["boxes"], [[0.55, 0.2, 0.9, 0.8]], atol=1e-6)
    assert 0 < mirrored < 12


def test_a_classifier_sees_all_objects_in_other_colors():
    plain = augmented("densenet121_classifier", "--augmentation", "none")
    found = [augmented("densenet121_classifier", seed=seed) for seed in range(4)]
    assert all(each["boxes"].shape == (1, 4) for each in found)
    for each in found:
        sides = each["boxes"][:, 2:] - each["boxes"][:, :2]
        np.testing.assert_allclose(sides, [[0.35, 0.6]], atol=1e-6)
    images = [plain["image"], plain["image"][:, ::-1]]
    assert any(not any(np.array_equal(each["image"], one) for one in images) for each in found)


def test_colors_are_jittered_where_it_is_asked_for():
    whole = ("--size", "80x100", "--scales", "1,1")  # nothing to crop
    images = {flags: [augmented("fcn", *whole, *flags, seed=seed)["image"] for seed in range(4)]
              for flags in ((), ("--photometric",))}  # fmt: skip
    original = sample()["image"].numpy()
    for image in images[()]:
        assert np.array_equal(image, original) or np.array_equal(image, original[:, ::-1])
    assert not any(
        np.array_equal(image, original) or np.array_equal(image, original[:, ::-1])
        for image in images["--photometric",]
    )


@pytest.mark.parametrize(
    "name, flags, words",
    [
        ("fcn", ("--scales", "1"), "--scales expects LOWEST,HIGHEST, received 1 numbers"),
        ("fcn", ("--size", "32x64"), "--size 32x64 is too small: the models expect at least 64"),
        ("densenet121_classifier", ("--size", "64x63"), "--size 64x63 is too small"),
    ],
)
def test_impossible_sizes_and_scales(name, flags, words):
    with pytest.raises(ValueError, match=words):
        RECIPES[name].augmentation(options_of(name, *flags))
    check_size((64, 64))


def splits(train, validation):
    return argparse.Namespace(train_split=train, validation_split=validation)


@pytest.mark.parametrize(
    "train, validation, found",
    [
        (None, "val", "train"),
        ("trainval", "test", "trainval"),
        ("train", "train", "train"),  # to see a model over-fit
        ("trainval", "val", None),
        ("trainval", "train", None),
    ],
)
def test_what_is_trained_on_is_not_validated_on_unnoticed(train, validation, found):
    there = dict.fromkeys(("train", "val", "trainval", "test"), 5)
    if found:
        assert recipe_module._train_split(splits(train, validation), there) == found
    else:
        with pytest.raises(ValueError, match="trainval holds the images of"):
            recipe_module._train_split(splits(train, validation), there)


def test_a_training_split_that_is_not_there():
    with pytest.raises(ValueError, match="--train-split: there is no split 'both', but train, val"):
        recipe_module._train_split(splits("both", "val"), {"train": 5, "val": 1})


# --- adversarial examples -----------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in NAMES if RECIPES[name].task == "segmentation"])
def test_adversarial_examples(name):
    def examples(*flags):
        return recipe_module._adversarial_examples(options_of(name, *flags))

    assert examples() is None
    found = examples("--adversarial-steps", 3, "--seed", 7)
    assert (found.steps, found.epsilon, found.seed) == (3, recipe_module.ADVERSARIAL_EPSILON, 7)
    assert examples("--adversarial-steps", 1, "--adversarial-epsilon", 8).epsilon == 8
    with pytest.raises(ValueError, match="no effect without --adversarial-steps"):
        examples("--adversarial-epsilon", 8)


def test_other_tasks_have_none():
    assert recipe_module._adversarial_examples(options_of("ssd300")) is None


# --- how long and how ---------------------------------------------------------------------------


def test_options_become_a_schedule():
    flags = (
        "--epochs", 6, "--validate-every", 3, "--early-stop", 4, "--average-weights", 0.9,
        "--backbone-rate", 0.25, "--xla", "on",
    )  # fmt: skip
    schedule = RECIPES["ssd300"]._schedule(options_of("ssd300", *flags), 0.01, 50, None)
    expected = {
        "epochs": 6, "steps_per_epoch": 50, "weight_decay": 5e-4, "validate_every": 3,
        "early_stop": 4, "average_weights": 0.9, "jit_compile": True, "adversarial": None,
    }  # fmt: skip
    found = {field.name: getattr(schedule, field.name) for field in dataclasses.fields(schedule)}
    new, pretrained = (found["make_optimizer"](is_pretrained) for is_pretrained in (False, True))
    assert found.pop("make_optimizer") and found == expected
    for optimizer, rate in ((new, 0.01), (pretrained, 0.0025)):
        assert float(optimizer.learning_rate) == pytest.approx(rate)
        optimizer.iterations.assign(201)  # 2/3 of 300 steps are done
        assert float(optimizer.learning_rate) == pytest.approx(rate / 10)


def test_the_decay_of_a_backbone_of_its_own():
    schedule = RECIPES["fcn"]._schedule(options_of("fcn", "--backbone", "resnet50"), 0.01, 50, None)
    assert schedule.weight_decay == 1e-4


def test_segmentation_is_validated_in_every_epoch():
    schedule = RECIPES["fcn"]._schedule(options_of("fcn", "--xla", "off"), 0.01, 50, None)
    assert schedule.validate_every == 1 and not schedule.jit_compile


# --- data ---------------------------------------------------------------------------------------


class Reading:
    """A task that tells what it was asked to read."""

    features = ("image",)

    def image_size_of(self, model):
        return f"size of {model}"

    def targets(self, model):
        return f"targets of {model}"  # of which the validation loss is made

    def eval_batches(self, *asked):
        return asked


def prepared(*splits):
    """A builder of a dataset of pictures with these splits."""
    splits = dict.fromkeys(splits, types.SimpleNamespace(num_examples=3))
    info = types.SimpleNamespace(splits=splits, features={"image": None})
    return types.SimpleNamespace(name="toy", info=info)


@pytest.mark.parametrize("xla", ["on", "off"])
def test_where_xla_compiles_validation_has_few_sizes(xla):
    options = options_of("fcn", "--xla", xla, "--validation-split", "test")
    builder = prepared("train", "test")
    data = recipe_module._data(Reading(), builder, "train", None, options)
    # Whole images take more memory than crops: at most 8 at once, unless more are wished for.
    asked = (builder, "test", "size of model", 8, xla == "on", "targets of model")
    assert data.validation("model") == asked


@pytest.mark.parametrize("splits, missing", [(("train",), "val"), (("val",), "train")])
def test_splits_are_looked_for_before_anything_is_written(splits, missing):
    with pytest.raises(ValueError, match=f"toy has no split '{missing}'"):
        recipe_module._data(Reading(), prepared(*splits), "train", None, options_of("fcn"))


# --- going on from another model ----------------------------------------------------------------


def test_weights_are_of_what_the_source_lacks(tmp_path):
    def saved(name, blocks, value):
        model = models.ladder_densenet(blocks, 2)
        for variable in model.variables:
            variable.assign(np.full(variable.shape, value))
        model.save(tmp_path / name)
        return tmp_path / name

    # The source has three of the last block's four layers, the weights have all.
    source = saved("source.keras", (1, 1, 1, 3), 2.0)
    weights = saved("weights.keras", (1, 1, 1, 4), 3.0)
    model = models.ladder_densenet((1, 1, 1, 4), 2)
    options = argparse.Namespace(initialize=source, weights=str(weights))
    task = tasks.named("segmentation")(["a", "b"], [[0, 0, 0], [1, 1, 1]])
    report = recipe_module._initialized(model, "densenet", task, options)
    for layer, value in (("conv1_conv", 2), ("conv5_block4_1_conv", 3), ("context_conv", 2)):
        assert np.all(model.get_layer(layer).kernel == value), layer
    assert {"conv1_conv/kernel", "conv5_block4_1_conv/kernel"} <= set(report.loaded)
    assert not report.skipped and "context_conv/kernel" not in report.loaded
