"""Models measured beside each other, and beside those of other libraries, in turns.

Each piece of work runs in a process of its own: so libraries do not fight for threads, backends
can be mixed, memory is told apart, and the first step is really the first. The processes wait
while another one is measured; that they take turns makes ratios hold on a machine whose speed
drifts. `python -m kerasdense.benchmarking` is such a process.
"""

import contextlib
import dataclasses
import functools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MOMENTUM, LEARNING_RATE = 0.9, 1e-4  # of SGD, by which everybody trains here
LONGEST_REASON = 300  # characters of an error


@dataclasses.dataclass(frozen=True)
class Workload:
    """What a process does over and over on the same random images.

    Attributes:
        work: "train", a step of SGD with momentum from uint8 images to new weights, as `Model.fit`
            runs it; or "infer", from uint8 images to logits, batch normalization merged as in an
            export. Images and outputs stay on the device.
        model: of `kerasdense.models`, or of the other package.
        options: of the model's function.
        size: height and width, pixels. An SSD has its own.
        batch_size, classes: B and C.
        precision: a dtype policy of Keras.
        xla: whether TensorFlow compiles by XLA; JAX always does.
        backend: "tensorflow" or "jax"; "torch" for torchvision.
        package: "kerasdense", "torchvision" or "keras_hub".
    """

    work: str
    model: str
    options: dict
    size: tuple
    batch_size: int = 1
    classes: int = 19
    precision: str = "float32"
    xla: bool = False
    backend: str = "tensorflow"
    package: str = "kerasdense"


class Process:
    """A `Workload` in a process of its own, ready for its next step.

    Attributes:
        facts: `parameters`, `macs` of one image forward (None if unknown), `size` of the images,
            `device`, and `first_step`, seconds from the finished model to the end of its first
            step: tracing, compilation, and the step.
    Raises: ValueError with the reason if the work fails, as `run` does.
    """

    def __init__(self, workload):
        self.workload = workload
        self._errors = tempfile.TemporaryFile("w+")
        environment = os.environ | {
            "KERAS_BACKEND": workload.backend,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            # On a GPU, take only what is needed: others are measured beside.
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kerasdense.benchmarking"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
        )
        try:
            self.facts = self._ask(dataclasses.asdict(workload))
        except ValueError:
            self.close()
            raise

    def run(self, steps):
        """Seconds of a step, the mean over `steps` steps."""
        return self._ask({"steps": steps})["seconds"]

    def peak_memory(self):
        """MiB that the steps of the last `run` took at most beyond the imported libraries.

        Weights and whatever is kept between steps included. On a GPU the device's memory, on a CPU
        resident memory as Linux counts it; None where neither is counted.
        """
        return self._ask({"memory": True})["mebibytes"]

    def close(self):
        """Ends the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _ask(self, question):
        with contextlib.suppress(BrokenPipeError):  # said below
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": self._last_words()}
        if "error" in answer:
            raise ValueError(f"{self.workload.work} {self.workload.model}: {answer['error']}")
        return answer

    def _last_words(self):
        """Why the process ended without an answer."""
        status = self._process.wait()
        if status == -signal.SIGKILL:
            return "killed, perhaps for want of memory"
        self._errors.seek(0)
        lines = self._errors.read().split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "no message")
        return f"ended with status {status}: {last[:LONGEST_REASON]}"


def measure(workloads, turns, steps, alone=False):
    """Facts, seconds and memory of each of several workloads, {name: Workload}.

    Args:
        turns: how often each runs `steps` steps; one more turn, the first, does not count.
        alone: let each end before the next begins, for work that does not fit into memory beside
            another; its seconds then drift with the machine.

    Returns: {name: result}. A result holds the `facts` of its `Process`, `seconds` (of a step, a
    list of all turns), `milliseconds` (their median), `images_per_second`, `peak_mebibytes` and
    `first_over_this` (the first workload's time over this one's, the median of the turns; None
    where the first failed); or only `failed`, the reason.
    """
    results = {}
    for names in [[name] for name in workloads] if alone else [list(workloads)]:
        results |= _measured_together({name: workloads[name] for name in names}, turns, steps)
    seconds = {name: each["seconds"] for name, each in results.items() if "seconds" in each}
    first = next(iter(workloads))
    for name in seconds:
        ratio = times_as_fast(name, first, seconds) if first in seconds else None
        results[name]["first_over_this"] = ratio
    return {name: results[name] for name in workloads}


def _measured_together(workloads, turns, steps):
    results, seconds = {}, {name: [] for name in workloads}
    with contextlib.ExitStack() as stack:
        processes = {}

        def attempt(name, question):
            """Its answer; or None from the first failure on."""
            if name in results:
                return None
            try:
                return question()
            except ValueError as error:
                results[name] = {"failed": str(error)}

        for name, workload in workloads.items():
            process = attempt(name, functools.partial(Process, workload))
            if process:
                processes[name] = stack.enter_context(contextlib.closing(process))
        for turn in range(-1, turns):
            for name, process in processes.items():
                measured = attempt(name, functools.partial(process.run, steps))
                if turn >= 0:
                    seconds[name].append(measured)
        for name, process in processes.items():
            peak = attempt(name, process.peak_memory)
            if name not in results:
                median = statistics.median(seconds[name])
                results[name] = process.facts | {
                    "seconds": seconds[name],
                    "milliseconds": 1000 * median,
                    "images_per_second": process.workload.batch_size / median,
                    "peak_mebibytes": peak,
                }
    return results


def in_turns(alternatives, turns, warm_up=1):
    """Seconds of every turn, {name: [...]}, of functions {name: function} called alternately.

    The first `warm_up` turns, in which caches fill and graphs are traced, do not count.
    """
    seconds = {name: [] for name in alternatives}
    for turn in range(-warm_up, turns):
        for name, run in alternatives.items():
            began = time.perf_counter()
            run()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def times_as_fast(name, other, seconds):
    """Median ratio over the turns: 2 if `name` takes half the time of `other`."""
    return statistics.median(theirs / ours for ours, theirs in zip(seconds[name], seconds[other]))


def main():
    """The process of a `Workload`: answers each line of JSON it reads by one."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print goes to the errors

    def answer(**facts):
        answers.write(json.dumps(facts) + "\n")
        answers.flush()

    try:
        _answer_all(answer)
    except Exception as error:  # of any library: the one who asked prints it
        answer(error=" ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__)
        raise


def _answer_all(answer):
    workload = Workload(**json.loads(sys.stdin.readline()))
    workload = dataclasses.replace(workload, size=tuple(workload.size))
    build = {
        "kerasdense": _kerasdense,
        "torchvision": _torchvision,
        "keras_hub": _keras_hub,
    }[workload.package]
    run, facts, memory = build(workload)
    began = time.perf_counter()
    run(1)
    answer(first_step=time.perf_counter() - began, **facts)
    for line in sys.stdin:
        question = json.loads(line)
        if "memory" in question:
            answer(mebibytes=memory.peak())
            continue
        memory.reset()
        began = time.perf_counter()
        run(question["steps"])
        answer(seconds=(time.perf_counter() - began) / question["steps"])


class _ResidentMemory:
    """Peak resident memory of this process, above what it is now."""

    STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def __init__(self):
        self.before = self._read("VmRSS:")

    def reset(self):
        with contextlib.suppress(OSError):  # not Linux: `peak` is None
            self.CLEAR.write_text("5")  # since when VmHWM counts: man 5 proc

    def peak(self):
        highest = self._read("VmHWM:")
        return None if highest is None else highest - self.before

    def _read(self, key):
        if not self.STATUS.is_file():
            return None
        lines = self.STATUS.read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


class _DeviceMemory:
    """Peak memory of a GPU by `read`, bytes; `reset` begins anew where that is possible."""

    def __init__(self, read, reset=lambda: None):
        self._read, self.reset = read, reset

    def peak(self):
        return self._read() / 2**20


def _kerasdense(workload):
    """A function of a number of steps, the model's facts, and the memory to watch."""
    import keras

    from kerasdense.cli import command_line
    from kerasdense.models import cost

    memory, device = _keras_device()
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(workload.precision)
    model = command_line.load_model(
        workload.model, num_classes=workload.classes, weights=None, **workload.options
    )
    if isinstance(model.output, dict):  # logits before the ladder are for an auxiliary loss
        model = keras.Model(model.input, model.output["logits"], name=model.name)
    size = tuple(own or asked for own, asked in zip(model.input.shape[1:3], workload.size))
    total = cost.total_cost(model, size)
    facts = {name: total[name] for name in ("parameters", "macs")} | {
        "size": size,
        "device": device,
    }
    if workload.work == "infer":
        from kerasdense.export.folding import fold_batch_normalization

        model = fold_batch_normalization(model)
    return _keras_steps(model, workload, size), facts, memory


def _keras_device():
    """The memory to watch, and the device's name."""
    import keras

    from kerasdense.training import fitting

    gpu = fitting.has_gpu()
    if keras.backend.backend() == "jax":
        import jax

        device = jax.devices()[0]
        memory = _DeviceMemory(lambda: device.memory_stats()["peak_bytes_in_use"]) if gpu else None
        name = device.device_kind
    else:
        import tensorflow as tf

        memory, name = None, "CPU"
        if gpu:
            memory = _DeviceMemory(
                lambda: tf.config.experimental.get_memory_info("GPU:0")["peak"],
                lambda: tf.config.experimental.reset_memory_stats("GPU:0"),
            )
            details = tf.config.experimental.get_device_details(
                tf.config.list_physical_devices("GPU")[0]
            )
            name = details.get("device_name", "GPU")
    return memory or _ResidentMemory(), name


def _keras_steps(model, workload, size, dtype="uint8"):
    """A function that runs a number of steps of a Keras model, and returns when they are done."""
    import keras

    images, targets = _random_batch(model, workload, size)
    if workload.work == "infer":
        from kerasdense.explain import gradients

        images = keras.ops.convert_to_tensor(images.astype(dtype))
        forward = gradients.compiled(
            lambda images: model(images, training=False), model, workload.xla
        )

        def infer(steps):
            for _ in range(steps):
                outputs = forward(images)
            _wait_for(outputs)

        return infer
    compile_for_training(model, workload.xla)
    batches = _endless(images.astype(dtype), targets)

    def train(steps):
        model.fit(batches, steps_per_epoch=steps, verbose=0, shuffle=False)

    return train


def compile_for_training(model, xla=False):
    """Compiles a model of any task with its loss and SGD, ready for its first step.

    `xla`: whether TensorFlow uses it; JAX always does.
    """
    import keras

    optimizer = keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM)
    optimizer.build(model.trainable_variables)  # else TensorFlow traces the first step twice
    on_jax = keras.backend.backend() == "jax"
    model.compile(optimizer, _loss(model), jit_compile=xla or on_jax)


def _endless(images, targets):
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        options = tf.data.Options()
        options.autotune.enabled = False  # see data.pipeline: its end would be waited for
        return tf.data.Dataset.from_tensors((images, targets)).repeat().with_options(options)

    def batches():
        while True:
            yield images, targets

    return batches()


def _loss(model):
    import keras

    from kerasdense.metrics.labels import IGNORE
    from kerasdense.models.losses import MultiboxLoss, multi_label_loss

    return {
        2: multi_label_loss,
        3: MultiboxLoss(),
        4: keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=IGNORE),
    }[len(model.output.shape)]


def _random_batch(model, workload, size):
    """uint8 images [B, H, W, 3] and targets of the model's kind."""
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (workload.batch_size, *size, 3), np.uint8)
    shape = model.output.shape
    if len(shape) == 2:
        return images, rng.integers(0, 2, (workload.batch_size, shape[1])).astype("float32")
    if len(shape) == 4:
        return images, rng.integers(0, workload.classes, images.shape[:3], np.uint8)
    targets = np.zeros((workload.batch_size, shape[1], 5), "float32")
    targets[:, ::400, 0] = 1  # some twenty matched anchors an image
    return images, targets


def _wait_for(outputs):
    import keras

    if keras.backend.backend() == "jax":
        import jax

        jax.block_until_ready(outputs)
    else:
        import tensorflow as tf

        tf.test.experimental.sync_devices()


def _torchvision(workload):
    """As `_kerasdense`, of torchvision's `fcn_resnet50` and `ssd300_vgg16`."""
    import torch

    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    memory = _ResidentMemory()
    if gpu:
        memory = _DeviceMemory(torch.cuda.max_memory_allocated, torch.cuda.reset_peak_memory_stats)
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
    import importlib
    import re

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


def _keras_hub(workload):
    """As `_kerasdense`, of KerasHub's DeepLabV3+ on a ResNet-50 of output stride 32.

    KerasHub's upsampling takes a level's name for its stride, so a dilated encoder would double
    the size of the logits.
    """
    import keras
    import keras_hub

    memory, device = _keras_device()
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
    return _keras_steps(model, workload, workload.size, "float32"), facts, memory


if __name__ == "__main__":
    main()
