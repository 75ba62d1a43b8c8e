"""SSD512, a detector on VGG-16 for larger pictures.

    kerasdense fit ssd512 --dataset mot15 --source MOT15 --workdir runs/ssd512_mot

Published (Liu et al., ECCV 2016), VOC 07+12, measured on VOC 2007 test by 11-point AP: 79.8 %
mean AP. The recipe is that of SSD300.
"""

from kerasdense.recipes import ssd300

RECIPE = ssd300.recipe("ssd512")
