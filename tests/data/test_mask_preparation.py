"""Label maps keep their indices, whatever the bits they are stored with."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from kerasdense.data import classes, mask_preparation
from kerasdense.models.layers import MINIMUM_SIZE


def test_the_side_that_networks_take_is_theirs():
    assert mask_preparation.MINIMUM_SIDE == MINIMUM_SIZE


def test_values_that_are_no_class_are_told():
    labels = mask_preparation.Labels(mask_preparation.label_table(3), "classes.txt", "Cure.")
    values = np.array([[0, 127, 254]], np.uint8)
    words = (
        r"contains class 254 but classes.txt has 3 classes \(0-2, 255 = ignore\). Cure. It holds "
    )
    with pytest.raises(ValueError, match=words + "0, 127, 254.$"):
        mask_preparation.to_classes(values, labels, "x.png")
    smooth = np.arange(30, dtype=np.uint8)[None]
    with pytest.raises(ValueError, match="It holds 30 values: edges that were smoothed"):
        mask_preparation.to_classes(smooth, labels, "x.png")


def test_masks_of_few_bits_keep_their_indices(tmp_path):
    for mode, values in (("1", [0, 1]), ("P", [0, 1, 2, 3])):
        if mode == "1":
            image = Image.fromarray(np.array([values], bool))
        else:
            image = Image.fromarray(np.array([values], np.uint8))
            image.putpalette(sum(classes.default_palette(256), []))
        image.save(tmp_path / "x.png", **({"bits": 2} if mode == "P" else {}))
        np.testing.assert_array_equal(mask_preparation.read_mask(tmp_path / "x.png"), [values])


def test_two_bit_gray_masks_keep_their_indices(tmp_path):
    def chunk(kind, data):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    # one row of four 2-bit samples 0, 1, 2, 3 = 0b00011011 after the filter byte 0
    header = struct.pack(">IIBBBBB", 4, 1, 2, 0, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes([0, 0b00011011])))
        + chunk(b"IEND", b"")
    )
    (tmp_path / "x.png").write_bytes(data)
    np.testing.assert_array_equal(mask_preparation.read_mask(tmp_path / "x.png"), [[0, 1, 2, 3]])
