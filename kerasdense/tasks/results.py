"""What prediction leaves in a folder: label maps and overlays, or boxes; and which images it takes.

H W size, D detections.
"""

import numpy as np

from kerasdense.data import formats
from kerasdense.drawing import pictures

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
LEGEND_WIDTH = 800  # pixels, if there are many classes


def find_images(paths, output=None):
    """The files among `paths` and the images in its folders, without what lies in `output`.

    Raises: ValueError if there is none, or a result might overwrite an image.
    """
    output = output.resolve() if output else None
    images = []
    for path in paths:
        if (path / "seqinfo.ini").is_file():
            path = path / "img1"  # a MOT sequence
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
            inside = path.resolve() == output or output in path.resolve().parents
            images += [p for p in found if inside or output not in p.resolve().parents]
        else:
            images.append(path)
    for image in images:
        if image.resolve().parent == output:
            raise ValueError(
                f"{image} lies in the output folder, where results would overwrite images. "
                f"Choose another --output."
            )
    if not images:
        raise ValueError(
            f"No images in {', '.join(map(str, paths))}: expected files ending in "
            f"{', '.join(sorted(SUFFIXES))}."
        )
    return images


class LabelMaps:
    """Writes label maps, NAME.png, overlays on the images, NAME_overlay.png, and legend.png."""

    def __init__(self, output, class_names, palette):
        self.output, self.class_names, self.palette = output, class_names, palette
        self.taken = {"legend"}
        legend = pictures.legend(class_names, palette, LEGEND_WIDTH if len(palette) > 40 else None)
        pictures.save_picture(self.output / "legend.png", legend)

    def add(self, path, picture, outputs):
        """Writes `labels` uint8 [H, W] of `picture` uint8 [H, W, 3]; returns a line about it."""
        labels = outputs["labels"]
        name = unused_name(path.stem, self.taken, ("", "_overlay"))
        pictures.save_label_map(self.output / f"{name}.png", labels, self.palette)
        overlay = pictures.overlay(picture, labels, self.palette)
        pictures.save_picture(self.output / f"{name}_overlay.png", overlay)
        return f"{name}.png: {self._summary(labels)}"

    def _summary(self, labels):
        """The three largest classes with their shares."""
        shares = np.bincount(labels.ravel(), minlength=len(self.class_names)) / labels.size
        largest = [i for i in np.argsort(-shares)[:3] if shares[i] > 0]
        return ", ".join(f"{self.class_names[i]} {100 * shares[i]:.0f} %" for i in largest)

    def finish(self, images):
        """Everything is written already."""


class Boxes:
    """Draws boxes of at least `score`, NAME_boxes.jpg, and writes all to VOC's and MOT's files."""

    def __init__(self, output, class_names, palette, score):
        self.output, self.score = output, score
        self.class_names, self.palette = class_names, palette
        self.taken, self.found = set(), {}

    def add(self, path, picture, outputs):
        """Draws what was detected in `picture` uint8 [H, W, 3]; returns a line about it.

        `boxes` float [D, 4], xyxy in pixels; `scores` [D]; `classes` int [D]; `num_detections`.
        """
        count = outputs["num_detections"]
        boxes, scores, classes = (outputs[key][:count] for key in ("boxes", "scores", "classes"))
        shown = scores >= self.score
        height, width = picture.shape[:2]
        drawn = pictures.draw_boxes(
            picture,
            boxes[shown] / [width, height, width, height],
            classes[shown],
            self.class_names,
            self.palette,
            scores[shown],
        )
        name = unused_name(path.stem, self.taken, ("_boxes",))
        self.found[path] = name, boxes, classes, scores
        pictures.save_picture(self.output / f"{name}_boxes.jpg", drawn)
        counts = np.bincount(classes[shown], minlength=len(self.class_names))
        parts = [f"{n} {each}" for each, n in zip(self.class_names, counts) if n]
        return f"{name}_boxes.jpg: {', '.join(parts) or 'nothing'}"

    def finish(self, images):
        """Writes voc/comp4_det_test_CLASS.txt and mot/det.txt; `images` are all in order."""
        frames = _frame_numbers(images)
        formats.write_voc_results(
            self.output / "voc",
            "test",
            [name for name, *_ in self.found.values()],
            [(boxes, classes, scores) for _, boxes, classes, scores in self.found.values()],
            self.class_names,
        )
        (self.output / "mot").mkdir(exist_ok=True)
        for index, class_name in enumerate(self.class_names):
            mot_frames, mot_boxes, mot_scores = [], np.zeros((0, 4)), np.zeros(0)
            for path, (_, boxes, classes, scores) in self.found.items():
                mine = classes == index
                mot_frames += [frames[path]] * int(mine.sum())
                mot_boxes = np.concatenate([mot_boxes, boxes[mine]])
                mot_scores = np.concatenate([mot_scores, scores[mine]])
            name = "det.txt" if len(self.class_names) == 1 else f"det_{class_name}.txt"
            formats.write_mot(
                self.output / "mot" / name, mot_frames, mot_boxes, mot_scores
            )


def _frame_numbers(images):
    """The number of each frame: that of its name, if all are different numbers, else its place."""
    stems = [path.stem for path in images]
    if all(stem.isdecimal() and int(stem) for stem in stems) and len(set(map(int, stems))) == len(
        stems
    ):
        return {path: int(path.stem) for path in images}
    return {path: place for place, path in enumerate(images, 1)}


def unused_name(stem, taken, endings):
    """`stem`, or `stem_2`, ... so that none of its files, with these endings, is written twice."""
    number, name = 1, stem
    while {name + ending for ending in endings} & taken:
        number += 1
        name = f"{stem}_{number}"
    taken |= {name + ending for ending in endings}
    return name
