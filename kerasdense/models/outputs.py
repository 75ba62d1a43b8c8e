"""Which output of a model is meant, where it has several."""


def main_output(output):
    """Of a model's output, symbolic or computed, the logits where it is a dict with them."""
    return output["logits"] if isinstance(output, dict) and "logits" in output else output
