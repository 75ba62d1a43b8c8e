"""Sends images to a TensorFlow Serving server and draws its answers; needs no TensorFlow here.

    kerasdense serve-client photo.jpg folder/ --url http://localhost:8501/v1/models/camvid \\
        --export saved_models/camvid/1 --output predictions

--url is the REST address of a model exported by `kerasdense export`, of its newest version, of
.../versions/2 or of .../labels/stable. Each file is sent as it is, one a request, to the signature
`encoded`: JPEG, PNG, BMP, GIF (the first picture), and WebP where the server's TensorFlow reads it.
A server does not turn pictures by their EXIF orientation: those that carry one are turned here and
sent as PNG.

The results are those of `kerasdense predict`. A server does not tell names and colors of the
classes: they stand in the folder that it serves, --export, as does what it is to answer. Images
that cannot be read or predicted are named and skipped; the exit status is then 1.
"""

import base64
import http.client
import io
import json
import re
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

from kerasdense.cli.arguments import positive
from kerasdense.cli.predict import predict_all
from kerasdense.tasks.base import reason

URL = re.compile(r"https?://[^/]+(/.+)?/v1/models/[^/:]+(/versions/\d+|/labels/[^/:]+)?")


def add_arguments(parser):
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE|FOLDER", help="what to send")
    parser.add_argument(
        "--url", required=True, help="of the model: http://HOST:8501/v1/models/NAME"
    )
    parser.add_argument(
        "--export", type=Path, required=True, metavar="NAME/VERSION", help="the folder served there"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument(
        "--score", type=float, default=0.5, help="of the boxes or labels that are drawn, at least"
    )
    parser.add_argument(
        "--timeout", type=positive(float), default=60.0, help="seconds to wait for an answer"
    )


def run(arguments):
    from kerasdense import tasks
    from kerasdense.data.images import find_named_images
    from kerasdense.export.predictor import read_facts

    url = arguments.url.rstrip("/")
    if not URL.fullmatch(url):
        raise ValueError(
            f"--url: expected http://HOST:PORT/v1/models/NAME, with /versions/N or /labels/LABEL "
            f"if you like, received '{arguments.url}'."
        )
    facts = read_facts(arguments.export)
    if "encoded" not in facts["signatures"]:
        raise ValueError(
            f"{arguments.export} is of format {facts['format']}, without the signature 'encoded'. "
            f"Give the SavedModel that is served."
        )
    expected = facts["signatures"]["encoded"]["outputs"]
    task = tasks.named(facts["task"])(facts["class_names"], facts["palette"])
    images = find_named_images(arguments.images, arguments.output)
    check_model(url, arguments.timeout)
    arguments.output.mkdir(parents=True, exist_ok=True)

    def predicted(path):
        file, picture = read(path)
        start = time.perf_counter()
        prediction = predict(url, file, arguments.timeout)
        milliseconds = 1000 * (time.perf_counter() - start)
        return picture, checked(prediction, expected), f" ({milliseconds:.0f} ms)"

    return predict_all(images, predicted, task.writer(arguments.output, arguments.score))


def read(path):
    """An image file: its bytes, and its pixels as the server decodes them, uint8 [H, W, 3].

    A picture that EXIF turns is turned, and its bytes are those of a PNG.
    """
    from PIL import ExifTags, Image, ImageOps

    try:
        file = path.read_bytes()
        with Image.open(io.BytesIO(file)) as picture:
            if picture.getexif().get(ExifTags.Base.Orientation, 1) != 1:
                ImageOps.exif_transpose(picture, in_place=True)
                upright = picture if picture.mode.startswith("I") else picture.convert("RGB")
                encoded = io.BytesIO()
                upright.save(encoded, "PNG", exif=b"")
                file = encoded.getvalue()
            if picture.mode.startswith("I"):  # 16 bits, of which the server takes the upper 8
                pixels = np.repeat(np.asarray(picture)[..., None] >> 8, 3, axis=-1)
                return file, pixels.astype(np.uint8)
            return file, np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot be read: {error}") from error


def check_model(url, timeout):
    """Asks the server for the model's status.

    Raises: ConnectionError if it cannot be reached, or no version of the model is available.
    """
    try:
        answer = call(url, timeout)
    except ValueError as error:
        raise ConnectionError(f"The server does not tell the status of {url}: {error}") from error
    try:
        states = {each["version"]: each["state"] for each in answer["model_version_status"]}
        reasons = [each["status"]["error_message"] for each in answer["model_version_status"]]
    except (KeyError, TypeError) as error:
        raise ConnectionError(
            f"{url} answers, but is no model of a TensorFlow Serving server: {str(answer)[:80]}"
        ) from error
    if "AVAILABLE" not in states.values():
        received = ", ".join(f"{state} ({version})" for version, state in states.items())
        raise ConnectionError(
            f"The model {url} is not available, or not yet: expected a version in state AVAILABLE, "
            f"received {received or 'no version'}. {' '.join(reasons)}"
        )


def predict(url, file, timeout):
    """What the signature `encoded` gives for an image file (bytes), as JSON has it, without B.

    Raises: as `call`.
    """
    instance = {"b64": base64.b64encode(file).decode()}
    answer = call(f"{url}:predict", timeout, {"signature_name": "encoded", "instances": [instance]})
    predictions = answer.get("predictions")
    if not isinstance(predictions, list) or len(predictions) != 1:
        raise ConnectionError(
            f"The server's answer holds no prediction: expected the outputs of one image under "
            f"'predictions', received {json.dumps(answer)[:150]}."
        )
    return predictions[0]


def checked(prediction, expected):
    """A prediction as {name: array}, if it is what model.json says of the model's outputs.

    `expected`: {name: {"dtype": text, "shape": list with B, None where free}}.
    Raises: ValueError for an array that is not as expected; ConnectionError for other outputs.
    """
    if len(expected) == 1:  # then the server leaves its name out
        prediction = dict.fromkeys(expected, prediction)
    if not isinstance(prediction, dict) or prediction.keys() != expected.keys():
        received = ", ".join(prediction) if isinstance(prediction, dict) else str(prediction)[:80]
        raise ConnectionError(
            f"The server's answer has other outputs than the model of --export: expected "
            f"{', '.join(expected)}, received {received}. Is that the folder that is served?"
        )
    arrays = {}
    for name, output in expected.items():
        dtype, shape = np.dtype(output["dtype"]), output["shape"][1:]
        try:
            array = np.array(prediction[name])
        except ValueError:  # rows of different lengths
            array = np.array(None)
        fits = array.dtype.kind in ("iu" if dtype.kind in "iu" else "iuf")
        fits = fits and array.ndim == len(shape)
        fits = fits and all(side in (None, given) for side, given in zip(shape, array.shape))
        if not fits or (dtype.kind in "iu" and (array != array.astype(dtype)).any()):
            raise ValueError(
                f"the server's output '{name}' is no {dtype} array of shape "
                f"{str(shape).replace('None', 'any')}: {str(prediction[name])[:60]}"
            )
        arrays[name] = array.astype(dtype)[()]
    return arrays


def call(url, timeout, body=None):
    """The server's answer, a dict, to a GET, or to a POST of `body` as JSON.

    Raises: ValueError if the server refuses the body, or takes too long; ConnectionError if it
    cannot be reached, does not know the model, or is no TensorFlow Serving.
    """
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        try:
            response = urllib.request.urlopen(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            response = error  # which is an answer, too
        with response:
            text = response.read()
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)  # urllib wraps what fails before the answer
        if isinstance(cause, TimeoutError):
            message = f"no answer within {timeout:g} s: raise --timeout, or send a smaller image"
            raise ValueError(message) from error
        raise ConnectionError(
            f"No answer from {url}: {cause or type(error).__name__}. Does a server run there, and "
            f"is it the REST port (8501), not that of gRPC (8500)?"
        ) from error
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if response.status != 200:
        said = answer.get("error") if isinstance(answer, dict) else None  # old servers escape badly
        said = said or text.decode(errors="replace").strip() or response.reason
        if response.status == 404:
            raise ConnectionError(
                f"The server does not know the model {url.removesuffix(':predict')}: HTTP 404, "
                f"{said}. Is it the name, and a version, that the server was started with?"
            )
        raise ValueError(f"HTTP {response.status}, {reason(said)}")
    if not isinstance(answer, dict):
        raise ConnectionError(
            f"{url} answered with no JSON object, so it is no TensorFlow Serving: {text[:80]!r}"
        )
    return answer
