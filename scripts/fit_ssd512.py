#!/usr/bin/env python3
"""Hands over to `kerasdense fit ssd512`."""

import sys

from kerasdense.cli.main import main

main(["fit", "ssd512", *sys.argv[1:]])
