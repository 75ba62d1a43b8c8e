#!/usr/bin/env python3
"""Makes adversarial examples for a fitted model, and measures how well it stands them.

    scripts/attack.py --run runs/camvid --limit 3
    scripts/attack.py --run runs/camvid --images street.png --method minimal \\
        --target-class Road:Building --confidence 0.9
    scripts/attack.py --run runs/ssd --images photos/ --suppress
    scripts/attack.py --run runs/camvid --curve 1,2,4,8

Without a target the attack leads away from the truth, or where there is none (--images) from the
clean prediction. Written are adversarial/NAME.png, the files that were judged; pictures/NAME.png:
image, prediction, adversarial image, its prediction and the amplified perturbation; report.json.
With --curve only curve.json and curve.png: the accuracy over epsilon.

An object of a detector is gone once no box of score 0.5 or more is left on it. Average precision
ranks boxes of any score, and may stay high where all objects are gone in this sense.

A detector or a classifier is attacked on pictures warped to the size that its run warps them to:
that is the size of the files, and of --mask and --sticker.
"""

import argparse
import dataclasses
import inspect
import json
import time
from pathlib import Path

import numpy as np

from kerasdense.cli import command_line
from kerasdense.drawing import pictures

EPSILON = 8.0  # gray levels, of the maximum norm
UNIVERSAL = "universal"
METHODS = ("fgsm", "pgd", "segpgd", "cospgd", "dag", "minimal", UNIVERSAL)
PASSES, UNIVERSAL_STEP = 5, 0.2  # over the images; part of epsilon that a batch moves


@dataclasses.dataclass(frozen=True)
class Job:
    """What the functions below share; attack and goal as in `kerasdense.adversarial`."""

    arguments: argparse.Namespace
    model: object
    facts: dict  # run.json
    attack: object
    goal: object
    epsilon: float | None
    output: Path

    @property
    def class_names(self):
        return self.facts["dataset"]["class_names"]

    @property
    def xla(self):
        return command_line.uses_xla(self.arguments)


def main():
    arguments = parse()

    from kerasdense.training import run_folder

    attack = make_attack(arguments)
    epsilon = find_epsilon(arguments, attack)
    model, facts = run_folder.load_run(arguments.run)
    goal = make_goal(arguments, facts["task"], facts["dataset"]["class_names"])
    output = arguments.output or arguments.run / "attack"
    job = Job(arguments, model, facts, attack, goal, epsilon, output)
    source, count, samples = find_samples(job, arguments.split)
    output.mkdir(parents=True, exist_ok=True)  # fails now rather than after the attack
    print(f"{arguments.method} on {arguments.run}: {count} images of {source}", flush=True)
    work = measure_curve if arguments.curve else make_examples
    name, result = work(job, count, samples)
    report = {
        "run": str(arguments.run),
        "data": source,
        "method": arguments.method,
        "goal": {
            "targeted": goal.targeted,
            "target_class": arguments.target_class,
            "target_map": arguments.target_map and str(arguments.target_map),
            "suppress": goal.suppress,
            "confidence": goal.confidence,
        },
        "seed": arguments.seed,
        **result,
    }
    (output / name).write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")
    print(f"{name} and pictures lie in {output}")


def measure_curve(job, count, samples):
    """Draws and prints a robustness curve; returns the name of its file and its content."""
    from kerasdense.attacks import judge, report

    arguments = job.arguments
    curve = judge.robustness_curve(
        job.model,
        samples(),
        job.class_names,
        job.attack,
        arguments.curve,
        job.goal,
        arguments.batch_size,
        arguments.seed,
        job.xla,
        count,
    )
    print(report.curve_table(curve))
    title = f"{arguments.method} on {arguments.run.name}"
    pictures.save_picture(job.output / "curve.png", report.curve_picture(curve, title))
    return "curve.json", curve


def make_examples(job, count, samples):
    """Makes and draws adversarial examples; returns the name of the report and its content."""
    from kerasdense.attacks import judge, methods, report

    arguments, goal, output = job.arguments, job.goal, job.output
    report = {"attack": judge.described(job.attack), "epsilon": job.epsilon}
    started = time.perf_counter()
    if arguments.method == UNIVERSAL:
        attack_batch, report["fitted_on"] = universal(job)
    else:
        attack_batch = methods.attacker(
            job.model, job.attack, goal.targeted, goal.confidence, job.xla
        )
    for folder in ("adversarial", "pictures"):
        (output / folder).mkdir(exist_ok=True)
    judge = judge.Judge(job.model, goal, output / "adversarial")
    tally = judge.Tally(judge.task, job.class_names)
    progress = judge.Progress(count, job.attack)
    for group in judge.by_size(samples(), arguments.batch_size):
        advance = progress.of_batch(len(group))
        options = {"epsilon": job.epsilon, "seed": arguments.seed, "progress": advance}
        for example in judge.attack(judge.look(group), attack_batch, **options):
            picture = report.picture(
                example,
                tally.add(example),
                job.class_names,
                job.facts["dataset"]["palette"],
                arguments.amplify,
            )
            pictures.save_picture(output / "pictures" / example.path.name, picture)
        advance()
    result = tally.result()
    print(report.table(result))
    report["seconds"] = time.perf_counter() - started
    return "report.json", report | result | {"per_image": tally.rows}


def make_attack(arguments):
    """The `methods.Attack` that the flags describe."""
    from kerasdense.attacks import methods

    method = arguments.method
    options = {name: getattr(arguments, name) for name in ("norm", "steps", "step_size")}
    options = {name: value for name, value in options.items() if value is not None}
    if method == UNIVERSAL:
        options = {"steps": PASSES, "step_size": UNIVERSAL_STEP, "random_start": False} | options
        method = "pgd"
    function = methods.METHODS[method]
    for name in options:
        if name not in inspect.signature(function).parameters:
            raise ValueError(f"--{name.replace('_', '-')} does not fit --method {method}.")
    return function(**options)


def find_epsilon(arguments, attack):
    """The radius in gray levels, None for attacks without."""
    method, epsilon = arguments.method, arguments.epsilon
    if method == "minimal" and (epsilon or arguments.curve):
        raise ValueError(
            "--method minimal looks for the smallest perturbation and takes no --epsilon and no "
            "--curve. Take pgd, segpgd or cospgd for those."
        )
    if arguments.fit_split and (method != UNIVERSAL or arguments.images):
        raise ValueError(
            "--fit-split is for --method universal on a dataset: the split its perturbation is "
            "found on."
        )
    if arguments.curve:
        if epsilon or method == UNIVERSAL:
            raise ValueError(
                "--curve names all epsilons and attacks each image: it goes with neither "
                "--epsilon nor --method universal."
            )
        return None
    if epsilon is None and attack.bounded:
        if attack.norm == "l2":
            raise ValueError(
                "--norm l2 needs --epsilon: the length of the whole perturbation in gray levels, "
                "e.g. 400, which is one level of each value of a 231x231 picture."
            )
        return EPSILON
    return epsilon


def make_goal(arguments, task, class_names):
    """The `judge.Goal` that the flags describe."""
    from kerasdense.data import datasets
    from kerasdense.attacks import judge
    from kerasdense.metrics.labels import IGNORE

    moves = target_map = None
    if arguments.target_class:
        moves = dict(class_pair(text, class_names) for text in arguments.target_class)
    if arguments.target_map:
        target_map = datasets.preparation.read_mask(arguments.target_map)
        wrong = target_map[(target_map >= len(class_names)) & (target_map != IGNORE)]
        if wrong.size:
            raise ValueError(
                f"--target-map {arguments.target_map} holds class {wrong[0]}, but there are "
                f"{len(class_names)} (0-{len(class_names) - 1}, {IGNORE} = any): "
                f"{', '.join(class_names)}."
            )
    goal = judge.Goal(moves, target_map, arguments.suppress, arguments.confidence)
    if not goal.targeted and (arguments.method == "dag" or task == "detection"):
        who = "--method dag" if arguments.method == "dag" else "A detector"
        targets = {
            "segmentation": "--target-class A:B or --target-map FILE",
            "detection": "--suppress or --target-class A:B",
            "classification": "--target-class A:B",
        }
        raise ValueError(f"{who} needs a target: {targets[task]}.")
    return goal


def class_pair(text, class_names):
    """`A:B` as two class numbers."""
    pair = text.split(":")
    if len(pair) != 2 or pair[0] == pair[1]:
        raise ValueError(f"--target-class expects two classes A:B, received '{text}'.")
    for name in pair:
        if name not in class_names:
            raise ValueError(f"Unknown class '{name}': there are {', '.join(class_names)}.")
    return tuple(class_names.index(name) for name in pair)


def find_samples(job, split):
    """The samples to attack: a description, their number, and a function that yields them."""
    from kerasdense.tasks import results

    arguments, facts = job.arguments, job.facts
    size = None  # of each image its own
    if facts["task"] == "detection":
        size = job.model.input.shape[1:3]
    elif facts["task"] == "classification":
        size = facts["arguments"]["size"]
    if arguments.images:
        if arguments.dataset or arguments.source:
            raise ValueError("--images or --dataset with --source: expected one of them.")
        paths = results.find_images(arguments.images, job.output)
        results.find_images(paths, job.output / "adversarial")  # where they would be overwritten
        paths = paths[: arguments.limit]
        source, count = ", ".join(map(str, arguments.images)), len(paths)

        def read():
            return pictures(paths, size)
    else:
        source, count, read = dataset_samples(arguments, facts, split, size)
    return source, count, lambda: restricted(read(), arguments)


def pictures(paths, size):
    """Samples of image files, warped to `size` (None: as they are)."""
    from kerasdense.data import augment

    for path in paths:
        image = pictures.load_picture(path)
        if size is not None:
            image = augment.warp(size)({"image": image}, None)["image"].numpy()
        yield {"image": image, "file_name": str(path)}


def dataset_samples(arguments, facts, split, size):
    """As `find_samples`, of a split of a dataset, by default the run's own."""
    from kerasdense.data import pipeline

    builder, name = command_line.load_dataset(arguments, facts)
    task = facts["task"]
    if task == "segmentation":
        batches = pipeline.eval_batches(builder, split)
    else:
        targets = None
        if task == "classification":
            targets = pipeline.image_labels(len(facts["dataset"]["class_names"]))
        batches = pipeline.detection_eval_batches(builder, split, size, targets=targets)
    count = min(builder.info.splits[split].num_examples, arguments.limit or np.inf)

    def read():
        for sample in batches.unbatch().take(count).as_numpy_iterator():
            yield sample | {"file_name": sample["file_name"].decode()}

    return f"{name}, split {split}", count, read


def restricted(samples, arguments):
    """The samples with the region of --mask or --sticker, if there is one."""
    mask = None
    if arguments.mask:
        mask = pictures.load_picture(arguments.mask).max(axis=-1) > 127
    for sample in samples:
        height, width = sample["image"].shape[:2]
        if arguments.sticker:
            top, left, bottom, right = arguments.sticker
            mask = np.zeros((height, width), bool)
            mask[top:bottom, left:right] = True
            if not 0 <= top < bottom <= height or not 0 <= left < right <= width:
                raise ValueError(
                    f"--sticker expects y0,x0,y1,x1 inside {sample['file_name']}, {height} rows "
                    f"and {width} columns, received {','.join(map(str, arguments.sticker))}."
                )
        if mask is not None:
            if not mask.any():
                raise ValueError(f"--mask {arguments.mask} has no white pixel: none may change.")
            sample = sample | {"region": mask}
        yield sample


def universal(job):
    """An `attack_batch` that adds one perturbation to all images, and what it was fitted on."""
    from kerasdense.attacks import judge, methods, report

    arguments, goal = job.arguments, job.goal
    source, count, samples = find_samples(job, arguments.fit_split or arguments.split)
    print(f"one perturbation for {count} images of {source}", flush=True)
    judge = judge.Judge(job.model, goal)
    batches, region = [], None
    for group in judge.by_size(samples(), arguments.batch_size):
        batch = judge.look(group)
        if not batch.counted.any():
            continue
        if batches and batch.images.shape[1:] != batches[0][0].shape[1:]:
            raise ValueError(
                f"A universal perturbation has one size for all images, received images of "
                f"{batches[0][0].shape[1:3]} and {batch.images.shape[1:3]}. Choose others."
            )
        batches.append((batch.images, batch.labels.astype(np.int16)))
        region = group[0].get("region")
    if not batches:
        raise ValueError(f"Nothing can be attacked: no pixel or object of {source} counts.")
    progress = judge.Progress(len(batches), job.attack)
    found = methods.universal(
        job.model,
        job.attack,
        batches,
        job.epsilon,
        passes=job.attack.steps,
        targeted=goal.targeted,
        confidence=goal.confidence,
        mask=region,
        xla=job.xla,
        progress=progress.of_batch(1),
    )
    np.save(job.output / "universal.npy", found)
    factor = arguments.amplify or report.visible_factor(found)
    pictures.save_picture(job.output / "universal.png", pictures.amplified(found, factor))

    def attack_batch(images, labels, **others):
        if images.shape[1:] != found.shape:
            raise ValueError(
                f"The universal perturbation has the size {found.shape[:2]}, but an image "
                f"{images.shape[1:3]}. Choose images of one size."
            )
        return methods.apply(images, found)

    return attack_batch, source


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    positive = command_line.positive
    parser.add_argument("--run", type=Path, required=True, help="the --workdir of a fit script")
    parser.add_argument("--output", type=Path, help="default: RUN/attack")

    what = parser.add_argument_group("what is attacked (default: the validation split of the run)")
    what.add_argument("--images", type=Path, nargs="+", metavar="FILE|FOLDER")
    command_line.add_dataset_flags(what, required=False)
    what.add_argument("--split", default="val")
    what.add_argument("--limit", type=positive(int), metavar="N", help="only the first N images")

    how = parser.add_argument_group("how")
    how.add_argument("--method", choices=METHODS, default="segpgd")
    how.add_argument("--norm", choices=("linf", "l2"), help="default: linf; of minimal l2")
    how.add_argument(
        "--epsilon",
        type=positive(float),
        metavar="LEVELS",
        help="largest norm of the perturbation in gray levels (1/255 of the range); "
        f"default {EPSILON:g} for linf",
    )
    how.add_argument(
        "--curve",
        type=command_line.numbers,
        metavar="LEVELS",
        help="measure a robustness curve over these epsilons, e.g. 1,2,4,8",
    )
    how.add_argument(
        "--steps",
        type=positive(int),
        help=f"of the attack; of {UNIVERSAL}: passes over the images (default {PASSES})",
    )
    how.add_argument(
        "--step-size",
        type=positive(float),
        help="as a part of epsilon; of dag and minimal, in gray levels",
    )
    how.add_argument(
        "--fit-split", metavar="SPLIT", help=f"of {UNIVERSAL}: where it is found (default: --split)"
    )
    how.add_argument("--batch-size", type=positive(int), default=1)
    how.add_argument("--seed", type=int, default=0)
    how.add_argument(
        "--xla", choices=("auto", "on", "off"), default="auto", help="auto: on where a GPU is"
    )

    goal = parser.add_argument_group("toward what (default: any wrong class)")
    targets = goal.add_mutually_exclusive_group()
    targets.add_argument(
        "--target-class", nargs="+", metavar="A:B", help="what is seen as class A becomes class B"
    )
    targets.add_argument(
        "--target-map", type=Path, metavar="FILE", help="PNG of class numbers, 255 = any class"
    )
    targets.add_argument("--suppress", action="store_true", help="a detector finds nothing")
    goal.add_argument(
        "--confidence", type=float, help="probability from which a pixel counts, e.g. 0.9"
    )
    where = goal.add_mutually_exclusive_group()
    where.add_argument("--mask", type=Path, metavar="FILE", help="only its white pixels may change")
    where.add_argument(
        "--sticker",
        type=command_line.integers,
        metavar="Y0,X0,Y1,X1",
        help="only this rectangle may change",
    )
    parser.add_argument(
        "--amplify",
        type=positive(float),
        metavar="FACTOR",
        help="of the perturbation in pictures (default: so that it is seen)",
    )
    arguments = parser.parse_args()
    if arguments.sticker and len(arguments.sticker) != 4:
        parser.error(f"--sticker expects Y0,X0,Y1,X1, received {len(arguments.sticker)} numbers")
    return arguments


if __name__ == "__main__":
    command_line.run(main)
