"""Models whose gradients are known, and pictures for them."""

import keras
import numpy as np

from kerasdense import tasks
from kerasdense.attacks.attacker import Attacker
from kerasdense.attacks.judge import Goal, Judge
from kerasdense.attacks.methods import METHODS
from kerasdense.attacks.report import Tally
from kerasdense.attacks.units import Criterion
from kerasdense.models.layers import AnchorPredictions
from kerasdense.tasks.classification import Classification
from kerasdense.tasks.detection import Detection
from kerasdense.tasks.segmentation import Segmentation

SIGN = np.array([1.0, -1.0, 1.0])  # of the weights of `pixel_model`
WEIGHTS = SIGN * [0.02, 0.05, 0.01]
# Of the models that are linear in the colors.
NAMES = ["red", "green", "blue"]
PALETTE = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
SCALE = 64  # gray levels for one unit of a logit
COLORS = Segmentation(NAMES, PALETTE)
BOXES = Detection(NAMES[:2], PALETTE[:2])
LABELS = Classification(NAMES[:2], PALETTE[:2])
ANY = Goal()


def pixel_model(weights=WEIGHTS, bias=0.0):
    """Each pixel is of class 1 where weights . rgb + bias > 0, else of class 0."""
    images = keras.Input((None, None, 3), dtype="uint8")
    x = keras.layers.Rescaling(1.0)(images)
    logits = keras.layers.Conv2D(2, 1)
    model = keras.Model(images, logits(x))
    kernel = np.stack([np.zeros(3), weights], axis=-1)
    logits.set_weights([kernel.reshape(1, 1, 3, 2), np.array([0.0, bias])])
    return model


def conv_model(classes=4, seed=0):
    keras.utils.set_random_seed(seed)
    images = keras.Input((None, None, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 64, offset=-2)(images)
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    return keras.Model(images, keras.layers.Conv2D(classes, 3, padding="same")(x))


def pictures(count=2, height=12, width=10, low=0, high=256, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(low, high, (count, height, width, 3), "uint8")


def predicted(model, images):
    return model.predict_on_batch(images).argmax(axis=-1)


def lengths(images, adversarial_images, norm):
    r = adversarial_images.astype("float64") - images
    if norm == "linf":
        return np.abs(r).max(axis=(1, 2, 3))
    return np.sqrt(np.square(r).sum(axis=(1, 2, 3)))


def attacker(model, attack, targeted=False, confidence=None, seed=0):
    """An attacker of a segmentation model or a classifier."""
    criterion = Criterion(targeted, confidence)
    return Attacker(model, tasks.of_model(model), attack, criterion, seed=seed)


def blobs(count, seed):
    """Noisy images of two kinds of squares, told apart by their color: (images, labels)."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((count, 24, 24), np.uint8)
    for label in labels:
        for kind in (1, 2, 1, 2):
            top, left = rng.integers(0, 16, 2)
            label[top : top + 8, left : left + 8] = kind
    colors = np.array([[120, 120, 120], [140, 110, 120], [105, 120, 140]])
    images = colors[labels] + rng.normal(0, 12, (*labels.shape, 3))
    return np.clip(images, 0, 255).astype(np.uint8), labels


def color_model(auxiliary=False):
    """Predicts the strongest color: the logits are the pixels over SCALE.

    The steepest way against a color is one gray level less of it and one more of the others: so a
    color that leads by m falls under the maximum norm as soon as 2 epsilon > m, and not before.
    """
    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    x = keras.layers.Rescaling(1 / SCALE)(images)
    layer = keras.layers.Conv2D(3, 1, use_bias=False, name="logits")
    logits = layer(x)
    model = keras.Model(
        images, {"logits": logits, "auxiliary_logits": -logits} if auxiliary else logits
    )
    layer.set_weights([np.eye(3, dtype=np.float32)[None, None]])
    return model


def label_model():
    """Two labels, whose logits are how much red, and green, the picture has above 100."""
    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 4, -25)(images))
    layer = keras.layers.Dense(2, use_bias=False, name="logits")
    model = keras.Model(images, layer(x))
    layer.set_weights([np.eye(3, 2, dtype=np.float32)])
    return model


def block_detector():
    """An SSD300 that finds red (class 0) and green (1) blocks of 100x100 pixels, nine in a picture.

    The logits of a block's square anchor are 0 for the background and (level - 100) / 2 of red and
    of green. Its other anchors, and those of all other maps, are background for sure.
    """
    images = keras.Input((300, 300, 3), dtype="uint8", name="images")
    pixels = keras.layers.Rescaling(1.0)(images)
    maps, heads = ([], []), []
    for step, anchors in zip((8, 16, 32, 64, 100, 300), (4, 6, 6, 6, 4, 4)):
        x = keras.layers.AveragePooling2D(step, padding="same")(pixels)
        heads.append([keras.layers.Conv2D(anchors * width, 1) for width in (3, 4)])
        for of_kind, head in zip(maps, heads[-1]):
            of_kind.append(head(x))
    model = keras.Model(images, AnchorPredictions(2, "ssd300", "voc")(list(maps)))
    for level, (classes, boxes) in enumerate(heads):
        kernel, bias = (np.zeros(weights.shape, np.float32) for weights in classes.weights)
        bias[::3] = 20  # the background of each anchor
        if level == 4:
            kernel[0, 0, :2, 1:3] = np.eye(2) / 2
            bias[:3] = 0, -50, -50
        classes.set_weights([kernel, bias])
        boxes.set_weights([np.zeros(weights.shape, np.float32) for weights in boxes.weights])
    return model


def blocks(colors):
    """A picture of nine blocks, row by row; `colors`: {number of the block: (r, g, b)}."""
    grid = np.zeros((9, 3), np.uint8)
    for number, color in colors.items():
        grid[number] = color
    return grid.reshape(3, 3, 3).repeat(100, axis=0).repeat(100, axis=1)


def leads(*leads_of_red):
    """A row of pixels in which red leads by so many gray levels; negative: green does."""
    return np.array([[[100 + lead, 100, 0] for lead in leads_of_red]], np.uint8)


def sample(image, name="a.png", **truth):
    return {"image": image, "file_name": name, **truth}


def attacked(model, samples, epsilon, goal=ANY, folder=None, names=NAMES):
    """Rows and result of an FGSM attack on samples of one size, and the examples."""
    task = tasks.of_model(model, names, PALETTE[: len(names)])
    judge = Judge(model, task, goal, folder)
    examples = judge.attack(judge.look(samples), judge.attacker(METHODS["fgsm"]()), epsilon=epsilon)
    tally = Tally(task)
    rows = [tally.add(example) for example in examples]
    return rows, tally.result(), examples
