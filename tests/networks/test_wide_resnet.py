"""Wide residual networks against the tables of Xu, Hsu and Huang."""

import keras
import numpy as np
import pytest
from conftest import make_data
from example_networks import randomize

from tskd_tf.errors import InputError
from tskd_tf.export.deployment import Deployment
from tskd_tf.export.litert import open_litert, write_litert
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.width import layer_widths, scale_width
from tskd_tf.networks.zoo.models import build_teacher
from tskd_tf.networks.zoo.wide_resnet import depth_and_width, wide_resnet


# Table 5, CIFAR-100; multiply-adds follow from the layers, the paper has none
@pytest.mark.parametrize(
    ("depth", "width", "millions", "mega_macs"),
    [
        (10, 2, 0.32, 44.5),
        (10, 4, 1.22, 166.1),
        (10, 6, 2.72, 365.4),
        (10, 8, 4.81, 642.2),
        (10, 10, 7.49, 996.7),
        (16, 4, 2.77, 392.6),
        (22, 4, 4.32, 619.1),
        (28, 4, 5.87, 845.6),
        (34, 4, 7.42, 1072.1),
        (40, 10, 55.90, 8074.5),
    ],
)
def test_costs_are_those_of_table_5(depth, width, millions, mega_macs):
    # Weights cost most of the time, and do not count here
    with keras.StatelessScope(initialize_variables=False):
        model = wide_resnet(depth, width, (32, 32, 3), 100)
        cost = complexity(model)
    num_trained = sum(np.prod(weight.shape) for weight in model.trainable_variables)
    assert round(num_trained / 1e6, 2) == millions
    assert round(cost.num_macs / 1e6, 1) == mega_macs


def test_the_layers_of_a_block():
    model = wide_resnet(16, 2, (32, 32, 3), 10)
    names = [layer.name for layer in model.layers]
    shapes = {layer.name: layer.output.shape[1:] for layer in model.layers}
    block = names.index("group2_block1_1_norm")
    assert names[block : block + 9] == [
        "group2_block1_1_norm",
        "group2_block1_1_relu",
        "group2_block1_conv1",
        "group2_block1_2_norm",
        "group2_block1_2_relu",
        "group2_block1_drop",
        "group2_block1_shortcut",
        "group2_block1_conv2",
        "group2_block1_add",
    ]
    sides = [shapes[f"group{i}_block2_add"] for i in (1, 2, 3)]
    assert sides == [(32, 32, 32), (16, 16, 64), (8, 8, 128)]
    assert "group2_block2_shortcut" not in names and shapes["pool"] == (128,)


def test_names():
    assert depth_and_width("wrn_16_4") == (16, 4)
    for other in ("lenet", "wrn_16", "wrn_16_4x", "wrn_16_4_2", "wrn_-16_4"):
        assert depth_and_width(other) is None
    images, _ = make_data(8)
    assert build_teacher("wrn_10_1", images, 4).output_shape == (None, 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((11, 1), "6n \\+ 4.*depth=11"),
        ((4, 1), "6n \\+ 4.*depth=4"),
        ((10, 0), "width of at least 1.*width=0"),
    ],
)
def test_networks_that_do_not_exist_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        wide_resnet(*settings, (32, 32, 3), 10)


@pytest.mark.parametrize(
    ("width", "widths"),
    [
        # The projection of the first group parts it from the stem
        (2, [8, 16, 16, 16, 32, 32, 32, 64, 64, 64, 10]),
        # Without one both are tied
        (1, [8, 8, 8, 16, 16, 16, 32, 32, 32, 10]),
    ],
)
def test_half_of_it_is_half_as_wide_everywhere(width, widths):
    teacher = wide_resnet(10, width, (32, 32, 3), 10)
    student = scale_width(teacher, 0.5)
    assert sorted(layer_widths(student)[:-1]) == sorted(widths[:-1])
    assert layer_widths(student)[-1] == 10
    rates = [layer.rate for layer in student.layers if hasattr(layer, "rate")]
    assert rates == [0.3] * 3


def test_the_students_file_predicts_as_it_does(tmp_path):
    """Statistics away from their start, so that folding them in matters."""
    student = randomize(scale_width(wide_resnet(10, 1, (8, 8, 1), 4), 0.5))
    images, _ = make_data(32)
    path = str(tmp_path / "student.tflite")
    write_litert(student, path, Deployment("logits", ["a", "b", "c", "d"], images))
    expected = student(images).numpy()
    got = open_litert(path).outputs(images)
    # Images make a small difference beside that of the weights
    spread = np.ptp(expected, axis=0).max()
    assert spread > 0.1
    np.testing.assert_allclose(got, expected, atol=0.01 * spread, rtol=0)
