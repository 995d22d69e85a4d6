"""A search that decides by the students' integer files."""

import pytest
from conftest import make_data

from tskd_tf.data.splits import Split
from tskd_tf.data.task import Task
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.errors import InputError
from tskd_tf.networks.evaluate import accuracy, predict_logits
from tskd_tf.search import trainer
from tskd_tf.search.int8_verdict import int8_accuracy
from tskd_tf.search.settings import SearchSettings
from tskd_tf.search.smallest_student import find_smallest_student

TASK = Task([3, 1], 4)
SPLITS = tuple(make_data(n, seed=n) for n in (128, 64, 40))


def find(teacher, **settings):
    return find_smallest_student(
        teacher,
        *SPLITS,
        task=TASK,
        rates=[0.25, 0.5, 1.0],
        recipe=Recipe(epochs=2, batch_size=16, precision="float32"),
        verbose=0,
        judge_by="int8",
        **settings,
    )


def test_the_integer_file_of_a_good_student_is_as_good(trained_teacher):
    images, labels = SPLITS[2]
    exact = accuracy(predict_logits(trained_teacher, images), labels)
    found = int8_accuracy(trained_teacher, images, Split(images, labels))
    assert found == pytest.approx(exact, abs=0.06)


@pytest.mark.long
def test_trials_have_the_accuracy_of_their_files(trained_teacher, tmp_path):
    found = find(trained_teacher, max_accuracy_loss=0.5, directory=str(tmp_path))
    report = found.report
    chosen = [
        trial
        for trial in report["search"]["trials"]
        if trial["rate"] == report["student"]["rate"]
    ]
    images, labels = TASK.filter(SPLITS[1])
    expected = int8_accuracy(
        found.student, TASK.filter(SPLITS[0])[0], Split(images, labels)
    )
    assert expected in [trial["accuracy"] for trial in chosen]
    with pytest.raises(InputError, match="other judge_by"):
        find_smallest_student(
            trained_teacher,
            *SPLITS,
            task=TASK,
            rates=[0.25, 0.5, 1.0],
            recipe=Recipe(epochs=2, batch_size=16, precision="float32"),
            verbose=0,
            max_accuracy_loss=0.5,
            directory=str(tmp_path),
        )


def test_a_student_whose_file_fails_is_not_chosen(trained_teacher, monkeypatch):
    """Files of students below rate 1 are made bad; the floor is that of the teacher."""

    def made_bad(student, examples, validation):
        is_narrow = student.count_params() < trained_teacher.count_params()
        return 0.0 if is_narrow else 1.0

    monkeypatch.setattr(trainer, "int8_accuracy", made_bad)
    found = find(trained_teacher, max_accuracy_loss=0.3)
    assert found.report["student"]["rate"] == 1.0


def test_another_judge_is_refused():
    with pytest.raises(InputError, match="judge_by out of float, int8.*eye"):
        SearchSettings(judge_by="eye").check()
