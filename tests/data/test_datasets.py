"""The dataset builders: features, fingerprints, protocols, and one clear line for each bad input.

Legend: small trees are written with Pillow; classes and sizes are chosen in each test.
"""

import os
import resource
import shutil
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import REAL_DATA, needs_real_data
from PIL import Image

from kerasdense.data import classes, datasets, files, mask_preparation, preparation, reading
from kerasdense.data.sources import camvid, cityscapes, toy_streets, voc_segmentation
from kerasdense.data.sources import folder as folder_module
from kerasdense.metrics.labels import IGNORE

HEIGHT, WIDTH = 6, 8


def photo(seed=0, size=(WIDTH, HEIGHT), mode="RGB"):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def label_map(*values, size=(WIDTH, HEIGHT), mode="L"):
    """Columns of the values in turn."""
    row = np.resize(np.array(values, np.uint8), size[0])
    image = Image.fromarray(np.tile(row, (size[1], 1)))
    if mode == "P":
        image = image.convert("L")
        image.putpalette(sum(classes.default_palette(256), []))
    return image


def save(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def write_lines(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def examples(builder, split):
    """The split's examples by file name."""
    found = tfds.as_numpy(builder.as_dataset(split))
    return {example["file_name"].decode(): example for example in found}


@pytest.fixture
def camvid_tree(tmp_path):
    root = tmp_path / "CamVid"
    for split, stems in (("train", "abc"), ("val", "de")):
        lines = []
        for number, stem in enumerate(stems):
            save(photo(number), root / split / f"{stem}.png")
            save(label_map(0, 10, 11), root / f"{split}annot" / f"{stem}.png")
            prefix = f"/SegNet/CamVid/{split}"
            lines.append(f"{prefix}/{stem}.png {prefix}annot/{stem}.png")
        write_lines(root / f"{split}.txt", *lines)
    return root


@pytest.fixture
def voc_tree(tmp_path):
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for number, stem in enumerate(("a", "b", "c", "d", "e")):
        save(photo(number), root / "JPEGImages" / f"{stem}.jpg")
        save(label_map(0, 20, 255, mode="P"), root / "SegmentationClassAug" / f"{stem}.png")
        if stem in "abc":
            save(label_map(0, 15, 255, mode="P"), root / "SegmentationClass" / f"{stem}.png")
    lists = root / "ImageSets" / "Segmentation"
    write_lines(lists / "train.txt", "a")
    write_lines(lists / "val.txt", "b", "c")
    return root


@pytest.fixture
def own_tree(tmp_path):
    root = tmp_path / "own"
    write_lines(root / "classes.txt", "background", "thing")
    for number in range(10):
        save(photo(number), root / "images" / "day" / f"{number}.png")
        save(label_map(0, 1, 255), root / "masks" / "day" / f"{number}.png")
    return root


def prepared(root, name="folder"):
    """Everything that a failed preparation could leave behind."""
    return list(root.glob(f"prepared/{name}/**/*"))


# --- load, fingerprint -------------------------------------------------------------------------


def test_unknown_names_list_what_exists():
    with pytest.raises(ValueError, match="camvid, cityscapes, voc_segmentation, folder, toy_str"):
        datasets.load("nope", "x")
    with pytest.raises(ValueError, match="fine, fine_coarse, extra, ladder, ladder_coarse"):
        datasets.load("cityscapes/nope", "x")
    with pytest.raises(ValueError, match="camvid needs a source"):
        datasets.load("camvid")
    with pytest.raises(ValueError, match="takes no source"):
        datasets.load("toy_streets", "x")


def test_the_classes_of_masks_and_of_boxes():
    def builder(**metadata):
        return types.SimpleNamespace(info=types.SimpleNamespace(metadata=metadata))

    one = builder(class_names=["sky", "car"], palette=[(0, 0, 9), (9, 0, 0)])
    for kind in ("mask", "box"):
        assert datasets.classes(one, kind) == (["sky", "car"], [[0, 0, 9], [9, 0, 0]])
    both = builder(**one.info.metadata, box_class_names=["car"], box_palette=[[1, 2, 3]])
    assert datasets.classes(both, "mask") == datasets.classes(one, "mask")
    assert datasets.classes(both, "box") == (["car"], [[1, 2, 3]])


def test_names_match_builders_and_stay_out_of_the_tfds_registry():
    from tensorflow_datasets.core import registered

    for name, builder_class in datasets.DATASETS.items():
        assert builder_class.name == name
        assert builder_class not in registered._DATASET_REGISTRY.values()


def test_camvid_features_metadata_and_reuse(camvid_tree, tmp_path, capsys):
    builder = datasets.load("camvid", camvid_tree, tmp_path / "prepared")
    out = capsys.readouterr().out
    preparing, *counted = out.splitlines()
    assert "preparing 3 train + 2 val images" in preparing and builder.data_dir in preparing
    # 8 columns: 3 of class 0 (Sky), 3 of 10 (Bicyclist), 2 of 11 (void)
    assert [line.split()[1] for line in counted] == ["train", "val"]
    for line in counted:
        assert "Sky 37.5 %, Building 0 %" in line and "Bicyclist 37.5 %, ignored 25.0 %" in line
    again = datasets.load("camvid", camvid_tree, tmp_path / "prepared")
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and "reusing" in out and builder.data_dir in out
    for each in (builder, again, tfds.builder_from_directory(builder.data_dir)):
        assert list(each.info.metadata["class_names"]) == list(camvid.CLASSES)
        assert [tuple(color) for color in each.info.metadata["palette"]] == list(
            camvid.CLASSES.values()
        )
    train = examples(again, "train")
    assert sorted(train) == ["a", "b", "c"]
    for number, stem in enumerate("abc"):
        assert train[stem]["image"].dtype == train[stem]["mask"].dtype == np.uint8
        np.testing.assert_array_equal(train[stem]["image"], np.asarray(photo(number)))
        # columns 0, 10, 11 in turn; 11 is void
        expected = np.resize([0, 10, IGNORE], WIDTH)
        np.testing.assert_array_equal(train[stem]["mask"][0, :, 0], expected)
    assert set(again.info.splits) == {"train", "val"}  # no test list, no test folder


def test_source_is_not_written(camvid_tree, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in camvid_tree.rglob("*")}
    datasets.load("camvid", camvid_tree, tmp_path / "prepared")
    assert {path: path.stat().st_mtime_ns for path in camvid_tree.rglob("*")} == before


def test_edited_source_is_prepared_anew_and_says_so(camvid_tree, tmp_path, capsys):
    first = datasets.load("camvid", camvid_tree, tmp_path / "prepared")
    save(label_map(3), camvid_tree / "trainannot" / "a.png")
    capsys.readouterr()
    second = datasets.load("camvid", camvid_tree, tmp_path / "prepared")
    out = capsys.readouterr().out
    assert "changed since" in out and os.path.dirname(first.data_dir) in out
    assert first.data_dir != second.data_dir and os.path.isdir(first.data_dir)
    assert (examples(second, "train")["a"]["mask"] == 3).all()


def test_fingerprint_sees_names_sizes_times_and_path(camvid_tree, tmp_path):
    def key(root):
        return preparation.fingerprint(camvid.Camvid.find(root, "default"))

    first = key(camvid_tree)
    (camvid_tree / "notes.txt").write_text("not read by the builder")
    assert key(camvid_tree) == first
    mask = camvid_tree / "valannot" / "d.png"
    status = mask.stat()
    os.utime(mask, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert key(camvid_tree) != first
    os.utime(mask, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert key(camvid_tree) == first
    copy = shutil.copytree(camvid_tree, tmp_path / "copy")  # copytree keeps times
    place, files = key(copy).split("-")
    assert place != first.split("-")[0] and files == first.split("-")[1]


def test_an_interrupted_preparation_is_not_used(own_tree, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(mask_preparation, "encode_example", interrupt)
        with pytest.raises(KeyboardInterrupt):
            datasets.load("folder", own_tree, tmp_path / "prepared")
    assert prepared(tmp_path) == []
    # a kill leaves TFDS' incomplete folder behind: it has another name
    builder = datasets.load("folder", own_tree, tmp_path / "prepared")
    directory = os.path.dirname(builder.data_dir)
    shutil.move(builder.data_dir, os.path.join(directory, "incomplete.ABCDEF_2.0.0"))
    assert len(examples(datasets.load("folder", own_tree, tmp_path / "prepared"), "train")) == 9


def test_damaged_prepared_form_is_named(own_tree, tmp_path):
    builder = datasets.load("folder", own_tree, tmp_path / "prepared")
    os.remove(os.path.join(builder.data_dir, "dataset_info.json"))
    with pytest.raises(OSError, match="no complete prepared form.*Delete"):
        datasets.load("folder", own_tree, tmp_path / "prepared")


def test_unwritable_and_full_prepared_dir(own_tree, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"Cannot write the prepared form of folder.*--prepared-dir"):
        datasets.load("folder", own_tree, tmp_path / "file")
    save(photo(size=(300, 300)), own_tree / "images" / "big.png")
    save(label_map(0, size=(300, 300)), own_tree / "masks" / "big.png")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # as on a full disk
    try:
        with pytest.raises(OSError, match="Cannot write the prepared form") as caught:
            datasets.load("folder", own_tree, tmp_path / "prepared")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert prepared(tmp_path) == []


# --- files that are not as they should be ------------------------------------------------------


def break_mask(image):
    def act(root):
        save(image, root / "masks" / "day" / "3.png")

    return act


def truncate(part):
    def act(root):
        path = root / part / "day" / "3.png"
        save(photo(size=(64, 64), mode="RGB" if part == "images" else "L"), path)
        path.write_bytes(path.read_bytes()[:2000])

    return act


def jpeg_mask(root):
    path = root / "masks" / "day" / "3.png"
    label_map(0).save(path, format="JPEG")


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (break_mask(label_map(0, 1, size=(8, 7))), "is 8x7 but its image .*3.png' is 8x6"),
        (break_mask(photo()), "is mode RGB; expected 8-bit gray or palette"),
        (break_mask(photo(mode="RGBA")), "is mode RGBA; expected 8-bit gray or palette"),
        (break_mask(Image.fromarray(np.zeros((6, 8), np.uint16))), "is 16-bit gray; expected"),
        (break_mask(label_map(0, 2)), r"contains class 2 but classes.txt has 2 classes \(0-1"),
        (truncate("images"), "cannot be decoded .*truncated"),
        (truncate("masks"), "cannot be decoded .*truncated"),
        (jpeg_mask, "is a JPEG file"),
        (lambda root: (root / "masks/day/3.png").write_text("hello"), "is not an image"),
    ],
)
def test_bad_pair_is_named_and_leaves_nothing(own_tree, tmp_path, act, message):
    act(own_tree)
    with pytest.raises(ValueError, match=message) as caught:
        datasets.load("folder", own_tree, tmp_path / "prepared")
    assert os.path.join("day", "3.png") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert prepared(tmp_path) == []


def test_missing_files_are_named(own_tree, camvid_tree, tmp_path):
    (own_tree / "masks" / "day" / "3.png").unlink()
    with pytest.raises(FileNotFoundError, match="Mask '.*3.png' does not exist"):
        datasets.load("folder", own_tree, tmp_path / "prepared")
    (camvid_tree / "train" / "b.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"Image '.*b.png' does not exist.*train.txt"):
        datasets.load("camvid", camvid_tree, tmp_path / "prepared")
    (camvid_tree / "train.txt").unlink()
    with pytest.raises(FileNotFoundError, match="train.txt' does not exist"):
        datasets.load("camvid", camvid_tree, tmp_path / "prepared")
    with pytest.raises(FileNotFoundError, match="nowhere' does not exist"):
        datasets.load("camvid", tmp_path / "nowhere", tmp_path / "prepared")
    assert not (tmp_path / "prepared").exists()


def test_lists_empty_doubled_or_malformed(camvid_tree, tmp_path):
    lines = (camvid_tree / "val.txt").read_text().splitlines()
    for content, message in (
        ([], "val.txt' is empty"),
        ([lines[0], lines[0]], "'d' twice in split 'val'"),
        (["only.png"], "expected 'IMAGE MASK' on each line, received 'only.png'"),
    ):
        write_lines(camvid_tree / "val.txt", *content)
        with pytest.raises(ValueError, match=message):
            datasets.load("camvid", camvid_tree, tmp_path / "prepared")


def test_camvid_split_needs_list_and_folder(camvid_tree, tmp_path):
    (camvid_tree / "test").mkdir()
    with pytest.raises(FileNotFoundError, match="test.txt' does not exist"):
        datasets.load("camvid", camvid_tree, tmp_path / "prepared")


# --- what masks show ---------------------------------------------------------------------------


def save_masks(root, *values):
    """All masks of `own_tree` as columns of these values."""
    for path in (root / "masks").rglob("*.png"):
        save(label_map(*values), path)


def test_pixels_are_counted_and_known_later(own_tree, tmp_path, capsys):
    save(label_map(1), own_tree / "masks" / "day" / "4.png")  # the only one of val
    save(label_map(*[0] * 4, 1, 255, 255, 255), own_tree / "masks" / "day" / "5.png")
    builder = datasets.load("folder", own_tree, tmp_path / "prepared")
    # 8 columns of 6 pixels. Nine images are train: eight of 3 columns of 0, 3 of 1, 2 of 255; one
    # of 4, 1 and 3. Together 28, 25 and 19 of 72 columns.
    pixels = {"train": [6 * 28, 6 * 25, 6 * 19], "val": [0, 6 * 8, 0]}
    # 28 / 72 = 38.9 %, 25 / 72 = 34.7 %, 19 / 72 = 26.4 %
    expected = [
        "train 9 images, pixels: background 38.9 %, thing 34.7 %, ignored 26.4 %",
        "val 1 images, pixels: background 0 %, thing 100.0 %, ignored 0 %",
    ]
    for line, text in zip(capsys.readouterr().out.splitlines()[2:], expected, strict=True):
        assert line.startswith(f"folder/default: {text}")
    again = datasets.load("folder", own_tree, tmp_path / "prepared")
    assert "reusing" in capsys.readouterr().out
    for each in (builder, again, tfds.builder_from_directory(builder.data_dir)):
        assert each.info.metadata["pixels"] == pixels
        assert each.info.metadata["stored_values"] == {"train": [0, 1, 255], "val": [1]}
        assert each.info.metadata["sizes"] == {"train": 1, "val": 1}
        assert datasets.have_one_size(each, "train") and not datasets.have_one_size(each, "test")
        assert datasets.unseen_classes(each, "train") == []
        assert datasets.unseen_classes(each, "val") == ["background"]
        assert datasets.unseen_classes(each, "test") is None


def test_shares_of_a_few_pixels_are_not_zero():
    tally = mask_preparation.Tally("train", ["a", "b", "c"])
    mask = np.zeros((200, 200), np.uint8)
    mask[0, :3], mask[1, :200] = 1, 2
    tally.add("x", mask, mask)
    # 39797, 3 and 200 of 40000: 99.49 %, 0.0075 % and 0.5 %
    assert tally.describe().endswith("a 99.5 %, b <0.01 %, c 0.50 %, ignored 0 %")


def test_toy_streets_and_official_data_are_counted_too(voc_tree, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(toy_streets, "SPLIT_SIZES", {"train": 1, "val": 1})
    builder = datasets.load("toy_streets", prepared_dir=tmp_path / "prepared")
    mask = toy_streets.draw_scene("val", 0)[1]
    counts = [*np.bincount(mask.ravel(), minlength=8).tolist(), 0]
    assert builder.info.metadata["pixels"]["val"] == counts
    assert "toy_streets/default: val 1 images, pixels: sky " in capsys.readouterr().out
    builder = datasets.load("voc_segmentation", voc_tree, tmp_path / "prepared")
    assert len(datasets.unseen_classes(builder, "train")) == 19  # but background and person (15)
    assert not datasets.has_own_classes(builder)


def test_binary_masks_are_an_error_that_names_the_cure(own_tree, tmp_path):
    save_masks(own_tree, 0, 255)
    for _ in range(2):  # nothing was kept that would be taken for prepared
        with pytest.raises(ValueError, match="hold only 0 and 255.*--mask-values 0,255;") as caught:
            datasets.load("folder", own_tree, tmp_path / "prepared")
        assert "\n" not in str(caught.value) and prepared(tmp_path) == []
    builder = datasets.load("folder", own_tree, tmp_path / "prepared", mask_values=(0, 255))
    for example in examples(builder, "train").values():
        np.testing.assert_array_equal(example["mask"][0, :, 0], [0, 1] * 4)
    assert datasets.has_own_classes(builder) and datasets.unseen_classes(builder, "train") == []
    # where 255 does mean ignore, one can say that too
    builder = datasets.load("folder", own_tree, tmp_path / "prepared", mask_values=(0, 1))
    assert datasets.unseen_classes(builder, "train") == ["thing"]


def test_one_mask_with_the_other_class_tells_that_255_is_ignored(own_tree, tmp_path):
    save_masks(own_tree, 0, 255)
    save(label_map(0, 1), own_tree / "masks" / "day" / "4.png")  # of val alone
    builder = datasets.load("folder", own_tree, tmp_path / "prepared")
    assert datasets.unseen_classes(builder, "train") == ["thing"]


def test_masks_that_are_all_ignored(own_tree, camvid_tree, tmp_path):
    save_masks(own_tree, 255)
    with pytest.raises(ValueError, match="All pixels of all masks.*values 255 alone.*--mask-val"):
        datasets.load("folder", own_tree, tmp_path / "prepared")
    assert prepared(tmp_path) == []
    for path in camvid_tree.glob("*annot/*.png"):
        save(label_map(11), path)
    with pytest.raises(ValueError, match="All pixels of all masks.*values 11 alone") as caught:
        datasets.load("camvid", camvid_tree, tmp_path / "prepared")
    assert "--mask-values" not in str(caught.value) and prepared(tmp_path, "camvid") == []
    # a split without labels beside one that has them is as Cityscapes' test
    for path in camvid_tree.glob("trainannot/*.png"):
        save(label_map(3), path)
    builder = datasets.load("camvid", camvid_tree, tmp_path / "prepared")
    assert datasets.unseen_classes(builder, "val") == list(camvid.CLASSES)


def test_mask_values_are_a_prepared_form_of_their_own(own_tree, tmp_path, capsys):
    save_masks(own_tree, 7, 255, 3)
    write_lines(own_tree / "classes.txt", "a", "b")
    first = datasets.load("folder", own_tree, tmp_path / "prepared", mask_values=(7, 3))
    mask = next(iter(examples(first, "train").values()))["mask"]
    np.testing.assert_array_equal(mask[0, :, 0], [0, 255, 1, 0, 255, 1, 0, 255])  # not listed
    second = datasets.load("folder", own_tree, tmp_path / "prepared", mask_values=[3, 7])
    mask = next(iter(examples(second, "train").values()))["mask"]
    np.testing.assert_array_equal(mask[0, :, 0], [1, 255, 0, 1, 255, 0, 1, 255])
    assert first.data_dir != second.data_dir
    assert "changed since" not in capsys.readouterr().out  # the source did not
    datasets.load("folder", own_tree, tmp_path / "prepared", mask_values=(7, 3))
    assert first.data_dir in (out := capsys.readouterr().out) and "reusing" in out
    write_lines(own_tree / "classes.txt", "a", "b", "c")
    all_listed = datasets.load("folder", own_tree, tmp_path / "prepared", mask_values=(7, 255, 3))
    mask = next(iter(examples(all_listed, "train").values()))["mask"]
    np.testing.assert_array_equal(mask[0, :, 0], [0, 1, 2, 0, 1, 2, 0, 1])  # listed: a class


def test_mask_values_that_do_not_fit(own_tree, camvid_tree, tmp_path):
    def load(name, source, *values):
        datasets.load(name, source, tmp_path / "prepared", mask_values=values)

    with pytest.raises(ValueError, match="for each of the 2 classes background, thing, received 3"):
        load("folder", own_tree, 0, 1, 255)
    for values in ((0, 0), (0, 256), (-1, 0)):
        with pytest.raises(ValueError, match="expected different values from 0 to 255"):
            load("folder", own_tree, *values)
    for name, words in (("camvid", "masks of fixed values"), ("folder_detection", "no masks")):
        with pytest.raises(ValueError, match=f"folder; {name} has {words}"):
            load(name, camvid_tree, 0, 1)
    # a value that is not listed is the error that it always was
    with pytest.raises(
        ValueError, match=r"contains class 1 but --mask-values has 2 classes .*0, 25"
    ):
        load("folder", own_tree, 0, 255)
    assert prepared(tmp_path) == []


def test_small_images_are_counted_and_named(own_tree, tmp_path, capsys):
    for number in range(4):
        save(photo(size=(64, 64)), own_tree / "images" / "day" / f"{number}.png")
        save(label_map(0, 1, size=(64, 64)), own_tree / "masks" / "day" / f"{number}.png")
    save(photo(size=(64, 63)), own_tree / "images" / "day" / "3.png")
    save(label_map(0, 1, size=(64, 63)), own_tree / "masks" / "day" / "3.png")
    datasets.load("folder", own_tree, tmp_path / "prepared")
    _, _, train, val = capsys.readouterr().out.splitlines()
    # day/4 is val; 3 and 5 to 9 are small
    what = "images with a side under 64 pixels, which are padded where a network meets them whole"
    assert train.endswith(f"{what}: 6 (day/3, day/5, day/6, ...)")
    assert val.endswith(f"{what}: 1 (day/4)")


def test_forms_of_an_older_version_are_left_alone_and_made_anew(own_tree, tmp_path, capsys):
    builder = datasets.load("folder", own_tree, tmp_path / "prepared")
    old = os.path.join(os.path.dirname(builder.data_dir), "1.0.0")
    shutil.move(builder.data_dir, old)
    capsys.readouterr()
    again = datasets.load("folder", own_tree, tmp_path / "prepared")
    assert again.data_dir == builder.data_dir and os.path.isdir(old)
    out = capsys.readouterr().out
    assert "an older version of kerasdense prepared it" in out and "changed since" not in out


# --- EXIF --------------------------------------------------------------------------------------


def store(upright, orientation):
    """An array [H, W, ...] as a camera that writes this orientation stores it."""
    image = Image.fromarray(upright)
    inverse = {6: 8, 8: 6}.get(orientation, orientation)  # the others undo themselves
    return np.asarray(reading.turned(image, inverse))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("drawn_on", ["upright", "stored"])
def test_masks_and_pictures_are_upright(own_tree, tmp_path, orientation, drawn_on, capsys):
    exif = Image.Exif()
    exif[reading.EXIF_ORIENTATION] = orientation
    image = np.asarray(photo())
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[1:3, 5:7] = 1
    path = own_tree / "images" / "day" / "4.png"
    Image.fromarray(store(image, orientation)).save(path, exif=exif)
    assert reading.read_image(path).orientation == orientation
    # sizes tell the two apart from 5 on, where height and width change places
    kept = store(mask, orientation) if drawn_on == "stored" and orientation >= 5 else mask
    save(Image.fromarray(kept), own_tree / "masks" / "day" / "4.png")
    builder = datasets.load("folder", own_tree, tmp_path / "prepared")
    (example,) = examples(builder, "val").values()
    np.testing.assert_array_equal(example["image"], image)
    np.testing.assert_array_equal(example["mask"][..., 0], mask)
    line = capsys.readouterr().out.splitlines()[-1]
    turned = kept.shape != mask.shape
    counted = (
        "pictures that carry an EXIF orientation and were turned: 1, masks drawn on the stored "
        f"pixels and turned with them: {int(turned)}"
    )
    assert (counted in line) == (orientation != 1) and ("EXIF" in line) == (orientation != 1)


def write_turned(root, stem, orientation, drawn_on, side=(HEIGHT, WIDTH)):
    """An upright picture of `side` with a mask, both stored in `orientation`, in own_tree's form.

    Returns the mask of the upright picture.
    """
    exif = Image.Exif()
    exif[reading.EXIF_ORIENTATION] = orientation
    image = np.zeros((*side, 3), np.uint8)
    mask = np.zeros(side, np.uint8)
    mask[0, :2] = 1  # not symmetric
    path = root / "images" / "day" / f"{stem}.png"
    Image.fromarray(store(image, orientation)).save(path, exif=exif)
    kept = store(mask, orientation) if drawn_on == "stored" else mask
    save(Image.fromarray(kept), root / "masks" / "day" / f"{stem}.png")
    return mask


UNKNOWN = "turned, but whether their masks were drawn on the upright picture, as is supposed, is "


@pytest.mark.parametrize("drawn_on", ["upright", "stored"])
def test_pictures_turned_by_a_quarter_tell_what_the_other_masks_were_drawn_on(
    own_tree, tmp_path, drawn_on, capsys
):
    expected = {}
    for stem, orientation in enumerate((2, 3, 4)):
        expected[f"day/{stem}"] = write_turned(own_tree, stem, orientation, drawn_on)
    expected["day/3"] = write_turned(own_tree, 3, 6, drawn_on, (70, 70))  # a square
    write_turned(own_tree, 4, 8, drawn_on)  # in val: all splits are asked
    found = examples(datasets.load("folder", own_tree, tmp_path / "prepared"), "train")
    for name, mask in expected.items():
        np.testing.assert_array_equal(found[name]["mask"][..., 0], mask, err_msg=name)
    line = capsys.readouterr().out.splitlines()[-2]
    turned = 4 if drawn_on == "stored" else 0
    assert f"masks drawn on the stored pixels and turned with them: {turned}" in line
    assert "unknown" not in line


@pytest.mark.parametrize("others", [(), ("upright", "stored")])
def test_where_nothing_tells_masks_count_as_upright_and_are_named(
    own_tree, tmp_path, others, capsys
):
    expected = {
        f"day/{stem}": write_turned(own_tree, stem, orientation, "upright")
        for stem, orientation in ((0, 3), (1, 2), (2, 4), (3, 3))
    }
    for stem, drawn_on in zip((5, 6), others):
        expected[f"day/{stem}"] = write_turned(own_tree, stem, 6, drawn_on)
    found = examples(datasets.load("folder", own_tree, tmp_path / "prepared"), "train")
    for name, mask in expected.items():
        np.testing.assert_array_equal(found[name]["mask"][..., 0], mask, err_msg=name)
    out = capsys.readouterr().out
    assert UNKNOWN + "unknown: 4 (day/0, day/1, day/2, ...)" in out


def test_a_mask_that_carries_an_orientation_is_a_picture_too(own_tree, tmp_path):
    exif = Image.Exif()
    exif[reading.EXIF_ORIENTATION] = 3  # upside down, and no size tells
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[0, 0] = 1
    write_turned(own_tree, 0, 6, "stored")  # another was drawn on stored pixels
    Image.fromarray(np.asarray(photo())).save(own_tree / "images" / "day" / "4.png", exif=exif)
    Image.fromarray(mask[::-1, ::-1]).save(own_tree / "masks" / "day" / "4.png", exif=exif)
    builder = datasets.load("folder", own_tree, tmp_path / "prepared")
    np.testing.assert_array_equal(examples(builder, "val")["day/4"]["mask"][..., 0], mask)


# --- voc_segmentation --------------------------------------------------------------------------


def test_voc_official_lists_and_palette_indices(voc_tree, tmp_path):
    builder = datasets.load("voc_segmentation", voc_tree.parent, tmp_path / "prepared")
    assert builder.info.splits["train"].num_examples == 1
    found = examples(builder, "val")
    assert sorted(found) == ["b", "c"]
    np.testing.assert_array_equal(found["b"]["mask"][0, :, 0], np.resize([0, 15, IGNORE], WIDTH))
    assert len(builder.info.metadata["class_names"]) == 21


def test_voc_class_out_of_range_says_what_voc_has(voc_tree, tmp_path):
    save(label_map(21, mode="P"), voc_tree / "SegmentationClass" / "b.png")
    with pytest.raises(
        ValueError, match=r"b.png' contains class 21 but VOC has 21 classes \(0-20, 255 = ignore\)"
    ):
        datasets.load("voc_segmentation", voc_tree, tmp_path / "prepared")


def test_voc_aug_with_and_without_list(voc_tree, tmp_path):
    find = voc_segmentation.VocSegmentation.find
    splits = find(voc_tree, "aug").splits  # masks a-e without val = b, c
    assert [pair.name for pair in splits["train"]] == ["a", "d", "e"]
    assert {pair.truth.parent.name for pair in splits["train"]} == {"SegmentationClassAug"}
    assert {pair.truth.parent.name for pair in splits["val"]} == {"SegmentationClass"}
    path = voc_tree / "ImageSets/Segmentation/trainaug.txt"
    write_lines(path, "/JPEGImages/e.jpg /SegmentationClassAug/e.png", "d")
    assert [pair.name for pair in find(voc_tree, "aug").splits["train"]] == ["e", "d"]
    write_lines(path, "a", "b")
    with pytest.raises(ValueError, match="holds 1 images of val, such as 'b'"):
        find(voc_tree, "aug")


def test_hidden_files_of_official_data_are_left_out(voc_tree, tmp_path):
    for path in (voc_tree / "SegmentationClassAug", voc_tree / "JPEGImages"):
        (path / "._z.png").write_text("of macOS")
    splits = voc_segmentation.VocSegmentation.find(voc_tree, "aug").splits
    assert [pair.name for pair in splits["train"]] == ["a", "d", "e"]
    root = tmp_path / "cs"
    write_city(root, "val", "gtFine", "bonn", "000000_000002", [7])
    (image,) = (root / "leftImg8bit/val").glob("*/*")
    (image.parent / f"._{image.name}").write_text("of macOS")
    assert len(cityscapes.Cityscapes.find(root, "fine").splits["val"]) == 1


def test_own_data_in_voc_s_layout_are_sent_to_folder(voc_tree):
    shutil.rmtree(voc_tree / "ImageSets")
    with pytest.raises(FileNotFoundError, match="Segmentation' does not exist.*own use folder, wh"):
        voc_segmentation.VocSegmentation.find(voc_tree, "voc2012")


def test_keras_fcn_split(voc_tree, capsys):
    # S = {a} + {b, c} + {b, d} + {e}; V = {b, c} - {b, d} = {c}; T = S - V = {a, b, d, e}
    lists = voc_tree / "ImageSets/Segmentation"
    with pytest.raises(FileNotFoundError, match="sbd_train.txt' does not exist"):
        voc_segmentation.VocSegmentation.find(voc_tree, "keras_fcn")
    write_lines(lists / "sbd_train.txt", "b", "d")
    write_lines(lists / "sbd_val.txt", "e")
    splits = voc_segmentation.VocSegmentation.find(voc_tree, "keras_fcn").splits
    assert [pair.name for pair in splits["train"]] == ["a", "b", "d", "e"]
    assert [pair.name for pair in splits["val"]] == ["c"]
    out = capsys.readouterr().out
    assert "S (union) 5" in out and "V (val minus sbd_train) 1" in out
    assert "T (S minus V) 4" in out


# --- folder ------------------------------------------------------------------------------------


def test_folder_hash_split_is_stable(own_tree, tmp_path, capsys):
    find = folder_module.Folder.find
    splits = find(own_tree, "default").splits
    # of the ten names the hash of none is below 0.2; that of day/4 is the lowest, 0.246
    assert {name: len(pairs) for name, pairs in splits.items()} == {"train": 9, "val": 1}
    assert [pair.name for pair in splits["val"]] == ["day/4"]
    assert "9 images are train and 1 are val" in (out := capsys.readouterr().out)
    assert "'day/4' was taken from train: that may change when images are added" in out
    moved = find(shutil.move(own_tree, tmp_path / "elsewhere"), "default").splits
    for split in splits:
        assert [pair.name for pair in moved[split]] == [pair.name for pair in splits[split]]


def test_folder_listed_splits(own_tree, tmp_path):
    write_lines(own_tree / "splits/train.txt", "day/0", "day/1")
    write_lines(own_tree / "splits/val.txt", "day/2")
    builder = datasets.load("folder", own_tree, tmp_path / "prepared")
    assert sorted(examples(builder, "train")) == ["day/0", "day/1"]
    assert builder.info.metadata["class_names"] == ["background", "thing"]
    write_lines(own_tree / "splits/val.txt", "day/2", "day/77")
    with pytest.raises(FileNotFoundError, match="val.txt' names 'day/77'"):
        datasets.load("folder", own_tree, tmp_path / "prepared")
    write_lines(own_tree / "splits/val.txt", "day/1")
    with pytest.raises(ValueError, match="'day/1' is in both train and val"):
        datasets.load("folder", own_tree, tmp_path / "prepared")


def test_folder_classes_and_images_are_checked(own_tree):
    find = folder_module.Folder.find
    save(photo(), own_tree / "images" / "day" / "3.jpg")
    with pytest.raises(ValueError, match="'day/3' twice"):
        find(own_tree, "default")
    write_lines(own_tree / "classes.txt", "sky", "sky")
    with pytest.raises(ValueError, match="names the class 'sky' twice"):
        find(own_tree, "default")
    (own_tree / "classes.txt").unlink()
    with pytest.raises(FileNotFoundError, match="classes.txt' does not exist"):
        find(own_tree, "default")
    write_lines(own_tree / "classes.txt", *range(256))  # indices 0 to 255, which is ignore
    with pytest.raises(ValueError, match="classes.txt' has 256 classes; at most 255 fit in 8 bits"):
        find(own_tree, "default")
    write_lines(own_tree / "classes.txt", "sky", "car")
    shutil.rmtree(own_tree / "images" / "day")
    with pytest.raises(ValueError, match="found 0 images"):
        find(own_tree, "default")


def test_one_class_needs_another_beside_it(own_tree):
    write_lines(own_tree / "classes.txt", "thing")
    with pytest.raises(ValueError, match="one class, 'thing', but .* two apart.*background"):
        folder_module.Folder.find(own_tree, "default")


@pytest.mark.parametrize(
    ("suffix", "words"),
    [
        ("jpg", "is JPG, whose compression alters class indices: expected PNG, '.*day/3.png'"),
        ("jpeg", "is JPEG, whose compression alters class indices: expected PNG"),
        ("bmp", "is BMP: expected PNG, '.*day/3.png'"),
    ],
)
def test_masks_of_another_format_are_named(own_tree, suffix, words):
    path = own_tree / "masks" / "day" / "3.png"
    Image.open(path).save(path.with_suffix(f".{suffix}"))
    folder_module.Folder.find(own_tree, "default")  # the PNG counts, beside whatever else
    path.unlink()
    with pytest.raises(ValueError, match=words):
        folder_module.Folder.find(own_tree, "default")


@pytest.mark.parametrize("masks", ["SegmentationClass", "SegmentationClassPNG"])
def test_voc_layout_of_own_masks(own_tree, masks, capsys):
    (own_tree / "images" / "day").rename(own_tree / "JPEGImages")
    (own_tree / "masks" / "day").rename(own_tree / masks)
    for emptied in ("images", "masks"):
        (own_tree / emptied).rmdir()
    (own_tree / "classes.txt").rename(own_tree / "class_names.txt")  # as labelme has it
    find = folder_module.Folder.find
    source = find(own_tree, "default")
    assert source.class_names == ("background", "thing")
    assert sum(map(len, source.splits.values())) == 10
    assert "has no ImageSets/Segmentation/*.txt: by a hash" in capsys.readouterr().out
    lists = own_tree / "ImageSets" / "Segmentation"
    write_lines(lists / "train.txt", "0.jpg", "1")
    assert [pair.name for pair in find(own_tree, "default").splits["train"]] == ["0", "1"]


def test_the_suffix_of_a_mask_may_be_in_capitals(own_tree):
    for path in (own_tree / "masks" / "day").iterdir():
        path.rename(path.with_suffix(".PNG"))
    source = folder_module.Folder.find(own_tree, "default")
    assert all(pair.truth.suffix == ".PNG" for pairs in source.splits.values() for pair in pairs)


def test_folders_of_the_images_are_splits(own_tree, tmp_path):
    for part in ("images", "masks"):
        (own_tree / part / "day").rename(own_tree / part / "train")
        shutil.copytree(own_tree / part / "train", own_tree / part / "val")
    builder = datasets.load("folder", own_tree, tmp_path / "prepared")
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {
        "train": 10,
        "val": 10,
    }


def counted(train, val, difficult=(0, 0), own=True):
    """A builder of a prepared dataset with these objects of cats and dogs."""
    metadata = {
        "class_names": ["cat", "dog"],
        "palette": [[200, 30, 30], [30, 30, 200]],
        "objects": {"train": train, "val": val},
        "difficult_objects": {"train": list(difficult), "val": list(difficult)},
    }
    source = files.Source(Path("mine"), {}, class_names=("cat", "dog") if own else ())
    info = types.SimpleNamespace(metadata=metadata)
    config = types.SimpleNamespace(source=source)
    return types.SimpleNamespace(name="mine", info=info, builder_config=config)


def test_a_split_without_objects_teaches_and_measures_nothing():
    words = "split 'train' of mine show no object: .*to learn.*train-split.*splits/train.txt"
    with pytest.raises(ValueError, match=words):
        datasets.check_objects(counted([0, 0], [1, 1]), "train", is_training=True)
    words = "split 'val' of mine show no object: .*nothing to measure.*validation-split.*--split"
    with pytest.raises(ValueError, match=words + ".*splits/val.txt"):
        datasets.check_objects(counted([1, 1], [0, 0]), "val")
    with pytest.raises(ValueError, match=words + r" of evaluate\)\.$"):
        datasets.check_objects(counted([1, 1], [0, 0], own=False), "val")
    # Difficult ones are learned, but do not count.
    difficult = counted([1, 1], [1, 1], difficult=(1, 1))
    datasets.check_objects(difficult, "train", is_training=True)
    with pytest.raises(ValueError, match="no object, but 2 difficult ones, which do not count:"):
        datasets.check_objects(difficult, "val")


def test_classes_without_objects_are_named_where_they_are_to_be_learned(capsys):
    builder = counted([3, 0], [0, 1])
    datasets.check_objects(builder, "train", is_training=True)
    (line,) = capsys.readouterr().out.splitlines()
    assert line == "mine: no object of the split 'train' is of dog: not learned"
    datasets.check_objects(builder, "val")
    # what the dataset does not tell, or does not have
    datasets.check_objects(builder, "test", is_training=True)
    del builder.info.metadata["objects"]
    datasets.check_objects(builder, "train", is_training=True)
    assert capsys.readouterr().out == ""


def test_what_a_dataset_holds_is_checked_by_its_name():
    masks, boxes = ("image", "mask", "file_name"), ("image", "boxes", "labels")
    with pytest.raises(
        ValueError,
        match=r"--dataset folder holds masks .*expected boxes: take folder_detection for your own "
        "data, or toy_streets, voc_detection, mot15",
    ):
        datasets.check_truth("folder", boxes)
    with pytest.raises(
        ValueError,
        match=r"--dataset voc_detection/07\+12 holds boxes, expected masks .*: take folder for "
        "your own data, or camvid, cityscapes, voc_segmentation, toy_streets",
    ):
        datasets.check_truth("voc_detection/07+12", masks)
    for name in ("toy_streets", "voc_detection/voc2007", "nope"):
        datasets.check_truth(name, boxes)
    for name in ("toy_streets", "cityscapes/ladder", "nope"):
        datasets.check_truth(name, masks)
    datasets.check_truth("mot15", ("image",))


@pytest.mark.parametrize("name", datasets.DATASETS)
def test_the_truth_of_a_builder_is_among_its_features(name, monkeypatch):
    builder_class = datasets.DATASETS[name]
    source = files.Source(Path("x"), {}, class_names=("a", "b"))
    config = preparation.SourceConfig(name="x", source=source)
    features = builder_class(config=config, data_dir="nowhere").info.features
    assert {truth for truth in ("mask", "boxes") if truth in features} == set(builder_class.TRUTH)


# --- cityscapes --------------------------------------------------------------------------------


def write_city(root, split, truth, city, stem, ids, size=(16, 8)):
    name = f"{city}_{stem}"
    save(photo(size=size), root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png")
    save(label_map(*ids, size=size), root / truth / split / city / f"{name}_{truth}_labelIds.png")


def test_cityscapes_table():
    table = cityscapes.train_ids()
    assert sorted(table[table < IGNORE].tolist()) == [-1] * (255 - 34) + list(range(19))
    # the ends and the gaps of the official table: road 7 -> 0, caravan 29 and trailer 30 ignored,
    # train 31 -> 16, bicycle 33 -> 18
    assert table[[7, 29, 30, 31, 33]].tolist() == [0, IGNORE, IGNORE, 16, 18]
    assert table[[0, 1, 255]].tolist() == [IGNORE] * 3 and table[34] == mask_preparation.INVALID


def test_cityscapes_splits_and_coarse(tmp_path):
    root = tmp_path / "cs"
    write_city(root, "train", "gtFine", "ulm", "000000_000001", [7, 8])
    write_city(root, "val", "gtFine", "bonn", "000000_000002", [33, 1])
    with pytest.raises(FileNotFoundError, match="train_extra' does not exist"):
        datasets.load("cityscapes/fine_coarse", root, tmp_path / "prepared")
    write_city(root, "train_extra", "gtCoarse", "bonn", "000000_000003", [26])
    builder = datasets.load("cityscapes/fine_coarse", root, tmp_path / "prepared")
    train = examples(builder, "train")
    assert sorted(train) == ["bonn/bonn_000000_000003", "ulm/ulm_000000_000001"]
    assert set(train["ulm/ulm_000000_000001"]["mask"].ravel()) == {0, 1}
    assert set(train["bonn/bonn_000000_000003"]["mask"].ravel()) == {13}
    extra = cityscapes.Cityscapes.find(root, "extra").splits
    assert [pair.name for pair in extra["train"]] == ["bonn/bonn_000000_000003"]
    assert set(cityscapes.Cityscapes.find(root, "fine").splits) == {"train", "val"}
    save(label_map(40, size=(16, 8)), next((root / "gtFine/val").glob("*/*")))
    with pytest.raises(ValueError, match="contains class 40 but Cityscapes has 19 classes"):
        datasets.load("cityscapes", root, tmp_path / "prepared")


def test_ladder_config_ignores_the_ego_vehicle(tmp_path):
    root = tmp_path / "cs"
    write_city(root, "val", "gtFine", "bonn", "000000_000002", [1, 7], size=(256, 128))
    builder = datasets.load("cityscapes/ladder", root, tmp_path / "prepared")
    (example,) = examples(builder, "val").values()
    assert example["image"].shape == (448, 1024, 3) and example["mask"].shape == (448, 1024, 1)
    assert set(example["mask"].ravel()) == {0, IGNORE}


# --- toy_streets -------------------------------------------------------------------------------


def test_toy_scenes_are_deterministic_and_differ():
    first, again = toy_streets.draw_scene("train", 3), toy_streets.draw_scene("train", 3)
    for one, other in zip(first, again):
        np.testing.assert_array_equal(one, other)
    for split, index in (("train", 4), ("val", 3)):
        assert (toy_streets.draw_scene(split, index)[0] != first[0]).mean() > 0.5


def test_toy_masks_hold_all_classes_and_no_others():
    masks = [toy_streets.draw_scene("val", index)[1] for index in range(12)]
    assert set(np.unique(masks)) == set(range(len(toy_streets.CLASSES)))


def test_toy_boxes_enclose_cars_and_pedestrians_exactly():
    count = 0
    for index in range(8):
        image, mask, boxes, labels = toy_streets.draw_scene("val", index)
        assert image.shape == (192, 256, 3) and mask.shape == (192, 256)
        assert boxes.dtype == np.float32 and labels.dtype == np.int64
        outside = np.isin(mask, (toy_streets.CAR, toy_streets.PEDESTRIAN))
        pixels = boxes * (256, 192, 256, 192)
        np.testing.assert_allclose(pixels, np.rint(pixels), atol=1e-4)  # whole pixels
        for (left, top, right, bottom), label in zip(np.rint(pixels).astype(int), labels):
            inside = mask[top:bottom, left:right] == toy_streets.CAR + label
            # each side of the extent touches a pixel of the class
            assert inside[0].any() and inside[-1].any()
            assert inside[:, 0].any() and inside[:, -1].any()
            outside[top:bottom, left:right] = False
            count += 1
        # what no box covers are objects too small for one
        assert outside.sum() < 10 * toy_streets.MIN_VISIBLE_PIXELS
    assert count > 20


def test_visible_boxes_by_hand():
    # a 12x20 map; number 8 is a car in rows 2-7, columns 5-9 (30 pixels); a pedestrian (9, 24
    # pixels) in front hides its columns 5-6, so the car shows 18 pixels, fewer than 24
    numbers = np.zeros((12, 20), np.uint8)
    numbers[2:8, 5:10] = 8
    class_of = [*range(8), toy_streets.CAR, toy_streets.PEDESTRIAN]
    boxes, labels = toy_streets.visible_boxes(numbers, class_of)
    np.testing.assert_allclose(boxes, [[5 / 20, 2 / 12, 10 / 20, 8 / 12]], rtol=1e-6)
    assert labels.tolist() == [0]
    numbers[0:12, 5:7] = 9
    boxes, labels = toy_streets.visible_boxes(numbers, class_of)
    np.testing.assert_allclose(boxes, [[5 / 20, 0, 7 / 20, 1]], rtol=1e-6)
    assert labels.tolist() == [1]
    boxes, labels = toy_streets.visible_boxes(np.zeros((10, 20), np.uint8), class_of)
    assert boxes.shape == (0, 4) and labels.shape == (0,)


def test_toy_streets_prepared(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(toy_streets, "SPLIT_SIZES", {"train": 3, "val": 2})
    builder = datasets.load("toy_streets", prepared_dir=tmp_path / "prepared")
    assert builder.info.metadata["box_class_names"] == ["car", "pedestrian"]
    assert builder.info.metadata["box_palette"] == [[30, 80, 200], [220, 30, 60]]
    objects = builder.info.metadata["objects"]
    assert builder.info.metadata["difficult_objects"] == {"train": [0, 0], "val": [0, 0]}
    found = examples(builder, "val")
    assert sorted(found) == ["val_000", "val_001"]
    for index, example in enumerate(found[name] for name in sorted(found)):
        image, mask, boxes, labels = toy_streets.draw_scene("val", index)
        np.testing.assert_array_equal(example["image"], image)
        np.testing.assert_array_equal(example["mask"][..., 0], mask)
        np.testing.assert_array_equal(example["boxes"], boxes)
        np.testing.assert_array_equal(example["labels"], labels)
        np.testing.assert_array_equal(example["difficult"], np.zeros(len(labels), bool))
    labels = np.concatenate([example["labels"] for example in found.values()])
    assert objects["val"] == np.bincount(labels, minlength=2).tolist()
    val = f"val 2 images, {len(labels)} boxes"
    assert val in (out := capsys.readouterr().out)
    assert f"; objects: car {objects['val'][0]}, pedestrian {objects['val'][1]}\n" in out


# --- real data ---------------------------------------------------------------------------------


@needs_real_data("CamVid")
def test_real_camvid(tmp_path):
    root = REAL_DATA / "CamVid"
    builder = datasets.load("camvid", root, tmp_path)
    sizes = {name: split.num_examples for name, split in builder.info.splits.items()}
    assert sizes == {"train": 367, "val": 101}
    example = next(iter(examples(builder, "val[:1]").values()))
    raw = np.asarray(Image.open(root / "valannot" / f"{example['file_name'].decode()}.png"))
    np.testing.assert_array_equal(example["mask"][..., 0], np.where(raw == 11, IGNORE, raw))


@needs_real_data("VOCdevkit")
def test_real_voc_sample(tmp_path):
    builder = datasets.load("voc_segmentation", REAL_DATA / "VOCdevkit", tmp_path)
    found = examples(builder, "trainval")
    assert len(found) == 4
    for example in found.values():
        assert set(np.unique(example["mask"])) <= {*range(21), IGNORE}
    # VOC 2012's image 2007_000033 shows aeroplanes
    assert 1 in found["2007_000033"]["mask"]


@needs_real_data("cityscapes_sample")
def test_real_cityscapes_sample_matches_its_train_ids(tmp_path):
    root = REAL_DATA / "cityscapes_sample"
    (example,) = examples(datasets.load("cityscapes", root, tmp_path), "val").values()
    mask = example["mask"][..., 0]
    (path,) = root.glob("gtFine/val/*/*_labelTrainIds.png")
    # the sample's trainIds were reduced on their own: 77 of 32768 pixels differ, all on edges
    assert (mask == np.asarray(Image.open(path))).mean() > 0.997
    (path,) = root.glob("gtFine/val/*/*_instanceIds.png")
    instances = np.asarray(Image.open(path)).astype(int)  # label id, or label id * 1000 + instance
    label_ids = np.where(instances >= 1000, instances // 1000, instances)
    np.testing.assert_array_equal(mask, cityscapes.train_ids()[label_ids])
    (example,) = examples(datasets.load("cityscapes/ladder", root, tmp_path), "val").values()
    assert example["image"].shape == (448, 1024, 3)
    assert set(np.unique(example["mask"])) <= {*range(19), IGNORE}
