"""The pipelines on tiny prepared datasets: order, padding, determinism, continuation."""

import time
import types

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from kerasdense.data import augment, datasets, pipeline
from kerasdense.data.pipeline import Split
from kerasdense.metrics.labels import IGNORE

MASKS = ("image", "mask", "file_name")
BOXES = ("image", "boxes", "labels", "difficult", "file_name")
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


class Objects(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Five pictures, of which picture i has i boxes; their masks are damaged."""

    VERSION = tfds.core.Version("1.0.0")
    url_infos = None

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "mask": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
            "boxes": tfds.features.Tensor(shape=(None, 4), dtype=np.float32),
            "labels": tfds.features.Tensor(shape=(None,), dtype=np.int64),
            "difficult": tfds.features.Tensor(shape=(None,), dtype=np.bool_),
            "file_name": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"val": self._generate_examples()}

    def _generate_examples(self):
        for i in range(5):
            yield (
                i,
                {
                    "image": np.full((20 + i, 30 - i, 3), 50 * i, np.uint8),
                    "mask": b"no picture",
                    "boxes": np.tile(np.float32([[0.1, 0.2, 0.5, 0.6]]), (i, 1)),
                    "labels": np.arange(i),
                    "difficult": np.arange(i) == 1,
                    "file_name": f"picture{i}",
                },
            )


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    builder = Objects(data_dir=tmp_path_factory.mktemp("prepared"))
    builder.download_and_prepare()
    return builder


def corners(sample):
    """A target of static shape [3]: how many boxes, and the sums of their left and top edges."""
    count = tf.cast(tf.shape(sample["labels"]), tf.float32)
    return tf.concat([count, tf.reduce_sum(sample["boxes"][:, :2], axis=0)], axis=0)


CROP = augment.compose(augment.random_scale_crop((16, 16)), augment.random_flip())


def class_map(sample):
    return sample["mask"][..., 0]


def mask_batches(builder, batch_size, augment=CROP, **options):
    """Training batches of label maps."""
    split = Split(builder, "train", MASKS)
    return pipeline.train_batches(split, batch_size, augment, class_map, **options)


def box_batches(objects, batch_size, augment, **options):
    """Training batches of `corners`."""
    split = Split(objects, "val", BOXES)
    return pipeline.train_batches(split, batch_size, augment, corners, **options)


def take(batches, count):
    return [tuple(np.asarray(part) for part in batch) for batch in batches.take(count)]


def assert_same(first, second):
    for one, other in zip(first, second, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_training_batches_are_static_full_and_endless(builder):
    batches = mask_batches(builder, 2)
    images, masks = batches.element_spec
    assert images.shape == (2, 16, 16, 3) and images.dtype == "uint8"
    assert masks.shape == (2, 16, 16) and masks.dtype == "uint8"
    assert len(take(batches, 7)) == 7  # 14 samples out of 3


def test_each_pass_holds_every_sample_once_in_a_new_order(builder):
    whole = augment.random_scale_crop((4, 4), scales=(1, 1))
    batches = mask_batches(builder, 3, whole, seed=5)
    orders = [tuple(masks[:, 0, 0]) for _, masks in take(batches, 12)]
    assert all(sorted(order) == [0, 1, 2] for order in orders)
    assert len(set(orders)) > 1


def test_the_stream_depends_on_the_seed_alone(builder):
    def stream(seed):
        return take(mask_batches(builder, 2, seed=seed), 6)

    assert_same(stream(0), stream(0))
    assert any(not np.array_equal(a[0], b[0]) for a, b in zip(stream(0), stream(1)))


def test_a_later_first_step_continues_the_stream(builder):
    whole = take(mask_batches(builder, 2), 8)
    for first_step in (1, 3, 5):  # within the first, the third and the fourth pass
        rest = take(mask_batches(builder, 2, first_step=first_step), 8 - first_step)
        assert_same(whole[first_step:], rest)


def test_a_stream_of_boxes_continues_and_depends_on_the_seed_alone(objects):
    def stream(seed, first_step=0):
        op = augment.ssd_augmentation((24, 32))
        batches = box_batches(objects, 2, op, seed=seed, first_step=first_step)
        images, targets = batches.element_spec
        assert images.shape == (2, 24, 32, 3) and images.dtype == tf.uint8
        assert targets.shape == (2, 3) and targets.dtype == tf.float32
        return take(batches, 9 - first_step)

    whole = stream(0)
    assert_same(whole, stream(0))
    assert_same(whole[4:], stream(0, first_step=4))
    assert any(not np.array_equal(a[1], b[1]) for a, b in zip(whole, stream(1)))


def test_targets_see_the_augmented_sample(objects):
    def shift(sample, seed):
        return augment.warp((6, 8))(sample, seed) | {"boxes": sample["boxes"] + 0.25}

    _, targets = take(box_batches(objects, 5, shift), 1)[0]
    # Sample i has i boxes at (0.1, 0.2), here at (0.35, 0.45); without boxes the sums are 0.
    expected = [[i, 0.35 * i, 0.45 * i] for i in range(5)]
    np.testing.assert_allclose(sorted(targets.tolist()), expected, atol=1e-6)


def test_evaluation_drops_nothing_and_pads_with_ignore(builder):
    batches = pipeline.full_size_batches(Split(builder, "train", MASKS), batch_size=2)
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
    batches = pipeline.full_size_batches(Split(builder, "val", MASKS), multiple=16)
    for batch in batches.as_numpy_iterator():
        assert batch["image"].shape[1:3] in {(32, 32), (48, 32)}
        assert batch["mask"].shape == batch["image"].shape[:3]


def test_evaluation_pads_small_images_to_what_a_network_takes(builder):
    batches = pipeline.full_size_batches(Split(builder, "val", MASKS), minimum=64)
    for batch in batches.as_numpy_iterator():
        (image,), (mask,), (size,) = batch["image"], batch["mask"], batch["size"]
        height, width = SIZES[batch["file_name"][0].decode()]
        assert size.tolist() == [height, width] and image.shape == (64, 64, 3)
        assert (image[height:] == augment.PADDING).all() and (mask[height:] == IGNORE).all()
        assert (image[:, width:] == augment.PADDING).all() and (mask[:, width:] == IGNORE).all()
        assert (mask[:height, :width] != IGNORE).all()
    for batch in pipeline.full_size_batches(Split(builder, "val", MASKS), multiple=48, minimum=64):
        assert batch["image"].shape[1:3] == (96, 96)  # the next multiple of 48
    for batch in pipeline.full_size_batches(Split(builder, "val", MASKS), minimum=8):
        name = batch["file_name"][0].numpy().decode()
        assert batch["image"].shape[1:3] == SIZES[name]  # larger already


def test_evaluation_of_boxes_drops_nothing_and_pads_without_objects(objects):
    batches = pipeline.warped_batches(Split(objects, "val", BOXES), (12, 16), batch_size=2)
    assert len(batches) == 3
    spec = batches.element_spec
    assert spec["image"].shape == (None, 12, 16, 3) and spec["image"].dtype == tf.uint8
    assert spec["boxes"].dtype == tf.float32 and spec["labels"].dtype == tf.int64
    assert spec["difficult"].dtype == tf.bool and spec["size"].dtype == tf.int32
    names = []
    for batch in batches.as_numpy_iterator():
        assert set(batch) == {"image", "boxes", "labels", "difficult", "size", "file_name"}
        numbers = [int(name[-1:]) for name in batch["file_name"]]
        most = max(numbers)
        for i, number in enumerate(numbers):
            assert (batch["image"][i] == 50 * number).all()
            np.testing.assert_array_equal(batch["size"][i], [20 + number, 30 - number])
            filler = most - number
            expected = np.float32([[0.1, 0.2, 0.5, 0.6]] * number + [[0, 0, 0, 0]] * filler)
            np.testing.assert_array_equal(batch["boxes"][i], expected.reshape(most, 4))
            labels = [*range(number), *[-1] * filler]
            np.testing.assert_array_equal(batch["labels"][i], labels)
            np.testing.assert_array_equal(batch["difficult"][i], np.array(labels) == 1)
        names += numbers
    undecoded = {"mask": tfds.decode.SkipDecoding()}
    stored = objects.as_dataset(split="val", decoders=undecoded, shuffle_files=False)
    assert names == [len(record["labels"]) for record in stored]
    assert sorted(names) == [0, 1, 2, 3, 4]


def test_evaluation_of_boxes_sees_what_training_sees(objects):
    batches = pipeline.warped_batches(Split(objects, "val", BOXES), (7, 9), targets=corners)
    evaluated = {batch["targets"][0, 0].numpy(): batch for batch in batches}
    training = box_batches(objects, 1, augment.warp((7, 9)))
    for images, targets in take(training, 5):
        batch = evaluated[targets[0, 0]]
        np.testing.assert_array_equal(batch["image"], images)
        np.testing.assert_array_equal(batch["targets"], targets)


def test_only_what_is_to_be_read_is_decoded(objects):
    with pytest.raises(tf.errors.InvalidArgumentError):  # the masks are damaged: see the others
        next(iter(pipeline.full_size_batches(Split(objects, "val", MASKS))))
    undecoded = next(iter(Split(objects, "val", MASKS).records()))
    assert undecoded["mask"] == b"no picture" and set(undecoded) == set(MASKS)


def test_a_split_knows_its_size(builder, objects):
    assert [Split(builder, name, MASKS).count for name in ("train", "val")] == [3, 2]
    assert Split(objects, "val", ("image",)).count == 5


def test_what_a_dataset_does_not_hold_is_named(builder):
    words = "folder holds no boxes and no labels and no difficult, but .* It holds: image, file_nam"
    with pytest.raises(ValueError, match=words):
        Split(builder, "val", BOXES)
    words = "folder has no split 'test'. It has: train, val. .*--validation-split of fit"
    with pytest.raises(ValueError, match=words + ".*images/test/, or a list splits/test.txt"):
        Split(builder, "test", MASKS)


def test_an_empty_split_is_named(builder):
    splits = {"train": types.SimpleNamespace(num_examples=0)}
    info = types.SimpleNamespace(splits=splits, features=builder.info.features)
    empty = types.SimpleNamespace(name="folder", info=info)
    with pytest.raises(ValueError, match="The split 'train' of folder is empty"):
        Split(empty, "train", MASKS)


def test_bad_arguments_are_named(builder, objects):
    with pytest.raises(ValueError, match="positive height and width, received 0x10"):
        pipeline.warped_batches(Split(objects, "val", BOXES), (0, 10))
    for batches_of in (
        lambda: mask_batches(builder, 0),
        lambda: pipeline.full_size_batches(Split(builder, "val", MASKS), 0),
        lambda: pipeline.warped_batches(Split(objects, "val", BOXES), (8, 8), 0),
    ):
        with pytest.raises(ValueError, match="batch_size must be at least 1, received 0"):
            batches_of()
    with pytest.raises(ValueError, match="at least 0, received -1"):
        mask_batches(builder, 1, seed=-1)


def test_no_pipeline_waits_for_an_autotuner_at_its_end(builder):
    to_size = augment.random_scale_crop((16, 16))
    for batches in (
        mask_batches(builder, 2, to_size),
        pipeline.full_size_batches(Split(builder, "val", MASKS)).map(lambda batch: batch["image"]),
    ):
        assert batches.options().autotune.enabled is False


@pytest.mark.slow
def test_no_more_is_prefetched_however_often_the_pipeline_was_drained(builder):
    made = []

    def counted(sample, seed):
        (number,) = tf.py_function(lambda number: made.append(0) or number, [seed[1]], [seed.dtype])
        return CROP(sample, tf.stack([seed[0], tf.ensure_shape(number, [])]))

    iterator, taken = iter(mask_batches(builder, 1, counted)), 0
    for _ in range(8):  # as after each of 8 validations
        for _ in range(len(made) - taken + 20):
            next(iterator)
            taken += 1
        before = -1
        while len(made) > before:
            before = len(made)
            time.sleep(0.2)
    most_at_once = 16  # samples being made, and as many made and waiting for their turn
    assert len(made) - taken <= pipeline.PREFETCHED + 1 + 2 * most_at_once
