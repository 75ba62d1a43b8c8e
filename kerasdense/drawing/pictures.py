"""Pictures of images, label maps, boxes and heat, with NumPy and Pillow only.

Pictures are uint8 RGB arrays [H, W, 3]; label maps are integer arrays [H, W] or [H, W, 1];
a palette is a list of [r, g, b], one per class. Pixels to ignore are drawn hatched.
"""

import math
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageDraw, ImageFont, ImageOps

from kerasdense.metrics.labels import IGNORE

IGNORE_COLOR = (224, 224, 192)  # as in the label maps of PASCAL VOC
HATCH_DARK, HATCH_LIGHT = 30, 85  # gray levels of the stripes over ignored pixels
HATCH_WIDTH = 4  # pixels
PAPER, INK, FAINT = (255, 255, 255), (33, 37, 41), (134, 142, 150)
MARGIN = 8  # pixels between the pictures of a gallery
CAPTION = 240  # pixels that a caption may take, above a picture that is narrower
WRONG = np.array([230, 25, 75])
# Heat from 0 to 1, laid over a gray picture: brightness rises with it, so that it prints in gray.
GLOW = np.array([[40, 10, 90], [160, 30, 120], [235, 90, 50], [250, 190, 40], [255, 255, 180]])
LINES, TAGS = 200, 26  # as many lines of boxes, or heights of tags, fill a picture's shorter side
CROWD = 50  # boxes, from here on with lines and tags of 60 % and without halos
TAG_SIZES = 10, 128  # pixels: smallest and largest font of a tag
ORIENTATION = ExifTags.Base.Orientation
TEXTS = 50  # as many heights of the text beside a picture fill its width
TEXT_SIZES = 14, 64  # pixels: smallest and largest
LUMA = (0.299, 0.587, 0.114)  # share of red, green and blue in brightness


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
    """`image` in faint gray, wrong pixels red, ignored pixels hatched: uint8 [H, W, 3]."""
    truth, prediction = _label_map(truth), _label_map(prediction)
    gray = np.asarray(image, np.float32).mean(axis=-1, keepdims=True)
    picture = np.repeat(110 + 0.5 * gray, 3, axis=-1)
    wrong = ((truth != prediction) & (truth != IGNORE))[..., None]
    picture = np.where(wrong, 0.25 * gray + 0.75 * WRONG, picture)
    return np.where((truth == IGNORE)[..., None], _hatch(truth.shape)[..., None], picture).astype(
        np.uint8
    )


def heat_overlay(image, heat, opacity=0.6):
    """`heat` [H, W] from 0 to 1 laid over `image` (uint8 [H, W, 3]): uint8 [H, W, 3].

    Where the heat is 0 the image is gray and faint, where it is 1 it is covered by `opacity`.
    Raises: ValueError if the sizes differ or the heat leaves its range.
    """
    image, heat = np.asarray(image), np.asarray(heat, np.float64)
    if image.shape != heat.shape + (3,):
        raise ValueError(
            f"The heat map must have the image's size, expected shape {image.shape[:2]}, "
            f"received {heat.shape}."
        )
    if not (heat.min() >= 0 and heat.max() <= 1):  # NaN fails here, too
        raise ValueError(
            f"Heat must lie between 0 and 1, received {heat.min():g} to {heat.max():g}."
        )
    gray = np.repeat((image @ np.array(LUMA))[..., None], 3, axis=-1)
    colors = np.stack(
        [np.interp(heat, np.linspace(0, 1, len(GLOW)), channel) for channel in GLOW.T], axis=-1
    )
    weight = (opacity * np.sqrt(heat))[..., None]  # the root: weak heat is to be seen, too
    return np.rint((1 - weight) * gray + weight * colors).astype(np.uint8)


def amplified(difference, factor):
    """A signed `difference` of pictures, times `factor` around mid-gray: uint8 [H, W, 3]."""
    return np.clip(np.rint(128 + factor * np.asarray(difference, np.float64)), 0, 255).astype(
        np.uint8
    )


def legend(class_names, palette, width=None, shown=None, text=14):
    """Color and name of each class, and of ignored pixels: uint8 [h, w, 3].

    `width`: pixels to fill with as many columns as fit; None gives one column. `shown`: ids of the
    classes (or IGNORE) that are named, by default all; `text`: its height in pixels.
    """
    if len(class_names) != len(palette):
        raise ValueError(
            f"A legend needs one color a class, received {len(class_names)} class names "
            f"and {len(palette)} colors."
        )
    font, margin = _font(text), round(MARGIN * text / 14)
    line, patch = 3 * margin, 2 * margin
    names = dict(enumerate(class_names)) | {IGNORE: "ignored"}
    names = names if shown is None else {class_id: names[class_id] for class_id in shown}
    column = patch + 3 * margin + max(_text_size(name, font)[0] for name in names.values())
    columns = 1 if width is None else max(1, (width - margin) // column)
    lines = math.ceil(len(names) / columns)
    size = (max(width or 0, columns * column + margin), lines * line + 2 * margin)
    canvas = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(canvas)
    for i, (class_id, name) in enumerate(names.items()):
        x, y = margin + i // lines * column, margin + i % lines * line
        square = colorize(np.full((patch, patch), class_id), palette)
        canvas.paste(Image.fromarray(square), (x, y + (line - patch) // 2))
        draw.rectangle(
            (x, y + (line - patch) // 2, x + patch - 1, y + (line + patch) // 2 - 1),
            outline=FAINT,
        )
        draw.text((x + patch + margin, y + line // 2), name, INK, font, anchor="lm")
    return np.asarray(canvas)


def with_legend(picture, labels, class_names, palette):
    """A picture uint8 [H, W, 3], and below it the classes of its `labels` [H, W]: uint8 [h, w, 3].

    The picture keeps its pixels and its corner; the text grows with it, and a small picture does
    not shrink it, so that the legend may be the wider one.
    """
    height, width = picture.shape[:2]
    shown = np.unique(_label_map(labels)).tolist()
    below = legend(class_names, palette, width, shown, text_size(picture))
    canvas = Image.new("RGB", (below.shape[1], height + below.shape[0]), PAPER)
    canvas.paste(Image.fromarray(picture), (0, 0))
    canvas.paste(Image.fromarray(below), (0, height))
    return np.asarray(canvas)


def text_size(picture):
    """Pixels: the height of text beside a picture, so that it is read where all of it is seen."""
    height, width = picture.shape[:2]
    return round(np.clip(min(2 * height, width) / TEXTS, *TEXT_SIZES))


def gallery(rows, captions=None, text=15):
    """Pictures in a grid, each in its own size: uint8 [h, w, 3].

    `rows`: list of lists of pictures uint8 [H, W, 3]; `captions`: one text a column, on top, of so
    many pixels (`text`).
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
    font = _font(text)
    header = round(text * 26 / 15) if captions else MARGIN
    widths = [max(picture.shape[1] for picture in column) for column in zip(*rows)]
    if captions:  # tiny pictures stand apart, so that their captions can be read
        needed = (min(_text_size(caption, font)[0], CAPTION) for caption in captions)
        widths = [max(pair) for pair in zip(widths, needed)]
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


def draw_boxes(image, boxes, labels, class_names, palette, scores=None, colors=None, dashed=False):
    """`image` uint8 [H, W, 3] with its boxes, each tagged with its class and score: a new picture.

    `boxes`: [N, 4], xyxy relative to the image; `labels`: int [N] into `class_names` and
    `palette`; `scores`: [N] from 0 to 1, written in per cent, the best on top; `colors`: N
    [r, g, b] instead of the palette's; `dashed`: for boxes of another kind than those that the
    picture shows already. A tag that would hide one of a better score is left out.
    Raises: ValueError if the image is none, N is not the same everywhere, a box is not finite, or
    a label has no name.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"Boxes are drawn on an RGB picture, expected uint8 [H, W, 3], received {image.dtype} "
            f"{list(image.shape)}."
        )
    boxes, labels = _checked_boxes(boxes, labels, class_names, scores=scores, colors=colors)
    colors = [palette[label] for label in labels] if colors is None else colors
    colors = [tuple(int(channel) for channel in color) for color in colors]
    height, width = image.shape[:2]
    crowded = len(boxes) > CROWD
    side = min(height, width) * (0.6 if crowded else 1)
    line = max(1, round(side / LINES))
    font = _font(int(np.clip(side / TAGS, *TAG_SIZES)))
    corners = np.rint(np.clip(boxes, 0, 1) * [width, height, width, height]).astype(int)
    corners[:, :2] = np.minimum(corners[:, :2], [width - 1, height - 1])
    corners[:, 2:] = np.maximum(corners[:, 2:] - 1, corners[:, :2])  # the last pixels inside
    best_first = np.arange(len(boxes)) if scores is None else np.argsort(-np.asarray(scores))

    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    for i in best_first[::-1]:
        _outline(draw, corners[i], colors[i], line, dashed, halo=not crowded)
    taken = np.zeros((height, width), bool)  # by tags
    for i in best_first:
        score = "" if scores is None else f" {100 * scores[i]:.0f}"
        text = _shorten(class_names[labels[i]] + score, width - 4, font)
        tag_width, tag_height = _text_size(text, font)[0] + 4, int(font.size) + 4
        left, top = corners[i][:2]
        # Above the box, or inside it where there is no room; never outside the picture.
        x = max(0, min(left, width - tag_width))
        y = top - tag_height if top >= tag_height else min(top, height - tag_height)
        place = slice(max(0, y), y + tag_height), slice(x, x + tag_width)
        if y < 0 or tag_width > width or taken[place].any():
            continue
        taken[place] = True
        draw.rectangle((x, y, x + tag_width - 1, y + tag_height - 1), fill=colors[i])
        draw.text((x + 2, y + tag_height // 2), text, _ink_on(colors[i]), font, anchor="lm")
    return np.asarray(canvas)


def load_picture(path):
    """The image file `path` upright (EXIF) as RGB: uint8 [H, W, 3].

    Gray is repeated, alpha dropped, 16 bits a channel scaled to 8.
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
        gray = np.rint(np.clip(np.asarray(picture, np.float64), 0, 65535) / 257)
        picture = Image.fromarray(gray.astype(np.uint8))
    elif picture.mode == "F":
        raise ValueError(
            f"Cannot read the image {path}: floating-point pixels have no agreed range. "
            f"Convert it to 8 or 16 bits a channel."
        )
    return np.asarray(picture.convert("RGB"))


def size_of(path):
    """Height and width of the image file `path`, upright, without decoding it.

    Raises: ValueError if the file is missing, damaged or no picture.
    """
    try:
        with Image.open(path) as file:
            width, height = file.size
            turned = file.getexif().get(ORIENTATION, 1) >= 5  # by a quarter
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"Cannot read the image {path}: {error}.") from error
    return (width, height) if turned else (height, width)


def resized(picture, size):
    """`picture` uint8 [H, W, 3] in another `size` (height, width), bilinear."""
    height, width = size
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))


def save_picture(path, picture):
    """Write a picture uint8 [H, W, 3], or gray [H, W], to `path`, in the format of its ending.

    Makes its folder.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(picture)).save(path)


def save_animation(path, frames, milliseconds=80):
    """Write pictures uint8 [H, W, 3] of one size as an endless GIF, so long each."""
    first, *rest = (Image.fromarray(np.ascontiguousarray(frame)) for frame in frames)
    first.save(path, format="GIF", save_all=True, append_images=rest, duration=milliseconds, loop=0)


def save_label_map(path, labels, palette):
    """Write `labels` [H, W] as a palette PNG whose pixel values are the class ids (255 kept).

    Makes its folder.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
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


def _checked_boxes(boxes, labels, class_names, **more):
    """Boxes [N, 4] and labels int [N] as arrays, after a look at them and at `more` of them."""
    boxes, labels = np.asarray(boxes, np.float64), np.asarray(labels)
    boxes = boxes.reshape(0, 4) if boxes.size == 0 else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
        raise ValueError(
            f"Boxes must be finite numbers [N, 4], relative xyxy, received shape {boxes.shape}"
            + (" with NaN or infinity." if boxes.ndim == 2 and boxes.shape[1] == 4 else ".")
        )
    for name, values in {"labels": labels, **more}.items():
        if values is not None and len(values) != len(boxes):
            raise ValueError(f"{len(boxes)} boxes need as many {name}, received {len(values)}.")
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(class_names):
        raise ValueError(
            f"The boxes have labels from {labels.min()} to {labels.max()}, but there are "
            f"{len(class_names)} classes (0-{len(class_names) - 1}). Do they belong to another "
            f"dataset?"
        )
    return boxes, labels.astype(int)


def _ink_on(color):
    """Dark or light, whatever is read better on `color`."""
    return INK if np.dot(color, LUMA) > 140 else PAPER


def _outline(draw, corners, color, line, dashed, halo):
    """A rectangle whose outermost pixels are `corners`; dashes alternate with dark ones.

    A `halo` of one pixel in- and outside lets it be seen where the picture has its color.
    """
    left, top, right, bottom = corners.tolist()
    if halo:
        around = (left - 1, top - 1, right + 1, bottom + 1)
        draw.rectangle(around, outline=_ink_on(color), width=line + 2)
    draw.rectangle((left, top, right, bottom), outline=INK if dashed else color, width=line)
    if not dashed:
        return
    dash = 5 * line
    for x in range(left, right + 1, 2 * dash):
        end = min(x + dash - 1, right)
        draw.rectangle((x, top, end, min(top + line - 1, bottom)), fill=color)
        draw.rectangle((x, max(bottom - line + 1, top), end, bottom), fill=color)
    for y in range(top, bottom + 1, 2 * dash):
        end = min(y + dash - 1, bottom)
        draw.rectangle((left, y, min(left + line - 1, right), end), fill=color)
        draw.rectangle((max(right - line + 1, left), y, right, end), fill=color)


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
