"""The lines on the page that load a file, run as they stand."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import IMAGE_SHAPE, make_data

from tskd_tf.choices import FORMATS
from tskd_tf.export.loading_snippets import class_of_outputs, snippet

FILES = {
    "keras": "student.keras",
    "litert": "student.tflite",
    "litert_float16": "student_float16.tflite",
    "litert_int8": "student_int8.tflite",
    "onnx": "student.onnx",
    "saved_model": "student_saved_model",
}


def write(name, network, images):
    """A file as a run leaves it."""
    int8 = {
        "optimizations": [tf.lite.Optimize.DEFAULT],
        "representative_dataset": lambda: (
            [image[None].astype(np.float32)] for image in images
        ),
        "target_spec": {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]},
        "inference_input_type": tf.uint8,
    }
    path = FILES[name]
    if name == "keras":
        network.save(path)
    elif name == "litert_int8":
        network.export(path, format="litert", verbose=False, **int8)
    else:
        door = keras.Input(IMAGE_SHAPE, dtype="uint8", name="door")
        outputs = network(keras.ops.cast(door, "float32"))
        kind = {"onnx": "onnx", "saved_model": "tf_saved_model"}.get(name, "litert")
        whole = keras.Model(door, outputs)
        # Keras exports what has been called
        whole(images[:1])
        whole.export(path, format=kind, verbose=False)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs:UserWarning")
@pytest.mark.parametrize("name", FILES)
def test_the_lines_run_and_name_the_class(
    name, trained_teacher, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    images, class_ids = make_data(64)
    write(name, trained_teacher, images)
    (tmp_path / "labels.txt").write_text("zero\none\ntwo\nthrée\n", encoding="utf-8")
    names = {"image": images[3]}
    exec(snippet(name, FILES[name]), names)
    expected = trained_teacher(images[3:4]).numpy()
    tolerance = 1.5 if name == "litert_int8" else 1e-3
    np.testing.assert_allclose(names["outputs"], expected, atol=tolerance)
    capsys.readouterr()
    exec(class_of_outputs("labels.txt"), names)
    assert class_ids[3] == 3 and capsys.readouterr().out == "thrée\n"


def test_every_format_has_lines():
    assert set(FORMATS) == set(FILES)
    for name in FORMATS:
        assert 3 <= len(snippet(name, "file").splitlines()) <= 4
    assert snippet("unknown", "file") == ""
