"""Image files of every mode as a prepared dataset keeps them."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFile

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


# --- EXIF --------------------------------------------------------------------------------------

# What a camera stores of an upright picture [H, W, ...], by the orientation that it writes: row 0
# and column 0 of what is stored are the sides named (Exif 2.3, table 4, tag 0x0112).
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],  # top, right
    3: lambda upright: upright[::-1, ::-1],  # bottom, right
    4: lambda upright: upright[::-1],  # bottom, left
    5: lambda upright: upright.swapaxes(0, 1),  # left, top
    6: lambda upright: upright.swapaxes(0, 1)[::-1],  # right, top
    7: lambda upright: upright.swapaxes(0, 1)[::-1, ::-1],  # right, bottom
    8: lambda upright: upright.swapaxes(0, 1)[:, ::-1],  # left, bottom
}
every_orientation = pytest.mark.parametrize("orientation", STORED)


def oriented(orientation):
    exif = Image.Exif()
    exif[reading.EXIF_ORIENTATION] = orientation
    return exif


@every_orientation
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_pictures_are_turned_upright(tmp_path, orientation, suffix):
    upright = np.asarray(photo())
    stored = STORED[orientation](upright)
    path = tmp_path / f"x.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(stored).save(path, exif=oriented(orientation), **options)
    found = reading.read_image(path)
    assert found.orientation == orientation
    assert found.size == (HEIGHT, WIDTH) and found.stored_size == stored.shape[:2]
    np.testing.assert_array_equal(np.asarray(found.image), upright)
    with Image.open(io.BytesIO(found.encoded)) as kept:
        assert kept.getexif().get(reading.EXIF_ORIENTATION, 1) == 1
        np.testing.assert_array_equal(np.asarray(kept), upright)
    assert (found.encoded == path.read_bytes()) == (orientation == 1 and suffix == "png")


def test_a_turned_jpeg_is_not_compressed_again(tmp_path):
    Image.fromarray(np.asarray(photo())).save(tmp_path / "x.jpg", exif=oriented(6))
    found = reading.read_image(tmp_path / "x.jpg")
    assert found.encoded.startswith(b"\x89PNG")
    with Image.open(tmp_path / "x.jpg") as stored:
        # orientation 6: row 0 of what is stored is the right side of the picture
        expected = np.asarray(stored).swapaxes(0, 1)[:, ::-1]
    np.testing.assert_array_equal(np.asarray(found.image), expected)


def test_an_orientation_that_does_not_exist_turns_nothing(tmp_path):
    photo().save(tmp_path / "x.png", exif=oriented(9))
    found = reading.read_image(tmp_path / "x.png")
    assert found.orientation == 1 and found.encoded == (tmp_path / "x.png").read_bytes()


@every_orientation
def test_maps_and_boxes_are_turned_with_the_picture(orientation):
    upright = np.zeros((HEIGHT, WIDTH), np.uint8)
    upright[1:3, 4:7] = 9  # rows 1 and 2, columns 4 to 6: left 4, top 1, right 7, bottom 3
    stored = STORED[orientation](upright)
    rows, columns = np.nonzero(stored)
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    boxes = np.array([box, [0, 0, *stored.shape[::-1]]], np.float64)
    found = reading.turned_boxes(boxes, stored.shape, orientation)
    np.testing.assert_array_equal(found, [[4, 1, 7, 3], [0, 0, WIDTH, HEIGHT]])
    assert reading.turned_boxes(boxes[:0], stored.shape, orientation).shape == (0, 4)
    turned = reading.turned(Image.fromarray(stored), orientation)
    np.testing.assert_array_equal(np.asarray(turned), upright)


@every_orientation
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
def test_a_header_tells_orientation_and_size_without_pixels(
    tmp_path, orientation, suffix, monkeypatch
):
    stored = STORED[orientation](np.asarray(photo()))
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(stored).save(path, exif=oriented(orientation))
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)  # nothing is decoded
    assert reading.read_header(path) == (orientation, stored.shape[:2])


def test_a_header_of_what_is_no_image_tells_nothing(tmp_path, monkeypatch):
    (tmp_path / "x.jpg").write_text("no image")
    assert reading.read_header(tmp_path / "x.jpg") == (1, None)
    assert reading.read_header(tmp_path / "absent.jpg") == (1, None)
    photo().save(tmp_path / "x.png")  # without EXIF
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    assert reading.read_header(tmp_path / "x.png") == (1, (HEIGHT, WIDTH))
