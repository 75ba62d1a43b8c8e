"""What a model sees of frames of Cityscapes, the way back, and the names that the server knows."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerasdense.data import cityscapes_frames as frames
from kerasdense.data.images import Found
from kerasdense.data.sources import cityscapes
from kerasdense.metrics.labels import IGNORE

NAMES = [name for _, name, _ in frames.CLASSES]


def label_map(*size, seed=0):
    return np.random.default_rng(seed).integers(0, len(NAMES), size, np.uint8)


def found(*names):
    return [Found(Path("in", f"{name}.png"), name) for name in names]


# --- protocols -----------------------------------------------------------------------------------


def test_the_ladder_s_frame_keeps_the_rows_paints_and_resizes():
    ids = np.full((1024, 2048), 7, np.uint8)
    ids[:30], ids[900:] = 23, 24  # cut off: must not appear
    ids[600:900, :1024] = frames.EGO_VEHICLE
    pixels = np.full((1024, 2048, 3), 200, np.uint8)
    image, labels = frames.LADDER.picture(pixels, ids), frames.LADDER.labels(ids)
    assert image.shape == (448, 1024, 3) and labels.shape == (448, 1024)
    assert set(np.unique(labels)) == {7, frames.EGO_VEHICLE}
    # ego rows begin at (600 - 30) * 448 / 870 = 293.5
    assert (labels[295:, :511] == frames.EGO_VEHICLE).all() and (labels[:293] == 7).all()
    assert (image[300:, :500] == frames.LADDER_MEAN).all() and (image[:290] == 200).all()
    assert (frames.LADDER.picture(pixels) == 200).all()  # where it is unknown
    half = frames.LADDER.picture(pixels[::2, ::2], ids[::2, ::2])
    assert half.shape == (448, 1024, 3) and (half[300:, :500] == frames.LADDER_MEAN).all()


def test_a_label_map_of_the_ladder_is_put_back():
    labels = label_map(448, 1024)
    whole = frames.LADDER.put_back(labels, frames.FULL_SIZE)
    assert whole.shape == (1024, 2048) and whole.dtype == np.uint8
    assert (whole[:30] == IGNORE).all() and (whole[900:] == IGNORE).all()
    # The center of row 30 + y lies in row (2 y + 1) * 224 / 870 of what the model saw, or where
    # 435 divides 2 y + 1 (224 / 870 = 112 / 435) on the border of two, of which each will do.
    doubled = 2 * np.arange(870) + 1
    inside, y = doubled % 435 != 0, doubled * 224 // 870
    assert (~inside).sum() == 2
    expected = labels[y][:, np.arange(2048) // 2]
    np.testing.assert_array_equal(whole[30:900][inside], expected[inside])
    np.testing.assert_array_equal(frames.LADDER.labels(whole), labels)  # the exact inverse


def test_put_back_into_a_small_frame_is_where_the_model_saw_it():
    # Rows 30 and 900 of 1024 are 3.75 and 112.5 of 128: 4 to 112, to even. 448 rows for 108.
    labels = np.repeat(label_map(1, 1024), 448, axis=0)
    small = frames.LADDER.put_back(labels, (128, 256))
    seen = np.flatnonzero((small != IGNORE).all(axis=1))
    assert small.shape == (128, 256) and (seen[0], seen[-1]) == (4, 111)
    np.testing.assert_array_equal(small[50], labels[0, 2::4])  # of four the one right of the center


def test_a_full_frame_stays_as_it_is():
    labels = label_map(1024, 2048)
    frame = np.stack([labels] * 3, axis=-1)
    np.testing.assert_array_equal(frames.FULL.picture(frame, labels), frame)
    np.testing.assert_array_equal(frames.FULL.put_back(labels, frames.FULL_SIZE), labels)
    small = label_map(128, 256)
    enlarged = frames.FULL.put_back(small, frames.FULL_SIZE)
    np.testing.assert_array_equal(enlarged, small.repeat(8, axis=0).repeat(8, axis=1))


def test_the_protocol_of_a_dataset():
    for name in ("cityscapes/ladder", "cityscapes/ladder_coarse"):
        assert frames.protocol_of(name) is frames.LADDER
    for name in ("cityscapes", "cityscapes/fine", "cityscapes/fine_coarse", "folder", None):
        assert frames.protocol_of(name) is frames.FULL


# --- label ids -----------------------------------------------------------------------------------


def test_label_ids_are_found_by_name_in_any_order():
    table = frames.label_ids(NAMES)
    # The builder's own table leads back, and unlabeled to ignore.
    np.testing.assert_array_equal(cityscapes.train_ids()[table[:19]], np.arange(19))
    assert (table[19:] == 0).all() and cityscapes.train_ids()[table[IGNORE]] == IGNORE
    assert table.dtype == np.uint8 and table[:2].tolist() == [7, 8] and table[18] == 33
    np.testing.assert_array_equal(frames.label_ids(NAMES[::-1])[:19], table[:19][::-1])


@pytest.mark.parametrize(
    "names, words",
    [
        (["road", "car"], "of 2; missing: sidewalk, building.*bicycle; unknown: none"),
        ([*NAMES, "tram"], "of 20; missing: none; unknown: tram"),
        ([*NAMES[:-1], "bike"], "of 19; missing: bicycle; unknown: bike"),
        ([*NAMES, "road"], "of 20; missing: none; unknown: none"),
    ],
)
def test_other_classes_are_named(names, words):
    with pytest.raises(ValueError, match=words):
        frames.label_ids(names)


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["leftImg8bit/test/ulm/ulm_000000_000019_leftImg8bit.png", "ulm_000000_000019.jpg"],
)
def test_names_for_the_server(name):
    assert frames.server_name(Path(name)) == "ulm_000000_000019_pred.png"


def test_names_that_the_server_does_not_know():
    wrong = ["a", "ulm_000000_000019_gtFine_labelIds", "ulm_19_leftImg8bit", "ulm_000000_000019_x"]
    wrong += ["stuttgart_00_000000_000019_leftImg8bit", "ulm_000000_000019_pred"]
    for name in wrong:
        with pytest.raises(
            ValueError, match=f"1 image has no name .*{name}.*expected CITY_123456_"
        ):
            frames.check_names(found("ulm_000000_000020_leftImg8bit", name))
        with pytest.raises(ValueError, match="1 image has no name"):
            frames.server_name(Path(f"{name}.png"))
    with pytest.raises(
        ValueError, match=r"6 images have no name .*a.png.*Img8bit.png, \.\.\.; expected CITY"
    ):
        frames.check_names(found(*wrong))


def test_results_for_the_server_lie_in_one_folder():
    frames.check_names(found("ulm/ulm_000000_000019_leftImg8bit", "ulm/ulm_000000_000020"))
    twice = found("a/ulm_000000_000019_leftImg8bit", "b/ulm_000000_000019")
    with pytest.raises(
        ValueError, match="a/ulm_.* and in/b/ulm_.* would both be cityscapes_ids/ulm_000"
    ):
        frames.check_names(twice)
    with pytest.raises(ValueError, match="would both be"):
        frames.check_names(found("ulm_000000_000019") * 2)  # one file, given twice
    with pytest.raises(ValueError, match="lies in a folder cityscapes_ids"):
        frames.check_names(found("cityscapes_ids/ulm_000000_000019"))


# --- frames and their label maps -----------------------------------------------------------------


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def test_the_ego_vehicle_is_painted_where_a_label_map_tells_it(tmp_path, monkeypatch):
    frame = np.full((64, 128, 3), 200, np.uint8)
    ids = np.zeros((64, 128), np.uint8)
    ids[20:] = frames.EGO_VEHICLE
    path = save(tmp_path / "leftImg8bit/test/ulm/ulm_000000_000019_leftImg8bit.png", frame)
    assert frames.truth_of(path) is None
    assert (frames.seen(path, frame, frames.LADDER) == 200).all()
    truth = tmp_path / "gtFine/test/ulm/ulm_000000_000019_gtFine_labelIds.png"
    save(truth, ids)
    assert frames.truth_of(path) == truth
    seen = frames.seen(path, frame, frames.LADDER)
    np.testing.assert_array_equal(seen, frames.LADDER.picture(frame, ids))
    assert (seen[-1] == frames.LADDER_MEAN).all()
    np.testing.assert_array_equal(frames.seen(path, frame, frames.FULL), frame)
    # Given by its name alone, from where it lies.
    monkeypatch.chdir(path.parent)
    assert frames.truth_of(Path(path.name)) == truth
    # What lies elsewhere has none.
    assert frames.truth_of(tmp_path / "ulm_000000_000019_leftImg8bit.png") is None
    assert frames.truth_of(Path("/ulm_000000_000019.png")) is None
    save(truth, ids[1:])
    with pytest.raises(ValueError, match=r"shape \[63, 128\]: expected \[64, 128\]"):
        frames.seen(path, frame, frames.LADDER)
    truth.write_bytes(b"no picture")
    with pytest.raises(ValueError, match="not an image that Pillow can read"):
        frames.seen(path, frame, frames.LADDER)


def test_pictures_of_other_proportions_are_no_frames():
    for size in ((100, 100), (1024, 2047)):
        with pytest.raises(
            ValueError, match=f"twice as wide as high: received {size[1]}x{size[0]}"
        ):
            frames.seen(Path("a.png"), np.zeros((*size, 3), np.uint8), frames.FULL)
