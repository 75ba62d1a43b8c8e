"""The two pipelines on a tiny prepared dataset: order, padding, determinism, continuation."""

import numpy as np
import pytest
from PIL import Image

from kerasdense import datasets
from kerasdense.data import augment, pipeline
from kerasdense.labels import IGNORE

SIZES = {"a": (20, 30), "b": (24, 16), "c": (18, 18), "d": (20, 30), "e": (33, 17)}


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
    """Five pictures of five sizes, each of one grey level and one class; all in train and val."""
    source = tmp_path_factory.mktemp("source")
    for folder in ("images", "masks", "splits"):
        (source / folder).mkdir()
    for number, (name, (height, width)) in enumerate(SIZES.items()):
        image = np.full((height, width, 3), 40 * number, np.uint8)
        Image.fromarray(image).save(source / "images" / f"{name}.png")
        mask = np.full((height, width), number, np.uint8)
        Image.fromarray(mask).save(source / "masks" / f"{name}.png")
    (source / "classes.txt").write_text("".join(f"class{i}\n" for i in range(5)))
    (source / "splits" / "train.txt").write_text("a\nb\nc\n")
    (source / "splits" / "val.txt").write_text("d\ne\n")
    return datasets.load("folder", source, tmp_path_factory.mktemp("prepared"))


CROP = augment.compose(augment.random_scale_crop((16, 16)), augment.random_flip())


def take(batches, count):
    return [tuple(np.asarray(part) for part in batch) for batch in batches.take(count)]


def assert_same(first, second):
    for one, other in zip(first, second, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_training_batches_are_static_full_and_endless(builder):
    batches = pipeline.train_batches(builder, "train", 2, CROP)
    images, masks = batches.element_spec
    assert images.shape == (2, 16, 16, 3) and images.dtype == "uint8"
    assert masks.shape == (2, 16, 16) and masks.dtype == "uint8"
    assert len(take(batches, 7)) == 7  # 14 samples out of 3


def test_each_pass_holds_every_sample_once_in_a_new_order(builder):
    whole = augment.random_scale_crop((4, 4), scales=(1, 1))
    batches = pipeline.train_batches(builder, "train", 3, whole, seed=5)
    orders = [tuple(masks[:, 0, 0]) for _, masks in take(batches, 12)]
    assert all(sorted(order) == [0, 1, 2] for order in orders)
    assert len(set(orders)) > 1


def test_the_stream_depends_on_the_seed_alone(builder):
    def stream(seed):
        return take(pipeline.train_batches(builder, "train", 2, CROP, seed), 6)

    assert_same(stream(0), stream(0))
    assert any(not np.array_equal(a[0], b[0]) for a, b in zip(stream(0), stream(1)))


@pytest.mark.parametrize("first_step", [1, 3, 5])
def test_a_later_first_step_continues_the_stream(builder, first_step):
    whole = take(pipeline.train_batches(builder, "train", 2, CROP, seed=0), 8)
    rest = take(
        pipeline.train_batches(builder, "train", 2, CROP, seed=0, first_step=first_step),
        8 - first_step,
    )
    assert_same(whole[first_step:], rest)


def test_evaluation_drops_nothing_and_pads_with_ignore(builder):
    batches = pipeline.eval_batches(builder, "train", batch_size=2)
    assert len(batches) == 2
    seen = {}
    for batch in batches.as_numpy_iterator():
        for image, mask, name in zip(batch["image"], batch["mask"], batch["file_name"]):
            height, width = SIZES[name.decode()[0]]
            number = "abc".index(name.decode()[0])
            assert (mask[:height, :width] == number).all()
            assert (image[:height, :width] == 40 * number).all()
            assert (mask == IGNORE).sum() == mask.size - height * width
            seen[name] = True
    assert len(seen) == 3


def test_evaluation_pads_to_a_multiple(builder):
    for batch in pipeline.eval_batches(builder, "val", multiple=16).as_numpy_iterator():
        assert batch["image"].shape[1:3] in {(32, 32), (48, 32)}
        assert batch["mask"].shape == batch["image"].shape[:3]


def test_bad_arguments_are_named(builder):
    with pytest.raises(ValueError, match="no split 'test'. It has: train, val"):
        pipeline.eval_batches(builder, "test")
    with pytest.raises(ValueError, match="batch_size must be at least 1, received 0"):
        pipeline.train_batches(builder, "train", 0, CROP)
    with pytest.raises(ValueError, match="at least 0, received -1"):
        pipeline.train_batches(builder, "train", 1, CROP, seed=-1)
