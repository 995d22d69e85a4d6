import keras
import numpy as np
import pytest
from conftest import make_network
from keras import layers
from test_graph import softmax_heads

from tskd_tf.data.task import Task
from tskd_tf.errors import InputError
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.teacher_file import load_teacher, teacher_shapes
from tskd_tf.networks.width import scale_width


def load(path, **settings):
    return load_teacher(str(path), (8, 8, 1), 4, **settings)


@pytest.fixture
def saved(tmp_path):
    def save(model):
        path = tmp_path / "teacher.keras"
        model.save(path)
        return path

    return save


def test_loaded_equals_saved(saved, arrays):
    model = make_network()
    loaded = load(saved(model))
    np.testing.assert_array_equal(loaded(arrays[0]), model(arrays[0]))
    assert not loaded.compiled


@pytest.mark.parametrize("name", sorted(set(softmax_heads()) - {"log-softmax"}))
def test_a_softmax_is_taken_off(saved, arrays, name):
    model = softmax_heads()[name]
    expected = model(arrays[0] / np.float32(255))
    loaded = load(saved(model), input_range="0:1")
    got = keras.ops.softmax(loaded(arrays[0]))
    np.testing.assert_allclose(got, expected, atol=1e-5)
    # And its head is found
    task = Task([2, 0], 4, head="task")
    assert scale_width(loaded, 0.5, task).output_shape == (None, 2)


def test_a_sigmoid_is_refused_with_the_reason(saved):
    with pytest.raises(InputError, match="decides each class separately"):
        load(saved(make_network(4, "sigmoid")))


@pytest.mark.parametrize(
    ("input_range", "scale"),
    [("0:1", lambda x: x / 255), ("-1:1", lambda x: x / 127.5 - 1)],
)
def test_the_input_range_is_put_inside(saved, arrays, input_range, scale):
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(4)]
    )
    images = arrays[0]
    loaded = load(saved(model), input_range=input_range)
    expected = model(scale(images.astype("float32")))
    np.testing.assert_allclose(loaded(images), expected, atol=1e-5)


def test_unknown_range_and_missing_file_are_refused(saved, tmp_path):
    path = saved(make_network())
    with pytest.raises(InputError, match="0:255, 0:1, -1:1.*0:2"):
        load(path, input_range="0:2")
    with pytest.raises(InputError, match="no such file"):
        load(tmp_path / "other.keras")
    # Other formats may carry code that runs while they are loaded
    old = tmp_path / "teacher.h5"
    old.write_bytes(b"")
    with pytest.raises(InputError, match="not a .keras file"):
        load(old)


@pytest.mark.parametrize("damage", ["empty", "torn", "text", "folder"])
def test_damaged_files_are_refused_in_one_line(saved, damage):
    path = saved(make_network())
    whole = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        contents = {"empty": b"", "torn": whole[: len(whole) // 2], "text": b"hello"}
        path.write_bytes(contents[damage])
    with pytest.raises(InputError, match=r"\.keras") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_files_that_carry_code_are_refused(saved):
    image = keras.Input((8, 8, 1))
    x = layers.Flatten()(layers.Lambda(lambda pixels: pixels * 2)(image))
    path = saved(keras.Model(image, layers.Dense(4)(x)))
    with pytest.raises(InputError, match="without foreign code.*(?i:lambda)"):
        load(path)


def test_teachers_that_do_not_fit_the_data_are_refused(saved):
    path = saved(make_network())
    with pytest.raises(InputError, match=r"\(28, 28, 1\).*\(8, 8, 1\)"):
        load_teacher(str(path), (28, 28, 1), 4)
    with pytest.raises(InputError, match="each of the 10 classes.*4 outputs"):
        load_teacher(str(path), (8, 8, 1), 10)
    flat = keras.Sequential([keras.Input((64,)), layers.Dense(4)])
    with pytest.raises(InputError, match="images"):
        load(saved(flat))


def test_a_teacher_of_any_size_keeps_what_it_learnt_from_the_data(saved, arrays):
    normalization = layers.Normalization()
    normalization.adapt(arrays[0])
    inner = keras.Sequential([keras.Input((None, None, 1)), layers.Conv2D(6, 3)])
    image = keras.Input((None, None, 1))
    x = layers.GlobalMaxPooling2D()(inner(normalization(image)))
    model = keras.Model(image, layers.Dense(4)(x))
    loaded = load(saved(model))
    assert loaded.input_shape == (None, 8, 8, 1)
    np.testing.assert_allclose(loaded(arrays[0]), model(arrays[0]), atol=1e-6)
    assert complexity(loaded).num_macs == 9 * 6 * 36 + 6 * 4


@keras.saving.register_keras_serializable("tests")
class Whole(keras.Model):
    """A subclassed classifier."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.head = layers.Dense(4)

    def call(self, images):
        return self.head(layers.Flatten()(images))


def test_a_subclassed_teacher_takes_what_it_was_built_for(saved, arrays):
    model = Whole()
    model(arrays[0])
    assert teacher_shapes(str(saved(model))) == ((8, 8, 1), 4)
