"""`Model.fit` in a run folder that survives interruption."""
