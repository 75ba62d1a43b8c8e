#!/usr/bin/env python3
"""Predicts label maps or boxes of images with a fitted or exported model.

    scripts/predict.py --run runs/camvid photo.jpg folder/ --output predictions
    scripts/predict.py --saved-model saved_models/ssd300 MOT15/train/TUD-Campus --output predictions

A segmentation model writes for each image NAME.png, a palette PNG whose pixel values are class
ids, and NAME_overlay.png; once: legend.png. A detection model writes NAME_boxes.jpg, showing what
scores at least --score, and of all images together, whatever the score, VOC's result files
voc/comp4_det_test_CLASS.txt and MOT's mot/det.txt (det_CLASS.txt if there are several classes).
Frames have the numbers of their files if all names are numbers, else they are counted.

Images that cannot be read are named and skipped; the exit status is then 1.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from kerasdense import annotation_files, command_line, drawing

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def main():
    arguments = parse()

    import tensorflow as tf

    images = find_images(arguments.images, arguments.output)
    predict, task, class_names, palette = load(arguments)
    arguments.output.mkdir(parents=True, exist_ok=True)
    kind = {"segmentation": LabelMaps, "detection": Boxes}[task]
    results = kind(arguments, class_names, palette)
    failed = 0
    for number, path in enumerate(images, 1):
        counter = f"[{number}/{len(images)}]"
        try:
            picture = drawing.load_picture(path)
            outputs = {name: np.asarray(value)[0] for name, value in predict(picture[None]).items()}
        except (ValueError, tf.errors.OpError) as error:
            reason = " ".join(str(error).split())[:300]
            print(f"{counter} skipped {path}: {reason}", file=sys.stderr)
            failed += 1
            continue
        print(f"{counter} {path} -> {results.add(path, picture, outputs)}")
    results.finish(images)
    print(f"{len(images) - failed} of {len(images)} images predicted into {arguments.output}")
    if failed:
        print(f"{failed} could not be predicted, see above", file=sys.stderr)
    return 1 if failed else 0


def load(arguments):
    """A function from pictures [1, H, W, 3] to outputs, the task, class names, palette."""
    if arguments.saved_model:
        from kerasdense.prediction import Predictor

        served = Predictor(arguments.saved_model)
        return served.predict, served.task, served.class_names, served.palette
    # Only here, so that an exported model is served without Keras.
    import tensorflow as tf

    from kerasdense import export, runs

    model, facts = runs.load_run(arguments.run)
    served = export.SERVED[facts["task"]](model)  # what the SavedModel holds, so both ways agree
    dataset = facts["dataset"]
    return (
        lambda pictures: served.serving_default(tf.constant(pictures)),
        facts["task"],
        dataset["class_names"],
        dataset["palette"],
    )


class LabelMaps:
    """Writes label maps and overlays."""

    def __init__(self, arguments, class_names, palette):
        self.output, self.class_names, self.palette = arguments.output, class_names, palette
        self.taken = {"legend"}
        drawing.save_picture(self.output / "legend.png", drawing.legend(class_names, palette))

    def add(self, path, picture, outputs):
        labels = outputs["labels"]
        name = unused_name(path.stem, self.taken, ("", "_overlay"))
        drawing.save_label_map(self.output / f"{name}.png", labels, self.palette)
        overlay = drawing.overlay(picture, labels, self.palette)
        drawing.save_picture(self.output / f"{name}_overlay.png", overlay)
        return f"{name}.png: {self.summary(labels)}"

    def summary(self, labels):
        """The three largest classes with their shares."""
        shares = np.bincount(labels.ravel(), minlength=len(self.class_names)) / labels.size
        largest = [i for i in np.argsort(-shares)[:3] if shares[i] > 0]
        return ", ".join(f"{self.class_names[i]} {100 * shares[i]:.0f} %" for i in largest)

    def finish(self, images):
        """Everything is written already."""


class Boxes:
    """Draws boxes, and writes them all to result files of VOC and MOT."""

    def __init__(self, arguments, class_names, palette):
        self.output, self.score = arguments.output, arguments.score
        self.class_names, self.palette = class_names, palette
        self.taken, self.found = set(), {}

    def add(self, path, picture, outputs):
        count = outputs["num_detections"]
        boxes, scores, classes = (outputs[key][:count] for key in ("boxes", "scores", "classes"))
        shown = scores >= self.score
        height, width = picture.shape[:2]
        drawn = drawing.draw_boxes(
            picture,
            boxes[shown] / [width, height, width, height],
            classes[shown],
            self.class_names,
            self.palette,
            scores[shown],
        )
        name = unused_name(path.stem, self.taken, ("_boxes",))
        self.found[path] = name, boxes, classes, scores
        drawing.save_picture(self.output / f"{name}_boxes.jpg", drawn)
        counts = np.bincount(classes[shown], minlength=len(self.class_names))
        parts = [f"{n} {each}" for each, n in zip(self.class_names, counts) if n]
        return f"{name}_boxes.jpg: {', '.join(parts) or 'nothing'}"

    def finish(self, images):
        frames = frame_numbers(images)
        annotation_files.write_voc_results(
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
            annotation_files.write_mot(
                self.output / "mot" / name, mot_frames, mot_boxes, mot_scores
            )


def find_images(paths, output):
    """The files among `paths` and the images in its folders, without what lies in `output`.

    Raises: ValueError if there is none, or a result might overwrite an image.
    """
    output = output.resolve()
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


def frame_numbers(images):
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


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--run", type=Path, help="the --workdir of a fit script")
    model.add_argument("--saved-model", type=Path, help="NAME (newest version) or NAME/VERSION")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE|FOLDER")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument(
        "--score", type=float, default=0.5, help="of the boxes that are drawn, at least"
    )
    return parser.parse_args()


if __name__ == "__main__":
    command_line.run(main)
