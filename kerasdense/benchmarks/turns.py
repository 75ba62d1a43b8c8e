"""Alternatives that take turns: their ratio then holds on a machine whose speed drifts."""

import statistics
import time


def in_turns(alternatives, turns, warm_up=1):
    """Seconds of every turn, {name: [...]}, of functions {name: function} called alternately.

    The first `warm_up` turns, in which caches fill and graphs are traced, do not count.
    """
    seconds = {name: [] for name in alternatives}
    for turn in range(-warm_up, turns):
        for name, run in alternatives.items():
            began = time.perf_counter()
            run()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def times_as_fast(name, other, seconds):
    """Median ratio over the turns: 2 if `name` takes half the time of `other`."""
    return statistics.median(theirs / ours for ours, theirs in zip(seconds[name], seconds[other]))


def print_milliseconds(seconds):
    """Prints and returns the medians over the turns, {name: milliseconds}."""
    medians = {name: 1000 * statistics.median(times) for name, times in seconds.items()}
    for name, milliseconds in medians.items():
        print(f"{name:<18} {milliseconds:8.1f} ms")
    return medians
