"""A model by the name of its function or its file."""

from pathlib import Path

import keras

from kerasdense import models


def load_model(name, **arguments):
    """The model of a .keras file, or of the function `name` of `kerasdense.models`.

    Args:
        arguments: of the function; a file needs none.

    Raises: FileNotFoundError, ValueError if there is no such model or it takes other arguments.
    """
    if name.endswith(".keras"):
        if not Path(name).is_file():
            raise FileNotFoundError(f"There is no file {name}.")
        return keras.models.load_model(name, compile=False)
    if name not in models.__all__:
        raise ValueError(
            f"There is no model '{name}'. Expected a .keras file or one of: "
            f"{', '.join(models.__all__)}."
        )
    try:
        return getattr(models, name)(**arguments)
    except TypeError as error:  # an option that the function does not have, or one it misses
        raise ValueError(
            f"{error}. See help(kerasdense.models.{name}); a .keras file needs no arguments."
        ) from error
