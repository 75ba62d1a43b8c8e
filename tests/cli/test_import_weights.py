"""import: a state dict of torchvision's ssd300_vgg16 becomes a run that computes the same numbers.

Reading the file needs PyTorch; what follows does not, and is tested with a state dict in its place.
"""

import argparse
import json
import sys

import numpy as np
import pytest

from kerasdense.benchmarks import peers
from kerasdense.boxes.anchors import ssd300_anchors
from kerasdense.cli.main import main
from kerasdense.models import ssd300, torchvision
from kerasdense.models.ssd import anchors_of
from kerasdense.training import run_folder

NUM_CLASSES = 3  # without background


def state_of(num_classes):
    """A state dict with random weights, {name: array}, by the names that its layers have."""
    model = ssd300(num_classes, weights=None)
    state = {torchvision.SCALE: np.linspace(15, 25, 512, dtype=np.float32)}
    rng = np.random.default_rng(0)
    for layer, module in torchvision.CONVOLUTIONS.items():
        kernel, bias = model.get_layer(layer).get_weights()
        kernel *= 20 if layer.startswith("head") else 1  # to logits of order 1
        state[f"{module}.weight"] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
        state[f"{module}.bias"] = rng.standard_normal(bias.shape, np.float32) / 10
    return state


@pytest.fixture(scope="module")
def state():
    return state_of(NUM_CLASSES)


@pytest.fixture(scope="module")
def small():
    return state_of(1)


@pytest.fixture
def command(capsys):
    """Runs the command: (exit status, standard output, standard error)."""

    def call(*arguments):
        with pytest.raises(SystemExit) as exit_:
            main(["import", *arguments])
        return exit_.value.code or 0, *capsys.readouterr()

    return call


@pytest.fixture
def read(monkeypatch, tmp_path):
    """Lets a file be read as a state dict, and returns its path."""

    def give(state):
        monkeypatch.setattr(torchvision, "read_state_dict", lambda path: state)
        (tmp_path / "state.pth").touch()
        return tmp_path / "state.pth"

    return give


def refused(command, *arguments):
    status, _, err = command(*arguments)
    assert status == 2 and len(err.splitlines()) == 1 and err.startswith("error: "), err
    return err


def test_the_run_folder_says_what_it_holds(read, state, command, tmp_path):
    status, out, err = command(read(state), tmp_path / "run")
    assert status == 0, err
    assert "ssd300 of 3 classes, 71 tensors imported" in out  # 35 convolutions and the scales
    model, facts = run_folder.load_run(tmp_path / "run")
    assert facts["task"] == "detection"
    arguments = {"scales": "coco", "clip_anchors": True}
    assert facts["model"] == {"name": "ssd300", "arguments": arguments}
    assert facts["command"] == f"kerasdense import {tmp_path}/state.pth {tmp_path}/run"
    dataset = facts["dataset"]
    assert dataset["class_names"] == ["class_1", "class_2", "class_3"]
    assert dataset["palette"] == [[128, 0, 0], [0, 128, 0], [128, 128, 0]]  # VOC's, from 1 on
    assert dataset["source"] is None and dataset["splits"] == {}
    np.testing.assert_array_equal(anchors_of(model), ssd300_anchors("coco", clip=True))
    expected = state["backbone.extra.0.7.1.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(model.get_layer("fc6").kernel, expected)


def test_names_of_the_classes(read, small, command, tmp_path):
    (tmp_path / "names.txt").write_text("cat\n\n")
    run = tmp_path / "run"
    status, _, err = command(read(small), run, "--classes", tmp_path / "names.txt")
    assert status == 0, err
    assert run_folder.read_run(run)["dataset"]["class_names"] == ["cat"]
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    arguments = (tmp_path / "state.pth", tmp_path / "other", "--classes")
    err = refused(command, *arguments, tmp_path / "names.txt")
    assert "names 2 classes" in err and "has 1 (the background" in err
    assert "absent.txt' does not exist" in refused(command, *arguments, tmp_path / "absent.txt")


def test_a_state_dict_that_does_not_fit(read, small, command, tmp_path):
    run = tmp_path / "run"
    path = read({name: value for name, value in small.items() if name != torchvision.SCALE})
    assert "backbone.scale_weight is missing" in refused(command, path, run)
    path = read({"fc.weight": np.zeros(1)})
    assert "is no state dict of torchvision's ssd300_vgg16" in refused(command, path, run)
    assert not run.exists()


def test_no_file_and_a_folder_in_use(command, tmp_path):
    assert "There is no file" in refused(command, tmp_path / "absent.pth", tmp_path / "run")
    (tmp_path / "state.pth").touch()
    assert "is not empty" in refused(command, tmp_path / "state.pth", tmp_path)


def test_without_pytorch(tmp_path, command, monkeypatch):
    (tmp_path / "state.pth").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch", None)
    err = refused(command, tmp_path / "state.pth", tmp_path / "run")
    assert "PyTorch, which is not installed: pip install torch" in err


# --- with PyTorch ------------------------------------------------------------------------------


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def test_a_training_checkpoint(torch, tmp_path, small, command):
    tensors = {name: torch.tensor(value) for name, value in small.items()}
    checkpoint = {"model": tensors, "epoch": 3, "args": argparse.Namespace(lr=0.1)}
    torch.save(checkpoint, tmp_path / "checkpoint.pth")
    status, out, err = command(tmp_path / "checkpoint.pth", tmp_path / "run")
    assert status == 0, err
    assert "ssd300 of 1 classes, 71 tensors imported" in out
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["dataset"]["class_names"] == ["class_1"]
    model, _ = run_folder.load_run(tmp_path / "run")
    np.testing.assert_array_equal(
        model.get_layer("head1_boxes").bias, small["head.regression_head.module_list.0.bias"]
    )


def test_files_that_cannot_be_read(torch, tmp_path, small, command):
    torch.save({name: torch.tensor(value) for name, value in small.items()}, tmp_path / "whole.pth")
    content = (tmp_path / "whole.pth").read_bytes()
    for name, part in {"cut": content[:100_000], "text": b"no weights", "empty": b""}.items():
        (tmp_path / f"{name}.pth").write_bytes(part)
        err = refused(command, tmp_path / f"{name}.pth", tmp_path / "run")
        assert f"{name}.pth cannot be read" in err
    for content in ([torch.zeros(1)], {"epoch": 3}):
        torch.save(content, tmp_path / "other.pth")
        err = refused(command, tmp_path / "other.pth", tmp_path / "run")
        assert f"holds no state dict, a dict of tensors, but a {type(content).__name__}" in err
    assert not (tmp_path / "run").exists()


def test_the_model_computes_what_torchvision_does(torch, tmp_path, state, command):
    try:
        theirs = peers.torchvision_ssd300(NUM_CLASSES).eval()
    except ModuleNotFoundError:
        pytest.skip("torchvision is not installed")
    tensors = {name: torch.tensor(value) for name, value in state.items()}
    theirs.load_state_dict(tensors)
    torch.save(tensors, tmp_path / "state.pth")
    assert command(tmp_path / "state.pth", tmp_path / "run")[0] == 0
    model, _ = run_folder.load_run(tmp_path / "run")
    # Coarse patterns, so that all levels see something.
    images = np.random.default_rng(0).integers(0, 256, (2, 12, 12, 3), "uint8")
    images = images.repeat(25, axis=1).repeat(25, axis=2)
    with torch.inference_mode():
        floats = [torch.tensor(image).permute(2, 0, 1) / 255 for image in images]
        features = list(theirs.backbone(theirs.transform(floats)[0].tensors).values())
        heads = theirs.head(features)
        anchors = theirs.anchor_generator(theirs.transform(floats)[0], features)[0]
    expected = torch.cat([heads["cls_logits"], heads["bbox_regression"]], dim=2).numpy()
    assert 0.5 < np.sqrt(np.mean(expected**2)) < 20
    # Its mean color differs from ours by 1e-3 gray levels.
    np.testing.assert_allclose(model.predict_on_batch(images), expected, rtol=0, atol=1e-3)
    # Its anchors are corners in pixels, and the layer that knows ours says the same.
    ours = anchors_of(model)
    centers = (anchors[:, :2] + anchors[:, 2:]) / 2 / 300
    np.testing.assert_allclose(ours[:, :2], centers, atol=1e-5)
    np.testing.assert_allclose(ours[:, 2:], (anchors[:, 2:] - anchors[:, :2]) / 300, atol=1e-5)
