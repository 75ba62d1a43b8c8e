"""Whether XLA makes an export faster, measured on the spot."""

import dataclasses

import numpy as np
import tensorflow as tf

from kerasdense.benchmarks.turns import in_turns, print_milliseconds, times_as_fast
from kerasdense.export.parity import random_picture
from kerasdense.export.signatures import serve
from kerasdense.tasks.base import reason

PAYS = 1.05  # times as fast, below which compiling at each start is not worth it
TURNS = 7


def is_faster(model, task, form):
    """Whether an export as `form` says answers faster where XLA compiles its network.

    `form`: of a SavedModel with fixed batch size, and size where the network has none of its own.
    Prints what was measured: a call with a random picture, both in turns.
    """
    size = form.size or task.image_size_of(model)
    images = tf.constant(np.repeat(random_picture(size)[None], form.batch_size, axis=0))

    def caller(xla):
        answer = serve(model, task, dataclasses.replace(form, xla=xla)).serving_default
        return lambda: [value.numpy() for value in answer(images).values()]

    compiled = caller(True)
    try:
        compiled()
    except tf.errors.OpError as error:
        print(f"XLA off: it cannot compile this network: {reason(error)}")
        return False
    seconds = in_turns({"without": caller(False), "with XLA": compiled}, TURNS)
    print_milliseconds(seconds)
    ratio = times_as_fast("with XLA", "without", seconds)
    pays = ratio >= PAYS
    print(f"XLA {'on' if pays else 'off'}: {ratio:.2f} times as fast with it")
    return pays
