"""One perturbation for all images."""

import numpy as np
import pytest
from attacks.by_hand import attacker, blobs, conv_model, pictures, predicted

from kerasdense.attacks.methods import METHODS
from kerasdense.attacks.universal import adding, apply, universal


def test_universal_fools_more_than_noise_of_the_same_size(trained):
    model, images, labels = trained
    train_images, train_labels = blobs(16, seed=3)
    batches = [(train_images[i : i + 6], train_labels[i : i + 6]) for i in (0, 6, 12)]  # 6, 6, 4
    counts = []
    attack_batch = attacker(model, METHODS["pgd"](steps=4))
    found = universal(attack_batch, batches, 8, progress=counts.append)
    assert found.shape == (24, 24, 3) and found.dtype == np.int16
    assert np.abs(found).max() == 8 and counts == list(range(1, 13))
    noise = np.random.default_rng(0).choice([-8, 8], found.shape)
    wrong = [
        np.mean(predicted(model, apply(images, r)) != labels) for r in (found, noise, 0 * noise)
    ]
    assert wrong[0] > wrong[1] + 0.1 and wrong[0] > wrong[2] + 0.1
    np.testing.assert_array_equal(universal(attack_batch, batches, 8), found)


def test_universal_keeps_to_its_mask_and_its_l2_ball(trained):
    model, images, labels = trained
    mask = np.zeros((24, 24), bool)
    mask[5:15, 5:15] = True
    attack_batch = attacker(model, METHODS["pgd"]("l2", steps=3))
    found = universal(attack_batch, [(images, labels)], 90.0, mask)
    assert np.abs(found[~mask]).max() == 0
    assert 85 < np.sqrt(np.square(found.astype(float)).sum()) <= 90


def test_apply_stays_in_range():
    images = np.array([0, 100, 250], np.uint8).reshape(1, 1, 3, 1).repeat(3, -1)
    np.testing.assert_array_equal(apply(images, np.int16(-9))[0, 0, :, 0], [0, 91, 241])
    np.testing.assert_array_equal(apply(images, np.int16(9))[0, 0, :, 0], [9, 109, 255])


def test_adding_refuses_images_of_another_size():
    found = np.full((1, 2, 3), 9, np.int16)
    attack_batch = adding(found)
    images = np.array([0, 250], np.uint8).reshape(1, 1, 2, 1).repeat(3, -1)
    np.testing.assert_array_equal(attack_batch(images, None)[0, 0, :, 0], [9, 255])
    with pytest.raises(ValueError, match=r"size \(1, 2\), but an image \(2, 1\)"):
        attack_batch(images.transpose(0, 2, 1, 3), None)


def test_bad_universal():
    model, images = conv_model(), pictures()
    batch = (images, predicted(model, images))
    attack_batch = attacker(model, METHODS["pgd"]())
    with pytest.raises(ValueError, match="expected an attack that is bounded"):
        universal(attacker(model, METHODS["dag"]()), [batch], 4)
    with pytest.raises(ValueError, match="batches: expected at least one"):
        universal(attack_batch, [], 4)
    with pytest.raises(ValueError, match="A generator is empty after the first pass"):
        universal(attack_batch, iter([batch]), 4)
    other = pictures(2, 10, 12)
    with pytest.raises(ValueError, match="images of one size"):
        universal(attack_batch, [batch, (other, predicted(model, other))], 4)
    with pytest.raises(ValueError, match="epsilon: expected"):
        universal(attack_batch, [batch], 0)
