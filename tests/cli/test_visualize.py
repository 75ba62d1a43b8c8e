"""kerasdense visualize as a user calls it, on models that are linear in the colors."""

import math
import re

import keras
import numpy as np
import pytest
from PIL import Image, ImageFont

from kerasdense.cli.main import main
from kerasdense.drawing import pictures
from kerasdense.models import ssd300
from kerasdense.training import run_folder

NAMES, PALETTE = ["red", "green", "blue"], [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
SIZE = ("--size", "16x24")
QUICK = (*SIZE, "--steps", 40, "--no-regularization")


def color_model(dense):
    """The logits are those of the channels, of each pixel (`dense`) or averaged."""
    images = keras.Input((None, None, 3), dtype="uint8")
    x = keras.layers.Rescaling(1.0)(images)
    x = keras.layers.Conv2D(3, 1, use_bias=False, name="colors")(x)
    score = keras.layers.Conv2D(3, 1, use_bias=False, name="score")
    x = score(x) if dense else keras.layers.GlobalAveragePooling2D(name="score")(x)
    model = keras.Model(images, x, name="color_model")
    for layer in model.layers:
        if layer.weights:
            layer.set_weights([np.eye(3, dtype=np.float32).reshape(1, 1, 3, 3)])
    return model


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """Two runs, a model file and two pictures, one without any blue."""
    place = tmp_path_factory.mktemp("workplace")
    dataset = {"name": None, "class_names": NAMES, "palette": PALETTE}
    for task in ("segmentation", "classification"):
        model = color_model(dense=task == "segmentation")
        facts = {"task": task, "model": {"name": "by hand"}, "dataset": dataset}
        run_folder.write_run(place / task, facts | {"arguments": {"size": [20, 30]}})
        model.save(place / task / run_folder.BEST)
    keras.utils.set_random_seed(0)
    ssd300(2, weights=None, width=1 / 64).save(place / "ssd.keras")
    for number, last in enumerate((2, 1)):
        stripes = np.zeros((20, 30, 3), np.uint8)
        stripes[:, :10, 0] = stripes[:, 10:20, 1] = stripes[:, 20:, last] = 200
        (place / f"pictures{number}").mkdir()
        pictures.save_picture(place / f"pictures{number}" / "stripes.png", stripes)
    return place


@pytest.fixture
def visualize(capsys):
    """Calls the command: exit status, standard output, standard error."""

    def call(*arguments):
        with pytest.raises(SystemExit) as exit_of:
            main(["visualize", *arguments])
        output = capsys.readouterr()
        return exit_of.value.code or 0, output.out, output.err

    return call


def cells(path, captioned):
    """Where the pictures of 16x24 lie in a sheet: their upper left corners by row and column."""
    picture = pictures.load_picture(path)
    if not captioned:
        return picture, 8, 8, 24, 32
    return picture, 8 + 26, 8 + 8, 26 + 16 + 8 + 8, 8 + 24 + 8 + 8


def test_filters_are_enlarged(workplace, visualize, tmp_path):
    output = tmp_path / "new" / "filters.png"
    status, out, err = visualize("filters", "--run", workplace / "segmentation", "--output", output)
    assert status == 0, err
    assert f"3 filters of 1x1 -> {output}" in out
    picture = pictures.load_picture(output)
    for number, (row, column) in enumerate([(0, 0), (0, 1), (1, 0)]):
        top, left = 8 + 64 * row, 8 + 64 * column  # 56 pixels and 8 between
        color = [128, 128, 128]
        color[number] = 255
        assert (picture[top : top + 56, left : left + 56] == color).all()


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_a_gallery_of_the_classes(workplace, visualize, tmp_path, task):
    output = tmp_path / "classes.png"
    status, out, err = visualize(
        "gallery", "--run", workplace / task, "--classes", *QUICK, "--gif", "--output", output
    )
    assert status == 0, err
    assert "3 pictures" in out and "30 frames" in out
    for name in NAMES:
        start, end = out.split(f"{name}: ")[1].splitlines()[0].split(" -> ")
        assert float(start) == pytest.approx(127.5, abs=1) and end == "255"
    picture, top, left, down, right = cells(output, captioned=True)
    for number in range(3):
        y, x = top + down * (number // 2), left + right * (number % 2)
        assert (picture[y : y + 16, x : x + 24, number] == 255).all()
    with Image.open(output.with_suffix(".gif")) as animation:
        # Pillow joins equal frames, of which there are many once all is saturated.
        assert 10 < animation.n_frames <= 30 and animation.size == picture.shape[1::-1]


def test_a_gallery_of_channels_with_regularization(workplace, visualize, tmp_path):
    output = tmp_path / "channels.png"
    status, out, err = visualize(
        "gallery", "--run", workplace / "segmentation", "--layer", "colors", "--channels", "2,0-1",
        *SIZE, "--steps", 3, "--batch-size", 2, "--parametrization", "pixel", "--output", output,
    )  # fmt: skip
    assert status == 0, err
    names = [line.split(":")[0] for line in out.splitlines() if " -> 1" in line]
    assert names == ["colors 2", "colors 0", "colors 1"] and "not raised" not in out
    assert list(tmp_path.iterdir()) == [output]


def test_weighted_objectives_within_a_region(workplace, visualize, tmp_path):
    output = tmp_path / "one.png"
    status, out, err = visualize(
        "maximize", "--run", workplace / "segmentation", "--objective", "class:red",
        "--objective", "class:2:-2", "--objective", "channel:colors:1:2", "--region", "0,0,8,24",
        *QUICK, "--output", output,
    )  # fmt: skip
    assert status == 0, err
    # Red and blue within the region, green everywhere: 255 - 2 * 0 + 2 * 255.
    assert "class:red + class:2:-2 + channel:colors:1:2: " in out and " -> 765\n" in out
    picture, top, left, _, _ = cells(output, captioned=False)
    assert (picture[top : top + 8, left : left + 24] == [255, 255, 0]).all()
    below = picture[top + 8 : top + 16, left : left + 24].astype(int)
    assert below[..., 1].min() == 255 and np.abs(below[..., [0, 2]] - 127.5).max() < 30


def test_the_anchors_of_a_model_file(workplace, visualize, tmp_path):
    output = tmp_path / "anchor.png"
    status, out, err = visualize(
        "maximize", "--model", workplace / "ssd.keras", "--objective", "anchor:8000:1",
        "--objective", "class:0", "--objective", "layer:fc7:0.1", "--objective",
        "unit:block4_conv3:0", "--steps", 1, "--output", output,
    )  # fmt: skip
    assert status == 0, err
    assert "at the central anchor, " in out
    assert pictures.load_picture(output).shape == (316, 316, 3)


def column(width, caption):
    """Pixels of a column of a gallery: a caption may need more room than the picture below it."""
    font = ImageFont.load_default(15)
    left, _, right, _ = font.getbbox(caption)
    return max(width, math.ceil(right - left))


def test_activation_maps_beside_the_prediction(workplace, visualize, tmp_path):
    folders = [workplace / "pictures0", workplace / "pictures1"]
    status, out, err = visualize(
        "cam", "--run", workplace / "segmentation", "--class", "green", "--layer", "colors",
        "--images", *folders, "--output", tmp_path,
    )  # fmt: skip
    assert status == 0, err
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "stripes_2_cam.png",
        "stripes_cam.png",
    ]
    picture = pictures.load_picture(tmp_path / "stripes_cam.png")
    # The row lies below captions of 26 pixels, in a gallery with margins of 8.
    row, left = picture[8 + 26 : 8 + 26 + 20], 16
    found = []
    for caption in ("stripes.png", "prediction", "green"):
        found.append(row[:, left : left + 30])
        left += column(30, caption) + 8
    image, prediction, heat = found
    np.testing.assert_array_equal(image, pictures.load_picture(folders[0] / "stripes.png"))
    expected = np.repeat([[0] * 10 + [1] * 10 + [2] * 10], 20, axis=0)
    np.testing.assert_array_equal(prediction, pictures.overlay(image, expected, PALETTE))
    np.testing.assert_array_equal(heat, pictures.heat_overlay(image, expected == 1))
    status, out, err = visualize(
        "cam", "--run", workplace / "segmentation", "--class", "blue",
        "--images", *folders, "--output", tmp_path / "blue",
    )  # fmt: skip
    assert status == 1 and f"skipped {folders[1] / 'stripes.png'}: There is no pixel" in err
    assert [path.name for path in (tmp_path / "blue").iterdir()] == ["stripes_cam.png"]


def test_activation_maps_of_a_classifier_have_its_training_size(workplace, visualize, tmp_path):
    pictures.save_picture(tmp_path / "gray.png", np.full((50, 40, 3), 3, np.uint8))
    status, out, err = visualize(
        "cam", "--run", workplace / "classification", "--class", "1",
        "--images", tmp_path / "gray.png", "--output", tmp_path / "cam",
    )  # fmt: skip
    assert status == 0, err
    written = pictures.load_picture(tmp_path / "cam" / "gray_cam.png")
    assert written.shape[0] == 54 and written.shape[1] < 3 * 8 + 2 * 240


def test_a_picture_that_the_network_does_not_take_is_skipped(segmentation_run, visualize, tmp_path):
    for name, side in (("a", 64), ("b", 63), ("c", 72)):
        pictures.save_picture(tmp_path / f"{name}.png", np.zeros((side, 72, 3), np.uint8))
    flags = ["cam", "--run", segmentation_run, "--class", 0, "--images", tmp_path, "--output"]
    status, out, err = visualize(*flags, tmp_path / "cam", "--region", "0,0,8,8")
    assert status == 1
    assert err == (
        f"skipped {tmp_path / 'b.png'}: it has 72x63 pixels, but the model takes images from 64x64 "
        "on. Enlarge it, such as by --size 64x64.\n"
    )
    written = sorted(path.name for path in (tmp_path / "cam").iterdir())
    assert written == ["a_cam.png", "c_cam.png"]
    status, out, err = visualize(*flags, tmp_path / "cam", "--size", "63x64")
    assert (
        status == 2
        and err == "error: --size expects 64x64 or more for this model, received 63x64.\n"
    )


def test_receptive_field(workplace, visualize, tmp_path):
    output = tmp_path / "field.png"
    flags = ["receptive-field", "--run", workplace / "segmentation", "--layer", "colors"]
    status, out, err = visualize(*flags, *SIZE, "--output", output)
    assert status == 0, err
    # A pixel sees itself: the central one of 16x24.
    assert out == (
        "effective receptive field of colors: 1 pixels high, 1 wide, rows 8 to 8 and columns 12 to "
        f"12 of 16x24 -> {output} and .pdf\n"
    )
    assert pictures.load_picture(output).shape[1] > 600  # a chart
    assert output.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    status, out, err = visualize(*flags, "--size", "1x3", "--output", output)
    assert status == 0 and "the field reaches the edge of the picture" in out


RUN = ("--run", "RUN/segmentation", "--output", "OUT/x.png")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("filters", "--run", "RUN/none", "--output", "OUT/x.png"), "no run folder"),
        (("filters", "--model", "vgg", "--output", "OUT/x.png"), "There is no model 'vgg'"),
        (("filters", "--model", "a.keras", "--output", "OUT/x.png"), "no file a.keras"),
        (
            ("filters", "--model", "densenet_classifier", "--output", "OUT/x.png"),
            "missing 1 required positional argument: 'blocks'",
        ),
        (("filters", "--run", "RUN/segmentation", "--output", "OUT/x"), "ending in .png"),
        (("gallery", *RUN, "--classes", "--channels", "1"), "--channels goes with --layer"),
        (("gallery", *RUN, "--layer", "conv9"), 'no layer "conv9"'),
        (("gallery", *RUN, "--layer", "colors"), 'layer "colors" has the channels 0 to 2'),
        (("gallery", *RUN, "--layer", "colors", "--channels", "2-1"), "expected channels such as"),
        (("maximize", *RUN, "--objective", "class:Car"), "There is no class 'Car'.*red, green"),
        (("maximize", *RUN, "--objective", "class:3"), "There is no class '3'"),
        (("maximize", *RUN, "--objective", "style:colors"), "expects one of channel:LAYER:INDEX"),
        (("maximize", *RUN, "--objective", "channel:colors"), "received 'channel:colors'"),
        (("maximize", *RUN, "--objective", "layer:colors:x"), "expected a number instead of 'x'"),
        (("maximize", *RUN, "--objective", "channel:colors:x"), "a number instead of 'x'"),
        (("maximize", *RUN, "--objective", "anchor:0:red"), "expected SSD's raw output"),
        (("maximize", *RUN, "--objective", "class:red", "--region", "0,0,200,8"), "within 128x128"),
        (("maximize", *RUN, "--objective", "class:red", "--region", "0,8"), "expected Y0,X0,Y1,X1"),
        (("maximize", *RUN, "--objective", "layer:colors", "--region", "0,0,8,8"), "class:"),
        (("maximize", *RUN, "--objective", "layer:colors", "--steps", 0), "above 0"),
        (("maximize", *RUN, "--objective", "layer:colors", "--seed", -1), "seed: expected"),
        (
            ("gallery", "--run", "RUN/classification", "--classes", "--region", "0,0,8,8",
             "--output", "OUT/x.png"),
            "A region is of pixels of a label map",
        ),
        (("receptive-field", *RUN, "--layer", "conv9"), 'no layer "conv9"'),
        (
            ("receptive-field", *RUN[:2], "--layer", "colors", "--output", "OUT/x.jpg"),
            "ending in .png, received",
        ),
        (("cam", *RUN[:2], "--class", "red", "--images", "OUT", "--output", "OUT"), "No images in"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(workplace, visualize, tmp_path, arguments, message):
    places = {"RUN": str(workplace), "OUT": str(tmp_path)}
    for name, place in places.items():
        arguments = [str(argument).replace(name, place) for argument in arguments]
    status, out, err = visualize(*arguments)
    assert status == 2
    assert re.search(message, err.splitlines()[-1]), err
    assert not list(tmp_path.rglob("*.png"))
