"""Attacks on batches of uint8 images.

Epsilons and perturbations are in gray levels, 1/255 of the range. B batch, H W size, *units and K
classes as in `units`.
"""

import math

import numpy as np
from keras import ops

from kerasdense.attacks import loop
from kerasdense.attacks.norms import NORMS
from kerasdense.attacks.units import Criterion, unit_outputs
from kerasdense.explain import gradients


class Attacker:
    """A function that attacks batches of images: see `__call__`.

    Args:
        model: a `keras.Model` of the package.
        task: what it is for, see `tasks.base`.
        attack: an `Attack`, such as `METHODS["pgd"]()`.
        criterion: a `Criterion`, whether labels are targets, and from which confidence they count.
        xla: whether to compile with XLA (TensorFlow).
        seed: of random starts.

    Raises: ValueError for a model that is not for the task.
    """

    def __init__(self, model, task, attack, criterion=Criterion(), xla=False, seed=0):
        self.model, self.attack, self.criterion = model, attack, criterion
        self.xla, self.seed = xla, seed
        logits = unit_outputs(model, task)
        *self._axes, self._classes = logits.shape[1:]
        self.logits_of = gradients.on_pixels(model, logits)

        def advance(state, first, last, *tensors):
            return loop.advance(self.problem(*tensors), attack, state, first, last)

        def finish(state, *tensors):
            return loop.finish(self.problem(*tensors), attack, state)

        self._advance = gradients.compiled(advance, model, xla)
        self._finish = gradients.compiled(finish, model, xla)

    def problem(self, images, labels, mask, epsilon, shared=False):
        """A `loop.Problem` of tensors."""
        return loop.Problem(
            self.logits_of, self.criterion, images, labels, mask, epsilon, shared=shared
        )

    def __call__(self, images, labels, epsilon=None, mask=None, start=None, progress=None):
        """Adversarial images uint8 [B, H, W, 3] (NumPy) of images uint8 [B, H, W, 3].

        Of the perturbations met on the way, the start among them, each image gets its best: that
        of the most units won, then of the highest loss; for `minimal` the shortest that wins
        enough. It is then rounded inside the ball.

        Args:
            labels: int [B, *units], truth or targets; others than 0 to K - 1 are left out.
            epsilon: radius of the ball in gray levels; None for attacks that are not bounded,
                which keep inside a ball only if one is given.
            mask: bool [H, W] or [B, H, W], pixels that may change; None: all.
            start: perturbation [B, H, W, 3] to begin with, instead of the attack's own start.
            progress: called with the number of steps done.

        Images without a unit that counts stay as they are.

        Raises: ValueError for arguments that are not as described; where no unit of the batch
            counts; where logits or gradients are not finite; and where no gradient reaches the
            images.
        """
        attack, norm = self.attack, NORMS[self.attack.norm]
        images, labels, known = self.checked(images, labels)
        epsilon = checked_epsilon(epsilon, attack)
        mask = checked_mask(mask, images)
        tensors = as_tensors(images, labels, mask, epsilon)
        if start is not None:
            r = _checked_start(start, images)
        elif attack.random_start:
            noise = np.random.default_rng(self.seed).uniform(-1, 1, images.shape)
            noise = noise.astype(np.float32)
            r = norm.start(ops.convert_to_tensor(noise * mask), tensors[-1])
        else:
            r = np.zeros(images.shape, np.float32)
        attacked = known[:, None, None, None].astype(np.float32)
        r = self.problem(*tensors).limited(attack, ops.convert_to_tensor(r) * attacked)

        state = loop.begin(attack, r)
        for first, last in _chunks(attack.steps, progress):
            state = self._advance(state, integer(first), integer(last), *tensors)
            if progress is not None:
                progress(last)
        state = self._finish(state, *tensors)
        check_gradients(state)
        best = ops.convert_to_numpy(state["best"])
        low, high = -images.astype(np.float64) * mask, (loop.HIGHEST - images) * mask
        return (images + norm.rounded(best, low, high, epsilon)).astype(np.uint8)

    def checked(self, images, labels):
        """Images and labels int32 as arrays, and which images have a unit that counts, bool [B].

        Raises: ValueError for images and labels that are not as described; where no unit counts.
        """
        images, labels = np.asarray(images), np.asarray(labels)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(
                f"images: expected uint8 [B, H, W, 3], received {images.dtype} {images.shape}"
            )
        # An axis of any length is one of the image's.
        axes = [known or side for known, side in zip(self._axes, images.shape[1:])]
        expected = (len(images), *axes)
        if labels.shape != expected or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(
                f"labels: expected integers {expected}, one for each unit of images "
                f"{images.shape}; received {labels.dtype} {labels.shape}"
            )
        labels = labels.astype(np.int32)
        known = ((labels >= 0) & (labels < self._classes)).reshape(len(labels), -1).any(axis=1)
        if not known.any():
            found = ", ".join(map(str, np.unique(labels)[:5]))
            raise ValueError(
                f"labels: no unit counts. Expected some of the classes 0 to {self._classes - 1}, "
                f"received only {found}"
            )
        return images, labels, known


def as_tensors(images, labels, mask, epsilon):
    """The arguments of `Attacker.problem`, from arrays and a number."""
    arrays = images.astype(np.float32), labels, mask, np.float32(epsilon)
    return [ops.convert_to_tensor(each) for each in arrays]


def integer(number):
    """A number that a compiled function takes as a tensor: others do not compile it again."""
    return ops.convert_to_tensor(number, "int32")


def _chunks(steps, progress):
    """(first, last) of the steps done in one go: all, or a twentieth if progress is asked for."""
    chunk = steps if progress is None else math.ceil(steps / 20)
    return [(first, min(first + chunk, steps)) for first in range(0, steps, chunk)]


def checked_epsilon(epsilon, attack):
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


def checked_mask(mask, images):
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


def check_gradients(state):
    """Raises where the loop met numbers that lead nowhere."""
    trouble = loop.TROUBLES[int(ops.convert_to_numpy(state["trouble"]))]
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
