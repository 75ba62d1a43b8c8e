"""Class activation maps: which pixels speak for a class.

B batch, H W size of the images, h w of a layer's map, K its channels, C classes.
"""

import keras
import numpy as np
from keras import ops

from kerasdense.explain import gradients
from kerasdense.models.outputs import main_output


def grad_cam(model, images, class_index, layer=None, region=None):
    """Where the evidence for a class lies: heat float32 [B, H, W] from 0 to 1 (NumPy).

    The maps of `layer` are weighted by the class score's mean gradient to each, added, cut off at
    0, and divided by the largest value of the image; an image without any evidence is all 0. The
    score is the class's logit of a classifier, or for segmentation the sum of its logits over
    `region` (Seg-Grad-CAM).

    Args:
        model: of segmentation (logits [B, H, W, C]) or a classifier (logits [B, C]).
        images: uint8 [B, H, W, 3].
        class_index: 0 to C - 1.
        layer: name of the layer whose maps [B, h, w, K] are weighted. None is the last one before
            the class scores: of a classifier the one before the pooling, of segmentation the input
            of the layer "score".
        region: bool [H, W] or [B, H, W], the pixels to explain. None for segmentation means the
            pixels where the class is predicted.

    Raises: ValueError for a model without class scores, a layer or class that does not exist, a
        region of another size or for a classifier, and where there is no pixel to explain.

    Reference: Selvaraju et al., "Grad-CAM", ICCV 2017, sec. 3; Vinogradova et al., "Towards
    interpretable semantic segmentation via gradient-weighted class activation mapping", AAAI 2020.
    """
    images = np.asarray(images)
    logits = main_output(model.output)
    dense = len(logits.shape) == 4
    if len(logits.shape) not in (2, 4):
        raise ValueError(
            f'Class activation maps need a classifier or a segmentation model; "{model.name}" '
            f"gives {logits.shape}, which holds no class scores by image or pixel."
        )
    if not 0 <= class_index < logits.shape[-1]:
        raise ValueError(
            f"There is no class {class_index}: the model has the classes 0 to "
            f"{logits.shape[-1] - 1}."
        )
    maps = gradients.layer_output(model, layer) if layer else _last_maps(model, dense)
    if len(maps.shape) != 4:
        raise ValueError(
            f'The layer "{layer}" gives {maps.shape}, expected maps [B, h, w, K] to weight.'
        )
    if not dense and region is not None:
        raise ValueError("A classifier scores whole images: expected no region.")
    region = _region(model, images, class_index, region) if dense else np.float32(1)
    head = keras.Function([maps, model.inputs[0]], logits)
    pixels = ops.convert_to_tensor(images.astype(np.float32))

    def score(found):
        scores = head([found, pixels])[..., class_index]  # [B, H, W] or [B]
        return ops.sum(scores * region), None

    found = gradients.on_pixels(model, maps)(pixels)
    _, gradient = gradients.value_and_gradient(score, found)
    weights = ops.mean(gradient, axis=(1, 2), keepdims=True)  # [B, 1, 1, K]
    heat = ops.relu(ops.sum(weights * found, axis=-1, keepdims=True))  # [B, h, w, 1]
    heat = ops.image.resize(
        heat, images.shape[1:3], interpolation="bilinear", data_format="channels_last"
    )
    heat = ops.convert_to_numpy(heat)[..., 0]  # [B, H, W]
    largest = heat.max(axis=(1, 2), keepdims=True)
    return np.divide(heat, largest, out=np.zeros_like(heat), where=largest > 0)


def _last_maps(model, dense):
    """What the class scores are made of, symbolic maps [B, h, w, K]."""
    if dense:
        gradients.layer_output(model, "score")  # an error lists the layers of a foreign model
        return model.get_layer("score").input
    return [layer.output for layer in model.layers if len(layer.output.shape) == 4][-1]


def _region(model, images, class_index, region):
    """The pixels to explain, float32 [B, H, W]."""
    if region is None:
        logits = main_output(model.predict_on_batch(images))
        region = np.argmax(logits, axis=-1) == class_index
    region = np.asarray(region, bool)
    if region.shape not in (images.shape[1:3], images.shape[:3]):
        raise ValueError(
            f"The region needs the images' size {images.shape[1:3]}, received {region.shape}."
        )
    region = np.broadcast_to(region, images.shape[:3])
    empty = np.nonzero(~region.any(axis=(1, 2)))[0]
    if len(empty):
        raise ValueError(
            f"There is no pixel to explain in image {empty[0]}: class {class_index} is predicted "
            f"nowhere, or the region is empty. Choose another class or region."
        )
    return region.astype(np.float32)
