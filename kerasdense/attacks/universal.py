"""One perturbation for all images, int16 [H, W, 3]: found on some, added to others.

B batch, H W size, *units as in `units`; gray levels.
"""

import numpy as np
from keras import ops

from kerasdense.attacks import loop
from kerasdense.attacks.attacker import (
    as_tensors,
    check_gradients,
    checked_epsilon,
    checked_mask,
    integer,
)
from kerasdense.attacks.judge import by_size
from kerasdense.attacks.norms import NORMS
from kerasdense.explain import gradients


def universal(attacker, batches, epsilon, mask=None, progress=None):
    """One perturbation for all images of a set: int16 [H, W, 3], see `apply`.

    Each batch moves it by one step of the attack, along the gradient of the sum over its images.

    Args:
        attacker: an `Attacker`, whose attack is bounded. The attack's steps are the times that the
            batches are gone through; its random start does not matter.
        batches: (images uint8 [B, H, W, 3], labels int [B, *units]), a list or a tf.data.Dataset,
            all images of one size.
        epsilon: gray levels.
        mask: bool [H, W], pixels that may change.
        progress: called with the number of batches done.

    Raises: ValueError for arguments that are not as described.

    Reference: Moosavi-Dezfooli et al., "Universal adversarial perturbations", CVPR 2017; by
    gradients as in Shafahi et al., "Universal adversarial training", AAAI 2020, sec. 3.
    """
    attack = attacker.attack
    if not attack.bounded:
        raise ValueError(
            "universal: expected an attack that is bounded by an epsilon, such as pgd; dag and "
            "minimal are not."
        )
    radius = checked_epsilon(epsilon, attack)

    def one_step(state, number, *tensors):
        return loop.step(attacker.problem(*tensors, shared=True), attack, number, state)

    one_step = gradients.compiled(one_step, attacker.model, attacker.xla)
    state, size, done = None, None, 0
    for number in range(attack.steps):
        for images, labels in batches:
            images, labels, _ = attacker.checked(images, labels)
            if state is None:
                size, mask = images.shape[1:], checked_mask(mask, images[:1])
                state = loop.begin(attack, ops.zeros((1, *size)), keeps_best=False)
            if images.shape[1:] != size:
                raise ValueError(
                    f"universal: expected images of one size, received {size[:2]} and "
                    f"{images.shape[1:3]}"
                )
            tensors = as_tensors(images, labels, mask, radius)
            state = one_step(state, integer(number), *tensors)
            check_gradients(state)
            done += 1
            if progress is not None:
                progress(done)
        if done == 0 or done % (number + 1):
            raise ValueError(
                "batches: expected at least one, and the same ones in each pass. A generator is "
                "empty after the first pass: give a list or a tf.data.Dataset."
            )
    r = ops.convert_to_numpy(state["r"])
    limit = loop.HIGHEST * mask * np.ones_like(r)
    return NORMS[attack.norm].rounded(r, -limit, limit, radius)[0].astype(np.int16)


def apply(images, perturbation):
    """Images uint8 [B, H, W, 3] changed by an int perturbation [(B,) H, W, 3], within 0 to 255."""
    return np.clip(np.asarray(images, np.int32) + perturbation, 0, 255).astype(np.uint8)


def adding(perturbation):
    """A function that adds one perturbation [H, W, 3], called as an `Attacker` is.

    It raises ValueError for images of another size.
    """

    def attack_batch(images, labels, **options):
        if images.shape[1:] != perturbation.shape:
            raise ValueError(
                f"The universal perturbation has the size {perturbation.shape[:2]}, but an image "
                f"{images.shape[1:3]}. Choose images of one size."
            )
        return apply(images, perturbation)

    return attack_batch


def gathered(judge, samples, batch_size):
    """What `universal` is to be found on: its batches, a list, and the mask (None: all pixels).

    Args:
        judge: a `Judge`, whose goal is that of the attack.
        samples: as `Judge` takes them, all of one size and with the same region, if any.
        batch_size: B.

    Raises: ValueError for images of several sizes, or if no unit of any image counts.
    """
    batches, region = [], None
    for group in by_size(samples, batch_size):
        batch = judge.look(group)
        if not batch.counted.any():
            continue
        if batches and batch.images.shape[1:] != batches[0][0].shape[1:]:
            raise ValueError(
                f"A universal perturbation has one size for all images, received images of "
                f"{batches[0][0].shape[1:3]} and {batch.images.shape[1:3]}. Choose others."
            )
        batches.append((batch.images, batch.labels.astype(np.int16)))
        region = group[0].get("region")
    if not batches:
        raise ValueError("Nothing can be attacked: no unit of any image counts.")
    return batches, region
