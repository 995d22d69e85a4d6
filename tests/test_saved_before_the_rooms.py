"""Files that were saved while all modules lay in one folder, at 3f6659e.

`own_layers.keras` names each layer's module of then. The search in `search` was begun
by `find_smallest_student` on the data below, and ended after its first trial.
"""

import json
import pathlib
import shutil

import keras
import numpy as np
from conftest import make_data

import tskd_tf
from tskd_tf.export.fake_quantization import FakeQuantized
from tskd_tf.networks.rebuild import load_kept_model

SAVED = pathlib.Path(__file__).parent / "saved_before_the_rooms"
OWN_LAYERS = (
    tskd_tf.ShiftConv2D,
    tskd_tf.GroupedConv2D,
    tskd_tf.DominantConv2D,
    FakeQuantized,
)


def test_each_own_layer_loads():
    model = keras.saving.load_model(SAVED / "own_layers.keras")
    for kind in OWN_LAYERS:
        assert any(isinstance(layer, kind) for layer in model.layers), kind
    images, _ = make_data(16)
    expected = np.load(SAVED / "own_layers_logits.npy")
    np.testing.assert_allclose(model(images), expected, atol=1e-5)


def test_a_search_goes_on(tmp_path):
    folder = tmp_path / "search"
    shutil.copytree(SAVED / "search", folder)
    first = folder / "trial_0000" / "result.json"
    before = first.read_text()
    found = tskd_tf.find_smallest_student(
        load_kept_model(SAVED / "teacher.keras"),
        *(make_data(size, seed) for size, seed in ((256, 1), (64, 2), (64, 3))),
        # What was the default then
        recipe=tskd_tf.Recipe(
            epochs=3,
            batch_size=32,
            learning_rate=0.01,
            family="thin",
            initialize="random",
        ),
        rates=[0.25, 0.5, 0.75, 1.0],
        max_accuracy_loss=0.1,
        directory=str(folder),
        verbose=0,
    )
    assert first.read_text() == before
    trials = found.report["search"]["trials"]
    assert len(trials) > 1
    kept = json.loads(before)
    assert [t["seconds"] for t in trials if t["rate"] == kept["rate"]][0] == (
        kept["seconds"]
    )
