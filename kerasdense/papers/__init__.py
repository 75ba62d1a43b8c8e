"""The published rows: what was measured on what, and the commands that measure it here.

A file a paper, or a part of one, with its rows, {name: `row.Row`}, as ROWS.
"""

from kerasdense.papers import atrous, figures, ladder, mot, voc

ROWS = ladder.ROWS | mot.ROWS | voc.ROWS | atrous.ROWS | figures.ROWS
