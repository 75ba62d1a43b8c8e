"""Makes adversarial examples for a fitted model, and measures how well it stands them.

    kerasdense attack --run runs/camvid --limit 3
    kerasdense attack --run runs/camvid --images street.png --method minimal \\
        --target-class Road:Building --confidence 0.9
    kerasdense attack --run runs/ssd --images photos/ --suppress
    kerasdense attack --run runs/camvid --curve 1,2,4,8

Without a target the attack leads away from the truth, or where there is none (--images) from the
clean prediction. Written are adversarial/NAME.png, the files that were judged; pictures/NAME.png:
image, prediction, adversarial image, its prediction and the amplified perturbation; report.json.
With --curve only curve.json and the chart curve.png (and .pdf): the accuracy over epsilon. The
same output folder again: what an earlier attack wrote there goes.

The perturbation of --method universal is made from the split that the run was trained on, and
measured on that of its validation; of --images, for which there is no other, on what it was made
from, unless --fit-split names a split.

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
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kerasdense.cli.arguments import (
    add_dataset,
    add_measured_split,
    add_run,
    add_xla,
    class_index,
    integers,
    numbers,
    positive,
)

EPSILON = 8.0  # gray levels, of the maximum norm
UNIVERSAL = "universal"
METHODS = ("fgsm", "pgd", "segpgd", "cospgd", "dag", "minimal", UNIVERSAL)
REPORT = "report.json"
FOLDERS = "adversarial", "pictures"  # of files of the same names
PERTURBATION = "universal.npy", "universal.png"
PASSES, UNIVERSAL_STEP = 5, 0.2  # over the images; part of epsilon that a batch moves


def add_arguments(parser):
    add_run(parser)
    parser.add_argument(
        "--output", type=Path, help="folder for what is written (default: RUN/attack)"
    )

    what = parser.add_argument_group("what is attacked (default: the validation split of the run)")
    what.add_argument(
        "--images",
        type=Path,
        nargs="+",
        metavar="FILE|FOLDER",
        help="pictures without truth (default: those of the dataset)",
    )
    add_dataset(what, required=False)
    add_measured_split(what)
    what.add_argument(
        "--limit", type=positive(int), metavar="N", help="only the first N images (default: all)"
    )

    how = parser.add_argument_group("how")
    how.add_argument(
        "--method",
        choices=METHODS,
        default="segpgd",
        help=f"minimal: the smallest perturbation; {UNIVERSAL}: one for all images",
    )
    how.add_argument(
        "--norm",
        choices=("linf", "l2"),
        help="of the perturbation (default: linf; of minimal l2)",
    )
    how.add_argument(
        "--epsilon",
        type=positive(float),
        metavar="LEVELS",
        help="largest norm of the perturbation in gray levels, 1/255 of the range "
        f"(default: {EPSILON:g} for linf; l2 has none; dag and minimal need none)",
    )
    how.add_argument(
        "--curve",
        type=numbers,
        metavar="LEVELS",
        help="measure a robustness curve over these epsilons, e.g. 1,2,4,8 (default: make "
        "examples of one epsilon)",
    )
    how.add_argument(
        "--steps",
        type=positive(int),
        help=f"of the attack; of {UNIVERSAL}: passes over the images (default: 20; of dag and "
        f"minimal at most 200; {PASSES} passes)",
    )
    how.add_argument(
        "--step-size",
        type=positive(float),
        help="as a part of epsilon; of dag and minimal, in gray levels (default: 2.5 / STEPS, at "
        f"most 1; of dag and minimal 0.5; of {UNIVERSAL} {UNIVERSAL_STEP:g})",
    )
    how.add_argument(
        "--fit-split",
        metavar="SPLIT",
        help=f"of {UNIVERSAL}: where it is found (default: what the run was trained on, of another "
        "dataset train; with --images these)",
    )
    how.add_argument("--batch-size", type=positive(int), default=1, help="images attacked at once")
    how.add_argument("--seed", type=int, default=0, help="of random starts")
    add_xla(how)

    goal = parser.add_argument_group("toward what (default: any wrong class)")
    targets = goal.add_mutually_exclusive_group()
    targets.add_argument(
        "--target-class",
        nargs="+",
        metavar="A:B",
        help="what is seen as class A becomes class B (default: none)",
    )
    targets.add_argument(
        "--target-map",
        type=Path,
        metavar="FILE",
        help="PNG of the wanted class numbers, 255 = any class (default: none)",
    )
    targets.add_argument("--suppress", action="store_true", help="a detector finds nothing")
    goal.add_argument(
        "--confidence",
        type=float,
        metavar="P",
        help="probability from which a pixel counts, e.g. 0.9 (default: any)",
    )
    where = goal.add_mutually_exclusive_group()
    where.add_argument(
        "--mask",
        type=Path,
        metavar="FILE",
        help="only its white pixels may change (default: all may)",
    )
    where.add_argument(
        "--sticker",
        type=rectangle,
        metavar="Y0,X0,Y1,X1",
        help="only this rectangle may change (default: all may)",
    )
    parser.add_argument(
        "--amplify",
        type=positive(float),
        metavar="FACTOR",
        help="of the perturbation in pictures (default: so that it is seen)",
    )


def rectangle(text):
    """Parses `Y0,X0,Y1,X1`."""
    found = integers(text)
    if len(found) != 4:
        raise argparse.ArgumentTypeError(f"expected Y0,X0,Y1,X1, received {len(found)} numbers")
    return found


@dataclasses.dataclass(frozen=True)
class Job:
    """What the functions below share; `epsilon` in gray levels, None for attacks without."""

    arguments: argparse.Namespace
    facts: dict  # run.json
    judge: object  # of kerasdense.attacks, as is the attacker
    attacker: object
    epsilon: float | None
    output: Path


@dataclasses.dataclass(frozen=True)
class Samples:
    """What is attacked.

    `source`: in words; `count`: how many; `files`: the image files they are among, None of drawn
    ones; `trained_on`: whether the run was, None if that is not known; `read`: a function that
    yields them for a `Judge`.
    """

    source: str
    count: int
    files: list | None
    trained_on: bool | None
    read: Callable

    def shares_pictures(self, others):
        """Whether some of these pictures are among `others`."""
        from kerasdense.data.overlap import shared_picture

        if self.source == others.source or None in (self.files, others.files):
            return self.source == others.source
        return bool(shared_picture(self.files, others.files))


def run(arguments):
    from kerasdense import tasks
    from kerasdense.attacks.judge import Judge
    from kerasdense.training import devices, run_folder

    attack = make_attack(arguments)
    epsilon = find_epsilon(arguments, attack)
    model, facts = run_folder.load_run(arguments.run)
    task = tasks.of_run(facts)
    goal = make_goal(arguments, task)
    output = arguments.output or arguments.run / "attack"
    judge = Judge(model, task, goal, None if arguments.curve else output / "adversarial")
    attacker = judge.attacker(attack, devices.uses_xla(arguments.xla), arguments.seed)
    job = Job(arguments, facts, judge, attacker, epsilon, output)
    samples = of_images(job) if arguments.images else of_dataset(job)
    output.mkdir(parents=True, exist_ok=True)  # fails now rather than after the attack
    print(
        f"{arguments.method} on {arguments.run}: {samples.count} images of {samples.source}"
        f"{', which the run was trained on' if samples.trained_on else ''}"
    )
    work = measure_curve if arguments.curve else make_examples
    name, written, result = work(job, samples)
    report = {
        "run": str(arguments.run),
        "data": samples.source,
        "trained_on": samples.trained_on,
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
    print(f"{written} lie in {output}")


def measure_curve(job, samples):
    """Draws and prints a robustness curve.

    Returns the name of its file, all that is written, in words, and the content of the file.
    """
    from kerasdense.attacks import curve
    from kerasdense.attacks.judge import Progress
    from kerasdense.drawing import charts

    arguments, task = job.arguments, job.judge.task
    progress = Progress(samples.count * len(arguments.curve), job.attacker.attack)
    found = curve.robustness_curve(
        job.judge, job.attacker, samples.read(), arguments.curve, arguments.batch_size, progress
    )
    print(curve.table(task, found))
    title = f"{arguments.method} on {arguments.run.name}"
    charts.save(job.output / "curve.png", curve.chart(task, found, title))
    return "curve.json", "curve.json, curve.png and curve.pdf", found


def make_examples(job, samples):
    """Makes and draws adversarial examples.

    Returns the name of the report, all that is written, in words, and the content of the report.
    """
    from kerasdense.attacks import report
    from kerasdense.attacks.judge import Progress, by_size
    from kerasdense.attacks.methods import described
    from kerasdense.drawing.pictures import save_picture

    arguments, judge, attack = job.arguments, job.judge, job.attacker.attack
    found = {"attack": described(attack), "epsilon": job.epsilon}
    started = time.perf_counter()
    attack_batch = job.attacker
    clear(job.output)
    if arguments.method == UNIVERSAL:
        attack_batch, fit = find_universal(job, samples)
        found |= fit
    for folder in FOLDERS:
        (job.output / folder).mkdir(exist_ok=True)
    tally = report.Tally(judge.task)
    progress = Progress(samples.count, attack)
    for group in by_size(samples.read(), arguments.batch_size):
        advance = progress.of_batch(len(group))
        options = {"epsilon": job.epsilon, "progress": advance}
        for example in judge.attack(judge.look(group), attack_batch, **options):
            row = tally.add(example)
            picture = report.picture(judge.task, example, row, arguments.amplify)
            save_picture(job.output / "pictures" / example.path.name, picture)
        advance()
    result = tally.result()
    print(report.table(judge.task, result))
    found["seconds"] = time.perf_counter() - started
    return (
        REPORT,
        f"{REPORT} and the pictures of {result['images']} images",
        found | result | {"per_image": tally.rows},
    )


def clear(output):
    """Removes what an earlier attack wrote into a folder, and nothing else.

    Its pictures are those that lie in both folders under one name.
    """
    first, second = (output / folder for folder in FOLDERS)
    for path in first.glob("*.png"):
        if (second / path.name).exists():
            path.unlink()
            (second / path.name).unlink()
    for name in (REPORT, *PERTURBATION):
        (output / name).unlink(missing_ok=True)


def find_universal(job, measured):
    """A function that adds one perturbation to all images, and what it was found on, a dict.

    `measured`: the `Samples` that it will be added to.
    """
    from kerasdense.attacks.judge import Progress
    from kerasdense.attacks.report import visible_factor
    from kerasdense.attacks.universal import adding, gathered, universal
    from kerasdense.drawing.pictures import amplified, save_picture

    arguments, attacker = job.arguments, job.attacker
    samples = measured
    if arguments.fit_split or not arguments.images:
        samples = of_dataset(job, to_fit=True)
    shared = samples.shares_pictures(measured)
    print(
        f"one perturbation, made from {samples.count} images of {samples.source}, to be measured "
        f"on {measured.count} of {measured.source}",
        flush=True,
    )
    if shared:
        print("it is measured on pictures that it was made from: others may withstand it better")
    batches, region = gathered(job.judge, samples.read(), arguments.batch_size)
    progress = Progress(len(batches), attacker.attack).of_batch(1)
    found = universal(attacker, batches, job.epsilon, region, progress)
    array, picture = (job.output / name for name in PERTURBATION)
    np.save(array, found)
    save_picture(picture, amplified(found, arguments.amplify or visible_factor(found)))
    return adding(found), {
        "fitted_on": samples.source,
        "fitted_images": samples.count,
        "measured_on_fitted": shared,
    }


def make_attack(arguments):
    """The `Attack` that the flags describe."""
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
    if arguments.fit_split and method != UNIVERSAL:
        raise ValueError(
            "--fit-split is for --method universal: the split its perturbation is found on."
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


def make_goal(arguments, task):
    """The `Goal` that the flags describe."""
    from kerasdense.attacks.judge import Goal
    from kerasdense.data.mask_preparation import read_mask
    from kerasdense.metrics.labels import IGNORE

    class_names, moves, target_map = task.class_names, None, None
    if arguments.target_class:
        moves = dict(class_pair(text, class_names) for text in arguments.target_class)
    if arguments.target_map:
        target_map = read_mask(arguments.target_map)
        wrong = target_map[(target_map >= len(class_names)) & (target_map != IGNORE)]
        if wrong.size:
            raise ValueError(
                f"--target-map {arguments.target_map} holds class {wrong[0]}, but there are "
                f"{len(class_names)} (0-{len(class_names) - 1}, {IGNORE} = any): "
                f"{', '.join(class_names)}."
            )
    goal = Goal(moves, target_map, arguments.suppress, arguments.confidence)
    if arguments.method == "dag" and not goal.targeted:
        raise ValueError(f"--method dag needs a target: {task.goals}.")
    return goal


def class_pair(text, class_names):
    """`A:B` as two class numbers."""
    pair = text.split(":")
    if len(pair) != 2:
        raise ValueError(f"--target-class expects two classes A:B, received '{text}'.")
    old, new = (class_index(name, class_names) for name in pair)
    if old == new:
        raise ValueError(f"--target-class expects two classes A:B, received one in '{text}'.")
    return old, new


def of_images(job):
    """`Samples` of the image files of --images, warped if the model's images are."""
    from kerasdense.data.images import find_images
    from kerasdense.drawing.pictures import load_picture
    from kerasdense.models.layers import minimum_side

    arguments, judge = job.arguments, job.judge
    if (arguments.dataset or arguments.source) and not arguments.fit_split:
        raise ValueError("--images or --dataset with --source: expected one of them.")
    for flag, value in (("--split", arguments.split), ("--allow-trained", arguments.allow_trained)):
        if value:
            raise ValueError(f"{flag} is of a dataset: leave it out, or --images.")
    paths = find_images(arguments.images, job.output)
    for folder in FOLDERS:  # where they would be overwritten
        find_images(paths, job.output / folder)
    paths = paths[: arguments.limit]
    size = judge.task.image_size_of(judge.model)
    if size is None:
        check_sizes(paths, minimum_side(judge.model))

    def read():
        from kerasdense.data import augment

        for path in paths:
            image = load_picture(path)
            if size is not None:
                image = augment.warp(size)({"image": image}, None)["image"].numpy()
            yield {"image": image, "file_name": str(path)}

    source = ", ".join(map(str, arguments.images))
    return Samples(source, len(paths), paths, None, lambda: restricted(read(), arguments))


def check_sizes(paths, least):
    """Raises ValueError if an image file has a side below `least` pixels."""
    from kerasdense.drawing.pictures import size_of

    for path in paths:
        height, width = size_of(path)
        if min(height, width) < least:
            raise ValueError(
                f"{path} has {width}x{height} pixels, but the model takes images from "
                f"{least}x{least} on. Leave it out, or enlarge it."
            )


def of_dataset(job, to_fit=False):
    """`Samples` of a dataset, by default the run's own: to measure on, or for a perturbation."""
    from kerasdense.data import overlap
    from kerasdense.models.layers import minimum_side
    from kerasdense.training import run_folder

    arguments, judge = job.arguments, job.judge
    builder, name = run_folder.load_dataset(
        job.facts,
        arguments.dataset,
        arguments.source,
        arguments.prepared_dir,
        arguments.mask_values,
    )
    trained_on = None
    if to_fit:
        own = name == job.facts["dataset"]["name"]
        split = arguments.fit_split or (run_folder.training_split(job.facts) if own else "train")
    else:
        split = arguments.split or run_folder.validation_split(job.facts, name)
        trained_on = run_folder.check_measured(
            job.facts, builder, name, split, arguments.allow_trained
        )
    warped, least = judge.task.image_size_of(judge.model), minimum_side(judge.model)
    batches = judge.task.eval_batches(builder, split, warped)
    count = min(builder.info.splits[split].num_examples, arguments.limit or np.inf)
    source = builder.builder_config.source
    files = overlap.images_in(source, split) if source else None

    def read():
        for sample in batches.unbatch().take(count).as_numpy_iterator():
            if warped is None:  # what the network does not need of the padding is no picture
                height, width = np.maximum(sample["size"], least)
                padded = {key: sample[key] for key in ("image", "mask") if key in sample}
                sample |= {key: value[:height, :width] for key, value in padded.items()}
            yield sample | {"file_name": sample["file_name"].decode()}

    what = f"{name}, split {split}"
    return Samples(what, count, files, trained_on, lambda: restricted(read(), arguments))


def restricted(samples, arguments):
    """The samples with the region of --mask or --sticker, if there is one."""
    from kerasdense.drawing.pictures import load_picture

    mask = None
    if arguments.mask:
        mask = load_picture(arguments.mask).max(axis=-1) > 127
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
