"""What charts must hold: their texts, values where they belong, files; looks are for eyes."""

import io
import re

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from PIL import Image

from kerasdense.drawing import charts

PALETTE = [[255, 0, 0], [0, 255, 0], [10, 20, 30]]
NAMES = ["red", "green", "dark"]


def texts(figure):
    """All texts of a figure that are not empty."""
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def pixels(figure):
    """The figure as `charts.save` writes it, uint8 [h, w, 3]."""
    file = io.BytesIO()
    figure.savefig(file, dpi=charts.DPI, bbox_inches="tight", pad_inches=charts.PAD)
    return np.asarray(Image.open(file).convert("RGB"))


def contrast(color):
    """With white, by WCAG 2.1."""
    color = np.array(to_rgb(color))
    linear = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    return 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05)


def curves_of(figure):
    return {line.get_label(): line for line in figure.axes[0].get_lines()}


# ---- confusion matrix


def test_each_cell_of_a_confusion_matrix_is_a_share_of_its_row():
    # Rows of 200, 1000 and 0 pixels of 1200: 16.7 %, 83.3 % and none of all.
    figure = charts.confusion_matrix([[150, 50, 0], [2, 997, 1], [0, 0, 0]], NAMES)
    axes = figure.axes[0]
    found = {text.get_position(): text.get_text() for text in axes.texts[:-1]}  # the last: title
    assert found == {
        (0.5, 0.5): "75", (1.5, 0.5): "25", (0.5, 1.5): "0.2", (1.5, 1.5): "100", (2.5, 1.5): "0.1",
    }  # fmt: skip
    assert axes.get_ylim() == (3, 0)  # rows count from above
    shares = axes.collections[0].get_array().reshape(3, 3)
    np.testing.assert_allclose(shares[:2], [[75, 25, 0], [0.2, 99.7, 0.1]])
    assert shares.mask[2].all() and not shares.mask[:2].any()
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == NAMES
    assert {"16.7 %", "83.3 %", "absent", "truth", "prediction"} <= set(texts(figure))


def test_an_empty_row_is_seen_and_dark_is_much():
    figure = charts.confusion_matrix([[9, 1, 0], [0, 0, 0], [0, 10, 0]], NAMES)
    hatched = [patch for patch in figure.axes[0].patches if patch.get_hatch()]
    assert [patch.get_bbox().extents.tolist() for patch in hatched] == [[0, 1, 1, 2]]
    shares = [np.mean(charts.HEAT(value)[:3]) for value in np.linspace(0, 1, 11)]
    assert (np.diff(shares) < 0).all()  # dark is much in gray print, too
    assert np.mean(to_rgb(charts.EMPTY)) < shares[0] - 0.05


def test_numbers_can_be_read_on_their_cells():
    percent = np.arange(0, 101, 5)
    figure = charts.confusion_matrix(np.stack([percent, 100 - percent], 1) @ np.eye(2, 21), [
        f"{value}" for value in percent
    ])  # fmt: skip
    axes = figure.axes[0]
    cells, norm = axes.collections[0].get_array().reshape(21, 21), axes.collections[0].norm
    for text in axes.texts[:-1]:
        column, row = (int(place) for place in text.get_position())
        ground = charts.HEAT(norm(cells[row, column]))[:3]
        ratio = contrast(ground) / contrast(text.get_color())
        assert max(ratio, 1 / ratio) > 3, cells[row, column]


@pytest.mark.parametrize("classes, numbered", [(2, True), (35, True), (80, False)])
def test_a_confusion_matrix_has_a_page_and_letters_for_any_number_of_classes(classes, numbered):
    names = [f"a rather long name of a class {i}" for i in range(classes)]
    figure = charts.confusion_matrix(np.eye(classes), names)
    assert max(figure.get_size_inches()) <= 9
    size = figure.axes[0].get_yticklabels()[0].get_fontsize()
    assert 6 < size <= 9
    assert size < 72 * figure.get_size_inches()[1] / classes  # names do not touch
    assert ("100" in texts(figure)) == numbered
    assert set(names) <= set(texts(figure))


def test_255_classes_are_drawn():
    figure = charts.confusion_matrix(np.eye(255), [f"class {i}" for i in range(255)])
    side = figure.get_size_inches()[0]
    assert 15 < side < 20 and figure.axes[0].get_yticklabels()[0].get_fontsize() >= 4


# ---- precision and recall


def test_a_precision_recall_curve_lies_where_it_should():
    curves = {"red": ([0.25, 0.5, 0.75], [0.8, 0.6, 0.6]), "green": ([], []), "dark": ([], [])}
    values = {"red": 0.45, "green": 0.0, "dark": None}
    figure = charts.precision_recall(curves, values, PALETTE)
    lines = curves_of(figure)
    assert list(lines) == ["red  45.0", "green  0.0", "dark  absent"]
    # From recall 0 on, with the first precision.
    np.testing.assert_array_equal(
        lines["red  45.0"].get_xydata(), [[0, 0.8], [0.25, 0.8], [0.5, 0.6], [0.75, 0.6]]
    )
    assert not len(lines["green  0.0"].get_xdata()) and not len(lines["dark  absent"].get_xdata())
    axes = figure.axes[0]
    assert axes.get_xlim() == axes.get_ylim() == (0, 1)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("recall", "precision")
    assert "legend: average precision (all points) in %, mean 22.5" in texts(figure)


def test_classes_that_are_all_absent():
    figure = charts.precision_recall({"a": ([], [])}, {"a": None}, [[0, 0, 0]])
    assert "legend: average precision (all points) in %, all classes absent" in texts(figure)


def test_an_absent_class_is_not_drawn_even_if_it_has_detections():
    figure = charts.precision_recall({"a": ([0.0], [0.0])}, {"a": None}, [[0, 0, 0]])
    assert not len(figure.axes[0].get_lines()[0].get_xdata())


def test_light_colors_are_darker_as_lines_and_dark_ones_stay():
    palette = [[255, 255, 255], [255, 255, 0], [0, 255, 255], [128, 0, 0], [0, 0, 0]]
    curves = {str(i): ([0.5], [0.5]) for i in range(5)}
    lines = charts.precision_recall(curves, dict.fromkeys(curves, 0.5), palette).axes[0].get_lines()
    colors = [line.get_color() for line in lines]
    assert min(map(contrast, colors)) > 2.9
    yellow, cyan = colors[1:3]
    assert yellow[0] == yellow[1] > 0.5 and yellow[2] == 0 and cyan[0] == 0  # of the same hue
    np.testing.assert_allclose(colors[3:], np.array(palette[3:]) / 255)
    # In print or to a color-blind eye neighbors differ by their dashes.
    assert len({str(line.get_linestyle()) + str(line._dash_pattern) for line in lines[:4]}) == 4


def test_precision_and_recall_of_many_classes():
    names = [f"a rather long name of a class {i}" for i in range(80)]
    curve = np.linspace(0, 1, 1000), np.linspace(1, 0.2, 1000)
    figure = charts.precision_recall(
        dict.fromkeys(names, curve), dict.fromkeys(names, 0.6), [[i, 0, 0] for i in range(80)]
    )
    legend = figure.axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == [f"{name}  60.0" for name in names]
    figure.canvas.draw()
    # Beside the axes, and not higher.
    box, axes = legend.get_window_extent(), figure.axes[0].get_window_extent()
    assert box.x0 > axes.x1 and axes.y0 < box.y0 < box.y1 <= axes.y1


# ---- lines


def test_lines_run_through_their_points():
    series = {"falls": [1, 0.5, 0], "flat": [0.25, 0.25, 0.25]}
    figure = charts.lines("a title", [0, 1, 4], series, "epsilon", "IoU", "a note")
    for name, line in curves_of(figure).items():
        np.testing.assert_array_equal(line.get_xydata(), np.stack([[0, 1, 4], series[name]], 1))
        assert line.get_marker() != "None"
    axes = figure.axes[0]
    assert axes.get_xlim() == (0, 4) and axes.get_ylim() == (0, 1)
    assert axes.get_xticks().tolist() == [0, 1, 4]
    assert {"a title", "a note", "epsilon", "IoU", "falls", "flat", "4"} <= set(texts(figure))


def test_five_lines_differ_in_print_and_can_be_seen():
    names = "abcde"
    assert len(charts.LINE_COLORS) == len(names)
    figure = charts.lines("t", [0, 1], {name: [0, 1] for name in names}, "x", "y")
    lines = figure.axes[0].get_lines()
    assert len({line.get_marker() for line in lines}) == len({line.get_color() for line in lines})
    assert min(contrast(line.get_color()) for line in lines) > 3


def test_numbers_of_ticks_do_not_touch():
    x = [0, 0.25, 0.5, 1, 2, 4, 8]
    axes = charts.lines("t", x, {"a": np.linspace(1, 0, 7)}, "x", "y").axes[0]
    numbered = axes.get_xticks().tolist()
    assert numbered == [0, 1, 2, 4, 8]  # 0.5 is 1/16 of the axis away from 0, 1 is 1/8
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "1", "2", "4", "8"]
    assert set(x) - set(numbered) <= set(axes.get_xticks(minor=True))


# ---- receptive fields


def test_a_receptive_field_has_its_box_and_rulers_of_its_sides():
    field = np.zeros((20, 40))
    field[5:9, 10:25], field[6, 12] = 0.5, 2
    figure = charts.receptive_field(field, (5, 10, 9, 25), "conv")
    axes = figure.axes[0]
    assert axes.get_xlim() == (0, 40) and axes.get_ylim() == (20, 0)  # rows count from above
    (heat,) = axes.get_images()
    # In per cent of the largest: a quarter of it nearly everywhere inside.
    np.testing.assert_allclose(heat.get_array(), field * 50)
    assert heat.get_extent() == [0, 40, 20, 0]
    box = next(patch for patch in axes.patches if patch.get_edgecolor()[:3] == to_rgb(charts.BOX))
    assert (box.get_xy(), box.get_width(), box.get_height()) == ((10, 5), 15, 4)
    rulers = sorted(np.ptp(line.get_xydata(), axis=0).tolist() for line in axes.get_lines())
    assert rulers == [[0, 4], [15, 0]]
    found = texts(figure)
    assert {"15 wide", "4 high", "Effective receptive field of conv", "100 %"} <= set(found)
    assert any("4 high, 15 wide, of 20 x 40 pixels" in text for text in found)
    height, width, _ = pixels(figure).shape
    assert width > height  # as the picture


# ---- files


CHARTS = {
    "matrix": lambda: charts.confusion_matrix([[5, 1], [0, 0]], ["a", "$b$ with a long name"]),
    "curves": lambda: charts.precision_recall({"$a$": ([0.5], [1])}, {"$a$": 1.0}, [[9, 9, 9]]),
    "lines": lambda: charts.lines("a $title$", [0, 4], {"a": [1, 0]}, "x", "y"),
    "field": lambda: charts.receptive_field(np.eye(8, 16), (0, 1, 7, 16), "$conv$"),
}


@pytest.mark.parametrize("chart", CHARTS.values(), ids=CHARTS)
def test_a_png_and_a_vector_pdf_are_written_alike_each_time(chart, tmp_path):
    for name in ("first", "second"):
        assert charts.save(tmp_path / f"{name}.png", chart()) is None
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["first.pdf", "first.png", "second.pdf", "second.png"]
    for kind in ("png", "pdf"):
        first, second = ((tmp_path / f"{name}.{kind}").read_bytes() for name in ("first", "second"))
        assert first == second
    document = (tmp_path / "first.pdf").read_bytes()
    assert document.startswith(b"%PDF-") and b"Date" not in document
    pictures = re.findall(rb"/Subtype\s*/Image", document)
    assert bool(pictures) == (chart is CHARTS["field"])  # else lines and letters alone
    assert b"/FontFile2" in document  # TrueType: the text can be selected
    with Image.open(tmp_path / "first.png") as file:
        picture = np.asarray(file.convert("RGB"))
    np.testing.assert_array_equal(picture, pixels(chart()))


@pytest.mark.parametrize("chart", CHARTS.values(), ids=CHARTS)
def test_nothing_is_cut_off(chart):
    picture = pixels(chart())
    for edge in (picture[:5], picture[-5:], picture[:, :5], picture[:, -5:]):
        assert (edge == 255).all()


def test_matplotlib_is_as_it_was(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    charts.save(tmp_path / "lines.png", CHARTS["lines"]())
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: charts.confusion_matrix(np.eye(3), ["a"]), "1 classes must have shape .1, 1."),
        (lambda: charts.precision_recall({}, {}, []), "0 curves"),
        (lambda: charts.receptive_field(np.zeros((4, 4)), (0, 0, 1, 1), "a"), "one above it"),
        (lambda: charts.receptive_field(np.full((4, 4), np.nan), (0, 0, 1, 1), "a"), "finite"),
        (lambda: charts.receptive_field(np.eye(4), (0, 0, 5, 1), "a"), "not inside 4x4 pixels"),
        (lambda: charts.receptive_field(np.eye(4), (2, 0, 2, 1), "a"), "not inside 4x4 pixels"),
        (lambda: charts.precision_recall({"a": ([], [])}, {"a": 0.1}, []), "0 colors"),
        (lambda: charts.precision_recall({"a": ([], [])}, {"b": 0.1}, PALETTE), "one average"),
        (lambda: charts.lines("", [0, 0], {"a": [0, 1]}, "", ""), "rising"),
        (lambda: charts.lines("", [0, 1], {}, "", ""), "0 lines"),
        (lambda: charts.lines("", [0, 1], {"a": [0, 2]}, "", ""), "from 0 to 1"),
        (lambda: charts.lines("", [0, 1], {"a": [0]}, "", ""), "2 values"),
        (lambda: charts.lines("", [0, 1], {"a": [0, np.nan]}, "", ""), "from 0 to 1"),
        (lambda: charts.save("curve.pdf", CHARTS["lines"]()), "curve.pdf must end in .png"),
    ],
)
def test_mistakes_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
