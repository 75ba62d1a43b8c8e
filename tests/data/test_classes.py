"""Lists of class names, and colors for those who have none."""

import pytest

from kerasdense.data import classes


def test_class_names_a_line_each(tmp_path):
    path = tmp_path / "classes.txt"
    with pytest.raises(FileNotFoundError, match="classes.txt' does not exist. Write the class nam"):
        classes.read_classes(path)
    path.write_text("\n")
    with pytest.raises(ValueError, match="classes.txt' is empty"):
        classes.read_classes(path)
    path.write_text("sky\ncar\nsky\n")
    with pytest.raises(ValueError, match="names the class 'sky' twice"):
        classes.read_classes(path)
    path.write_bytes("\ufeffsky \r\n\r\n traffic light\n".encode())
    assert classes.read_classes(path) == ["sky", "traffic light"]


def test_default_palette_is_the_voc_color_map():
    # VOC2012: aeroplane (128, 0, 0), person 15 (192, 128, 128), tvmonitor 20 (0, 64, 128)
    palette = classes.default_palette(255)
    assert palette[0] == [0, 0, 0] and palette[1] == [128, 0, 0]
    assert palette[15] == [192, 128, 128] and palette[20] == [0, 64, 128]
    assert len({tuple(color) for color in palette}) == 255


def test_boxes_are_never_black():
    # The color map has 256 colors, one of them black: after 255 classes they come again.
    palette = classes.box_palette(300)
    assert len(palette) == 300 and [0, 0, 0] not in palette
    assert len({tuple(color) for color in palette}) == 255 and palette[255] == palette[0]
    assert palette[:2] == [[128, 0, 0], [0, 128, 0]]
