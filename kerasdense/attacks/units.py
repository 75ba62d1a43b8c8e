"""What is attacked, whatever a model classifies one by one, and when an attack has succeeded.
"""

import math

import numpy as np
from keras import ops

from kerasdense.explain import gradients


OFFSETS = 4  # of SSD's raw output, after the class logits


LEAST_SCORE = 0.01  # from which a detection counts: Liu et al. 2016, sec. 2.4


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
