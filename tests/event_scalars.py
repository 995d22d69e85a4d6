"""What TensorBoard would show of a run."""

import tensorflow as tf


def scalars_of(run_dir):
    """Tag → (step, value) of all files of a TensorBoard run."""
    found = {}
    for path in run_dir.iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars":
                    number = tf.make_ndarray(value.tensor).item()
                    found.setdefault(value.tag, []).append((event.step, number))
    return found
