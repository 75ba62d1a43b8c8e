#!/usr/bin/env python3
"""Hands over to `kerasdense fit ssd300`."""

import sys

from kerasdense.cli.main import main

main(["fit", "ssd300", *sys.argv[1:]])
