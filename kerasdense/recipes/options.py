"""Options that several recipes share, and what they mean."""

from kerasdense.recipes.recipe import ADVERSARIAL_EPSILON, Option, check_size

DENSENET_BLOCKS = Option(
    "blocks",
    (6, 12, 24, 16),
    "layers of the dense blocks: 6,12,24,16 (DenseNet-121), 6,12,32,32 (169), 6,12,48,32 (201), "
    "or others for smaller networks",
)
ADVERSARIAL = (
    Option(
        "adversarial_steps",
        None,
        "train on adversarial examples made by so many steps of projected gradient descent (Madry "
        "et al. 2018); training then takes about 1 + 0.6 K times as long (default: on the images)",
        kind="count",
        metavar="K",
    ),
    Option(
        "adversarial_epsilon",
        None,
        "largest change of a pixel by --adversarial-steps, in gray levels (default: "
        f"{ADVERSARIAL_EPSILON})",
        kind="count",
        metavar="LEVELS",
    ),
)


def crops(size, scales=(1.0, 1.0)):
    """How segmentation models see their training data: `size` (H, W), range of `scales`."""
    return (
        Option("size", size, "training crop, in pixels", kind="size", metavar="HxW"),
        Option(
            "scales",
            scales,
            "range of the random scale of the training crops",
            kind="numbers",
            metavar="LOWEST,HIGHEST",
        ),
        Option("photometric", False, "jitter the colors, too"),
        *ADVERSARIAL,
    )


def augmented_crops(options):
    """The op that the options of `crops` describe."""
    from kerasdense.data import augment

    check_size(options.size)
    if len(options.scales) != 2:
        raise ValueError(
            f"--scales expects LOWEST,HIGHEST, received {len(options.scales)} numbers."
        )
    ops = [augment.random_scale_crop(options.size, options.scales), augment.random_flip()]
    if options.photometric:
        ops.append(augment.photometric_jitter())
    return augment.compose(*ops)


def falling_sgd(power, momentum=0.9):
    """An optimizer of recipes: SGD whose learning rate falls to 0, polynomially."""

    def optimizer(options, learning_rate, steps):
        import keras

        return keras.optimizers.SGD(_falling(learning_rate, steps, power, 0.0), momentum=momentum)

    return optimizer


def falling_adam(power, end):
    """An optimizer of recipes: Adam whose learning rate falls to the share `end` of itself."""

    def optimizer(options, learning_rate, steps):
        import keras

        return keras.optimizers.Adam(_falling(learning_rate, steps, power, end * learning_rate))

    return optimizer


def _falling(learning_rate, steps, power, end):
    import keras

    return keras.optimizers.schedules.PolynomialDecay(
        learning_rate, steps, end_learning_rate=end, power=power
    )
