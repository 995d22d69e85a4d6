"""Recomputes the numbers of a run's report from the files that lie beside it.

python tests/check_report.py OUTPUT_DIR

It shares no code with the report: predictions come from Keras and the LiteRT
interpreter, counts from NumPy. Only the data are loaded, and the interval computed, by
the package. What differs is named, with both values; first of all other data than the
run's, which TFDS_DATA_DIR or a folder of images changed since then may give.
"""

import json
import math
import pathlib
import statistics
import sys

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from onnxruntime import InferenceSession
from schemas import check_schema

from tskd_tf.acceptance import paired_interval
from tskd_tf.run.config import RunConfig
from tskd_tf.run.inputs import load_data
from tskd_tf.run.settings import import_student_builder


def predict(model, images):
    starts = range(0, len(images), 500)
    # Called otherwise, layers such as RandomFlip show views as in training
    parts = [model(images[i : i + 500], training=False).numpy() for i in starts]
    return np.concatenate(parts)


def expect_equal(name, reported, recomputed):
    assert reported == recomputed, f"{name}: {reported} reported, {recomputed} found"


def expect_close(name, reported, recomputed, tolerance=1e-12):
    is_close = np.allclose(reported, recomputed, atol=tolerance, rtol=tolerance)
    assert is_close, f"{name}: {reported} reported, {recomputed} found"


def predict_litert(path, images):
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    details = interpreter.get_output_details()[0]
    scale, zero_point = details["quantization"]
    outputs = []
    for image in images:
        interpreter.set_tensor(source, image[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(details["index"])[0].astype(np.float32))
    return np.float32(scale or 1) * (np.stack(outputs) - zero_point)


def predict_file(path, images):
    """What a file gives for bytes, by its own runtime."""
    if path.suffix == ".keras":
        return predict(keras.saving.load_model(path), images)
    if path.suffix == ".tflite":
        return predict_litert(path, images)
    if path.suffix == ".onnx":
        session = InferenceSession(path)
        return session.run(None, {session.get_inputs()[0].name: images})[0]
    loaded = tf.saved_model.load(path)
    starts = range(0, len(images), 500)
    return np.concatenate([loaded.serve(images[i : i + 500]) for i in starts])


def size_bytes(path):
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def check_export(export, folder, images, student_logits, teacher_right, right, report):
    """One file: its size, what it gives, and what follows from that."""
    path = folder / export["path"]
    outputs = predict_file(path, images)
    expected = student_logits
    if export["outputs"] == "probabilities":
        expected = softmax(student_logits)
        np.testing.assert_allclose(outputs.sum(-1), 1, atol=0.05)
    if export["format"] in ("keras", "litert", "onnx", "saved_model"):
        np.testing.assert_allclose(outputs, expected, atol=1e-3, rtol=1e-3)
    equal = (outputs.argmax(-1) == student_logits.argmax(-1)).mean()
    correct, allowed = right(outputs), report["max_accuracy_loss"]
    lost = int((teacher_right & ~correct).sum())
    gained = int((correct & ~teacher_right).sum())
    loss = (lost - gained) / len(images)
    low, high = paired_interval(len(images), lost, gained, report["confidence"])
    for name, recomputed in (
        ("size_bytes", size_bytes(path)),
        ("accuracy", correct.mean()),
        ("accuracy_loss", loss),
        ("accuracy_loss_interval", [low, high]),
        ("meets_threshold", bool(loss <= allowed + 1e-9)),
        ("certified", bool(high <= allowed + 1e-9)),
        ("equal_predictions", equal),
    ):
        expect_equal(f"{name} of {path.name}", export[name], recomputed)
    apart = float(np.abs(outputs - expected).max())
    expect_close(
        f"max_logit_difference of {path.name}",
        export["max_logit_difference"],
        apart,
        1e-4,
    )
    if export["speedup"] is not None:
        ratio = export["teacher_latency_us"]["p50"] / export["latency_us"]["p50"]
        expect_close(f"speedup of {path.name}", export["speedup"], ratio)
    shipped = [attempt for attempt in export["attempts"] if attempt["is_shipped"]]
    assert len(shipped) == bool(export["attempts"]), f"attempts of {path.name}"
    for attempt in shipped:
        for name in ("accuracy", "size_bytes", "meets_threshold"):
            told = f"{name} of the attempt that is {path.name}"
            expect_equal(told, attempt[name], export[name])


def count_macs(model):
    """Of convolutions and dense layers, which are all that the tests' students have."""
    layers = keras.layers.Conv2D, keras.layers.Dense
    return sum(
        math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:-1])
        for layer in model.layers
        if isinstance(layer, layers)
    )


def check_budgets(report, config, folder, student):
    names = ("max_macs", "max_params", "max_bytes", "max_latency_us")
    limits = {name: config[name] for name in names if config[name] is not None}
    allowed = config["max_accuracy_loss"]
    is_preset = bool(limits) and allowed is None
    if allowed is None:
        allowed = 1.0 if limits else 0.002
    expect_equal("max_accuracy_loss", report["max_accuracy_loss"], allowed)
    reported = {name: budget["limit"] for name, budget in report["budgets"].items()}
    expect_equal("limits of budgets", reported, limits)
    weights = [np.asarray(weight) for weight in student.get_weights()]
    costs = {
        "max_params": sum(weight.size for weight in weights),
        "max_bytes": sum(weight.nbytes for weight in weights),
    }
    if "max_macs" in limits:
        costs["max_macs"] = count_macs(student)
    if "max_latency_us" in limits and "refinement" in report:
        # Measured once more, as the refined student is no candidate
        costs["max_latency_us"] = report["budgets"]["max_latency_us"]["student"]
    elif "max_latency_us" in limits:
        kept = json.loads((folder / "search" / "latencies.json").read_text())
        costs["max_latency_us"] = kept[str(report["student"]["rate"])]
    for name, budget in report["budgets"].items():
        expect_equal(f"student's {name}", budget["student"], costs[name])
        # A narrower student than the widest that fits is measured in another moment
        if name != "max_latency_us" or is_preset:
            fits = budget["student"] <= budget["limit"]
            assert fits, f"{name}: {budget['student']} is over {budget['limit']}"
    if is_preset:
        expect_equal("trials of a pre-set cost", len(report["search"]["trials"]), 1)


def check_refinement(report, student):
    refinement, floor = report["refinement"], report["search"]["validation_floor"]
    num_params = refinement["num_params"]
    for step in refinement["steps"]:
        if step["num_removed"] == 0:
            expect_equal("parameters at the end", step["num_params"], num_params)
            continue
        expect_equal("is_kept", step["is_kept"], step["accuracy"] >= floor)
        assert step["num_params"] < num_params, "a step of a refinement adds weights"
        num_params = step["num_params"] if step["is_kept"] else num_params
    expect_equal("parameters after the refinement", student.count_params(), num_params)


def check_confusion(report, class_ids, truth, answers):
    """What each true class is taken for; `answers` by class id."""
    has_others = report["task"]["head"] == "full" and len(class_ids) < len(
        report["task"]["output_names"]
    )
    names = report["task"]["class_names"]
    confusion = report["confusion"]
    expect_equal("confusion.row_names", confusion["row_names"], names)
    columns = names + ["another class"] * has_others
    expect_equal("confusion.column_names", confusion["column_names"], columns)
    for name, answer in answers.items():
        counts = [
            [int(((truth == a) & (answer == b)).sum()) for b in class_ids]
            for a in class_ids
        ]
        if has_others:
            others = ~np.isin(answer, class_ids)
            for row, a in zip(counts, class_ids):
                row.append(int(((truth == a) & others).sum()))
        expect_equal(f"confusion.{name}", confusion[name], counts)


def check_wrong_images(report, folder, images, wrong, true_names, told_names, surest):
    """`wrong`: only the student errs; `surest`: its largest probability, by image."""
    reported = report["wrong_images"]
    indices = [image["index"] for image in reported]
    num_wrong = int(wrong.sum())
    expect_equal(
        "num_only_teacher_correct", report["num_only_teacher_correct"], num_wrong
    )
    expect_equal("number of wrong_images", len(set(indices)), min(24, num_wrong))
    for image in reported:
        i = image["index"]
        assert wrong[
            i
        ], f"wrong_images: {i} is not one that only the student gets wrong"
        found = true_names[i], told_names[i]
        told = image["class_name"], image["student_prediction"]
        expect_equal(f"names of wrong image {i}", told, found)
        expect_close(
            f"probability of wrong image {i}",
            image["student_probability"],
            surest[i],
            1e-4,
        )
    # Of all of them the surest, in this order
    told = [image["student_probability"] for image in reported]
    expect_equal("order of wrong_images", told, sorted(told, reverse=True))
    largest = sorted(surest[wrong], reverse=True)[: len(told)]
    expect_close("probabilities of wrong_images", told, largest, 1e-4)
    with np.load(folder / "search" / "wrong_images.npz") as kept:
        pictures = kept["images"]
    expect_equal("type of wrong_images.npz", str(pictures.dtype), "uint8")
    same = np.array_equal(pictures, np.asarray(images[np.array(indices, int)]))
    assert same, "wrong_images.npz: other pictures than those of the report"


def name_of(student):
    """Family and rate as in the names of files."""
    family = f"{student['family']}_" if "family" in student else ""
    return f"{family}rate_{student['rate']:g}"


def check_curves(report, folder, config):
    def expect_curve(name, curve, epochs):
        lengths = {key: len(values) for key, values in curve.items()}
        expect_equal(f"epochs of the curve of {name}", set(lengths.values()), {epochs})

    trials = report["search"]["trials"]
    for trial in trials:
        expect_curve(name_of(trial), trial["curve"], trial["epochs"])
    curves = [trial["curve"] for trial in trials]
    assert report["student"]["curve"] in curves, "student.curve is that of no trial"
    path = folder / "search" / f"control_{name_of(report['student'])}.json"
    kept = json.loads(path.read_text())
    expect_equal("control.curve", report["control"]["curve"], kept)
    kept = json.loads((folder / "search" / "teacher.json").read_text())["curve"]
    expect_equal("teacher.curve", report["teacher"]["curve"], kept)
    is_trained = not config["teacher"].endswith(".keras")
    expect_equal("whether the teacher has a curve", kept is not None, is_trained)


def check(output_dir):
    """Raises AssertionError, which says what, where report and files disagree."""
    folder = pathlib.Path(output_dir)
    report = json.loads((folder / "report.json").read_text())
    config = json.loads((folder / "config.json").read_text())
    check_schema(report)
    check_curves(report, folder, config)
    class_ids = np.array(report["task"]["class_ids"])
    lists = {name: tuple(v) for name, v in config.items() if isinstance(v, list)}
    settings = RunConfig(**{**config, **lists})
    # Files of models may need the layers of its module
    import_student_builder(settings)
    data = load_data(settings)
    expect_equal("data.source", report["data"]["source"], data.source)
    images, truth = data.test
    chosen = np.isin(truth, class_ids)
    images, truth = images[chosen], truth[chosen]
    expect_equal("data.num_test", report["data"]["num_test"], len(images))

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
    for name, correct in (
        ("accuracy", teacher_right),
        ("accuracy_all_outputs", all_right),
        ("accuracy_task_outputs", task_right),
    ):
        expect_equal(f"teacher.{name}", report["teacher"][name], correct.mean())
    expect_equal(
        "student.accuracy", report["student"]["accuracy"], student_right.mean()
    )
    for name, model in (("teacher", teacher), ("student", student)):
        weights = [np.asarray(weight) for weight in model.get_weights()]
        num_params = sum(weight.size for weight in weights)
        size_bytes = sum(weight.nbytes for weight in weights)
        expect_equal(f"{name}.num_params", report[name]["num_params"], num_params)
        expect_equal(f"{name}.size_bytes", report[name]["size_bytes"], size_bytes)

    check_budgets(report, config, folder, student)
    labels = (folder / report["labels"]).read_text(encoding="utf-8").splitlines()
    expect_equal("task.output_names", report["task"]["output_names"], labels)
    expect_equal("outputs of student.keras", len(labels), student.output_shape[-1])
    # Output i belongs to class outputs[i], whose name is on line i
    names = dict(zip(outputs.tolist(), labels))
    of_task = [names[i] for i in class_ids]
    expect_equal("task.class_names", report["task"]["class_names"], of_task)

    lost = int((teacher_right & ~student_right).sum())
    gained = int((student_right & ~teacher_right).sum())
    loss = (lost - gained) / len(images)
    expect_close("accuracy_loss", report["accuracy_loss"], loss)
    expect_close("loss", loss, teacher_right.mean() - student_right.mean())
    low, high = paired_interval(len(images), lost, gained, report["confidence"])
    expect_equal(
        "accuracy_loss_interval", report["accuracy_loss_interval"], [low, high]
    )
    allowed = report["max_accuracy_loss"]
    met = bool(loss <= allowed + 1e-9)
    expect_equal("meets_threshold", report["meets_threshold"], met)
    expect_equal("certified", report["certified"], bool(high <= allowed + 1e-9))

    answers = outputs[student_logits.argmax(-1)]
    of_teacher = teacher_logits if is_full else teacher_logits[:, class_ids]
    check_confusion(
        report,
        class_ids,
        truth,
        {"teacher": outputs[of_teacher.argmax(-1)], "student": answers},
    )
    check_wrong_images(
        report,
        folder,
        images,
        teacher_right & ~student_right,
        [data.class_names[i] for i in truth],
        [data.class_names[i] for i in answers],
        keras.ops.softmax(student_logits.astype("float64")).numpy().max(-1),
    )

    control = keras.saving.load_model(
        folder / "search" / f"control_{name_of(report['student'])}.keras"
    )
    control_right = right(predict(control, images))
    expect_equal(
        "control.accuracy", report["control"]["accuracy"], control_right.mean()
    )
    # The control is of the student before a refinement
    refinement = report.get("refinement")
    before = refinement["num_params"] if refinement else student.count_params()
    expect_equal("parameters of the control", control.count_params(), before)
    if refinement:
        check_refinement(report, student)

    listed = [result["class_id"] for result in report["classes"]]
    expect_equal("classes", listed, class_ids.tolist())
    for result in report["classes"]:
        class_id = result["class_id"]
        for name, recomputed in (
            ("class_name", data.class_names[class_id]),
            ("num_test", int((truth == class_id).sum())),
            ("num_train", int((data.train.class_ids == class_id).sum())),
        ):
            expect_equal(f"{name} of class {class_id}", result[name], recomputed)
    for name, correct in (
        ("teacher", teacher_right),
        ("student", student_right),
        ("control", control_right),
    ):
        recalls = [correct[truth == class_id].mean() for class_id in class_ids]
        reported = [result[f"{name}_accuracy"] for result in report["classes"]]
        expect_equal(f"{name}_accuracy by class", reported, recalls)
        balanced = report[name]["balanced_accuracy"]
        expect_close(f"{name}.balanced_accuracy", balanced, np.mean(recalls))

    for export in report["exports"]:
        check_export(
            export, folder, images, student_logits, teacher_right, right, report
        )

    trials = report["search"]["trials"]
    kept = [
        json.loads(p.read_text()) for p in folder.glob("search/trial_*/result.json")
    ]

    def by_training(records):
        # A rate may be trained with several seeds, or numbers of epochs
        names = ("family", "rate", "seed", "epochs", "seconds")
        records = [{"family": "thin", **record} for record in records]
        for record in records:
            record["family"] = record["family"].replace("own", "thin")
        return sorted(records, key=lambda record: [record[name] for name in names])

    expect_equal("search.trials", by_training(trials), by_training(kept))
    floor = report["search"]["validation_floor"]
    for trial in trials:
        met = trial["accuracy"] >= floor
        expect_equal(f"feasible at rate {trial['rate']}", trial["feasible"], met)
    accuracies = {}
    num_macs = {name_of(trial): trial["num_macs"] for trial in trials}
    for trial in trials:
        accuracies.setdefault(name_of(trial), []).append(trial["accuracy"])
    # Trainings of bisection differ by chance, those of Hyperband in their epochs. That
    # the chosen one was trained to the end since then has only made it better
    judge = statistics.fmean if config["oracle"] == "smallest" else max
    feasible = [name for name in accuracies if judge(accuracies[name]) >= floor]
    if feasible and report["max_accuracy_loss"] < 1:
        smallest = min(feasible, key=num_macs.get)
        expect_equal("the student", name_of(report["student"]), smallest)
    return report


if __name__ == "__main__":
    # Where a student builder of the user's own may lie
    sys.path.insert(0, "")
    checked = check(sys.argv[1])
    sys.stdout.write(
        f"{sys.argv[1]}: every number of the report recomputed; student at rate "
        f"{checked['student']['rate']:g}, {checked['accuracy_loss']:+.4f} lost\n"
    )
