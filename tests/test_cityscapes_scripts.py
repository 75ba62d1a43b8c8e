"""Our mean IoU of Cityscapes, held against the dataset's own scripts on what `predict` writes.

The scripts read every pixel of the label ids: where the truth has a class, unlabeled ones are
missed. Instance-weighted numbers are left out.
"""

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import small_models
from conftest import REAL_DATA, call, needs_real_data
from PIL import Image

from kerasdense.data import cityscapes_frames as frames
from kerasdense.data.images import Found
from kerasdense.data.sources import cityscapes
from kerasdense.metrics.labels import IGNORE
from kerasdense.metrics.mean_iou import confusion_matrix, mean_iou, per_class_iou
from kerasdense.tasks.segmentation import Segmentation
from kerasdense.training import run_folder

IDS, NAMES, PALETTE = zip(*frames.CLASSES)
CLASSES = len(NAMES)
TASK = Segmentation(NAMES, PALETTE)
SAMPLE = "cityscapes_sample"


@pytest.fixture
def scripts(monkeypatch):
    for name in ("CITYSCAPES_RESULTS", "CITYSCAPES_DATASET", "CITYSCAPES_EXPORT_DIR"):
        monkeypatch.delenv(name, raising=False)
    return pytest.importorskip(
        "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling",
        reason="cityscapesScripts is not installed (the extra `test` has it)",
    )


def judged(scripts, truths, results=None, pairs=None):
    """What the scripts find: mean IoU, and that of each of the 19 classes.

    `truths`: label maps gtFine, for which they look for predictions in the folder `results`; or
    `pairs`, the predictions.
    """
    args = copy.copy(scripts.args)
    args.evalInstLevelScore, args.JSONOutput, args.quiet = False, False, True
    args.predictionPath = str(results)
    pairs = pairs or [scripts.getPrediction(args, str(truth)) for truth in truths]
    found = scripts.evaluateImgLists([str(each) for each in pairs], list(map(str, truths)), args)
    return found["averageScoreClasses"], [found["classScores"][name] for name in NAMES]


def assert_equal(theirs, matrix):
    """The scripts' numbers are ours of a confusion matrix [C, C], of which 19 classes count."""
    ious = per_class_iou(matrix)[:CLASSES]
    np.testing.assert_allclose(theirs[1], ious, atol=1e-6)  # NaN where NaN
    if len(matrix) == CLASSES:
        assert theirs[0] == pytest.approx(mean_iou(matrix), abs=1e-6)
    assert theirs[0] == pytest.approx(np.nanmean(ious), abs=1e-6)


def drawn(seed, shape, values, cell):
    """A map uint8 of cells of random values, some of `values` rare."""
    small = [math.ceil(side / cell) for side in shape]
    shares = np.random.default_rng(seed).dirichlet(np.full(len(values), 0.5))
    cells = np.random.default_rng(seed).choice(np.uint8(values), small, p=shares)
    return cells.repeat(cell, axis=0).repeat(cell, axis=1)[: shape[0], : shape[1]]


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def written(tmp_path, protocol, seen_size):
    """Two frames' truth (label ids) and prediction (classes), drawn: files, and arrays.

    No pixel of the truth is a train or a wall, none of the prediction a train or a bus.
    """
    writer = TASK.cityscapes_writer(tmp_path / "out", protocol)
    truth_ids = [label_id for label_id in range(34) if label_id not in (31, 12)]
    classes = [i for i in range(CLASSES) if NAMES[i] not in ("train", "bus")]
    picture = np.full((*frames.FULL_SIZE, 3), 128, np.uint8)
    truths, predictions, files = [], [], []
    for number in range(2):
        name = f"ulm_000000_00000{number}"
        truths.append(drawn(number, frames.FULL_SIZE, truth_ids, 30))
        # A good part is right, so that the numbers differ from those of chance.
        guessed = drawn(9 + number, seen_size, classes, 7)
        seen_truth = cityscapes.train_ids()[protocol.labels(truths[-1])]
        is_right = np.isin(seen_truth, classes) & (
            drawn(20 + number, seen_size, range(100), 50) > 30
        )
        labels = np.where(is_right, seen_truth, guessed).astype(np.uint8)
        predictions.append(labels)
        files.append(save(tmp_path / f"gtFine/val/ulm/{name}_gtFine_labelIds.png", truths[-1]))
        image = Found(Path(f"{name}_leftImg8bit.png"), f"ulm/{name}_leftImg8bit")
        writer.add(image, picture, {"labels": labels})
    return files, np.stack(truths), np.stack(predictions)


def test_mean_iou_of_full_frames(scripts, tmp_path):
    files, truths, predictions = written(tmp_path, frames.FULL, frames.FULL_SIZE)
    theirs = judged(scripts, files, tmp_path / "out" / frames.FOLDER)
    by_name = dict(zip(NAMES, theirs[1]))
    assert math.isnan(by_name["train"]) and by_name["wall"] == by_name["bus"] == 0
    assert 0.2 < theirs[0] < 0.9
    assert_equal(theirs, confusion_matrix(cityscapes.train_ids()[truths], predictions, CLASSES))


def test_rows_that_the_ladder_does_not_see_are_missed(scripts, tmp_path):
    files, truths, predictions = written(tmp_path, frames.LADDER, frames.LADDER_SIZE)
    theirs = judged(scripts, files, tmp_path / "out" / frames.FOLDER)
    truths = cityscapes.train_ids()[truths]
    put_back = np.stack([frames.LADDER.put_back(each, frames.FULL_SIZE) for each in predictions])
    # As a 20th class, which no truth has: its pixels are missed, and found nowhere.
    missed = np.where(put_back == IGNORE, CLASSES, put_back)
    assert_equal(theirs, confusion_matrix(truths, missed, CLASSES + 1))
    # On the rows that the model saw, the scripts find what we find.
    pairs = [], []
    for truth in files:
        prediction = (
            tmp_path
            / "out"
            / frames.FOLDER
            / frames.server_name(Path(truth.name.removesuffix("_gtFine_labelIds.png")))
        )
        for group, path in zip(pairs, (truth, prediction)):
            rows = np.asarray(Image.open(path))[slice(*frames.LADDER_ROWS)]
            group.append(save(tmp_path / "rows" / path.name, rows))
    inside = judged(scripts, pairs[0], pairs=pairs[1])
    rows = slice(*frames.LADDER_ROWS)
    assert_equal(inside, confusion_matrix(truths[:, rows], put_back[:, rows], CLASSES))
    # What is missed costs, but not all: 154 of 1024 rows.
    assert theirs[0] < inside[0]


def test_255_is_no_prediction_for_the_scripts(scripts, tmp_path):
    truth = save(tmp_path / "ulm_000000_000000_gtFine_labelIds.png", np.full((4, 8), 7, np.uint8))
    ids = np.full((4, 8), frames.UNLABELED, np.uint8)
    ids[1:] = 7
    assert judged(scripts, [truth], pairs=[save(tmp_path / "a.png", ids)])[0] == 3 / 4
    ids[0] = 255
    with pytest.raises(IndexError):
        judged(scripts, [truth], pairs=[save(tmp_path / "a.png", ids)])


# --- the whole way -------------------------------------------------------------------------------


def run_on(folder, dataset):
    """A run folder of a tiny model with random weights, as if it was fitted to the sample."""
    model = small_models.small_model(classes=CLASSES)
    folder.mkdir()
    model.save(folder / run_folder.BEST)
    facts = {
        "task": TASK.name,
        "model": {"name": "small", "arguments": {}},
        "arguments": {},
        "dataset": {
            "name": dataset,
            "source": str(REAL_DATA / SAMPLE),
            "class_names": NAMES,
            "palette": PALETTE,
            "splits": {},
        },
    }
    run_folder.write_run(folder, facts)
    return folder


def truth_of_sample():
    (path,) = (REAL_DATA / SAMPLE).glob("gtFine/val/*/*_gtFine_labelIds.png")
    return path, np.asarray(Image.open(path))


def evaluated(run, tmp_path):
    """Our mean IoU of a run on the sample, and its confusion matrix."""
    flags = "--prepared-dir", tmp_path / "prepared", "--output", tmp_path / "evaluated"
    assert call("evaluate", "--run", run, "--allow-trained", *flags) == 0
    result = json.loads((tmp_path / "evaluated" / "evaluation.json").read_text())
    return result["mean_iou"], np.array(result["confusion_matrix"])


def predicted(*flags, output):
    images = REAL_DATA / SAMPLE / "leftImg8bit"
    assert call("predict", *flags, images, "--cityscapes-ids", "--output", output) == 0
    (path,) = (output / frames.FOLDER).iterdir()
    assert path.name == "frankfurt_000000_000294_pred.png"
    with Image.open(path) as file:
        assert (file.mode, file.size) == ("L", (2048, 1024))
        return path, np.asarray(file)


@pytest.mark.slow
@needs_real_data(SAMPLE)
def test_a_real_frame_from_the_run_to_the_scripts(scripts, tmp_path, capsys):
    run = run_on(tmp_path / "run", "cityscapes/fine")
    mean, matrix = evaluated(run, tmp_path)
    path, _ = predicted("--run", run, output=tmp_path / "out")
    out = capsys.readouterr().out
    assert "The model was fitted to cityscapes/fine: frames are predicted as they are." in out
    assert "(label ids resized from 256x128)" in out
    # The sample is 256x128, the label ids 2048x1024: each pixel of the truth becomes 8 x 8.
    name, ids = truth_of_sample()
    truth = save(tmp_path / name.name, ids.repeat(8, axis=0).repeat(8, axis=1))
    theirs = judged(scripts, [truth], tmp_path / "out" / frames.FOLDER)
    assert_equal(theirs, matrix)
    assert theirs[0] == pytest.approx(mean, abs=1e-6) and len(np.unique(matrix.sum(axis=0))) > 5


@pytest.mark.slow
@needs_real_data(SAMPLE)
def test_a_real_frame_of_the_ladder_s_protocol(scripts, tmp_path, capsys):
    run = run_on(tmp_path / "run", "cityscapes/ladder")
    mean, matrix = evaluated(run, tmp_path)
    path, ids = predicted("--run", run, output=tmp_path / "out")
    out = capsys.readouterr().out
    assert "sees rows 30 to 900 of each frame, at 1024x448; the others are written as unlab" in out
    assert "painted over in 1 of 1 frames" in out
    assert (ids[:30] == 0).all() and (ids[900:] == 0).all() and (ids[30:900] > 0).all()
    # What we measure at 1024x448, the scripts find there: the label ids are reduced again.
    name, truth_ids = truth_of_sample()
    truth = save(tmp_path / "small" / name.name, frames.LADDER.labels(truth_ids))
    pair = save(tmp_path / "small" / path.name, frames.LADDER.labels(ids))
    theirs = judged(scripts, [truth], pairs=[pair])
    assert_equal(theirs, matrix)
    assert theirs[0] == pytest.approx(mean, abs=1e-6)
    # The map beside it is of the frame's own size, its rows 4 to 112.
    labels = np.asarray(Image.open(next((tmp_path / "out").rglob("*_leftImg8bit.png"))))
    assert labels.shape == (128, 256) and set(labels[[0, 3, 112, 127]].ravel()) == {IGNORE}
    assert labels[4:112].max() < CLASSES


@pytest.mark.slow
@needs_real_data(SAMPLE)
def test_an_export_of_the_ladder_s_protocol_sees_the_same(tmp_path, capsys):
    run = run_on(tmp_path / "run", "cityscapes/ladder")
    _, ids = predicted("--run", run, output=tmp_path / "out")
    assert call("export", "--run", run, "--output", tmp_path / "saved") == 0
    capsys.readouterr()
    _, exported = predicted("--saved-model", tmp_path / "saved", output=tmp_path / "exported")
    assert "fitted to cityscapes/ladder: it sees rows 30 to 900" in capsys.readouterr().out
    assert (exported != ids).mean() < 1e-3  # rounding of folded weights
