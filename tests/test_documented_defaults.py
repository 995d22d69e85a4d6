"""What a docstring calls the default is the default."""

import pytest
from documented_defaults import documented_in, modules_of

DEFAULTS = [
    entry
    for package in ("tskd_tf", "tuner")
    for module in modules_of(package)
    for entry in documented_in(module)
]


@pytest.mark.parametrize(
    ("documented", "actual"),
    [pytest.param(*values, id=name) for name, *values in DEFAULTS],
)
def test_the_documented_default_is_the_default(documented, actual):
    assert actual == documented


def test_defaults_are_found():
    names = {name for name, *_ in DEFAULTS}
    assert "tskd_tf.distillation.soft_targets.TransferSet.batches(batch_size)" in names
    assert len(names) > 40
