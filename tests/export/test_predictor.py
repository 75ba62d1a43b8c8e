"""The Predictor: what it loads, what it refuses, and what it does without; and predict.py."""

import gc
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.python.eager import context
from test_export import CONVERTERS, NAMES, PALETTE, RUNTIMES, pictures, small_model

from kerasdense.training import run_folder
from kerasdense.export.artefact import export
from kerasdense.export.predictor import FILES, Predictor

REPOSITORY = Path(__file__).resolve().parents[1]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(REPOSITORY),
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
}
FORMATS = tuple(FILES)
EXTRAS = {"onnx": "kerasdense[onnx]", "openvino": "kerasdense[openvino]"}
EXTRAS |= {"litert": "kerasdense[litert]", "saved_model": "tensorflow"}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A run as training leaves it, of a tiny model."""
    folder = tmp_path_factory.mktemp("run")
    dataset = {"name": "camvid", "source": None, "class_names": NAMES, "palette": PALETTE}
    run_folder.write_run(folder, {"model": {"name": "small"}, "dataset": dataset})
    small_model().save(folder / "best.keras")
    return folder


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    name = tmp_path_factory.mktemp("saved") / "name"
    export(small_model(), name, NAMES, PALETTE)
    return name


@pytest.fixture(scope="module", params=FORMATS)
def artefact(request, tmp_path_factory):
    """The small model in a format that can be written and run here."""
    format = request.param
    pytest.importorskip(CONVERTERS.get(format, "tensorflow"))
    pytest.importorskip(RUNTIMES.get(format, "tensorflow"))
    if format == "saved_model":
        return request.getfixturevalue("saved_model")
    name = tmp_path_factory.mktemp(format) / "name"
    export(small_model(), name, NAMES, PALETTE, format=format)
    return name


@pytest.fixture(scope="module")
def predictor(artefact):
    predictor = Predictor(artefact)
    gc.collect()  # nothing it needs may be freed
    return predictor


def changed(name, copy, **entries):
    """A copy of the newest version of an artefact with other entries in its model.json."""
    version = copy / "1"
    shutil.copytree(Predictor(name).directory, version)
    facts_file = version / "assets" / "model.json"
    facts = json.loads(facts_file.read_text())
    facts["input"] |= entries.pop("input", {})
    facts_file.write_text(json.dumps(facts | entries))
    return version


def test_all_formats_have_one_face(artefact, predictor):
    assert predictor.directory == artefact / "1" and predictor.task == "segmentation"
    assert (artefact / "1" / FILES[predictor.format]).is_file()
    assert predictor.class_names == NAMES and predictor.palette == PALETTE
    assert predictor.facts == json.loads((artefact / "1/assets/model.json").read_text())
    images = pictures(2, 70, 90)
    outputs = predictor.predict(images)
    found = {name: (value.dtype, value.shape) for name, value in outputs.items()}
    assert found == {"labels": (np.uint8, (2, 70, 90)), "confidence": (np.float32, (2, 70, 90))}
    # Views, lists, and arrays that may not be written to.
    frozen = images.copy()
    frozen.flags.writeable = False
    for view in (np.asfortranarray(images), list(images), frozen, frozen[::-1][::-1]):
        np.testing.assert_array_equal(predictor.predict(view)["labels"], outputs["labels"])
    for view in (images[..., ::-1], images[:, :, 5:75], images.swapaxes(1, 2)):  # BGR, crops
        expected = predictor.predict(view.copy())["labels"]
        np.testing.assert_array_equal(predictor.predict(view)["labels"], expected)
    # An answer stays when the next one comes.
    kept = {name: value.copy() for name, value in outputs.items()}
    predictor.predict(255 - images)
    for name in outputs:
        np.testing.assert_array_equal(outputs[name], kept[name])


def test_raw_output_and_probabilities_belong_together(saved_model):
    predictor = Predictor(saved_model)
    images = pictures(2, 64, 70)
    logits = predictor.predict_raw(images)
    assert logits.dtype == np.float32 and logits.shape == (2, 64, 70, 4)
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities = powers / powers.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(predictor.predict_probabilities(images), probabilities, atol=1e-6)
    np.testing.assert_array_equal(predictor.predict(images)["labels"], logits.argmax(axis=-1))


def test_what_only_a_saved_model_can(predictor):
    if predictor.format == "saved_model":
        pytest.skip("it can")
    images = pictures(1, 64, 64)
    png = tf.io.encode_png(images[0]).numpy()
    for call, value in (
        (predictor.predict_raw, images),
        (predictor.predict_probabilities, images),
        (predictor.predict_encoded, [png]),
    ):
        with pytest.raises(ValueError, match="only serving_default.*--format saved_model"):
            call(value)


def test_a_detector_has_no_probabilities(saved_model, tmp_path):
    predictor = Predictor(changed(saved_model, tmp_path, task="detection"))
    with pytest.raises(ValueError, match="detection model: its predict gives scores"):
        predictor.predict_probabilities(pictures(1, 64, 64))


def test_encoded_files_equal_arrays(saved_model):
    predictor = Predictor(saved_model)
    images = pictures(2, 72, 64)
    expected = predictor.predict(images)
    files = [tf.io.encode_png(image).numpy() for image in images]
    outputs = predictor.predict_encoded(files)
    np.testing.assert_array_equal(outputs["labels"], expected["labels"])
    np.testing.assert_allclose(outputs["confidence"], expected["confidence"], atol=1e-6)
    # A JPEG is what TensorFlow decodes it to; a grey one counts as RGB.
    jpeg = tf.io.encode_jpeg(images[0]).numpy()
    decoded = tf.io.decode_jpeg(jpeg).numpy()
    np.testing.assert_array_equal(
        predictor.predict_encoded((jpeg,))["labels"], predictor.predict(decoded[None])["labels"]
    )
    grey = tf.io.encode_png(images[0][..., :1]).numpy()
    np.testing.assert_array_equal(
        predictor.predict_encoded([grey])["labels"],
        predictor.predict(np.repeat(images[:1, ..., :1], 3, axis=-1))["labels"],
    )


def test_files_that_cannot_be_predicted(saved_model):
    predictor = Predictor(saved_model)
    good, other, tiny = (tf.io.encode_png(pictures(1, s, s)[0]).numpy() for s in (64, 65, 9))
    jpeg = tf.io.encode_jpeg(pictures(1, 64, 64)[0]).numpy()
    for files, words in (
        ([], "no images"),
        ([b""], "File 0 of 1 is empty"),
        ([good, b""], "File 1 of 2 is empty"),
        ([b"no picture"], "Unknown image file format"),
        ([good[:60]], "Invalid PNG data"),
        ([good[: len(good) // 2]], "Invalid PNG data"),
        ([jpeg[: len(jpeg) // 2]], "Invalid JPEG data"),
        ([good, jpeg[:30]], "Invalid JPEG data"),
        ([good, other], r"\[64,64,3\] vs. \[65,65,3\].*one size"),
        ([tiny], "at least 64 pixels"),
        (good, "list of bytes"),
        ("path.png", "list of bytes"),
        (["path.png"], "list of bytes"),
        ([good, None], "list of bytes"),
        (None, "list of bytes"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            predictor.predict_encoded(files)
        for noise in ("Graph execution error", "Condition", "{{node"):
            assert noise not in str(caught.value)
        assert predictor.predict_encoded([good])["labels"].shape == (1, 64, 64)


def test_images_that_no_format_takes(predictor):
    images = pictures(1, 64, 80)
    before = predictor.predict(images)
    for bad, words in (
        (images[0], r"uint8 \[B, H, W, 3\], received uint8 \[64, 80, 3\].*image\[None\]"),
        (images[None], r"received uint8 \[1, 1, 64, 80, 3\]"),
        (images[..., :1], r"received uint8 \[1, 64, 80, 1\]"),
        (np.zeros((1, 64, 64, 4), np.uint8), r"received uint8 \[1, 64, 64, 4\]"),
        (images.astype(np.float32), "received float32"),
        (images.astype(np.int64), "received int64"),
        (images.tolist(), "received int64"),
        ([images[0], images[0][:70, :70]], "of one size"),
        (None, r"received object \[\]"),
        ([], "received float64"),
        (images[:0], "no images"),
        (np.zeros((1, 1, 1, 3), np.uint8), "at least 64 pixels, received 1x1"),
        (np.zeros((1, 64, 0, 3), np.uint8), "at least 64 pixels, received 64x0"),
        (np.zeros((1, 63, 640, 3), np.uint8), "at least 64 pixels, received 63x640"),
        # Costs no memory: all its pixels are one.
        (np.broadcast_to(images[:, :1, :1], (1, 9000, 12000, 3)), "16,777,216 pixels.*9000x12000"),
        (np.broadcast_to(images, (4000, 64, 80, 3)), "4000 images of 64x80"),
    ):
        with pytest.raises(ValueError, match=words):
            predictor.predict(bad)
    after = predictor.predict(images)
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])


def test_all_signatures_check_images(saved_model):
    predictor = Predictor(saved_model)
    for call in (predictor.predict_probabilities, predictor.predict_raw):
        with pytest.raises(ValueError, match="at least 64 pixels"):
            call(pictures(1, 64, 63))


def test_an_artefact_of_fixed_size(saved_model, tmp_path):
    fixed = {"batch_size": 2, "height": 64, "width": 96, "maximum_pixels": 2 * 64 * 96}
    predictor = Predictor(changed(saved_model, tmp_path, input=fixed))
    assert predictor.predict(pictures(2, 64, 96))["labels"].shape == (2, 64, 96)
    for shape, words in (
        ((1, 64, 96), "batches of 2, received 1"),
        ((2, 65, 96), "height 64, received 65"),
        ((2, 64, 95), "width 96, received 95"),
    ):
        with pytest.raises(ValueError, match=words):
            predictor.predict(pictures(*shape))
    with pytest.raises(ValueError, match="batches of 2, received 3"):
        predictor.predict_encoded([tf.io.encode_png(pictures(1, 64, 96)[0]).numpy()] * 3)
    fixed = {"maximum_pixels": 2 * 64 * 96 - 1}
    predictor = Predictor(changed(saved_model, tmp_path / "less", input=fixed))
    with pytest.raises(ValueError, match="12,287 pixels, received 2 images of 64x96"):
        predictor.predict(pictures(2, 64, 96))


def test_newest_version_by_number(tmp_path, saved_model):
    name = tmp_path / "name"
    for version in ("2", "10"):
        shutil.copytree(saved_model / "1", name / version)
    for other in ("99", ".unfinished_x", "notes"):  # hold no model
        (name / other).mkdir()
    assert Predictor(name).directory == name / "10"
    assert Predictor(name / "2").directory == name / "2"
    assert Predictor(str(name)).predict(pictures(1, 64, 64))["labels"].shape == (1, 64, 64)
    # A newer version is not passed over because it is damaged.
    for file in FILES.values():
        (name / "11").mkdir()
        (name / "11" / file).write_bytes(b"damaged")
        with pytest.raises(ValueError, match="11 has no assets/model.json"):
            Predictor(name)
        shutil.rmtree(name / "11")


def test_what_is_no_artefact(tmp_path, saved_model):
    with pytest.raises(FileNotFoundError, match="no folder"):
        Predictor(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="empty folder"):
        Predictor(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match="photo.jpg"):
        Predictor(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        Predictor(tmp_path / "photo.jpg")
    # A SavedModel of somebody else, or of a kerasdense before model.json.
    foreign = changed(saved_model, tmp_path)
    (foreign / "assets" / "model.json").rename(foreign / "assets" / "classes.json")
    with pytest.raises(ValueError, match="no assets/model.json.*scripts/export.py"):
        Predictor(foreign)


def test_damaged_model_json(tmp_path, saved_model):
    version = changed(saved_model, tmp_path)
    file = version / "assets" / "model.json"
    whole = file.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"\xff\xfe\x00", b"[1]", b"3", b"{}"):
        file.write_bytes(content)
        with pytest.raises(ValueError, match="model.json is damaged.*Export the model again"):
            Predictor(version)
    facts = json.loads(whole)
    for entries, words in (
        ({"format_version": 2}, "newer kerasdense.*is 2.*Update"),
        # What else a newer one says is not read.
        ({"format_version": 99, "format": "new", "input": None}, "newer kerasdense"),
        ({"format_version": "1"}, "damaged"),
        ({"format_version": None}, "damaged"),
        ({"format": "caffe"}, "'caffe', expected one of saved_model, onnx, openvino, litert"),
        ({"format": ["onnx"]}, "expected one of"),
        ({"task": "depth"}, "'depth', expected one of segmentation, detection"),
        ({"format": "onnx"}, "model.onnx is missing"),
        ({"input": None}, "lacks input.batch_size, input.height"),
        ({"input": [1]}, "lacks input.batch_size, input.height"),
    ):
        file.write_text(json.dumps(facts | entries))
        with pytest.raises(ValueError, match=words):
            Predictor(version)
    for key in ("format", "task", "precision", "class_names", "palette", "input", "signatures"):
        file.write_text(json.dumps({name: facts[name] for name in facts if name != key}))
        with pytest.raises(ValueError, match=f"lacks {key}"):
            Predictor(version)
    for key in ("batch_size", "height", "width", "minimum_side", "maximum_pixels"):
        rest = {name: facts["input"][name] for name in facts["input"] if name != key}
        file.write_text(json.dumps(facts | {"input": rest}))
        with pytest.raises(ValueError, match=f"lacks input.{key}\\."):
            Predictor(version)


def test_damaged_models(artefact, predictor, tmp_path):
    """Each file without which there is no model: absent, empty, cut, and made of something else."""
    version = tmp_path / "1"
    damaged = 0
    for file in sorted((artefact / "1").rglob("*")):
        relative = file.relative_to(artefact / "1")
        if not file.is_file() or relative.parts[0].startswith(("assets", "fingerprint")):
            continue
        whole = file.read_bytes()
        for content in (None, b"", whole[: len(whole) // 2], b"no model" * 50):
            shutil.copytree(artefact / "1", version)
            (version / relative).unlink()
            if content is not None:
                (version / relative).write_bytes(content)
            words = "cannot load.*damaged|is missing. Export the model again"
            with pytest.raises(ValueError, match=words) as caught:
                Predictor(version)
            assert "Exception from" not in str(caught.value) and len(str(caught.value)) < 600
            shutil.rmtree(version)
            damaged += 1
    assert (
        damaged == 4 * {"saved_model": 3, "onnx": 1, "openvino": 2, "litert": 1}[predictor.format]
    )
    # What is loaded lives on.
    assert predictor.predict(pictures(1, 64, 64))["labels"].shape == (1, 64, 64)


@pytest.mark.parametrize("format", FORMATS)
def test_a_missing_runtime_is_named(monkeypatch, saved_model, tmp_path, format):
    version = changed(saved_model, tmp_path, format=format)
    (version / FILES[format]).write_bytes(b"never read")
    module = RUNTIMES.get(format, "tensorflow")
    monkeypatch.setitem(sys.modules, module, None)  # importing it raises ImportError
    monkeypatch.delitem(sys.modules, f"{module}.interpreter", raising=False)
    with pytest.raises(ImportError, match=f"pip install '?{re.escape(EXTRAS[format])}"):
        Predictor(version)


def in_a_process_of_its_own(program, *arguments, **environment):
    """What a program prints; it gets `arguments` as sys.argv."""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_needs_numpy_and_one_runtime_only(artefact, predictor):
    program = """
import sys
for name in sys.argv[2:]:
    sys.modules[name] = None  # importing it raises ImportError
import numpy
from kerasdense.prediction import Predictor
labels = Predictor(sys.argv[1]).predict(numpy.zeros((2, 69, 67, 3), "uint8"))["labels"]
print(labels.shape, "kerasdense.layers" in sys.modules)
"""
    runtimes = {"tensorflow", "onnxruntime", "openvino", "ai_edge_litert", "tf2onnx", "onnx"}
    others = runtimes - {RUNTIMES.get(predictor.format, "tensorflow")}
    others |= {"keras", "PIL", "tensorflow_datasets", "keras_cv"}
    printed = in_a_process_of_its_own(program, artefact, *others)
    assert printed.splitlines()[-1] == "(2, 69, 67) False"


def test_eight_threads_get_the_answers_of_one(predictor):
    sizes = np.random.default_rng(0).integers(64, 160, (40, 2))
    images = [pictures(1 + i % 2, *size, seed=i) for i, size in enumerate(sizes)]
    expected = [predictor.predict(batch) for batch in images]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(predictor.predict, images * 2))
    for serial, parallel in zip(expected * 2, found):
        assert serial.keys() == parallel.keys()
        for name in serial:
            np.testing.assert_array_equal(serial[name], parallel[name])


def test_a_refused_call_disturbs_no_other(predictor):
    images = pictures(2, 70, 90)
    expected = predictor.predict(images)["labels"]

    def call(number):
        if number % 2:
            return predictor.predict(images)["labels"]
        with pytest.raises(ValueError, match="at least 64"):
            predictor.predict(images[:, :9])

    with ThreadPoolExecutor(8) as threads:
        for labels in list(threads.map(call, range(40)))[1::2]:
            np.testing.assert_array_equal(labels, expected)


def test_other_sizes_are_not_traced_again(saved_model):
    """The signatures are concrete functions; TensorFlow makes no further ones for them."""
    predictor = Predictor(saved_model)
    png = tf.io.encode_png(pictures(1, 64, 64)[0]).numpy()

    def call_all(size):
        images = pictures(1, *size)
        for call in (predictor.predict, predictor.predict_raw, predictor.predict_probabilities):
            call(images)
        predictor.predict_encoded([png])

    call_all((64, 64))
    functions = context.context().list_function_names()
    for size in np.random.default_rng(0).integers(64, 160, (20, 2)):
        call_all(size)
    assert context.context().list_function_names() == functions


MEMORY_PROGRAM = """
import sys
import numpy
from kerasdense.prediction import Predictor

def resident():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS"))

predictor, generator = Predictor(sys.argv[1]), numpy.random.default_rng(0)

def call(times):
    for size in generator.integers(64, 129, (times, 2)):
        predictor.predict(numpy.zeros((1, *size, 3), "uint8"))
    return resident()

predictor.predict(numpy.zeros((1, 128, 128, 3), "uint8"))
print(call(int(sys.argv[2])), call(500))
"""


def growth(*arguments, **environment):
    """MiB that the resident memory grows by 500 calls of changing sizes after a warm-up."""
    if not Path("/proc/self/status").exists():
        pytest.skip("the resident memory is read from /proc")
    printed = in_a_process_of_its_own(MEMORY_PROGRAM, *arguments, **environment)
    before, after = map(float, printed.split()[-2:])
    return after - before


def test_memory_does_not_grow_with_changing_sizes(artefact, predictor):
    # TensorFlow without oneDNN; with it, see the next test.
    assert growth(artefact, 100, TF_ENABLE_ONEDNN_OPTS="0") < 25


@pytest.mark.slow
def test_memory_of_tensorflow_with_onednn_is_bounded(saved_model):
    """oneDNN's operations are kept by shape, the last 1024 of a thread and kind: then no more."""
    assert growth(saved_model, 1500, TF_NUM_INTEROP_THREADS="1") < 25


@pytest.fixture
def script(monkeypatch, capsys):
    """Runs a script in this process: (exit status, what it printed, its errors)."""

    def call(name, *arguments):
        path = REPOSITORY / "scripts" / name
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            runpy.run_path(str(path), run_name="__main__")
        printed = capsys.readouterr()
        return exit_.value.code or 0, printed.out, printed.err

    return call


def test_predict_script(script, run_folder, saved_model, tmp_path):
    """Both ways give one label map; names stay apart; a bad image is skipped with status 1."""
    one, two = tmp_path / "one", tmp_path / "two"
    for number, folder in enumerate((one, two)):
        folder.mkdir()
        Image.fromarray(pictures(1, 70, 80, seed=number)[0]).save(folder / "same.png")
    Image.fromarray(pictures(1, 64, 66)[0]).save(two / "same_overlay.png")
    Image.fromarray(pictures(1, 64, 66)[0]).save(two / "legend.png")
    (two / "broken.jpg").write_text("no picture")
    (two / "notes.txt").write_text("not looked at")
    status, out, err = script(
        "predict.py", "--run", run_folder, one, two, "--output", tmp_path / "by_run"
    )
    assert status == 1 and len(err.splitlines()) == 2 and "broken.jpg" in err
    assert "4 of 5 images predicted" in out
    names = ["legend_2", "same", "same_2", "same_overlay_2"]
    endings = (".png", "_overlay.png")
    expected = {"legend.png"} | {name + ending for name in names for ending in endings}
    assert {path.name for path in (tmp_path / "by_run").iterdir()} == expected

    (two / "broken.jpg").unlink()
    status, out, err = script(
        "predict.py", "--saved-model", saved_model, one, two, "--output", tmp_path / "by_export"
    )
    assert status == 0 and not err
    for name in names:
        with Image.open(tmp_path / "by_run" / f"{name}.png") as first:
            with Image.open(tmp_path / "by_export" / f"{name}.png") as second:
                assert first.mode == second.mode == "P"
                np.testing.assert_array_equal(np.asarray(first), np.asarray(second))
    source = one / "same.png"
    with Image.open(source) as file:
        image = np.asarray(file)
    with Image.open(tmp_path / "by_run" / "same.png") as file:
        labels = np.asarray(file)
    model_labels = np.asarray(small_model()(image[None], training=False)).argmax(axis=-1)[0]
    np.testing.assert_array_equal(labels, model_labels)


def test_predict_script_does_not_overwrite_images(script, saved_model, tmp_path):
    picture = tmp_path / "a.png"
    Image.fromarray(pictures(1, 64, 64)[0]).save(picture)
    before = picture.read_bytes()
    model = ("--saved-model", saved_model)
    status, _, err = script("predict.py", *model, tmp_path, "--output", tmp_path)
    assert status == 2 and err.startswith("error: ") and "--output" in err
    assert picture.read_bytes() == before
    # Results below the folder are fine, and are not taken for images the next time.
    for _ in range(2):
        status, out, _ = script("predict.py", *model, tmp_path, "--output", tmp_path / "out")
        assert status == 0 and "1 of 1 images" in out
    (tmp_path / "empty").mkdir()
    status, _, err = script("predict.py", *model, tmp_path / "empty", "--output", tmp_path / "o")
    assert status == 2 and "No images" in err


def test_export_script(script, run_folder, tmp_path):
    output = tmp_path / "name"
    status, out, err = script("export.py", "--run", run_folder, "--output", output)
    assert status == 0, err
    assert str(output / "1") in out and "Compared with the Keras model in float32" in out


def test_run_facts_round_trip(tmp_path):
    facts = {"task": "detection", "model": {"name": "x"}, "dataset": {"name": "mot15"}}
    run_folder.write_run(tmp_path / "run", facts)
    assert run_folder.read_run(tmp_path / "run") == facts
    del facts["task"]  # as the first runs were written
    run_folder.write_run(tmp_path / "run", facts)
    assert run_folder.read_run(tmp_path / "run") == facts | {"task": "segmentation"}
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]


def test_damaged_runs_are_named(tmp_path, run_folder):
    with pytest.raises(FileNotFoundError, match="run.json"):
        run_folder.load_run(tmp_path)
    (tmp_path / "run.json").write_text('{"model": ')
    with pytest.raises(ValueError, match="damaged"):
        run_folder.load_run(tmp_path)
    (tmp_path / "run.json").write_text('{"model": {}}')
    with pytest.raises(ValueError, match="lacks dataset"):
        run_folder.load_run(tmp_path)
    run_folder.write_run(tmp_path, json.loads((run_folder / "run.json").read_text()))
    with pytest.raises(FileNotFoundError, match="best.keras"):
        run_folder.load_run(tmp_path)
    whole = (run_folder / "best.keras").read_bytes()
    for content in (b"", b"no model", whole[: len(whole) // 2]):
        (tmp_path / "best.keras").write_bytes(content)
        with pytest.raises(ValueError, match="best.keras cannot be loaded"):
            run_folder.load_run(tmp_path)
