"""A state dict of torchvision's ssd300_vgg16 becomes a run that computes the same numbers."""

import argparse
import importlib.util
import json
import re
import sys

import numpy as np
import pytest
from conftest import REPOSITORY
from test_scripts import run

from kerasdense.benchmarks import measuring
from kerasdense.training import run_folder
from kerasdense.models.ssd import anchors_of
from kerasdense.boxes.anchors import ssd300_anchors

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
functional = torch.nn.functional

NUM_CLASSES = 3  # without background
MEAN = (123.0, 117.0, 104.0)  # red, green, blue
ANCHORS = (4, 6, 6, 6, 4, 4)


def shapes(num_classes=NUM_CLASSES):
    """{name: shape} of the state dict of torchvision's ssd300_vgg16."""
    features = {
        0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128), 12: (256, 256),
        14: (256, 256), 17: (512, 256), 19: (512, 512), 21: (512, 512),
    }  # fmt: skip
    kernels = {f"backbone.features.{n}": (*shape, 3, 3) for n, shape in features.items()}
    kernels |= {f"backbone.extra.0.{n}": (512, 512, 3, 3) for n in (1, 3, 5)}
    kernels["backbone.extra.0.7.1"] = (1024, 512, 3, 3)
    kernels["backbone.extra.0.7.3"] = (1024, 1024, 1, 1)
    extras = ((1024, 256, 512), (512, 128, 256), (256, 128, 256), (256, 128, 256))
    for n, (source, reduced, filters) in enumerate(extras, start=1):
        kernels[f"backbone.extra.{n}.0"] = (reduced, source, 1, 1)
        kernels[f"backbone.extra.{n}.2"] = (filters, reduced, 3, 3)
    for n, (width, k) in enumerate(zip((512, 1024, 512, 256, 256, 256), ANCHORS)):
        rows = {"classification": k * (num_classes + 1), "regression": 4 * k}
        for head, count in rows.items():
            kernels[f"head.{head}_head.module_list.{n}"] = (count, width, 3, 3)
    found = {"backbone.scale_weight": (512,)}
    for name, shape in kernels.items():
        found |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return found


def random_state(num_classes=NUM_CLASSES, seed=0):
    """Random weights, of a size that keeps activations of order 1, and predictions of order 3."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes(num_classes).items():
        value = torch.randn(shape, generator=generator)
        if name.endswith("weight") and len(shape) == 4:
            gain = 3.0 if name.startswith("head") else 2**0.5
            value *= gain / (shape[1] * shape[2] * shape[3]) ** 0.5
        if name == "backbone.features.0.weight":
            value /= 70  # the deviation of the input
        if name == "backbone.scale_weight":
            value += 20
        state[name] = value
    return state


def published_network(state, images):
    """The raw output of the published network, restated: images uint8 [B, 300, 300, 3], RGB."""

    def convolve(x, name, **options):
        return functional.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **options)

    x = torch.tensor(images).permute(0, 3, 1, 2).float() - torch.tensor(MEAN).reshape(1, 3, 1, 1)
    for n in (0, 2, "pool", 5, 7, "pool", 10, 12, 14, "pool", 17, 19, 21):
        if n == "pool":
            x = functional.max_pool2d(x, 2, ceil_mode=True)
        else:
            x = convolve(x, f"backbone.features.{n}", padding=1).relu()
    scale = state["backbone.scale_weight"].reshape(1, 512, 1, 1)
    levels = [functional.normalize(x) * scale]
    x = functional.max_pool2d(x, 2)
    for n in (1, 3, 5):
        x = convolve(x, f"backbone.extra.0.{n}", padding=1).relu()
    x = functional.max_pool2d(x, 3, stride=1, padding=1)
    x = convolve(x, "backbone.extra.0.7.1", padding=6, dilation=6).relu()
    levels.append(convolve(x, "backbone.extra.0.7.3").relu())
    for n in (1, 2, 3, 4):
        x = convolve(levels[-1], f"backbone.extra.{n}.0").relu()
        options = {"stride": 2, "padding": 1} if n < 3 else {}
        levels.append(convolve(x, f"backbone.extra.{n}.2", **options).relu())
    rows = []
    for n, x in enumerate(levels):
        parts = [
            convolve(x, f"head.{head}_head.module_list.{n}", padding=1)
            .permute(0, 2, 3, 1)  # a cell's channels are those of its anchors, one by one
            .reshape(len(images), x.shape[2] * x.shape[3] * ANCHORS[n], -1)
            for head in ("classification", "regression")
        ]
        rows.append(torch.cat(parts, dim=2))
    return torch.cat(rows, dim=1).numpy()


def torchvision_model():
    """torchvision's own network, or None where it is not installed."""
    try:
        return measuring.torchvision_ssd300(NUM_CLASSES).eval()
    except ModuleNotFoundError:
        return None


def images(count=2):
    """Coarse patterns, so that all levels see something."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 12, 12, 3), "uint8").repeat(25, axis=1).repeat(25, axis=2)


@pytest.fixture
def script(monkeypatch, capsys):
    return lambda *arguments: run(monkeypatch, capsys, "import_torchvision_ssd300", *arguments)


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A state dict, the run folder made of it, and what the script printed."""
    place, state = tmp_path_factory.mktemp("import"), random_state()
    torch.save(state, place / "state.pth")

    class Capture:
        def readouterr(self):
            return type("Output", (), {"out": "", "err": ""})

    with pytest.MonkeyPatch.context() as monkeypatch:
        arguments = (place / "state.pth", place / "run")
        status, *_ = run(monkeypatch, Capture(), "import_torchvision_ssd300", *arguments)
    assert status == 0
    return state, place / "run"


def test_the_model_computes_what_the_published_network_does(imported):
    state, folder = imported
    model, _ = run_folder.load_run(folder)
    raw = model.predict_on_batch(images())
    with torch.inference_mode():
        expected = published_network(state, images())
    assert raw.shape == expected.shape == (2, 8732, NUM_CLASSES + 1 + 4)
    # Of order 1 to 10 on every level, so that an absolute 1e-3 is a strict test of each.
    for first, last in ((0, 5776), (5776, 7942), (7942, 8542), (8542, 8692), (8692, 8732)):
        assert 0.5 < np.sqrt(np.mean(expected[:, first:last] ** 2)) < 20
    np.testing.assert_allclose(raw, expected, rtol=0, atol=1e-3)


def test_the_model_computes_what_torchvision_does(imported):
    theirs = torchvision_model()
    if theirs is None:
        pytest.skip("torchvision is not installed")
    state, folder = imported
    model, _ = run_folder.load_run(folder)
    theirs.load_state_dict(state)
    with torch.inference_mode():
        floats = [torch.tensor(image).permute(2, 0, 1) / 255 for image in images()]
        features = list(theirs.backbone(theirs.transform(floats)[0].tensors).values())
        heads = theirs.head(features)
        anchors = theirs.anchor_generator(theirs.transform(floats)[0], features)[0]
    expected = torch.cat([heads["cls_logits"], heads["bbox_regression"]], dim=2).numpy()
    # Its mean color differs from ours by 1e-3 gray levels.
    np.testing.assert_allclose(model.predict_on_batch(images()), expected, rtol=0, atol=1e-3)
    # Its anchors are corners in pixels, and the layer that knows ours says the same.
    ours = anchors_of(model)
    centers = (anchors[:, :2] + anchors[:, 2:]) / 2 / 300
    np.testing.assert_allclose(ours[:, :2], centers, atol=1e-5)
    np.testing.assert_allclose(ours[:, 2:], (anchors[:, 2:] - anchors[:, :2]) / 300, atol=1e-5)


def test_the_run_folder_says_what_it_holds(imported):
    _, folder = imported
    facts = run_folder.read_run(folder)
    assert facts["task"] == "detection"
    arguments = {"scales": "coco", "clip_anchors": True}
    assert facts["model"] == {"name": "ssd300", "arguments": arguments}
    dataset = facts["dataset"]
    assert dataset["class_names"] == ["class_1", "class_2", "class_3"]
    assert dataset["palette"] == [[128, 0, 0], [0, 128, 0], [128, 128, 0]]  # VOC's, from 1 on
    assert dataset["source"] is None and dataset["splits"] == {}
    model, _ = run_folder.load_run(folder)
    np.testing.assert_array_equal(anchors_of(model), ssd300_anchors("coco", clip=True))


def test_a_training_checkpoint_and_names_of_the_classes(tmp_path, script):
    checkpoint = {"model": random_state(1), "epoch": 3, "args": argparse.Namespace(lr=0.1)}
    torch.save(checkpoint, tmp_path / "checkpoint.pth")
    (tmp_path / "names.txt").write_text("cat\n\n")
    status, out, err = script(
        tmp_path / "checkpoint.pth", tmp_path / "run", "--classes", tmp_path / "names.txt"
    )
    assert status == 0, err
    assert "ssd300 of 1 classes, 71 tensors imported" in out  # 35 convolutions and the scales
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["dataset"]["class_names"] == ["cat"]


def test_the_names_of_coco():
    path = REPOSITORY / "scripts" / "import_torchvision_ssd300.py"
    spec = importlib.util.spec_from_file_location("importer", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    names = module.default_names(90)
    assert len(names) == len(set(names)) == 90
    # 80 categories have the ids 1 to 90; these ten ids are not used.
    unused = [12, 26, 29, 30, 45, 66, 68, 69, 71, 83]
    assert [index + 1 for index, name in enumerate(names) if name.startswith("unused")] == unused
    assert (names[0], names[16], names[89]) == ("person", "cat", "toothbrush")


def changed(**changes):
    """The state dict with some entries replaced, or left out where None."""
    state = random_state(1) | {name.replace("__", "."): value for name, value in changes.items()}
    return {name: value for name, value in state.items() if value is not None}


@pytest.mark.parametrize(
    "content, message",
    [
        (lambda: changed(backbone__scale_weight=None), "backbone.scale_weight is missing"),
        (
            lambda: {name: x for name, x in random_state(1).items() if "extra" not in name},
            "backbone.extra.0.1.weight is missing.*, and 23 more",
        ),
        (
            lambda: {
                **random_state(1),
                "backbone.extra.1.0.weight": torch.zeros(256, 512, 1, 1),
            },
            r"backbone.extra.1.0.weight is \(256, 512, 1, 1\), expected \(256, 1024, 1, 1\)",
        ),
        (lambda: {**random_state(1), "fc.weight": torch.zeros(1)}, "fc.weight is unknown"),
        (lambda: {"fc.weight": torch.zeros(1)}, "is no state dict of torchvision's ssd300_vgg16"),
        (lambda: [torch.zeros(1)], "holds no state dict, a dict of tensors, but a list"),
        (lambda: {"epoch": 3}, "holds no state dict"),
    ],
)
def test_a_state_dict_that_does_not_fit(tmp_path, script, content, message):
    torch.save(content(), tmp_path / "state.pth")
    status, _, err = script(tmp_path / "state.pth", tmp_path / "run")
    assert status == 2 and len(err.splitlines()) == 1, err
    assert err.startswith("error: ") and re.search(message, err), err
    assert not (tmp_path / "run").exists()


def test_files_that_cannot_be_read(tmp_path, script):
    torch.save(random_state(1), tmp_path / "whole.pth")
    content = (tmp_path / "whole.pth").read_bytes()
    for name, part in {"cut": content[:100_000], "text": b"no weights", "empty": b""}.items():
        (tmp_path / f"{name}.pth").write_bytes(part)
        status, _, err = script(tmp_path / f"{name}.pth", tmp_path / "run")
        assert status == 2 and f"{name}.pth cannot be read" in err, err
        assert len(err.splitlines()) == 1
    status, _, err = script(tmp_path / "absent.pth", tmp_path / "run")
    assert status == 2 and "There is no file" in err


def test_wrong_classes_and_a_folder_in_use(tmp_path, script):
    torch.save(random_state(1), tmp_path / "state.pth")
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    status, _, err = script(
        tmp_path / "state.pth", tmp_path / "run", "--classes", tmp_path / "names.txt"
    )
    assert status == 2 and "names 2 classes" in err and "has 1 (the background" in err
    status, _, err = script(tmp_path / "state.pth", tmp_path)
    assert status == 2 and "is not empty" in err


def test_without_pytorch(tmp_path, script, monkeypatch):
    (tmp_path / "state.pth").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch", None)
    status, _, err = script(tmp_path / "state.pth", tmp_path / "run")
    assert status == 2 and "PyTorch, which is not installed: pip install torch" in err
