"""The loop by itself."""

import keras
import numpy as np
import tensorflow as tf
from attacks.by_hand import attacker, conv_model, pictures, predicted

from kerasdense import tasks
from kerasdense.attacks import loop
from kerasdense.attacks.methods import METHODS
from kerasdense.attacks.units import unit_logits


def test_the_loss_of_a_search_weakens_where_enough_is_won():
    # The steepest slope so far is 2; the first image is won, the second is not.
    gradient, r = np.ones((2, 1, 1, 3), "float32"), np.full((2, 1, 1, 3), 5, "float32")
    state = {"r": r, "slope": tf.constant([2.0, 2.0]), "strength": tf.constant([60.0, 60.0])}
    outcome = {"fooled": tf.constant([True, False])}
    attack = METHODS["minimal"](steps=10, step_size=0.5)
    state, gradient, size = loop._toward_shortest(attack, state, gradient, outcome, 4)
    np.testing.assert_allclose(state["strength"], [60 / 1.05, 60 * 1.05], rtol=1e-6)
    np.testing.assert_allclose(gradient[:, 0, 0, 0], [30 / 1.05 - 5, 30 * 1.05 - 5], rtol=1e-6)
    np.testing.assert_allclose(size, 0.5 * 0.6, rtol=1e-6)


def test_search_inside_another_program_is_the_same_attack():
    model, images = conv_model(), pictures()
    labels = predicted(model, images).astype("uint8")
    labels[0, :3] = 255
    logits_of = unit_logits(model, tasks.of_model(model))

    @tf.function
    def program(images, labels, epsilon, noise):
        problem = loop.Problem.of(logits_of, images, labels, epsilon)
        return loop.search(problem, METHODS["pgd"](steps=5), noise)

    noise = np.zeros(images.shape, "float32")
    r = program(images, labels, 5.0, noise).numpy()
    assert np.abs(r).max() == 5 and np.all((images + r >= 0) & (images + r <= 255))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    before, after = (loss(labels, logits_of(tf.constant(images + k * r))) for k in (0, 1))
    attack = METHODS["pgd"](steps=5, random_start=False)
    best = attacker(model, attack)(images, labels, 5).astype("float32")
    assert after > before and loss(labels, logits_of(tf.constant(best))) >= 0.95 * after
