"""Whether splits share pictures: told by the files, never by the names of the splits."""

import os
import shutil

import pytest

from kerasdense.data import overlap


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
    return overlap.share_a_picture(one, other), overlap.share_a_picture(other, one)


def test_other_files_are_other_pictures(files):
    assert shared(files) == (False, False)
    assert not overlap.share_a_picture([], list((files / "one").iterdir()))


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
    found = overlap.images_of("folder", toy_folder)
    images = sorted(path for paths in found.values() for path in paths)
    assert images == sorted((toy_folder / "images").iterdir()) and len(found["val"]) == 1
    assert capsys.readouterr() == ("", "")
    with pytest.raises(FileNotFoundError):
        overlap.images_of("folder", toy_folder / "nowhere")
    with pytest.raises(ValueError, match="Unknown dataset 'mine'"):
        overlap.images_of("mine", toy_folder)
