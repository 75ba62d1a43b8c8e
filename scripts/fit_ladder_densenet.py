#!/usr/bin/env python3
"""Hands over to `kerasdense fit ladder_densenet`."""

import sys

from kerasdense.cli.main import main

main(["fit", "ladder_densenet", *sys.argv[1:]])
