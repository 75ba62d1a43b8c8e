"""Classifiers, segmentation models and detectors: functions from `keras.Input` to `keras.Model`."""

from kerasdense.models.classifier import densenet121_classifier, densenet_classifier
from kerasdense.models.fc_densenet import fc_densenet, fc_densenet103
from kerasdense.models.fcn import (
    atrous_fcn_densenet121,
    atrous_fcn_resnet50,
    atrous_fcn_vgg16,
    fcn_densenet,
    fcn_resnet50,
    fcn_vgg16,
)
from kerasdense.models.ladder_densenet import (
    ladder_densenet,
    ladder_densenet121,
    ladder_densenet169,
    ladder_densenet201,
    ldn121,
)
from kerasdense.models.ssd import ssd300, ssd512

__all__ = [
    "atrous_fcn_densenet121",
    "atrous_fcn_resnet50",
    "atrous_fcn_vgg16",
    "densenet121_classifier",
    "densenet_classifier",
    "fc_densenet",
    "fc_densenet103",
    "fcn_densenet",
    "fcn_resnet50",
    "fcn_vgg16",
    "ladder_densenet",
    "ladder_densenet121",
    "ladder_densenet169",
    "ladder_densenet201",
    "ldn121",
    "ssd300",
    "ssd512",
]
