"""Charts of results, by matplotlib: each function returns a figure, which `save` writes.

Names and legends lie outside the axes, whose size is fixed; `save` makes the page as large as all
of it. pyplot is not used, so nothing is kept from one figure to the next.
"""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

INK, DIM, FAINT, GRID, EMPTY = "#212529", "#495057", "#868e96", "#e9ecef", "#dee2e6"
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same figure everywhere
    "font.size": 9,
    "text.parse_math": False,  # a class may be named "$"
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": DIM,
    "ytick.labelcolor": DIM,
    "grid.color": GRID,
    "legend.frameon": False,
    "legend.borderaxespad": 0,
    "hatch.linewidth": 0.6,
    "pdf.fonttype": 42,  # text in the PDF stays text: it can be searched and edited
}
BOX = "#d55e00"  # Okabe and Ito's vermilion: it stands apart from the blues
DPI = 150  # of the PNG
PAD = 0.12  # inches of paper around everything
SIDE = 4.4  # inches, of the axes that lines are drawn in
POINTS = 72  # an inch

# Of a confusion matrix: inches.
MATRIX_SIDE, SMALLEST_CELL, LARGEST_CELL = 9.0, 0.075, 0.5
FEWEST_SIDE, FEWEST_CELL = 2.0, 0.9  # cells of a few classes are larger
NUMBERED_CELL = 0.2  # from here on there is room for a number
# Light to dark, so that it also prints in gray: ColorBrewer's "Blues".
HEAT = LinearSegmentedColormap.from_list(
    "heat", ["#f7fbff", "#c6dbef", "#6baed6", "#2171b5", "#08306b"]
).with_extremes(bad=EMPTY)
DARK = 0.21  # luminance of a cell, below which white is read better than INK
HEAT_TICKS = (0, 1, 10, 25, 50, 100)  # %

# Lines differ by more than their colors, for color-blind eyes and gray prints. The colors are
# Okabe and Ito's, of those that are dark enough on white.
LINE_COLORS = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#495057")
MARKERS = ("o", "s", "^", "D", "v")
DASHES = ("solid", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)))
LIGHTEST = 0.3  # luminance of a line: a contrast of 3 with white, as WCAG 2.1 (1.4.11) wants it
ROOM = 0.07  # of the axis, between two numbers
MANY = 20  # classes, from here on lines are thinner and the legend is smaller


@matplotlib.rc_context(STYLE)
def confusion_matrix(matrix, class_names):
    """Confusion matrix [C, C] (rows truth) as a heat map of per cents of each row.

    A row without pixels is hatched. The right margin tells the share of a class in all pixels.
    Raises: ValueError if the matrix has another shape.
    """
    matrix = np.asarray(matrix, np.float64)
    classes = len(class_names)
    if matrix.shape != (classes, classes):
        raise ValueError(
            f"The confusion matrix of {classes} classes must have shape "
            f"{(classes, classes)}, received {matrix.shape}."
        )
    cell = np.clip(MATRIX_SIDE / classes, SMALLEST_CELL, LARGEST_CELL)
    cell = max(cell, min(FEWEST_SIDE / classes, FEWEST_CELL))
    name_size = min(9, 0.8 * cell * POINTS)  # points
    totals = matrix.sum(axis=1)
    empty = totals == 0
    percent = 100 * matrix / np.where(empty, 1, totals)[:, None]
    percent[empty] = np.nan

    figure, axes = _square(cell * classes)
    # Rare confusions are what one looks for: the root shows 1 % apart from 0 %.
    norm = PowerNorm(0.5, 0, 100)
    edges = np.arange(classes + 1)
    cells = axes.pcolormesh(
        edges, edges, np.ma.masked_invalid(percent), cmap=HEAT, norm=norm,
        edgecolors="white", linewidth=0.04 * cell * POINTS,
    )  # fmt: skip
    axes.set(xlim=(0, classes), ylim=(classes, 0))
    for row in np.flatnonzero(empty):
        axes.axhspan(row, row + 1, facecolor="none", edgecolor=FAINT, hatch="////", linewidth=0)
    middles = edges[:-1] + 0.5
    axes.set_yticks(middles, class_names, fontsize=name_size)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xticks(middles, class_names, fontsize=name_size, rotation=90)
    axes.tick_params(length=0, labelcolor=INK)
    axes.set_xlabel("prediction", color=FAINT)
    axes.set_ylabel("truth", color=FAINT)
    axes.spines[:].set_visible(False)

    shares = axes.secondary_yaxis("right")
    texts = [
        "absent" if nothing else f"{share:.1f} %"
        for share, nothing in zip(100 * totals / max(1.0, totals.sum()), empty)
    ]
    shares.set_yticks(middles, texts, fontsize=name_size)
    shares.tick_params(length=0, labelcolor=FAINT)
    shares.spines[:].set_visible(False)
    if cell >= NUMBERED_CELL:
        for row, column in np.argwhere(percent >= 0.05):
            value = percent[row, column]
            ink = "white" if _luminance(HEAT(norm(value))[:3]) < DARK else INK
            axes.text(
                middles[column], middles[row], f"{value:.{0 if value >= 0.95 else 1}f}",
                fontsize=min(9, 0.34 * cell * POINTS), color=ink,
                ha="center", va="center_baseline",
            )  # fmt: skip

    inch = 1 / (cell * classes)  # of the axes' side
    scale = axes.inset_axes([0, -0.3 * inch, 1, 0.1 * inch])
    bar = figure.colorbar(cells, cax=scale, orientation="horizontal", ticks=HEAT_TICKS)
    bar.solids.set(rasterized=False, edgecolor="face")
    bar.outline.set_visible(False)
    scale.set_xticklabels([*map(str, HEAT_TICKS[:-1]), "100 %"])
    _title(axes, "Confusion matrix", "% of each row's pixels; right: share of all pixels")
    return figure


@matplotlib.rc_context(STYLE)
def precision_recall(curves, average_precisions, palette):
    """Precision over recall of each class, its average precision in the legend.

    `curves`: {class name: (recall [N], precision [N])}, recall rising; `average_precisions`:
    {class name: AP or None}, a class with None is not drawn; `palette`: [r, g, b] a class.
    Raises: ValueError if there is no class, or a class has no average precision or no color.
    """
    if not curves or curves.keys() != average_precisions.keys() or len(palette) < len(curves):
        raise ValueError(
            f"Curves need one average precision and one color each, received {len(curves)} curves, "
            f"{len(average_precisions)} average precisions and {len(palette)} colors."
        )
    figure, axes = _square(SIDE)
    for number, (name, (recall, precision)) in enumerate(curves.items()):
        value = average_precisions[name]
        if value is None or not len(recall):
            points = [], []
        else:
            points = [0, *recall], [precision[0], *precision]
        axes.plot(
            *points,
            color=_line_color(palette[number]),
            linestyle=DASHES[number % len(DASHES)],
            linewidth=1.0 if len(curves) > MANY else 1.6,
            label=f"{name}  absent" if value is None else f"{name}  {100 * value:.1f}",
            clip_on=False,
        )
    present = [value for value in average_precisions.values() if value is not None]
    mean = f"mean {100 * sum(present) / len(present):.1f}" if present else "all classes absent"
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1))
    axes.grid()
    for text, value in zip(_legend(axes).get_texts(), average_precisions.values()):
        text.set_color(INK if value is not None else FAINT)
    _title(axes, "Precision and recall", f"legend: average precision (all points) in %, {mean}")
    return figure


@matplotlib.rc_context(STYLE)
def lines(title, x, series, x_name, y_name, note=""):
    """Values from 0 to 1 over rising `x` [N], a line for each of `series`.

    `series`: {name: values [N]}, at most as many as `LINE_COLORS`; the points are marked.
    Raises: ValueError if there is nothing to draw, or a value or number of values does not fit.
    """
    x = np.asarray(x, np.float64)
    values = {name: np.asarray(line, np.float64) for name, line in series.items()}
    if not 0 < len(values) <= len(LINE_COLORS) or len(x) < 2 or not (np.diff(x) > 0).all():
        raise ValueError(
            f"A chart needs 1 to {len(LINE_COLORS)} lines over two or more rising numbers, "
            f"received {len(values)} lines over {x.tolist()}."
        )
    for name, line in values.items():
        if line.shape != x.shape or not ((line >= 0) & (line <= 1)).all():
            raise ValueError(
                f'The line "{name}" needs {len(x)} values from 0 to 1, received {line.tolist()}.'
            )
    figure, axes = _square(SIDE)
    for (name, line), color, marker in zip(values.items(), LINE_COLORS, MARKERS):
        axes.plot(
            x, line, color=color, marker=marker, label=name, linewidth=1.6, markersize=6,
            markeredgecolor="white", markeredgewidth=0.7, clip_on=False, zorder=3,
        )  # fmt: skip
    numbered = [x[0]]
    for number in x:  # a tick at each point, a number where there is room
        if number - numbered[-1] > ROOM * (x[-1] - x[0]):
            numbered.append(number)
    axes.set_xticks(x, minor=True)
    axes.set_xticks(numbered, [f"{number:g}" for number in numbered])
    axes.set(xlabel=x_name, ylabel=y_name, xlim=(x[0], x[-1]), ylim=(0, 1))
    axes.grid()
    _legend(axes)
    _title(axes, title, note)
    return figure


@matplotlib.rc_context(STYLE)
def receptive_field(field, box, layer):
    """How much each pixel of a picture moves a unit of a layer, [H, W], none negative.

    `box`: (top, left, bottom, right) in pixels, the last two outside, of what moves it effectively;
    `layer`: its name. Axes count pixels; rulers on the frame tell the sides of the box.
    Raises: ValueError if the field is not finite or all 0, or the box is not inside.
    """
    field = np.asarray(field, np.float64)
    height, width = field.shape
    top, left, bottom, right = box
    if not (np.isfinite(field).all() and field.min() >= 0 and field.max() > 0):
        raise ValueError("A field needs finite numbers from 0 on, and one above it.")
    if not (0 <= top < bottom <= height and 0 <= left < right <= width):
        raise ValueError(f"The box {tuple(box)} is not inside {height}x{width} pixels.")
    scale = SIDE / max(height, width)
    figure = Figure(figsize=(scale * width, scale * height))
    axes = figure.add_axes((0, 0, 1, 1))
    heat = axes.imshow(
        100 * field / field.max(),
        cmap=HEAT,
        norm=PowerNorm(0.5, 0, 100),  # the root: weak pixels are many, and to be seen
        extent=(0, width, height, 0),
        interpolation="none",
    )
    sides = (left, top), right - left, bottom - top
    axes.add_patch(Rectangle(*sides, fill=False, edgecolor=BOX, linewidth=1.4))
    rule = {"color": BOX, "linewidth": 4, "solid_capstyle": "butt", "clip_on": False, "zorder": 3}
    axes.plot([left, right], [0, 0], **rule)
    axes.plot([width, width], [top, bottom], **rule)
    axes.set(xlim=(0, width), ylim=(height, 0), xlabel="column, pixels", ylabel="row, pixels")
    # Whole pixels; set here, in this style, and not when the figure is drawn.
    ticks = MaxNLocator(8, integer=True)
    for set_ticks, side in ((axes.set_xticks, width), (axes.set_yticks, height)):
        set_ticks([tick for tick in ticks.tick_values(0, side) if tick <= side])
    above, beside = axes.secondary_xaxis("top"), axes.secondary_yaxis("right")
    above.set_xticks([(left + right) / 2], [f"{right - left} wide"])
    beside.set_yticks([(top + bottom) / 2], [f"{bottom - top} high"], rotation=90, va="center")
    for ruler in (above, beside):
        ruler.tick_params(length=0, labelcolor=BOX)
        ruler.spines[:].set_visible(False)
    inch = 1 / (scale * width)  # of the axes' width
    legend = axes.inset_axes([1 + 0.5 * inch, 0, 0.1 * inch, 1])
    bar = figure.colorbar(heat, cax=legend, ticks=HEAT_TICKS)
    bar.solids.set(rasterized=False, edgecolor="face")
    bar.outline.set_visible(False)
    legend.set_yticklabels([*map(str, HEAT_TICKS[:-1]), "100 %"])
    note = (
        "color: mean gradient, % of the largest; box: "
        f"{bottom - top} high, {right - left} wide, of {height} x {width} pixels"
    )
    _title(axes, f"Effective receptive field of {layer}", note)
    return figure


def save(path, figure):
    """Writes a figure as the PNG `path` and, for papers, as a PDF of the same name beside it.

    Raises: ValueError if `path` does not end in .png.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"A chart is a PNG with a PDF beside it: {path} must end in .png.")
    with matplotlib.rc_context(STYLE):
        whole = {"bbox_inches": "tight", "pad_inches": PAD}
        figure.savefig(path, format="png", dpi=DPI, **whole)
        # Without a date, equal results are equal files.
        undated = {"CreationDate": None}
        figure.savefig(path.with_suffix(".pdf"), format="pdf", metadata=undated, **whole)


def _square(side):
    """A figure that its axes, of so many inches, fill."""
    figure = Figure(figsize=(side, side))
    return figure, figure.add_axes((0, 0, 1, 1))


def _title(axes, title, note):
    """A title above whatever is above the axes, and a line that explains."""
    below = axes.set_title(note, loc="left", fontsize=8, color=FAINT, pad=8)
    axes.annotate(title, (0, 1), (0, 4), below, "offset points", fontsize=11, fontweight="bold")


def _legend(axes):
    """The legend to the right of the axes, in as many columns as it needs."""
    count = len(axes.get_lines())
    size = 7 if count > MANY else 9
    rows = int(SIDE * POINTS / (1.6 * size))
    return axes.legend(
        loc="upper left", bbox_to_anchor=(1.04, 1), ncols=-(-count // rows), fontsize=size,
        handlelength=2.6, labelspacing=0.45, columnspacing=1.5,
    )  # fmt: skip


def _line_color(color):
    """A class's color [r, g, b] as a line's: darker, if one would not see it on white."""
    color = np.asarray(color, np.float64) / 255
    # The luminance is about the power 2.2 of the brightness.
    return tuple(color * min(1, (LIGHTEST / max(_luminance(color), 1e-9)) ** (1 / 2.2)))


def _luminance(color):
    """Relative luminance, 0 to 1, of an sRGB color of 0 to 1 (WCAG 2.1)."""
    color = np.asarray(color)
    linear = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
