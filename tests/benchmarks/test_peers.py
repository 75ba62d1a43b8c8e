"""What is compared with other packages, and torchvision's own networks where it is installed."""

from importlib import util

import pytest

from kerasdense.benchmarks import peers
from kerasdense.benchmarks.workloads import Workload

INFER = Workload("infer", "", {}, (64, 96), batch_size=2, backend="jax")


def test_each_comparison_has_ours_first_and_the_same_work():
    found = peers.comparisons(INFER, peers.PACKAGES)
    assert list(found) == ["FCN, 64x96", "strided ResNet-50, 64x96", "SSD300, no boxes decoded"]
    for rows in found.values():
        ours, theirs = rows.values()
        assert ours.package == "kerasdense" and theirs.package in peers.PACKAGES
        assert (ours.size, ours.batch_size, ours.classes) == (
            theirs.size, theirs.batch_size, theirs.classes
        )  # fmt: skip
        assert ours.backend == "jax" and ours.work == theirs.work == "infer" and not theirs.options
        assert theirs.backend == ("torch" if theirs.package == "torchvision" else "jax")


def test_what_is_not_installed_or_has_no_such_work_is_left_out():
    train = Workload("train", "", {}, (64, 96))
    assert list(peers.comparisons(train, ["torchvision"])) == ["FCN, 64x96"]
    assert list(peers.comparisons(INFER, ["keras_hub"])) == ["strided ResNet-50, 64x96"]


@pytest.mark.skipif(util.find_spec("torchvision") is None, reason="torchvision is not installed")
def test_torchvisions_ssd_gives_what_ours_does():
    workload = Workload("infer", "ssd300_vgg16", {}, (300, 300), classes=3, package="torchvision")
    run, facts, _ = peers.build_torchvision(workload)
    run(1)
    assert facts["size"] == (300, 300) and facts["macs"] > 0
