"""A fourth task in one file, with its recipe: how far is what each pixel shows?

    kerasdense fit depth --dataset toy_streets --workdir runs/depth

The depth order of toy_streets: what stands on the road is near (0), the sky is far (1). A network
with two outputs a pixel tells the depth and the logarithm of its variance, as in Kendall & Gal,
"What uncertainties do we need in Bayesian deep learning for computer vision?", NeurIPS 2017,
sec. 2.3.

B batch, H W size.
"""

import numpy as np

from kerasdense.data.images import unused_name
from kerasdense.drawing import pictures
from kerasdense.recipes import ladder_densenet
from kerasdense.recipes.options import augmented_crops, crops, falling_adam
from kerasdense.recipes.recipe import Recipe
from kerasdense.tasks.base import (
    Evaluation,
    Figure,
    Task,
    check_shape,
    file_names,
    predicted,
    progress,
)

NEAREST_FIRST = ("pedestrian", "car", "pole", "road", "pavement", "tree", "building", "sky")


class Depth(Task):
    """The depth of each pixel: float32 [B, H, W, 2], depth and logarithm of the variance."""

    name = "depth"
    features = ("image", "mask", "file_name")
    target = "depth"
    criterion = "val_closeness"
    criterion_name = "val closeness"

    @classmethod
    def recognizes(cls, model):
        return False  # its output looks like two classes

    @staticmethod
    def classes(builder):
        return ["depth", "log variance"], [[0, 0, 0], [255, 255, 255]]

    def count_classes(self, model):
        return model.output.shape[-1]

    def targets(self, model):
        return lambda sample: _depth(sample["mask"][..., 0])

    def eval_batches(
        self, builder, split, image_size=None, batch_size=1, few_sizes=False, targets=None
    ):
        from kerasdense.data import pipeline

        split = pipeline.Split(builder, split, self.features)
        batches = pipeline.full_size_batches(split, batch_size)
        return batches.map(lambda batch: batch | {"depth": _depth(batch["mask"])})

    def compile_arguments(self, model):
        from keras import ops

        def negative_log_likelihood(depth, output):
            error = ops.square(depth - output[..., 0])
            return ops.mean(ops.exp(-output[..., 1]) * error + output[..., 1]) / 2

        return {"loss": negative_log_likelihood}

    def validate(self, model, samples):
        error = self.evaluate(model, samples, worst=0, verbose=0).result["error"]
        return {"val_closeness": 1 - error}

    def validation_picture(self, model, samples):
        return pictures.gallery(
            [
                [_gray(sample["depth"]), _gray(model.predict_on_batch(sample["image"][None])[0])]
                for sample in samples
            ]
        )

    def evaluate(self, model, samples, worst=1, verbose=1):
        def depth_of(images, names):
            return np.asarray(model.predict_on_batch(images))[..., 0]

        return self._counted(depth_of, samples, worst, verbose)

    def measure(self, predict, samples, worst=1, verbose=1):
        def depth_of(images, names):
            return predicted(predict, images, names)["depth"]

        return self._counted(depth_of, samples, worst, verbose)

    def _counted(self, depth_of, samples, worst, verbose):
        errors, images = [], []
        for batch in progress(samples, verbose):
            names = file_names(batch["file_name"].numpy())
            found = depth_of(batch["image"].numpy(), names)  # [B, H, W]
            errors += list(np.abs(found - batch["depth"].numpy()).mean(axis=(1, 2)))
            images += [
                {"file_name": name, "image": image, "found": depth}
                for name, image, depth in zip(names, batch["image"].numpy(), found)
            ]
        result = {"images": len(images), "error": float(np.mean(errors))}
        return Evaluation(result, [images[i] for i in np.argsort(errors)[::-1][:worst]])

    def table(self, result):
        return f"mean error of the depth  {result['error']:.3f}"

    def charts(self, evaluation):
        return {}

    def worst_picture(self, found):
        return pictures.gallery([[found["image"], _gray(found["found"])]])

    minimum_side = 64
    figures = {"depth": Figure("difference of the depth", {"float32": 1e-4, "float16": 0.05}, "d")}

    def signatures(self, network, intake, portable):
        import tensorflow as tf

        def raw(images):
            return {"raw": tf.cast(network(intake.check(images), training=False), tf.float32)}

        def serving_default(images):
            return {"depth": raw(images)["raw"][..., 0]}

        def encoded(image_bytes):
            spec = tf.TensorSpec([None, None, 3], tf.uint8)
            images = tf.map_fn(intake.decode, image_bytes, fn_output_signature=spec)
            return serving_default(tf.ensure_shape(images, intake.images.shape))

        return {"serving_default": serving_default, "raw": raw, "encoded": encoded}

    def differences(self, outputs, reference):
        check_shape("depth", outputs["depth"], reference["depth"].shape)
        return {"depth": float(np.abs(outputs["depth"] - reference["depth"]).max())}

    def writer(self, output, score=0):
        return Depths(output)


class Depths:
    """Writes NAME_depth.png."""

    def __init__(self, output):
        self.output, self.taken = output, set()

    def add(self, image, picture, outputs):
        name = f"{unused_name(image.name, self.taken, ('_depth',))}_depth.png"
        pictures.save_picture(self.output / name, _gray(outputs["depth"]))
        return f"{name}: {outputs['depth'].mean():.2f} on average"

    def finish(self, images):
        pass


def _depth(mask):
    """Label maps uint8 [..., H, W] of toy_streets as depths float32 [..., H, W]."""
    import tensorflow as tf

    from kerasdense.data.sources.toy_streets import CLASSES

    ranks = [NEAREST_FIRST.index(name) / (len(NEAREST_FIRST) - 1) for name in CLASSES]
    table = tf.constant(ranks + [0.0] * (256 - len(ranks)))
    return tf.gather(table, tf.cast(mask, tf.int32))


def _gray(depth):
    """Depths [H, W], or an output [H, W, 2], as a picture."""
    depth = depth[..., 0] if depth.ndim == 3 else depth
    gray = np.uint8(np.clip(255 * depth, 0, 255))
    return np.repeat(gray[..., None], 3, axis=-1)


TASK = Depth
RECIPE = Recipe(
    task="depth",
    network=ladder_densenet.network,
    optimizer=falling_adam(power=1.5, end=0.1),
    augmentation=augmented_crops,
    weight_decay=0.0,
    epochs=1,
    batch_size=2,
    learning_rate=1e-3,
    options=(*crops((64, 64)), *ladder_densenet.OWN_OPTIONS),
)
