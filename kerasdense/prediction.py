"""Prediction from an exported SavedModel with TensorFlow and NumPy alone.

B batch, H W size, C classes.
"""

import json
from pathlib import Path

import numpy as np
import tensorflow as tf


class Predictor:
    """A SavedModel written by `kerasdense.export`.

    `path`: a version folder, or the folder above it (the newest version is taken).
    `task`: "segmentation" or "detection"; `class_names`: list of str; `palette`: list of
    [r, g, b]; `directory`: the version folder.
    Raises: FileNotFoundError or ValueError if there is no such SavedModel.
    """

    def __init__(self, path):
        self.directory = _version_folder(Path(path))
        classes = self.directory / "assets" / "classes.json"
        if not classes.is_file():
            raise ValueError(
                f"{self.directory} is a SavedModel without assets/classes.json. "
                f"Export it with scripts/export.py."
            )
        facts = json.loads(classes.read_text())
        self.task = facts.get("task", "segmentation")  # not named by the first versions
        self.class_names, self.palette = facts["class_names"], facts["palette"]
        try:
            # Kept, because the variables live only as long as the loaded object.
            self._loaded = tf.saved_model.load(str(self.directory))
        except (OSError, tf.errors.OpError) as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise ValueError(
                f"The SavedModel {self.directory} is damaged: {reason}. Export it again."
            ) from error
        self._signatures = self._loaded.signatures

    def predict(self, images):
        """uint8 [B, H, W, 3] to a dict of arrays.

        Segmentation: `labels` uint8 [B, H, W], `confidence` float32 [B, H, W]. Detection: `boxes`
        float32 [B, 200, 4], xyxy in pixels, `scores` float32 [B, 200] and `classes` int32
        [B, 200], of which the first `num_detections` int32 [B] are meant.
        """
        return self._call("serving_default", images=_checked(images))

    def predict_probabilities(self, images):
        """uint8 [B, H, W, 3] to float32 [B, H, W, C], of a segmentation model.

        Raises: ValueError for a detection model, which has scores instead.
        """
        if self.task != "segmentation":
            raise ValueError(f"{self.directory} is a {self.task} model: its predict gives scores.")
        return self._call("probabilities", images=_checked(images))["probabilities"]

    def predict_encoded(self, files):
        """A list of JPEG or PNG files (bytes), all of one size, to what `predict` returns."""
        if isinstance(files, (bytes, str)) or not all(isinstance(f, bytes) for f in files):
            raise ValueError(
                "predict_encoded expects a list of bytes, the contents of JPEG or PNG files. "
                "Read them with pathlib.Path(...).read_bytes()."
            )
        try:
            return self._call("encoded", image_bytes=np.array(files, object))
        except tf.errors.InvalidArgumentError as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise ValueError(
                f"The files could not be decoded to one batch; expected JPEG or PNG of one size "
                f"and undamaged: {reason}"
            ) from error

    def _call(self, signature, **inputs):
        outputs = self._signatures[signature](
            **{name: tf.convert_to_tensor(value) for name, value in inputs.items()}
        )
        return {name: value.numpy() for name, value in outputs.items()}


def _checked(images):
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise ValueError(
            f"Images must be a batch of RGB pictures, uint8 [B, H, W, 3], received "
            f"{images.dtype} {list(images.shape)}. One picture needs a leading axis: image[None]."
        )
    return images


def _version_folder(path):
    if (path / "saved_model.pb").is_file():
        return path
    if not path.is_dir():
        raise FileNotFoundError(
            f"There is no folder {path}. Give an exported model: NAME or NAME/VERSION."
        )
    versions = [
        folder
        for folder in path.iterdir()
        if folder.name.isdecimal() and (folder / "saved_model.pb").is_file()
    ]
    if not versions:
        raise ValueError(
            f"{path} holds no SavedModel: expected saved_model.pb, or numbered folders with one, "
            f"received {sorted(item.name for item in path.iterdir())[:5] or 'an empty folder'}. "
            f"Export one with scripts/export.py."
        )
    return max(versions, key=lambda folder: int(folder.name))
