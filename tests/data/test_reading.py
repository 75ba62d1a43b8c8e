"""Image files of every mode as a prepared dataset keeps them."""

import io

import numpy as np
import pytest
from PIL import Image

from kerasdense.data import reading

HEIGHT, WIDTH = 6, 8


def photo(mode="RGB"):
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def read(image, path, **options):
    image.save(path, **options)
    encoded = reading.read_image(path).encoded
    return encoded, np.asarray(Image.open(io.BytesIO(encoded)))


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_plain_rgb_files_keep_their_bytes(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    encoded, _ = read(photo(), path)
    assert encoded == path.read_bytes()


def test_other_modes_become_rgb(tmp_path):
    for mode in ("L", "LA", "RGBA", "P", "1"):
        image = photo(mode=mode)
        encoded, pixels = read(image, tmp_path / f"{mode}.png")
        np.testing.assert_array_equal(pixels, np.asarray(image.convert("RGB")), err_msg=mode)
        assert encoded.startswith(b"\x89PNG")
    encoded, pixels = read(photo(mode="CMYK"), tmp_path / "x.jpg", quality=100)
    assert pixels.shape == (HEIGHT, WIDTH, 3) and encoded.startswith(b"\x89PNG")


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    # 65535 / 256 = 255, 32768 / 256 = 128, 255 / 256 = 0
    image = Image.fromarray(np.array([[65535, 32768, 255, 0]], np.uint16))
    _, pixels = read(image, tmp_path / "x.png")
    np.testing.assert_array_equal(pixels[0], np.repeat([[255], [128], [0], [0]], 3, axis=1))


def test_float_pixels_are_refused(tmp_path):
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(ValueError, match="x.tif' has floating point pixels"):
        reading.read_image(tmp_path / "x.tif")
