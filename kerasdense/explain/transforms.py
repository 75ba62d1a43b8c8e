"""What is done to images while they are optimized: moved, blurred, and made of a spectrum.

B batch, H W size.
"""

import numpy as np
from keras import ops

# Square root of the covariance of the colors of ImageNet's pixels, RGB by row, the directions of
# most to least variance by column: the constants of tensorflow/lucid, param/color.py.
COLOR_CORRELATION = np.array(
    [[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]], np.float32
)


def spectrum_image(spectrum):
    """A spectrum float32 [B, 3, H, W, 2] as an image float32 [B, H, W, 3] between 0 and 255.

    The last axis is the real and the imaginary part of the discrete Fourier transform (unitary)
    of a decorrelated color in gray levels, divided by a weight that falls with the frequency f as
    1 / f. The mean of all squared weights is 1, so that a spectrum of independent numbers gives
    colors of their deviation.
    """
    height, width = spectrum.shape[2:4]
    weights = 1 / np.maximum(_frequencies(height, width), 1 / max(height, width))
    weights *= np.sqrt(height * width / np.mean(np.square(weights)))  # the root: unitary
    weights = weights.astype(np.float32)
    wave, _ = ops.ifft2((spectrum[..., 0] * weights, spectrum[..., 1] * weights))  # [B, 3, H, W]
    mixing = COLOR_CORRELATION / np.linalg.norm(COLOR_CORRELATION, axis=0).max()
    colors = ops.matmul(ops.transpose(wave, (0, 2, 3, 1)), mixing.T)  # [B, H, W, 3]
    return 255 * ops.sigmoid(colors * (4 / 255))  # of slope 1 at mid-gray


def transform(images, shift, factor, angle):
    """Images [B, H, W, 3] enlarged by `factor` [B], turned by `angle` [B], moved by `shift`.

    Bilinear, about the center, of the image continued periodically; angles counterclockwise in
    radians, shifts [B, 2] as (y, x) in pixels.
    """
    batch, (height, width) = ops.shape(images)[0], images.shape[1:3]
    y = np.arange(height, dtype=np.float32)[:, None] - (height - 1) / 2  # [H, 1]
    x = np.arange(width, dtype=np.float32) - (width - 1) / 2  # [W]
    cosine, sine = (part(angle) / factor for part in (ops.cos, ops.sin))
    cosine, sine = cosine[:, None, None], sine[:, None, None]
    y, x = cosine * y + sine * x, cosine * x - sine * y  # [B, H, W], where a pixel comes from
    y = y + (height - 1) / 2 - shift[:, 0, None, None]
    x = x + (width - 1) / 2 - shift[:, 1, None, None]
    top, left = ops.floor(y), ops.floor(x)
    below, right = y - top, x - left
    # Keras' affine_transform does not compile with XLA, and its map_coordinates takes 16 to 30
    # times as long as four gathers.
    pixels = ops.reshape(images, (-1, 3))
    first = ops.reshape(ops.arange(batch) * (height * width), (-1, 1, 1))
    top, left = ops.cast(top, "int32"), ops.cast(left, "int32")
    total = 0.0
    for row, share_y in ((top, 1 - below), (top + 1, below)):
        for column, share_x in ((left, 1 - right), (left + 1, right)):
            place = first + row % height * width + column % width  # [B, H, W]
            total += (share_y * share_x)[..., None] * ops.take(pixels, place, axis=0)
    return total


def blur(images, deviation):
    """Images [B, H, W, 3] blurred by a Gaussian of `deviation` [B] in pixels, periodically."""
    channels = ops.transpose(images, (0, 3, 1, 2))
    real, imaginary = ops.fft2((channels, ops.zeros_like(channels)))
    passed = gaussian(deviation, *channels.shape[2:])
    real, _ = ops.ifft2((real * passed, imaginary * passed))
    return ops.transpose(real, (0, 2, 3, 1))


def gaussian(deviation, height, width):
    """What a Gaussian of `deviation` [B] pixels leaves of each frequency: [B, 1, H, W]."""
    exponent = -2 * np.pi**2 * np.square(_frequencies(height, width)).astype(np.float32)
    return ops.exp(ops.square(deviation)[:, None, None, None] * exponent)


def _frequencies(height, width):
    """Cycles a pixel, float64 [H, W], in the order of the discrete Fourier transform."""
    return np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
