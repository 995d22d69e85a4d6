"""Recomputes the numbers of a run's report from the files that lie beside it.

python tests/check_report.py OUTPUT_DIR

It shares no code with the report: predictions come from Keras and the LiteRT
interpreter, counts from NumPy. Only the data are loaded, and the interval computed, by
the package.
"""

import json
import pathlib
import sys

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from onnxruntime import InferenceSession

from tskd_tf.acceptance import paired_interval
from tskd_tf.config import RunConfig
from tskd_tf.pipeline import load_data


def predict(model, images):
    parts = [model(images[i : i + 500]).numpy() for i in range(0, len(images), 500)]
    return np.concatenate(parts)


def predict_litert(path, images):
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()[0]
    source, dtype = details["index"], details["dtype"]
    target = interpreter.get_output_details()[0]["index"]
    logits = []
    for image in images:
        interpreter.set_tensor(source, image[None].astype(dtype))
        interpreter.invoke()
        logits.append(interpreter.get_tensor(target)[0])
    return np.stack(logits)


def check(output_dir):
    """Raises AssertionError where the report and the files disagree."""
    folder = pathlib.Path(output_dir)
    report = json.loads((folder / "report.json").read_text())
    config = json.loads((folder / "config.json").read_text())
    class_ids = np.array(report["task"]["class_ids"])
    lists = {name: tuple(v) for name, v in config.items() if isinstance(v, list)}
    data = load_data(RunConfig(**{**config, **lists}))
    images, truth = data.test
    chosen = np.isin(truth, class_ids)
    images, truth = images[chosen], truth[chosen]
    assert len(images) == report["data"]["num_test"]

    is_full = report["task"]["head"] == "full"
    teacher = keras.saving.load_model(folder / "teacher.keras")
    student = keras.saving.load_model(folder / "student.keras")
    teacher_logits = predict(teacher, images)
    all_right = teacher_logits.argmax(-1) == truth
    task_right = class_ids[teacher_logits[:, class_ids].argmax(-1)] == truth
    teacher_right = all_right if is_full else task_right
    outputs = np.arange(teacher_logits.shape[1]) if is_full else class_ids

    def right(logits):
        return outputs[logits.argmax(-1)] == truth

    student_logits = predict(student, images)
    student_right = right(student_logits)
    expected = report["teacher"]
    assert expected["accuracy"] == teacher_right.mean()
    assert expected["accuracy_all_outputs"] == all_right.mean()
    assert expected["accuracy_task_outputs"] == task_right.mean()
    assert report["student"]["accuracy"] == student_right.mean()
    for name, model in (("teacher", teacher), ("student", student)):
        assert report[name]["num_params"] == model.count_params()
        assert report[name]["size_bytes"] == 4 * model.count_params()

    labels = (folder / report["labels"]).read_text().splitlines()
    assert labels == report["task"]["output_names"]
    assert len(labels) == student.output_shape[-1]
    # Output i belongs to class outputs[i], whose name is on line i
    names = dict(zip(outputs.tolist(), labels))
    assert [names[i] for i in class_ids] == report["task"]["class_names"]

    lost = int((teacher_right & ~student_right).sum())
    gained = int((student_right & ~teacher_right).sum())
    loss = (lost - gained) / len(images)
    assert np.isclose(report["accuracy_loss"], loss, atol=1e-12)
    assert np.isclose(loss, teacher_right.mean() - student_right.mean(), atol=1e-12)
    low, high = paired_interval(len(images), lost, gained, report["confidence"])
    assert report["accuracy_loss_interval"] == [low, high]
    allowed = report["max_accuracy_loss"]
    assert report["meets_threshold"] == (loss <= allowed + 1e-9)
    assert report["certified"] == (high <= allowed + 1e-9)

    rate = report["student"]["rate"]
    control = keras.saving.load_model(
        folder / "search" / f"control_rate_{rate:g}.keras"
    )
    control_right = right(predict(control, images))
    assert report["control"]["accuracy"] == control_right.mean()
    assert control.count_params() == student.count_params()

    assert [c["class_id"] for c in report["classes"]] == class_ids.tolist()
    for result in report["classes"]:
        of_class = truth == result["class_id"]
        assert result["class_name"] == data.class_names[result["class_id"]]
        assert result["num_test"] == of_class.sum()
        in_training = data.train.class_ids == result["class_id"]
        assert result["num_train"] == in_training.sum()
    for name, correct in (
        ("teacher", teacher_right),
        ("student", student_right),
        ("control", control_right),
    ):
        recalls = [correct[truth == class_id].mean() for class_id in class_ids]
        assert recalls == [c[f"{name}_accuracy"] for c in report["classes"]]
        balanced = report[name]["balanced_accuracy"]
        assert np.isclose(balanced, np.mean(recalls), atol=1e-12)

    for export in report["exports"]:
        path = folder / export["path"]
        assert export["size_bytes"] == path.stat().st_size
        if export["format"] == "litert_int8":
            logits = predict_litert(path, images)
        elif export["format"] == "onnx":
            session = InferenceSession(path)
            name = session.get_inputs()[0].name
            (logits,) = session.run(None, {name: images.astype("float32")})
            np.testing.assert_allclose(logits, student_logits, atol=1e-3, rtol=1e-3)
        elif export["format"] == "litert":
            logits = predict_litert(path, images)
            np.testing.assert_allclose(logits, student_logits, atol=1e-3, rtol=1e-3)
        else:
            logits = student_logits
        accuracy = right(logits).mean()
        assert export["accuracy"] == accuracy
        met = teacher_right.mean() - accuracy <= allowed + 1e-9
        assert export["meets_threshold"] == met

    trials = report["search"]["trials"]
    kept = [
        json.loads(p.read_text()) for p in folder.glob("search/trial_*/result.json")
    ]
    assert sorted(t["rate"] for t in kept) == sorted(t["rate"] for t in trials)
    for trial in trials:
        assert trial in kept
        floor = report["search"]["validation_floor"]
        assert trial["feasible"] == (trial["accuracy"] >= floor)
    feasible = [trial["rate"] for trial in trials if trial["feasible"]]
    assert not feasible or rate == min(feasible)
    return report


if __name__ == "__main__":
    checked = check(sys.argv[1])
    sys.stdout.write(
        f"{sys.argv[1]}: every number of the report recomputed; student at rate "
        f"{checked['student']['rate']:g}, {checked['accuracy_loss']:+.4f} lost\n"
    )
