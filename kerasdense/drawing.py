"""Pictures of label maps, boxes and results, with NumPy and Pillow only.

Pictures are uint8 RGB arrays [H, W, 3]; label maps are integer arrays [H, W] or [H, W, 1];
a palette is a list of [r, g, b], one per class. Pixels to ignore are drawn hatched.
"""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from kerasdense.labels import IGNORE

IGNORE_COLOR = (224, 224, 192)  # as in the label maps of PASCAL VOC
HATCH_DARK, HATCH_LIGHT = 30, 85  # grey levels of the stripes over ignored pixels
HATCH_WIDTH = 4  # pixels
PAPER, INK, FAINT = (255, 255, 255), (33, 37, 41), (134, 142, 150)
MARGIN = 8  # pixels between the pictures of a gallery
LARGEST_CELL, SMALLEST_CELL, MATRIX_SIDE = 46, 6, 900  # pixels
# Rows of the confusion matrix from 0 % to 100 %: light to dark, so that it also prints in grey.
HEAT = np.array([[247, 251, 255], [198, 219, 239], [107, 174, 214], [33, 113, 181], [8, 48, 107]])
WRONG = np.array([230, 25, 75])
LINES_ACROSS, TAGS_ACROSS = 200, 26  # widths of a box's line, heights of a tag in a picture's side
TAG_SIZES = 10, 28  # pixels: smallest and largest font of a tag
LUMA = (0.299, 0.587, 0.114)  # share of red, green and blue in brightness
GRID = (233, 236, 239)


def colorize(mask, palette):
    """Label map [H, W] as a picture uint8 [H, W, 3]: the palette's colors, IGNORE hatched.

    Raises: ValueError if a class id has no color.
    """
    mask = _label_map(mask)
    colors = _lookup_table(mask, palette)[mask]
    hatch = _hatch(mask.shape)
    return np.where((mask == IGNORE)[..., None], hatch[..., None], colors).astype(np.uint8)


def overlay(image, mask, palette, opacity=0.5):
    """`mask` laid over `image` (uint8 [H, W, 3]), the borders of its segments opaque.

    `opacity`: 0 (the image alone) to 1 (the label map alone).
    Raises: ValueError if image and mask have different sizes.
    """
    image, mask = np.asarray(image), _label_map(mask)
    if image.shape != mask.shape + (3,):
        raise ValueError(
            f"The overlay needs an RGB image of the label map's size, expected shape "
            f"{mask.shape + (3,)}, received {image.shape}. Resize one of them first."
        )
    if not 0 <= opacity <= 1:
        raise ValueError(f"The opacity must lie between 0 and 1, received {opacity}.")
    weight = np.where(_borders(mask), min(1.0, 1.8 * opacity), opacity)[..., None]
    mixed = (1 - weight) * image + weight * colorize(mask, palette)
    return np.rint(mixed).astype(np.uint8)


def error_map(image, truth, prediction):
    """`image` in faint grey, wrong pixels red, ignored pixels hatched: uint8 [H, W, 3]."""
    truth, prediction = _label_map(truth), _label_map(prediction)
    grey = np.asarray(image, np.float32).mean(axis=-1, keepdims=True)
    picture = np.repeat(110 + 0.5 * grey, 3, axis=-1)
    wrong = ((truth != prediction) & (truth != IGNORE))[..., None]
    picture = np.where(wrong, 0.25 * grey + 0.75 * WRONG, picture)
    return np.where((truth == IGNORE)[..., None], _hatch(truth.shape)[..., None], picture).astype(
        np.uint8
    )


def legend(class_names, palette, width=None):
    """Color and name of each class, and of ignored pixels: uint8 [h, w, 3].

    `width`: pixels to fill with as many columns as fit; None gives one column.
    """
    if len(class_names) != len(palette):
        raise ValueError(
            f"A legend needs one color a class, received {len(class_names)} class names "
            f"and {len(palette)} colors."
        )
    font, line, patch = _font(14), 24, 16
    names = [*class_names, "ignored"]
    column = patch + 3 * MARGIN + max(_text_size(name, font)[0] for name in names)
    columns = 1 if width is None else max(1, (width - MARGIN) // column)
    lines = math.ceil(len(names) / columns)
    size = (max(width or 0, columns * column + MARGIN), lines * line + 2 * MARGIN)
    canvas = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(canvas)
    classes = [*range(len(class_names)), IGNORE]
    for i, (class_id, name) in enumerate(zip(classes, names)):
        x, y = MARGIN + i // lines * column, MARGIN + i % lines * line
        square = colorize(np.full((patch, patch), class_id), palette)
        canvas.paste(Image.fromarray(square), (x, y + (line - patch) // 2))
        draw.rectangle(
            (x, y + (line - patch) // 2, x + patch - 1, y + (line + patch) // 2 - 1),
            outline=FAINT,
        )
        draw.text((x + patch + MARGIN, y + line // 2), name, INK, font, anchor="lm")
    return np.asarray(canvas)


def gallery(rows, captions=None):
    """Pictures in a grid, each in its own size: uint8 [h, w, 3].

    `rows`: list of lists of pictures uint8 [H, W, 3]; `captions`: one text a column, on top.
    """
    if not rows or not all(len(row) == len(rows[0]) > 0 for row in rows):
        raise ValueError(
            f"A gallery needs rows of the same number of pictures, received rows of "
            f"{[len(row) for row in rows]}."
        )
    if captions is not None and len(captions) != len(rows[0]):
        raise ValueError(
            f"A gallery needs one caption a column, expected {len(rows[0])}, "
            f"received {len(captions)}."
        )
    font = _font(15)
    header = 26 if captions else MARGIN
    widths = [max(picture.shape[1] for picture in column) for column in zip(*rows)]
    heights = [max(picture.shape[0] for picture in row) for row in rows]
    lefts = np.cumsum([MARGIN] + [width + MARGIN for width in widths])
    tops = np.cumsum([header] + [height + MARGIN for height in heights])
    canvas = Image.new("RGB", (int(lefts[-1]), int(tops[-1])), PAPER)
    draw = ImageDraw.Draw(canvas)
    for x, width, caption in zip(lefts, widths, captions or ()):
        draw.text((int(x), header // 2), _shorten(caption, width, font), INK, font, anchor="lm")
    for y, row in zip(tops, rows):
        for x, picture in zip(lefts, row):
            canvas.paste(Image.fromarray(np.ascontiguousarray(picture)), (int(x), int(y)))
    return np.asarray(canvas)


def confusion_matrix_picture(matrix, class_names):
    """Confusion matrix [C, C] (rows truth) as a heat map of per cents of each row: uint8 [h, w, 3].

    A row without pixels stays empty. The right margin tells the share of a class in all pixels.
    """
    matrix = np.asarray(matrix, np.float64)
    classes = len(class_names)
    if matrix.shape != (classes, classes):
        raise ValueError(
            f"The confusion matrix of {classes} classes must have shape "
            f"{(classes, classes)}, received {matrix.shape}."
        )
    cell = int(np.clip(MATRIX_SIDE // classes, SMALLEST_CELL, LARGEST_CELL))
    font, small, title = _font(min(15, max(8, cell - 2))), _font(cell * 0.32), _font(17)
    heading, subheading = "Confusion matrix", "rows truth, columns prediction, % of a row's pixels"
    left = max(_text_size(name, font)[0] for name in class_names) + 2 * MARGIN
    top, side = left + 48, cell * classes
    right = _text_size("100.0 %", font)[0] + 2 * MARGIN
    width = max(left + side + right, _text_size(subheading, _font(13))[0] + 2 * MARGIN)
    canvas = Image.new("RGB", (width, top + side + 2 * MARGIN), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((MARGIN, MARGIN), heading, INK, title)
    draw.text((MARGIN, MARGIN + 24), subheading, FAINT, _font(13))
    totals = matrix.sum(axis=1)
    shares = totals / max(1.0, totals.sum())
    for row, name in enumerate(class_names):
        y = top + row * cell
        draw.text((left - MARGIN, y + cell // 2), name, INK, font, anchor="rm")
        _vertical_text(canvas, (left + row * cell + cell // 2, top - MARGIN), name, font, INK)
        share = f"{100 * shares[row]:.1f} %"
        draw.text((left + side + MARGIN, y + cell // 2), share, FAINT, font, anchor="lm")
        for column in range(classes):
            x = left + column * cell
            box = (x, y, x + cell - 2, y + cell - 2)
            if not totals[row]:
                draw.rectangle(box, fill=(233, 236, 239))
                continue
            part = matrix[row, column] / totals[row]
            draw.rectangle(box, fill=_heat(part))
            if cell >= 22 and part >= 0.0005:
                number = f"{100 * part:.0f}" if part >= 0.0095 else f"{100 * part:.1f}"
                ink = PAPER if part > 0.5 else INK if part >= 0.0095 else FAINT
                draw.text((x + cell // 2, y + cell // 2), number, ink, small, anchor="mm")
    return np.asarray(canvas)


def draw_boxes(image, boxes, labels, class_names, palette, scores=None, colors=None):
    """`image` uint8 [H, W, 3] with its boxes, each tagged with its class and score: a new picture.

    `boxes`: [N, 4], xyxy relative to the image; `labels`: int [N] into `class_names` and
    `palette`; `scores`: [N] from 0 to 1, written in per cent, the best on top; `colors`: N
    [r, g, b] instead of the palette's. A tag that would hide one of a better score is left out.
    Raises: ValueError if the image is none, or a label has no name.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"Boxes are drawn on an RGB picture, expected uint8 [H, W, 3], received {image.dtype} "
            f"{list(image.shape)}."
        )
    boxes, labels = np.reshape(boxes, (-1, 4)), np.asarray(labels, int)
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(class_names):
        raise ValueError(
            f"The boxes have labels from {labels.min()} to {labels.max()}, but there are "
            f"{len(class_names)} classes (0-{len(class_names) - 1}). Do they belong to another "
            f"dataset?"
        )
    height, width = image.shape[:2]
    corners = np.rint(boxes * [width, height, width, height]).astype(int)
    colors = [tuple(palette[label]) for label in labels] if colors is None else colors
    line = max(1, round(min(height, width) / LINES_ACROSS))
    font = _font(int(np.clip(min(height, width) / TAGS_ACROSS, *TAG_SIZES)))
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    best_first = np.arange(len(boxes)) if scores is None else np.argsort(-np.asarray(scores))
    for i in best_first[::-1]:
        left, top, right, bottom = corners[i]
        right, bottom = max(right - 1, left), max(bottom - 1, top)
        draw.rectangle((left, top, right, bottom), outline=tuple(colors[i]), width=line)
    tags = []
    for i in best_first:
        text = class_names[labels[i]]
        text = text if scores is None else f"{text} {100 * scores[i]:.0f}"
        tag_width, tag_height = _text_size(text, font)[0] + 4, int(font.size) + 4
        left, top = corners[i][:2]
        # Above the box, or inside where there is no room; never outside the picture.
        y = top - tag_height if top >= tag_height else top
        x, y = (
            int(np.clip(position, 0, max(0, side)))
            for position, side in ((left, width - tag_width), (y, height - tag_height))
        )
        tag = (x, y, x + tag_width, y + tag_height)
        if any(
            tag[0] < other[2] and other[0] < tag[2] and tag[1] < other[3] and other[1] < tag[3]
            for other in tags
        ):
            continue
        tags.append(tag)
        draw.rectangle((*tag[:2], tag[2] - 1, tag[3] - 1), fill=tuple(colors[i]))
        ink = INK if np.dot(colors[i], LUMA) > 140 else PAPER
        draw.text((x + 2, y + tag_height // 2), text, ink, font, anchor="lm")
    return np.asarray(canvas)


def precision_recall_picture(curves, average_precisions, palette):
    """Precision over recall of each class, the legend with its average precision: [h, w, 3].

    `curves`: {class name: (recall [N], precision [N])}, recall rising; `average_precisions`:
    {class name: AP or None}, a class with None is not drawn; `palette`: a color a class.
    """
    font, small = _font(15), _font(12)
    left, top, side = 64, 56, 440
    legend_width = 40 + max(_text_size(f"{name}  100.0", font)[0] for name in curves)
    height = max(top + side + 56, top + 24 * len(curves) + 2 * MARGIN)
    canvas = Image.new("RGB", (left + side + 2 * MARGIN + legend_width, height), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((MARGIN, MARGIN), "Precision and recall", INK, _font(17))
    draw.text((MARGIN, MARGIN + 24), "legend: average precision (all points) in %", FAINT, small)

    def place(recall, precision):
        return left + side * recall, top + side * (1 - precision)

    for tick in np.linspace(0, 1, 6):
        draw.line((*place(tick, 0), *place(tick, 1)), GRID)
        draw.line((*place(0, tick), *place(1, tick)), GRID)
        x, y = place(tick, 0)
        draw.text((x, y + MARGIN), f"{tick:.1f}", FAINT, small, anchor="mt")
        x, y = place(0, tick)
        draw.text((x - MARGIN, y), f"{tick:.1f}", FAINT, small, anchor="rm")
    draw.text((left + side / 2, top + side + 28), "recall", INK, font, anchor="mt")
    _vertical_text(canvas, (left - 44, top + side // 2 + 30), "precision", font, INK)
    for row, ((name, (recall, precision)), color) in enumerate(zip(curves.items(), palette)):
        value = average_precisions[name]
        y = top + MARGIN + 24 * row
        x = left + side + 2 * MARGIN
        draw.rectangle((x, y - 2, x + 16, y + 2), fill=tuple(color))
        text = "absent" if value is None else f"{100 * value:.1f}"
        draw.text((x + 24, y), f"{name}  {text}", INK, font, anchor="lm")
        if value is not None and len(recall):
            points = [place(r, p) for r, p in zip(recall, precision)]
            draw.line([place(0, precision[0]), *points], tuple(color), width=2)
    draw.rectangle((*place(0, 1), *place(1, 0)), outline=FAINT)
    return np.asarray(canvas)


def load_picture(path):
    """The image file `path` upright (EXIF) as RGB: uint8 [H, W, 3].

    Grey is repeated, alpha dropped, 16 bits a channel scaled to 8.
    Raises: ValueError if the file is missing, damaged or no picture.
    """
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file)
            picture.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"Cannot read the image {path}: {error}.") from error
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        # Pillow's own conversion clips at 255: an almost white picture.
        grey = np.rint(np.clip(np.asarray(picture, np.float64), 0, 65535) / 257)
        picture = Image.fromarray(grey.astype(np.uint8))
    elif picture.mode == "F":
        raise ValueError(
            f"Cannot read the image {path}: floating-point pixels have no agreed range. "
            f"Convert it to 8 or 16 bits a channel."
        )
    return np.asarray(picture.convert("RGB"))


def resized(picture, size):
    """`picture` uint8 [H, W, 3] in another `size` (height, width), bilinear."""
    height, width = size
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))


def save_picture(path, picture):
    """Write a picture uint8 [H, W, 3] to `path`, in the format of its ending."""
    Image.fromarray(np.ascontiguousarray(picture)).save(path)


def save_label_map(path, labels, palette):
    """Write `labels` [H, W] as a palette PNG whose pixel values are the class ids (255 kept)."""
    labels = _label_map(labels)
    picture = Image.fromarray(labels.astype(np.uint8))
    picture.putpalette(_lookup_table(labels, palette).tobytes())
    picture.save(path, format="PNG")


def _label_map(mask):
    mask = np.asarray(mask)
    if mask.ndim == 3 and mask.shape[-1] == 1:
        mask = mask[..., 0]
    if mask.ndim != 2 or mask.dtype.kind not in "iu":
        raise ValueError(
            f"A label map must be an integer array [H, W] or [H, W, 1], received shape "
            f"{mask.shape} of {mask.dtype}."
        )
    return mask


def _lookup_table(mask, palette):
    """Colors of all 256 pixel values, after a look at the ids in `mask`."""
    palette = np.asarray(palette, np.uint8)
    if palette.ndim != 2 or palette.shape[1] != 3 or len(palette) > IGNORE:
        raise ValueError(
            f"A palette must be a list of at most {IGNORE} [r, g, b], received shape "
            f"{palette.shape}."
        )
    valid = mask[mask != IGNORE]
    if valid.size and not 0 <= valid.min() <= valid.max() < len(palette):
        raise ValueError(
            f"The label map holds ids from {valid.min()} to {valid.max()}, but the palette has "
            f"{len(palette)} colors (0-{len(palette) - 1}, {IGNORE} = ignore). "
            f"Does it belong to another dataset?"
        )
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    table[IGNORE] = IGNORE_COLOR
    return table


def _hatch(shape):
    y, x = np.indices(shape, sparse=True)
    return np.where((x + y) // HATCH_WIDTH % 2, HATCH_LIGHT, HATCH_DARK)


def _borders(mask):
    """True along both sides of a change of class."""
    borders = np.zeros(mask.shape, bool)
    across, along = mask[1:] != mask[:-1], mask[:, 1:] != mask[:, :-1]
    borders[1:] |= across
    borders[:-1] |= across
    borders[:, 1:] |= along
    borders[:, :-1] |= along
    return borders


def _heat(part):
    position = np.clip(part, 0, 1) * (len(HEAT) - 1)
    steps = np.arange(len(HEAT))
    return tuple(int(np.interp(position, steps, HEAT[:, channel])) for channel in range(3))


def _font(size):
    return ImageFont.load_default(size)


def _text_size(text, font):
    left, top, right, bottom = font.getbbox(text)
    return int(math.ceil(right - left)), int(math.ceil(bottom - top))


def _shorten(text, width, font):
    """`text`, cut in the middle so that it fits `width` pixels."""
    kept = len(text)
    short = text
    while kept > 4 and _text_size(short, font)[0] > width:
        kept -= 1
        short = text[: kept // 2] + "…" + text[len(text) - kept + kept // 2 :]
    return short


def _vertical_text(canvas, position, text, font, ink):
    """Text that reads upwards from `position`, its lower middle."""
    strip = Image.new("L", (_text_size(text, font)[0] + 4, int(font.size) + 8), 0)
    ImageDraw.Draw(strip).text((2, strip.height // 2), text, 255, font, anchor="lm")
    strip = strip.rotate(90, expand=True)
    x, y = position
    place = (x - strip.width // 2, y - strip.height)
    canvas.paste(Image.new("RGB", strip.size, ink), place, strip)
