#!/usr/bin/env python3
"""Sends images to a TensorFlow Serving server and draws its answers; needs no TensorFlow here.

    scripts/serving_client.py photo.jpg folder/ --url http://localhost:8501/v1/models/camvid \\
        --export saved_models/camvid/1 --output predictions

--url is the REST address of a model exported by scripts/export.py, of its newest version, of
.../versions/2 or of .../labels/stable. Each file is sent as it is, one a request, to the signature
`encoded`: JPEG, PNG, BMP, GIF (the first picture), and WebP where the server's TensorFlow reads it.
The server does not turn pictures by their EXIF entry, and neither does what is drawn here.

The results are those of scripts/predict.py: NAME.png and NAME_overlay.png, or NAME_boxes.jpg with
what scores at least --score, and the result files of VOC and MOT. A server does not tell names and
colors of the classes: they are in the folder it serves, --export. Without that, classes have their
numbers for names, the colors of PASCAL VOC, and no result files.

Images that the server refuses are named and skipped; the exit status is then 1.
"""

import argparse
import base64
import http.client
import io
import json
import re
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
from PIL import Image

from kerasdense.cli import command_line
from kerasdense.tasks import results
from kerasdense.metrics.labels import IGNORE
from kerasdense.export.predictor import read_facts

URL = re.compile(r"https?://[^/]+(/.+)?/v1/models/[^/:]+(/versions/\d+|/labels/[^/:]+)?")
OUTPUTS = {
    "segmentation": {"labels"},
    "detection": {"boxes", "scores", "classes", "num_detections"},
}


def main():
    arguments = parse()
    url = arguments.url.rstrip("/")
    if not URL.fullmatch(url):
        raise ValueError(
            f"--url: expected http://HOST:PORT/v1/models/NAME, with /versions/N or /labels/LABEL "
            f"if you like, received '{arguments.url}'."
        )
    task, class_names, palette = read_model(arguments.export)
    images = results.find_images(arguments.images, arguments.output)
    check_model(url, arguments.timeout)
    arguments.output.mkdir(parents=True, exist_ok=True)
    written = None
    failed = 0
    for number, path in enumerate(images, 1):
        counter = f"[{number}/{len(images)}]"
        try:
            file = read_file(path)
            start = time.perf_counter()
            outputs = predict(url, file, arguments.timeout)
            milliseconds = 1000 * (time.perf_counter() - start)
            task = task_of(outputs, task)
            picture = stored_picture(file)
            if task == "segmentation":
                outputs = checked_labels(outputs, picture, class_names)
                written = written or results.LabelMaps(arguments.output, class_names, palette)
            else:
                outputs = checked_boxes(outputs)
                written = written or results.Boxes(
                    arguments.output, class_names, palette, arguments.score
                )
            line = written.add(path, picture, outputs)
        except ValueError as error:  # of this image; what else goes wrong concerns them all
            reason = " ".join(str(error).split())[:300]
            print(f"{counter} skipped {path}: {reason}", file=sys.stderr)
            failed += 1
            continue
        print(f"{counter} {path} -> {line} ({milliseconds:.0f} ms)")
    if written and arguments.export:  # else there are no class names to call files by
        written.finish(images)
    print(f"{len(images) - failed} of {len(images)} images predicted into {arguments.output}")
    if failed:
        print(f"{failed} could not be predicted, see above", file=sys.stderr)
    return 1 if failed else 0


def checked_labels(outputs, picture, class_names):
    """The answer for a picture [H, W, 3] as `labels` uint8 [H, W]."""
    labels = as_array(outputs, "labels", 2, whole=True)
    if labels.shape != picture.shape[:2]:
        raise ValueError(
            f"the server's labels have another size than the image: expected "
            f"{list(picture.shape[:2])}, received {list(labels.shape)}"
        )
    if not 0 <= labels.min() <= labels.max() < len(class_names):
        raise ValueError(
            f"the server's labels go from {labels.min()} to {labels.max()}, but there are "
            f"{len(class_names)} classes. Does --export belong to another model?"
        )
    return {"labels": labels.astype(np.uint8)}


def checked_boxes(outputs):
    """The answer as `boxes` [D, 4] in pixels, `classes` and `scores` [D], `num_detections`."""
    count = int(as_array(outputs, "num_detections", 0, whole=True))
    boxes = as_array(outputs, "boxes", 2)
    classes = as_array(outputs, "classes", 1, whole=True)
    scores = as_array(outputs, "scores", 1)
    shape = (len(boxes), 4)
    if not (boxes.shape == shape and len(classes) == len(scores) == len(boxes) >= count >= 0):
        raise ValueError(
            f"the server's answer has num_detections {count}, but boxes {list(boxes.shape)}, "
            f"{len(classes)} classes and {len(scores)} scores"
        )
    return {"boxes": boxes, "classes": classes, "scores": scores, "num_detections": count}


def check_model(url, timeout):
    """Asks the server for the model's status.

    Raises: ConnectionError if it cannot be reached, or no version of the model is available.
    """
    try:
        status = call(url, timeout)
    except ValueError as error:
        raise ConnectionError(f"The server does not tell the status of {url}: {error}") from error
    try:
        states = {
            version["version"]: version["state"] for version in status["model_version_status"]
        }
        reasons = [version["status"]["error_message"] for version in status["model_version_status"]]
    except (KeyError, TypeError) as error:
        raise ConnectionError(
            f"{url} answers, but is no model of a TensorFlow Serving server: {str(status)[:80]}"
        ) from error
    if "AVAILABLE" not in states.values():
        received = ", ".join(f"{state} ({version})" for version, state in states.items())
        raise ConnectionError(
            f"The model {url} is not available, or not yet: expected a version in state AVAILABLE, "
            f"received {received or 'no version'}. {' '.join(reasons)}"
        )


def predict(url, file, timeout):
    """The outputs of the signature `encoded` for one file (bytes): {name: value}, without B.

    Raises: ValueError if the server refuses the file; ConnectionError as `call`, and for an answer
    of another kind.
    """
    instance = {"b64": base64.b64encode(file).decode()}
    answer = call(f"{url}:predict", timeout, {"signature_name": "encoded", "instances": [instance]})
    predictions = answer.get("predictions")  # one a row
    if isinstance(predictions, list) and len(predictions) == 1 and isinstance(predictions[0], dict):
        return predictions[0]
    outputs = answer.get("outputs")  # columns, as some gateways give them
    if isinstance(outputs, dict) and all(
        isinstance(value, list) and len(value) == 1 for value in outputs.values()
    ):
        return {name: value[0] for name, value in outputs.items()}
    raise ConnectionError(
        f"The server's answer holds no prediction: expected the outputs of one image under "
        f"'predictions' or 'outputs', received {json.dumps(answer)[:150]}."
    )


def call(url, timeout, body=None):
    """The server's answer, a dict, to a GET, or to a POST of `body` as JSON.

    Raises: ValueError if the server refuses the body, or takes too long; ConnectionError if it
    cannot be reached, does not know the model, or is no TensorFlow Serving.
    """
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            text = response.read()
    except urllib.error.HTTPError as error:
        reason = f"HTTP {error.code}, {error_message(error)}"
        if error.code == 404:
            raise ConnectionError(
                f"The server does not know the model {url.removesuffix(':predict')}: {reason}. "
                f"Is it the name, and a version, that the server was started with?"
            ) from error
        raise ValueError(reason) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)  # urllib wraps what fails before the answer
        if isinstance(reason, TimeoutError):
            message = f"no answer within {timeout:g} s: raise --timeout, or send a smaller image"
            raise ValueError(message) from error
        raise ConnectionError(
            f"No answer from {url}: {reason or type(error).__name__}. Does a server run there, and "
            f"is it the REST port (8501), not that of gRPC (8500)?"
        ) from error
    try:
        answer = json.loads(text)
    except ValueError as error:
        raise ConnectionError(
            f"{url} answered with no JSON, so it is no TensorFlow Serving: {text[:80]!r}"
        ) from error
    if not isinstance(answer, dict):
        raise ConnectionError(f"{url} answered {str(answer)[:80]}: expected a JSON object.")
    return answer


def error_message(error):
    """What the body of an HTTP error says: {"error": "..."}, but old servers quote it badly."""
    try:
        text = error.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return error.reason
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text.strip() or error.reason


def task_of(outputs, expected):
    """What the model is made for, by its outputs; `expected` is what model.json says, or None."""
    tasks = [task for task, names in OUTPUTS.items() if names <= outputs.keys()]
    if len(tasks) != 1:
        raise ConnectionError(
            f"The server's answer has the outputs {sorted(outputs)}, expected labels, or boxes, "
            f"scores, classes and num_detections. Was the model exported by scripts/export.py?"
        )
    if expected not in (None, tasks[0]):
        raise ConnectionError(
            f"The server has a {tasks[0]} model, expected {expected}. Does --export belong to "
            f"another model?"
        )
    return tasks[0]


def as_array(outputs, name, axes, whole=False):
    """The output `name` as an array of so many axes, of numbers, or of `whole` ones.

    Raises: ValueError if it is something else.
    """
    try:
        array = np.array(outputs[name])
    except ValueError:  # rows of different lengths
        array = np.array(None)
    if array.ndim != axes or array.dtype.kind not in ("iu" if whole else "iuf"):
        raise ValueError(
            f"the server's output '{name}' is no array of {axes} axes of "
            f"{'whole ' if whole else ''}numbers: {str(outputs[name])[:60]}"
        )
    return array


def read_model(path):
    """Task, class names and palette of the export whose version folder `path` is."""
    if path is None:
        classes = range(IGNORE)
        return None, [str(i) for i in classes], [voc_color(i) for i in classes]
    facts = read_facts(path)
    return facts["task"], facts["class_names"], facts["palette"]


def voc_color(label):
    """[r, g, b] of a class in PASCAL VOC's label maps: its bits in turn, the lowest weigh most."""
    bits = [label >> i & 1 for i in range(8)]
    return [sum(bits[i] << 7 - i // 3 for i in range(channel, 8, 3)) for channel in range(3)]


def read_file(path):
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read: {error}") from error


def stored_picture(file):
    """The pixels in an image file (bytes), as the server decodes them: uint8 [H, W, 3]."""
    try:
        with Image.open(io.BytesIO(file)) as picture:
            if picture.mode.startswith("I"):  # 16 bits, of which the server takes the upper 8
                return np.repeat(np.asarray(picture)[..., None] >> 8, 3, axis=-1).astype(np.uint8)
            return np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"the answer cannot be drawn on it: {error}") from error


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE|FOLDER")
    parser.add_argument(
        "--url", required=True, help="of the model: http://HOST:8501/v1/models/NAME"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument(
        "--export", type=Path, metavar="NAME/VERSION", help="what is served, for the class names"
    )
    parser.add_argument(
        "--score", type=float, default=0.5, help="of the boxes that are drawn, at least"
    )
    parser.add_argument(
        "--timeout", type=command_line.positive(float), default=60, help="seconds for an answer"
    )
    return parser.parse_args()


if __name__ == "__main__":
    command_line.run(main)
