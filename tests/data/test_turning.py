"""What truth was drawn on: told by its size, or by the other pictures of the source."""

import pytest
from PIL import Image

from kerasdense.data import files, reading, turning

HEIGHT, WIDTH = 6, 8  # of the upright picture
UPRIGHT, TURNED = (HEIGHT, WIDTH), (WIDTH, HEIGHT)


def photo(orientation, size=(WIDTH, HEIGHT)):
    return reading.Photo(b"", Image.new("RGB", size), orientation)


def convention(folder, *pictures):
    """Of a source with these pictures: (orientation, (height, width) that its truth was drawn on).

    All are stored 6x8 (height x width).
    """
    sizes = {}
    for number, (orientation, size) in enumerate(pictures):
        path = folder / f"{number}.jpg"
        exif = Image.Exif()
        exif[reading.EXIF_ORIENTATION] = orientation
        Image.new("RGB", (8, 6)).save(path, exif=exif)
        sizes[files.Pair(str(number), path, path)] = size
    return turning.Convention(list(sizes), sizes.get)


def test_truth_of_the_stored_pixels_is_known_by_its_size(tmp_path):
    for is_stored in (None, True, False):  # whatever the others tell
        others = turning.Convention()
        others.is_stored = is_stored
        for orientation in range(1, 9):
            is_quarter = orientation >= 5
            picture = photo(orientation)
            unknown = False if orientation == 1 else is_stored
            assert others.is_of_stored(picture, UPRIGHT) == (False if is_quarter else unknown)
            assert others.is_of_stored(picture, TURNED) == (True if is_quarter else unknown)
            # sizes that tell nothing: of neither, absent, or of a square
            assert others.is_of_stored(picture, (1, 1)) == unknown
            assert others.is_of_stored(picture, None) == unknown
            assert others.is_of_stored(photo(orientation, (7, 7)), (7, 7)) == unknown


@pytest.mark.parametrize(
    "pictures, is_stored",
    [
        # Stored 6x8, upright 8x6.
        ([(1, (6, 8)), (6, (6, 8)), (3, (6, 8))], True),
        ([(5, (8, 6)), (3, (6, 8))], False),
        ([(5, (8, 6)), (8, (6, 8))], None),  # both
        ([(1, (6, 8)), (3, (6, 8))], None),  # no picture is turned by a quarter
        ([(6, None), (7, (5, 5))], None),  # of those that are, none tells
        ([(6, None), (7, (6, 8))], True),
        ([], None),
    ],
)
def test_pictures_turned_by_a_quarter_tell_for_all(tmp_path, pictures, is_stored):
    assert convention(tmp_path, *pictures).is_stored is is_stored


def test_headers_are_read_only_where_it_matters(tmp_path, monkeypatch):
    found = convention(tmp_path, (6, (6, 8)))
    read, original = [], reading.read_header
    monkeypatch.setattr(reading, "read_header", lambda path: read.append(path) or original(path))
    assert found.is_of_stored(photo(1), UPRIGHT) is False
    assert found.is_of_stored(photo(6), TURNED) is True
    assert read == []
    for _ in range(2):
        assert found.is_of_stored(photo(3), UPRIGHT) is True
    assert len(read) == 1
