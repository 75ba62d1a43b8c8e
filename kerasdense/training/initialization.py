"""A model that goes on from what another has learned, whatever the classes of both."""

import dataclasses
from pathlib import Path

import numpy as np

from kerasdense.models.layers import leaf_layers
from kerasdense.models.weights import read_weights
from kerasdense.training.run_folder import (
    BEST,
    FACTS,
    LAST,
    averages_weights,
    load_run,
    read_run,
)

NAMED = 12  # classes, or layers, that a message names


@dataclasses.dataclass(frozen=True)
class Initialization:
    """What `initialize` did; its text tells it.

    What it left as it was is random, unless other weights were loaded before.

    Attributes:
        source: the file that was read.
        taken: paths of the variables that were set as a whole.
        matched: paths of those of which rows were set, by the names of the classes.
        left: {path: reason} of those that were left as they were.
        classes: names that both know, in the model's order.
        new_classes: names that the model alone knows, whose rows were left as they were.
        dropped_classes: names that the source alone knows.
        names_known: whether the source tells the names of its classes.
    """

    source: str
    taken: tuple
    matched: tuple
    left: dict
    classes: tuple
    new_classes: tuple
    dropped_classes: tuple
    names_known: bool

    def __str__(self):
        lines = [f"initialized from {self.source}: {len(self.taken)} variables taken"]
        if self.matched:
            lines[0] += f", {len(self.matched)} of class heads matched row by row"
        if not self.names_known:
            lines.append(
                "  it does not name its classes: they are taken to be these, in this order"
            )
        elif self.matched:
            lines.append(f"  classes matched by name: {_listed(self.classes) or 'none'}")
        if self.new_classes:
            lines.append(f"  classes new here, left as they were: {_listed(self.new_classes)}")
        if self.dropped_classes:
            lines.append(f"  its classes without a place here: {_listed(self.dropped_classes)}")
        reasons = {}
        for path, reason in self.left.items():
            reasons.setdefault(reason, []).append(path)
        for reason, paths in reasons.items():
            lines.append(f"  {len(paths)} variables left as they were, {reason}: {_listed(paths)}")
        return "\n".join(lines)


def initialize(model, task, source):
    """Sets every variable of a model that fits by name and shape, its class heads included.

    The rows of a class head are matched by the names of the classes (for an SSD those of each
    anchor, whose first is the background): exactly, or where that finds none in another case. So
    a model of some classes goes on from one of others. Prints nothing: the result says what was
    taken, matched, and left as it was.

    Args:
        model: a `keras.Model` of this package.
        task: its `tasks.base.Task`, which knows the names of its classes.
        source: a run folder, whose best.keras is taken, or a file of weights as of
            `models.weights.load_weights`; of a run's last.keras its averages, if it has some. The
            classes of a file are those of the run.json beside it; without one they are taken to
            be the model's, if there are as many.

    Returns: an `Initialization`.
    Raises: FileNotFoundError if there is no such source; ValueError if it cannot be read, or
        nothing of it fits.
    """
    file, names = _find(Path(source))
    arrays = _averages(file) or read_weights(file)
    heads = task.class_heads(model)
    classes = _Classes.matched(task.class_names, names or task.class_names)
    taken, matched, left = [], [], {}
    for layer in leaf_layers(model):
        values = arrays.get(layer.name, [])
        for number, variable in enumerate(layer.weights):
            if number >= len(values):
                left[variable.path] = "not in the source"
                continue
            value = values[number]
            if layer.name in heads:
                axes = getattr(layer, "class_axes", (-1,))
                found = classes.rows(variable, value, heads[layer.name], axes)
                if found is None:
                    same = _without(variable.shape, axes) == _without(value.shape, axes)
                    what = "number of classes" if same else "shape"
                    left[variable.path] = f"of another {what}"
                else:
                    variable.assign(found)
                    matched.append(variable.path)
            elif tuple(value.shape) != tuple(variable.shape):
                left[variable.path] = "of another shape"
            else:
                variable.assign(value)
                taken.append(variable.path)
    if not taken:
        raise ValueError(
            f"Nothing of {file} fits {model.name}: expected a model with layers of the same names "
            f"and shapes, received {len(arrays)} layers such as {_listed(list(arrays)[:3])}."
        )
    return Initialization(
        str(file), tuple(taken), tuple(matched), left, *classes.told(), names is not None
    )


@dataclasses.dataclass(frozen=True)
class _Classes:
    """Class names here and there, and `pairs` of the indices of the same class (here, there)."""

    here: tuple
    there: tuple
    pairs: tuple

    @classmethod
    def matched(cls, here, there):
        pairs = [(here.index(name), there.index(name)) for name in here if name in there]
        known = [{pair[side] for pair in pairs} for side in (0, 1)]

        def folded(names, known):
            """Indices of the others by their names in one case, where that is theirs alone."""
            found = {}
            for index, name in enumerate(names):
                if index not in known:
                    found.setdefault(name.casefold(), []).append(index)
            return {name: each[0] for name, each in found.items() if len(each) == 1}

        ours, theirs = (folded(names, each) for names, each in zip((here, there), known))
        pairs += [(index, theirs[name]) for name, index in ours.items() if name in theirs]
        return cls(tuple(here), tuple(there), tuple(sorted(pairs)))

    def told(self):
        """Names of both, of here alone, and of there alone."""
        known, used = ({pair[i] for pair in self.pairs} for i in (0, 1))
        return (
            tuple(self.here[i] for i in sorted(known)),
            tuple(name for i, name in enumerate(self.here) if i not in known),
            tuple(name for i, name in enumerate(self.there) if i not in used),
        )

    def rows(self, variable, value, before, axes=(-1,)):
        """The new value of a head's variable [..., k (before + C)], None where it does not fit.

        `value`: the source's [..., k (before + its C)]; `before`: rows that are no class; `axes`:
        all that are of classes, each as the last. What no class of the source speaks of is kept.
        """
        new = np.array(variable)
        width, other = before + len(self.here), before + len(self.there)
        known = [(i, i) for i in range(before)]
        known += [(before + here, before + there) for here, there in self.pairs]
        known = np.array(known, int).reshape(-1, 2)
        shape = list(new.shape)
        here, there = ([np.arange(size) for size in shape] for _ in range(2))
        for axis in axes:
            cells = np.arange(shape[axis] // width)[:, None]
            shape[axis] = len(cells) * other
            here[axis] = (cells * width + known[:, 0]).ravel()
            there[axis] = (cells * other + known[:, 1]).ravel()
        if value.shape != tuple(shape):
            return None
        new[np.ix_(*here)] = value[np.ix_(*there)]
        return new


def _without(shape, axes):
    """A shape without some of its axes."""
    return [size for axis, size in enumerate(shape) if axis - len(shape) not in axes]


def _averages(file):
    """{layer name: [array]} of the last model of a run that averages its weights; else None."""
    folder = file.parent
    if file.name != LAST or not (folder / FACTS).is_file():
        return None
    if not averages_weights(read_run(folder)):
        return None
    model, _ = load_run(folder, LAST)
    return {layer.name: layer.get_weights() for layer in leaf_layers(model)}


def _find(source):
    """The file of weights that a source means, and the names of its classes (None: unknown)."""
    if not source.exists():
        raise FileNotFoundError(
            f"There is no {source} to initialize from. Give a run folder, or a file of weights."
        )
    folder = source if source.is_dir() else source.parent
    file = source / BEST if source.is_dir() else source
    if not source.is_dir() and not (folder / FACTS).is_file():
        return file, None
    names = read_run(folder)["dataset"]["class_names"]
    if not file.is_file():
        raise FileNotFoundError(
            f"{folder} holds no {BEST} yet: training writes it after its first epoch. Let the run "
            "finish an epoch, or give its last.keras."
        )
    return file, names


def _listed(names):
    names = list(names)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
