"""Which image files a command takes, and under which names its results go."""

from pathlib import Path
from typing import NamedTuple

from kerasdense.data.files import walk

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


class Found(NamedTuple):
    """An image file, and the name of its results: its path below the folder given, no suffix."""

    path: Path
    name: str  # "a", or "sub/a"


def find_images(paths, output=None):
    """The files among `paths` and the images in its folders, without what lies in `output`.

    Linked folders are entered; hidden files, whose names begin with a dot, are left out.
    Raises: ValueError if there is none, or a result might overwrite an image.
    """
    return [found.path for found in find_named_images(paths, output)]


def find_named_images(paths, output=None):
    """As `find_images`, each as a `Found`."""
    output = output.resolve() if output else None
    images = []
    for path in map(Path, paths):
        if (path / "seqinfo.ini").is_file():
            path = path / "img1"  # a MOT sequence
        if path.is_dir():
            inside = path.resolve() == output or output in path.resolve().parents
            images += [
                Found(image, image.relative_to(path).with_suffix("").as_posix())
                for image in walk(path)
                if image.suffix.lower() in SUFFIXES
                and (inside or output not in image.resolve().parents)
            ]
        else:
            images.append(Found(path, path.stem))
    if output:
        _check_overwriting(images, output)
    if not images:
        raise ValueError(
            f"No images in {', '.join(map(str, paths))}: expected files ending in "
            f"{', '.join(sorted(SUFFIXES))}."
        )
    return images


def _check_overwriting(images, output):
    written = {output} | {(output / image.name).parent for image in images}
    for image in images:
        if image.path.resolve().parent in written:
            raise ValueError(
                f"{image.path} lies in the output folder, where results would overwrite images. "
                f"Choose another --output."
            )


def unused_name(name, taken, endings):
    """`name`, or `name_2`, ... so that none of its files, with these endings, is written twice."""
    number, unused = 1, name
    while {unused + ending for ending in endings} & taken:
        number += 1
        unused = f"{name}_{number}"
    taken |= {unused + ending for ending in endings}
    return unused
