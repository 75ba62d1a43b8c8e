"""Image files as a prepared dataset keeps them, and one clear line for each that is broken.

Pictures are turned upright by their EXIF orientation, as people and labeling tools see them.
"""

import dataclasses
import io

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH

EXIF_ORIENTATION = ExifTags.Base.Orientation
# What turns a picture of an orientation upright: whether its axes change places (5 to 8), then
# whether it is mirrored left to right, and upside down.
MIRRORED = {
    2: (True, False),
    3: (True, True),
    4: (False, True),
    5: (False, False),
    6: (True, False),
    7: (True, True),
    8: (False, True),
}
SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")


@dataclasses.dataclass(frozen=True)
class Photo:
    """A photograph: `encoded`, its file as it is kept; `image`, the PIL image; both upright.

    `orientation`: the one that the file carries, 1 to 8; 1 is upright.
    """

    encoded: bytes
    image: Image.Image
    orientation: int = 1

    @property
    def size(self):
        """(height, width) of the upright picture."""
        return self.image.size[::-1]

    @property
    def stored_size(self):
        """(height, width) of the pixels as the file stores them."""
        return self.size[::-1] if self.orientation >= 5 else self.size


def open_image(path, role):
    """Returns (bytes, PIL image, orientation): completely decoded, upright.

    `orientation`: by EXIF, 1 to 8, what the file was stored in.

    Raises:
        ValueError: the file cannot be read, is no image, or is truncated or damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{role} '{path}' cannot be read: {error.strerror}.") from None
    try:
        image = Image.open(io.BytesIO(data))
        orientation = image.getexif().get(EXIF_ORIENTATION, 1)
        image.load()  # turns TIFF by itself, and takes the entry away
        ImageOps.exif_transpose(image, in_place=True)
    except UnidentifiedImageError:
        raise ValueError(
            f"{role} '{path}' ({len(data)} bytes) is not an image that Pillow can read."
        ) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{role} '{path}' cannot be decoded ({error}). It is truncated or damaged: copy it "
            "again from the original."
        ) from None
    return data, image, orientation if orientation in MIRRORED else 1


def read_header(path):
    """(orientation, (height, width) of the stored pixels) of an image file; nothing is decoded.

    (1, None) of a file that is no image: `open_image` says so. A PNG whose EXIF entry stands after
    its pixels counts as upright here.
    """
    try:
        with Image.open(path) as image:
            # The method of PngImageFile decodes the picture where there is no EXIF.
            orientation = Image.Image.getexif(image).get(EXIF_ORIENTATION, 1)
            width, height = image.size
            if hasattr(image, "tag_v2"):  # of TIFF Pillow gives the size of the upright picture
                width, height = image.tag_v2[IMAGEWIDTH], image.tag_v2[IMAGELENGTH]
    except (OSError, SyntaxError, ValueError, KeyError, Image.DecompressionBombError):
        return 1, None
    return orientation if orientation in MIRRORED else 1, (height, width)


def turned(image, orientation):
    """The PIL image upright, if it was stored in `orientation`."""
    image = image.copy()
    image.getexif()[EXIF_ORIENTATION] = orientation
    ImageOps.exif_transpose(image, in_place=True)
    return image


def turned_boxes(boxes, size, orientation):
    """Boxes [N, 4], continuous xyxy in pixels, of a picture that is turned upright with it.

    `size`: (height, width) of the picture as stored; `orientation`: what it was stored in.
    """
    if orientation == 1:
        return boxes
    if orientation >= 5:
        boxes, size = boxes[:, [1, 0, 3, 2]], size[::-1]
    (height, width), (is_mirrored, is_upside_down) = size, MIRRORED[orientation]
    left, top, right, bottom = boxes.T
    if is_mirrored:
        left, right = width - right, width - left
    if is_upside_down:
        top, bottom = height - bottom, height - top
    return np.stack([left, top, right, bottom], axis=1)


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
    """Reads a photograph, a `Photo`; upright 8-bit RGB JPEG and PNG files keep their bytes.

    What is turned, or stored otherwise, becomes PNG.

    Raises:
        ValueError: unreadable, truncated or of an unusual pixel type.
    """
    data, image, orientation = open_image(path, "Image")
    is_plain = image.format in ("JPEG", "MPO") or png_bit_depth(data) == 8
    if orientation == 1 and image.mode == "RGB" and is_plain:
        return Photo(data, image)
    image = to_rgb(image, path)
    return Photo(png_bytes(image), image, orientation)
