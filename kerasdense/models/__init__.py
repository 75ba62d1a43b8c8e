"""Classifiers, segmentation models and detectors: functions from `keras.Input` to `keras.Model`."""

from kerasdense.models.classifier import densenet121_classifier, densenet_classifier
from kerasdense.models.fcn import atrous_fcn_resnet50, fcn_resnet50, fcn_vgg16
from kerasdense.models.ladder_densenet import (
    ladder_densenet,
    ladder_densenet121,
    ladder_densenet169,
    ladder_densenet201,
)
from kerasdense.models.ssd import ssd300, ssd512

__all__ = [
    "atrous_fcn_resnet50",
    "densenet121_classifier",
    "densenet_classifier",
    "fcn_resnet50",
    "fcn_vgg16",
    "ladder_densenet",
    "ladder_densenet121",
    "ladder_densenet169",
    "ladder_densenet201",
    "ssd300",
    "ssd512",
]
