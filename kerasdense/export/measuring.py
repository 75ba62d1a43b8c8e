"""How well an export does on a dataset: `Task.measure` of a Predictor."""

import functools

from kerasdense import tasks
from kerasdense.data import datasets
from kerasdense.export.predictor import filled_up
from kerasdense.tasks.base import reason


def evaluate(predictor, builder, split, limit=None, batch_size=None, **options):
    """Measures an export on every sample of a split: `tasks.base.Evaluation`.

    The numbers are those of `Task.evaluate` of the Keras model, up to rounding. Pictures that the
    network warps are warped to its size as for the model; to the size that the export is fixed to
    where it is, which it then warps once more. Others are given as they are.

    Args:
        predictor: `export.predictor.Predictor`, of any format.
        builder: a prepared dataset of the same classes, see `data.datasets.load`.
        split: its name.
        limit: how many of its pictures are measured, the first ones; None: all.
        batch_size: pictures at once, padded to the largest where their sizes differ; by default
            one, or as many as the export is fixed to if all are of one size. What a fixed batch
            lacks is filled up with the last picture, which counts once.
        options: `worst` and `verbose`, of `Task.measure`.

    Raises: ValueError if there is nothing to measure, for pictures that the export does not take,
    and where export and dataset do not match.
    """
    task = tasks.named(predictor.task)(predictor.class_names, predictor.palette)
    taken = predictor.facts["input"]
    size, fixed = predictor.image_size, taken["batch_size"]
    if size is not None and taken["height"] is not None:
        size = taken["height"], taken["width"]
    if batch_size is None:
        is_one_size = size is not None or datasets.have_one_size(builder, split)
        batch_size = fixed if fixed and is_one_size else 1
    if fixed and batch_size > fixed:
        raise ValueError(
            f"{predictor.directory} was exported for batches of {fixed}, received a batch size of "
            f"{batch_size}. Take {fixed} or less, or export without --batch-size."
        )
    samples = task.eval_batches(builder, split, size, batch_size)
    if limit is not None:
        samples = first(samples, limit, batch_size)

    def predict(images):
        try:
            return predictor.predict(images)
        except ValueError:
            raise  # it does not take such images, and says so
        except Exception as error:  # each runtime has its own
            text = f"The {predictor.format} model fails on it: {reason(error)}"
            raise ValueError(text) from error

    return task.measure(functools.partial(filled_up, predict, fixed=fixed), samples, **options)


def first(samples, limit, batch_size):
    """The first `limit` of batched samples (tf.data.Dataset of dicts), in the same batches."""
    if limit < 1:
        raise ValueError(f"limit: expected at least 1 picture, received {limit}.")
    whole, rest = divmod(limit, batch_size)
    first = samples.take(whole)
    if rest:
        cut = samples.skip(whole).take(1)
        first = first.concatenate(
            cut.map(lambda batch: {name: values[:rest] for name, values in batch.items()})
        )
    return first
