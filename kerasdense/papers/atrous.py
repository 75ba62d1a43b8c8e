"""Atrous FCN ResNet50 of the Keras-FCN project on PASCAL VOC.

Reference: aurora95/Keras-FCN, AtrousFCN_Resnet50_16s.
"""

from kerasdense.papers.datasets import VOC
from kerasdense.papers.row import Figure, Need, Row, Step

PAPER = "aurora95/Keras-FCN, AtrousFCN_Resnet50_16s"
VOC_2012 = "VOCtrainval_11-May-2012.tar"
SBD_ADDRESS = "http://home.bharathh.info/pubs/codes/SBD/download.html"
MASKS = {
    "VOC2012/ImageSets/Segmentation/train.txt": VOC_2012,
    "VOC2012/ImageSets/Segmentation/val.txt": VOC_2012,
    "VOC2012/SegmentationClass": VOC_2012,
}
SBD = {
    "VOC2012/SegmentationClassAug": f"the label maps of SBD and VOC as PNGs; SBD: {SBD_ADDRESS}",
    "VOC2012/ImageSets/Segmentation/sbd_train.txt": "SBD's dataset/train.txt",
    "VOC2012/ImageSets/Segmentation/sbd_val.txt": "SBD's dataset/val.txt",
}
SMALL = "--weights none --size 64x64 --batch-size 2 --epochs 1 --learning-rate 0.001"


def _row(title, dataset, run, needs, mean_iou, accuracy, note):
    return Row(
        title,
        PAPER,
        (Need(VOC, needs),),
        (
            Step(
                f"fit atrous_fcn_resnet50 --dataset voc_segmentation/{dataset} --source {{voc}} "
                f"--workdir {{runs}}/{run}",
                SMALL,
            ),
            Step(f"evaluate --run {{runs}}/{run} --checkpoint last --output {{results}}/val"),
        ),
        (
            Figure("mean IoU", mean_iou, "val/evaluation.json", "mean_iou"),
            Figure("pixel accuracy", accuracy, "val/evaluation.json", "pixel_accuracy"),
        ),
        f"{note} Published for pictures padded with zeros to 512x512; ours keep their size.",
    )


ROWS = {
    "atrous/voc2012": _row(
        "Atrous FCN ResNet50, VOC 2012 train, measured on val",
        "voc2012",
        "atrous_fcn_voc2012",
        MASKS,
        0.5606,
        0.899,
        "An article's run of the same code came to 58.59 % and 90.33 %.",
    ),
    "atrous/sbd": _row(
        "Atrous FCN ResNet50, VOC 2012 and SBD in the project's own split",
        "keras_fcn",
        "atrous_fcn_sbd",
        MASKS | SBD,
        0.6611,
        0.90,
        "The published pixel accuracy is given as about 90 %.",
    ),
}
