"""The paper's teachers against independent NumPy forms of what Caffe does."""

import keras
import numpy as np
import pytest

from tskd_tf.errors import InputError
from tskd_tf.networks.zoo.models import build_teacher, cifar10_full, lenet


def reference_lrn(x, alpha=5e-5, beta=0.75):
    """Within-channel LRN of Caffe: 3x3 windows, zero padding, always over 9."""
    padded = np.pad(x**2, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    total = sum(
        padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)
    )
    return x * (1 + alpha * total / 9) ** -beta


def reference_pool(x, reduce):
    """Caffe's 3x3 stride-2 pooling: size rounded up, the last window clipped."""
    size = -(-(x.shape[1] - 3) // 2) + 1
    return np.stack(
        [
            np.stack(
                [
                    reduce(x[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3], axis=(1, 2))
                    for j in range(size)
                ],
                axis=1,
            )
            for i in range(size)
        ],
        axis=1,
    )


def output_of(model, layer_name, images):
    layer = model.get_layer(layer_name)
    return keras.Model(model.inputs[0], layer.output)(images).numpy()


@pytest.fixture
def cifar_images():
    return np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)


def test_lenet_layers(cifar_images):
    model = lenet((28, 28, 1), 10)
    shapes = [layer.output.shape[1:] for layer in model.layers]
    assert shapes[1:4] == [(24, 24, 20), (12, 12, 20), (8, 8, 50)]
    assert shapes[4:] == [(4, 4, 50), (800,), (500,), (10,)]
    activations = {
        layer.name: layer.activation.__name__
        for layer in model.layers
        if hasattr(layer, "activation")
    }
    assert activations == {
        "conv1": "linear",
        "conv2": "linear",
        "ip1": "relu",
        "ip2": "linear",
    }
    kernel = model.get_layer("ip1").kernel.numpy()
    limit = np.sqrt(3 / 800)
    assert np.abs(kernel).max() <= limit and kernel.std() == pytest.approx(
        limit / np.sqrt(3), rel=0.02
    )


def test_images_are_scaled_inside(cifar_images):
    images = cifar_images[:, :28, :28, :1]
    model = lenet((28, 28, 1), 10)
    np.testing.assert_allclose(output_of(model, "scale", images), images / 256)
    model = build_teacher("cifar10_full", cifar_images, 10)
    mean = cifar_images.mean(axis=0)
    got = output_of(model, "subtract_mean", cifar_images)
    np.testing.assert_allclose(got, cifar_images - mean, atol=1e-4)


def test_pooling_and_normalisation_are_caffes(cifar_images):
    model = build_teacher("cifar10_full", cifar_images, 10)
    # Large weights, so that the normalisation is far from the identity
    model.set_weights([weight * 300 for weight in model.get_weights()])
    conv1 = output_of(model, "conv1", cifar_images)
    pooled = reference_pool(conv1, np.max)
    np.testing.assert_allclose(output_of(model, "pool1", cifar_images), pooled)
    # conv2 sees the normalised maps
    normalised = reference_lrn(np.maximum(pooled, 0))
    assert np.abs(normalised - np.maximum(pooled, 0)).max() > 0.1
    expected = model.get_layer("conv2")(normalised)
    got = output_of(model, "conv2", cifar_images)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-2)
    conv3 = output_of(model, "relu3", cifar_images)
    averaged = reference_pool(conv3, np.mean)
    got = output_of(model, "pool3", cifar_images)
    np.testing.assert_allclose(got, averaged, rtol=1e-4, atol=1e-4)


def test_lrn_is_optional(cifar_images):
    mean = cifar_images.mean(axis=0)
    with_lrn = cifar10_full((32, 32, 3), 10, mean)
    without = cifar10_full((32, 32, 3), 10, mean, use_lrn=False)
    assert with_lrn.count_params() == without.count_params()
    assert len(with_lrn.operations) > len(without.operations)


@pytest.mark.parametrize("name", ["lenet", "cifar10_full", "cifar10_quick"])
def test_saved_equals_reloaded_without_this_package(name, cifar_images, tmp_path):
    model = build_teacher(name, cifar_images, 10)
    path = tmp_path / "teacher.keras"
    model.save(path)
    reloaded = keras.saving.load_model(path, custom_objects={}, safe_mode=True)
    np.testing.assert_array_equal(reloaded(cifar_images), model(cifar_images))


def test_unknown_names_and_small_images_are_refused(cifar_images):
    with pytest.raises(
        InputError, match="lenet, cifar10_full, cifar10_quick and wrn.*resnet"
    ):
        build_teacher("resnet", cifar_images, 10)
    with pytest.raises(InputError, match="16x16.*8x8"):
        build_teacher("lenet", cifar_images[:, :8, :8], 10)
