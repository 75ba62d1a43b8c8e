"""Whether pictures of one split are pictures of another one, too: by their files."""

import contextlib
import filecmp
import io

from kerasdense.data.datasets import DATASETS


def images_of(name, source):
    """The image files that a dataset reads, of each split: {split: list of Path}.

    `name`, `source`: as of `datasets.load`; nothing is prepared, and nothing printed.
    Raises: ValueError, FileNotFoundError as `datasets.load`.
    """
    dataset, _, config = name.partition("/")
    if dataset not in DATASETS:
        raise ValueError(f"Unknown dataset '{dataset}': there are {', '.join(DATASETS)}.")
    builder_class = DATASETS[dataset]
    with contextlib.redirect_stdout(io.StringIO()):  # of which pictures are left out, and the like
        found = builder_class.find(source, config or next(iter(builder_class.CONFIGS)))
    return images_in(found)


def images_in(source):
    """The image files of a `files.Source`, of each split: {split: list of Path}."""
    return {split: [pair.image for pair in pairs] for split, pairs in source.splits.items()}


def full_name(name):
    """The name of a dataset with its configuration: "camvid" is "camvid/default"."""
    dataset, _, config = name.partition("/")
    if not config and dataset in DATASETS:
        config = next(iter(DATASETS[dataset].CONFIGS))
    return f"{dataset}/{config}"


def share_a_picture(images, others):
    """Whether a file of `images` (paths) is one of `others`, or a copy of one under its name.

    Raises: OSError if one cannot be read.
    """
    files, named = set(), {}
    for path in others:
        status = path.stat()
        files.add((status.st_dev, status.st_ino))  # links to a file are that file
        named.setdefault((path.name, status.st_size), []).append(path)
    for path in images:
        status = path.stat()
        if (status.st_dev, status.st_ino) in files:
            return True
        twins = named.get((path.name, status.st_size), ())
        if any(filecmp.cmp(path, twin, shallow=False) for twin in twins):
            return True
    return False
