"""The tasks: a file each. Found by the names of their files, and by nothing else."""

import importlib
import pkgutil

from kerasdense.data.classes import default_palette

BASE = "base"  # the file that says what a task is


def names():
    """Names of all tasks, a tuple."""
    return tuple(module.name for module in pkgutil.iter_modules(__path__) if module.name != BASE)


def named(name):
    """The class of the task `name`.

    Raises: ValueError if there is none.
    """
    if name not in names():
        raise ValueError(f"There is no task {name!r}: expected one of {', '.join(names())}.")
    return importlib.import_module(f"{__name__}.{name}").TASK


def of_run(facts):
    """The task of a run, by its run.json (dict): a `base.Task`."""
    return named(facts["task"]).of_run(facts)


def of_model(model, class_names=None, palette=None):
    """The task that a model of this package is for; without names, classes have numbers.

    Raises: ValueError for another model, and where several tasks take it for theirs.
    """
    found = [name for name in names() if named(name).recognizes(model)]
    if len(found) > 1:
        raise ValueError(f'The model "{model.name}" might be for {" or ".join(found)}.')
    if found:
        task = named(found[0])
        count = task([], []).count_classes(model)
        class_names = class_names or [str(index) for index in range(count)]
        return task(class_names, palette or default_palette(len(class_names)))
    raise ValueError(
        f'The model "{model.name}" gives {model.output}. Expected logits [B, H, W, C] (or a dict '
        f'with them as "logits"), SSD\'s [B, A, C + 1 + 4] or labels [B, C].'
    )
