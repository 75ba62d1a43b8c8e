"""serve-client against a stub of TensorFlow Serving's REST protocol on this machine."""

import base64
import http.server
import io
import json
import os
import re
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import REPOSITORY
from PIL import Image

from kerasdense.cli.main import main
from kerasdense.drawing import pictures

NAMES = ["road", "car", "tree"]
PALETTE = [[10, 20, 30], [200, 0, 0], [0, 200, 0]]
UNKNOWN_FORMAT = "Unknown image file format. One of JPEG, PNG required."
VERSION = r"(/versions/[12]|/labels/stable)?"


class Refusal(Exception):
    """An HTTP status and TensorFlow Serving's message."""


class Server(http.server.ThreadingHTTPServer):
    """Serves the model `name`, which answers the dict `model(picture)` for uint8 [H, W, 3]."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, model):
        super().__init__(("127.0.0.1", 0), Handler)
        self.model, self.states = model, {"1": ("AVAILABLE", "")}
        self.requests = []
        self.raw_status = self.raw_answer = None  # (HTTP status, content) sent instead
        self.url = f"http://127.0.0.1:{self.server_port}/v1/models/name"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    """What TensorFlow Serving does, as far as the client sees it."""

    def do_GET(self):
        self.server.requests.append(self.path)
        if self.server.raw_status is not None:
            return self.reply(*self.server.raw_status)
        if not re.fullmatch(r"/v1/models/name" + VERSION, self.path):
            error = f"Could not find any versions of model {self.path.split('/')[3]}"
            return self.reply(404, {"error": error})
        versions = [
            {
                "version": version,
                "state": state,
                "status": {"error_code": "OK" if not error else "UNKNOWN", "error_message": error},
            }
            for version, (state, error) in self.server.states.items()
        ]
        return self.reply(200, {"model_version_status": versions})

    def do_POST(self):
        self.server.requests.append(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.raw_answer is not None:
            return self.reply(*self.server.raw_answer)
        try:
            picture = self.decoded(body)
        except Refusal as refusal:
            status, error = refusal.args
            return self.reply(status, {"error": error})
        return self.reply(200, {"predictions": [self.server.model(picture)]})

    def decoded(self, body):
        if not re.fullmatch(r"/v1/models/name" + VERSION + ":predict", self.path):
            raise Refusal(404, "Servable not found for request: Latest(other)")
        try:
            request = json.loads(body)
        except ValueError:
            raise Refusal(400, "JSON Parse error: Invalid value. at offset: 0") from None
        if request.keys() != {"signature_name", "instances"}:
            raise Refusal(400, "Missing 'inputs' or 'instances' key")
        if request["signature_name"] != "encoded":
            raise Refusal(400, f'Serving signature name: "{request["signature_name"]}" not found')
        (instance,) = request["instances"]
        if not isinstance(instance, dict) or instance.keys() != {"b64"}:
            raise Refusal(
                400, f"JSON Value: {instance} Type: Object is not of expected type: string"
            )
        file = base64.b64decode(instance["b64"], validate=True)
        try:
            with Image.open(io.BytesIO(file)) as picture:
                if picture.size == (77, 77):  # stands for formats that only Pillow knows
                    raise Refusal(400, UNKNOWN_FORMAT)
                return np.asarray(picture.convert("RGB"))
        except OSError:
            raise Refusal(400, UNKNOWN_FORMAT) from None

    def reply(self, status, content):
        if content == "hang up":
            return self.connection.close()
        if content == "wait":
            threading.Event().wait(0.5)
            return None
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        return self.wfile.write(text)

    def log_message(self, *arguments):
        pass


def segment(picture):
    """Labels 0, 1, 2 by how red a pixel is; TensorFlow Serving writes bare NaN."""
    labels = picture[..., 0] // 100
    return {"confidence": np.full(labels.shape, np.nan).tolist(), "labels": labels.tolist()}


def classify(picture):
    """The only output of its model: TensorFlow Serving leaves its name out."""
    return [0.25, 0.75, 0.5]


def detect(picture):
    """A sure tree in the left half, a doubtful car, and rows of zeros."""
    height, width = picture.shape[:2]
    rows = 5
    boxes = np.zeros((rows, 4))
    boxes[:2] = [0, 0, width / 2, height], [1.5, 2, 7, 9]
    return {
        "num_detections": 2,
        "boxes": boxes.tolist(),
        "scores": [0.9, 0.3] + [0.0] * (rows - 2),
        "classes": [2, 1] + [0] * (rows - 2),
    }


@pytest.fixture
def serve():
    servers = []

    def start(model):
        servers.append(Server(model))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def client(monkeypatch, capsys):
    """Runs the command in this process: (exit status, what it printed, its errors)."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    def call(*arguments):
        with pytest.raises(SystemExit) as exit_:
            main(["serve-client", *arguments])
        printed = capsys.readouterr()
        return exit_.value.code or 0, printed.out, printed.err

    return call


INPUT = {
    "batch_size": None, "height": None, "width": None, "minimum_side": 1, "maximum_pixels": 10000,
}  # fmt: skip
OUTPUTS = {
    "segmentation": {
        "labels": {"dtype": "uint8", "shape": [None, None, None]},
        "confidence": {"dtype": "float32", "shape": [None, None, None]},
    },
    "detection": {
        "boxes": {"dtype": "float32", "shape": [None, 5, 4]},
        "scores": {"dtype": "float32", "shape": [None, 5]},
        "classes": {"dtype": "int32", "shape": [None, 5]},
        "num_detections": {"dtype": "int32", "shape": [None]},
    },
    "classification": {"probabilities": {"dtype": "float32", "shape": [None, 3]}},
}


@pytest.fixture
def artefact(tmp_path):
    """A function that writes the model.json of a task and returns its version folder."""

    def write(task="segmentation", **changes):
        facts = {
            "format_version": 1, "format": "saved_model", "precision": "float32",
            "task": task, "class_names": NAMES,
            "palette": PALETTE, "signatures": {"encoded": {"outputs": OUTPUTS.get(task, {})}},
            "input": INPUT,
        }  # fmt: skip
        assets = tmp_path / "saved_model" / "1" / "assets"
        assets.mkdir(parents=True, exist_ok=True)
        (assets / "model.json").write_text(json.dumps(facts | changes))
        return assets.parent

    return write


def write_picture(path, height=12, width=20, seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def pixels_of(path):
    with Image.open(path) as file:
        return np.asarray(file)


def test_label_maps_and_overlays(serve, client, artefact, tmp_path):
    server = serve(segment)
    small = write_picture(tmp_path / "in" / "a.png")
    large = write_picture(tmp_path / "in" / "deep" / "b.png", 33, 25, seed=1)
    (tmp_path / "in" / "notes.txt").write_text("not looked at")
    output = tmp_path / "out"
    version = artefact()
    for export in (version, version.parent):
        status, out, err = client(
            tmp_path / "in", "--url", server.url, "--output", output, "--export", export
        )
        assert status == 0 and not err
        assert re.search(r"\[1/2\] .*a.png -> a.png: .*road \d+ %.* \(\d+ ms\)\n", out)
        assert "2 of 2 images predicted" in out
        names = {"legend.png", "a.png", "a_overlay.png", "deep/b.png", "deep/b_overlay.png"}
        assert {path.relative_to(output).as_posix() for path in output.rglob("*.png")} == names
        for name, picture in (("a", small), ("deep/b", large)):
            labels = picture[..., 0] // 100
            np.testing.assert_array_equal(pixels_of(output / f"{name}.png"), labels)
            with Image.open(output / f"{name}.png") as file:
                assert file.getpalette()[:9] == sum(PALETTE, [])
            expected = pictures.overlay(picture, labels, PALETTE)
            overlay = pixels_of(output / f"{name}_overlay.png")  # its legend below
            np.testing.assert_array_equal(overlay[: len(picture), : picture.shape[1]], expected)
    assert server.requests == ["/v1/models/name", *["/v1/models/name:predict"] * 2] * 2


def test_boxes(serve, client, artefact, tmp_path):
    server = serve(detect)
    picture = write_picture(tmp_path / "a.png", 40, 60)
    arguments = (tmp_path / "a.png", "--url", server.url, "--export", artefact("detection"))
    status, out, err = client(*arguments, "--output", tmp_path / "sure")
    assert status == 0 and not err and "a_boxes.jpg: 1 tree (" in out
    status, out, _ = client(*arguments, "--output", tmp_path / "all", "--score", 0)
    assert status == 0 and "a_boxes.jpg: 1 car, 1 tree (" in out
    status, out, _ = client(*arguments, "--output", tmp_path / "none", "--score", 0.95)
    assert status == 0 and "a_boxes.jpg: nothing (" in out
    assert {path.name for path in (tmp_path / "sure").iterdir()} == {"a_boxes.jpg", "voc", "mot"}
    (line,) = (tmp_path / "sure" / "mot" / f"det_{NAMES[1]}.txt").read_text().splitlines()
    frame, _, *box, score = (float(field) for field in line.split(",")[:7])
    assert (frame, *box) == (1, 1.5, 2, 5.5, 7)  # whatever the score; width, height
    assert score == pytest.approx(0.3)
    # The left half of 60 x 40 pixels; [1.5, 2, 7, 9] of them.
    relative = np.array([[0, 0, 0.5, 1], [0.025, 0.05, 7 / 60, 0.225]])
    for folder, n in (("sure", 1), ("all", 2), ("none", 0)):
        drawn = pictures.draw_boxes(
            picture, relative[:n], [2, 1][:n], NAMES, PALETTE, [0.9, 0.3][:n]
        )
        pictures.save_picture(tmp_path / "expected.jpg", drawn)
        expected = pixels_of(tmp_path / "expected.jpg")
        np.testing.assert_array_equal(pixels_of(tmp_path / folder / "a_boxes.jpg"), expected)


def test_a_model_of_one_output(serve, client, artefact, tmp_path):
    server = serve(classify)
    write_picture(tmp_path / "a.png")
    arguments = (tmp_path / "a.png", "--url", server.url, "--export", artefact("classification"))
    status, out, err = client(*arguments, "--output", tmp_path / "out")
    assert status == 0 and not err and "a_labels.jpg: " in out
    (found,) = json.loads((tmp_path / "out" / "labels.json").read_text()).values()
    assert found == dict(zip(NAMES, classify(None)))


def test_pictures_are_drawn_as_the_server_decodes_them(serve, client, artefact, tmp_path):
    """Turned by EXIF, and so sent, as `encoded` does not turn them; of 16 bits the upper 8."""
    server = serve(segment)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by a quarter
    picture = write_picture(tmp_path / "turned.png", 12, 20, exif=exif)
    deep = np.array([[255, 256, 25600, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    answer = {"labels": [[0, 0, 0, 0]], "confidence": [[1, 1, 1, 1]]}
    serve_deep = serve(lambda picture: answer)
    export = artefact(palette=[[0, 0, 0]] * 3)
    arguments = ("--output", tmp_path / "out", "--export", export, "--url")
    status, _, err = client(tmp_path / "turned.png", *arguments, server.url)
    assert status == 0, err
    overlay = pixels_of(tmp_path / "out" / "turned_overlay.png")
    height, width, _ = picture.shape
    expected = pictures.load_picture(tmp_path / "turned.png")  # upright
    assert expected.shape == (width, height, 3)
    expected = pictures.overlay(expected, expected[..., 0] // 100, [[0, 0, 0]] * 3)
    np.testing.assert_array_equal(overlay[:width, :height], expected)
    assert client(tmp_path / "deep.png", *arguments, serve_deep.url)[0] == 0
    # Half of it under an overlay of class 0, black: 0, 1, 100 and 255, halved to even.
    overlay = pixels_of(tmp_path / "out" / "deep_overlay.png")
    assert overlay[0, :4, 0].tolist() == [0, 0, 50, 128]


def test_bad_images_are_named_and_skipped(serve, client, artefact, tmp_path):
    server = serve(segment)
    write_picture(tmp_path / "good.png")
    (tmp_path / "broken.jpg").write_text("no picture")
    write_picture(tmp_path / "refused.png", 77, 77)
    (tmp_path / "empty.png").write_bytes(b"")
    names = ("broken.jpg", "gone.png", "empty.png", "refused.png", "good.png")
    images = [tmp_path / name for name in names]
    status, out, err = client(
        *images, "--url", server.url, "--output", tmp_path / "out", "--export", artefact()
    )
    assert status == 1 and "1 of 5 images predicted" in out and "[5/5]" in out
    *unread, refused, last = err.splitlines()
    for number, line in enumerate(unread):
        assert f"[{number + 1}/5] skipped" in line and f"{names[number]}: cannot be read: " in line
    assert "cannot identify" in unread[0] and "No such file" in unread[1]
    assert "refused.png: HTTP 400, Unknown image file format" in refused
    assert last == "4 could not be predicted, see above"


def test_same_names_stay_apart(serve, client, artefact, tmp_path):
    server = serve(segment)
    folders = [tmp_path / name for name in ("one", "two")]
    for number, folder in enumerate(folders):
        write_picture(folder / "same.png", seed=number)
    write_picture(tmp_path / "two" / "legend.png")
    arguments = ("--url", server.url, "--export", artefact(), "--output", tmp_path / "out")
    assert client(*folders, *arguments)[0] == 0
    names = ("same", "same_2", "legend_2")
    expected = {f"{name}{end}.png" for name in names for end in ("", "_overlay")} | {"legend.png"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == expected
    # What lies in the output folder is not sent, and no given image is overwritten there.
    status, out, _ = client(tmp_path, *arguments)
    assert status == 0 and "3 of 3 images" in out
    status, _, err = client(tmp_path / "out" / "same.png", *arguments)
    assert status == 2 and "--output" in err
    status, _, err = client(tmp_path / "out", *arguments)
    assert status == 2 and "--output" in err


def test_versions_labels_and_urls(serve, client, artefact, tmp_path):
    server = serve(segment)
    write_picture(tmp_path / "a.png")
    rest = ("--output", tmp_path / "out", "--export", artefact())
    for end in ("/versions/2", "/labels/stable", "/"):
        server.requests.clear()
        url = server.url + end
        assert client(tmp_path / "a.png", "--url", url, *rest)[0] == 0
        path = ("/v1/models/name" + end).rstrip("/")
        assert server.requests == [path, path + ":predict"]
    server.requests.clear()
    wrong = ("", "localhost:8501", server.url + ":predict", server.url[:-5], "ftp://h/v1/models/n")
    for url in wrong:
        status, _, err = client(tmp_path / "a.png", "--url", url, *rest)
        assert status == 2 and err.startswith("error: --url: expected http://HOST:PORT/v1/models")
    assert not server.requests


def test_a_model_that_cannot_be_asked(serve, client, artefact, tmp_path):
    server = serve(segment)
    write_picture(tmp_path / "a.png")
    rest = ("--output", tmp_path / "out", "--export", artefact())

    def error(url):
        status, out, err = client(tmp_path / "a.png", "--url", url, *rest)
        assert status == 2 and not out and len(err.splitlines()) == 1
        assert not (tmp_path / "out").exists()
        return err

    assert "HTTP 404, Could not find any versions of model other" in error(
        server.url.replace("/name", "/other")
    )
    server.states = {"1": ("LOADING", ""), "3": ("END", "no variables in there")}
    message = error(server.url)
    assert "LOADING (1), END (3)" in message and "no variables in there" in message
    server.states = {}
    assert "received no version" in error(server.url)
    for raw in (b"<html>", b"[]", {"model": "other"}, {"model_version_status": [{}]}, b"\xff"):
        server.raw_status = 200, raw
        assert "TensorFlow Serving" in error(server.url) or "JSON object" in error(server.url)
    server.raw_status = 200, "hang up"
    assert "No answer from" in error(server.url)
    server.raw_status = 503, {"error": "busy"}
    assert "HTTP 503, busy" in error(server.url)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        message = error(f"http://127.0.0.1:{port}/v1/models/name")
    assert "refused" in message and "REST port (8501)" in message
    with socket.create_server(("127.0.0.1", 0)) as other_protocol:
        thread = threading.Thread(target=answer_as_grpc, args=(other_protocol,))
        thread.start()
        message = error(f"http://127.0.0.1:{other_protocol.getsockname()[1]}/v1/models/name")
        thread.join()
    assert "No answer" in message and "8500" in message


def answer_as_grpc(listening):
    connection, _ = listening.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00")


def test_a_server_that_fails_later(serve, client, artefact, tmp_path):
    server = serve(segment)
    for name in ("a.png", "b.png"):
        write_picture(tmp_path / name)
    images = tmp_path / "a.png", tmp_path / "b.png"
    rest = ("--url", server.url, "--output", tmp_path / "out", "--export", artefact())
    server.raw_answer = 200, "wait"
    status, _, err = client(*images, *rest, "--timeout", 0.1)
    assert status == 1 and err.count("no answer within 0.1 s") == 2 and "--timeout" in err
    server.raw_answer = 504, {"error": "Timed out"}
    status, _, err = client(*images, *rest)
    assert status == 1 and err.count("HTTP 504, Timed out") == 2
    server.raw_answer = 404, {"error": "Servable not found for request: Latest(name)"}
    status, _, err = client(*images, *rest)
    assert status == 2 and "does not know the model " + server.url + ": HTTP 404" in err
    for raw, text in (
        ("hang up", "No answer from"),
        (b"<html>a proxy</html>", "no JSON"),
        (b"[1]", "JSON object"),
        ({}, "no prediction"),
        ({"predictions": []}, "no prediction"),
        ({"predictions": [1, 2]}, "no prediction"),
        ({"predictions": [[0.5]]}, "expected labels, confidence, received [0.5]"),
        ({"predictions": [{"probabilities": []}]}, "labels, confidence, received probabilities"),
        ({"predictions": [detect(np.zeros((4, 4, 3)))]}, "Is that the folder that is served?"),
        ({"predictions": [7]}, "received 7"),
    ):
        server.raw_answer = 200, raw
        status, _, err = client(*images, *rest)
        assert status == 2 and err.startswith("error: ") and text in err, raw
        assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [[0] * 20] * 11}, "size"),
        ({"labels": [[0.5] * 20] * 12}, "'labels' is no uint8 array of shape [any, any]: [[0.5, "),
        ({"labels": [[0] * 20] * 11 + [[0]]}, "'labels' is no uint8 array"),
        ({"labels": None}, "'labels' is no uint8 array"),
        ({"labels": [0] * 20}, "'labels' is no uint8 array"),
        ({"labels": [[True] * 20] * 12}, "'labels' is no uint8 array"),
        ({"labels": [[3] * 20] * 12}, "3 to 3"),
        ({"labels": [[255] * 20] * 12}, "255"),
        ({"labels": [[-1] * 20] * 12}, "'labels' is no uint8 array"),
        ({"labels": [[256] * 20] * 12}, "'labels' is no uint8 array"),
        ({"num_detections": 6}, "num_detections"),
        ({"num_detections": -1}, "num_detections"),
        ({"num_detections": [2]}, "'num_detections' is no int32 array of shape []: [2]"),
        ({"boxes": [[0.0, 0.0, 1.0]] * 5}, "'boxes' is no float32 array of shape [5, 4]"),
        ({"boxes": [[0.0, 0.0, 1.0, float("nan")]] * 5}, "finite"),
        ({"scores": [0.9]}, "'scores' is no float32 array of shape [5]: [0.9]"),
        ({"classes": [3] * 5}, "labels from 3 to 3"),
        ({"classes": ["car"] * 5}, "'classes' is no int32 array of shape [5]: ['car'"),
        ({"classes": [2**40] * 5}, "'classes' is no int32 array"),
    ],
)
def test_answers_that_do_not_fit_the_image(serve, client, artefact, tmp_path, changes, message):
    """They are named with the image and skipped: nothing wrong is drawn."""
    task, model = ("segmentation", segment) if "labels" in changes else ("detection", detect)
    server = serve(lambda picture: model(picture) | changes)
    write_picture(tmp_path / "a.png")
    status, out, err = client(
        *(tmp_path / "a.png", "--url", server.url, "--output", tmp_path / "out"),
        *("--export", artefact(task)),
    )
    assert status == 1 and "0 of 1 images" in out and message in err and "a.png: " in err
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written <= {"legend.png", "voc", "mot"}


def test_errors_that_are_no_json(serve, client, artefact, tmp_path):
    """TensorFlow Serving 1 escapes messages as C does; proxies send pages, or nothing."""
    server = serve(segment)
    write_picture(tmp_path / "a.png")
    arguments = (tmp_path / "a.png", "--url", server.url, "--output", tmp_path / "out")
    arguments += ("--export", artefact())
    for content, text in (
        (rb'{ "error": "one named \'image\'" }', "HTTP 400, { "),
        (b"<html>Bad Request</html>", "HTTP 400, <html>Bad Request"),
        (b'{"reason": 1}', 'HTTP 400, {"reason": 1}'),
        (b"", "HTTP 400, Bad Request"),
    ):
        server.raw_answer = 400, content
        status, _, err = client(*arguments)
        assert status == 1 and text in err


def test_model_json_that_cannot_be_used(serve, client, artefact, tmp_path):
    server = serve(segment)
    write_picture(tmp_path / "a.png")
    rest = (tmp_path / "a.png", "--url", server.url, "--output", tmp_path / "out")

    def error(path):
        status, _, err = client(*rest, "--export", path)
        assert status == 2 and not server.requests
        return err

    assert "no folder" in error(tmp_path / "nowhere")
    assert "Give the SavedModel that is served" in error(artefact(format="onnx", signatures={}))
    assert "no task 'poetry'" in error(artefact("poetry"))
    version = artefact()
    (version / "assets" / "model.json").write_text('{"format_version": 2}')  # all else renamed
    assert "format_version is 2, this one reads 1" in error(version)
    for text in ("{", "[]", "{}", '{"format_version": "1"}'):
        (version / "assets" / "model.json").write_text(text)
        assert "model.json is damaged" in error(version) or "lacks" in error(version)


def test_needs_neither_tensorflow_nor_keras(serve, artefact, tmp_path):
    server = serve(segment)
    write_picture(tmp_path / "a.png")
    output = tmp_path / "out"
    arguments = ["serve-client", tmp_path / "a.png", "--url", server.url, "--output", output]
    arguments = [*map(str, arguments), "--export", str(artefact())]
    program = f"""
import sys
for name in ("tensorflow", "keras", "tensorflow_datasets", "tensorflow_serving", "grpc"):
    sys.modules[name] = None  # importing it raises ImportError
from kerasdense.cli.main import main
main({arguments!r})
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "no_proxy": "127.0.0.1"},
    )
    assert done.returncode == 0, done.stderr
    assert "1 of 1 images" in done.stdout and (output / "a.png").is_file()


def test_what_an_export_answers(serve, client, tmp_path):
    """The stub with a model exported as users do it: names, types and model.json fit together."""
    import keras
    import tensorflow as tf

    from kerasdense import tasks
    from kerasdense.export.artefact import export
    from kerasdense.export.predictor import Predictor

    keras.utils.set_random_seed(0)
    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    x = keras.layers.Rescaling(1 / 64, offset=-2)(images)
    logits = keras.layers.Conv2D(3, 3, padding="same", name="logits")(x)
    task = tasks.named("segmentation")(NAMES, PALETTE)
    version = export(keras.Model(images, logits), task, tmp_path / "name")
    encoded = tf.saved_model.load(str(version)).signatures["encoded"]

    def model(picture):
        outputs = encoded(image_bytes=tf.io.encode_png(picture)[None])
        return {name: value.numpy()[0].tolist() for name, value in outputs.items()}

    server = serve(model)
    picture = write_picture(tmp_path / "a.png", 65, 90)
    status, _, err = client(
        *(tmp_path / "a.png", "--url", server.url),
        *("--output", tmp_path / "out", "--export", version),
    )
    assert status == 0, err
    expected = Predictor(version).predict(picture[None])["labels"][0]
    assert len(np.unique(expected)) > 1
    np.testing.assert_array_equal(pixels_of(tmp_path / "out" / "a.png"), expected)
