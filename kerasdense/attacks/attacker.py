"""Attacks on uint8 images."""

import dataclasses
import math

import numpy as np
from keras import ops

from kerasdense.explain import gradients


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
