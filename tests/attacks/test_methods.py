"""The methods put together: their parts, and mistakes in them."""

import dataclasses
import json

import numpy as np
import pytest
from attacks.by_hand import attacker, conv_model, pictures, predicted

from kerasdense.attacks.losses import unsuccessful
from kerasdense.attacks.methods import METHODS, Attack, described


def test_parts_that_do_not_fit():
    with pytest.raises(ValueError, match="norm: expected one of"):
        METHODS["pgd"]("l1")
    with pytest.raises(ValueError, match="norm: minimal measures by l2 only"):
        METHODS["minimal"]("linf")
    with pytest.raises(ValueError, match="fgsm is one step"):
        METHODS["fgsm"](steps=3)
    for steps in (0, -1, 1.5):
        with pytest.raises(ValueError, match="steps: expected an int of at least 1"):
            METHODS["segpgd"](steps=steps)
    with pytest.raises(ValueError, match="step_size: expected a number above 0"):
        METHODS["dag"](step_size=0)
    with pytest.raises(ValueError, match="share: expected a number above 0"):
        METHODS["minimal"](share=0)


def test_an_attack_of_own_parts():
    # PGD that looks only at pixels it has not won yet
    attack = dataclasses.replace(METHODS["pgd"](steps=8), weights=unsuccessful)
    assert isinstance(attack, Attack)
    model, images = conv_model(), pictures()
    labels = predicted(model, images)
    found = attacker(model, attack)(images, labels, 6)
    assert np.mean(predicted(model, found) != labels) > 0.1


def test_an_attack_is_described_in_words():
    words = described(METHODS["segpgd"](steps=3))
    assert words["steps"] == 3 and words["loss"] == "cross_entropy"
    assert words["weights"] == "segpgd_weights" and words["norm"] == "linf"
    json.dumps(words, allow_nan=False)
