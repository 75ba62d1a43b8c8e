"""Whether pictures of one split are pictures of another one, too: by their files."""

import contextlib
import filecmp
import hashlib
import io

from kerasdense.data.datasets import DATASETS


def source_of(name, source):
    """The `files.Source` of a dataset; nothing is prepared, and nothing printed.

    `name`, `source`: as of `datasets.load`.
    Raises: ValueError, FileNotFoundError as `datasets.load`.
    """
    dataset, _, config = name.partition("/")
    if dataset not in DATASETS:
        raise ValueError(f"Unknown dataset '{dataset}': there are {', '.join(DATASETS)}.")
    builder_class = DATASETS[dataset]
    with contextlib.redirect_stdout(io.StringIO()):  # of which pictures are left out, and the like
        return builder_class.find(source, config or next(iter(builder_class.CONFIGS)))


def images_in(source, split):
    """The image files that a `files.Source` names in a split: list of Path."""
    return [pair.image for pair in source.splits[split]]


def digests(source):
    """What tells whether a split of a `files.Source` is still the same: {split: text}.

    Of the names of its pictures; None, of what is drawn, has no files and no splits to change.
    """
    if source is None:
        return {}
    found = {}
    for split, pairs in source.splits.items():
        names = "\n".join(sorted(pair.name for pair in pairs))
        found[split] = hashlib.sha256(names.encode()).hexdigest()[:16]
    return found


def full_name(name):
    """The name of a dataset with its configuration: "camvid" is "camvid/default"."""
    dataset, _, config = name.partition("/")
    if not config and dataset in DATASETS:
        config = next(iter(DATASETS[dataset].CONFIGS))
    return f"{dataset}/{config}"


def shared_picture(images, others):
    """The first file of `images` (paths) that is one of `others`, or a copy of one under its name.

    None if there is none.

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
            return path
        twins = named.get((path.name, status.st_size), ())
        if any(filecmp.cmp(path, twin, shallow=False) for twin in twins):
            return path
    return None
