"""What attacks did, counted, as text and as pictures.

`Tally` makes a report of `judge.Example`s, ready for JSON; `table` tells it; `picture` shows one of
them. B batch, H W size; a unit is what the model classifies one by one, see `units`.
"""

import math
from pathlib import Path

import numpy as np

from kerasdense.attacks.judge import distances
from kerasdense.drawing import pictures
from kerasdense.metrics.tables import number
from kerasdense.tasks.base import SURE

WHEN = ("before", "after")
CLEAN = "the clean prediction"
DISTANCES = ("l2", "linf", "mean", "psnr")
SUMMED = (
    "counted", "reached_before", "reached", "fooled", "changed", "to_change", "changed_as_wanted",
    "counted_outside", "reached_outside", "objects", "objects_reached",
)  # fmt: skip
VISIBLE = 100  # gray levels that large changes have in a picture of the perturbation
NARROW = 300  # pixels; narrower pictures are enlarged, so that captions fit


class Tally:
    """Counts examples into a report that is ready for JSON.

    Args:
        task: the model's, see `tasks.base`.
        image_share: share of an image's units that must be reached for the image to count as
            reached; None is the task's.
    """

    def __init__(self, task, image_share=None):
        self.task = task
        self.image_share = task.image_share if image_share is None else image_share
        self.rows, self.wrong_confidence = [], 0.0
        self.targeted = None  # known once there is an example
        self.counts = dict.fromkeys(WHEN)  # sums of `Task.attack_counts`

    def add(self, example):
        """Counts an `Example` and returns its row of the report, ready for JSON."""
        counted, reached = example.counted, example.attacked.success & example.counted
        before = example.clean.success & counted
        fooled = reached & ~before
        changed = (example.clean.prediction != example.attacked.prediction) & counted
        self.targeted = example.goal.targeted
        confidence = float(example.attacked.confidence[fooled].sum(dtype=np.float64))
        self.wrong_confidence += confidence
        row = {
            "file_name": example.sample["file_name"],
            "adversarial": example.path and example.path.name,
            "counted": int(counted.sum()),
            "reached_before": int(before.sum()),
            "reached": int(reached.sum()),
            "fooled": int(fooled.sum()),
            "changed": int(changed.sum()),
            "wrong_confidence": ratio(confidence, fooled.sum()),
            "measured_against": "the truth" if self._knows_truth(example) else CLEAN,
        }
        if example.goal.targeted:
            to_change = counted & (example.labels != example.clean.prediction)
            row["to_change"] = int(to_change.sum())
            row["changed_as_wanted"] = int((to_change & reached).sum())
        region = example.sample.get("region")
        if region is not None and region.shape == counted.shape:  # units are pixels
            row["counted_outside"] = int((counted & ~region).sum())
            row["reached_outside"] = int((reached & ~region).sum())
        seen = {"before": example.clean, "after": example.attacked}
        counts = {when: self.task.attack_counts(example, view) for when, view in seen.items()}
        self._count(counts)
        objects = self.task.objects_reached(example)
        if objects is None:
            row["image_reached"] = self._is_reached(counted.sum(), before.sum(), reached.sum())
            figures = self._figures(counts)
            row |= {name: figures[name] for name in self.task.accuracies}
        else:
            row |= {"objects": len(objects), "objects_reached": int(objects.sum())}
            row["image_reached"] = self._is_reached(len(objects), 0, objects.sum())
        away = distances(example.sample["image"][None], example.adversarial[None])
        row |= {name: number(away[name][0]) for name in DISTANCES}
        self.rows.append(row)
        return row

    def result(self):
        """The report so far, a dict ready for JSON.

        `success` tells of all counted units the share that reached the goal `before` and after
        the attack (`by_pixel`, `by_anchor` or `by_label`); the share `fooled`, which did not
        reach it before and does now; and the share `changed`, whose prediction is another.
        `by_image`: of the images with something to reach, those where `image_share` of it was
        reached: of all their units and of those that were not there before, or of their objects.
        `of_wanted_changes`: under a target, of the units that were predicted as something else.
        `by_object`: see `objects_reached` of the task. What is undefined is None.
        """
        if not self.rows:
            raise ValueError("Nothing to report: no image was attacked.")
        total = {key: sum(row[key] for row in self.rows) for key in SUMMED if key in self.rows[0]}
        images = [row["image_reached"] for row in self.rows if row["image_reached"] is not None]
        unit = self.task.unit
        success = {
            f"by_{unit}": ratio(total["reached"], total["counted"]),
            "before": ratio(total["reached_before"], total["counted"]),
            "fooled": ratio(total["fooled"], total["counted"]),
            "changed": ratio(total["changed"], total["counted"]),
            "by_image": ratio(sum(images), len(images)),
            "image_share": self.image_share,
            "images_with_something_to_reach": len(images),
        }
        if "counted_outside" in total:
            outside = ratio(total["reached_outside"], total["counted_outside"])
            success[f"by_{unit}_outside_the_region"] = outside
        if self.targeted:
            success["of_wanted_changes"] = ratio(total["changed_as_wanted"], total["to_change"])
        if "objects" in total:
            success["by_object"] = ratio(total["objects_reached"], total["objects"])
            success["objects"] = total["objects"]
        return {
            "images": len(self.rows),
            "targeted": self.targeted,
            f"counted_{unit}s": total["counted"],
            "success": success,
            "measured_against": " and ".join(
                sorted({row["measured_against"] for row in self.rows})
            ),
            **self._figures(self.counts),
            "wrong_confidence": ratio(self.wrong_confidence, total["fooled"]),
            "distance": {name: _spread([row[name] for row in self.rows]) for name in DISTANCES},
            "unchanged_images": sum(row["linf"] == 0 for row in self.rows),
        }

    def _knows_truth(self, example):
        return self.task.truth in example.sample

    def _is_reached(self, counted, before, after):
        """Whether an image is reached; None if there is nothing to reach in it."""
        if counted == before:
            return None
        share = min(after / counted, (after - before) / (counted - before))
        return bool(share >= self.image_share)

    def _count(self, counts):
        for when, more in counts.items():
            sofar = self.counts[when]
            self.counts[when] = more if sofar is None else sofar + more

    def _figures(self, counts):
        """What the task says of `counts`, {when: counts}: {name: {when: value}}."""
        found = {when: self.task.attack_figures(counts[when]) for when in WHEN}
        return {name: {when: found[when][name] for when in WHEN} for name in found["before"]}


def ratio(part, whole):
    """A share as a float, None of nothing."""
    return float(part) / float(whole) if whole else None


def _spread(values):
    """Mean, least and largest of the values that are numbers."""
    values = [value for value in values if value is not None]
    if not values:
        return {"mean": None, "least": None, "largest": None}
    return {"mean": float(np.mean(values)), "least": min(values), "largest": max(values)}


def table(task, result):
    """The result of a `Tally` of the task as text: before and after the attack, in per cent."""
    success, far = result["success"], result["distance"]
    rows = {figure_name(name): result[name].values() for name in task.accuracies}
    what = f"{task.unit}s as wanted" if result["targeted"] else f"wrong {task.unit}s"
    rows[what] = success["before"], success[f"by_{task.unit}"]
    if result["targeted"]:
        rows["of the wanted changes"] = 0.0, success["of_wanted_changes"]
    if "by_object" in success:
        rows[f"objects as wanted, of {success['objects']}"] = 0.0, success["by_object"]
    images = success["images_with_something_to_reach"]
    rows[f"images reached, of {images}"] = 0.0, success["by_image"]
    width = max(map(len, rows))
    lines = [f"{'in %':<{width}}  {'before':>7}  {'after':>7}"]
    for name, values in rows.items():
        numbers = [percent(value) for value in values]
        lines.append(f"{name:<{width}}  {numbers[0]:>7}  {numbers[1]:>7}")
    psnr, confidence = far["psnr"]["mean"], result["wrong_confidence"]
    lines += [
        f"accuracies are against {result['measured_against']}; an image is reached if "
        f"{100 * success['image_share']:g} % of it is",
        f"perturbation, mean of {result['images']} images: L2 {far['l2']['mean']:.1f}, "
        f"Linf {far['linf']['mean']:.1f} gray levels"
        + ("" if psnr is None else f", PSNR {psnr:.1f} dB"),
    ]
    if "by_object" in success:
        lines.append(
            f"objects are boxes of score {SURE:g} or more; mean AP ranks boxes of lower scores, too"
        )
    if not images:
        lines.append("nothing was to be reached in any image: it was all there before, or absent")
    outside = success.get(f"by_{task.unit}_outside_the_region")
    if outside is not None:
        lines.append(f"{what} outside the region that may change: {percent(outside)} %")
    if confidence is not None:
        lines.append(f"mean confidence where the model was fooled: {100 * confidence:.1f} %")
    return "\n".join(lines)


def figure_name(name):
    """`mean_iou` as text, "mean IoU"."""
    return name.replace("_", " ").replace("iou", "IoU").replace("ap", "AP")


def picture(task, example, row, amplify=None):
    """Image, its prediction, adversarial image, its prediction, perturbation: uint8 [h, w, 3].

    `row`: what `Tally.add` returned for the example; `amplify`: factor of the perturbation, which
    is drawn on gray; None chooses one that shows it.
    """
    image, changed = example.sample["image"], example.adversarial
    difference = changed.astype(np.int32) - image
    factor = amplify or visible_factor(difference)
    wish, before, after = _captions(task, row, example.goal)
    psnr = "" if row["psnr"] is None else f", {row['psnr']:.1f} dB"
    columns = {
        f"{Path(row['file_name']).name}{wish}": image,
        f"prediction{before}": _seen(task, image, example.clean),
        f"adversarial: Linf {row['linf']:.0f}, L2 {row['l2']:.0f}{psnr}": changed,
        f"its prediction{after}": _seen(task, changed, example.attacked),
        f"perturbation x {factor:g} (gray: none)": pictures.amplified(difference, factor),
    }
    grid = pictures.gallery([[_enlarged(each) for each in columns.values()]], list(columns))
    if example.clean.prediction.ndim != 2:
        return grid  # only a map needs a legend
    shown = np.unique([example.clean.prediction, example.attacked.prediction])
    names, colors = ([of_class[i] for i in shown] for of_class in (task.class_names, task.palette))
    return pictures.gallery([[grid], [pictures.legend(names, colors, grid.shape[1])]])


def visible_factor(difference):
    """Factor by which a difference of pictures is amplified to be seen, a whole number.

    By the 99th percentile of what changed: a few pixels that stand out do not hide the others.
    """
    changed = np.abs(difference[difference != 0])
    large = np.percentile(changed, 99) if changed.size else 1
    return max(1, int(VISIBLE // large))


def _captions(task, row, goal):
    """What the captions of the image and of the two predictions add."""
    wish, class_names = "", task.class_names
    if goal.moves:
        pairs = [f"{class_names[old]} to {class_names[new]}" for old, new in goal.moves.items()]
        wish = f": {', '.join(pairs)}"
    if "objects" in row:
        done = "moved" if goal.moves else "gone"
        return wish, f": {row['objects']} objects", f": {row['objects_reached']} of them {done}"
    accuracy = row[task.accuracies[0]]
    before, after = (f"{percent(accuracy[when], 1)} %" for when in WHEN)
    if row["measured_against"] == CLEAN:
        before, after = "", f" ({after} as before)"
    else:
        before, after = f" ({before} right)", f" ({after} right)"
    if goal.targeted:
        share = ratio(row["changed_as_wanted"], row["to_change"])
        sure = f" at {100 * goal.confidence:g} % or more" if goal.confidence else ""
        after = f": {percent(share, 1)} % of the wanted change{sure}"
    return wish, before, after


def _seen(task, image, view):
    """A picture of a view; boxes on a larger image, so that small ones can be told apart."""
    return task.view_picture(image if view.detections is None else _enlarged(image), view)


def percent(value, digits=2):
    """A share as text, "-" for None."""
    return "-" if value is None else f"{100 * value:.{digits}f}"


def _enlarged(image):
    """Twice as large if it is so narrow that captions would not fit."""
    factor = math.ceil(NARROW / image.shape[1])
    return image.repeat(factor, axis=0).repeat(factor, axis=1)
