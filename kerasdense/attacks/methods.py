"""The attacks that there are, each put together from parts that know nothing of each other.

The parts are what a step raises (a loss and weights of units), how far it may go (the norm) and how
it moves (the step); the criterion and the bounds (pixels of 0 to 255) are those of `loop`, which
runs them all: FGSM is one turn of it. Epsilons and perturbations are in gray levels, 1/255 of the
range.
"""

import dataclasses
import math
from collections.abc import Callable

from kerasdense.attacks.losses import (
    cospgd_weights,
    cross_entropy,
    margin,
    segpgd_weights,
    uniform,
    unsuccessful,
)
from kerasdense.attacks.norms import NORMS
from kerasdense.attacks.steps import ADAM, LARGEST_ONE, STEEPEST, Step


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


def described(attack):
    """An `Attack` ready for JSON: functions by their names."""
    parts = {field.name: getattr(attack, field.name) for field in dataclasses.fields(attack)}
    parts["step"] = parts["step"].move
    return {
        name: part.__name__.lstrip("_") if callable(part) else part for name, part in parts.items()
    }
