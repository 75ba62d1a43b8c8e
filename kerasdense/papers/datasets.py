"""The datasets of the papers."""

from kerasdense.papers.row import Data

CITYSCAPES = Data(
    "cityscapes",
    "Cityscapes",
    "https://www.cityscapes-dataset.com/downloads (with an account)",
    "data/cityscapes",
    "cityscapes",
)
VOC = Data(
    "voc",
    "PASCAL VOC, the folder VOCdevkit",
    "http://host.robots.ox.ac.uk/pascal/VOC",
    "data/VOCdevkit",
    "voc",
)
MOT15 = Data(
    "mot15",
    "2D MOT 2015",
    "https://motchallenge.net/data/MOT15",
    "data/MOT15",
    "mot15",
)
ALL = (CITYSCAPES, VOC, MOT15)
