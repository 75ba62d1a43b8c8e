"""Losses of units, which an attack raises, and their weights: both float [B, *units].

They take `logits` [B, *units, K] and `labels` int [B, *units], of any class where a unit does not
count. A loss takes a `units.Criterion`; weights take where the attack has succeeded, bool
[B, *units], whether it is targeted, and the number of the step, from 0, of how many.
"""

import math

import numpy as np
from keras import ops


def cross_entropy(logits, labels, criterion):
    """Cross-entropy with the labels; with targets its negative."""
    losses = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    return -losses if criterion.targeted else losses


def margin(logits, labels, criterion):
    """How far the wanted class leads: above 0 just where the attack succeeds.

    Without confidence a difference of logits: of the target, or the best class but the truth,
    and of the best other. With confidence p, z - logsumexp(others) - logit(p), which is 0 where
    the wanted class has the probability p.

    Reference: Carlini & Wagner, "Towards evaluating the robustness of neural networks", S&P 2017,
    sec. V.A (objective f6); Xie et al. 2017, eq. 1.
    """
    targeted, confidence = criterion.targeted, criterion.confidence
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
