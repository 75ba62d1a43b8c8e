"""Parameters of the published networks, counted from the sizes of their layers.

A convolution k x k has k k c_in c_out weights and, where it has a bias, c_out more; a batch
normalization of c channels has 4 c, of which gamma and beta train.
"""

VGG16_WIDTHS = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)


def convolution(size, channels, filters):
    """With a bias."""
    return size * size * channels * filters + filters


def bn_conv(channels, filters, size):
    """A normalization and a convolution without bias after it: one unit of a DenseNet."""
    return 4 * channels + size * size * channels * filters


def vgg16_parameters():
    """Of the convolutions: Simonyan & Zisserman 2015."""
    return sum(convolution(3, *pair) for pair in zip(VGG16_WIDTHS, VGG16_WIDTHS[1:]))


def resnet50_parameters():
    """Without the classifier; its convolutions have biases."""
    total = convolution(7, 3, 64) + 4 * 64
    channels = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        total += convolution(1, channels, 4 * width) + 4 * 4 * width  # projection
        for _ in range(blocks):
            total += convolution(1, channels, width) + 4 * width
            total += convolution(3, width, width) + 4 * width
            total += convolution(1, width, 4 * width) + 4 * 4 * width
            channels = 4 * width
    return total


def densenet_parameters(blocks):
    """Up to the last dense block, and the channels at strides 4, 8, 16, 32."""
    total, channels, taps = 7 * 7 * 3 * 64 + 4 * 64, 64, []
    for index, size in enumerate(blocks):
        if index:  # the transition halves the channels
            total += bn_conv(channels, channels // 2, 1)
            channels //= 2
        for _ in range(size):  # growth rate 32, bottleneck 128
            total += bn_conv(channels, 128, 1) + bn_conv(128, 32, 3)
            channels += 32
        taps.append(channels)
    return total, taps
