"""How far a perturbation may go: norms. Epsilons and perturbations are in gray levels.

B batch, H W size.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from keras import ops


@dataclasses.dataclass(frozen=True)
class Norm:
    """How far: functions of perturbations [B, H, W, 3] and a radius.

    Attributes:
        project: `(r, radius) -> r` into the ball.
        direction: `(gradient) -> direction` of length 1 that raises a linear function most.
        start: `(noise, radius) -> r` in the ball, from noise of -1 to 1.
        rounded: `(r, low, high, radius) -> int` in the ball and from low to high (NumPy).
    """

    project: Callable
    direction: Callable
    start: Callable
    rounded: Callable


def largest(x):
    """The largest absolute value in each image: [B, 1, 1, 1]."""
    return ops.max(ops.abs(x), axis=(1, 2, 3), keepdims=True)


def or_one(x):
    """A divisor: x, or 1 where it is 0 (and what it divides is, too)."""
    return ops.where(x > 0, x, 1.0)


def _unit_length(x):
    x = x / or_one(largest(x))  # first, for the squares of small gradients are 0 in float32
    return x / or_one(ops.sqrt(ops.sum(ops.square(x), axis=(1, 2, 3), keepdims=True)))


def _l2_project(r, radius):
    length = ops.sqrt(ops.sum(ops.square(r), axis=(1, 2, 3)))[:, None, None, None]
    return ops.where(length > radius, r * (radius / or_one(length)), r)


def _round_each(r, low, high, radius):
    return np.clip(np.rint(r), np.maximum(low, -radius), np.minimum(high, radius))


def _round_l2(r, low, high, radius):
    """The whole numbers of most inner product with r that are as long as r, but in the ball.

    Of all whole numbers of their length or less, round(s r) has the largest inner product with r;
    the largest such s is found by bisection. Rounding r itself would leave nothing of a
    perturbation that is spread over many pixels, each by less than half a gray level.
    """
    return np.stack([_round_one(*each, radius) for each in zip(r.astype(np.float64), low, high)])


def _round_one(r, low, high, radius):
    length = min(np.sqrt(np.sum(np.square(r))), radius) * (1 + 1e-6)
    highest = np.abs(r).max()
    if not highest:
        return r

    def scaled(factor):
        return np.clip(np.rint(factor * r), low, high)

    below, above = 0.0, (np.abs(high - low).max() + 1) / highest
    best = np.zeros_like(r)
    for _ in range(40):
        middle = (below + above) / 2
        candidate = scaled(middle)
        size = np.sqrt(np.sum(np.square(candidate)))
        if size <= length and size <= radius:
            below, best = middle, candidate
        else:
            above = middle
    return best


NORMS = {
    "linf": Norm(
        project=lambda r, radius: ops.clip(r, -radius, radius),
        direction=ops.sign,
        start=lambda noise, radius: noise * radius,
        rounded=_round_each,
    ),
    "l2": Norm(
        project=_l2_project,
        direction=_unit_length,
        start=lambda noise, radius: _unit_length(noise) * radius,
        rounded=_round_l2,
    ),
}
