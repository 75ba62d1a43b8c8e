"""`kerasdense attack` as a user calls it, on runs whose models are linear in the colors."""

import json

import numpy as np
import pytest
from attacks.by_hand import (
    NAMES,
    PALETTE,
    SCALE,
    block_detector,
    blocks,
    color_model,
    label_model,
    leads,
)
from PIL import Image

from kerasdense.attacks.methods import METHODS
from kerasdense.attacks.universal import apply
from kerasdense.cli import attack
from kerasdense.cli.main import main
from kerasdense.data import overlap
from kerasdense.drawing import pictures
from kerasdense.training import run_folder

TRUTH = np.array([[0, 0, 0, 255]], np.uint8)


@pytest.fixture
def script(capsys):
    """Runs the command: (status, what it printed, its errors)."""

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["attack", *arguments])
        return end.value.code or 0, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """Runs of a segmentation model and a detector, and a dataset and pictures for them."""
    place = tmp_path_factory.mktemp("workplace")
    for folder in ("data/images", "data/masks", "data/splits", "blocks"):
        (place / folder).mkdir(parents=True)
    for number, shown in enumerate([(4, 8, 40, 40), (4, -9, 40, 40), (12, 16, 40, 40)]):
        # Each pixel ten times as large, for a picture to look at.
        image = leads(*shown).repeat(20, axis=0).repeat(20, axis=1)
        pictures.save_picture(place / "data" / "images" / f"{number}.png", image)
        mask = TRUTH.repeat(20, axis=0).repeat(20, axis=1)
        pictures.save_label_map(place / "data" / "masks" / f"{number}.png", mask, PALETTE)
    (place / "data" / "classes.txt").write_text("\n".join(NAMES) + "\n")
    (place / "data" / "splits" / "train.txt").write_text("2\n")
    (place / "data" / "splits" / "val.txt").write_text("0\n1\n")
    pictures.save_picture(place / "blocks" / "two.png", blocks({0: (104, 95, 0), 8: (110, 95, 0)}))
    source = overlap.source_of("folder", place / "data")
    for task, model, names in (
        ("segmentation", color_model(), NAMES),
        ("detection", block_detector(), NAMES[:2]),
        ("classification", label_model(), NAMES[:2]),
    ):
        run_folder.write_run(
            place / task,
            {
                "task": task,
                "model": {"name": "by hand"},
                "arguments": {"size": [64, 64]},
                "dataset": {
                    "name": "folder" if task == "segmentation" else None,
                    "source": str(place / "data"),
                    "prepared_dir": str(place / "prepared"),
                    "class_names": names,
                    "palette": PALETTE[: len(names)],
                    "images": overlap.digests(source),
                },
            },
        )
        model.save(place / task / run_folder.BEST)
    return place


def read_report(folder, name="report.json"):
    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads((folder / name).read_text(), parse_constant=refuse)


def test_a_split_is_attacked_and_reported(workplace, script, tmp_path):
    status, out, err = script(
        "--run", workplace / "segmentation", "--method", "fgsm", "--epsilon", 5,
        "--output", tmp_path, "--batch-size", 2,
    )  # fmt: skip
    assert status == 0, err
    assert "2 images of folder, split val" in out and "pixel accuracy" in out
    report = read_report(tmp_path)
    # Of six counted columns one is wrong from the start; 2 * 5 turns leads of 4, 8 and 4.
    assert report["pixel_accuracy"] == {
        "before": pytest.approx(5 / 6),
        "after": pytest.approx(2 / 6),
    }
    assert report["measured_against"] == "the truth" and report["epsilon"] == 5
    assert report["attack"]["norm"] == "linf" and report["attack"]["steps"] == 1
    assert report["goal"]["targeted"] is False and report["seconds"] > 0
    assert [row["file_name"] for row in report["per_image"]] == ["0", "1"]
    assert [row["linf"] for row in report["per_image"]] == [5, 5]
    for row in report["per_image"]:
        clean = pictures.load_picture(workplace / "data" / "images" / row["adversarial"])
        judged = pictures.load_picture(tmp_path / "adversarial" / row["adversarial"])
        assert np.abs(judged.astype(int) - clean).max() == 5
        picture = pictures.load_picture(tmp_path / "pictures" / row["adversarial"])
        assert picture.shape[1] > 5 * clean.shape[1]


def test_two_runs_are_the_same_bit_for_bit(workplace, script, tmp_path):
    for name in "ab":
        status, *_ = script(
            "--run", workplace / "segmentation", "--steps", 3, "--output", tmp_path / name,
            "--images", workplace / "data" / "images" / "1.png", "--seed", 3,
        )  # fmt: skip
        assert status == 0
    first, second = (tmp_path / name / "adversarial" / "1.png" for name in "ab")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("method", [["cospgd", "--epsilon", 30], ["dag"]], ids=lambda m: m[0])
def test_pictures_without_truth_and_a_class_moved_with_confidence(
    workplace, script, tmp_path, method
):
    status, out, err = script(
        "--run", workplace / "segmentation", "--images", workplace / "data" / "images",
        "--limit", 2, "--confidence", 0.4, "--method", *method,
        "--target-class", "Red:green", "2:GREEN", "--output", tmp_path,
    )  # fmt: skip
    assert status == 0, err
    report = read_report(tmp_path)
    assert report["measured_against"] == "the clean prediction" and report["images"] == 2
    assert report["goal"]["target_class"] == ["Red:green", "2:GREEN"]
    # 2 * 30 is more than any lead. What the report says holds of the files: the model's
    # probabilities of green in them.
    shares = []
    for path in sorted((tmp_path / "adversarial").iterdir()):
        z = np.exp(pictures.load_picture(path) / SCALE)
        wanted = (z.argmax(axis=-1) == 1) & (z[..., 1] / z.sum(axis=-1) >= 0.4)
        shares.append(wanted.mean())
    assert report["success"]["by_pixel"] == np.mean(shares) == 1
    assert report["wrong_confidence"] >= 0.4


def test_the_smallest_perturbation(workplace, script, tmp_path):
    status, _, err = script(
        "--run", workplace / "segmentation", "--images", workplace / "data" / "images" / "0.png",
        "--method", "minimal", "--output", tmp_path,
    )  # fmt: skip
    assert status == 0, err
    report = read_report(tmp_path)
    assert report["success"]["by_image"] == 1
    # Red leads by 4, 8, 40 and 40 in 400 pixels each: half of that from red, half onto green,
    # and a level more or so, for an equal is not yet a success.
    least = np.sqrt(400 * 2 * sum((lead / 2) ** 2 for lead in (4, 8, 40, 40)))
    assert 0.95 * least < report["distance"]["l2"]["mean"] < 1.4 * least


def test_a_target_map_and_a_region(workplace, script, tmp_path):
    target = np.full((20, 80), 255, np.uint8)
    target[:, :40] = 1
    pictures.save_label_map(tmp_path / "target.png", target, PALETTE)
    mask = np.zeros((20, 80, 3), np.uint8)
    mask[:, 20:40] = 255
    pictures.save_picture(tmp_path / "mask.png", mask)
    for number, where in enumerate(
        (["--mask", tmp_path / "mask.png"], ["--sticker", "0,20,20,40"])
    ):
        output = tmp_path / str(number)
        status, _, err = script(
            "--run", workplace / "segmentation", "--method", "fgsm", "--output", output,
            "--images", workplace / "data" / "images" / "0.png",
            "--target-map", tmp_path / "target.png", *where,
        )  # fmt: skip
        assert status == 0, err
        report = read_report(output)
        # Half of what counts is inside the region.
        assert report["counted_pixels"] == 800 and report["success"]["by_pixel"] == 1 / 2
        assert report["success"]["by_pixel_outside_the_region"] == 0
        changed = pictures.load_picture(output / "adversarial" / "0.png")
        clean = pictures.load_picture(workplace / "data" / "images" / "0.png")
        moved = (changed != clean).any(axis=(0, 2))
        assert np.flatnonzero(moved).tolist() == list(range(20, 40))


def test_a_curve(workplace, script, tmp_path):
    status, out, err = script(
        "--run", workplace / "segmentation", "--curve", "1,3,5", "--steps", 3, "--output", tmp_path
    )
    assert status == 0, err
    curve = read_report(tmp_path, "curve.json")
    accuracies = [point["pixel_accuracy"]["after"] for point in curve["points"]]
    assert curve["epsilons"] == [0, 1, 3, 5] and "mean IoU" in out
    np.testing.assert_allclose(accuracies, np.array([5, 5, 3, 2]) / 6)
    assert pictures.load_picture(tmp_path / "curve.png").shape[0] > 100
    assert (tmp_path / "curve.pdf").read_bytes().startswith(b"%PDF")
    assert not (tmp_path / "adversarial").exists()


def test_one_perturbation_for_all_images(workplace, script, tmp_path):
    status, out, err = script(
        "--run", workplace / "segmentation", "--method", "universal",
        "--output", tmp_path, "--epsilon", 10,
    )  # fmt: skip
    assert status == 0, err
    assert (
        "made from 1 images of folder, split train, to be measured on 2 of folder, split val" in out
    )
    assert "pictures that it was made from" not in out
    report = read_report(tmp_path)
    assert report["fitted_on"] == "folder, split train" and report["data"] == "folder, split val"
    assert (report["fitted_images"], report["images"]) == (1, 2)
    assert report["measured_on_fitted"] is False and report["trained_on"] is False
    found = np.load(tmp_path / "universal.npy")
    assert found.shape == (20, 80, 3) and np.abs(found).max() == 10
    for row in report["per_image"]:
        clean = pictures.load_picture(workplace / "data" / "images" / row["adversarial"])
        judged = pictures.load_picture(tmp_path / "adversarial" / row["adversarial"])
        np.testing.assert_array_equal(judged, apply(clean, found))
    # Found where red leads by 12, 16 and 40, it turns 4, 8 and 4 in the same places.
    assert report["success"]["before"] == pytest.approx(1 / 6)
    assert report["success"]["by_pixel"] == pytest.approx(4 / 6)


@pytest.mark.parametrize(
    "flags, shared",
    [
        (["--images", "{images}/0.png"], True),  # there are no others
        (["--images", "{images}/0.png", "--fit-split", "train"], False),
        (["--images", "{images}/2.png", "--fit-split", "train"], True),
        (["--fit-split", "val"], True),
        (["--split", "train", "--allow-trained"], True),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_a_perturbation_measured_on_what_it_was_made_from_says_so(
    workplace, script, tmp_path, flags, shared
):
    flags = [flag.format(images=workplace / "data" / "images") for flag in flags]
    status, out, err = script(
        "--run", workplace / "segmentation", "--method", "universal", "--output", tmp_path, *flags
    )
    assert status == 0, err
    assert ("it is measured on pictures that it was made from" in out) == shared
    assert read_report(tmp_path)["measured_on_fitted"] is shared


def test_a_split_that_was_trained_on_is_refused(workplace, script, tmp_path):
    for more in ([], ["--curve", "1,2"]):
        flags = ["--run", workplace / "segmentation", "--split", "train", *more]
        status, _, err = script(*flags, "--output", tmp_path / "out")
        assert status == 2 and "trained on pictures of folder, split train" in err
        assert "Take --split val, or insist by --allow-trained" in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()
    status, out, err = script(*flags, "--allow-trained", "--output", tmp_path / "out")
    assert status == 0 and "split train, which the run was trained on" in out, err
    assert read_report(tmp_path / "out", "curve.json")["trained_on"] is True


def test_what_an_earlier_attack_wrote_goes_and_nothing_else(workplace, script, tmp_path):
    flags = ["--run", workplace / "segmentation", "--output", tmp_path]
    status, _, err = script(*flags, "--method", "universal", "--epsilon", 9)
    assert status == 0 and (tmp_path / "universal.npy").exists(), err
    others = ["adversarial/mine.png", "pictures/mine2.png", "pictures/0.jpg", "universal.txt"]
    for name in others:
        (tmp_path / name).touch()
    images = workplace / "data" / "images" / "1.png"
    status, _, err = script(*flags, "--images", images, "--method", "fgsm")
    assert status == 0, err
    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert left == {"report.json", "adversarial/1.png", "pictures/1.png", *others}
    # A curve beside it is another result, and leaves this one alone.
    status, out, err = script(*flags, "--curve", "1,2", "--steps", 1)
    now = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert now == left | {"curve.json", "curve.png", "curve.pdf"}
    assert f"curve.json, curve.png and curve.pdf lie in {tmp_path}" in out


def test_images_that_the_network_does_not_take_are_named_before_work_starts(
    segmentation_run, script, tmp_path
):
    large, small = tmp_path / "large.png", tmp_path / "small.png"
    pictures.save_picture(large, np.zeros((64, 64, 3), np.uint8))
    pictures.save_picture(small, np.zeros((64, 63, 3), np.uint8))
    flags = ["--run", segmentation_run, "--output", tmp_path / "out", "--steps", 1]
    status, out, err = script(*flags, "--images", large, small)
    assert status == 2 and not out and not (tmp_path / "out").exists()
    assert err == (
        f"error: {small} has 63x64 pixels, but the model takes images from 64x64 on. Leave it out, "
        "or enlarge it.\n"
    )


def test_objects_are_suppressed_and_moved(workplace, script, tmp_path):
    detector = ["--run", workplace / "detection", "--images", workplace / "blocks"]
    status, out, err = script(
        *detector, "--suppress", "--output", tmp_path / "gone", "--method", "fgsm"
    )
    assert status == 0, err
    report = read_report(tmp_path / "gone")
    assert report["success"]["by_object"] == 1 / 2 and "objects as wanted, of 2" in out
    status, _, err = script(
        *detector, "--target-class", "red:green", "--epsilon", 12, "--steps", 5,
        "--output", tmp_path / "moved",
    )  # fmt: skip
    assert status == 0, err
    assert read_report(tmp_path / "moved")["success"]["by_object"] == 1
    assert pictures.load_picture(tmp_path / "moved" / "adversarial" / "two.png").shape == (
        300,
        300,
        3,
    )


def test_pictures_are_warped_for_a_detector(workplace, script, tmp_path):
    large = np.asarray(Image.open(workplace / "blocks" / "two.png").resize((900, 450)))
    pictures.save_picture(tmp_path / "large.png", large)
    status, _, err = script(
        "--run", workplace / "detection", "--images", tmp_path / "large.png", "--suppress",
        "--output", tmp_path / "out", "--steps", 2,
    )  # fmt: skip
    assert status == 0, err
    assert pictures.load_picture(tmp_path / "out" / "adversarial" / "large.png").shape == (
        300,
        300,
        3,
    )


def test_labels_of_a_classifier_are_attacked(workplace, script, tmp_path):
    pictures.save_picture(tmp_path / "red.png", np.full((80, 90, 3), [110, 95, 0], np.uint8))
    flags = ["--run", workplace / "classification", "--images", tmp_path / "red.png"]
    status, out, err = script(
        *flags, "--target-class", "red:green", "--epsilon", 12, "--steps", 5,
        "--output", tmp_path / "out",
    )  # fmt: skip
    assert status == 0 and "label accuracy" in out, err
    report = read_report(tmp_path / "out")
    assert report["counted_labels"] == 2 and report["success"]["by_label"] == 1
    assert pictures.load_picture(tmp_path / "out" / "adversarial" / "red.png").shape == (64, 64, 3)


def test_the_methods_are_those_that_there_are():
    assert set(attack.METHODS) == {*METHODS, attack.UNIVERSAL}


IMAGE = "data/images/0.png"
MISTAKES = [
    (["--target-class", "red:violet"], "There is no class 'violet'. Expected an index from 0 to 2"),
    (["--target-class", "red"], "expects two classes A:B, received 'red'"),
    (["--target-class", "red:Red"], "expects two classes A:B, received one in 'red:Red'"),
    (["--target-class", "red:gren"], "no class 'gren': is it green? Expected an index"),
    (["--target-map", "{small}"], "target map must have the size"),
    (["--target-map", "{wrong}"], "holds class 7, but there are 3"),
    (["--target-map", "{nothing}"], "nothing.png"),
    (["--mask", "{small}"], "region must have the size of the image"),
    (["--mask", "{black}"], "no white pixel"),
    (["--sticker", "0,0,21,10"], "20 rows and 80 columns, received 0,0,21,10"),
    (["--sticker", "5,0,5,10"], "expects y0,x0,y1,x1 inside"),
    (["--method", "dag"], "--method dag needs a target: --target-class A:B or --target-map"),
    (["--method", "minimal", "--epsilon", "4"], "takes no --epsilon"),
    (["--method", "minimal", "--norm", "linf"], "l2 only"),
    (["--method", "fgsm", "--steps", "4"], "fgsm is one step"),
    (["--method", "fgsm", "--step-size", "1"], "--step-size does not fit --method fgsm"),
    (["--norm", "l2"], "--norm l2 needs --epsilon"),
    (["--epsilon", "0.5"], "at least 1 gray level"),
    (["--curve", "0.5,1"], "1 gray level or more"),
    (["--curve", "2,1"], "rising epsilons"),
    (["--curve", "1,2", "--epsilon", "3"], "--curve names all epsilons"),
    (["--curve", "1,2", "--method", "universal"], "--curve names all epsilons"),
    (["--suppress"], "Only a detector"),
    (["--confidence", "1.5"], "between 0 and 1"),
    (["--dataset", "folder"], "--images or --dataset"),
    (["--fit-split", "train"], "--fit-split is for --method universal"),
    (["--split", "val"], "--split is of a dataset"),
    (["--allow-trained"], "--allow-trained is of a dataset"),
]  # fmt: skip


@pytest.mark.parametrize("flags, words", MISTAKES, ids=lambda value: " ".join(value)[:40])
def test_mistakes_give_one_line_and_status_2(workplace, script, tmp_path, flags, words):
    files = {
        "small": np.full((20, 79), 1, np.uint8),
        "wrong": np.full((20, 80), 7, np.uint8),
        "black": np.zeros((20, 80), np.uint8),
    }
    for name, values in files.items():
        Image.fromarray(values * (255 if name == "small" and "--mask" in flags else 1)).save(
            tmp_path / f"{name}.png"
        )
    paths = {name: tmp_path / f"{name}.png" for name in (*files, "nothing")}
    status, _, err = script(
        "--run", workplace / "segmentation", "--images", workplace / IMAGE, "--steps", "2",
        "--output", tmp_path / "out", *[flag.format(**paths) for flag in flags],
    )  # fmt: skip
    assert status == 2 and words in err, err
    assert err.startswith("error: ") and err.count("\n") == 1


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--images", "{place}/empty"], "No images in"),
        (["--images", "{place}/nothing.png"], "Cannot read the image"),
        (["--split", "dev"], "no split 'dev'"),
        (["--split", "val", "--mask", "{place}/data/images/none.png"], "none.png"),
        (["--run", "{place}"], "is no run folder"),
        (["--run", "{place}/detection", "--suppress"], "no dataset of ours"),
        (
            ["--run", "{place}/detection", "--images", "{place}/blocks"],
            "An attack on a detector needs a goal",
        ),
        (
            ["--run", "{place}/detection", "--images", "{place}/blocks", "--target-map", "x.png"],
            "x.png",
        ),
        (["--images", "{out}/adversarial/0.png"], "results would overwrite images"),
    ],
)
def test_other_mistakes(workplace, script, tmp_path, flags, words):
    (workplace / "empty").mkdir(exist_ok=True)
    (tmp_path / "adversarial").mkdir()
    pictures.save_picture(tmp_path / "adversarial" / "0.png", leads(4, 4))
    status, _, err = script(
        "--run", workplace / "segmentation", "--output", tmp_path,
        *[flag.format(place=workplace, out=tmp_path) for flag in flags],
    )  # fmt: skip
    assert status == 2 and words in err, err
    assert err.startswith("error: ") and err.count("\n") == 1


def test_a_rectangle_has_four_numbers(script):
    status, _, err = script("--run", "run", "--sticker", "0,0,5")
    assert status == 2 and "--sticker: expected Y0,X0,Y1,X1, received 3 numbers" in err


def test_images_of_two_sizes_have_no_universal_perturbation(workplace, script, tmp_path):
    pictures.save_picture(tmp_path / "a.png", leads(4, 4))
    pictures.save_picture(tmp_path / "b.png", leads(4, 4, 4))
    flags = ["--run", workplace / "segmentation", "--output", tmp_path / "out"]
    status, _, err = script(*flags, "--images", tmp_path, "--method", "universal")
    assert status == 2 and "one size for all images" in err
    status, _, err = script(*flags, "--images", tmp_path, "--method", "fgsm")
    assert status == 0, err  # one at a time they have
