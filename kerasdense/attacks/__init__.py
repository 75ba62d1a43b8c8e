"""Adversarial examples: small changes of images that change what a model says of them."""
