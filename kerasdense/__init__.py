"""Classic dense-prediction models as Keras 3 functional models, from files on disk to SavedModels.

Importing `kerasdense` imports nothing heavy: take the modules you need, e.g.
`from kerasdense.models import ladder_densenet121`. Once Keras is imported, before or after, it
knows what saved models name: `keras.models.load_model("best.keras")` works.
"""

import importlib
import importlib.util

__version__ = "0.1.0"

# The modules that register layers, losses, metrics and optimizers under the names in saved models.
REGISTERING = ("metrics.mean_iou", "models.layers", "models.losses", "training.optimizers")


def _register(keras):
    for module in REGISTERING:
        importlib.import_module(f"{__name__}.{module}")


if importlib.util.find_spec("wrapt"):
    import wrapt

    wrapt.when_imported("keras")(_register)
elif importlib.util.find_spec("keras"):  # an export of ONNX and its like does without
    _register(importlib.import_module("keras"))  # at once, as nothing tells of its import
