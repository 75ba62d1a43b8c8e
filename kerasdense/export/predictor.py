"""Prediction from an exported model with NumPy and the runtime of its format alone.

B batch, H W size, C classes, A anchors.
"""

import importlib
import json
import threading
from pathlib import Path

import numpy as np

from kerasdense.export import processor
from kerasdense.tasks.base import reason

# Of assets/model.json, the newest that is understood; raised when older readers would misread it.
FORMAT_VERSION = 1
FACTS = Path("assets", "model.json")
REQUIRED = ("format", "task", "precision", "class_names", "palette", "input", "signatures")
REQUIRED_OF_INPUT = ("batch_size", "height", "width", "minimum_side", "maximum_pixels")
FILES = {  # of a version folder, by format
    "saved_model": "saved_model.pb",
    "onnx": "model.onnx",
    "openvino": "model.xml",
    "litert": "model.tflite",
}
RUNTIMES = {  # the module, and what installs it
    "saved_model": ("tensorflow", "tensorflow"),
    "onnx": ("onnxruntime", "'kerasdense[onnx]'"),
    "openvino": ("openvino", "'kerasdense[openvino]'"),
    "litert": ("ai_edge_litert.interpreter", "'kerasdense[litert]'"),
}


class Predictor:
    """An artefact written by `kerasdense.export`, in any of its formats.

    `path`: a version folder, or the folder above it (the newest version is taken).
    `directory`: the version folder; `format`: "saved_model", "onnx", "openvino" or "litert";
    `task`: "segmentation", "detection" or "classification"; `class_names`: list of str;
    `palette`: list of [r, g, b]; `facts`: dict, the whole assets/model.json; `precision`: what it
    computes in; `reason`: why in that.
    Called with a `precision`, OpenVINO computes a model of any but int8 in "float32" or "bfloat16",
    or, by "auto", in what is fast on this processor; a file of the other formats computes in its
    own, which "auto" then means. `threads`: of a call, at most, by default as many as there are
    cores; of all SavedModels of the process together, as TensorFlow has one pool.
    A SavedModel runs on the device TensorFlow chooses, the other formats on the CPU.
    One Predictor may be called from many threads. LiteRT computes the calls one after the other.
    Images of ever other sizes take no more memory in time, except that TensorFlow on a CPU keeps
    the operations it prepared for the last sizes, some 100 MiB for each of its threads. The
    environment variables TF_ENABLE_ONEDNN_OPTS=0 or TF_NUM_INTEROP_THREADS=1 limit that.
    Raises: FileNotFoundError or ValueError if there is no such artefact, or it is damaged; for a
    precision it does not compute in, or threads that come too late, after TensorFlow has begun;
    ImportError if its runtime is not installed.
    """

    def __init__(self, path, precision=None, threads=None):
        self.directory = _version_folder(Path(path))
        self.facts = read_facts(self.directory)
        self.format, self.task = self.facts["format"], self.facts["task"]
        self.class_names, self.palette = self.facts["class_names"], self.facts["palette"]
        file = self.directory / FILES[self.format]
        if not file.is_file():
            raise ValueError(f"{file} is missing. Export the model again.")
        self.precision, self.reason = _precision(self.directory, self.facts, precision)
        if threads is not None and threads < 1:
            raise ValueError(f"threads: expected at least 1, received {threads}.")
        runtime, names = _runtime(self.format), self.facts["signatures"]
        if runtime.__name__ == "tensorflow" and threads:
            limit_threads(runtime, threads)
        try:
            # Functions from one array to a dict of arrays.
            self._signatures = OPENERS[self.format](runtime, file, names, self.precision, threads)
        except Exception as error:  # each runtime has its own, and all mean the same
            raise ValueError(
                f"{runtime.__name__} cannot load {file}: {reason(error)}. The artefact is damaged "
                f"or the runtime too old; export the model again, or update the runtime."
            ) from error

    @property
    def image_size(self):
        """(height, width) in pixels that the network warps pictures to; None: each keeps its own.

        Raises: ValueError for an older export, which does not tell.
        """
        taken = self.facts["input"]
        if "image_size" in taken:
            return taken["image_size"] and tuple(taken["image_size"])
        if taken.get("padded_side", 1) > 1:
            return None  # what it pads, it does not warp
        fixed = taken["height"], taken["width"]
        if None in fixed:
            raise ValueError(
                f"{self.directory} does not tell to which size the network warps pictures: it is "
                f"an export of an older kerasdense. Export the model again."
            )
        return fixed

    def predict(self, images):
        """uint8 [B, H, W, 3], RGB, to a dict of arrays.

        Segmentation: `labels` uint8 [B, H, W], `confidence` float32 [B, H, W]. Detection: `boxes`
        float32 [B, 200, 4], xyxy in pixels, `scores` float32 [B, 200] and `classes` int32
        [B, 200], of which the first `num_detections` int32 [B] are meant. Classification:
        `probabilities` float32 [B, C].
        Raises: ValueError for images the artefact does not take.
        """
        return self.call("serving_default", images)

    def call(self, name, images):
        """The outputs of a signature that takes images uint8 [B, H, W, 3], {name: array}.

        Raises: ValueError for images the artefact does not take, and where it has no such
        signature.
        """
        return self._signature(name)(self._checked(images))

    def predict_probabilities(self, images):
        """uint8 [B, H, W, 3] to float32 [B, H, W, C], of a segmentation model as SavedModel.

        Raises: ValueError for images the artefact does not take; for another format, and another
        task, whose `predict` tells probabilities or scores itself.
        """
        return self.call("probabilities", images)["probabilities"]

    def predict_raw(self, images):
        """uint8 [B, H, W, 3] to what the network gives, of a SavedModel.

        Segmentation: logits, float32 [B, H, W, C]. Detection: float32 [B, A, C + 1 + 4], for the
        anchors in assets/anchors.npy. Classification: logits, float32 [B, C].
        Raises: ValueError for images the artefact does not take; for another format.
        """
        (output,) = self.call("raw", images).values()
        return output

    def predict_encoded(self, files):
        """A list of picture files (bytes) to what `predict` returns, of a SavedModel.

        Pictures to segment are all of one size. See saved_models/README.md for the kinds of files.
        Raises: ValueError for files that cannot be decoded, or whose pictures the artefact does
        not take; for another format.
        """
        encoded = self._signature("encoded")
        listed = isinstance(files, (list, tuple))
        if not listed or not all(isinstance(file, bytes) for file in files):
            raise ValueError(
                "predict_encoded expects a list of bytes, the contents of picture files. "
                "Read them with pathlib.Path(...).read_bytes()."
            )
        self._check_batch(len(files))
        if b"" in files:
            raise ValueError(f"File {files.index(b'')} of {len(files)} is empty (0 bytes).")
        return encoded(np.array(files, object))

    def _signature(self, name):
        if name not in self._signatures:
            raise ValueError(
                f"{self.directory}, a {self.task} model of format {self.format}, has no signature "
                f"{name!r}, only {', '.join(self._signatures)}. Call predict, or export with "
                f"--format saved_model, which has all signatures of its task."
            )
        return self._signatures[name]

    def _checked(self, images):
        """`images` as an array, if the artefact takes it; the same answer for all formats."""
        try:
            images = np.asarray(images)
        except ValueError as error:  # NumPy's for a list of pictures of several sizes
            raise ValueError(
                "The images of a batch must be of one size. Predict others one by one."
            ) from error
        if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
            raise ValueError(
                f"Images must be a batch of RGB pictures, uint8 [B, H, W, 3], received "
                f"{images.dtype} {list(images.shape)}. One picture needs a leading axis: "
                f"image[None]."
            )
        batch, *size = images.shape[:3]
        self._check_batch(batch)
        taken = self.facts["input"]
        for name, side in zip(("height", "width"), size):
            if taken[name] not in (None, side):
                raise ValueError(
                    f"{self.directory} was exported for images of {name} {taken[name]}, received "
                    f"{side}. Resize them, or export without --size."
                )
        if min(size) < taken["minimum_side"]:
            raise ValueError(
                f"Images must have sides of at least {taken['minimum_side']} pixels, received "
                f"{size[0]}x{size[1]}. Enlarge them."
            )
        computed = [max(side, taken.get("padded_side", 1)) for side in size]
        if batch * computed[0] * computed[1] > taken["maximum_pixels"]:
            raise ValueError(
                f"A batch may have {taken['maximum_pixels']:,} pixels, received {batch} images of "
                f"{size[0]}x{size[1]}. Send fewer at a time, or smaller ones."
            )
        return images

    def _check_batch(self, batch):
        if batch == 0:
            raise ValueError("There are no images: a batch of at least one is expected.")
        fixed = self.facts["input"]["batch_size"]
        if fixed not in (None, batch):
            raise ValueError(
                f"{self.directory} was exported for batches of {fixed}, received {batch}. Fill the "
                f"batch up, or export without --batch-size."
            )


def _precision(directory, facts, asked):
    """What an artefact is to compute in, and why. Raises: ValueError where it does not."""
    own = facts["precision"]
    if own == "float16" and facts["format"] in ("openvino", "litert"):
        own = "float32"  # only the weights are kept in it
    choices = (own,)
    if facts["format"] == "openvino" and own != "int8":
        choices = ("float32", "bfloat16")
    if asked == "auto" and len(choices) > 1:
        return processor.best_precision()
    if asked in (None, "auto"):
        return own, f"a {facts['format']} computes in what it was exported in"
    if asked not in choices:
        raise ValueError(
            f"{directory}, exported for {facts['format']} in {facts['precision']}, computes in "
            f"{' or '.join(choices)}, received precision {asked!r}. Export the model in that "
            f"precision. (Of openvino a float32 export computes in bfloat16, too.)"
        )
    return asked, "asked for"


def filled_up(predict, images, fixed):
    """What is predicted of images uint8 [B, H, W, 3], of batches of `fixed` if that is a number.

    `predict`: as of a Predictor. A smaller batch is filled up with its last image.
    """
    count = len(images)
    if fixed and count < fixed:
        images = np.concatenate([images, np.repeat(images[-1:], fixed - count, axis=0)])
    return {name: values[:count] for name, values in predict(images).items()}


def limit_threads(tensorflow, threads):
    """Lets TensorFlow, the module, compute with so many threads at most.

    It has one pool of them for the whole process, made at its first computation; calls from several
    threads then wait for each other.
    Raises: ValueError after that.
    """
    try:
        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError as error:
        raise ValueError(
            f"threads={threads} comes too late: TensorFlow has already begun to compute with as "
            f"many threads as there are cores. Open the Predictor first."
        ) from error


def _open_saved_model(tensorflow, file, signatures, precision, threads):
    loaded = tensorflow.saved_model.load(str(file.parent))

    def caller(name):
        function = loaded.signatures[name]
        (argument,) = signatures[name]["inputs"]

        def call(value):
            try:
                outputs = function(**{argument: tensorflow.constant(value)})
            except tensorflow.errors.InvalidArgumentError as error:
                raise ValueError(
                    f"{file.parent} does not take this ({argument}): {reason(error)}. "
                    f"Picture files must be undamaged and, to segment, of one size."
                ) from error
            return {key: output.numpy() for key, output in outputs.items()}

        # Not every release of TensorFlow keeps variables for functions without their object.
        call.loaded = loaded
        return call

    return {name: caller(name) for name in signatures}


def _open_onnx(onnxruntime, file, signatures, precision, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0  # 0: as many as there are cores
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return {
        "serving_default": lambda images: dict(zip(names, session.run(names, {"images": images})))
    }


def _open_openvino(openvino, file, signatures, precision, threads):
    options = {
        # Without it, OpenVINO computes in bfloat16 where the processor can, and some labels change.
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
        # Else it keeps up to 5000 compiled operations, a gigabyte of them, for the sizes of images
        # it has seen.
        "CPU_RUNTIME_CACHE_CAPACITY": "0",
    }
    if threads:
        options["INFERENCE_NUM_THREADS"] = threads
    compiled = openvino.Core().compile_model(str(file), "CPU", options)

    def call(images):
        # A request of its own, because one request takes one call at a time. It costs 0.1 ms.
        outputs = compiled.create_infer_request().infer({"images": images})
        return {port.any_name: array for port, array in outputs.items()}

    return {"serving_default": call}


def _open_litert(interpreter, file, signatures, precision, threads):
    model = interpreter.Interpreter(str(file), num_threads=threads or processor.cores())
    runner = model.get_signature_runner("serving_default")
    lock = threading.Lock()  # an interpreter has one set of tensors

    def call(images):
        with lock:
            return runner(images=images)  # allocates only if the shape is another than before

    return {"serving_default": call}


OPENERS = {
    "saved_model": _open_saved_model,
    "onnx": _open_onnx,
    "openvino": _open_openvino,
    "litert": _open_litert,
}


def _runtime(format):
    module, package = RUNTIMES[format]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"An artefact of format {format} needs {module}, which cannot be imported "
            f"({error}). Install it: pip install {package}"
        ) from error


def _version_folder(path):
    if _is_artefact(path):
        return path
    if not path.is_dir():
        raise FileNotFoundError(
            f"There is no folder {path}. Give an exported model: NAME or NAME/VERSION."
        )
    versions = [
        folder for folder in path.iterdir() if folder.name.isdecimal() and _is_artefact(folder)
    ]
    if not versions:
        raise ValueError(
            f"{path} holds no exported model: expected one of {', '.join(FILES.values())}, or "
            f"numbered folders with one, received "
            f"{sorted(item.name for item in path.iterdir())[:5] or 'an empty folder'}. "
            f"Export one with kerasdense export."
        )
    return max(versions, key=lambda folder: int(folder.name))


def _is_artefact(folder):
    return any((folder / name).is_file() for name in (FACTS, *FILES.values()))


def read_facts(path):
    """What assets/model.json of an artefact says, a dict; `path` as of `Predictor`.

    Raises: FileNotFoundError or ValueError if there is no artefact, or it is damaged or too new.
    """
    directory = _version_folder(Path(path))
    path = directory / FACTS
    if not path.is_file():
        raise ValueError(
            f"{directory} has no {FACTS}: it is no export of kerasdense, or one of an old version. "
            f"Export the model with kerasdense export."
        )
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}. Export the model again.") from error
    version = facts.get("format_version") if isinstance(facts, dict) else None
    if not isinstance(version, int):
        raise ValueError(f"{path} is damaged: no format_version in it. Export the model again.")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{directory} was written by a newer kerasdense: its format_version is {version}, this "
            f"one reads {FORMAT_VERSION}. Update kerasdense."
        )
    missing = [key for key in REQUIRED if key not in facts]
    contract = facts["input"] if isinstance(facts.get("input"), dict) else {}
    missing += [f"input.{key}" for key in REQUIRED_OF_INPUT if key not in contract]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}. Export the model again.")
    if facts["format"] not in tuple(FILES):  # also where it is a list
        raise ValueError(
            f"{path}: format is {facts['format']!r}, expected one of {', '.join(FILES)}. "
            f"Export the model again."
        )
    return facts
