"""Preparing a dataset once: a source's files to TFDS' prepared form.

It lies in a directory whose name carries a fingerprint of the source files. What an example holds,
and how its files are checked on the way, is told by `mask_preparation` and `box_preparation`.
"""

import contextlib
import dataclasses
import hashlib
import io
import os
import sys
from pathlib import Path

import tensorflow_datasets as tfds
from absl import logging as absl_logging

from kerasdense.data.files import Source
from kerasdense.data.turning import Convention

# Of the prepared form of every dataset, a number for all: old forms are left alone and made anew.
# 2.0.0: images are upright by EXIF, masks are counted, own data are split by a threshold.
# 2.1.0: what truth was drawn on is told by other pictures, too; objects are counted.
# 2.2.0: so are the sizes of images with masks.
VERSION = tfds.core.Version("2.2.0")


@dataclasses.dataclass(eq=False)
class SourceConfig(tfds.core.BuilderConfig):
    """A TFDS configuration that knows its source; `name` carries the fingerprint."""

    kind: str = ""  # the name without the fingerprint, such as "ladder"
    source: Source | None = None
    notes: list[str] = dataclasses.field(default_factory=list)  # of a builder at work, to print
    convention: Convention | None = None  # of a builder at work, see `turning.convention_of`


def dataset_info(builder, class_names, palette, features):
    """Returns the DatasetInfo: image, file_name and `features`; metadata class_names, palette."""
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "file_name": tfds.features.Text(),
            **features,
        }
    )
    metadata = tfds.core.MetadataDict(
        class_names=list(class_names), palette=[list(color) for color in palette]
    )
    return tfds.core.DatasetInfo(
        builder=builder,
        description=(type(builder).__doc__ or "").strip(),
        features=features,
        metadata=metadata,
    )


def fingerprint(source):
    """Returns "PLACE8-FILES12": hashes of the folder's path, and of its files' names, sizes, times.

    Only files that the builder reads count: those of the pairs and the lists. The first hash is
    also of the values that masks are read by, the second of the splits.
    """
    files = {*source.lists}
    digest = hashlib.sha256()
    for split, pairs in source.splits.items():
        files.update(path for pair in pairs for path in (pair.image, pair.truth))
        digest.update("\0".join((split, *(pair.name for pair in pairs))).encode())
    for path in sorted(files):
        status = path.stat()
        relative = os.path.relpath(path, source.root)
        digest.update(f"{relative}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    place = hashlib.sha256(os.path.realpath(source.root).encode())
    if source.mask_values:
        place.update(f"\0{source.mask_values}".encode())
    return f"{place.hexdigest()[:8]}-{digest.hexdigest()[:12]}"


def prepare(builder_class, kind, source, key, prepared_dir=None):
    """Returns a builder whose prepared form is complete, preparing it where it is not there.

    Args:
        builder_class: A TFDS builder that takes a `SourceConfig`.
        kind: The dataset's configuration, such as "ladder".
        source: `Source`, or None if the builder generates its examples.
        key: Fingerprint, "PLACE-FILES": part of the directory's name.
        prepared_dir: TFDS' data directory; None is TFDS' own default.

    Raises:
        ValueError, FileNotFoundError: from the builder, naming the file at fault.
        OSError: the directory cannot be written.
    """
    config = SourceConfig(name=f"{kind}-{key}", kind=kind, source=source)
    with _quiet_tfds():
        builder = builder_class(config=config, data_dir=prepared_dir and os.fspath(prepared_dir))
    label = f"{builder_class.name}/{kind}"
    if (builder.data_path / "dataset_info.json").exists():
        counts = _counts({name: split.num_examples for name, split in builder.info.splits.items()})
        print(f"{label}: reusing the prepared form in {builder.data_dir} ({counts})", flush=True)
        return builder
    if builder.data_path.exists():
        raise OSError(
            f"'{builder.data_dir}' is no complete prepared form (dataset_info.json is missing). "
            "Delete this folder and run again."
        )
    directory = Path(builder.data_dir).parent
    _report_older(label, kind, key, directory, source)
    counts = _counts({name: len(pairs) for name, pairs in source.splits.items()}) if source else ""
    print(f"{label}: preparing {counts or 'all splits'} in {builder.data_dir}", flush=True)
    try:
        _download_and_prepare(builder)
    finally:
        with contextlib.suppress(OSError):  # goes only if empty: nothing of a failure stays behind
            directory.rmdir()
    for note in config.notes:
        print(f"{label}: {note}", flush=True)
    return builder


def _counts(sizes):
    """Returns such as "367 train + 101 val images"."""
    return " + ".join(f"{size} {name}" for name, size in sizes.items()) + " images"


def _report_older(label, kind, key, directory, source):
    """Says so if the same folder was prepared before, with other files in it or by older rules."""
    place = key.split("-")[0]
    old = [
        path.parent.parent
        for path in sorted(directory.parent.glob(f"{kind}-{place}-*/*/dataset_info.json"))
        if "incomplete." not in path.parent.name
    ]
    if not old:
        return
    names = ", ".join(str(path) for path in dict.fromkeys(old))
    if directory in old:
        print(f"{label}: an older version of kerasdense prepared it in {names} (left alone)")
    else:
        what = f"'{source.root}'" if source else "the generator"
        print(f"{label}: {what} changed since it was prepared in {names} (left alone)")


def _download_and_prepare(builder):
    import tensorflow as tf  # TFDS writes through it, and its errors are no OSError

    tfds.display_progress_bar(enable=sys.stderr.isatty())
    offline = tfds.download.DownloadConfig(try_download_gcs=False)
    try:
        with _quiet_tfds():
            builder.download_and_prepare(download_config=offline)
    except (OSError, RuntimeError, tf.errors.OpError) as caught:
        # TFDS wraps what TensorFlow's writer raises; builders raise ValueError while they read
        error = caught.__cause__ if type(caught) is RuntimeError else caught
        if not isinstance(error, (OSError, tf.errors.OpError)):
            raise
        reason = getattr(error, "strerror", None) or getattr(error, "message", None) or str(error)
        raise OSError(
            f"Cannot write the prepared form of {builder.name} to '{builder.data_dir}': "
            f"{' '.join(reason.split())}. Make room or allow writing there, or choose another "
            "directory (prepared_dir, --prepared-dir)."
        ) from caught


@contextlib.contextmanager
def _quiet_tfds():
    """TFDS prints of downloads, and warns of each configuration that is not a fixed one."""
    verbosity = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        absl_logging.set_verbosity(verbosity)
