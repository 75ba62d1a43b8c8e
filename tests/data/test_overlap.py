"""Whether splits share pictures: told by the files, never by the names of the splits."""

import os
import shutil
from pathlib import Path

import pytest

from kerasdense.data import overlap
from kerasdense.data.files import Pair, Source


@pytest.fixture
def files(tmp_path):
    """Two folders of files, of which no name is in both."""
    for name in ("one/a.png", "one/b.png", "other/c.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"picture {name}")
    return tmp_path


def shared(folder):
    one, other = (sorted((folder / name).iterdir()) for name in ("one", "other"))
    found = overlap.shared_picture(one, other), overlap.shared_picture(other, one)
    return tuple(path is not None for path in found)


def test_other_files_are_other_pictures(files):
    assert shared(files) == (False, False)
    assert not overlap.shared_picture([], list((files / "one").iterdir()))


@pytest.mark.parametrize("link", [os.symlink, os.link, shutil.copy])
def test_links_and_copies_are_the_same_picture(files, link):
    link(files / "one/b.png", files / "other/b.png")
    assert shared(files) == (True, True)


def test_a_name_alone_is_no_picture(files):
    # Cameras number their pictures: of one name, and for once even of one size.
    (files / "other/b.png").write_text("PICTURE one/b.png")
    assert (files / "other/b.png").stat().st_size == (files / "one/b.png").stat().st_size
    assert shared(files) == (False, False)


def test_a_configuration_that_is_not_named_is_the_first():
    assert overlap.full_name("camvid") == "camvid/default"
    assert overlap.full_name("voc_detection") == "voc_detection/voc2012"
    assert overlap.full_name("voc_detection/voc2007") == "voc_detection/voc2007"


def test_the_images_of_a_dataset_are_found_without_a_word(toy_folder, capsys):
    source = overlap.source_of("folder", toy_folder)
    images = [path for split in source.splits for path in overlap.images_in(source, split)]
    assert sorted(images) == sorted((toy_folder / "images").iterdir())
    assert len(overlap.images_in(source, "val")) == 1
    assert capsys.readouterr() == ("", "")
    with pytest.raises(FileNotFoundError):
        overlap.source_of("folder", toy_folder / "nowhere")
    with pytest.raises(ValueError, match="Unknown dataset 'mine'"):
        overlap.source_of("mine", toy_folder)


def test_digests_tell_of_the_pictures_of_a_split_whatever_their_order():
    def source(root, *names):
        pairs = [Pair(name, Path(root, name), Path(root, name)) for name in names]
        return Source(Path(root), {"train": pairs, "val": pairs[:1]})

    found = overlap.digests(source("here", "a", "b"))
    assert found["train"] != found["val"]
    assert overlap.digests(source("there", "b", "a"))["train"] == found["train"]
    assert overlap.digests(source("here", "a", "c"))["train"] != found["train"]
    assert overlap.digests(None) == {}
