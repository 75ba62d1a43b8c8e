"""What is attacked: units, whatever a model classifies one by one, and when one of them is won.

The pixels of a segmentation model, the anchors of an SSD, the labels of a multi-label classifier
(two classes each: absent, present): the task tells. B batch, H W size, *units one or two axes (H W,
or A anchors, or C labels), K classes of a unit.
"""

import dataclasses
import math

from keras import ops

from kerasdense.explain import gradients
from kerasdense.models.outputs import main_output


@dataclasses.dataclass(frozen=True)
class Criterion:
    """When a unit is won.

    Attributes:
        targeted: whether labels are classes to reach, rather than the truth to get away from.
        confidence: least probability of the predicted class, that of the target or the wrong one,
            between 0 and 1; None for any.
    """

    targeted: bool = False
    confidence: float | None = None

    def __post_init__(self):
        if self.confidence is not None and not 0 < self.confidence < 1:
            raise ValueError(
                f"confidence: expected a number between 0 and 1, received {self.confidence!r}"
            )


def unit_outputs(model, task):
    """The logits of the model's units, symbolic: float32 [B, *units, K].

    Args:
        model: a `keras.Model` of the package.
        task: what it is for, see `tasks.base`.

    Raises: ValueError for a model with another output.
    """
    output = main_output(model.output)
    if hasattr(output, "shape"):
        logits = task.unit_logits(ops.cast(output, "float32"))
        if len(logits.shape) > 2 and logits.shape[-1] > 1:
            return logits
        output = f"an output {tuple(output.shape)}"
    raise ValueError(
        f'The model "{model.name}" gives {output!s:.80}. Expected logits of {task.unit}s (or a '
        f'dict with them as "logits"), of two classes at least.'
    )


def unit_logits(model, task):
    """The model as a function of float images [B, H, W, 3] to `unit_outputs`; raises as that."""
    return gradients.on_pixels(model, unit_outputs(model, task))


def counted(logits, labels):
    """Which units count, bool [B, *units]: those whose label is one of the K classes."""
    return (labels >= 0) & (labels < logits.shape[-1])


def succeeded(logits, labels, criterion=Criterion()):
    """Where an attack has what it wants: (success, counted), bool [B, *units] each.

    Args:
        logits: float [B, *units, K].
        labels: int [B, *units]; others than 0 to K - 1 (255 in masks, -1) count for nothing.
        criterion: a `Criterion`.
    """
    labels = ops.cast(labels, "int32")
    known = counted(logits, labels)
    predicted = ops.cast(ops.argmax(logits, axis=-1), "int32")
    success = (predicted == labels) if criterion.targeted else (predicted != labels)
    if criterion.confidence is not None:
        sure = ops.max(logits, axis=-1) - ops.logsumexp(logits, axis=-1)  # [B, *units]
        success = success & (sure >= math.log(criterion.confidence))
    return success & known, known
