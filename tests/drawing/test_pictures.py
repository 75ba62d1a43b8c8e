"""What pictures must hold; how they look is for eyes."""

import numpy as np
import pytest
from conftest import REAL_DATA, needs_real_data
from PIL import Image

from kerasdense.drawing import pictures
from kerasdense.metrics.labels import IGNORE

PALETTE = [[255, 0, 0], [0, 255, 0], [10, 20, 30]]
NAMES = ["red", "green", "dark"]


def test_colorize_gives_each_class_its_color():
    picture = pictures.colorize(np.array([[0, 1, 2]]), PALETTE)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture[0], PALETTE)


def test_ignored_pixels_are_striped():
    picture = pictures.colorize(np.full((16, 16, 1), IGNORE), PALETTE)
    assert set(np.unique(picture)) == {pictures.HATCH_DARK, pictures.HATCH_LIGHT}


def test_overlay_mixes_inside_and_is_stronger_on_borders():
    mask = np.zeros((1, 8), np.uint8)
    mask[:, 4:] = 1
    image = np.full((1, 8, 3), 100, np.uint8)
    picture = pictures.overlay(image, mask, PALETTE, opacity=0.5)
    # Inside: half of 100 and half of the color, 177.5 and 50, to the even number.
    np.testing.assert_array_equal(picture[0, 0], [178, 50, 50])
    # On both sides of the border nine tenths of the color: 10 + 229.5.
    np.testing.assert_array_equal(picture[0, 3], [240, 10, 10])
    np.testing.assert_array_equal(picture[0, 4], [10, 240, 10])
    np.testing.assert_array_equal(pictures.overlay(image, mask, PALETTE, opacity=0), image)


def test_error_map_marks_wrong_pixels_only():
    image = np.full((1, 3, 3), 100, np.uint8)
    picture = pictures.error_map(image, np.array([[0, 1, IGNORE]]), np.array([[0, 0, 0]]))
    right, wrong, ignored = picture[0].astype(int)
    assert right[0] == right[1] == right[2]
    assert wrong[0] > wrong[1] + 50
    assert ignored[0] in (pictures.HATCH_DARK, pictures.HATCH_LIGHT)


def test_heat_covers_by_its_strength():
    image = np.full((1, 3, 3), 100, np.uint8)
    picture = pictures.heat_overlay(image, np.array([[0, 0.25, 1]]), opacity=0.5)
    np.testing.assert_array_equal(picture[0, 0], [100, 100, 100])
    # Half of the root of 0.25 is a weight of 1/4; the color at a quarter is GLOW's second.
    np.testing.assert_array_equal(picture[0, 1], np.rint(75 + 0.25 * pictures.GLOW[1]))
    np.testing.assert_array_equal(picture[0, 2], np.rint(50 + 0.5 * pictures.GLOW[-1]))


def test_amplified_differences_lie_around_gray():
    difference = np.array([[[0, 2, -2], [100, -100, 1]]])
    np.testing.assert_array_equal(
        pictures.amplified(difference, 10), [[[128, 148, 108], [255, 0, 138]]]
    )


def test_an_animation_keeps_its_frames(tmp_path):
    frames = [np.full((8, 8, 3), shade, np.uint8) for shade in (0, 128, 255)]
    pictures.save_animation(tmp_path / "a.gif", frames, milliseconds=50)
    with Image.open(tmp_path / "a.gif") as file:
        assert (file.n_frames, file.info["duration"], file.info["loop"]) == (3, 50, 0)


@pytest.mark.parametrize("width", [None, 300])
def test_legend_shows_every_color(width):
    picture = pictures.legend(NAMES, PALETTE, width)
    if width:
        assert picture.shape[1] == width
    colors = {tuple(color) for color in picture.reshape(-1, 3)}
    assert {tuple(color) for color in PALETTE} <= colors


def test_a_legend_of_some_classes_shows_their_colors_alone():
    picture = pictures.legend(NAMES, PALETTE, shown=[1])
    colors = {tuple(color) for color in picture.reshape(-1, 3)}
    assert tuple(PALETTE[1]) in colors and tuple(PALETTE[0]) not in colors
    larger = pictures.legend(NAMES, PALETTE, shown=[1], text=28)
    assert larger.shape[0] == 2 * picture.shape[0]


@pytest.mark.parametrize("size", [(10, 40), (60, 7), (192, 256), (1500, 2000)])
def test_a_picture_with_its_legend(size):
    labels = np.zeros(size, np.uint8)
    labels[0, 0] = 2
    picture = pictures.colorize(labels, PALETTE)
    explained = pictures.with_legend(picture, labels, NAMES, PALETTE)
    height, width = size
    # The picture as it was, at the top left, and a legend that is readable and not much.
    np.testing.assert_array_equal(explained[:height, :width], picture)
    below = explained[height:]
    assert 24 <= below.shape[0] < 100 + height / 4 and width <= explained.shape[1] < width + 150
    colors = {tuple(color) for color in below.reshape(-1, 3)}
    assert tuple(PALETTE[2]) in colors and tuple(PALETTE[1]) not in colors


def test_tags_of_a_large_picture_are_as_large_a_part_of_it():
    def tagged(height):
        image = np.full((height, height, 3), 128, np.uint8)
        return pictures.draw_boxes(image, [[0.25, 0.5, 0.75, 0.75]], [0], NAMES, PALETTE)

    # The share of the rows that a column through the tag is covered in.
    small, large = (
        (each[:, each.shape[1] * 13 // 50] != 128).any(axis=-1).mean()
        for each in (tagged(300), tagged(3000))
    )
    assert small / 2 < large < 2 * small


def test_gallery_keeps_every_pixel():
    rng = np.random.default_rng(0)
    rows = [[rng.integers(0, 256, (5, 7, 3), np.uint8) for _ in range(3)] for _ in range(2)]
    picture = pictures.gallery(rows)
    left, top = pictures.MARGIN, pictures.MARGIN
    for row in range(2):
        for column in range(3):
            y, x = top + row * (5 + pictures.MARGIN), left + column * (7 + pictures.MARGIN)
            np.testing.assert_array_equal(picture[y : y + 5, x : x + 7], rows[row][column])


GRAY = np.full((80, 120, 3), 128, np.uint8)


def colored(picture, color):
    return (picture == np.array(color)).all(axis=-1)


def test_a_box_encloses_its_pixels_and_nothing_else_changes():
    before = GRAY.copy()
    picture = pictures.draw_boxes(before, [[0.25, 0.5, 0.75, 0.95]], [0], NAMES, PALETTE)
    # Columns 30 to 89 and rows 40 to 75: a line of one pixel, and one pixel of halo around.
    red = colored(picture, PALETTE[0])
    for edge in (red[40:76, 30], red[40:76, 89], red[75, 30:90], red[40, 30:90]):
        assert edge.all()
    assert not red[42:75, 32:89].any() and (picture[42:74, 32:88] == 128).all()
    tag = red[:40]
    assert 50 < tag.sum() < 40 * 60  # above the box, filled
    assert (picture[77:] == 128).all() and (picture[41:, 91:] == 128).all()
    np.testing.assert_array_equal(before, GRAY)


CORNERS = [[0, 0, 0.1, 0.1], [0.9, 0, 1, 0.1], [0, 0.9, 0.1, 1], [0.9, 0.9, 1, 1]]


@pytest.mark.parametrize("box", [*CORNERS, [-3, -3, 9, 9], [0.5, 0.5, 0.5, 0.5]])
@pytest.mark.parametrize("color", [[255, 255, 255], [0, 0, 0], [255, 255, 0], [0, 0, 255]])
def test_tags_are_inside_and_can_be_read(box, color):
    picture = pictures.draw_boxes(GRAY, [box], [0], ["box"], [color], [0.5])
    rows = np.flatnonzero(colored(picture, color).sum(axis=1) > 15)[:14]
    assert rows[-1] - rows[0] >= 10  # the tag is 14 rows high, some of which the text interrupts
    tag = picture[rows[0] : rows[-1], colored(picture, color)[rows[0]]]
    contrast = np.abs((tag - np.array(color, float)) @ [0.299, 0.587, 0.114])
    assert contrast.max() > 150  # the gray around differs by 128 at most


def test_a_tag_is_whole_on_a_low_picture():
    picture = pictures.draw_boxes(GRAY[:20], [[0, 0.6, 1, 1]], [0], NAMES, PALETTE)
    assert colored(picture, PALETTE[0])[6, :20].all()  # 14 rows high, the last row is the 20th


def test_the_best_score_lies_on_top():
    boxes = [[0.1, 0.3, 0.9, 0.9]] * 3
    picture = pictures.draw_boxes(GRAY, boxes, [0, 1, 2], NAMES, PALETTE, [0.2, 0.9, 0.5])
    # The bottom edge; the tags of the others would hide the best one's and are left out.
    assert colored(picture, PALETTE[1])[71, 12:108].all()
    assert not colored(picture, PALETTE[0]).any() and not colored(picture, PALETTE[2]).any()


def test_dashes_and_colors_of_ones_own():
    box = [[0.1, 0.3, 0.9, 0.9]]
    picture = pictures.draw_boxes(GRAY, box, [0], NAMES, PALETTE, colors=[[255, 255, 0]])
    assert colored(picture, [255, 255, 0])[71, 12:108].all()
    picture = pictures.draw_boxes(
        GRAY, box, [0], NAMES, PALETTE, colors=np.array([[255, 255, 0]]), dashed=True
    )
    for edge in (picture[71, 12:108], picture[30:71, 12], picture[30:71, 107]):
        bright, dark = colored(edge, [255, 255, 0]), colored(edge, pictures.INK)
        assert (bright | dark).all() and 0.3 < bright.mean() < 0.7


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (9, 9), (300, 400)])
def test_any_number_of_boxes_on_any_picture(size):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size, 3), np.uint8)
    np.testing.assert_array_equal(pictures.draw_boxes(image, [], [], NAMES, PALETTE, []), image)
    corners = rng.random((200, 2))
    boxes = np.concatenate([corners, corners + 0.3 * rng.random((200, 2))], axis=1)
    labels, scores = rng.integers(0, 3, 200), rng.random(200)
    picture = pictures.draw_boxes(image, boxes.astype(np.float32), labels, NAMES, PALETTE, scores)
    assert picture.shape == image.shape and picture.dtype == np.uint8


def test_label_map_keeps_class_ids(tmp_path):
    labels = np.array([[0, 1, 2, IGNORE]], np.int64)
    pictures.save_label_map(tmp_path / "labels.png", labels, PALETTE)
    with Image.open(tmp_path / "labels.png") as file:
        assert file.mode == "P"
        np.testing.assert_array_equal(np.asarray(file), labels)
        np.testing.assert_array_equal(np.asarray(file.convert("RGB"))[0, :3], PALETTE)


def draw(image=GRAY, boxes=((0, 0, 1, 1),), labels=(0,), scores=None, colors=None):
    return pictures.draw_boxes(image, boxes, labels, NAMES, PALETTE, scores, colors)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: pictures.colorize(np.array([[3]]), PALETTE), "ids from 3 to 3.*3 colors"),
        (lambda: pictures.colorize(np.zeros((2, 2)), PALETTE), "integer array"),
        (lambda: pictures.colorize(np.zeros((2, 2, 3), int), PALETTE), "label map"),
        (lambda: pictures.overlay(np.zeros((2, 2, 3)), np.zeros((2, 3), int), PALETTE), "size"),
        (lambda: pictures.overlay(np.zeros((1, 1, 3)), np.array([[0]]), PALETTE, 2), "opacity"),
        (lambda: pictures.legend(["a"], PALETTE), "1 class names and 3 colors"),
        (lambda: pictures.gallery([]), "rows"),
        (lambda: pictures.gallery([[np.zeros((1, 1, 3), np.uint8)]], ["a", "b"]), "caption"),
        (lambda: draw(boxes=[[0, 0, 1]]), "finite numbers.*shape \\(1, 3\\)"),
        (lambda: draw(boxes=[[0, 0, 1, np.nan]]), "NaN or infinity"),
        (lambda: draw(labels=[3]), "labels from 3 to 3.*3 classes"),
        (lambda: draw(labels=[-1]), "labels from -1"),
        (lambda: draw(labels=[0, 1]), "1 boxes need as many labels, received 2"),
        (lambda: draw(scores=[]), "as many scores, received 0"),
        (lambda: draw(colors=[[0, 0, 0]] * 2), "as many colors, received 2"),
        (lambda: draw(image=GRAY / 255), "expected uint8 .H, W, 3., received float64"),
        (lambda: draw(image=GRAY[..., 0]), "received uint8 .80, 120."),
        (lambda: pictures.heat_overlay(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 3))), "size"),
        (
            lambda: pictures.heat_overlay(np.zeros((1, 1, 3), np.uint8), np.ones((1, 1)) * 2),
            "0 and",
        ),
    ],
)
def test_mistakes_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_load_picture_turns_all_kinds_into_rgb(tmp_path):
    gray = np.array([[0, 128], [200, 255]], np.uint8)
    deep = gray.astype(np.uint16) * 257  # the same gray levels in 16 bits
    rgba = np.dstack([gray, gray, gray, np.full_like(gray, 7)])
    files = {"gray.png": gray, "deep.png": deep, "rgba.png": rgba, "deep.tif": deep}
    for name, pixels in files.items():
        Image.fromarray(pixels).save(tmp_path / name)
    Image.fromarray(gray).convert("P").save(tmp_path / "palette.png")
    Image.fromarray(deep.astype(np.int32)).save(tmp_path / "wide.tif")
    for path in sorted(tmp_path.iterdir()):
        picture = pictures.load_picture(path)
        assert picture.dtype == np.uint8, path
        np.testing.assert_array_equal(picture, np.dstack([gray] * 3), err_msg=path.name)


def test_load_picture_turns_by_exif(tmp_path):
    pixels = np.zeros((8, 16, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.fromarray(pixels).save(tmp_path / "turned.jpg", exif=exif)
    assert pictures.load_picture(tmp_path / "turned.jpg").shape == (16, 8, 3)


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
            pictures.load_picture(tmp_path / name)


@needs_real_data("CamVid")
def test_a_real_frame():
    frame = sorted((REAL_DATA / "CamVid" / "val").glob("*.jpg"))[0]
    image = pictures.load_picture(frame)
    with Image.open(REAL_DATA / "CamVid" / "valannot" / f"{frame.stem}.png") as file:
        mask = np.asarray(file)
    assert (
        pictures.overlay(image, mask, [[i, 2 * i, 3 * i] for i in range(12)]).shape == image.shape
    )


@pytest.mark.parametrize("orientation, size", [(1, (3, 5)), (3, (3, 5)), (6, (5, 3)), (8, (5, 3))])
def test_the_size_of_a_file_is_that_of_its_upright_picture(tmp_path, orientation, size):
    exif = Image.Exif()
    exif[0x0112] = orientation  # 6 and 8: a quarter turn
    Image.new("RGB", (5, 3)).save(tmp_path / "a.png", exif=exif)
    assert pictures.size_of(tmp_path / "a.png") == size
    assert pictures.load_picture(tmp_path / "a.png").shape[:2] == size


def test_a_file_that_is_no_picture_has_no_size(tmp_path):
    (tmp_path / "a.png").write_text("none")
    for name in ("a.png", "missing.png"):
        with pytest.raises(ValueError, match=f"Cannot read the image .*{name}"):
            pictures.size_of(tmp_path / name)


def test_tiny_pictures_leave_room_for_their_captions():
    tiny = np.zeros((4, 4, 3), np.uint8)
    picture = pictures.gallery([[tiny, tiny]], ["red 81 %", "a"])
    alone = pictures.gallery([[tiny]], ["red 81 %"])
    assert picture.shape[1] > alone.shape[1] > 40  # pixels, of eight letters of 15
    long = pictures.gallery([[tiny]], ["m" * 1000])
    assert long.shape[1] == pictures.CAPTION + 2 * pictures.MARGIN
