"""Results as JSON holds them, and as text: a line a class, then the means, in per cent."""

import math


def percent(value):
    """A share as text, "absent" for None."""
    return "absent" if value is None else f"{100 * value:.2f}"


def number(value):
    """A float for JSON, None where it is not finite."""
    return float(value) if math.isfinite(value) else None


def average_precisions(found, class_names):
    """What an average precision says, by class name, ready for JSON.

    Args:
        found: of `average_precision.voc_average_precision` or `label_average_precision`.
        class_names: list of str.

    Returns a dict of `mean_ap_area`, `mean_ap_11point`, `absent_classes`, and by class name
    `ap_area` and `ap_11point` (None for a class without objects).
    """
    result = {
        "mean_ap_area": found.mean_ap_area,
        "mean_ap_11point": found.mean_ap_11point,
        "absent_classes": found.absent_classes,
    }
    for key in ("ap_area", "ap_11point"):
        values = [number(getattr(each, key)) for each in found.classes]
        result[key] = dict(zip(class_names, values))
    return result


def curves(found, class_names):
    """The curves of an average precision: {class name: (recall [N], precision [N])}."""
    return {name: (each.recall, each.precision) for name, each in zip(class_names, found.classes)}


def average_precision_table(result, columns):
    """Average precisions as text, with counts by `columns`, {heading: key of `result`}."""
    width = max(len("mean AP"), *(len(name) for name in result["ap_area"]))
    form = f"{{:<{width}}}  {{:>7}}  {{:>8}}  {{:>8}}  {{:>10}}  {{:>6}}  {{:>6}}"
    lines = [form.format("class", "AP in %", "11-point", *columns)]
    for name in result["ap_area"]:
        counts = [result[key][name] for key in columns.values()]
        aps = [percent(result[key][name]) for key in ("ap_area", "ap_11point")]
        lines.append(form.format(name, *aps, *counts))
    lines.append("-" * len(lines[0]))
    means = [percent(result[key]) for key in ("mean_ap_area", "mean_ap_11point")]
    lines.append(form.format("mean AP", *means, "", "", "", "").rstrip())
    if result["absent_classes"]:
        lines.append(
            f"{result['absent_classes']} of {len(result['ap_area'])} classes have no object here, "
            "and are left out of the means."
        )
    return "\n".join(lines)


def iou_table(result):
    """`per_class_iou`, `mean_iou` and `pixel_accuracy` as text."""
    ious = result["per_class_iou"]
    width = max(len("pixel accuracy"), *(len(name) for name in ious))

    def line(name, value):
        return f"{name:<{width}}  " + ("absent" if value is None else f"{100 * value:6.2f}")

    lines = [f"{'class':<{width}}  IoU in %"] + [line(name, iou) for name, iou in ious.items()]
    lines.append("-" * (width + 8))
    lines.append(line("mean IoU", result["mean_iou"]))
    lines.append(line("pixel accuracy", result["pixel_accuracy"]))
    if result["absent_classes"]:
        lines.append(
            f"{result['absent_classes']} of {len(ious)} classes are absent from truth and "
            f"prediction, and left out of the mean."
        )
    return "\n".join(lines)
