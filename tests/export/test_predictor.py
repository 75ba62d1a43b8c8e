"""The Predictor: what it loads, what it refuses, and what it does without."""

import gc
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
from conftest import REPOSITORY
from PIL import Image
from small_models import BUILD, CONVERTERS, NAMES, PALETTE, RUNTIMES, pictures
from tensorflow.python.eager import context

from kerasdense.export import processor
from kerasdense.export.predictor import FILES, Predictor

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
def saved_model(exported_version):
    """The folder of the versions."""
    return exported_version("segmentation").parent


@pytest.fixture(scope="module", params=FORMATS)
def artefact(request, exported_version):
    """As `saved_model`, in a format that can be written and run here."""
    return exported_version("segmentation", request.param).parent


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


@pytest.mark.parametrize("kind", ["detection", "classification"])
def test_only_label_maps_have_probabilities_of_their_own(exported_predictor, kind):
    words = f"a {kind} model.*no signature 'probabilities', only serving_default, raw, encoded"
    with pytest.raises(ValueError, match=words):
        exported_predictor(kind).predict_probabilities(pictures(1, 64, 64))


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
    good, other = (tf.io.encode_png(pictures(1, s, s)[0]).numpy() for s in (64, 65))
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
        (np.zeros((1, 64, 0, 3), np.uint8), "at least 1 pixels, received 64x0"),
        (np.zeros((1, 0, 0, 3), np.uint8), "at least 1 pixels, received 0x0"),
        # Costs no memory: all its pixels are one.
        (np.broadcast_to(images[:, :1, :1], (1, 9000, 12000, 3)), "16,777,216 pixels.*9000x12000"),
        (np.broadcast_to(images, (4000, 64, 80, 3)), "4000 images of 64x80"),
        # As many pixels as 5000 images of 64x64 are computed.
        (np.zeros((5000, 1, 1, 3), np.uint8), "5000 images of 1x1"),
    ):
        with pytest.raises(ValueError, match=words):
            predictor.predict(bad)
    after = predictor.predict(images)
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])


def test_all_signatures_check_images(saved_model):
    predictor = Predictor(saved_model)
    for call in (predictor.predict_probabilities, predictor.predict_raw):
        with pytest.raises(ValueError, match="at least 1 pixels"):
            call(pictures(1, 64, 0))


def test_an_export_of_before_refuses_small_images(saved_model, tmp_path):
    version = changed(saved_model, tmp_path, input={"minimum_side": 64})
    facts = json.loads((version / "assets" / "model.json").read_text())
    del facts["input"]["padded_side"]  # which it did not know
    (version / "assets" / "model.json").write_text(json.dumps(facts))
    predictor = Predictor(version)
    with pytest.raises(ValueError, match="at least 64 pixels, received 63x640"):
        predictor.predict(np.zeros((1, 63, 640, 3), np.uint8))
    assert predictor.predict(pictures(1, 64, 64))["labels"].shape == (1, 64, 64)


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
    with pytest.raises(ValueError, match="no assets/model.json.*kerasdense export"):
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
        with pytest.raises(ValueError, match="at least 1"):
            predictor.predict(images[:, :0])

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


# --- in a process of its own ---------------------------------------------------------------------

# What each format needs: all other runtimes, and what stands in WITHOUT, cannot be imported.
PROGRAM = """
import contextlib, io, json, sys
import numpy
from kerasdense.export.predictor import Predictor

@contextlib.contextmanager
def blocked(names):
    kept = {name: sys.modules.pop(name, None) for name in names}
    sys.modules.update(dict.fromkeys(names))  # importing them raises ImportError
    yield
    for name, module in kept.items():
        del sys.modules[name]
        if module:
            sys.modules[name] = module

def resident():  # MiB
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS"))

def growth(predictor, warm_up):
    predictor.predict(numpy.zeros((1, 128, 128, 3), "uint8"))
    generator, memory = numpy.random.default_rng(0), []
    for times in (warm_up, 500):
        for size in generator.integers(64, 129, (times, 2)):
            predictor.predict(numpy.zeros((1, *size, 3), "uint8"))
        memory.append(resident())
    return memory[1] - memory[0]

def predicted(path, image, output):  # by the program; its exit status
    from kerasdense.cli.main import main
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            main(["predict", "--saved-model", path, image, "--output", output])
        except SystemExit as end:
            return end.code or 0

def found(runtime, path, image, output):
    with blocked([*runtimes - {runtime}, *without]):
        answer = Predictor(path).predict(numpy.zeros((2, 69, 67, 3), "uint8"))
        shapes = {name: value.shape for name, value in answer.items()}
        layers = "kerasdense.models.layers" in sys.modules
    with blocked([*runtimes - {runtime}, *without - {"PIL"}]):
        status = predicted(path, image, output)
    return {"shapes": shapes, "layers": layers, "status": status}

cases, image, output, warm_up, without = map(json.loads, sys.argv[1:])
runtimes, without = {runtime for runtime, _ in cases}, set(without)
for number, (runtime, path) in enumerate(cases):
    case = found(runtime, path, image, f"{output}/{number}") if without else {}
    if "segmentation" in path and sys.platform == "linux":
        case["growth"] = growth(Predictor(path), warm_up)
    print(json.dumps(case))
"""
# TensorFlow comes last: nothing that it brings may help another.
ORDER = ("onnx", "openvino", "litert", "saved_model")
WITHOUT = ("keras", "PIL", "tensorflow_datasets", "keras_cv", "matplotlib", "tf2onnx")


def in_a_process_of_its_own(cases, image, output, warm_up, without=(), **environment):
    """What the program finds: {case: dict}; `cases`: {case: (runtime, path)}."""
    arguments = list(cases.values()), str(image), str(output), warm_up, without
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(json.dumps, arguments)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT | environment,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(cases, map(json.loads, done.stdout.splitlines()[-len(cases) :])))


@pytest.fixture(scope="module")
def alone(exported_version, tmp_path_factory):
    """What each format does where only its runtime is: `(kind, format) -> dict`."""
    folder = tmp_path_factory.mktemp("alone")
    Image.fromarray(pictures(1, 72, 80)[0]).save(folder / "image.png")
    cases = {}
    for format in ORDER:
        for kind in BUILD if format == "onnx" else ("segmentation",):
            runtime = RUNTIMES.get(format, "tensorflow")
            if all(map(importlib.util.find_spec, (runtime, CONVERTERS.get(format, "json")))):
                cases[kind, format] = (runtime, str(exported_version(kind, format)))
    # TensorFlow without oneDNN; with it, see the last test.
    found = in_a_process_of_its_own(
        cases, folder / "image.png", folder, 100, WITHOUT, TF_ENABLE_ONEDNN_OPTS="0"
    )

    def of(kind, format):
        if (kind, format) not in found:
            pytest.skip(f"{format} cannot be written and run here")
        return found[kind, format]

    return of


@pytest.mark.parametrize("format", FORMATS)
def test_needs_numpy_and_one_runtime_only(alone, format):
    case = alone("segmentation", format)
    assert case["shapes"] == {"labels": [2, 69, 67], "confidence": [2, 69, 67]}
    assert not case["layers"]


@pytest.mark.parametrize(
    "kind, format",
    [
        *(("segmentation", format) for format in FORMATS),
        ("detection", "onnx"),
        ("classification", "onnx"),
    ],
)
def test_the_program_predicts_with_pillow_and_one_runtime_only(alone, kind, format):
    assert alone(kind, format)["status"] == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the resident memory is read from /proc")
@pytest.mark.parametrize("format", FORMATS)
def test_memory_does_not_grow_with_changing_sizes(alone, format):
    assert alone("segmentation", format)["growth"] < 25  # MiB, by 500 calls


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the resident memory is read from /proc")
def test_memory_of_tensorflow_with_onednn_is_bounded(exported_version):
    """oneDNN's operations are kept by shape, the last 1024 of a thread and kind: then no more."""
    cases = {"tensorflow": ("tensorflow", str(exported_version("segmentation")))}
    found = in_a_process_of_its_own(cases, "", "", 1500, TF_NUM_INTEROP_THREADS="1")
    assert found["tensorflow"]["growth"] < 25


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("best", ["float32", "bfloat16"])
def test_auto_is_what_the_processor_computes_fast_where_the_runtime_can(
    exported_version, monkeypatch, format, best
):
    monkeypatch.setattr(processor, "best_precision", lambda: (best, "a test says so"))
    version = exported_version("segmentation", format)
    found = Predictor(version, "auto")
    if format == "openvino":
        assert (found.precision, found.reason) == (best, "a test says so")
    else:
        assert found.precision == "float32" and "exported in" in found.reason


def test_openvino_computes_in_the_precision_asked_for(exported_version):
    version, images = exported_version("segmentation", "openvino"), pictures(2, 64, 80)
    own, float32, bfloat16 = (
        Predictor(version, precision).predict(images)["confidence"]
        for precision in (None, "float32", "bfloat16")
    )
    np.testing.assert_array_equal(own, float32)
    if "BF16" in importlib.import_module("openvino").Core().get_property(
        "CPU", "OPTIMIZATION_CAPABILITIES"
    ):
        assert 1e-6 < np.abs(bfloat16 - float32).max() < 0.1


@pytest.mark.parametrize("format", FORMATS)
def test_a_precision_that_a_file_does_not_compute_in_is_refused(exported_version, format):
    version = exported_version("segmentation", format)
    with pytest.raises(ValueError, match=r"computes in float32.*received precision 'float16'"):
        Predictor(version, "float16")


@pytest.mark.parametrize("format", ["onnx", "openvino", "litert"])
def test_the_number_of_threads_changes_no_answer(exported_version, format):
    version, images = exported_version("segmentation", format), pictures(1, 64, 80)
    one, all_cores = (Predictor(version, threads=threads) for threads in (1, None))
    for name, values in one.predict(images).items():
        np.testing.assert_allclose(values, all_cores.predict(images)[name], atol=1e-5)
    with pytest.raises(ValueError, match="at least 1, received 0"):
        Predictor(version, threads=0)


def test_threads_of_tensorflow_are_those_of_the_process(saved_model):
    tf.constant(1) + 1  # it has begun
    with pytest.raises(ValueError, match="threads=1 comes too late"):
        Predictor(saved_model, threads=1)
    code = f"""
from kerasdense.export.predictor import Predictor
Predictor({str(saved_model)!r}, threads=1)
import tensorflow as tf
assert tf.config.threading.get_intra_op_parallelism_threads() == 1
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
