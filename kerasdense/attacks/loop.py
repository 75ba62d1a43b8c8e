"""The one loop that runs every attack.

It works on tensors, also inside another program such as a step of training. Perturbations `r` and
epsilons are in gray levels. B batch, H W size, *units and K classes as in `units`.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from keras import ops

from kerasdense.attacks.norms import NORMS, or_one
from kerasdense.attacks.units import Criterion, succeeded
from kerasdense.explain import gradients

HIGHEST = 255.0  # of a pixel; the lowest is 0
# Of the search for the shortest perturbation: the strength of the loss is the gray levels that
# its steepest pixel would settle at; it changes by this factor at each step.
FIRST_STRENGTH, STRENGTH_FACTOR = 64.0, 1.05
PULLING = 1.02  # so many times the units that are enough are striven for: some fall back
TROUBLES = ("", "logits", "gradients")  # what the loop found not to be finite


@dataclasses.dataclass(frozen=True)
class Problem:
    """What is attacked, as tensors.

    Attributes:
        logits_of: `(float images) -> logits [B, *units, K]`, such as `units.unit_logits` gives.
        criterion: a `Criterion`.
        images: float32 [B, H, W, 3].
        labels: int32 [B, *units].
        mask: float32 [B or 1, H, W, 1], 1 where pixels may change.
        epsilon: float32, infinite for no ball.
        shared: whether one perturbation [1, H, W, 3] is for all images. It then keeps in range
            by clipping the images it is added to, whose limits differ.
    """

    logits_of: Callable
    criterion: Criterion
    images: object
    labels: object
    mask: object
    epsilon: object
    shared: bool = False

    @classmethod
    def of(cls, logits_of, images, labels, epsilon, mask=None, criterion=Criterion()):
        """A problem of arrays or tensors of any type.

        `images` [B, H, W, 3], pixels of 0 to 255; `labels` int [B, *units], others than 0 to K - 1
        are left out; `epsilon`: gray levels, a number or a scalar tensor; `mask` [B or 1, H, W, 1],
        1 where pixels may change, None for all.
        """
        return cls(
            logits_of,
            criterion,
            ops.cast(images, "float32"),
            ops.cast(labels, "int32"),
            ops.cast(1.0 if mask is None else mask, "float32"),
            ops.cast(epsilon, "float32"),
        )

    def seen(self, r):
        """The images that the model sees."""
        images = self.images + r
        return ops.clip(images, 0.0, HIGHEST) if self.shared else images

    def limited(self, attack, r):
        """The perturbation inside ball, mask and range."""
        r = NORMS[attack.norm].project(r, self.epsilon)
        if self.shared:
            return ops.clip(r, -HIGHEST, HIGHEST) * self.mask
        return ops.clip(r, -self.images * self.mask, (HIGHEST - self.images) * self.mask)


def _sums(x):
    """Sums [B] over all axes but the first."""
    return ops.sum(x, axis=tuple(range(1, len(x.shape))))


def _wide(x):
    """[B] as [B, 1, 1, 1]."""
    return ops.reshape(x, (-1, 1, 1, 1))


def _outcome(problem, attack, logits, r):
    """How each image takes a perturbation, a dict.

    `success` and `losses` [B, *units], 0 where no unit counts; in a search, `easiest`, the units
    nearest to being won or won, hardly more than are enough; [B]: `fooled`, whether enough units
    are won, and `rank`, by which perturbations compare: of two, the better has the higher first
    number, or as high a one and a higher second. The first are the units won, up to those that
    are enough; the second is the loss, or in a search, once enough is won, the shortness.
    """
    success, known = succeeded(logits, problem.labels, problem.criterion)
    labels = ops.where(known, problem.labels, 0)
    losses = ops.where(known, attack.loss(logits, labels, problem.criterion), 0.0)
    won, number = (_sums(ops.cast(each, "float32")) for each in (success, known))
    enough = ops.ceil(attack.share * number - 1e-3)  # not one more where the product is rounded up
    fooled = won >= enough
    second = _sums(losses)
    outcome = {"success": success, "labels": labels, "losses": losses, "fooled": fooled}
    if attack.searches:
        pulling = ops.minimum(PULLING * enough, number)
        outcome["easiest"] = _easiest(ops.where(known, losses, -np.inf), pulling)
        second = ops.where(fooled, -_sums(ops.square(r)), second)
    return {**outcome, "rank": (ops.minimum(won, enough), second)}


def _easiest(losses, number):
    """The `number` [B] of units with the highest losses in each image, bool [B, *units]."""
    rows = ops.reshape(losses, (ops.shape(losses)[0], -1))
    last = ops.maximum(ops.cast(number, "int32") - 1, 0)
    falling = -ops.sort(-rows, axis=-1)
    least = ops.take_along_axis(falling, last[:, None], axis=-1)  # [B, 1]
    return ops.reshape(rows >= least, ops.shape(losses))


def _evaluated(problem, attack, r, number):
    """What a step raises, a scalar, and the `_outcome` by the way, from one run of the model."""
    if attack.whole:
        r = r + ops.stop_gradient(ops.round(r) - r)
    logits = problem.logits_of(problem.seen(r))
    outcome = _outcome(problem, attack, logits, r)
    labels, success, targeted = outcome["labels"], outcome["success"], problem.criterion.targeted
    weights = attack.weights(logits, labels, success, targeted, number, attack.steps)
    if attack.searches:  # what need not be won does not pull, as Rony et al. 2023 mask it
        weights = weights * ops.cast(outcome["easiest"], "float32")
    outcome["value"] = _sums(ops.stop_gradient(weights) * outcome["losses"])  # [B]
    outcome["seen"] = r
    return ops.sum(outcome["value"]), outcome


def _kept(state, outcome):
    """The state after the perturbation of an outcome, the best one of each image remembered."""
    first, second = outcome["rank"]
    better = (first > state["first"]) | ((first == state["first"]) & (second > state["second"]))
    return {
        **state,
        "best": ops.where(_wide(better), outcome["seen"], state["best"]),
        "first": ops.where(better, first, state["first"]),
        "second": ops.where(better, second, state["second"]),
        "open": ops.any(~outcome["fooled"]),
    }


def begin(attack, r, keeps_best=True):
    """The state before the first step.

    `r`; `memory` of the step rule; `slope`, the largest gradient so far [B]; `trouble`, which of
    TROUBLES was met first; `strength` [B] of the loss in a search; and where the best perturbation
    is remembered: `best`, its rank `first` and `second` [B], and whether an image is still `open`.
    """
    images = ops.shape(r)[0]
    state = {
        "r": r,
        "memory": tuple(ops.zeros_like(r) for _ in range(attack.step.memory)),
        "slope": ops.zeros((images,)),
        "trouble": ops.zeros((), dtype="int32"),
    }
    if attack.searches:
        state["strength"] = ops.full((images,), FIRST_STRENGTH)
    if keeps_best:
        state |= {
            "best": r,
            "first": ops.full((images,), -1.0),
            "second": ops.full((images,), -np.inf),
            "open": ops.ones((), dtype="bool"),
        }
    return state


def step(problem, attack, number, state):
    """The state after one more step."""
    r = state["r"]
    (_, outcome), gradient = gradients.value_and_gradient(
        lambda r: _evaluated(problem, attack, r, number), r
    )
    if "best" in state:
        state = _kept(state, outcome)
    steepest = ops.max(ops.abs(gradient), axis=(1, 2, 3))  # [B]
    trouble = ops.where(ops.all(ops.isfinite(steepest)), 0, 2)
    trouble = ops.where(ops.all(ops.isfinite(outcome["value"])), trouble, 1)
    state = {
        **state,
        "slope": ops.maximum(state["slope"], steepest),
        "trouble": ops.where(state["trouble"] > 0, state["trouble"], trouble),
    }
    size = attack.step_size * problem.epsilon if attack.bounded else attack.step_size
    if attack.searches:
        state, gradient, size = _toward_shortest(attack, state, gradient, outcome, number)
    # What may not change takes no part in a direction's length.
    gradient = gradient * problem.mask
    direction, memory = attack.step.move(gradient, attack.norm, state["memory"], number)
    r = problem.limited(attack, r + size * direction)
    return {**state, "r": r, "memory": memory}


def _toward_shortest(attack, state, gradient, outcome, number):
    """The state, the gradient with that of the length, and the step size of a search."""
    strength = state["strength"] * ops.where(
        outcome["fooled"], 1 / STRENGTH_FACTOR, STRENGTH_FACTOR
    )
    # The largest slope so far, not this one: as fewer units are left to win, less pulls.
    gradient = _wide(strength / or_one(state["slope"])) * gradient - state["r"]
    size = attack.step_size * (1 - ops.cast(number, "float32") / attack.steps)
    return {**state, "strength": strength}, gradient, size


def advance(problem, attack, state, first, last):
    """The state after the steps from `first` to `last`, as tensors."""

    def goes_on(number, state):
        return (number < last) & state["open"] if attack.stops else number < last

    def body(number, state):
        return number + 1, step(problem, attack, number, state)

    return ops.while_loop(goes_on, body, (first, state))[1]


def finish(problem, attack, state):
    """The state after the last step, whose perturbation is compared with the best, too."""
    return _kept(state, _evaluated(problem, attack, state["r"], attack.steps)[1])


def search(problem, attack, noise=None):
    """The bare loop, for use inside another program such as a step of training.

    Args:
        problem: a `Problem`, such as `Problem.of` gives.
        attack: an `Attack` that is bounded.
        noise: float [B, H, W, 3] of -1 to 1, for attacks with a random start.

    Returns the perturbation after the last step, not rounded: float32 [B, H, W, 3].
    """
    if attack.random_start:
        start = NORMS[attack.norm].start(noise * problem.mask, problem.epsilon)
        r = problem.limited(attack, start)
    else:
        r = ops.zeros_like(problem.images)
    one_step = functools.partial(step, problem, attack)
    state = ops.fori_loop(0, attack.steps, one_step, begin(attack, r, keeps_best=False))
    return ops.stop_gradient(state["r"])
