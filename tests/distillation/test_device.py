import pathlib
import types

import keras
import pytest
from conftest import make_network

from tskd_tf.distillation import device
from tskd_tf.errors import InputError
from tskd_tf.networks.rebuild import with_policy


def test_precision_that_is_asked_for_is_taken():
    for precision in ("float32", "mixed_float16", "mixed_bfloat16"):
        assert device.choose_precision(precision) == precision
        keras.DTypePolicy(precision)
    with pytest.raises(InputError, match="int8"):
        device.choose_precision("int8")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags : sse avx512f avx512_bf16", "mixed_bfloat16"),
        ("flags : sse amx_bf16", "mixed_bfloat16"),
        ("flags : sse avx2", "float32"),
        (None, "float32"),
    ],
)
def test_automatic_precision_follows_the_cpu(monkeypatch, flags, expected):
    def read_text(path, encoding):
        if flags is None:
            raise FileNotFoundError
        return flags

    monkeypatch.setattr(device.tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(pathlib.Path, "read_text", read_text)
    assert device.choose_precision("auto") == expected
    assert "bfloat16 instructions" in device.explain_precision()[1]
    assert device.choose_jit_compile() is False
    assert device.choose_jit_compile(True) is True
    assert device.choose_steps_per_execution(1000) == 50
    assert device.choose_steps_per_execution(7) == 7
    assert device.choose_steps_per_execution(1000, 300) == 300
    assert device.choose_steps_per_execution(1000, None, num_replicas=2) == 1
    with pytest.raises(InputError, match="several devices.*300"):
        device.choose_steps_per_execution(1000, 300, num_replicas=2)


@pytest.mark.parametrize(
    ("capability", "expected", "reason"),
    [
        ((8, 0), "mixed_float16", "has tensor cores; losses are scaled"),
        ((6, 1), "float32", "no tensor cores"),
    ],
)
def test_automatic_precision_follows_the_gpu(monkeypatch, capability, expected, reason):
    config, gpu = device.tf.config, types.SimpleNamespace(name="GPU:0")
    monkeypatch.setattr(config, "list_physical_devices", lambda kind: [gpu])
    details = {"compute_capability": capability, "device_name": "A GPU"}
    monkeypatch.setattr(config.experimental, "get_device_details", lambda gpu: details)
    assert device.choose_precision("auto") == expected
    assert reason in device.explain_precision()[1]
    assert device.choose_jit_compile() is True
    assert device.choose_jit_compile(False) is False
    assert device.choose_steps_per_execution(1000) == 200
    assert device.describe_device() == "A GPU"


def test_float16_is_seen_in_nested_layers():
    plain = make_network()
    assert not device.uses_float16(plain)
    low = with_policy(plain, "mixed_float16")
    assert device.uses_float16(low)
    assert device.uses_float16(keras.Sequential([keras.Input((8, 8, 1)), low]))
    assert not device.uses_float16(with_policy(plain, "mixed_bfloat16"))


def test_without_several_devices_training_is_as_ever():
    for distribute in ("auto", "none", "mirrored"):
        strategy = device.choose_strategy(distribute)
        assert strategy is device.tf.distribute.get_strategy()
    with pytest.raises(InputError, match="everywhere"):
        device.choose_strategy("everywhere")
