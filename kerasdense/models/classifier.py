"""DenseNet as a multi-label classifier: which classes does a picture show?

Reference: Huang et al., "Densely connected convolutional networks", CVPR 2017. Legend: B batch,
H W size, C classes.
"""

import keras

from kerasdense.models import backbones
from kerasdense.models.layers import BatchNormalization
from kerasdense.models.weights import load_weights

# Of batch normalization. Keras' default momentum, 0.99, lags behind the weights in short runs.
MOMENTUM, EPSILON = 0.9, 1.001e-5  # epsilon: keras.applications'


def densenet_classifier(blocks, num_classes=20, weights=None, name="densenet_classifier"):
    """Multi-label classifier on a DenseNet: images uint8 [B, H, W, 3] to float32 logits [B, C].

    Each class is a question of its own, whose probability is the sigmoid of its logit; H, W >= 64.

    Args:
        blocks: layers of the four dense blocks; small ones such as (2, 2, 2, 2) make toy models.
        num_classes: C, at least 1.
        weights: None, "imagenet" (for the blocks of DenseNet-121, 169 and 201) or a file, see
            `weights.load_weights`. The last layer, `logits`, is always random.

    Raises:
        ValueError, FileNotFoundError: an argument is not as described.
    """
    if not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(f"num_classes: expected an int of at least 1, received {num_classes!r}")
    backbone = backbones.densenet(blocks, momentum=MOMENTUM, epsilon=EPSILON)
    x = backbone.output["stride32"]  # [B, H/32, W/32, 1024]
    # These names and the next are keras.applications'.
    x = BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, name="bn")(x)
    x = keras.layers.ReLU(name="relu")(x)
    # In float32 from here on: a mean over many half-precision values loses digits.
    x = keras.layers.GlobalAveragePooling2D(dtype="float32", name="avg_pool")(x)  # [B, 1024]
    # Keras' own initialization: the features are 0.4 on average, so first logits are below 1.
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)  # [B, C]
    model = keras.Model(backbone.input, logits, name=name)
    load_weights(model, backbones.densenet_name(blocks), weights)
    return model


def densenet121_classifier(num_classes=20, weights="imagenet", name="densenet121_classifier"):
    """`densenet_classifier` on DenseNet-121: 7,058,004 parameters at 20 classes."""
    blocks = backbones.DENSENET_BLOCKS["densenet121"]
    return densenet_classifier(blocks, num_classes, weights, name)
