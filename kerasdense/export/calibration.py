"""The pictures that an export in int8 is fitted to, of a folder or of a prepared dataset.

B batch, H W size.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np

from kerasdense.data.images import find_images
from kerasdense.drawing import pictures
from kerasdense.export.predictor import filled_up

PICTURES = 100  # that ranges are taken from, where there are as many, evenly spaced
JUDGED = 40  # others of a dataset, that the accuracy is measured on


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What an export in int8 is fitted to.

    Attributes:
        batches: list of uint8 [B, H, W, 3], pictures like those that the export is for, whose
            activations tell the ranges that int8 is to cover.
        judged: how many other pictures there are whose truth is known.
        accuracy: `(predict, places) -> number from 0 to 1`, that of `Predictor.predict` on those of
            them at `places`, a list of indices; None where these hold nothing to be found.
    """

    batches: list
    judged: int = 0
    accuracy: Callable | None = None


def of_folder(folder, task, model, form):
    """The `Calibration` by the image files of a folder, or one file; it knows no accuracy.

    `task`: of the `model`; `form`: `signatures.Form` of the export, which may fix sizes.
    Raises: ValueError if there is none, or for one that cannot be read.
    """
    files = find_images([folder])
    size = form.size or task.image_size_of(model)
    chosen = (pictures.load_picture(file) for file in files[:: _step(len(files), PICTURES)])
    resized = (pictures.resized(each, size) if size else each for each in chosen)
    return Calibration([_repeated(each, form) for each in resized])


def of_dataset(builder, split, task, model, form):
    """The `Calibration` by pictures of a split, with the accuracy on others of them.

    `builder`: a prepared dataset, see `data.datasets.load`; the others as of `of_folder`.
    Where the export is fixed to a size that segmented pictures do not have they are resized, and no
    accuracy is known: label maps are not to be resized.
    """
    warped = task.image_size_of(model)
    samples = task.eval_batches(builder, split, warped and (form.size or warped))
    step = max(2, _step(len(samples), PICTURES))  # the others are to be judged
    others = len(samples) - -(-len(samples) // step)
    judged_step = _step(others, JUDGED)

    def is_taken(place, _):
        among_others = place - place // step - 1
        return place % step == 0 or among_others % judged_step == 0

    batches, kept, is_resized = [], [], False  # kept, as NNCF asks often
    for place, sample in samples.enumerate().filter(is_taken):
        if place % step:
            kept.append(sample)
            continue
        picture = sample["image"][0].numpy()
        if form.size and picture.shape[:2] != form.size:
            picture, is_resized = pictures.resized(picture, form.size), True
        batches.append(_repeated(picture, form))
    if is_resized or not kept:
        return Calibration(batches)

    def accuracy(predict, places):
        filled = functools.partial(filled_up, predict, fixed=form.batch_size)
        chosen = Batches([kept[place] for place in places])
        try:
            found = task.measure(filled, chosen, worst=0, verbose=0).result[task.accuracy]
        except ValueError:  # no object, or difficult ones alone
            return None
        return None if math.isnan(found) else found  # every pixel is ignored

    return Calibration(batches, len(kept), accuracy)


class Batches(list):
    """Samples in memory, as `Task.measure` reads those of a tf.data.Dataset."""

    def cardinality(self):
        return len(self)


def _repeated(picture, form):
    """A picture as a batch of as many as the form fixes, which takes no more memory."""
    return np.broadcast_to(picture, (form.batch_size or 1, *picture.shape))


def _step(count, wanted):
    """Every how many-th of `count` pictures is taken, so that at most `wanted` are."""
    return max(1, math.ceil(count / wanted))
