"""Average precision of many detections, and what mean IoU adds to a pass over the images."""

import json
import time

import numpy as np
from keras import ops

from kerasdense.benchmarks.turns import in_turns, print_milliseconds, times_as_fast
from kerasdense.benchmarks.workloads import logits_alone
from kerasdense.explain import gradients
from kerasdense.metrics.average_precision import (
    Detections,
    GroundTruth,
    coco_average_precision,
    voc_average_precision,
)
from kerasdense.metrics.mean_iou import confusion_matrix

CLASSES = 20  # of the boxes
OBJECTS, FOUND = 5, 200  # in an image


def benchmark(named, size, classes, images, turns):
    """Prints the times of average precision and mean IoU, and their JSON.

    `named`: the `NamedModel` of the pass, for so many `classes`, on an image of `size`; `images`:
    with random boxes, for average precision.
    """
    rng = np.random.default_rng(0)
    results = _average_precision(rng, images)
    pixels = ops.convert_to_tensor(rng.integers(0, 256, (1, *size, 3), np.uint8))
    masks = ops.convert_to_tensor(rng.integers(0, classes, (1, *size), np.uint8))
    model = logits_alone(named.load(classes))
    predict = gradients.compiled(lambda x: ops.argmax(model(x, training=False), axis=-1), model)
    predicted = predict(pixels)
    count = gradients.compiled(lambda x, y: confusion_matrix(x, y, classes), model)
    seconds = in_turns(
        {
            "predictions": lambda: ops.convert_to_numpy(predict(pixels)),
            "mean IoU": lambda: ops.convert_to_numpy(count(masks, predicted)),
        },
        turns,
    )
    print(f"{model.name}, one image of {size[0]}x{size[1]}")
    results["milliseconds"] = print_milliseconds(seconds)
    results["mean_iou_adds"] = 1 / times_as_fast("mean IoU", "predictions", seconds)
    print(f"{'mean IoU adds':<18} {100 * results['mean_iou_adds']:8.2f} %")
    print(json.dumps(results))


def _average_precision(rng, images):
    """Prints and returns seconds, by the rules of VOC and of COCO."""
    objects, found = OBJECTS * images, FOUND * images

    def boxes(count):
        corners = rng.uniform(0, 400, (count, 2))
        return np.concatenate([corners, corners + rng.uniform(10, 100, (count, 2))], axis=1)

    truth = GroundTruth(
        np.sort(rng.integers(0, images, objects)),
        boxes(objects),
        rng.integers(0, CLASSES, objects),
        rng.random(objects) < 0.1,
    )
    detections = Detections(
        np.sort(rng.integers(0, images, found)),
        boxes(found),
        rng.integers(0, CLASSES, found),
        rng.random(found),
    )
    results = {"images": images, "objects": objects, "detections": found}
    print(f"{images} images, {objects} objects, {found} detections, {CLASSES} classes")
    for name, measure in {"voc": voc_average_precision, "coco": coco_average_precision}.items():
        began = time.perf_counter()
        measure(truth, detections, CLASSES)
        results[f"{name}_seconds"] = time.perf_counter() - began
        print(f"{name + ' average precision':<22} {results[f'{name}_seconds']:6.1f} s")
    return results
