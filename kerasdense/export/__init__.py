"""From a Keras model to a served one, and prediction from it."""
