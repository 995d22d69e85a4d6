"""Logits of many images: in a graph as in eager mode, traced once."""

import keras
import numpy as np
import pytest

from tskd_tf.networks.evaluate import predict_logits


class Traced(keras.layers.Layer):
    """Counts calls of its Python code: one a trace, or one a batch in eager mode."""

    def build(self, input_shape):
        self.num_calls = 0

    def call(self, inputs):
        self.num_calls += 1
        return inputs


@pytest.fixture
def model():
    keras.utils.set_random_seed(1)
    image = keras.Input((3, 2, 1))
    seen = Traced(name="traced")(keras.layers.Rescaling(1 / 255)(image))
    return keras.Model(image, keras.layers.Dense(4)(keras.layers.Flatten()(seen)))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("num_images", [53, 60])
def test_many_batches_are_traced_once_and_give_what_few_give(model, num_images, dtype):
    images = np.random.default_rng(2).integers(0, 256, (num_images, 3, 2, 1))
    images = images.astype(dtype)
    at_once = predict_logits(model, images, batch_size=num_images)
    counter = model.get_layer("traced")
    before = counter.num_calls
    # The last batch is smaller, or not
    by_batches = predict_logits(model, images, batch_size=10)
    assert counter.num_calls == before + 1
    np.testing.assert_allclose(by_batches, at_once, rtol=1e-5, atol=1e-6)
