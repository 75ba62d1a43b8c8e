"""Box files of others, read and written: PASCAL VOC's and MOT's. Standard library and NumPy only.

N boxes. A "continuous" box is (left, top, right, bottom) in pixels, with right - left its width.
VOC files hold 1-based inclusive pixels instead: there the width is xmax - xmin + 1.

Reference: Everingham and Winn, The PASCAL VOC2012 Challenge Development Kit; Leal-Taixe et al.,
MOTChallenge 2015.
"""

import dataclasses
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

VOC_SHIFT = (1.0, 1.0, 0.0, 0.0)  # from VOC's 1-based inclusive pixels to continuous ones
VOC_SIDES = ("xmin", "ymin", "xmax", "ymax")
RESULTS_NAME = re.compile(r"comp[34]_det_(?P<image_set>[^_]*)_(?P<class_name>.+)\.txt")
RESULTS_FORM = "comp4_det_IMAGESET_CLASS.txt"
RESULTS_LINE = "image_id score xmin ymin xmax ymax"
LISTED = re.compile(r"(.+?)(\s+(-1|0|1))?")  # an image, in lists of one class with a flag
MOT_LINE = "frame,id,left,top,width,height,confidence, then up to three more fields"
ROUNDING = 1e-3  # pixels: what writing a box with few decimals may take from its width


@dataclasses.dataclass(frozen=True)
class VocAnnotation:
    """What a VOC XML says of one image, as it says it.

    `size` (height, width) or None; `file_name` or None; `names` of the N objects; `boxes`
    float64 [N, 4] (xmin, ymin, xmax, ymax), 1-based inclusive pixels; `difficult` bool [N].
    """

    size: tuple[int, int] | None
    file_name: str | None
    names: list[str]
    boxes: np.ndarray
    difficult: np.ndarray


@dataclasses.dataclass(frozen=True)
class MotBoxes:
    """The lines of a MOT file, in their order.

    `frames` int64 [N], the first is 1; `identities` int64 [N], -1 for detections; `boxes` float64
    [N, 4], continuous; `confidences` float64 [N] (0 marks ground truth to be ignored).
    """

    frames: np.ndarray
    identities: np.ndarray
    boxes: np.ndarray
    confidences: np.ndarray


@dataclasses.dataclass(frozen=True)
class VocResults:
    """The detections of one class, in the order of their file.

    `image_ids` list of N strings; `boxes` float64 [N, 4], continuous; `scores` float64 [N].
    """

    image_ids: list[str]
    boxes: np.ndarray
    scores: np.ndarray


# --- VOC annotations ---------------------------------------------------------------------------


def read_voc_xml(path):
    """Reads a VOC annotation: a `VocAnnotation` whose boxes stand exactly as in the file.

    Boxes of the parts of an object (`<part>`) are not read. A `<size>` that is absent, not
    numeric or zero gives None; an absent or empty `<difficult>` gives False.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no VOC annotation, or an object without a name or with a box that is missing,
            not finite, or turned inside out; the message names the file and the object.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Annotation '{path}' does not exist.")
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, LookupError) as error:  # LookupError: an unknown encoding
        raise ValueError(f"Annotation '{path}' is not valid XML: {error}.") from error
    if root.tag != "annotation":
        raise ValueError(
            f"'{path}' is not a VOC annotation: expected the root element <annotation>, "
            f"received <{root.tag}>."
        )
    names, boxes, difficult = [], [], []
    for number, element in enumerate(root.findall("object"), start=1):
        place = f"Annotation '{path}', object {number}"
        name = (element.findtext("name") or "").strip()
        if not name:
            raise ValueError(f"{place} has no <name>.")
        place += f" ('{name}')"
        names.append(name)
        boxes.append(_xml_box(element, place))
        difficult.append(_xml_flag(element, "difficult", place))
    return VocAnnotation(
        size=_xml_size(root),
        file_name=(root.findtext("filename") or "").strip() or None,
        names=names,
        boxes=_boxes_array(boxes),
        difficult=np.array(difficult, bool),
    )


def voc_to_continuous(boxes):
    """Turns VOC's 1-based inclusive boxes [..., 4] into continuous ones: minus (1, 1, 0, 0).

    Then right - left is xmax - xmin + 1, the width by which the VOC devkit reckons.
    """
    return np.asarray(boxes) - VOC_SHIFT


def continuous_to_voc(boxes):
    """The inverse of `voc_to_continuous`."""
    return np.asarray(boxes) + VOC_SHIFT


def write_voc_xml(path, annotation):
    """Writes a `VocAnnotation`; an existing file is replaced. `read_voc_xml` gives it back."""
    root = ElementTree.Element("annotation")

    def add(parent, **texts):
        for tag, text in texts.items():
            ElementTree.SubElement(parent, tag).text = text

    if annotation.file_name:
        add(root, filename=annotation.file_name)
    if annotation.size:
        height, width = map(str, annotation.size)
        add(ElementTree.SubElement(root, "size"), width=width, height=height, depth="3")
    for name, box, difficult in zip(annotation.names, annotation.boxes, annotation.difficult):
        element = ElementTree.SubElement(root, "object")
        add(element, name=name, difficult=str(int(difficult)))
        sides = (f"{side:.9g}" for side in box)
        add(ElementTree.SubElement(element, "bndbox"), **dict(zip(VOC_SIDES, sides)))
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode") + "\n"
    Path(path).write_text(text, encoding="utf-8")


def _xml_box(element, place):
    box = element.find("bndbox")  # a direct child: those of the parts lie deeper
    if box is None:
        raise ValueError(f"{place} has no <bndbox>.")
    texts = [(box.findtext(side) or "").strip() for side in VOC_SIDES]
    try:
        sides = [float(text) for text in texts]
    except ValueError:
        sides = [math.nan]
    if not all(map(math.isfinite, sides)):
        received = ", ".join(f"{side}='{text}'" for side, text in zip(VOC_SIDES, texts))
        raise ValueError(f"{place}: expected four finite numbers, received {received}.")
    left, top, right, bottom = sides
    if right < left or bottom < top:
        raise ValueError(
            f"{place}: expected xmin <= xmax and ymin <= ymax, "
            f"received xmin={left:g}, ymin={top:g}, xmax={right:g}, ymax={bottom:g}."
        )
    return sides


def _xml_flag(element, name, place):
    text = (element.findtext(name) or "").strip()
    if text not in ("", "0", "1"):
        raise ValueError(f"{place}: expected 0 or 1 in <{name}>, received '{text}'.")
    return text == "1"


def _xml_size(root):
    try:
        size = tuple(int(float(root.findtext(f"size/{side}", "0"))) for side in ("height", "width"))
    except (ValueError, OverflowError):  # OverflowError: infinite
        return None
    return size if min(size) > 0 else None


# --- MOT ---------------------------------------------------------------------------------------


def read_mot(path):
    """Reads a MOT `gt.txt` or `det.txt`: `MotBoxes`. An empty file holds no boxes.

    Of the 7 to 10 fields of a line, frame,id,left,top,width,height,confidence are read; the rest
    (class and visibility, or world coordinates) is not looked at.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a broken line; the message names the file and the line.
    """
    rows = []
    for number, line in _lines(path, "MOT file"):
        fields = line.split(",")
        row = _finite_numbers(fields[:7]) if 7 <= len(fields) <= 10 else None
        if row is None:
            raise ValueError(_broken(path, number, MOT_LINE + "; all finite numbers", line))
        if row[0] < 1 or row[0] % 1 or row[1] % 1:
            raise ValueError(_broken(path, number, "a whole frame >= 1 and a whole id", line))
        if row[4] < 0 or row[5] < 0:
            raise ValueError(_broken(path, number, "a width and a height >= 0", line))
        rows.append(row)
    table = np.array(rows, np.float64).reshape(-1, 7)
    return MotBoxes(
        frames=table[:, 0].astype(np.int64),
        identities=table[:, 1].astype(np.int64),
        boxes=np.concatenate([table[:, 2:4], table[:, 2:4] + table[:, 4:6]], axis=1),
        confidences=table[:, 6],
    )


def write_mot(path, frames, boxes, scores, identities=None):
    """Writes a MOT `det.txt`, `frame,-1,left,top,width,height,score,-1,-1,-1`, sorted by frame.

    With `identities` it is a `gt.txt`: they stand where -1 stands, and a score of 0 is ignored.

    Args:
        path: the file; an existing one is replaced.
        frames: int [N], the first is 1. Boxes of one frame keep their order.
        boxes: [N, 4], continuous.
        scores: [N].
        identities: int [N], of the objects; None for detections.

    Raises:
        ValueError: shapes that do not fit, a frame below 1, a number that is not finite, or a box
            whose right edge lies left of its left one; the message names the box.
    """
    frames = np.asarray(frames, np.int64)
    identities = -np.ones_like(frames) if identities is None else np.asarray(identities, np.int64)
    boxes, scores = _checked_boxes(boxes, scores, f"Detections for '{path}'")
    if frames.shape != scores.shape:
        raise ValueError(f"Expected one frame a box, received {len(frames)} for {len(boxes)}.")
    if identities.shape != frames.shape:
        raise ValueError(
            f"Expected one identity a box, received {len(identities)} for {len(boxes)}."
        )
    if len(frames) and frames.min() < 1:
        raise ValueError(f"Frames of MOT files are numbered from 1, received {frames.min()}.")
    boxes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    lines = [
        f"{frames[i]},{identities[i]},{_texts(boxes[i], ',')},{scores[i]:.9g},-1,-1,-1\n"
        for i in np.argsort(frames, kind="stable")
    ]
    Path(path).write_text("".join(lines), encoding="utf-8")


# --- VOC results -------------------------------------------------------------------------------


def read_image_set(path):
    """The images that a list of VOC's `ImageSets` names, one a line: list of str.

    In the lists of one class a flag follows, -1, 0 or 1; it is not looked at.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no image, or one that stands twice.
    """
    images = [LISTED.fullmatch(line)[1] for _, line in _lines(path, "Image set")]
    if not images:
        raise ValueError(f"Image set '{path}' names no image.")
    if len(set(images)) < len(images):
        twice = next(image for image in images if images.count(image) > 1)
        raise ValueError(f"Image set '{path}' names '{twice}' more than once.")
    return images


def read_voc_results(directory, class_names=None):
    """Reads the VOC result files of a folder: dict from class name to `VocResults`.

    Reads `comp4_det_IMAGESET_CLASS.txt` (or comp3); lines hold `image_id score xmin ymin xmax
    ymax` with 1-based inclusive pixels.

    Args:
        directory: the folder, with one file a class.
        class_names: if given, each of them is a key, and one without a file has no detections.
            They also tell where the class begins in a file name with several underscores;
            without them it begins after the first. Files of other classes are read as well.

    Raises:
        FileNotFoundError: no such folder, or no result file in it.
        ValueError: a broken line (file and line are named), two files of one class, or files of
            none of `class_names`.
    """
    directory = Path(directory)
    if not directory.is_dir():
        what = "is a file" if directory.exists() else "does not exist"
        raise FileNotFoundError(
            f"The folder of VOC results '{directory}' {what}: expected a folder of {RESULTS_FORM}."
        )
    files = {}
    for path in sorted(directory.iterdir()):
        name = RESULTS_NAME.fullmatch(path.name)
        if name is None:
            continue
        known = [c for c in class_names or () if path.stem.endswith(f"_{c}")]
        class_name = max(known, key=len, default=name["class_name"])
        if class_name in files:
            raise ValueError(
                f"'{directory}' holds two result files of the class '{class_name}': "
                f"{files[class_name].name} and {path.name}. Keep each set of results in a folder "
                "of its own."
            )
        files[class_name] = path
    if not files:
        raise FileNotFoundError(f"No VOC results in '{directory}': expected files {RESULTS_FORM}.")
    if class_names and not set(files) & set(class_names):
        raise ValueError(
            f"The result files in '{directory}' are of none of the expected classes. "
            f"Expected some of {', '.join(class_names)}; received {', '.join(files)}."
        )
    results = {name: VocResults([], np.zeros((0, 4)), np.zeros(0)) for name in class_names or ()}
    return results | {name: _read_results_file(path) for name, path in files.items()}


def _read_results_file(path):
    image_ids, rows = [], []
    for number, line in _lines(path, "VOC results"):
        fields = line.rsplit(maxsplit=5)  # from the right: names of own images may hold spaces
        row = _finite_numbers(fields[1:]) if len(fields) == 6 else None
        if row is None:
            raise ValueError(_broken(path, number, RESULTS_LINE + "; all finite numbers", line))
        if min(row[3] - row[1], row[4] - row[2]) + 1 < -ROUNDING:
            raise ValueError(_broken(path, number, "xmin <= xmax and ymin <= ymax", line))
        image_ids.append(fields[0])
        rows.append(row)
    table = np.array(rows, np.float64).reshape(-1, 5)
    boxes = voc_to_continuous(table[:, 1:])
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
    return VocResults(image_ids, boxes, table[:, 0])


def write_voc_results(directory, image_set, image_ids, detections, class_names):
    """Writes `comp4_det_IMAGESET_CLASS.txt` for every class, also for those without detections.

    Args:
        directory: the folder, made if it does not exist; files of these names are replaced.
        image_set: e.g. "test".
        image_ids: one string an image, the file name without folder and extension.
        detections: one (boxes [N, 4], labels [N], scores [N]) an image: boxes continuous, labels
            indices into `class_names`.
        class_names: of the labels.

    Raises:
        ValueError: counts or shapes that do not fit, a label that is no class, a number that is
            not finite, a box whose right edge lies left of its left one, or a name that cannot
            be written.
    """
    if len(image_ids) != len(detections):
        raise ValueError(
            f"Expected the detections of {len(image_ids)} images, received {len(detections)}."
        )
    for name in (image_set, *class_names):
        if not name or "/" in name:
            raise ValueError(
                f"'{name}' cannot be a part of a file name such as {RESULTS_FORM}. Rename it."
            )
    lines = [[] for _ in class_names]
    for image_id, (boxes, labels, scores) in zip(image_ids, detections):
        if not image_id or image_id != " ".join(image_id.split()):
            raise ValueError(
                f"The image name {image_id!r} cannot stand in a result file: expected a text "
                "without line breaks, tabs, outer or double spaces. Rename the image."
            )
        boxes, scores = _checked_boxes(boxes, scores, f"Detections of '{image_id}'")
        labels = np.asarray(labels, np.int64)
        if labels.shape != scores.shape:
            raise ValueError(
                f"Detections of '{image_id}': expected one label a box, received {len(labels)} "
                f"for {len(boxes)}."
            )
        for label, score, box in zip(labels, scores, continuous_to_voc(boxes)):
            if not 0 <= label < len(class_names):
                raise ValueError(
                    f"Detections of '{image_id}': expected labels from 0 to "
                    f"{len(class_names) - 1}, received {label}."
                )
            lines[label].append(f"{image_id} {score:.9g} {_texts(box, ' ')}\n")
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for class_name, of_class in zip(class_names, lines):
        path = directory / f"comp4_det_{image_set}_{class_name}.txt"
        path.write_text("".join(of_class), encoding="utf-8")


# --- text --------------------------------------------------------------------------------------


def _lines(path, kind):
    """The lines of a text file that are not blank: (number from 1, stripped text)."""
    path = Path(path)
    if path.is_dir():
        there = sorted(file.name for file in path.glob("*.txt"))[:5]
        raise IsADirectoryError(
            f"{kind} '{path}' is a folder: expected the path of one text file, found in it "
            f"{', '.join(there) or 'none'}."
        )
    if not path.is_file():
        raise FileNotFoundError(f"{kind} '{path}' does not exist.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{kind} '{path}' is no UTF-8 text: {error}.") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line := line.strip():
            yield number, line


def _finite_numbers(fields):
    """The fields as floats, or None if one is no finite number."""
    try:
        numbers = [float(field) for field in fields]
    except ValueError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def _broken(path, number, expected, line):
    return f"'{path}', line {number}: expected {expected}; received '{line[:100]}'."


def _texts(numbers, separator):
    return separator.join(f"{number:.9g}" for number in numbers)  # 9 digits: float32 exactly


def _boxes_array(boxes):
    return np.array(boxes, np.float64).reshape(-1, 4)


def _checked_boxes(boxes, scores, place):
    boxes, scores = np.asarray(boxes, np.float64), np.asarray(scores, np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
        raise ValueError(
            f"{place}: expected boxes [N, 4] and scores [N], received {boxes.shape} and "
            f"{scores.shape}."
        )
    finite = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    bad = np.flatnonzero(~finite | (boxes[:, 2:] < boxes[:, :2]).any(axis=1))
    if len(bad):
        raise ValueError(
            f"{place}: box {bad[0]} is broken. Expected finite numbers with left <= right and "
            f"top <= bottom, received {boxes[bad[0]].tolist()}, score {scores[bad[0]]:g}."
        )
    return boxes, scores
