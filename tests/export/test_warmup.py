"""Warm-up requests: what is written parses as TensorFlow Serving's, and runs when replayed."""

import sys

import numpy as np
import pytest
import tensorflow as tf

from kerasdense.export import warmup

prediction_log_pb2 = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")

# A file may end in zero bytes, which NumPy's strings of fixed width drop.
FILES = np.array([b"\x89PNG\x00", b"\xff\xd8 \x00\x00"], object)
IMAGES = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
REQUESTS = {"serving_default": {"images": IMAGES}, "encoded": {"image_bytes": FILES}}


def assert_same(received, expected):
    assert list(received) == list(expected)
    for signature, inputs in expected.items():
        assert received[signature].keys() == inputs.keys()
        for name, value in inputs.items():
            assert received[signature][name].dtype == value.dtype
            np.testing.assert_array_equal(received[signature][name], value)


def test_round_trip(tmp_path):
    path = tmp_path / "1" / warmup.REQUESTS
    warmup.write_warmup_requests(path, REQUESTS, "name")
    assert_same(warmup.read_warmup_requests(path), REQUESTS)
    only = {"scores": {"a": np.float32([[0.5, np.nan]]), "b": np.zeros((0, 2), np.int32)}}
    warmup.write_warmup_requests(str(path), only, "name")  # instead of the others
    assert_same(warmup.read_warmup_requests(str(path)), only)


def test_records_are_prediction_logs_where_the_server_looks_for_them(tmp_path):
    warmup.write_warmup_requests(tmp_path / warmup.REQUESTS, REQUESTS, "name")
    file = tmp_path / "assets.extra" / "tf_serving_warmup_requests"
    first, second = (
        prediction_log_pb2.PredictionLog.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(str(file))
    )
    for log, signature in ((first, "serving_default"), (second, "encoded")):
        assert log.WhichOneof("log_type") == "predict_log"
        spec = log.predict_log.request.model_spec
        assert (spec.name, spec.signature_name) == ("name", signature)
        assert not spec.HasField("version")  # the version that lies beside it
    images = first.predict_log.request.inputs["images"]
    assert images.dtype == tf.uint8.as_datatype_enum
    assert [dim.size for dim in images.tensor_shape.dim] == [2, 3, 4, 3]
    files = second.predict_log.request.inputs["image_bytes"]
    assert files.dtype == tf.string.as_datatype_enum
    assert list(files.string_val) == list(FILES)


def test_replayed_through_the_signatures_of_a_saved_model(tmp_path):
    class Served(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, "images")])
        def serving_default(self, images):
            return {"sums": tf.reduce_sum(tf.cast(images, tf.int32), axis=[1, 2, 3])}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
        def encoded(self, image_bytes):
            return {"lengths": tf.strings.length(image_bytes)}

    served = Served()
    signatures = {name: getattr(served, name) for name in REQUESTS}
    tf.saved_model.save(served, str(tmp_path), signatures=signatures)
    warmup.write_warmup_requests(tmp_path / warmup.REQUESTS, REQUESTS, "name")
    loaded = tf.saved_model.load(str(tmp_path))  # as before: the file is none of its business
    outputs = {
        signature: loaded.signatures[signature](**{k: tf.constant(v) for k, v in inputs.items()})
        for signature, inputs in warmup.read_warmup_requests(tmp_path / warmup.REQUESTS).items()
    }
    # 0 + 1 + ... + 35 and 36 + ... + 71; the lengths of FILES with their last zero bytes.
    assert outputs["serving_default"]["sums"].numpy().tolist() == [630, 1926]
    assert outputs["encoded"]["lengths"].numpy().tolist() == [5, 5]


def test_as_many_records_as_the_server_takes(tmp_path):
    def requests(count):
        return {f"signature{i}": {"x": np.zeros(1, np.uint8)} for i in range(count)}

    path = tmp_path / "requests"
    for count in (0, 1001):
        with pytest.raises(ValueError, match=f"1 to 1000 warm-up requests, received {count}"):
            warmup.write_warmup_requests(path, requests(count), "name")
    assert not path.exists()
    warmup.write_warmup_requests(path, requests(1000), "name")
    assert len(warmup.read_warmup_requests(path)) == 1000


def test_what_is_no_request_is_refused(tmp_path):
    path = tmp_path / "requests"
    for files in (np.array([b"a\x00"]), np.array(["a"])):
        with pytest.raises(ValueError, match="'image_bytes' .* numpy.array\\(\\[...\\], object\\)"):
            warmup.write_warmup_requests(path, {"encoded": {"image_bytes": files}}, "name")
    with pytest.raises(ValueError, match="'encoded' has no inputs"):
        warmup.write_warmup_requests(path, {"encoded": {}}, "name")
    assert not path.exists()
    path.mkdir()  # a folder where the file should be
    with pytest.raises(OSError, match="Cannot write warm-up requests"):
        warmup.write_warmup_requests(path, REQUESTS, "name")


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "requests"
    with pytest.raises(FileNotFoundError, match="requests does not exist"):
        warmup.read_warmup_requests(path)
    warmup.write_warmup_requests(path, REQUESTS, "name")
    whole = path.read_bytes()
    for content in (whole[:-3], b"no records at all", whole.replace(b"PNG", b"GIF")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="requests are damaged"):
            warmup.read_warmup_requests(path)


def test_records_of_others_are_named(tmp_path):
    def written(*logs):
        with tf.io.TFRecordWriter(str(tmp_path / "requests")) as writer:
            for log in logs:
                writer.write(log if isinstance(log, bytes) else log.SerializeToString())
        return tmp_path / "requests"

    predict, regress = prediction_log_pb2.PredictionLog(), prediction_log_pb2.PredictionLog()
    predict.predict_log.request.model_spec.signature_name = "encoded"
    regress.regress_log.request.model_spec.signature_name = "encoded"
    with pytest.raises(ValueError, match="expected one predict_log .* received predict_log of"):
        warmup.read_warmup_requests(written(predict, predict))
    with pytest.raises(ValueError, match="expected one predict_log .* received regress_log of"):
        warmup.read_warmup_requests(written(regress))
    with pytest.raises(ValueError, match="damaged"):
        warmup.read_warmup_requests(written(b"\xff\xff"))  # no protocol buffer


def test_the_optional_package_is_named_where_it_is_missing(tmp_path, monkeypatch):
    path = tmp_path / "requests"
    for name in [name for name in sys.modules if name.startswith("tensorflow_serving")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorflow_serving", None)
    with pytest.raises(ImportError, match="pip install 'kerasdense\\[serving\\]'"):
        warmup.write_warmup_requests(path, REQUESTS, "name")
    with pytest.raises(ImportError, match="pip install 'kerasdense\\[serving\\]'"):
        warmup.read_warmup_requests(path)
    assert not path.exists()
