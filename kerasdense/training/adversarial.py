"""Training on adversarial examples that each step makes of its own batch.

B batch, H W size.
"""

import dataclasses

import keras
from keras import ops

from kerasdense.attacks.loop import Problem, search
from kerasdense.attacks.methods import METHODS
from kerasdense.attacks.units import unit_logits


@dataclasses.dataclass(frozen=True)
class AdversarialExamples:
    """Which examples replace the training images.

    Attributes:
        steps: of the projected gradient descent that makes them, at least 1. Each costs a forward
            pass and a backward pass to the images, more than half a training step
            (`kerasdense benchmark attack`).
        epsilon: largest change of a pixel, in whole gray levels (1/255 of the range).
        seed: of the random starts, which are a function of it and of the number of the step.
    """

    steps: int
    epsilon: int
    seed: int = 0

    def __post_init__(self):
        for name, value in (("steps", self.steps), ("epsilon", self.epsilon)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"{name}: adversarial training expects an int of at least 1, received {value!r}"
                )


def train_on_adversarial_examples(model, task, examples):
    """Makes every training step of a compiled segmentation model perturb its images first.

    The examples maximize the cross entropy of the label maps [B, H, W] under the model as it is
    at that step (batch normalization in inference mode), and are rounded to uint8, as all images
    are. Labels to ignore stay ignored; metrics of the training logs then measure the perturbed
    images, validation the clean ones.

    Args:
        model: a compiled `keras.Model`; only its `train_step` is replaced, and nothing is saved.
        task: what it is for, see `tasks.base`.
        examples: `AdversarialExamples`.

    Reference: Madry et al., "Towards deep learning models resistant to adversarial attacks",
    ICLR 2018, sec. 2 (the saddle point) and 3.
    """
    attack = METHODS["pgd"](norm="linf", steps=examples.steps)
    logits_of = unit_logits(model, task)
    generator = keras.random.SeedGenerator(examples.seed)
    train_step = model.train_step

    def perturbed(data):
        images, targets, weights = keras.utils.unpack_x_y_sample_weight(data)
        labels = targets["logits"] if isinstance(targets, dict) else targets
        # A function of the step's number, so that a resumed run draws what it would have drawn.
        number = ops.cast(model.optimizer.iterations, generator.state.dtype)
        first = ops.cast(examples.seed, generator.state.dtype)
        generator.state.assign(ops.stack([first, number]))
        images = ops.cast(images, "float32")
        noise = keras.random.uniform(ops.shape(images), -1.0, 1.0, seed=generator)
        r = search(Problem.of(logits_of, images, labels, examples.epsilon), attack, noise)
        images = ops.cast(ops.round(ops.clip(images + r, 0.0, 255.0)), "uint8")
        return keras.utils.pack_x_y_sample_weight(images, targets, weights)

    def on_tensorflow(data):
        return train_step(perturbed(data))

    def on_jax(state, data):
        trainable, non_trainable, optimizer, _ = state
        mapping = [
            *zip(model.trainable_variables, trainable),
            *zip(model.non_trainable_variables, non_trainable),
            *zip(model.optimizer.variables, optimizer),
        ]
        with keras.StatelessScope(state_mapping=mapping):
            data = perturbed(data)
        return train_step(state, data)

    model.train_step = on_jax if keras.backend.backend() == "jax" else on_tensorflow
