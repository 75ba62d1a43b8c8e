"""Evaluation against confusion matrices derived by hand, and what it refuses."""

import json
import runpy
import sys
import types
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasdense.tasks import evaluation
from kerasdense.training import run_folder
from kerasdense.metrics.labels import IGNORE

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
NAMES = ["red", "green", "blue"]


def channel_model(kernel=None, strides=1, auxiliary=False):
    """A model whose logits are the color channels, or a convolution of them, over 64."""
    kernel = np.eye(3)[None, None] if kernel is None else kernel
    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    x = keras.layers.Rescaling(1 / 64)(images)
    logits = keras.layers.Conv2D(
        kernel.shape[-1], kernel.shape[:2], strides, "same", use_bias=False, name="logits"
    )(x)
    outputs = {"logits": logits, "auxiliary_logits": -logits} if auxiliary else logits
    model = keras.Model(images, outputs)
    model.get_layer("logits").set_weights([kernel.astype(np.float32)])
    return model


def picture_of(labels):
    """An image in which `channel_model` sees these labels."""
    return (200 * np.eye(3)[labels]).astype(np.uint8)


def batches(*samples):
    def generate():
        for i, (image, mask) in enumerate(samples):
            yield {"image": image[None], "mask": mask[None], "file_name": [f"{i}.png"]}

    return tf.data.Dataset.from_generator(
        generate,
        output_signature={
            "image": tf.TensorSpec([None, None, None, 3], tf.uint8),
            "mask": tf.TensorSpec([None, None, None], tf.uint8),
            "file_name": tf.TensorSpec([None], tf.string),
        },
    )


def run(model, data, **options):
    return evaluation.evaluate(model, data, NAMES, verbose=0, **options)


TWO_SIZES = [
    # Truth 0 0 1 . and prediction 0 1 1 0; truth 2 . and prediction 2 2 below one another.
    (picture_of([[0, 1, 1, 0]]), np.array([[0, 0, 1, IGNORE]], np.uint8)),
    (picture_of([[2], [2]]), np.array([[2], [IGNORE]], np.uint8)),
]


@pytest.mark.parametrize("auxiliary", [False, True])
def test_counted_by_hand(auxiliary):
    result, worst = run(channel_model(auxiliary=auxiliary), batches(*TWO_SIZES))
    assert result["confusion_matrix"] == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert result["per_class_iou"] == {"red": 1 / 2, "green": 1 / 2, "blue": 1}
    assert result["mean_iou"] == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)
    assert result["pixel_accuracy"] == 3 / 4
    assert result["images"] == 2 and result["pixels"] == 4 and result["absent_classes"] == 0
    assert [image["file_name"] for image in worst] == ["0.png", "1.png"]
    assert worst[0]["pixel_accuracy"] == pytest.approx(2 / 3)
    np.testing.assert_array_equal(worst[0]["prediction"], [[0, 1, 1, 0]])
    np.testing.assert_array_equal(worst[0]["image"], TWO_SIZES[0][0])
    json.dumps(result, allow_nan=False)


def test_absent_class_is_none_and_left_out():
    result, _ = run(channel_model(), batches((picture_of([[0]]), np.array([[0]], np.uint8))))
    assert result["per_class_iou"] == {"red": 1, "green": None, "blue": None}
    assert result["mean_iou"] == 1 and result["absent_classes"] == 2
    assert "2 of 3 classes are absent" in evaluation.table(result)


def test_one_program_for_all_sizes():
    traced = []

    class Counting(keras.Model):
        def call(self, inputs, training=False):
            traced.append(inputs.shape)
            return super().call(inputs, training=training)

    model = channel_model()
    model = Counting(model.input, model.output)
    before = len(traced)
    samples = [
        (picture_of(np.zeros(size, int)), np.zeros(size, np.uint8))
        for size in [(2, 3), (4, 5), (7, 1)]
    ]
    run(model, batches(*samples))
    assert len(traced) - before == 1


def test_worst_images_are_the_worst_and_few():
    mask = np.zeros((1, 10), np.uint8)
    samples = []
    for wrong in (3, 9, 0, 5, 7):
        labels = np.zeros((1, 10), int)
        labels[0, :wrong] = 1
        samples.append((picture_of(labels), mask))
    _, worst = run(channel_model(), batches(*samples), worst=3)
    assert [image["file_name"] for image in worst] == ["1.png", "4.png", "3.png"]


def test_an_ignored_image_is_counted_but_not_judged():
    ignored = (picture_of([[0]]), np.array([[IGNORE]], np.uint8))
    result, worst = run(channel_model(), batches(*TWO_SIZES, ignored))
    assert result["images"] == 3 and result["pixels"] == 4 and len(worst) == 2


def test_logits_are_resized_to_the_labels_before_the_argmax():
    # Stride 2 leaves two columns, red a and green b; bilinear to four columns with half-pixel
    # centers gives a, 3/4 a + 1/4 b, 1/4 a + 3/4 b, b: the border stays in the middle.
    labels = np.array([[0, 0, 1, 1]] * 4)
    mask = labels.astype(np.uint8)
    result, _ = run(channel_model(strides=2), batches((picture_of(labels), mask)))
    assert result["confusion_matrix"] == [[8, 0, 0], [0, 8, 0], [0, 0, 0]]
    # Labels of twice the image's size: the same border, four times the pixels.
    large = np.kron(mask, np.ones((2, 2), np.uint8))
    result, worst = run(channel_model(), batches((picture_of(labels), large)))
    assert result["confusion_matrix"] == [[32, 0, 0], [0, 32, 0], [0, 0, 0]]
    data = batches((picture_of(labels), large))
    result, _ = run(channel_model(), data, scales=(0.5, 1), flip=True)
    assert result["confusion_matrix"] == [[32, 0, 0], [0, 32, 0], [0, 0, 0]]


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def test_flip_averages_probabilities():
    # The kernel looks one pixel to the left, so the mirrored pass looks one to the right.
    kernel = np.zeros((1, 3, 3, 3))
    kernel[0, 0] = np.eye(3)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (5, 30, 3), np.uint8)
    padded = np.pad(image / 64, [(0, 0), (1, 1), (0, 0)])
    expected = (softmax(padded[:, :-2]) + softmax(padded[:, 2:])).argmax(axis=-1)
    assert (expected != softmax(padded[:, :-2]).argmax(axis=-1)).any()
    _, worst = run(channel_model(kernel), batches((image, np.zeros((5, 30), np.uint8))), flip=True)
    np.testing.assert_array_equal(worst[0]["prediction"], expected)


def test_scales_average_probabilities_at_label_resolution():
    rng = np.random.default_rng(1)
    image = keras.ops.image.resize(rng.integers(0, 256, (16, 24, 3)).astype("float32"), (32, 48))
    image = np.rint(keras.ops.convert_to_numpy(image)).astype(np.uint8)
    model = channel_model(rng.normal(size=(3, 3, 3, 3)))
    summed = 0
    for size in [(16, 24), (32, 48), (64, 96)]:
        scaled = keras.ops.image.resize(image.astype("float32"), size, antialias=size[0] < 32)
        logits = model(np.rint(keras.ops.convert_to_numpy(scaled))[None].astype(np.uint8))
        summed += keras.ops.image.resize(softmax(keras.ops.convert_to_numpy(logits)), (32, 48))
    expected = keras.ops.convert_to_numpy(keras.ops.argmax(summed, axis=-1))[0]
    data = batches((image, np.zeros((32, 48), np.uint8)))
    _, worst = run(model, data, scales=(0.5, 1, 2))
    assert (worst[0]["prediction"] == expected).mean() > 0.995  # ties may fall either way
    _, single = run(model, data)
    assert (single[0]["prediction"] != expected).mean() > 0.01


@pytest.mark.parametrize(
    "samples, words",
    [
        ([], "no images"),
        ([(picture_of([[0]]), np.array([[IGNORE]], np.uint8))], "all pixels of the 1 masks"),
        ([(picture_of([[0]]), np.array([[3]], np.uint8))], "0.png holds class 3.*0-2"),
    ],
)
def test_nothing_to_measure(samples, words):
    with pytest.raises(ValueError, match=words):
        run(channel_model(), batches(*samples))


def test_non_finite_logits_are_no_result():
    model = channel_model(np.full((1, 1, 3, 3), np.nan))
    with pytest.raises(ValueError, match="not finite for 0.png, 4x1 pixels"):
        run(model, batches(*TWO_SIZES))


def test_mistaken_arguments():
    with pytest.raises(ValueError, match="3 classes, the dataset 2: red, green"):
        evaluation.evaluate(channel_model(), batches(*TWO_SIZES), NAMES[:2])
    for scales in ((), (0.0,), (-1.0,), (float("nan"),), (float("inf"),)):
        with pytest.raises(ValueError, match="Scales"):
            run(channel_model(), batches(*TWO_SIZES), scales=scales)


@pytest.mark.parametrize("script", ["evaluate.py", "export.py", "predict.py"])
def test_scripts_print_one_line_for_a_missing_run(script, tmp_path, monkeypatch, capsys):
    arguments = ["--run", str(tmp_path / "nowhere"), "--output", str(tmp_path / "out")]
    if script == "predict.py":
        arguments.insert(0, str(tmp_path / "image.png"))
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_path(str(SCRIPTS / script), run_name="__main__")
    assert exit_.value.code == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and errors[0].startswith("error: ") and "run.json" in errors[0]
    assert not (tmp_path / "out").exists()


def test_evaluate_script(tmp_path, monkeypatch, capsys):
    """The files it leaves; the data set is a stand-in, `datasets` has tests of its own."""
    metadata = {"class_names": NAMES, "palette": [[255, 0, 0], [0, 255, 0], [0, 0, 255]]}
    builder = types.SimpleNamespace(info=types.SimpleNamespace(metadata=metadata))
    monkeypatch.setattr("kerasdense.datasets.load", lambda name, source, prepared_dir: builder)
    samples = batches(*TWO_SIZES)
    monkeypatch.setattr("kerasdense.data.pipeline.eval_batches", lambda *arguments: samples)
    run_folder.write_run(tmp_path, {"model": {}, "dataset": {"name": "camvid", **metadata}})
    channel_model().save(tmp_path / "best.keras")
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "--run", str(tmp_path), "--flip"])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_path(str(SCRIPTS / "evaluate.py"), run_name="__main__")
    printed = capsys.readouterr()
    assert not exit_.value.code, printed.err
    assert "mean IoU         66.67" in printed.out
    written = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    assert written["confusion_matrix"] == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert written["images"] == 2 and written["flip"] is True and written["split"] == "val"
    assert {path.name for path in (tmp_path / "evaluation").iterdir()} == {
        "evaluation.json", "confusion_matrix.png", "worst_1_0.png", "worst_2_1.png"
    }  # fmt: skip

    builder.info.metadata = {**metadata, "class_names": NAMES[::-1]}
    with pytest.raises(SystemExit) as exit_:
        runpy.run_path(str(SCRIPTS / "evaluate.py"), run_name="__main__")
    assert exit_.value.code == 2 and "blue, green, red" in capsys.readouterr().err
