"""Which images are found, and the files that predictions leave."""

import numpy as np
import pytest
from PIL import Image

from kerasdense.tasks import results
from kerasdense.data.formats import read_mot

NAMES = ["road", "car"]
PALETTE = [[0, 0, 255], [255, 0, 0]]
PICTURE = np.full((20, 40, 3), 128, np.uint8)


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_find_images(tmp_path):
    folder, single, frame = tmp_path / "in", tmp_path / "x.dat", tmp_path / "mot" / "img1" / "1.jpg"
    touch(folder / "b.PNG", folder / "deep" / "a.jpg", folder / "notes.txt", single, frame)
    touch(tmp_path / "mot" / "seqinfo.ini", tmp_path / "mot" / "cover.jpg")
    found = results.find_images([single, folder, tmp_path / "mot"])
    assert found == [single, folder / "b.PNG", folder / "deep" / "a.jpg", frame]


def test_earlier_results_are_no_images(tmp_path):
    touch(tmp_path / "a.jpg", tmp_path / "out" / "a.png")
    assert results.find_images([tmp_path], tmp_path / "out") == [tmp_path / "a.jpg"]
    for paths in ([tmp_path / "out" / "a.png"], [tmp_path / "out"]):
        with pytest.raises(ValueError, match="--output"):
            results.find_images(paths, tmp_path / "out")
    touch(tmp_path / "empty" / "notes.txt")
    with pytest.raises(ValueError, match="No images in .*empty"):
        results.find_images([tmp_path / "empty"], tmp_path / "out")


def test_label_maps(tmp_path):
    written = results.LabelMaps(tmp_path, NAMES, PALETTE)
    labels = np.zeros((20, 40), np.uint8)
    labels[:5] = 1  # a quarter
    line = written.add(tmp_path / "in" / "a.jpg", PICTURE, {"labels": labels})
    assert line == "a.png: road 75 %, car 25 %"
    assert written.add(tmp_path / "other" / "a.jpg", PICTURE, {"labels": labels})[:8] == "a_2.png:"
    written.finish([])
    names = {"legend.png", "a.png", "a_overlay.png", "a_2.png", "a_2_overlay.png"}
    assert {path.name for path in tmp_path.iterdir()} == names
    with Image.open(tmp_path / "a.png") as file:
        np.testing.assert_array_equal(np.asarray(file), labels)


@pytest.mark.parametrize("stems, frames", [(["000007", "12"], [7, 12]), (["a", "12"], [1, 2])])
def test_boxes(tmp_path, stems, frames):
    """All boxes are in the result files, the sure ones in the picture and the line."""
    paths = [tmp_path / "in" / f"{stem}.jpg" for stem in stems]
    output = tmp_path / "out"
    output.mkdir()
    written = results.Boxes(output, NAMES, PALETTE, score=0.5)
    outputs = {
        "boxes": np.array([[2, 4, 12, 16], [0, 0, 5, 6], [9, 9, 9, 9]], np.float32),
        "scores": np.array([0.9, 0.25, 0.0], np.float32),
        "classes": np.array([1, 0, 0]),
        "num_detections": 2,
    }
    for path, stem in zip(paths, stems):
        assert written.add(path, PICTURE, outputs) == f"{stem}_boxes.jpg: 1 car"
    written.finish(paths)
    assert {path.name for path in output.iterdir()} == {
        "voc", "mot", *(f"{stem}_boxes.jpg" for stem in stems)
    }  # fmt: skip
    for name, box, score in (("car", [2, 4, 12, 16], 0.9), ("road", [0, 0, 5, 6], 0.25)):
        found = read_mot(output / "mot" / f"det_{name}.txt")
        assert found.frames.tolist() == frames
        np.testing.assert_allclose(found.boxes, [box, box], atol=1e-3)
        np.testing.assert_allclose(found.confidences, [score, score], atol=1e-6)
    lines = (output / "voc" / "comp4_det_test_car.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == stems


def test_a_single_class_has_mot_s_own_file_name(tmp_path):
    written = results.Boxes(tmp_path, NAMES[:1], PALETTE[:1], score=0.5)
    written.finish([])
    assert [path.name for path in (tmp_path / "mot").iterdir()] == ["det.txt"]
