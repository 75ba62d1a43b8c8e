"""The program `kerasdense`: a file each sub-command; only here are flags."""
