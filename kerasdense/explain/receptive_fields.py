"""Effective receptive fields: which pixels really move a unit of a layer.

H W size of the images, h w of a layer's map, K its channels.
"""

import numpy as np
from keras import ops

from kerasdense.explain import gradients

# Of the largest value, from which on a pixel belongs to the field: one minus the mass of a Gaussian
# within two deviations. Luo et al. 2016, sec. 3.
FIELD_THRESHOLD = 1 - 0.9545


def effective_receptive_field(model, layer, size, samples=16, seed=0):
    """How much each pixel moves a layer's central unit: float64 [H, W], its sum is 1 (NumPy).

    The mean, over random images of independent pixels, of the absolute gradient of the sum of the
    central unit's channels, summed over the colors.

    Args:
        layer: name of a layer with maps [B, h, w, K].
        size: (H, W) of the images in pixels, a multiple of the layer's stride for a central unit.
        samples: number of random images.
        seed: of the images.

    Raises: ValueError for a layer that does not exist or has no maps, and where no pixel moves
        the unit.

    Reference: Luo et al., "Understanding the effective receptive field in deep convolutional
    neural networks", NeurIPS 2016, sec. 3.
    """
    maps = gradients.layer_output(model, layer)
    if len(maps.shape) != 4:
        raise ValueError(f'The layer "{layer}" gives {maps.shape}, expected maps [B, h, w, K].')
    fixed = model.input.shape[1:3]
    if None not in fixed and tuple(fixed) != tuple(size):
        raise ValueError(f'"{model.name}" takes images of {fixed}, received size {tuple(size)}.')
    to_maps = gradients.on_pixels(model, maps)

    def center(x):
        found = to_maps(x)
        height, width = found.shape[1:3]
        return ops.sum(found[:, height // 2, width // 2, :]), None

    def energy(x):
        _, gradient = gradients.value_and_gradient(center, x)
        return ops.sum(ops.abs(gradient), axis=(0, 3))  # [H, W]

    program = gradients.compiled(energy, model)
    rng = np.random.default_rng(seed)
    field = np.zeros(size, np.float64)
    for _ in range(samples):
        noise = rng.uniform(0, 255, (1, *size, 3)).astype(np.float32)
        field += ops.convert_to_numpy(program(ops.convert_to_tensor(noise)))
    if not np.isfinite(field).all() or not field.sum() > 0:
        raise ValueError(
            f'No pixel moves the central unit of "{layer}" by a finite amount: are its weights '
            f"all zero or not finite?"
        )
    return field / field.sum()


def field_box(field):
    """The box that a field [H, W] fills effectively: (top, left, bottom, right) in pixels.

    The last two are outside. Inside, its profiles, the sums along the other axis, are above 4.55 %
    of their largest value.
    """
    ends = []
    for profile in (field.sum(axis=1), field.sum(axis=0)):
        inside = np.nonzero(profile >= FIELD_THRESHOLD * profile.max())[0]
        ends.append((int(inside[0]), int(inside[-1]) + 1))
    (top, bottom), (left, right) = ends
    return top, left, bottom, right
