"""Robustness curves: what attacks of rising epsilon leave of a model's accuracy.

E epsilons, in gray levels.
"""

import math
import time

import numpy as np

from kerasdense.attacks.judge import Progress, by_size
from kerasdense.attacks.methods import described
from kerasdense.attacks.report import Tally, figure_name, percent


def robustness_curve(judge, attacker, samples, epsilons, batch_size=1, progress=None):
    """What remains of the model's accuracy under attacks of rising epsilon, over a whole split.

    An example within a smaller epsilon is one within a larger epsilon, too. So the attack of each
    image starts from its best example so far, and where the larger epsilon does no better, that
    example is kept: more epsilon never means fewer units (for a detector: objects) reached. For
    an untargeted attack these are the wrong pixels, and accuracy never rises. Epsilon 0, the
    clean picture, is the first point.

    Args:
        judge: a `Judge`.
        attacker: of that judge, its attack one with an epsilon.
        samples: an iterable of samples as `Judge` takes them; sizes may differ.
        epsilons: in gray levels, rising; under the maximum norm 1 or more, as a file of uint8
            holds no fraction of a level.
        batch_size: images that are attacked at once, of one size.
        progress: a `Progress` over the images, each as often as there are epsilons.

    Returns: a dict ready for JSON: `epsilons` [E], from 0; `points`, for each of them
        `Tally.result()`; `norm`, `attack`, `seconds`.
    Raises: ValueError if epsilons do not rise or are too small, or there are no samples.
    """
    attack, started = attacker.attack, time.perf_counter()
    epsilons = _rising(epsilons, attack.norm)
    progress = progress or Progress(None, attack, shown=False)
    tallies = [Tally(judge.task) for _ in range(1 + len(epsilons))]
    for group in by_size(samples, batch_size):
        batch = judge.look(group)
        best, start = judge.judge(batch, batch.images), None
        _add(tallies[0], best)
        for epsilon, tally in zip(epsilons, tallies[1:]):
            advance = progress.of_batch(len(group))
            found = judge.attack(batch, attacker, epsilon=epsilon, start=start, progress=advance)
            advance()  # also of images that were left as they are
            best = [
                new if _reached(judge.task, new) > _reached(judge.task, old) else old
                for new, old in zip(found, best)
            ]
            start = np.stack([each.adversarial for each in best]).astype(np.int32) - batch.images
            _add(tally, best)
    return {
        "norm": attack.norm,
        "attack": described(attack),
        "epsilons": [0.0, *epsilons],
        "points": [tally.result() for tally in tallies],
        "seconds": time.perf_counter() - started,
    }


def _reached(task, example):
    """What grows with success: objects; wrong units, if they are wanted; units that count."""
    view, objects = example.attacked, task.objects_reached(example)
    return (
        0 if objects is None else objects.sum(),
        0 if example.goal.targeted else (view.prediction != example.labels)[example.counted].sum(),
        view.success[example.counted].sum(),
    )


def _add(tally, examples):
    for example in examples:
        tally.add(example)


def _rising(epsilons, norm):
    epsilons = [float(epsilon) for epsilon in epsilons]
    least = 1 if norm == "linf" else 0
    if (
        not epsilons
        or min(epsilons) < least
        or min(epsilons) <= 0
        or not math.isfinite(max(epsilons))
        or (np.diff(epsilons) <= 0).any()
    ):
        raise ValueError(
            f"A robustness curve needs rising epsilons "
            f"{'of 1 gray level or more (uint8 holds no fraction)' if least else 'above 0'}, "
            f"received {epsilons}."
        )
    return epsilons


def table(task, curve):
    """The result of `robustness_curve` as text, a line an epsilon, accuracies in per cent."""
    names = task.accuracies
    columns = [*map(figure_name, names)] + ["images reached"]
    lines = [f"{'epsilon':>8}  " + "  ".join(f"{name:>14}" for name in columns)]
    for epsilon, point in zip(curve["epsilons"], curve["points"]):
        values = [point[name]["after"] for name in names] + [point["success"]["by_image"]]
        numbers = [percent(value) for value in values]
        lines.append(f"{epsilon:>8g}  " + "  ".join(f"{number:>14}" for number in numbers))
    return "\n".join(lines)


def chart(task, curve, title):
    """The result of `robustness_curve` as a chart: a figure of `drawing.charts`."""
    from kerasdense.drawing import charts

    points, drawn = curve["points"], {}
    for name in task.accuracies:
        values = [point[name]["after"] for point in points]
        if None not in values:
            drawn[figure_name(name)] = values
    by_object = [point["success"].get("by_object") for point in points]
    if None not in by_object:
        drawn["objects not reached"] = [1 - value for value in by_object]
    name = "largest change of a pixel" if curve["norm"] == "linf" else "L2 norm of the change"
    note = f"{points[0]['images']} images, against {points[0]['measured_against']}"
    x_name = f"epsilon: {name}, gray levels"
    return charts.lines(title, curve["epsilons"], drawn, x_name, "after the attack", note)
