"""The same work by others: torchvision's FCN and SSD300, KerasHub's DeepLabV3+.

B batch, H W size.
"""

import dataclasses
import importlib
import re
import sys
from importlib import util

from kerasdense.benchmarks.memory import DeviceMemory, ResidentMemory
from kerasdense.benchmarks.workloads import (
    LEARNING_RATE,
    MOMENTUM,
    keras_device,
    keras_steps,
)

PACKAGES = ("torchvision", "keras_hub")


def installed():
    """Which of PACKAGES are; prints which are not. Raises: ValueError if none is."""
    found = [name for name in PACKAGES if util.find_spec(name)]
    for name in PACKAGES:
        if name not in found:
            print(f"{name} is not installed and left out")
    if not found:
        raise ValueError("No peers: install torch and torchvision, or keras-hub, beside this.")
    return found


def comparisons(like, packages):
    """What is compared, ours first: {title: {label: Workload}}.

    `like`: a `Workload` with the work, size, batch size, precision and backend that all have;
    `packages`: those of PACKAGES to compare with.
    """
    size = "x".join(map(str, like.size))
    ours = dataclasses.replace(like, model="fcn_resnet50", options={"output_stride": 8}, classes=21)
    strided = dataclasses.replace(ours, options={"output_stride": 32, "skips": [16, 8, 4]})
    ssd = dataclasses.replace(
        ours, model="ssd300", options={"scales": "coco"}, size=(300, 300), classes=90
    )
    found = {}
    if "torchvision" in packages:
        found[f"FCN, {size}"] = {
            "kerasdense fcn_resnet50, output stride 8": ours,
            "torchvision fcn_resnet50, 1x1 head": _in_torch(ours, "fcn_resnet50"),
        }
    if "keras_hub" in packages:
        theirs = dataclasses.replace(strided, model="deeplab_v3", options={}, package="keras_hub")
        found[f"strided ResNet-50, {size}"] = {
            "kerasdense fcn_resnet50, skips to 1/4": strided,
            "keras_hub DeepLabV3+": theirs,
        }
    if "torchvision" in packages and like.work == "infer":  # theirs has its loss inside the model
        found["SSD300, no boxes decoded"] = {
            "kerasdense ssd300": ssd,
            "torchvision ssd300_vgg16": _in_torch(ssd, "ssd300_vgg16"),
        }
    return found


def _in_torch(workload, model):
    return dataclasses.replace(
        workload, model=model, options={}, package="torchvision", backend="torch"
    )


def build_torchvision(workload):
    """As `workloads.build`, of torchvision's `fcn_resnet50` and `ssd300_vgg16`."""
    import torch

    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    memory = ResidentMemory()
    if gpu:
        memory = DeviceMemory(torch.cuda.max_memory_allocated, torch.cuda.reset_peak_memory_stats)
    model, size = _torchvision_model(workload)
    model = model.to(device).train(workload.work == "train")
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(
        0, 256, (workload.batch_size, 3, *size), dtype=torch.uint8, generator=generator
    ).to(device)
    labels = torch.randint(
        0, workload.classes, (workload.batch_size, *size), generator=generator
    ).to(device)
    half = workload.precision != "float32"
    context = torch.autocast(device.type, torch.bfloat16, enabled=half)
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, momentum=MOMENTUM)

    def forward():
        return model(images.float() - 117)

    def train_step():
        optimizer.zero_grad()
        with context:
            loss = torch.nn.functional.cross_entropy(forward(), labels, ignore_index=255)
        loss.backward()
        optimizer.step()

    def infer_step():
        with torch.inference_mode(), context:
            forward()

    step = train_step if workload.work == "train" else infer_step

    def run(steps):
        for _ in range(steps):
            step()
        if gpu:
            torch.cuda.synchronize()

    facts = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "macs": _torch_macs(model, forward) // workload.batch_size,
        "size": size,
        "device": torch.cuda.get_device_name() if gpu else "CPU",
    }
    return run, facts, memory


def _torch_macs(model, forward):
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    mode, training = FlopCounterMode(display=False), model.training
    with mode, torch.inference_mode():
        model.eval()
        forward()
    model.train(training)
    return mode.get_total_flops() // 2


def _torchvision_model(workload):
    import torch

    if workload.model == "ssd300_vgg16":
        ssd = torchvision_ssd300(workload.classes)

        class Raw(torch.nn.Module):  # what our SSD gives: no boxes decoded
            def __init__(self):
                super().__init__()
                self.ssd = ssd

            def forward(self, images):
                return self.ssd.head(list(self.ssd.backbone(images).values()))

        return Raw(), (300, 300)
    torchvision = _importable_torchvision("models.segmentation")
    network = torchvision.fcn_resnet50(
        weights=None, weights_backbone=None, num_classes=workload.classes
    )
    # One 1x1 convolution, as in Shelhamer et al. and in ours, for its head of 9.4 M parameters.
    network.classifier = torch.nn.Conv2d(2048, workload.classes, 1)

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, images):
            return self.network(images)["out"]

    return Logits(), workload.size


def torchvision_ssd300(classes=90):
    """torchvision's SSD300 with random weights, for `classes` classes and background."""
    detection = _importable_torchvision("models.detection")
    return detection.ssd300_vgg16(weights=None, weights_backbone=None, num_classes=classes + 1)


def _importable_torchvision(module):
    """A module of torchvision, also from a wheel without compiled operators."""
    import torch

    while True:
        try:
            return importlib.import_module(f"torchvision.{module}")
        except RuntimeError as error:
            missing = re.search(r"operator (torchvision::\w+) does not exist", str(error))
            if not missing:
                raise
            # Declared, not defined: the raw network calls none of them.
            torch.library.define(missing[1], "(Tensor a, Tensor b, float c) -> Tensor")
            for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
                del sys.modules[name]


def build_keras_hub(workload):
    """As `workloads.build`, of KerasHub's DeepLabV3+ on a ResNet-50 of output stride 32.

    KerasHub's upsampling takes a level's name for its stride, so a dilated encoder would double
    the size of the logits.
    """
    import keras
    import keras_hub

    memory, device = keras_device()
    keras.config.set_dtype_policy(workload.precision)
    shape = (*workload.size, 3)
    encoder = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[3, 4, 6, 3],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="bottleneck_block",
        image_shape=shape,
    )
    backbone = keras_hub.models.DeepLabV3Backbone(
        image_encoder=encoder,
        low_level_feature_key="P2",
        spatial_pyramid_pooling_key="P5",
        dilation_rates=[6, 12, 18],
        upsampling_size=8,
        image_shape=shape,
    )
    model = keras_hub.models.DeepLabV3ImageSegmenter(
        backbone=backbone, num_classes=workload.classes, activation=None
    )
    facts = {
        "parameters": model.count_params(),
        "macs": None,
        "size": workload.size,
        "device": device,
    }
    return keras_steps(model, workload, workload.size, "float32"), facts, memory
