"""An attack beside the passes it is made of, and adversarial training beside plain training."""

import functools
import json

import keras
import numpy as np
from keras import ops

from kerasdense.attacks.attacker import Attacker
from kerasdense.attacks.methods import METHODS
from kerasdense.benchmarks.turns import in_turns, print_milliseconds, times_as_fast
from kerasdense.benchmarks.workloads import compile_for_training, logits_alone
from kerasdense.explain import gradients
from kerasdense.training.adversarial import AdversarialExamples, train_on_adversarial_examples

EPSILON = 4  # gray levels
ADVERSARIAL_STEPS = (1, 3)  # of the training steps measured


def benchmark(model, task, size, steps, turns):
    """Prints the times of an attack of so many `steps`, and of training steps, and their JSON.

    `size`: of the images, (height, width).
    Raises: ValueError for other than a segmentation model.
    """
    model = logits_alone(model)
    if len(model.output.shape) != 4:
        raise ValueError(f"{model.name} is no segmentation model, which `attack` needs.")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, *size, 3), np.uint8)
    labels = rng.integers(0, model.output.shape[-1], (2, *size), np.uint8)
    print(f"{model.name}, one image of {size[0]}x{size[1]}, {steps} steps of PGD")
    attack = Attacker(model, task, METHODS["pgd"](steps=steps))
    attacks = in_turns(
        {
            "attack": lambda: attack(images[:1], labels[:1], epsilon=EPSILON),
            "passes": _passes(model, images[:1], labels[:1], steps),
        },
        turns,
    )
    medians = print_milliseconds(attacks)
    ratio = times_as_fast("passes", "attack", attacks)
    print(f"{'times as long':<18} {ratio:8.2f}")
    print(f"a training step on two images of {size[0]}x{size[1]}")
    copies = {f"K = {k}": _training_copy(model, task, k) for k in (0, *ADVERSARIAL_STEPS)}
    training = in_turns(
        {
            name: functools.partial(copy.train_on_batch, images, labels)
            for name, copy in copies.items()
        },
        3 * turns,
        warm_up=2,
    )
    medians |= print_milliseconds(training)
    ratios = {f"K = {k}": times_as_fast("K = 0", f"K = {k}", training) for k in ADVERSARIAL_STEPS}
    for name, times in ratios.items():
        print(f"{f'{name}, times as long':<18} {times:8.2f}")
    print(json.dumps({"model": model.name, "milliseconds": medians, "ratio": ratio} | ratios))


def _passes(model, images, labels, steps):
    """A function that goes `steps` times forward and backward to the images."""
    function = gradients.on_pixels(model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    pixels, truth = ops.convert_to_tensor(images, "float32"), ops.convert_to_tensor(labels)

    def forward_and_backward(pixels, truth):
        return gradients.value_and_gradient(lambda x: (loss(truth, function(x)), ()), pixels)

    forward_and_backward = gradients.compiled(forward_and_backward, model)

    def passes():
        for _ in range(steps):
            ops.convert_to_numpy(forward_and_backward(pixels, truth)[1])

    return passes


def _training_copy(model, task, adversarial_steps):
    """A copy of the model that trains on examples of so many steps, or on clean images for 0."""
    copy = keras.models.clone_model(model)
    compile_for_training(copy)
    if adversarial_steps:
        examples = AdversarialExamples(adversarial_steps, EPSILON)
        train_on_adversarial_examples(copy, task, examples)
    return copy
