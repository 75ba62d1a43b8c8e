"""What pictures must hold; how they look is for eyes."""

import numpy as np
import pytest
from conftest import REAL_DATA, needs_real_data
from PIL import Image

from kerasdense import drawing
from kerasdense.labels import IGNORE

PALETTE = [[255, 0, 0], [0, 255, 0], [10, 20, 30]]
NAMES = ["red", "green", "dark"]


def test_colorize_gives_each_class_its_color():
    picture = drawing.colorize(np.array([[0, 1, 2]]), PALETTE)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture[0], PALETTE)


def test_ignored_pixels_are_striped():
    picture = drawing.colorize(np.full((16, 16, 1), IGNORE), PALETTE)
    assert set(np.unique(picture)) == {drawing.HATCH_DARK, drawing.HATCH_LIGHT}


def test_overlay_mixes_inside_and_is_stronger_on_borders():
    mask = np.zeros((1, 8), np.uint8)
    mask[:, 4:] = 1
    image = np.full((1, 8, 3), 100, np.uint8)
    picture = drawing.overlay(image, mask, PALETTE, opacity=0.5)
    # Inside: half of 100 and half of the color, 177.5 and 50, to the even number.
    np.testing.assert_array_equal(picture[0, 0], [178, 50, 50])
    # On both sides of the border nine tenths of the color: 10 + 229.5.
    np.testing.assert_array_equal(picture[0, 3], [240, 10, 10])
    np.testing.assert_array_equal(picture[0, 4], [10, 240, 10])
    np.testing.assert_array_equal(drawing.overlay(image, mask, PALETTE, opacity=0), image)


def test_error_map_marks_wrong_pixels_only():
    image = np.full((1, 3, 3), 100, np.uint8)
    picture = drawing.error_map(image, np.array([[0, 1, IGNORE]]), np.array([[0, 0, 0]]))
    right, wrong, ignored = picture[0].astype(int)
    assert right[0] == right[1] == right[2]
    assert wrong[0] > wrong[1] + 50
    assert ignored[0] in (drawing.HATCH_DARK, drawing.HATCH_LIGHT)


@pytest.mark.parametrize("width", [None, 300])
def test_legend_shows_every_color(width):
    picture = drawing.legend(NAMES, PALETTE, width)
    if width:
        assert picture.shape[1] == width
    colors = {tuple(color) for color in picture.reshape(-1, 3)}
    assert {tuple(color) for color in PALETTE} <= colors


def test_gallery_keeps_every_pixel():
    rng = np.random.default_rng(0)
    rows = [[rng.integers(0, 256, (5, 7, 3), np.uint8) for _ in range(3)] for _ in range(2)]
    picture = drawing.gallery(rows)
    left, top = drawing.MARGIN, drawing.MARGIN
    for row in range(2):
        for column in range(3):
            y, x = top + row * (5 + drawing.MARGIN), left + column * (7 + drawing.MARGIN)
            np.testing.assert_array_equal(picture[y : y + 5, x : x + 7], rows[row][column])


def test_confusion_matrix_picture_in_all_sizes():
    small = drawing.confusion_matrix_picture([[5, 1], [0, 0]], ["a", "b"])
    large = drawing.confusion_matrix_picture(np.eye(150), [f"class {i}" for i in range(150)])
    assert small.dtype == large.dtype == np.uint8
    # All of class 0 of the large one is predicted right: the darkest color is there.
    assert (large == drawing.HEAT[-1]).all(axis=-1).any()


def test_label_map_keeps_class_ids(tmp_path):
    labels = np.array([[0, 1, 2, IGNORE]], np.int64)
    drawing.save_label_map(tmp_path / "labels.png", labels, PALETTE)
    with Image.open(tmp_path / "labels.png") as file:
        assert file.mode == "P"
        np.testing.assert_array_equal(np.asarray(file), labels)
        np.testing.assert_array_equal(np.asarray(file.convert("RGB"))[0, :3], PALETTE)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: drawing.colorize(np.array([[3]]), PALETTE), "ids from 3 to 3.*3 colors"),
        (lambda: drawing.colorize(np.zeros((2, 2)), PALETTE), "integer array"),
        (lambda: drawing.colorize(np.zeros((2, 2, 3), int), PALETTE), "label map"),
        (lambda: drawing.overlay(np.zeros((2, 2, 3)), np.zeros((2, 3), int), PALETTE), "size"),
        (lambda: drawing.overlay(np.zeros((1, 1, 3)), np.array([[0]]), PALETTE, 2), "opacity"),
        (lambda: drawing.legend(["a"], PALETTE), "1 class names and 3 colors"),
        (lambda: drawing.gallery([]), "rows"),
        (lambda: drawing.gallery([[np.zeros((1, 1, 3), np.uint8)]], ["a", "b"]), "caption"),
        (lambda: drawing.confusion_matrix_picture(np.eye(3), ["a"]), "shape"),
    ],
)
def test_mistakes_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_load_picture_turns_all_kinds_into_rgb(tmp_path):
    grey = np.array([[0, 128], [200, 255]], np.uint8)
    deep = grey.astype(np.uint16) * 257  # the same grey levels in 16 bits
    rgba = np.dstack([grey, grey, grey, np.full_like(grey, 7)])
    files = {"grey.png": grey, "deep.png": deep, "rgba.png": rgba, "deep.tif": deep}
    for name, pixels in files.items():
        Image.fromarray(pixels).save(tmp_path / name)
    Image.fromarray(grey).convert("P").save(tmp_path / "palette.png")
    Image.fromarray(deep.astype(np.int32)).save(tmp_path / "wide.tif")
    for path in sorted(tmp_path.iterdir()):
        picture = drawing.load_picture(path)
        assert picture.dtype == np.uint8, path
        np.testing.assert_array_equal(picture, np.dstack([grey] * 3), err_msg=path.name)


def test_load_picture_turns_by_exif(tmp_path):
    pixels = np.zeros((8, 16, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.fromarray(pixels).save(tmp_path / "turned.jpg", exif=exif)
    assert drawing.load_picture(tmp_path / "turned.jpg").shape == (16, 8, 3)


def test_damaged_pictures_are_named(tmp_path):
    whole = tmp_path / "whole.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(whole)
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:5000])
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:2000])
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    Image.fromarray(noise[..., 0].astype(np.float32)).save(tmp_path / "float.tif")
    for name in ("cut.png", "cut.jpg", "text.jpg", "empty.png", "float.tif", "absent.png"):
        with pytest.raises(ValueError, match=name):
            drawing.load_picture(tmp_path / name)


@needs_real_data("CamVid")
def test_a_real_frame():
    frame = sorted((REAL_DATA / "CamVid" / "val").glob("*.jpg"))[0]
    image = drawing.load_picture(frame)
    with Image.open(REAL_DATA / "CamVid" / "valannot" / f"{frame.stem}.png") as file:
        mask = np.asarray(file)
    assert drawing.overlay(image, mask, [[i, 2 * i, 3 * i] for i in range(12)]).shape == image.shape
