"""What an attack did, as text and pictures: tables, Fig. 5 of the paper, robustness curves.

All of it is made of what `robustness` returns; see there for the terms.
"""

import math
from pathlib import Path

import numpy as np

from kerasdense.drawing import pictures
from kerasdense.tasks.evaluation import SURE, labelled_picture
from kerasdense.attacks.judge import CLEAN, FIGURES, UNITS, WHEN, ratio, sure_detections

VISIBLE = 100  # gray levels that large changes have in a picture of the perturbation
NARROW = 300  # pixels; narrower pictures are enlarged, so that captions fit


def table(result):
    """The result of a `Tally` as text: what was before and after the attack, in per cent."""
    success, far = result["success"], result["distance"]
    rows = {figure_name(name): result[name].values() for name in FIGURES if name in result}
    (unit,) = set(UNITS.values()) & {name.removeprefix("by_") for name in success}
    what = f"{unit}s as wanted" if result["targeted"] else f"wrong {unit}s"
    rows[what] = success["before"], success[f"by_{unit}"]
    if result["targeted"]:
        rows["of the wanted changes"] = 0.0, success["of_wanted_changes"]
    if "by_object" in success:
        rows[f"objects as wanted, of {success['objects']}"] = 0.0, success["by_object"]
    images = success["images_with_something_to_reach"]
    rows[f"images reached, of {images}"] = 0.0, success["by_image"]
    width = max(map(len, rows))
    lines = [f"{'in %':<{width}}  {'before':>7}  {'after':>7}"]
    for name, values in rows.items():
        numbers = [_percent(value) for value in values]
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
    outside = success.get("by_pixel_outside_the_region")
    if outside is not None:
        lines.append(f"{what} outside the region that may change: {_percent(outside)} %")
    if confidence is not None:
        lines.append(f"mean confidence where the model was fooled: {100 * confidence:.1f} %")
    return "\n".join(lines)


def curve_table(curve):
    """The result of `robustness_curve` as text, a line an epsilon, accuracies in per cent."""
    names = [name for name in FIGURES if name in curve["points"][0]]
    columns = [figure_name(name) for name in names] + ["images reached"]
    lines = [f"{'epsilon':>8}  " + "  ".join(f"{name:>14}" for name in columns)]
    for epsilon, point in zip(curve["epsilons"], curve["points"]):
        values = [point[name]["after"] for name in names] + [point["success"]["by_image"]]
        numbers = [_percent(value) for value in values]
        lines.append(f"{epsilon:>8g}  " + "  ".join(f"{number:>14}" for number in numbers))
    return "\n".join(lines)


def figure_name(name):
    """`mean_iou` as text, "mean IoU"."""
    return name.replace("_", " ").replace("iou", "IoU").replace("ap", "AP")


def curve_picture(curve, title):
    """The result of `robustness_curve` as a chart: uint8 [h, w, 3]."""
    points, drawn = curve["points"], {}
    for name in FIGURES:
        values = [point.get(name, {}).get("after") for point in points]
        if None not in values:
            drawn[figure_name(name)] = values
    by_object = [point["success"].get("by_object") for point in points]
    if None not in by_object:
        drawn["objects not reached"] = [1 - value for value in by_object]
    name = "largest change of a pixel" if curve["norm"] == "linf" else "L2 norm of the change"
    note = f"{points[0]['images']} images, against {points[0]['measured_against']}"
    x_name = f"epsilon: {name}, gray levels"
    return pictures.lines_picture(title, curve["epsilons"], drawn, x_name, "after the attack", note)


def picture(example, row, class_names, palette, amplify=None):
    """Image, its prediction, adversarial image, its prediction, perturbation: uint8 [h, w, 3].

    `row`: what `Tally.add` returned for the example; `amplify`: factor of the perturbation, which
    is drawn on gray; None chooses one that shows it.
    """
    image, changed = example.sample["image"], example.adversarial
    difference = changed.astype(np.int32) - image
    factor = amplify or visible_factor(difference)
    wish, before, after = _captions(row, example.goal, class_names)
    psnr = "" if row["psnr"] is None else f", {row['psnr']:.1f} dB"
    columns = {
        f"{Path(row['file_name']).name}{wish}": image,
        f"prediction{before}": _seen(image, example.clean, class_names, palette),
        f"adversarial: Linf {row['linf']:.0f}, L2 {row['l2']:.0f}{psnr}": changed,
        f"its prediction{after}": _seen(changed, example.attacked, class_names, palette),
        f"perturbation x {factor:g} (gray: none)": pictures.amplified(difference, factor),
    }
    grid = pictures.gallery([[_enlarged(each) for each in columns.values()]], list(columns))
    if example.clean.prediction.ndim != 2:
        return grid
    shown = np.unique([example.clean.prediction, example.attacked.prediction])
    names, colors = [class_names[i] for i in shown], [palette[i] for i in shown]
    return pictures.gallery([[grid], [pictures.legend(names, colors, grid.shape[1])]])


def visible_factor(difference):
    """Factor by which a difference of pictures is amplified to be seen, a whole number.

    By the 99th percentile of what changed: a few pixels that stand out do not hide the others.
    """
    changed = np.abs(difference[difference != 0])
    large = np.percentile(changed, 99) if changed.size else 1
    return max(1, int(VISIBLE // large))


def _captions(row, goal, class_names):
    """What the captions of the image and of the two predictions add."""
    wish = ""
    if goal.moves:
        pairs = [f"{class_names[old]} to {class_names[new]}" for old, new in goal.moves.items()]
        wish = f": {', '.join(pairs)}"
    if "objects" in row:
        done = "moved" if goal.moves else "gone"
        return wish, f": {row['objects']} objects", f": {row['objects_reached']} of them {done}"
    name = "pixel_accuracy" if "pixel_accuracy" in row else "label_accuracy"
    before, after = (f"{_percent(row[name][when], 1)} %" for when in WHEN)
    if row["measured_against"] == CLEAN:
        before, after = "", f" ({after} as before)"
    else:
        before, after = f" ({before} right)", f" ({after} right)"
    if goal.targeted:
        share = ratio(row["changed_as_wanted"], row["to_change"])
        sure = f" at {100 * goal.confidence:g} % or more" if goal.confidence else ""
        after = f": {_percent(share, 1)} % of the wanted change{sure}"
    return wish, before, after


def _seen(image, view, class_names, palette):
    """A picture of a view: overlay, boxes, or the image alone with the labels' names below."""
    if view.detections is not None:
        sure = sure_detections(view.detections)
        # Larger, so that tags can be read and small boxes told apart.
        return pictures.draw_boxes(
            _enlarged(image), sure["boxes"], sure["labels"], class_names, palette, sure["scores"]
        )
    if view.prediction.ndim == 2:
        return pictures.overlay(image, view.prediction, palette)
    present = np.where(view.prediction == 1, view.confidence, 1 - view.confidence)
    return labelled_picture(image, view.prediction, present, class_names)


def _percent(value, digits=2):
    return "-" if value is None else f"{100 * value:.{digits}f}"


def _enlarged(image):
    """Twice as large if it is so narrow that captions would not fit."""
    factor = math.ceil(NARROW / image.shape[1])
    return image.repeat(factor, axis=0).repeat(factor, axis=1)
