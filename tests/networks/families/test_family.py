"""The records of families: each builds what its rates name."""

import keras
import pytest
from conftest import make_network

from tskd_tf.data.task import Task
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.families import compact, thin
from tskd_tf.networks.students import thin_student


@pytest.mark.parametrize("family", [thin.FAMILY, compact.FAMILY])
@pytest.mark.parametrize("head, num_outputs", [("full", 4), ("task", 2)])
def test_students_of_a_family_rise_in_cost(family, head, num_outputs):
    teacher, task = make_network(), Task([3, 1], 4, head=head)
    rates = list(family.rates(teacher, task))
    students = [family.build(teacher, rate, task) for rate in rates[:: len(rates) // 3]]
    costs = [complexity(student).num_macs for student in students]
    assert costs == sorted(set(costs)) and costs[-1] <= complexity(teacher).num_macs
    for student in students:
        assert isinstance(student, keras.Model)
        assert student.output_shape == (None, num_outputs)


def test_thin_students_are_those_of_before():
    teacher, task = make_network(), Task([3, 1], 4)
    assert thin.FAMILY.build is thin_student
    assert max(thin.FAMILY.rates(teacher, task)) == 1.0
