"""Residual networks of cheap blocks: the sizes of the design document's table."""

import numpy as np
import pytest

from tskd_tf.errors import InputError
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.rebuild import load_kept_model
from tskd_tf.networks.width import layer_widths, scale_width
from tskd_tf.networks.zoo.resnet import KINDS, cheap_resnet


@pytest.mark.parametrize(
    "kind, groups, num_params, mega_macs",
    [
        ("shift", None, 102_106, 15.39),
        ("depthwise", None, 119_818, 20.47),
        ("grouped", 16, 154_378, 24.23),
        ("grouped", 8, 206_650, 33.08),
        ("grouped", 4, 311_194, 50.77),
        ("grouped", 2, 520_282, 86.16),
        ("plain", None, 853_018, 125.49),
    ],
)
def test_sizes_are_those_of_the_table(kind, groups, num_params, mega_macs):
    model = cheap_resnet(kind, groups)
    # The table counts what is trained, and not the moving statistics
    assert sum(np.prod(w.shape) for w in model.trainable_weights) == num_params
    assert round(complexity(model).num_macs / 1e6, 2) == mega_macs


@pytest.mark.parametrize("kind", KINDS)
def test_a_small_one_runs_and_is_kept(kind, tmp_path):
    groups = 4 if kind == "grouped" else None
    model = cheap_resnet(kind, groups, 8, (8, 8, 3), 5)
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    assert np.isfinite(model(images)).all()
    model.save(tmp_path / "model.keras")
    reloaded = load_kept_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(reloaded(images), model(images))
    if kind == "plain":
        with pytest.raises(InputError, match="pad.*build_student"):
            scale_width(model, 0.5)
        return
    assert set(layer_widths(scale_width(model, 0.5))) == {5, 8, 16, 32}
    assert scale_width(model, 0.1)(images).shape == (2, 5)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"kind": "dominant"}, "plain, shift, depthwise, grouped.*'dominant'"),
        ({"kind": "grouped"}, "groups=None with 'grouped'"),
        ({"kind": "grouped", "groups": 3}, "groups=3 with 'grouped'"),
        ({"kind": "grouped", "groups": 0}, "groups=0 with 'grouped'"),
        ({"kind": "shift", "groups": 4}, "groups=4 with 'shift'"),
        ({"kind": "shift", "depth": 54}, "Received: 54"),
        ({"kind": "shift", "depth": 2}, "Received: 2"),
        ({"kind": "shift", "image_shape": (30, 32, 3)}, "multiples of 4"),
        ({"kind": "shift", "image_shape": (32, 32, 1)}, "three channels"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        cheap_resnet(**arguments)
