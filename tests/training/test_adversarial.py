"""Training on adversarial examples: what the step sees, that it resumes, and that it protects."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from training.test_fitting import batches, run_facts, toy_model

from kerasdense import tasks
from kerasdense.attacks.attacker import Attacker
from kerasdense.attacks.methods import METHODS
from kerasdense.metrics.labels import IGNORE
from kerasdense.models.weights import WeightsReport
from kerasdense.training import fitting
from kerasdense.training.adversarial import AdversarialExamples, train_on_adversarial_examples


def compiled_model(auxiliary=False):
    keras.utils.set_random_seed(0)
    model = toy_model(auxiliary)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=IGNORE)
    losses = {"logits": loss, "auxiliary_logits": loss} if auxiliary else loss
    model.compile(keras.optimizers.SGD(0.01), losses, run_eagerly=True)
    return model


def fit(workdir, epochs, adversarial=None, build=toy_model, pairs=batches, jit_compile=False):
    """Fits a model to `pairs(first_step, count)` of images and label maps."""
    samples = pairs(1000, count=2).map(lambda images, masks: {"image": images, "mask": masks})
    schedule = fitting.Schedule(
        epochs,
        steps_per_epoch=10,
        make_optimizer=lambda is_pretrained: keras.optimizers.SGD(
            keras.optimizers.schedules.PolynomialDecay(0.1, 100), momentum=0.9
        ),
        adversarial=adversarial,
        jit_compile=jit_compile,
    )
    data = fitting.Data(lambda model, first_step: pairs(first_step), lambda model: samples)

    def build_model():
        keras.utils.set_random_seed(0)
        return build(), WeightsReport(None, (), ())

    task = tasks.of_model(build())
    return fitting.fit(task, build_model, data, schedule, workdir, run_facts())


def seen_images(model, examples, steps=1):
    """What the training steps get to see instead of the first batches' images."""
    seen = []
    model.train_step = lambda data: seen.append(data) or {"loss": 0.0}
    train_on_adversarial_examples(model, tasks.of_model(model), examples)
    data = [(images, masks) for images, masks in batches(count=steps)]
    for images, masks in data:
        several = isinstance(model.output, dict)
        model.train_step((images, dict.fromkeys(model.output, masks) if several else masks))
        model.optimizer.iterations.assign_add(1)
    return data, seen


@pytest.mark.parametrize("auxiliary", [False, True])
@pytest.mark.parametrize("epsilon", [1, 4, 30])
def test_a_step_sees_images_within_epsilon_that_the_model_finds_harder(auxiliary, epsilon):
    model = compiled_model(auxiliary)
    [(images, masks)], [(changed, targets)] = seen_images(model, AdversarialExamples(5, epsilon))
    assert changed.dtype == "uint8" and changed.shape == images.shape
    difference = np.abs(changed.numpy().astype(int) - images.numpy().astype(int))
    assert 0 < difference.max() <= epsilon
    if auxiliary:
        assert set(targets) == {"logits", "auxiliary_logits"}
        targets = targets["logits"]
    np.testing.assert_array_equal(targets, masks)

    def loss(images):
        outputs = model(images, training=False)
        logits = outputs["logits"] if auxiliary else outputs
        losses = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=IGNORE)
        return float(losses(masks, logits))

    noise = np.random.default_rng(0).integers(-int(epsilon), int(epsilon) + 1, images.shape)
    noisy = np.clip(images.numpy().astype(int) + noise, 0, 255).astype(np.uint8)
    assert loss(changed) > max(loss(images), loss(noisy))


def test_the_examples_are_a_function_of_the_number_of_the_step():
    examples = AdversarialExamples(1, 8)
    _, first = seen_images(compiled_model(), examples, steps=3)
    _, again = seen_images(compiled_model(), examples, steps=3)
    for (a, _), (b, _) in zip(first, again):
        np.testing.assert_array_equal(a, b)
    resumed = compiled_model()
    resumed.optimizer.iterations.assign(2)
    seen = []
    resumed.train_step = lambda data: seen.append(data)
    train_on_adversarial_examples(resumed, tasks.of_model(resumed), examples)
    resumed.train_step(next(iter(batches(first_step=2, count=1))))
    np.testing.assert_array_equal(seen[0][0], first[2][0])
    other = compiled_model()
    _, [(different, _)] = seen_images(other, AdversarialExamples(1, 8, seed=1))
    assert (different.numpy() != first[0][0].numpy()).any()


def test_batch_statistics_are_of_the_perturbed_images_alone():
    """The passes that make the examples leave batch normalization as it was."""
    model = compiled_model()
    before = [variable.numpy() for variable in model.non_trainable_variables]
    seen_images(model, AdversarialExamples(3, 4))
    for variable, value in zip(model.non_trainable_variables, before):
        np.testing.assert_array_equal(variable, value)


@pytest.mark.slow
def test_a_hardened_run_resumes_to_the_same_weights(tmp_path, capsys):
    options = {"adversarial": AdversarialExamples(2, 4)}
    whole = fit(tmp_path / "whole", epochs=3, **options)
    assert "changed by up to 4 gray levels in 2 step(s)" in capsys.readouterr().out
    fit(tmp_path / "cut", epochs=2, **options)
    resumed = fit(tmp_path / "cut", epochs=3, **options)
    for a, b in zip(whole.weights, resumed.weights):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    plain = fit(tmp_path / "plain", epochs=3)
    assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(whole.get_weights(), plain.get_weights()))


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_with_xla(tmp_path, policy):
    keras.config.set_dtype_policy(policy)
    try:
        fit(tmp_path, epochs=1, adversarial=AdversarialExamples(1, 4), jit_compile=True)
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.slow
def test_it_protects_what_ordinary_training_leaves_open(tmp_path):
    """Two cues tell the class: a faint one that never errs, a strong one that errs in a tenth."""

    def two_cues(first_step=0, count=None):
        def batch(step):
            labels = tf.random.stateless_uniform([8, 8, 8], [7, step], 0, 2, tf.int32)
            wrong = tf.random.stateless_uniform([8, 8, 8], [8, step]) < 0.1
            strong = tf.where(wrong, 1 - labels, labels)
            red = 126 + 4 * labels  # 126 or 130: within 4 gray levels
            green = 78 + 100 * strong
            images = tf.stack([red, green, 0 * red], axis=-1)
            return tf.cast(images, tf.uint8), tf.cast(labels, tf.uint8)

        last = tf.int64.max if count is None else first_step + count
        return tf.data.Dataset.range(first_step, last).map(batch)

    def linear():
        images = keras.Input((None, None, 3), dtype="uint8", name="images")
        x = keras.layers.Rescaling([1 / 2, 1 / 50, 0], [-64.0, -128 / 50, 0])(images)
        return keras.Model(images, keras.layers.Conv2D(2, 1, name="logits")(x), name="linear")

    images, labels = (np.asarray(each) for each in next(iter(two_cues(2000, count=1))))
    accuracy = {}
    for name, examples in {"plain": None, "hardened": AdversarialExamples(3, 4)}.items():
        model = fit(tmp_path / name, 10, examples, linear, two_cues)
        attacker = Attacker(model, tasks.of_model(model), METHODS["pgd"](steps=5))
        attacked = attacker(images, labels, epsilon=4)
        accuracy[name] = [
            float((model.predict_on_batch(each).argmax(-1) == labels).mean())
            for each in (images, attacked)
        ]
    # Ordinary training relies on the faint cue, which 4 gray levels turn around.
    assert accuracy["plain"][0] > 0.99 and accuracy["plain"][1] < 0.5
    assert accuracy["hardened"][1] > 0.8


def test_bad_settings():
    for steps, epsilon, name in ((0, 4, "steps"), (1, 0, "epsilon"), (1, 2.5, "epsilon")):
        with pytest.raises(ValueError, match=f"{name}: .* expects an int of at least 1"):
            AdversarialExamples(steps, epsilon)
