#!/usr/bin/env python3
"""Hands over to `kerasdense fit fcn`."""

import sys

from kerasdense.cli.main import main

main(["fit", "fcn", *sys.argv[1:]])
