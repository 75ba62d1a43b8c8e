"""How an attack moves: from a gradient to the direction of a step."""

import dataclasses
from collections.abc import Callable

from keras import ops

from kerasdense.attacks.norms import NORMS, largest, or_one


@dataclasses.dataclass(frozen=True)
class Step:
    """How to move: `move(gradient, norm, memory, number) -> direction, memory`.

    Attributes:
        move: see above; `number` is the step's, from 0; memory a tuple of tensors like r.
        memory: how many of them, zeros at first.
    """

    move: Callable
    memory: int = 0


def _move_steepest(gradient, norm, memory, number):
    return NORMS[norm].direction(gradient), memory


def _move_largest(gradient, norm, memory, number):
    return gradient / or_one(largest(gradient)), memory


def _move_adam(gradient, norm, memory, number):
    # Kingma & Ba, ICLR 2015, algorithm 1
    beta_1, beta_2, small = 0.9, 0.999, 1e-8
    first, second = memory
    first = beta_1 * first + (1 - beta_1) * gradient
    second = beta_2 * second + (1 - beta_2) * ops.square(gradient)
    time = ops.cast(number, "float32") + 1
    mean, spread = first / (1 - beta_1**time), second / (1 - beta_2**time)
    return mean / (ops.sqrt(spread) + small), (first, second)


STEEPEST = Step(_move_steepest)
LARGEST_ONE = Step(_move_largest)
ADAM = Step(_move_adam, memory=2)
