"""Which files of own data are read, and which split each belongs to."""

import hashlib
import os
import re

import pytest

from kerasdense.data import files


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return path


def pairs_of(*names):
    return [files.Pair(name, f"{name}.jpg", f"{name}.png") for name in names]


def hashed(*names):
    """Names of val, and of train, by a hash."""
    splits = files.hashed_splits(pairs_of(*names), "folder", "root", "splits").pairs
    return [[pair.name for pair in splits[split]] for split in ("val", "train")]


def fraction(name):
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) / 2**256


def own_splits(root):
    images = root / "images"
    pairs = [
        files.Pair(stem, image, root / "masks" / f"{stem}.png")
        for stem, image in files.images_by_stem(images).items()
    ]
    return files.own_splits(
        "folder", root, pairs, images, root / "splits", ("train", "val", "test")
    )


def names_of(splits):
    return {split: [pair.name for pair in pairs] for split, pairs in splits.pairs.items()}


# --- walk --------------------------------------------------------------------------------------


def test_linked_folders_are_entered_and_loops_are_not(tmp_path):
    root = tmp_path / "images"
    inside = touch(root / "day" / "a.jpg")
    touch(tmp_path / "elsewhere" / "night" / "b.jpg")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "day" / "again").symlink_to(root)  # a loop: it lies in where it leads
    (tmp_path / "elsewhere" / "night" / "back").symlink_to(tmp_path / "elsewhere")
    (root / "single.jpg").symlink_to(inside)
    (root / "broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert sorted(files.images_by_stem(root)) == ["day/a", "linked/night/b", "single"]
    # through a link as well
    (tmp_path / "link").symlink_to(root)
    assert sorted(files.images_by_stem(tmp_path / "link")) == ["day/a", "linked/night/b", "single"]


def test_hidden_files_are_left_out(tmp_path):
    for name in ("a.jpg", "._a.jpg", ".DS_Store", ".trash/b.jpg", "day/._c.png", "day/c.png"):
        touch(tmp_path / name)
    assert sorted(files.images_by_stem(tmp_path)) == ["a", "day/c"]


def test_a_folder_that_cannot_be_listed_is_no_empty_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.walk(tmp_path / "nowhere")


# --- splits by a hash --------------------------------------------------------------------------


def test_val_is_where_the_hash_lies_below_a_fifth():
    names = [f"picture {number}" for number in range(2000)]
    val, train = hashed(*names)
    assert val == sorted(name for name in names if fraction(name) < 0.2)
    assert sorted(val + train) == sorted(names)
    # 400 expected; the deviation of a binomial distribution is sqrt(2000 * 0.2 * 0.8) = 18
    assert abs(len(val) - 400) < 4 * 18


def test_images_that_are_added_move_no_other():
    names = [f"{number:04}" for number in range(300)]
    val, train = hashed(*names[:60])
    later_val, later_train = hashed(*names)
    assert set(val) < set(later_val) and set(train) < set(later_train)


def test_a_split_of_few_images_gets_one_and_says_so(capsys):
    names = [f"{number}" for number in range(60)]
    low = [name for name in names if fraction(name) < 0.2][:3]
    high = [name for name in names if fraction(name) >= 0.2][:3]
    assert hashed(*high) == [
        [min(high, key=fraction)],
        sorted(set(high) - {min(high, key=fraction)}),
    ]
    assert f"'{min(high, key=fraction)}' was taken from train" in capsys.readouterr().out
    assert hashed(*low) == [sorted(set(low) - {max(low, key=fraction)}), [max(low, key=fraction)]]
    assert f"'{max(low, key=fraction)}' was taken from val" in capsys.readouterr().out
    hashed(*low, *high)
    assert "taken" not in capsys.readouterr().out


# --- splits by folders -------------------------------------------------------------------------


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_folders_of_the_images_are_the_splits(tmp_path, val, capsys):
    for name in ("train/a", "train/b", f"{val}/a", "test/deep/c"):
        touch(tmp_path / "images" / f"{name}.jpg")
    splits = own_splits(tmp_path)
    # one name may stand in two of them
    assert names_of(splits) == {
        "train": ["train/a", "train/b"],
        "val": [f"{val}/a"],
        "test": ["test/deep/c"],
    }
    assert splits.lists == ()
    (line,) = capsys.readouterr().out.splitlines()
    assert f"the folders train/, {val}/, test/ of" in line
    assert "are the splits: train 2, val 1, test 1 images" in line


@pytest.mark.parametrize(
    "train, val, test",
    [
        ("Train", "Val", "TEST"),
        ("training", "Validation", "testing"),
        ("TRAINING", "VALID", "Test"),
    ],
)
def test_those_folders_may_be_written_otherwise(tmp_path, train, val, test, capsys):
    for name in (f"{train}/a", f"{val}/b", f"{test}/c"):
        touch(tmp_path / "images" / f"{name}.jpg")
    splits = own_splits(tmp_path)
    assert names_of(splits) == {"train": [f"{train}/a"], "val": [f"{val}/b"], "test": [f"{test}/c"]}
    assert f"the folders {train}/, {val}/, {test}/ of" in capsys.readouterr().out
    touch(tmp_path / "images" / "train" / "d.jpg")
    with pytest.raises(ValueError, match="holds both .*/ and .*/: expected one folder of .* train"):
        own_splits(tmp_path)


def test_an_empty_folder_is_left_out_and_named(tmp_path, capsys):
    touch(tmp_path / "images" / "train" / "a.jpg")
    touch(tmp_path / "images" / "val" / "b.jpg")
    touch(tmp_path / "images" / "test" / ".gitkeep")
    assert names_of(own_splits(tmp_path)) == {"train": ["train/a"], "val": ["val/b"]}
    out = capsys.readouterr().out
    assert re.search(r"of '.*images' that hold no image are left out: test/\n", out)
    (tmp_path / "images" / "val" / "b.jpg").unlink()
    assert names_of(own_splits(tmp_path)) == {"train": ["train/a"]}
    assert "val/, test/\n" in capsys.readouterr().out
    # train is no folder to be left out
    (tmp_path / "images" / "train" / "a.jpg").unlink()
    assert names_of(own_splits(tmp_path)) == {"train": []}


def test_an_empty_folder_beside_a_filled_one_of_its_split_is_left_out(tmp_path):
    touch(tmp_path / "images" / "training" / "a.jpg")
    for name in ("train", "test"):
        (tmp_path / "images" / name).mkdir()
    assert names_of(own_splits(tmp_path)) == {"train": ["training/a"]}


def test_images_beside_empty_folders_alone_are_split_by_a_hash(tmp_path, capsys):
    for name in "abc":
        touch(tmp_path / "images" / f"{name}.jpg")
    (tmp_path / "images" / "val").mkdir()
    assert own_splits(tmp_path).lists == ()
    assert "no image" in capsys.readouterr().out


def test_images_beside_those_folders_are_named(tmp_path):
    touch(tmp_path / "images" / "train" / "a.jpg")
    touch(tmp_path / "images" / "more" / "b.jpg")
    with pytest.raises(
        ValueError, match=r"beside them 1 images, such as '.*more/b.jpg'.*train.txt"
    ):
        own_splits(tmp_path)


def test_train_must_be_among_those_folders_and_none_twice(tmp_path):
    touch(tmp_path / "images" / "val" / "a.jpg")
    with pytest.raises(ValueError, match=r"holds val/ but no train/.*rename the folder"):
        own_splits(tmp_path)
    touch(tmp_path / "images" / "train" / "a.jpg")
    touch(tmp_path / "images" / "valid" / "a.jpg")
    with pytest.raises(ValueError, match=r"holds both val/ and valid/"):
        own_splits(tmp_path)


def test_lists_go_before_folders(tmp_path):
    for name in ("train/a", "val/b", "c"):
        touch(tmp_path / "images" / f"{name}.jpg")
    touch(tmp_path / "splits" / "train.txt").write_text("c\nval/b\n")
    assert names_of(own_splits(tmp_path)) == {"train": ["c", "val/b"]}


# --- lists -------------------------------------------------------------------------------------


def test_lists_with_suffixes_and_flags(tmp_path):
    for name in ("a.jpg", "b 1.jpg", "c.d.png", "e.JPG", "f.jpg.png"):
        touch(tmp_path / "images" / name)
    lists = tmp_path / "splits"
    touch(lists / "train.txt").write_text("a.jpg\nb 1\nc.d.png -1\n")
    touch(lists / "val.txt").write_text("e.JPG  1\nf.jpg\n")
    splits = own_splits(tmp_path)
    assert names_of(splits) == {"train": ["a", "b 1", "c.d"], "val": ["e", "f.jpg"]}
    assert splits.lists == (lists / "train.txt", lists / "val.txt")
    (lists / "val.txt").write_text("images/e.JPG\nimages/f.jpg\n")  # as other tools write them
    assert names_of(own_splits(tmp_path)) == names_of(splits)
    (lists / "val.txt").write_text("g.jpg\n")
    with pytest.raises(FileNotFoundError, match="names 'g.jpg', but there is no image"):
        own_splits(tmp_path)


def test_lists_may_be_written_otherwise(tmp_path):
    for name in "abcd":
        touch(tmp_path / "images" / f"{name}.jpg")
    lists = tmp_path / "splits"
    for name, entry in (("Training", "a"), ("VAL", "b"), ("test", "c"), ("notes", "x"), ("a", "y")):
        touch(lists / f"{name}.txt").write_text(f"{entry}\n")
    splits = own_splits(tmp_path)
    assert names_of(splits) == {"train": ["a"], "val": ["b"], "test": ["c"]}
    touch(lists / "valid.txt").write_text("d\n")
    with pytest.raises(ValueError, match="holds both VAL.txt and valid.txt.*one list"):
        own_splits(tmp_path)


def test_a_folder_without_lists_is_as_good_as_none(tmp_path):
    for name in ("a", "b", "c"):
        touch(tmp_path / "images" / f"{name}.jpg")
    os.mkdir(tmp_path / "splits")
    touch(tmp_path / "splits" / "._train.txt")
    assert own_splits(tmp_path).lists == ()
