"""FC-DenseNet ("the one hundred layers tiramisu", Keras-FCN's DenseNet_FCN), from random weights.

    kerasdense fit fc_densenet --dataset camvid --source CamVid --early-stop 150 \\
        --workdir runs/fc_densenet103_camvid

Published (Jegou et al.), on CamVid test: mean IoU 66.9 %, pixel accuracy 91.5 % (FC-DenseNet103);
65.8 and 90.8 % (FC-DenseNet67: --layers 5,5,5,5,5,5). Recipe, of the authors' code: RMSprop,
learning rate 1e-3 falling by half a percent an epoch, at most 750 epochs of batches of 5 crops of
224, flips, weight decay 1e-4 without the 1/2 of an L2 term here, hence 2e-4. The paper then goes on
with whole pictures at 1e-4: --initialize RUN --size 360x480 --learning-rate 1e-4.
"""

from kerasdense.recipes.options import augmented_crops, crops
from kerasdense.recipes.recipe import Option, Recipe

# Of RMSprop: the defaults of Lasagne, which that code takes. Keras' epsilon is a tenth, and the
# gradients at the beginning are so small that the first steps would be twice as large.
RHO, EPSILON = 0.9, 1e-6
RATE_DECAY = 0.995  # of the learning rate, an epoch: SimJeg/FC-DenseNet, config/FC-DenseNet103.py


def network(options):
    arguments = {"layers": options.layers, "growth_rate": options.growth_rate}
    return "fc_densenet", "fc_densenet", arguments


def optimizer(options, learning_rate, steps):
    import keras

    steps_per_epoch = steps // options.epochs
    schedule = keras.optimizers.schedules.ExponentialDecay(
        learning_rate, steps_per_epoch, RATE_DECAY, staircase=True
    )
    return keras.optimizers.RMSprop(schedule, rho=RHO, epsilon=EPSILON)


RECIPE = Recipe(
    task="segmentation",
    network=network,
    optimizer=optimizer,
    augmentation=augmented_crops,
    weight_decay=2e-4,
    epochs=750,
    batch_size=5,
    learning_rate=1e-3,
    weights=None,  # there are none
    options=(
        *crops((224, 224)),
        Option(
            "layers",
            (4, 5, 7, 10, 12, 15),
            "of the dense blocks on the way down and of the one at the bottom",
        ),
        Option("growth_rate", 16, "channels that each layer adds"),
    ),
)
