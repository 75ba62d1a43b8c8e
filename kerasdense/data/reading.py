"""Image files as a prepared dataset keeps them, and one clear line for each that is broken."""

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

EXIF_ORIENTATION = 0x0112
SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")


def open_image(path, role):
    """Returns (bytes, PIL image), completely decoded.

    Raises:
        ValueError: the file cannot be read, is no image, or is truncated or damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{role} '{path}' cannot be read: {error.strerror}.") from None
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except UnidentifiedImageError:
        raise ValueError(
            f"{role} '{path}' ({len(data)} bytes) is not an image that Pillow can read."
        ) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{role} '{path}' cannot be decoded ({error}). It is truncated or damaged: copy it "
            "again from the original."
        ) from None
    return data, image


def to_rgb(image, path):
    """Converts a PIL image of any usual mode to RGB; 16 bits keep their high byte, alpha is cut.

    Raises:
        ValueError: floating point pixels, or integers beyond 16 bits.
    """
    if image.mode in SIXTEEN_BIT_MODES:
        pixels = np.asarray(image).astype(np.int64)
        if pixels.min() < 0 or pixels.max() > 65535:
            raise ValueError(
                f"Image '{path}' has values {pixels.min()} to {pixels.max()}: expected 8 or 16 "
                "bits. Save it as 8-bit RGB."
            )
        return Image.fromarray((pixels >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError(
            f"Image '{path}' has floating point pixels: expected 8 or 16 bits. Save it as RGB."
        )
    return image.convert("RGB")


def png_bytes(image):
    """Encodes a PIL image as PNG: quickly rather than tightly, decoding costs the same."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def png_bit_depth(data):
    """Returns the bits a sample of PNG file bytes (IHDR), or None if they are no PNG."""
    return data[24] if data.startswith(b"\x89PNG\r\n\x1a\n") else None


def read_image(path):
    """Reads a photograph; 8-bit RGB JPEG and PNG files keep their bytes, the rest becomes PNG.

    EXIF orientation is not applied: masks and boxes belong to the pixels as they are stored, and
    TensorFlow decodes these.

    Returns:
        (encoded bytes, PIL image RGB or of the file's mode).

    Raises:
        ValueError: unreadable, truncated or of an unusual pixel type.
    """
    data, image = open_image(path, "Image")
    is_plain = image.format in ("JPEG", "MPO") or png_bit_depth(data) == 8
    if image.mode == "RGB" and is_plain:
        return data, image
    return png_bytes(to_rgb(image, path)), image
