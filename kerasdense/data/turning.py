"""Whether truth was drawn on the upright picture, or on the pixels as they are stored.

Labeling tools that ignore EXIF show the stored pixels. Where a picture is turned by a quarter (EXIF
orientations 5 to 8) the size of its truth tells. Where it is not, or the picture is square, the
others of the same source tell: one tool is supposed to have made their truth.
"""

import functools

from kerasdense.data import reading


class Convention:
    """What the truth of a source was drawn on.

    Args:
        pairs: `files.Pair`s of all splits.
        size_of: function from a pair to the (height, width) that its truth was drawn on, or None.
    """

    def __init__(self, pairs=(), size_of=None):
        self._pairs, self._size_of = pairs, size_of

    @functools.cached_property
    def is_stored(self):
        """True: the stored pixels; False: the upright picture; None: no picture tells, or both do.

        Only headers are read, and only if this is asked.

        Raises:
            ValueError: the truth of a turned picture cannot be read.
        """
        told = set()
        for pair in {pair.image: pair for pair in self._pairs}.values():  # val is in trainval, too
            orientation, stored = reading.read_header(pair.image)
            if orientation >= 5:
                told.add(_told_by_size(self._size_of(pair), stored, stored[::-1]))
            if {True, False} <= told:
                return None
        told.discard(None)
        return told.pop() if told else None

    def is_of_stored(self, photo, size):
        """Whether truth of `size` (height, width), or None, is for the stored pixels of a `Photo`.

        None: it is unknown, and counts as that of the upright picture.
        """
        if photo.orientation == 1:
            return False
        told = _told_by_size(size, photo.stored_size, photo.size)
        return self.is_stored if told is None else told


def convention_of(builder, size_of):
    """The `Convention` of the source of a builder, one for all splits; arguments as of that."""
    config = builder.builder_config
    if config.convention is None:
        pairs = [pair for pairs in config.source.splits.values() for pair in pairs]
        config.convention = Convention(pairs, size_of)
    return config.convention


def _told_by_size(size, stored, upright):
    """Whether truth is for the stored pixels, as (height, width) tell; None where they do not."""
    return size == stored if stored != upright and size in (stored, upright) else None
