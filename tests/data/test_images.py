"""Which images are found, and the names of their results."""

import pytest

from kerasdense.data.images import Found, find_images, find_named_images, unused_name


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_find_images(tmp_path):
    folder, single, frame = tmp_path / "in", tmp_path / "x.dat", tmp_path / "mot" / "img1" / "1.jpg"
    touch(folder / "b.PNG", folder / "deep" / "a.jpg", folder / "notes.txt", single, frame)
    touch(tmp_path / "mot" / "seqinfo.ini", tmp_path / "mot" / "cover.jpg")
    found = find_images([single, folder, tmp_path / "mot"])
    assert found == [single, folder / "b.PNG", folder / "deep" / "a.jpg", frame]


def test_earlier_results_are_no_images(tmp_path):
    touch(tmp_path / "a.jpg", tmp_path / "out" / "a.png")
    assert find_images([tmp_path], tmp_path / "out") == [tmp_path / "a.jpg"]
    for paths in ([tmp_path / "out" / "a.png"], [tmp_path / "out"]):
        with pytest.raises(ValueError, match="--output"):
            find_images(paths, tmp_path / "out")
    touch(tmp_path / "empty" / "notes.txt")
    with pytest.raises(ValueError, match="No images in .*empty"):
        find_images([tmp_path / "empty"], tmp_path / "out")


def test_results_are_named_by_the_path_below_the_folder_given(tmp_path):
    touch(tmp_path / "in" / "good" / "3.jpg", tmp_path / "in" / "a.b.png", tmp_path / "x.dat")
    touch(tmp_path / "mot" / "img1" / "1.jpg", tmp_path / "mot" / "seqinfo.ini")
    found = find_named_images([tmp_path / "in", tmp_path / "x.dat", tmp_path / "mot"])
    assert found == [
        Found(tmp_path / "in" / "a.b.png", "a.b"),
        Found(tmp_path / "in" / "good" / "3.jpg", "good/3"),
        Found(tmp_path / "x.dat", "x"),
        Found(tmp_path / "mot" / "img1" / "1.jpg", "1"),
    ]
    # The results of sub/ would lie beside its images.
    with pytest.raises(ValueError, match="good.3.jpg lies in the output folder"):
        find_named_images([tmp_path / "in" / "good", tmp_path / "in"], tmp_path / "in")


def test_linked_folders_are_entered_and_hidden_files_left_out(tmp_path):
    touch(tmp_path / "far" / "b.jpg", tmp_path / "in" / "a.jpg", tmp_path / "in" / "._a.jpg")
    touch(tmp_path / "in" / ".thumbnails" / "c.jpg")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "back").symlink_to(tmp_path / "in")  # a loop
    assert find_images([tmp_path / "in"]) == [
        tmp_path / "in" / "a.jpg",
        tmp_path / "in" / "linked" / "b.jpg",
    ]


def test_no_name_is_used_twice():
    taken = {"legend"}
    names = [unused_name(stem, taken, ("", "_overlay")) for stem in ("a", "a", "legend", "a")]
    assert names == ["a", "a_2", "legend_2", "a_3"]
    assert [unused_name("sub/a", taken, ("",)) for _ in range(2)] == ["sub/a", "sub/a_2"]
