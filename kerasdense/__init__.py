"""Classic dense-prediction models as Keras 3 functional models, from files on disk to SavedModels.

Importing `kerasdense` imports nothing heavy: take the modules you need, e.g.
`from kerasdense.models import ladder_densenet121`.
"""

__version__ = "0.1.0"
