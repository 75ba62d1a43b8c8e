"""Adversarial examples: small changes of images that change what a model says of them.

What is attacked are *units*, whatever the model classifies one by one: the pixels of a
segmentation model, the anchors of an SSD, the labels of a multi-label classifier (two classes
each: absent, present). An attack is put together from parts that know nothing of each other: the
criterion (`succeeded`), the norm (how far), the bounds (pixels of 0 to 255) and the step (how to
move). One loop of `_step` runs them all; FGSM is one turn of it.

Epsilons and perturbations are in gray levels, 1/255 of the range. Legend: B batch, H W size,
*units one or two axes (H W, or A anchors, or C labels), K classes of a unit.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np
from keras import ops

from kerasdense import gradients

HIGHEST = 255.0  # of a pixel; the lowest is 0
OFFSETS = 4  # of SSD's raw output, after the class logits
LEAST_SCORE = 0.01  # from which a detection counts: Liu et al. 2016, sec. 2.4


# ---- what is attacked


def unit_logits(model):
    """The model as a function of float images [B, H, W, 3] to float32 logits [B, *units, K].

    Segmentation [B, H, W, C]; SSD [B, A, C + 1], background first; a multi-label classifier
    [B, C, 2], absent (always 0) and present.

    Raises: ValueError for a model with another output.
    """
    output = _output(model)
    rank = len(output.shape) if hasattr(output, "shape") else 0
    if rank == 4:
        cut = _identity
    elif rank == 3 and output.shape[-1] >= OFFSETS + 2:
        cut = _without_offsets
    elif rank == 2:
        cut = _absent_and_present
    else:
        raise ValueError(
            f'The model "{model.name}" gives {_described(output)}. Expected logits [B, H, W, C] '
            f'(or a dict with them as "logits"), SSD\'s [B, A, C + 1 + 4] or labels [B, C].'
        )
    function = gradients.on_pixels(model, output)
    return lambda images: cut(ops.cast(function(images), "float32"))


def _output(model):
    """The symbolic output of the model that is attacked."""
    output = model.output
    return output["logits"] if isinstance(output, dict) and "logits" in output else output


def _described(output):
    return f"an output {tuple(output.shape)}" if hasattr(output, "shape") else f"{output!r:.80}"


def _identity(logits):
    return logits


def _without_offsets(raw):
    return raw[..., :-OFFSETS]


def _absent_and_present(logits):
    return ops.stack([ops.zeros_like(logits), logits], axis=-1)


def moved(labels, moves):
    """Labels with classes turned into others: `moved(mask, {road: sky})`; the rest is kept."""
    labels = np.asarray(labels)
    targets = labels.astype(np.int32)
    for old, new in moves.items():
        targets[labels == old] = new
    return targets


def detection_targets(raw, suppress=False, moves=None, score=0.5):
    """Classes that an attack on an SSD aims at: int32 [B, A], 0 = background, -1 = left out.

    Args:
        raw: the model's output for the clean images, float [B, A, C + 1 + 4].
        suppress: let every anchor say background, so that nothing is found.
        moves: {class: wanted class}, counted with background as 0. Anchors that give the class at
            least `score` are to say the wanted one. Their neighbors, which say background but
            give it 0.01 or more, are to keep saying so: else they would find the object in
            their place. All others are left out.
        score: probability, 0 to 1.

    Raises: ValueError unless one of `suppress` and `moves` is given.
    """
    if bool(suppress) == bool(moves):
        raise ValueError(
            f"Expected either suppress=True or moves={{class: class}}, received "
            f"suppress={suppress!r} and moves={moves!r}."
        )
    logits = np.asarray(raw, np.float64)[..., :-OFFSETS]  # [B, A, C + 1]
    if suppress:
        return np.zeros(logits.shape[:-1], np.int32)
    probabilities = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities /= probabilities.sum(axis=-1, keepdims=True)
    predicted = logits.argmax(axis=-1)
    targets = np.full(logits.shape[:-1], -1, np.int32)
    for old in moves:
        weak = (predicted == 0) | (predicted == old)
        targets[weak & (probabilities[..., old] >= LEAST_SCORE)] = 0
    for old, new in moves.items():  # last, for an anchor may be weak in one class and sure of one
        targets[probabilities[..., old] >= score] = new
    return targets


# ---- criterion


def counted(logits, labels):
    """Which units count, bool [B, *units]: those whose label is one of the K classes."""
    return (labels >= 0) & (labels < logits.shape[-1])


def succeeded(logits, labels, targeted=False, confidence=None):
    """Where an attack has what it wants: (success, counted), bool [B, *units] each.

    Args:
        logits: float [B, *units, K].
        labels: int [B, *units]; others than 0 to K - 1 (255 in masks, -1) count for nothing.
        targeted: whether labels are the classes to reach, rather than the truth to get away from.
        confidence: least probability of the predicted class, that of the target or the wrong one.
    """
    labels = ops.cast(labels, "int32")
    known = counted(logits, labels)
    predicted = ops.cast(ops.argmax(logits, axis=-1), "int32")
    success = (predicted == labels) if targeted else (predicted != labels)
    if confidence is not None:
        sure = ops.max(logits, axis=-1) - ops.logsumexp(logits, axis=-1)  # [B, *units]
        success = success & (sure >= math.log(confidence))
    return success & known, known


# ---- losses of units, which an attack raises: float [B, *units]


def cross_entropy(logits, labels, targeted, confidence):
    """Cross-entropy with the labels; with targets its negative."""
    losses = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    return -losses if targeted else losses


def margin(logits, labels, targeted, confidence):
    """How far the wanted class leads: above 0 just where the attack succeeds.

    Without confidence a difference of logits: of the target, or the best class but the truth,
    and of the best other. With confidence p, z - logsumexp(others) - logit(p), which is 0 where
    the wanted class has the probability p.

    Reference: Carlini & Wagner, "Towards evaluating the robustness of neural networks", S&P 2017,
    sec. V.A (objective f6); Xie et al. 2017, eq. 1.
    """
    here = ops.one_hot(labels, logits.shape[-1], dtype="bool")  # [B, *units, K]
    own = ops.max(ops.where(here, logits, -np.inf), axis=-1)
    best_other = ops.max(ops.where(here, -np.inf, logits), axis=-1)
    lead = own - best_other if targeted else best_other - own
    if confidence is None:
        return lead
    wanted = here if targeted else logits == best_other[..., None]
    z = own if targeted else best_other
    others = ops.logsumexp(ops.where(wanted, -np.inf, logits), axis=-1)
    return ops.minimum(lead, z - others - math.log(confidence / (1 - confidence)))


# ---- weights of units: float [B, *units]; step counts from 0


def uniform(logits, labels, success, targeted, step, steps):
    """All units alike."""
    return ops.ones_like(logits[..., 0])


def segpgd_weights(logits, labels, success, targeted, step, steps):
    """1 - lambda where the attack has not succeeded yet, lambda where it has; it grows to 1/2.

    Reference: Gu et al., "SegPGD", ECCV 2022, sec. 3.2: lambda of step t = 1 to T is
    (t - 1) / (2 T).
    """
    share = ops.cast(step, "float32") / (2 * ops.cast(steps, "float32"))
    return ops.where(success, share, 1 - share)


def cospgd_weights(logits, labels, success, targeted, step, steps):
    """Cosine of the probabilities and the one-hot label; with targets, 1 less it.

    Reference: Agnihotri et al., "CosPGD", ICML 2024, sec. 3.
    """
    probabilities = ops.softmax(logits)
    here = ops.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    cosine = ops.sum(probabilities * here, axis=-1) / ops.sqrt(
        ops.sum(ops.square(probabilities), axis=-1)
    )
    return 1 - cosine if targeted else cosine


def unsuccessful(logits, labels, success, targeted, step, steps):
    """Only units that the attack has not won yet.

    Reference: Xie et al. 2017, algorithm 1 (the active set).
    """
    return ops.cast(~success, "float32")


# ---- norms


@dataclasses.dataclass(frozen=True)
class Norm:
    """How far: functions of perturbations [B, H, W, 3] and a radius.

    Attributes:
        length: `(r) -> [B]`.
        project: `(r, radius) -> r` into the ball.
        direction: `(gradient) -> direction` of length 1 that raises a linear function most.
        start: `(noise, radius) -> r` in the ball, from noise of -1 to 1.
        rounded: `(r, low, high, radius) -> int` in the ball and from low to high (NumPy).
    """

    length: Callable
    project: Callable
    direction: Callable
    start: Callable
    rounded: Callable


def _largest(x):
    return ops.max(ops.abs(x), axis=(1, 2, 3), keepdims=True)  # [B, 1, 1, 1]


def _or_one(x):
    """A divisor: x, or 1 where it is 0 (and what it divides is, too)."""
    return ops.where(x > 0, x, 1.0)


def _unit_length(x):
    x = x / _or_one(_largest(x))  # first, for the squares of small gradients are 0 in float32
    return x / _or_one(ops.sqrt(ops.sum(ops.square(x), axis=(1, 2, 3), keepdims=True)))


def _l2(r):
    return ops.sqrt(ops.sum(ops.square(r), axis=(1, 2, 3)))


def _l2_project(r, radius):
    length = _l2(r)[:, None, None, None]
    return ops.where(length > radius, r * (radius / _or_one(length)), r)


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
    largest = np.abs(r).max()
    if not largest:
        return r

    def scaled(factor):
        return np.clip(np.rint(factor * r), low, high)

    below, above = 0.0, (np.abs(high - low).max() + 1) / largest
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
        length=lambda r: ops.max(ops.abs(r), axis=(1, 2, 3)),
        project=lambda r, radius: ops.clip(r, -radius, radius),
        direction=ops.sign,
        start=lambda noise, radius: noise * radius,
        rounded=_round_each,
    ),
    "l2": Norm(
        length=_l2,
        project=_l2_project,
        direction=_unit_length,
        start=lambda noise, radius: _unit_length(noise) * radius,
        rounded=_round_l2,
    ),
}


# ---- steps


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
    return gradient / _or_one(_largest(gradient)), memory


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


# ---- attacks


@dataclasses.dataclass(frozen=True)
class Attack:
    """The parts of an attack.

    Attributes:
        norm: "linf" or "l2".
        loss: of each unit, what the attack raises: `cross_entropy` or `margin`.
        weights: of each unit: `uniform`, `segpgd_weights`, `cospgd_weights`, `unsuccessful`.
        step: `STEEPEST`, `LARGEST_ONE` or `ADAM`.
        steps: how many.
        step_size: as a part of epsilon; gray levels where the attack is not bounded.
        random_start: whether to begin at random in the ball.
        bounded: whether it needs an epsilon.
        whole: whether the model sees perturbations rounded to whole gray levels at every step,
            and gradients pass the rounding as if it were not there. What is won then stays won
            in a picture of uint8.
        stops: whether to end as soon as all units have succeeded.
        searches: whether to look for the shortest perturbation, see `minimal`.
        share: part of an image's counted units that such a search has to win.
    """

    norm: str
    loss: Callable
    weights: Callable
    step: Step
    steps: int
    step_size: float
    random_start: bool = False
    bounded: bool = True
    whole: bool = False
    stops: bool = False
    searches: bool = False
    share: float = 1.0

    def __post_init__(self):
        if self.norm not in NORMS:
            raise ValueError(f"norm: expected one of {tuple(NORMS)}, received {self.norm!r}")
        if not isinstance(self.steps, int) or self.steps < 1:
            raise ValueError(f"steps: expected an int of at least 1, received {self.steps!r}")
        if not 0 < self.step_size < math.inf:
            raise ValueError(f"step_size: expected a number above 0, received {self.step_size!r}")
        if not 0 < self.share <= 1:
            raise ValueError(
                f"share: expected a number above 0 and at most 1, received {self.share!r}"
            )


DEFAULT_STEPS = 20  # of PGD and its kin, here; the papers take 3 to 100
# Madry et al. 2018, caption of fig. 6: a step of 2.5 epsilon / steps reaches the border of the
# ball from everywhere in it and leaves steps to move along it.
REACH = 2.5
DAG_STEPS, DAG_STEP = 200, 0.5  # Xie et al. 2017, sec. 3.3
# Of the search for the shortest perturbation: the strength of the loss is the gray levels that
# its steepest pixel would settle at; it changes by this factor at each step.
FIRST_STRENGTH, STRENGTH_FACTOR = 64.0, 1.05
PULLING = 1.02  # so many times the units that are enough are striven for: some fall back


def fgsm(norm="linf", steps=None):
    """One step to the border along the gradient's sign (its direction for L2).

    Reference: Goodfellow et al., "Explaining and harnessing adversarial examples", ICLR 2015,
    sec. 4.
    """
    if steps not in (None, 1):
        raise ValueError(f"steps: fgsm is one step, received {steps!r}; pgd takes more")
    return Attack(norm, cross_entropy, uniform, STEEPEST, steps=1, step_size=1.0)


def pgd(norm="linf", steps=None, step_size=None, random_start=True):
    """Projected gradient ascent of the cross-entropy from a random start.

    Args:
        norm: "linf" or "l2".
        steps: default 20.
        step_size: as a part of epsilon; default 2.5 / steps, at most 1.
        random_start: whether to begin at random in the ball.

    Reference: Madry et al., "Towards deep learning models resistant to adversarial attacks",
    ICLR 2018, sec. 2.1.
    """
    steps = DEFAULT_STEPS if steps is None else steps
    size = min(1.0, REACH / max(steps, 1)) if step_size is None else step_size
    return Attack(norm, cross_entropy, uniform, STEEPEST, steps, size, random_start)


def segpgd(norm="linf", steps=None, step_size=None, random_start=True):
    """PGD that looks first at the pixels it has not won yet; arguments as of `pgd`.

    Reference: Gu et al., "SegPGD: An effective and efficient adversarial attack for evaluating
    and boosting segmentation robustness", ECCV 2022, algorithm 1.
    """
    attack = pgd(norm, steps, step_size, random_start)
    return dataclasses.replace(attack, weights=segpgd_weights)


def cospgd(norm="linf", steps=None, step_size=None, random_start=True):
    """PGD whose pixels weigh by how well they agree with their label; arguments as of `pgd`.

    Reference: Agnihotri et al., "CosPGD: an efficient white-box adversarial attack for pixel-wise
    prediction tasks", ICML 2024, sec. 3.
    """
    attack = pgd(norm, steps, step_size, random_start)
    return dataclasses.replace(attack, weights=cospgd_weights)


def dag(norm="linf", steps=None, step_size=DAG_STEP):
    """Raises the margin of the units not won yet, until there are none; no ball holds it.

    With targets the margin is over what the model says instead, which at first is mostly the
    paper's other class, the truth.

    Args:
        norm: of the ball, where an epsilon is given nevertheless.
        steps: at most; default 200.
        step_size: gray levels that the most changed pixel moves in a step.

    Reference: Xie et al., "Adversarial examples for semantic segmentation and object detection",
    ICCV 2017, algorithm 1.
    """
    steps = DAG_STEPS if steps is None else steps
    return Attack(
        norm, margin, unsuccessful, LARGEST_ONE, steps, step_size, bounded=False, whole=True,
        stops=True,
    )  # fmt: skip


def minimal(norm="l2", steps=None, step_size=0.5, share=0.99):
    """Looks for the shortest perturbation in L2 that wins `share` of an image's counted units.

    Adam lowers |r|^2 - c * (sum of the margins not won yet), c is found for each image: it grows
    by 5 % at every step at which too few units are won, and shrinks as much at the others.
    (The paper bisects c between whole runs, which takes far more steps for the same
    length.) The steps become smaller towards the end.

    Args:
        norm: "l2", the only one.
        steps: default 200.
        step_size: gray levels that a pixel moves at the first step.
        share: at least 0.99 of the pixels count as the whole map in Rony et al., "Proximal
            splitting adversarial attack for semantic segmentation", CVPR 2023, sec. 4.

    Reference: Szegedy et al., "Intriguing properties of neural networks", ICLR 2014, sec. 4.1
    (the problem); Carlini & Wagner, "Towards evaluating the robustness of neural networks",
    S&P 2017, sec. VI.A (margin and Adam).
    """
    if norm != "l2":
        raise ValueError(f"norm: minimal measures by l2 only, received {norm!r}")
    steps = 200 if steps is None else steps
    return Attack(
        norm, margin, unsuccessful, ADAM, steps, step_size, bounded=False, whole=True,
        searches=True, share=share,
    )  # fmt: skip


METHODS = {
    "fgsm": fgsm,
    "pgd": pgd,
    "segpgd": segpgd,
    "cospgd": cospgd,
    "dag": dag,
    "minimal": minimal,
}


# ---- the loop


@dataclasses.dataclass(frozen=True)
class Problem:
    """What is attacked, as tensors; functions as of `attacker`.

    Attributes:
        logits_of: `(float images) -> logits`.
        goal: (targeted, confidence).
        images: float32 [B, H, W, 3].
        labels: int32 [B, *units].
        mask: float32 [B or 1, H, W, 1], 1 where pixels may change.
        epsilon: float32, infinite for no ball.
        shared: whether one perturbation [1, H, W, 3] is for all images. It then keeps in range
            by clipping the images it is added to, whose limits differ.
    """

    logits_of: Callable
    goal: tuple
    images: object
    labels: object
    mask: object
    epsilon: object
    shared: bool = False

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
    success, known = succeeded(logits, problem.labels, *problem.goal)
    labels = ops.where(known, problem.labels, 0)
    losses = ops.where(known, attack.loss(logits, labels, *problem.goal), 0.0)
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
    weights = attack.weights(
        logits, outcome["labels"], outcome["success"], problem.goal[0], number, attack.steps
    )
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


def _begin(attack, r, keeps_best=True):
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


def _step(problem, attack, number, state):
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
    gradient = _wide(strength / _or_one(state["slope"])) * gradient - state["r"]
    size = attack.step_size * (1 - ops.cast(number, "float32") / attack.steps)
    return {**state, "strength": strength}, gradient, size


def _advance(problem, attack, state, first, last):
    """The state after the steps from `first` to `last`, as tensors."""

    def goes_on(number, state):
        return (number < last) & state["open"] if attack.stops else number < last

    def body(number, state):
        return number + 1, _step(problem, attack, number, state)

    return ops.while_loop(goes_on, body, (first, state))[1]


def search(
    logits_of,
    images,
    labels,
    attack,
    epsilon,
    noise=None,
    mask=None,
    targeted=False,
    confidence=None,
):
    """The bare loop, for use inside another program such as a step of training.

    Args:
        logits_of: `(float images) -> logits [B, *units, K]`, such as `unit_logits` gives.
        images: [B, H, W, 3], pixels of 0 to 255.
        labels: int [B, *units]; others than 0 to K - 1 are left out.
        attack: an `Attack` that is bounded.
        epsilon: gray levels, a number or a scalar tensor.
        noise: float [B, H, W, 3] of -1 to 1, for attacks with a random start.
        mask: [B or 1, H, W, 1], 1 where pixels may change.

    Returns the perturbation after the last step, not rounded: float32 [B, H, W, 3].
    """
    problem = Problem(
        logits_of,
        (targeted, confidence),
        ops.cast(images, "float32"),
        ops.cast(labels, "int32"),
        ops.cast(1.0 if mask is None else mask, "float32"),
        ops.cast(epsilon, "float32"),
    )
    if attack.random_start:
        start = NORMS[attack.norm].start(noise * problem.mask, problem.epsilon)
        r = problem.limited(attack, start)
    else:
        r = ops.zeros_like(problem.images)
    step = functools.partial(_step, problem, attack)
    state = ops.fori_loop(0, attack.steps, step, _begin(attack, r, keeps_best=False))
    return ops.stop_gradient(state["r"])


# ---- attacks on uint8 images


def attacker(model, attack, targeted=False, confidence=None, xla=False):
    """A function that attacks batches of images; see `attack_batch` in it.

    Args:
        model: segmentation model, SSD or multi-label classifier.
        attack: an `Attack`, such as `METHODS["pgd"]()`.
        targeted: whether labels are classes to reach, rather than the truth to get away from.
        confidence: least probability of the wrong class for success, 0 to 1.
        xla: whether to compile with XLA (TensorFlow).

    Raises: ValueError for another model or confidence.
    """
    logits_of = unit_logits(model)
    goal = (targeted, _checked_confidence(confidence))
    norm = NORMS[attack.norm]

    def advance(state, first, last, *tensors):
        return _advance(Problem(logits_of, goal, *tensors), attack, state, first, last)

    def judge(state, *tensors):
        problem = Problem(logits_of, goal, *tensors)
        return _kept(state, _evaluated(problem, attack, state["r"], attack.steps)[1])

    advance = gradients.compiled(advance, model, xla)
    judge = gradients.compiled(judge, model, xla)

    def attack_batch(images, labels, epsilon=None, mask=None, seed=0, start=None, progress=None):
        """Adversarial images uint8 [B, H, W, 3] (NumPy) of images uint8 [B, H, W, 3].

        Of the perturbations met on the way, the start among them, each image gets its best: that
        of the most units won, then of the highest loss; for `minimal` the shortest that wins
        enough. It is then rounded inside the ball.

        Args:
            labels: int [B, *units], truth or targets; others than 0 to K - 1 are left out.
            epsilon: radius of the ball in gray levels; None for attacks that are not bounded,
                which keep inside a ball only if one is given.
            mask: bool [H, W] or [B, H, W], pixels that may change; None: all.
            seed: of the random start.
            start: perturbation [B, H, W, 3] to begin with instead.
            progress: called with the number of steps done.

        Images without a unit that counts stay as they are.

        Raises: ValueError for arguments that are not as described; where no unit of the batch
            counts; where logits or gradients are not finite; and where no gradient reaches the
            images.
        """
        images = _checked_images(images)
        labels = _checked_labels(labels, model, images)
        epsilon = _checked_epsilon(epsilon, attack)
        mask = _checked_mask(mask, images)
        tensors = [
            ops.convert_to_tensor(each)
            for each in (images.astype(np.float32), labels, mask, np.float32(epsilon))
        ]
        if start is not None:
            r = _checked_start(start, images)
        elif attack.random_start:
            noise = np.random.default_rng(seed).uniform(-1, 1, images.shape).astype(np.float32)
            r = norm.start(ops.convert_to_tensor(noise * mask), tensors[-1])
        else:
            r = np.zeros(images.shape, np.float32)
        attacked = _known(labels, model)[:, None, None, None].astype(np.float32)
        problem = Problem(logits_of, goal, *tensors)
        r = problem.limited(attack, ops.convert_to_tensor(r) * attacked)

        state = _begin(attack, r)
        for first, last in _chunks(attack.steps, progress):
            state = advance(state, _integer(first), _integer(last), *tensors)
            if progress is not None:
                progress(last)
        state = judge(state, *tensors)
        _check_gradients(state)
        best = ops.convert_to_numpy(state["best"])
        low, high = -images.astype(np.float64) * mask, (HIGHEST - images) * mask
        return (images + norm.rounded(best, low, high, epsilon)).astype(np.uint8)

    return attack_batch


def _integer(number):
    return ops.convert_to_tensor(number, "int32")


def _chunks(steps, progress):
    """(first, last) of the steps done in one go: all, or a twentieth if progress is asked for."""
    chunk = steps if progress is None else math.ceil(steps / 20)
    return [(first, min(first + chunk, steps)) for first in range(0, steps, chunk)]


def universal(
    model,
    attack,
    batches,
    epsilon,
    passes=5,
    targeted=False,
    confidence=None,
    mask=None,
    xla=False,
    progress=None,
):
    """One perturbation for all images of a set: int16 [H, W, 3], see `apply`.

    Each batch moves it by one step of the attack, along the gradient of the sum over its images.

    Args:
        model, attack, targeted, confidence, xla: as of `attacker`; the attack is bounded, its
            number of steps and random start do not matter.
        batches: (images uint8 [B, H, W, 3], labels int [B, *units]), gone through `passes` times:
            a list or a tf.data.Dataset, all images of one size.
        epsilon: gray levels.
        mask: bool [H, W], pixels that may change.
        progress: called with the number of batches done.

    Raises: ValueError for arguments that are not as described.

    Reference: Moosavi-Dezfooli et al., "Universal adversarial perturbations", CVPR 2017; by
    gradients as in Shafahi et al., "Universal adversarial training", AAAI 2020, sec. 3.
    """
    if not attack.bounded:
        raise ValueError(
            "universal: expected an attack that is bounded by an epsilon, such as pgd; dag and "
            "minimal are not."
        )
    if not isinstance(passes, int) or passes < 1:
        raise ValueError(f"passes: expected an int of at least 1, received {passes!r}")
    logits_of = unit_logits(model)
    goal = (targeted, _checked_confidence(confidence))
    radius = _checked_epsilon(epsilon, attack)
    attack = dataclasses.replace(attack, steps=passes)

    def step(state, number, *tensors):
        return _step(Problem(logits_of, goal, *tensors, shared=True), attack, number, state)

    step = gradients.compiled(step, model, xla)
    state, size, done = None, None, 0
    for number in range(passes):
        for images, labels in batches:
            images = _checked_images(images)
            labels = _checked_labels(labels, model, images)
            _known(labels, model)
            if state is None:
                size, mask = images.shape[1:], _checked_mask(mask, images[:1])
                state = _begin(attack, ops.zeros((1, *size)), keeps_best=False)
            if images.shape[1:] != size:
                raise ValueError(
                    f"universal: expected images of one size, received {size[:2]} and "
                    f"{images.shape[1:3]}"
                )
            tensors = (images.astype(np.float32), labels, mask, np.float32(radius))
            state = step(state, _integer(number), *map(ops.convert_to_tensor, tensors))
            _check_gradients(state)
            done += 1
            if progress is not None:
                progress(done)
        if done == 0 or done % (number + 1):
            raise ValueError(
                "batches: expected at least one, and the same ones in each pass. A generator is "
                "empty after the first pass: give a list or a tf.data.Dataset."
            )
    r = ops.convert_to_numpy(state["r"])
    limit = HIGHEST * mask * np.ones_like(r)
    return NORMS[attack.norm].rounded(r, -limit, limit, radius)[0].astype(np.int16)


def apply(images, perturbation):
    """Images uint8 [B, H, W, 3] changed by an int perturbation [(B,) H, W, 3], within 0 to 255."""
    return np.clip(np.asarray(images, np.int32) + perturbation, 0, 255).astype(np.uint8)


# ---- checks

TROUBLES = ("", "logits", "gradients")


def _checked_confidence(confidence):
    if confidence is not None and not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a number between 0 and 1, received {confidence!r}")
    return confidence


def _checked_images(images):
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(
            f"images: expected uint8 [B, H, W, 3], received {images.dtype} {images.shape}"
        )
    return images


def _checked_labels(labels, model, images):
    """int32 [B, *units]."""
    labels, output = np.asarray(labels), _output(model)
    expected = images.shape[:3] if len(output.shape) == 4 else (len(images), output.shape[1])
    if labels.shape != expected or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels: expected integers {expected}, one for each unit of images {images.shape}; "
            f"received {labels.dtype} {labels.shape}"
        )
    return labels.astype(np.int32)


def _known(labels, model):
    """Which images have a unit that counts, bool [B]."""
    output = _output(model)
    classes = {4: output.shape[-1], 3: output.shape[-1] - OFFSETS, 2: 2}[len(output.shape)]
    known = ((labels >= 0) & (labels < classes)).reshape(len(labels), -1).any(axis=1)
    if not known.any():
        found = ", ".join(map(str, np.unique(labels)[:5]))
        raise ValueError(
            f"labels: no unit counts. Expected some of the classes 0 to {classes - 1}, received "
            f"only {found}"
        )
    return known


def _checked_epsilon(epsilon, attack):
    """The radius, a float, infinite for none."""
    if epsilon is None and not attack.bounded:
        return math.inf
    if epsilon is None or not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon: expected gray levels above 0, received {epsilon!r}")
    if attack.norm == "l2":
        return float(epsilon)
    if epsilon < 1:
        raise ValueError(
            f"epsilon: expected at least 1 gray level, received {epsilon!r}: uint8 images hold no "
            "smaller change"
        )
    return float(math.floor(epsilon))


def _checked_mask(mask, images):
    """float32 [B or 1, H, W, 1]."""
    if mask is None:
        return np.ones((1, *images.shape[1:3], 1), np.float32)
    mask = np.asarray(mask)
    if mask.shape not in (images.shape[1:3], images.shape[:3]):
        raise ValueError(
            f"mask: expected {images.shape[1:3]} or {images.shape[:3]}, received {mask.shape}"
        )
    if not mask.any():
        raise ValueError("mask: no pixel may change; expected some that are True")
    return mask.astype(bool).reshape(-1, *images.shape[1:3], 1).astype(np.float32)


def _checked_start(start, images):
    start = np.asarray(start, np.float32)
    if start.shape != images.shape or not np.isfinite(start).all():
        raise ValueError(
            f"start: expected a finite perturbation {images.shape}, received {start.shape}"
        )
    return start


def _check_gradients(state):
    """Raises where the loop met numbers that lead nowhere."""
    trouble = TROUBLES[int(ops.convert_to_numpy(state["trouble"]))]
    if trouble:
        raise ValueError(
            f"The attack met {trouble} that are not finite (NaN or infinite). The model's weights "
            "are damaged, or its numbers leave the range of its precision."
        )
    if "open" in state and state["open"] and not ops.convert_to_numpy(state["slope"]).any():
        raise ValueError(
            "No gradient reaches the images: it was 0 in all pixels at every step. Either a layer "
            "rounds, or the model is so sure that float32 holds no gradient of the cross-entropy."
        )
