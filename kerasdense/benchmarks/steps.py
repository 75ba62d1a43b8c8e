"""Steps of models: what one costs, a grid of them, and those of other packages beside ours."""

import dataclasses
import itertools
import json

from kerasdense.benchmarks import peers
from kerasdense.benchmarks.processes import measure
from kerasdense.benchmarks.workloads import Workload, backend, image_size
from kerasdense.export import processor


@dataclasses.dataclass(frozen=True)
class Grid:
    """Rows to measure: each model on each backend, in each precision, with and without XLA.

    Attributes:
        work: "train" or "infer", see `Workload`.
        models: of `NamedModel`.
        sizes, batch_sizes: for each pair there is a table.
        xla: some of "off" and "on".
    """

    work: str
    models: tuple
    sizes: tuple
    batch_sizes: tuple
    classes: int
    precisions: tuple
    xla: tuple
    backends: tuple

    def rows(self, size, batch_size):
        """Of one table: {label: Workload}."""
        rows = {}
        for on, precision, xla in itertools.product(self.backends, self.precisions, self.xla):
            if on == "jax" and xla == "off" and "on" in self.xla:
                continue  # JAX always compiles
            compiles = xla == "on" or on == "jax"
            for model in self.models:
                label = f"{model.text} {on} {precision}{' XLA' if compiles else ''}"
                rows[label] = Workload(
                    self.work,
                    model.name,
                    model.options,
                    size,
                    batch_size,
                    self.classes,
                    precision,
                    compiles,
                    on,
                )
        return rows


def benchmark_grid(grid, schedule):
    """Prints the tables of a `Grid`, whose rows take turns, and their JSON; the exit status."""
    results = []
    for size, batch_size in itertools.product(grid.sizes, grid.batch_sizes):
        rows = grid.rows(size, batch_size)
        measured = measure(rows, schedule)
        print(f"{grid.work}, batch of {batch_size}, {size[0]}x{size[1]}")
        _print_steps(measured)
        results += [dataclasses.asdict(rows[label]) | measured[label] for label in rows]
    print(json.dumps(results))
    return _status(results)


def benchmark_cost(models, size, batch_size, classes, precision, schedule):
    """Prints what models cost, counted and measured, and its JSON; the exit status.

    `models`: of `NamedModel`; `schedule`: None to count only.
    """
    counted = {model.text: _counted(model.load(classes), size) for model in models}
    measured = {}
    if schedule:
        print("measuring training steps, each model in a process of its own ...", flush=True)
        like = Workload("train", "", {}, size, batch_size, classes, precision, backend=backend())
        rows = {
            model.text: dataclasses.replace(like, model=model.name, options=model.options)
            for model in models
        }
        measured = measure(rows, schedule)
    print(f"one image of {size[0]}x{size[1]}; training: batch {batch_size}")
    form = f"{{:<{max(map(len, counted))}}}  {{:>12}}  {{:>7}}  {{:>11}}  {{:>9}}  {{:>10}}"
    print(form.format("model", "parameters", "GMAC", "activations", "step", "its memory"))
    for text, cost in counted.items():
        step = measured.get(text, {})
        print(
            form.format(
                text,
                f"{cost['parameters']:,}",
                f"{cost['macs'] / 1e9:.1f}",
                f"{cost['activation_bytes'] / 2**20:.0f} MiB",
                _figure(step.get("milliseconds"), "{:.0f} ms"),
                _figure(step.get("peak_mebibytes"), "{:.0f} MiB"),
            )
        )
        if "failed" in step:
            print(f"  failed: {step['failed']}")
    print(
        "activations: float32 outputs of convolutions, batch normalizations and concatenations.\n"
        "its memory: the most that a training step held, weights and optimizer included."
    )
    print(json.dumps({text: cost | measured.get(text, {}) for text, cost in counted.items()}))
    return _status(measured.values())


def benchmark_peers(works, size, batch_size, precisions, schedule):
    """Prints our models beside those of other packages, and its JSON; the exit status.

    That is 1 if one of ours could not be measured, or nothing of theirs that it is compared with.
    """
    packages, results, complete = peers.installed(), [], True
    print(processor.description())
    for work in works:
        like = Workload(work, "", {}, size, batch_size, backend=backend())
        for title, comparison in peers.comparisons(like, precisions, packages).items():
            rows = comparison.rows
            print(f"{title}, {work}, batch of {batch_size}: {len(rows)} processes ...", flush=True)
            measured = measure(rows, schedule)
            best = peers.fastest(rows, measured)
            _print_steps(measured, "of theirs", "of_theirs")
            for line in comparison.left_out:
                print(f"  {line}")
            print(f"  best of ours / best of theirs: {', '.join(map(_verdict, best))}")
            results.append({"comparison": title, "work": work, "rows": measured, "best": best})
            complete &= peers.is_complete(rows, measured)
    print(json.dumps(results))
    return 0 if complete else 1


def _verdict(best):
    """An entry of `peers.fastest` in a few words."""
    precision = best["precision"]
    if best["of_theirs"] is None:
        return f"{precision} not both measured"
    names = (best[side].removeprefix(f"{precision} ") for side in ("ours", "theirs"))
    return f"{precision} {best['of_theirs']:.2f} ({' / '.join(names)})"


def _counted(model, size):
    from kerasdense.models.cost import total_cost

    return total_cost(model, image_size(model, size))


def _print_steps(measured, heading="1st / this", ratio="first_over_this"):
    """A line for each result of `measure`; the last column is the entry `ratio` of it."""
    form = f"{{:<{max(map(len, measured))}}}" + "  {:>9}  {:>9}  {:>10}  {:>10}  {:>6}  {:>10}"
    print(form.format("", "a step", "images/s", "first step", "memory", "GMAC", heading))
    for label, each in measured.items():
        if "failed" in each:
            print(f"{label}  failed: {each['failed']}")
            continue
        print(
            form.format(
                label,
                f"{each['milliseconds']:.1f} ms",
                f"{each['images_per_second']:.2f}",
                f"{each['first_step']:.1f} s",
                _figure(each["peak_mebibytes"], "{:.0f} MiB"),
                _figure(each["macs"] and each["macs"] / 1e9, "{:.1f}"),
                _figure(each[ratio], "{:.2f}"),
            )
        )


def _figure(value, form):
    return "-" if value is None else form.format(value)


def _status(results):
    """The exit status: 1 if a row could not be measured."""
    return 1 if any("failed" in each for each in results) else 0
