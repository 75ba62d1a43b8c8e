"""How each network is fitted: a file each, with its command, its paper and its numbers.

Such a file calls its `recipe.Recipe` RECIPE. `kerasdense fit` finds it by its name.
"""

import importlib
import pkgutil

SHARED = ("recipe", "options")  # files that are no recipes


def names():
    """Names of all recipes, a tuple."""
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(name for name in modules if name not in SHARED)


def module(name):
    """The module of the recipe `name`: its `__doc__` and its RECIPE."""
    return importlib.import_module(f"{__name__}.{name}")
