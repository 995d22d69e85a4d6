"""What the flags say, as the objects that a run is made of."""

import importlib.metadata

from tskd_tf.run.config import RunConfig
from tskd_tf.run.settings import environment_of


def test_versions_are_those_of_the_runtimes_that_files_ran_in():
    config = RunConfig(dataset="mnist", output_dir="run", exports=("keras", "onnx"))
    found = environment_of(config)["versions"]
    for name in ("ai-edge-litert", "onnx", "onnxruntime", "tf2onnx"):
        assert found.pop(name) == importlib.metadata.version(name)
    without = environment_of(RunConfig(dataset="mnist", output_dir="run"))["versions"]
    assert {**found, "ai-edge-litert": without["ai-edge-litert"]} == without
