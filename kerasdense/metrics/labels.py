"""The label that every dataset, loss and metric of the package agrees to skip."""

IGNORE = 255  # pixels of this class index neither train nor count
