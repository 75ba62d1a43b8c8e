"""The same work by others: torchvision's FCN and SSD300, KerasHub's DeepLabV3+.

B batch, H W size.
"""

import dataclasses
import importlib
import re
import sys
from importlib import util

from kerasdense.benchmarks import runtimes
from kerasdense.benchmarks.memory import DeviceMemory, ResidentMemory
from kerasdense.benchmarks.turns import times_as_fast
from kerasdense.benchmarks.workloads import (
    LEARNING_RATE,
    MOMENTUM,
    background_offset,
    keras_device,
    keras_steps,
    random_images,
)

PACKAGES = ("torchvision", "keras_hub")
TORCH_ROWS = ("eager", "channels_last", "compiled")  # `runtime` of a `Workload`


def installed():
    """Which of PACKAGES are; prints which are not. Raises: ValueError if none is."""
    found = [name for name in PACKAGES if util.find_spec(name)]
    for name in PACKAGES:
        if name not in found:
            print(f"{name} is not installed and left out")
    if not found:
        raise ValueError("No peers: install torch and torchvision, or keras-hub, beside this.")
    return found


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The same work by several: `rows`, {label: Workload}; `left_out`, why others are no rows."""

    rows: dict
    left_out: list


def comparisons(like, precisions, packages):
    """What is compared: {title: Comparison}, the rows by precision, theirs before ours.

    Args:
        like: a `Workload` with the work, size, batch size and backend that all have.
        precisions: dtype policies of Keras.
        packages: those of PACKAGES to compare with.
    """
    found = {}
    for precision in precisions:
        of_precision = dataclasses.replace(like, precision=precision)
        for title, (theirs, ours, left_out) in _groups(of_precision, packages).items():
            comparison = found.setdefault(title, Comparison({}, []))
            comparison.left_out.extend(why for why in left_out if why not in comparison.left_out)
            for name, workload in (theirs | ours).items():
                comparison.rows[f"{workload.computed_in} {name}"] = workload
    return found


def _groups(like, packages):
    """Of one precision: {title: (their rows, our rows, why others are left out)}."""
    size = "x".join(map(str, like.size))
    fcn = dataclasses.replace(like, model="fcn_resnet50", options={"output_stride": 8}, classes=21)
    strided = dataclasses.replace(fcn, options={"output_stride": 32, "skips": [16, 8, 4]})
    ssd = dataclasses.replace(
        fcn, model="ssd300", options={"scales": "coco"}, size=(300, 300), classes=90
    )
    found = {}
    if "torchvision" in packages:
        theirs = _in_torch(fcn, "fcn_resnet50")
        found[f"FCN on ResNet-50, output stride 8, {size}"] = theirs, *_ours(fcn)
    if "keras_hub" in packages:
        hub = dataclasses.replace(strided, model="deeplab_v3", options={}, package="keras_hub")
        ours = {"kerasdense fcn_resnet50, skips to 1/4": strided}
        found[f"strided ResNet-50, {size}"] = {"keras_hub DeepLabV3+": hub}, ours, []
    if "torchvision" in packages and like.work == "infer":  # theirs has its loss inside the model
        theirs = _in_torch(ssd, "ssd300_vgg16")
        found["SSD300, no boxes decoded"] = theirs, *_ours(ssd)
        if runtimes.can_export(like):
            found["SSD300 with boxes"] = _with_boxes(dataclasses.replace(ssd, work="detect"))
    return found


def _ours(workload):
    """Our rows of a workload, and why others are left out."""
    if workload.work == "train" or not runtimes.can_export(workload):
        return {"kerasdense Keras": workload}, []
    rows, left_out = runtimes.exported(workload)
    return {f"kerasdense {name}": row for name, row in rows.items()}, left_out


def _with_boxes(workload):
    theirs, (ours, left_out) = {}, _ours(workload)
    if _torchvision_suppresses():
        theirs = _in_torch(workload, "ssd300_vgg16")
    else:
        left_out = ["torchvision is left out: its wheel lacks the operator nms", *left_out]
    return theirs, ours, left_out


def _in_torch(workload, model):
    return {
        f"torchvision {runtime}": dataclasses.replace(
            workload,
            model=model,
            options={},
            package="torchvision",
            backend="torch",
            runtime=runtime,
        )
        for runtime in TORCH_ROWS
    }


def fastest(rows, measured):
    """The best of ours beside the best of theirs, a dict for each precision of the rows.

    `rows`: {label: Workload}; `measured`: of `processes.measure`, of which each result gets
    `of_theirs`: its time over that of their fastest row of its precision, the median over the
    turns; None where there is none.

    Returns a list of dicts: `precision` ("float32" or "bfloat16"), `ours` and `theirs`, the labels
    of the fastest rows, and `of_theirs` of ours. None stands where nothing was measured.
    """
    found = []
    for precision in dict.fromkeys(row.computed_in for row in rows.values()):
        seconds = {
            label: measured[label]["seconds"]
            for label, row in rows.items()
            if row.computed_in == precision and "seconds" in measured[label]
        }
        ours = [label for label in seconds if rows[label].package == "kerasdense"]
        theirs = [label for label in seconds if rows[label].package != "kerasdense"]
        best = {
            "ours": min(ours, key=lambda label: measured[label]["milliseconds"], default=None),
            "theirs": min(theirs, key=lambda label: measured[label]["milliseconds"], default=None),
        }
        for label in seconds:
            ratio = times_as_fast(best["theirs"], label, seconds) if theirs else None
            measured[label]["of_theirs"] = ratio
        share = measured[best["ours"]]["of_theirs"] if ours else None
        found.append({"precision": precision, "of_theirs": share} | best)
    return found


def is_complete(rows, measured):
    """Whether all of ours were measured, and something of theirs wherever they have rows.

    Arguments as of `fastest`. What torch.compile cannot do is no fault of ours.
    """
    theirs = {}
    for label, row in rows.items():
        done = "failed" not in measured[label]
        if row.package != "kerasdense":
            theirs.setdefault(row.precision, []).append(done)
        elif not done:
            return False
    return all(map(any, theirs.values()))


def build_torchvision(workload):
    """As `workloads.build`, of torchvision's `fcn_resnet50` and `ssd300_vgg16`."""
    import torch

    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    memory = ResidentMemory()
    if gpu:
        memory = DeviceMemory(torch.cuda.max_memory_allocated, torch.cuda.reset_peak_memory_stats)
    torch.manual_seed(0)
    network, forward, size = _torchvision_network(workload)
    layout = torch.contiguous_format if workload.runtime == "eager" else torch.channels_last
    network.to(device, memory_format=layout).train(workload.work == "train")
    images = torch.from_numpy(random_images(workload, size)).permute(0, 3, 1, 2).to(device)
    images = images.contiguous(memory_format=layout)
    labels = torch.randint(0, workload.classes, (workload.batch_size, *size), device=device)
    facts = {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "macs": _torch_macs(network, forward, images) // workload.batch_size,
        "size": size,
        "device": torch.cuda.get_device_name() if gpu else "CPU",
    }
    if workload.work == "detect":
        forward = _boxes(network, images)
    if workload.runtime == "compiled":
        forward = _compiled(network, forward, workload)
    half = workload.precision != "float32"
    context = torch.autocast(device.type, torch.bfloat16, enabled=half)
    optimizer = torch.optim.SGD(network.parameters(), LEARNING_RATE, momentum=MOMENTUM)

    def train_step():
        optimizer.zero_grad()
        with context:
            loss = torch.nn.functional.cross_entropy(forward(images), labels, ignore_index=255)
        loss.backward()
        optimizer.step()

    # What torch freezes must not be in inference mode.
    without_gradients = torch.no_grad if workload.runtime == "compiled" else torch.inference_mode

    def infer_step():
        with without_gradients(), context:
            forward(images)

    step = train_step if workload.work == "train" else infer_step

    def run(steps):
        for _ in range(steps):
            step()
        if gpu:
            torch.cuda.synchronize()

    return run, facts, memory


def _torchvision_network(workload):
    """The network, a function of uint8 images [B, 3, H, W] to its logits, and their size."""
    import torch

    if workload.model == "ssd300_vgg16":
        ssd = torchvision_ssd300(workload.classes)

        def raw(images):  # what our SSD gives: no boxes decoded
            return ssd.head(list(ssd.backbone(images.float() - 117).values()))

        return ssd, raw, (300, 300)
    torchvision = _importable_torchvision("models.segmentation")
    fcn = torchvision.fcn_resnet50(
        weights=None, weights_backbone=None, num_classes=workload.classes
    )
    # One 1x1 convolution, as in Shelhamer et al. and in ours, for its head of 9.4 M parameters.
    fcn.classifier = torch.nn.Conv2d(2048, workload.classes, 1)
    return fcn, lambda images: fcn(images.float() - 117)["out"], workload.size


def _torch_macs(network, forward, images):
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    mode, training = FlopCounterMode(display=False), network.training
    with mode, torch.inference_mode():
        network.eval()
        forward(images)
    network.train(training)
    return mode.get_total_flops() // 2


def _boxes(ssd, images):
    """A function of images to boxes, of which the SSD now finds as much as a fitted one."""
    import torch

    def forward(images):
        return ssd(list(images.float() / 255))

    found = []
    hook = ssd.head.register_forward_hook(lambda module, taken, given: found.append(given))
    with torch.inference_mode():
        forward(images[:1])
    hook.remove()
    (logits,) = found[0]["cls_logits"]  # [A, C + 1]
    offset = background_offset(logits.cpu().numpy())
    with torch.no_grad():
        for layer in ssd.head.classification_head.module_list:
            layer.bias.view(-1, logits.shape[-1])[:, 0] += offset
    return forward


def _compiled(network, forward, workload):
    """`forward` by torch.compile, which compiles at the first call."""
    import torch

    if workload.work != "train":
        # Merges batch normalization into the convolutions, and lays weights out for oneDNN.
        torch._inductor.config.freezing = True
    torch._inductor.config.compile_threads = 1  # processes of its own would wait beside the others
    if workload.work == "detect":  # the rest is Python that goes by what is found
        network.backbone.compile()
        network.head.compile()
        return forward
    return torch.compile(forward)


def torchvision_ssd300(classes=90):
    """torchvision's SSD300 with random weights, for `classes` classes and background."""
    detection = _importable_torchvision("models.detection")
    return detection.ssd300_vgg16(weights=None, weights_backbone=None, num_classes=classes + 1)


def _torchvision_suppresses():
    """Whether torchvision has been installed with the operator that suppresses boxes."""
    import torch

    try:
        _importable_torchvision("ops").nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except RuntimeError:  # its own, or torch's for what is only declared
        return False
    return True


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
