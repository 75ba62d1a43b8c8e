"""Warm-up requests, which TensorFlow Serving answers before it offers a version to clients.

The first request of a signature takes much longer than the others: the server should meet it, not
a client. They are a file in the version folder: REQUESTS. A request that fails keeps the server
from loading the version, so replay through the signatures what you have written.

Needs the optional package tensorflow-serving-api.
Reference: TensorFlow Serving, SavedModel Warmup.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

from kerasdense.tasks.base import reason

REQUESTS = "assets.extra/tf_serving_warmup_requests"
MAXIMUM_RECORDS = 1000  # with more, the server does not load the version


def write_warmup_requests(path, requests, model_name):
    """Write `requests`, {signature: {input name: array}}, to `path` for the model `model_name`.

    The signatures are called in their order. Strings are object arrays of bytes, one a file.
    Raises: ImportError without tensorflow-serving-api; ValueError for no or too many requests, a
    request without inputs, or an array of fixed-width strings; OSError if it cannot be written.
    """
    prediction_log_pb2 = _import_prediction_log()
    if not 1 <= len(requests) <= MAXIMUM_RECORDS:
        raise ValueError(
            f"TensorFlow Serving takes 1 to {MAXIMUM_RECORDS} warm-up requests, received "
            f"{len(requests)}."
        )
    records = []
    for signature, inputs in requests.items():
        if not inputs:
            raise ValueError(f"The warm-up request of signature '{signature}' has no inputs.")
        log = prediction_log_pb2.PredictionLog()
        request = log.predict_log.request
        request.model_spec.name = model_name
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(_tensor(name, np.asarray(value)))
        records.append(log.SerializeToString())
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in records:
                writer.write(record)
    except tf.errors.OpError as error:  # what TensorFlow makes of a full disk
        raise OSError(f"Cannot write warm-up requests to {path}: {reason(error)}") from error


def read_warmup_requests(path):
    """The requests in the file `path`, as `write_warmup_requests` takes them.

    Raises: ImportError without tensorflow-serving-api; FileNotFoundError; ValueError if the file
    is damaged, or holds other requests than one a signature.
    """
    prediction_log_pb2 = _import_prediction_log()
    from google.protobuf.message import DecodeError

    if not Path(path).is_file():
        raise FileNotFoundError(f"There are no warm-up requests: {path} does not exist.")
    requests = {}
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            log = prediction_log_pb2.PredictionLog.FromString(record)
            signature = log.predict_log.request.model_spec.signature_name
            if log.WhichOneof("log_type") != "predict_log" or signature in requests:
                raise ValueError(
                    f"{path} was not written by kerasdense: expected one predict_log for each "
                    f"signature, received {log.WhichOneof('log_type')} of '{signature}'."
                )
            inputs = log.predict_log.request.inputs
            requests[signature] = {name: tf.make_ndarray(inputs[name]) for name in inputs}
    except (tf.errors.OpError, DecodeError) as error:
        raise ValueError(
            f"The warm-up requests {path} are damaged: {reason(error)}. Export the model again."
        ) from error
    return requests


def _tensor(name, array):
    if array.dtype.kind in "SU":
        raise ValueError(
            f"The warm-up input '{name}' is an array of {array.dtype}, which loses zero bytes at "
            f"the end of a string. Give numpy.array([...], object)."
        )
    return tf.make_tensor_proto(array)


def _import_prediction_log():
    try:
        from tensorflow_serving.apis import prediction_log_pb2
    except ImportError as error:
        raise ImportError(
            f"Warm-up requests need the package tensorflow-serving-api ({error}). Install it: "
            f"pip install 'kerasdense[serving]'"
        ) from error
    return prediction_log_pb2
