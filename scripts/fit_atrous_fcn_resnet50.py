#!/usr/bin/env python3
"""Hands over to `kerasdense fit atrous_fcn_resnet50`."""

import sys

from kerasdense.cli.main import main

main(["fit", "atrous_fcn_resnet50", *sys.argv[1:]])
