#!/usr/bin/env python3
"""Hands over to `kerasdense fit densenet121_classifier`."""

import sys

from kerasdense.cli.main import main

main(["fit", "densenet121_classifier", *sys.argv[1:]])
