import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tskd_tf.data.task import Task
from tskd_tf.distillation.soft_targets import transfer_set
from tskd_tf.errors import InputError
from tskd_tf.search.smallest_student import find_smallest_student


def softmax(logits):
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)


def test_task_head_labels_are_positions_in_the_users_order():
    task = Task([7, 2, 4], 10, head="task")
    class_ids = np.array([4, 7, 2, 3])
    assert task.to_labels(class_ids).tolist() == [2, 0, 1, -1]
    assert task.output_class_ids == [7, 2, 4]
    assert task.num_outputs == 3


def test_full_head_labels_are_the_class_ids():
    task = Task([7, 2], 10)
    assert task.to_labels(np.array([2, 7, 3])).tolist() == [2, 7, -1]
    assert task.num_outputs == 10


@pytest.mark.parametrize(
    ("class_ids", "message"),
    [
        ([0, 10], r"from 0 to 9.*\[10\]"),
        ([-1, 3], r"\[-1\]"),
        ([3, 5, 3], r"twice: \[3\]"),
        ([], "at least two"),
        ([4], "at least two"),
    ],
)
def test_bad_class_ids_are_refused(class_ids, message):
    with pytest.raises(InputError, match=message):
        Task(class_ids, 10)


def test_unknown_head_and_wrong_number_of_names_are_refused():
    with pytest.raises(InputError, match="half"):
        Task([0, 1], 10, head="half")
    with pytest.raises(InputError, match="10 class names"):
        Task([0, 1], 10, class_names=["a", "b"])


def test_classes_are_found_by_name_and_by_id():
    names = ["cat", "dog", "7"]
    assert Task.from_names(["dog", "0"], names).class_ids == [1, 0]
    # A name that looks like an id is a name
    assert Task.from_names(["7", "0"], names).class_ids == [2, 0]
    assert Task.from_names([], names).class_ids == [0, 1, 2]
    with pytest.raises(InputError, match="cat, dog, 7.*cow"):
        Task.from_names(["cow"], names)


def test_names_and_ids_do_the_same_in_the_constructor():
    names = ["cat", "dog", "7"]
    assert Task(["7", "cat"], class_names=names).class_ids == [2, 0]
    assert Task([np.int64(2), "0"], 3, "task", names).class_ids == [2, 0]
    assert Task([1, 0], class_names=np.array(names)).num_classes == 3
    assert Task(["2", "0"], 3).class_ids == [2, 0]
    for classes, message in (
        (["cat", 0], r"twice: \[cat\]"),
        (["cat", "0"], r"twice: \[cat\]"),
        ([0, 3], r"cat, dog, 7 \(ids 0 to 2\).*\[3\]"),
        (["cat", "cow"], r"\['cow'\]"),
        ([0.0, 1.5], r"\[0.0, 1.5\]"),
    ):
        with pytest.raises(InputError, match=message):
            Task(classes, class_names=names)
    with pytest.raises(InputError, match="from 0 to 9.*'cat'"):
        Task(["cat", 0], 10)
    with pytest.raises(InputError, match="neither"):
        Task([0, 1])
    with pytest.raises(InputError, match="3 class names.*2"):
        Task([0, 1], 3, class_names=["cat", "dog"])


def test_a_name_of_two_classes_needs_an_id():
    """As in ImageNet, where a crane is a bird and a machine."""
    names = ["crane", "cat", "crane"]
    assert Task([2, "cat"], class_names=names).class_ids == [2, 1]
    with pytest.raises(InputError, match=r"'crane'.*several.*\[0, 2\]"):
        Task(["crane", "cat"], class_names=names)


def test_of_a_thousand_names_a_message_lists_some():
    names = [f"class {number}" for number in range(1000)]
    with pytest.raises(InputError, match=r"class 19 and 980 more \(ids 0 to 999\)"):
        Task(["cow", "class 3"], class_names=names)


@given(st.integers(0, 2**32 - 1))
def test_selecting_logits_conditions_the_teacher_on_the_task(seed):
    generator = np.random.default_rng(seed)
    class_ids = generator.permutation(10)[:3].tolist()
    task = Task(class_ids, 10, head="task")
    logits = generator.normal(size=(5, 10)) * 10
    within = softmax(logits)[:, class_ids]
    expected = within / within.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(
        softmax(task.select_logits(logits)), expected, atol=1e-12
    )
    np.testing.assert_array_equal(
        task.select_logits(tf.constant(logits)), task.select_logits(logits)
    )


@pytest.mark.parametrize("head", ["full", "task"])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_a_stream_gives_the_same_set_as_arrays(arrays, head, batch_size):
    task = Task([3, 1], 4, head=head)
    images, labels = task.filter(arrays)
    stream = task.filter(tf.data.Dataset.from_tensor_slices(arrays).batch(batch_size))
    got = list(stream.as_numpy_iterator())
    np.testing.assert_array_equal(np.concatenate([part[0] for part in got]), images)
    np.testing.assert_array_equal(np.concatenate([part[1] for part in got]), labels)
    assert all(len(part[1]) == batch_size for part in got[:-1])
    assert int(stream.cardinality()) == len(got)


def test_a_stream_of_unknown_length_stays_one(arrays):
    task = Task([3, 1], 4)
    stream = tf.data.Dataset.from_tensor_slices(arrays).batch(8)
    unknown = stream.filter(lambda images, class_ids: True)
    filtered = task.filter(unknown)
    assert filtered.cardinality() == tf.data.UNKNOWN_CARDINALITY
    labels = np.concatenate([part[1] for part in filtered.as_numpy_iterator()])
    np.testing.assert_array_equal(labels, task.filter(arrays)[1])
    repeated = task.filter(stream.repeat())
    assert repeated.cardinality() < 0 and len(next(iter(repeated))[1]) == 8


def test_a_stream_that_differs_from_pass_to_pass_keeps_its_length(arrays):
    stream = tf.data.Dataset.from_tensor_slices(arrays).shuffle(64).batch(8).take(3)
    filtered = Task([3, 1], 4).filter(stream, batch_size=1)
    for _ in range(5):
        got = list(filtered.as_numpy_iterator())
        assert len(got) == int(filtered.cardinality())


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "uint64"])
def test_labels_of_every_integer_type(arrays, dtype):
    typed = (arrays[0], arrays[1].astype(dtype))
    task = Task([3, 1], 4)
    np.testing.assert_array_equal(task.filter(typed)[1], task.filter(arrays)[1])
    stream = task.filter(tf.data.Dataset.from_tensor_slices(typed).batch(16))
    labels = np.concatenate([part[1] for part in stream.as_numpy_iterator()])
    np.testing.assert_array_equal(labels, task.filter(arrays)[1])


def test_a_stream_without_the_tasks_classes_is_refused(arrays):
    stream = tf.data.Dataset.from_tensor_slices(arrays).batch(8)
    with pytest.raises(InputError, match=r"\[4, 5\]"):
        Task([4, 5], 6).filter(stream)


def test_sample_weights_stay_beside_their_examples(arrays):
    weights = np.arange(64, dtype="float32")
    task = Task([3, 1], 4)
    *_, expected = task.filter((*arrays, weights))
    dataset = tf.data.Dataset.from_tensor_slices((*arrays, weights)).batch(16)
    got = np.concatenate([part[2] for part in task.filter(dataset)])
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(weights[np.isin(arrays[1], [1, 3])], expected)


def test_a_task_class_without_examples_is_named(arrays):
    images, class_ids = arrays
    kept = class_ids != 2
    with pytest.raises(InputError, match="none of class 2"):
        Task([1, 2], 4).filter((images[kept], class_ids[kept]))


def test_labels_that_are_not_class_ids_are_refused(arrays):
    images, class_ids = arrays
    task = Task([0, 1], 4)
    with pytest.raises(InputError, match="one integer class id an image"):
        task.filter((images, np.eye(4)[class_ids]))
    with pytest.raises(InputError, match="float32"):
        task.filter((images, class_ids.astype("float32")))
    with pytest.raises(InputError, match="from 0 to 3.*0 to 4"):
        task.filter((images, np.where(class_ids == 3, 4, class_ids)))
    one_hot = tf.data.Dataset.from_tensor_slices((images, np.eye(4)[class_ids])).batch(
        8
    )
    with pytest.raises(InputError, match="one integer an example"):
        task.filter(one_hot)


@pytest.mark.parametrize("wrong", [-1, 4, 2**32])
def test_streams_of_labels_out_of_range_are_refused(arrays, wrong):
    images, class_ids = arrays
    labels = np.where(class_ids == 3, wrong, class_ids)
    stream = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)
    with pytest.raises(InputError, match=f"from 0 to 3.*{wrong}"):
        Task([0, 1], 4).filter(stream)
    unknown = Task([0, 1], 4).filter(stream.filter(lambda images, class_ids: True))
    with pytest.raises(tf.errors.InvalidArgumentError, match="class ids from 0 to 3"):
        list(unknown)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images, class_ids: images, "Received: ndarray"),
        (lambda images, class_ids: (images,), "Received: tuple"),
        (
            lambda images, class_ids: tf.data.Dataset.from_tensor_slices(
                {"image": images, "label": class_ids}
            ).batch(8),
            "as_supervised=True.*a dictionary of image, label",
        ),
        (
            lambda images, class_ids: tf.data.Dataset.from_tensor_slices(images),
            "Received: TensorSpec",
        ),
        (
            lambda *arrays: tf.data.Dataset.from_tensor_slices(arrays),
            r"single examples: call \.batch",
        ),
    ],
    ids=["array", "one", "dictionary", "images", "unbatched"],
)
def test_what_is_no_pair_is_refused(arrays, teacher, change, message):
    given = change(*arrays)
    with pytest.raises(InputError, match=message):
        Task([0, 1], 4).filter(given)
    with pytest.raises(InputError, match=message):
        transfer_set(given, teacher)
    with pytest.raises(InputError, match=message):
        find_smallest_student(teacher, given, arrays, arrays)


def test_config_round_trip():
    task = Task([7, 2], 10, head="task", class_names=list("abcdefghij"))
    assert Task(**task.get_config()).get_config() == task.get_config()
