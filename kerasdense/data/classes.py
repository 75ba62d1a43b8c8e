"""Class names of own data, and colors where a dataset has none of its own."""

from kerasdense.data import files


def read_classes(path):
    """Returns the class names of a list file, one a line.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no names, or one that stands twice.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"Class list '{path}' does not exist. Write the class names there, one a line; the "
            "first is class 0."
        )
    names = files.read_list(path)
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ValueError(f"'{path}' names the class '{doubled[0]}' twice.")
    return names


def default_palette(num_classes):
    """Returns [[r, g, b], ...]: the PASCAL VOC color map, which spreads an index's bits.

    Reference: PASCAL VOC development kit, VOCcolormap (bit k of the index, three bits a round,
    goes to the next lower bit of red, green and blue).
    """
    palette = []
    for index in range(num_classes):
        color = [0, 0, 0]
        for bit in range(8):
            channel, shift = bit % 3, 7 - bit // 3
            color[channel] |= (index >> bit & 1) << shift
        palette.append(color)
    return palette


def box_palette(num_classes):
    """Returns [[r, g, b], ...] of that color map without its black; after 255 they come again."""
    colors = default_palette(256)[1:]
    return [colors[index % len(colors)] for index in range(num_classes)]
