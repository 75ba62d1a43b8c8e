"""Runs the steps of a row of a paper, and shows its published numbers beside ours.

    kerasdense reproduce                              # which rows there are
    kerasdense reproduce ladder/ladder_4x --dry-run   # its data, its steps, its numbers
    kerasdense reproduce ladder/ladder_4x --cityscapes cityscapes
    kerasdense reproduce ladder/ladder_4x --scale small

Steps are commands of this program, which --dry-run prints to be copied. Rows that fit the same
network share its run, RUNS/NAME. A row that was interrupted goes on when it is called again: whole
epochs are not repeated.

What is measured is the model after the last epoch, as the papers do, not the best one on the very
split that is reported.

--scale small tries the same steps in minutes, with tiny networks on drawn data that it writes in
the datasets' own layouts, all in RUNS/small: its numbers say that the chain runs, and nothing else.

Further flags for every fit, such as what this machine does well, or weights that are at hand:

    kerasdense reproduce voc/ssd300 --fit-options='--precision mixed_bfloat16 --weights vgg16.h5'
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from kerasdense.cli import fit
from kerasdense.papers import ROWS, datasets

SCALES = ("full", "small")
PROGRAM = (sys.executable, "-m", "kerasdense.cli.main")
SMALL_SCENES = 4  # of a training split
RESULT = "reproduction.json"
UNKNOWN = "unknown"
# What a row says of its fits, by the names of the arguments; the rest may be chosen.
OWN = (
    "network", "dataset", "source", "workdir", "initialize", "train_split", "validation_split",
    "variant", "blocks", "auxiliary", "anchors", "width",
)  # fmt: skip


def add_arguments(parser):
    parser.add_argument(
        "name", nargs="?", choices=ROWS, metavar="NAME", help="a row (default: list them)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the steps, and run none")
    parser.add_argument(
        "--scale",
        choices=SCALES,
        default="full",
        help="full: the paper's; small: the same steps on drawn data",
    )
    for data in datasets.ALL:
        parser.add_argument(
            f"--{data.name}",
            type=Path,
            metavar="FOLDER",
            help=f"where {data.title} lies (default: {data.folder})",
        )
    parser.add_argument(
        "--runs",
        type=Path,
        metavar="FOLDER",
        default=Path("runs/papers"),
        help="for run folders and results",
    )
    parser.add_argument(
        "--fit-options",
        type=shlex.split,
        default=(),
        metavar="FLAGS",
        help="further flags of every fit, as one argument",
    )


def run(arguments):
    is_small = arguments.scale == "small"
    runs = arguments.runs / "small" if is_small else arguments.runs
    if arguments.name is None:
        print_rows(runs)
        return 0
    row = ROWS[arguments.name]
    folders = _folders(arguments, row, runs / "data" if is_small else None)
    results = runs / "results" / arguments.name
    places = {"runs": runs, "results": results, **folders}
    added = [*(("--prepared-dir", str(runs / "prepared")) if is_small else ())]
    added += arguments.fit_options
    steps = [
        (step, [*step.arguments(places, is_small), *(added if step.fits else ())])
        for step in row.steps
    ]
    _check_fit_options(arguments, row, places, is_small)
    drawn = [need.data for need in row.needs] if is_small else []
    print_row(arguments.name, row, folders, is_small)
    if arguments.dry_run:
        print("steps:")
        for data in drawn:
            print(f"  {_line(_drawing(data, folders[data.name]))}")
        for _, command in steps:
            print(f"  {_line(command)}")
        print_figures(row, results, is_small)
        return 0
    if not is_small:
        _check_data(row, folders)
    results.mkdir(parents=True, exist_ok=True)
    for file in {figure.file for figure in row.figures}:
        (results / file).unlink(missing_ok=True)  # of an earlier run, should this one not get there
    for data in drawn:
        _draw(data, folders[data.name])
    status = _run_steps(steps, results)
    if status:
        return status
    _record(arguments.name, row, results, arguments.scale, [_line(command) for _, command in steps])
    print()
    print_figures(row, results, is_small)
    for picture in row.pictures:
        print(f"to look at: {results / picture}")
    print(f"results, charts and pictures lie in {results}")
    return 0


def print_rows(runs):
    """The rows with their published numbers, and ours as far as they lie in `runs`."""
    width = max(map(len, ROWS))
    for name, row in ROWS.items():
        print(f"{name:<{width}}  {row.title}")
        for figure in row.figures:
            ours = figure.ours(runs / "results" / name)
            line = f"{figure.title}: published {_as_published(figure.published)}"
            print(
                f"{'':<{width}}    {line}{f', ours {_percent(ours)}' if ours is not None else ''}"
            )


def print_row(name, row, folders, is_small):
    """What a row is, and the data it needs."""
    print(f"{name}: {row.title}\npublished in: {row.paper}")
    if row.note:
        print(f"note: {row.note}")
    for need in row.needs:
        data, folder = need.data, folders[need.data.name]
        if is_small:
            print(f"data: drawn scenes in the layout of {data.title}, {folder}")
            continue
        print(f"data: {data.title}, in {folder} (--{data.name}), from {data.address}")
        missing = need.missing(folder)
        for part, origin in need.parts.items():
            found = "missing" if part in missing else "there"
            print(f"  {part:<48} {found:<8} {origin}")


def print_figures(row, results, is_small):
    """The table of a row: published, ours."""
    if not row.figures:
        print("numbers: none; the pictures are the result")
        return
    width = max(len(figure.title) for figure in row.figures)
    print(f"{'':<{width}} {'published':>11} {'ours':>11}")
    for figure in row.figures:
        ours = figure.ours(results)
        text = "not yet" if ours is None else _percent(ours)
        print(f"{figure.title:<{width}} {_as_published(figure.published):>11} {text:>11}")
    if is_small:
        print("ours is of drawn data and a tiny network: it says that the chain runs, no more")


def _folders(arguments, row, drawn):
    """Where each dataset lies, by name; `drawn`: below which drawn ones do, None without."""
    named = {data.name: getattr(arguments, data.name) for data in datasets.ALL}
    read = {need.data.name for need in row.needs} if drawn is None else set()
    idle = [f"--{name}" for name, folder in named.items() if folder and name not in read]
    if idle:
        why = "the small scale draws its data" if drawn else f"{arguments.name} reads none of it"
        raise ValueError(f"{' and '.join(idle)} would have no effect: {why}. Leave it out.")
    if drawn:
        return {name: drawn / name for name in named}
    return {data.name: named[data.name] or Path(data.folder) for data in datasets.ALL}


def _check_fit_options(arguments, row, places, is_small):
    """Raises ValueError for flags that no fit takes, or that would make it another row."""
    if not arguments.fit_options:
        return
    fits = [step.arguments(places, is_small) for step in row.steps if step.fits]
    if not fits:
        raise ValueError(f"--fit-options would have no effect: {arguments.name} fits nothing.")
    for command in fits:
        own, chosen = (_parsed_fit([*command[1:], *added]) for added in ((), arguments.fit_options))
        changed = [name for name in OWN if getattr(own, name, None) != getattr(chosen, name, None)]
        if changed:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
            raise ValueError(
                f"--fit-options: {flags} of its fits is what makes the row {arguments.name}. Leave "
                "it out, or take kerasdense fit, as --dry-run prints it."
            )


def _parsed_fit(arguments):
    parser = argparse.ArgumentParser(prog="--fit-options of kerasdense fit", add_help=False)
    fit.add_arguments(parser)
    return parser.parse_args(arguments)


def _check_data(row, folders):
    lacking = []
    for need in row.needs:
        folder = folders[need.data.name]
        missing = need.missing(folder)
        if missing:
            lacking.append(
                f"{need.data.title} in '{folder}' lacks "
                + ", ".join(f"{part} ({need.parts[part]})" for part in missing)
                + f": get it from {need.data.address}, or name its folder by --{need.data.name}"
            )
    if lacking:
        raise FileNotFoundError(
            f"{'; '.join(lacking)}. --scale small tries the same steps without data."
        )


def _drawing(data, folder):
    """The command that draws a dataset."""
    return [
        "make-toy-streets", "--layout", data.layout, "--count", str(SMALL_SCENES), "--output",
        str(folder),
    ]  # fmt: skip


def _draw(data, folder):
    """Draws a dataset once: files that are drawn again would be new to the runs made of them."""
    if folder.is_dir():
        return
    aside = folder.with_name(f"{folder.name}.unfinished")
    command = _drawing(data, aside)
    print(f"\n$ {_line(_drawing(data, folder))}", flush=True)
    if _process(command, subprocess.DEVNULL).returncode:
        raise ValueError(f"{data.title} could not be drawn into '{aside}', see above.")
    os.replace(aside, folder)


def _run_steps(steps, results):
    """Runs all, pairs of `Step` and command, or as far as one fails; the exit status."""
    for number, (step, command) in enumerate(steps, 1):
        print(f"\n[{number}/{len(steps)}] $ {_line(command)}", flush=True)
        try:
            status = _run_step(command, results / step.output if step.output else None)
        except KeyboardInterrupt:  # which the step has had, too
            print("the same command goes on from here", file=sys.stderr)
            return 130
        if status:
            text = (
                f"step {number} of {len(steps)} ended with status {status}. Once its cause is "
                "gone, the same command goes on from there."
            )
            if step.fits:
                text += (
                    " Rows that share a run folder need the same --fit-options; for others than "
                    "before take another --runs."
                )
            print(text, file=sys.stderr)
            return status
    return 0


def _run_step(command, output=None):
    """Runs a command of the program in a process of its own; its exit status.

    `output`: a file that its standard output is kept in, too.
    """
    done = _process(command, subprocess.PIPE if output else None)
    if output:
        print(done.stdout, end="")
        if not done.returncode:
            output.write_text(done.stdout)
    return done.returncode


def _process(command, stdout):
    """A command of the program, run; asked to end meanwhile, this process takes it along."""
    handler = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:  # an exception makes `run` kill what it runs
        return subprocess.run([*PROGRAM, *command], stdout=stdout, text=True, check=False)
    finally:
        signal.signal(signal.SIGTERM, handler)


def _record(name, row, results, scale, commands):
    figures = {
        figure.title: {"published": figure.published, "ours": figure.ours(results)}
        for figure in row.figures
    }
    facts = {"name": name, "scale": scale, "commands": commands, "figures": figures}
    (results / RESULT).write_text(json.dumps(facts, indent=2) + "\n")


def _line(command):
    return shlex.join(["kerasdense", *map(str, command)])


def _percent(share):
    return UNKNOWN if share is None else f"{100 * share:.2f} %"


def _as_published(share):
    """With as many digits as were published."""
    return UNKNOWN if share is None else f"{100 * share:.4g} %"
