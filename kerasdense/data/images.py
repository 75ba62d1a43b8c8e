"""Which image files a command takes, and under which names its results go."""

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def find_images(paths, output=None):
    """The files among `paths` and the images in its folders, without what lies in `output`.

    Raises: ValueError if there is none, or a result might overwrite an image.
    """
    output = output.resolve() if output else None
    images = []
    for path in paths:
        if (path / "seqinfo.ini").is_file():
            path = path / "img1"  # a MOT sequence
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
            inside = path.resolve() == output or output in path.resolve().parents
            images += [p for p in found if inside or output not in p.resolve().parents]
        else:
            images.append(path)
    for image in images:
        if image.resolve().parent == output:
            raise ValueError(
                f"{image} lies in the output folder, where results would overwrite images. "
                f"Choose another --output."
            )
    if not images:
        raise ValueError(
            f"No images in {', '.join(map(str, paths))}: expected files ending in "
            f"{', '.join(sorted(SUFFIXES))}."
        )
    return images


def unused_name(stem, taken, endings):
    """`stem`, or `stem_2`, ... so that none of its files, with these endings, is written twice."""
    number, name = 1, stem
    while {name + ending for ending in endings} & taken:
        number += 1
        name = f"{stem}_{number}"
    taken |= {name + ending for ending in endings}
    return name
