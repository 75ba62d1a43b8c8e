"""Pedestrians of MOT 2015: the table of ACF and two SSDs.

Reference: Kreso, Bevandic, Orsic & Segvic, "Convolutional models for segmentation and
localization"; the protocol: the last 20 % of the frames of every training sequence.
"""

from kerasdense.papers.datasets import MOT15, VOC
from kerasdense.papers.row import Figure, Need, Row, Step
from kerasdense.papers.voc import BOXES_0712, SMALL, SSD300

RULE_NOTE = "By which of VOC's two rules the published number was made is not known here."
PAPER = "Kreso, Bevandic, Orsic & Segvic"
ALL = {"train": "2DMOT2015.zip"}
RULES = {"AP, area under the curve": "ap_area", "AP, 11-point": "ap_11point"}


def _figures(published, file):
    return tuple(Figure(title, published, file, f"mean_{key}") for title, key in RULES.items())


ROWS = {
    "mot/acf": Row(
        "the detections of ACF, MOT 2015",
        PAPER,
        (Need(MOT15, ALL),),
        (
            Step(
                "evaluate-detections --format mot --ground-truth {mot15} --detections {mot15} "
                "--frames last:0.2",
                output="detections.json",
            ),
        ),
        _figures(0.602, "detections.json"),
        RULE_NOTE,
    ),
    "mot/ssd_voc": Row(
        "SSD300 trained on VOC 07+12, its persons measured on MOT 2015",
        PAPER,
        (Need(VOC, BOXES_0712), Need(MOT15, ALL)),
        (
            SSD300,
            Step(
                "evaluate --run {runs}/ssd300_voc --checkpoint last --dataset mot15 "
                "--source {mot15} --map person=pedestrian --output {results}/val"
            ),
        ),
        _figures(0.5706, "val/evaluation.json"),
        RULE_NOTE,
    ),
    "mot/ssd_mot": Row(
        "SSD300 trained on MOT 2015",
        PAPER,
        (Need(MOT15, ALL),),
        (
            Step(
                "fit ssd300 --dataset mot15 --source {mot15} --validate-every 232 "
                "--workdir {runs}/ssd300_mot15",
                SMALL,
            ),
            Step("evaluate --run {runs}/ssd300_mot15 --checkpoint last --output {results}/val"),
        ),
        _figures(0.755, "val/evaluation.json"),
        f"{RULE_NOTE} The recipe is that for VOC: the facts at hand name no other.",
    ),
}
