"""The whole search from Python, on small images, with a real training of students."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import make_data, make_network
from event_scalars import scalars_of
from schemas import check_schema

from tskd_tf.choices import Budgets
from tskd_tf.data.task import Task
from tskd_tf.distillation.event_files import CurveWriter
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.distillation.training import DivergedError, train_student
from tskd_tf.errors import InputError
from tskd_tf.export import litert
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.width import scale_width
from tskd_tf.search import trainer
from tskd_tf.search.smallest_student import find_smallest_student

RECIPE = Recipe(epochs=4, batch_size=32, learning_rate=0.02)
RATES = [0.25, 0.5, 0.75, 1.0]


@pytest.fixture(scope="module")
def splits():
    return make_data(256, 1), make_data(128, 2), make_data(120, 3)


def find(teacher, splits, **settings):
    # Trained once each, where it is not about what is repeated
    defaults = {"rates": RATES, "recipe": RECIPE, "verbose": 0, "max_executions": 1}
    return find_smallest_student(teacher, *splits, **{**defaults, **settings})


@pytest.fixture(scope="module")
def kept(trained_teacher, splits, tmp_path_factory):
    """A search of one rate, and its folder, not to be changed."""
    folder = tmp_path_factory.mktemp("kept") / "search"
    return find(trained_teacher, splits, rates=[0.5], directory=str(folder)), folder


@pytest.mark.parametrize("head", ["full", "task"])
def test_the_report_is_what_the_student_does(trained_teacher, splits, head):
    task = Task([3, 1], 4, head=head)
    settings = {"rates": [0.25, 1.0], "max_accuracy_loss": 0.05, "max_executions": 2}
    found = find(trained_teacher, splits, task=task, **settings)
    report = found.report
    images, labels = task.filter(splits[2])
    got = found.student(images).numpy().argmax(-1)
    assert report["student"]["accuracy"] == (got == labels).mean()
    teacher = trained_teacher(images).numpy()
    chosen = task.select_logits(teacher).argmax(-1)
    assert report["teacher"]["accuracy"] == (chosen == labels).mean()
    assert report["data"] == {"num_train": 128, "num_validation": 64, "num_test": 60}
    loss = report["teacher"]["accuracy"] - report["student"]["accuracy"]
    assert report["accuracy_loss"] == pytest.approx(loss, abs=1e-12)
    assert report["meets_threshold"] == (loss <= 0.05 + 1e-9)
    assert [c["class_id"] for c in report["classes"]] == [3, 1]
    for result in report["classes"]:
        of_class = labels == task.to_labels(np.array(result["class_id"]))
        assert (result["num_train"], result["num_test"]) == (64, 30)
        assert result["student_accuracy"] == (got == labels)[of_class].mean()
        assert result["teacher_accuracy"] == (chosen == labels)[of_class].mean()
    recalls = [result["student_accuracy"] for result in report["classes"]]
    assert report["student"]["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    tried = report["search"]["trials"]
    feasible = [trial["rate"] for trial in tried if trial["feasible"]]
    assert feasible and report["student"]["rate"] == min(feasible)
    assert found.student.output_shape[-1] == task.num_outputs
    json.dumps(report, allow_nan=False)
    check_schema(report)


@pytest.mark.parametrize("head", ["full", "task"])
def test_what_only_the_student_gets_wrong(trained_teacher, splits, head):
    task = Task([3, 1], 4, head=head)
    recipe = dataclasses.replace(RECIPE, epochs=1)
    found = find(trained_teacher, splits, task=task, rates=[0.1], recipe=recipe)
    report, (images, labels) = found.report, task.filter(splits[2])
    got = found.student(images).numpy().argmax(-1)
    told = task.select_logits(trained_teacher(images).numpy()).argmax(-1)
    wrong = [image["index"] for image in report["wrong_images"]]
    assert wrong and len(wrong) == min(24, report["num_only_teacher_correct"])
    assert (told == labels)[wrong].all() and (got != labels)[wrong].all()
    np.testing.assert_array_equal(found.wrong_images, images[wrong])
    names = [task.output_names[output] for output in got[wrong]]
    assert names == [image["student_prediction"] for image in report["wrong_images"]]
    counts = np.array(report["confusion"]["student"])
    assert counts.shape == (2, 3 if head == "full" else 2) and counts.sum() == 60
    assert counts[:, :2].trace() == (got == labels).sum()


def test_datasets_and_arrays_give_the_same_search(trained_teacher, splits, kept):
    datasets = [tf.data.Dataset.from_tensor_slices(split).batch(50) for split in splits]
    first, _ = kept
    second = find(trained_teacher, datasets, rates=[0.5])
    for key in ("teacher", "student", "accuracy_loss_interval", "control"):
        assert first.report[key] == second.report[key]


def test_sample_weights_are_not_passed_over(trained_teacher, splits):
    weighted = [(*split, np.ones(len(split[1]))) for split in splits]
    with pytest.raises(InputError, match="third part.*class_weights"):
        find(trained_teacher, weighted)


def test_a_teacher_that_ends_in_a_softmax(trained_teacher, splits, kept):
    softmax = keras.Sequential([*trained_teacher.layers, keras.layers.Softmax()])
    softmax.build((None, 8, 8, 1))
    expected, _ = kept
    got = find(softmax, splits, rates=[0.5])
    for part in ("teacher", "student", "control", "accuracy_loss_interval"):
        assert got.report[part] == expected.report[part]
    assert "accuracy on the task" in str(got)


def test_nothing_feasible_is_said_and_the_best_handed_over(trained_teacher, splits):
    recipe = dataclasses.replace(
        RECIPE, learning_rate=1e-6, epochs=1, initialize="random"
    )
    found = find(trained_teacher, splits, recipe=recipe)
    tried = found.report["search"]["trials"]
    assert not any(trial["feasible"] for trial in tried)
    assert found.report["meets_threshold"] is False
    best = max(trial["accuracy"] for trial in tried)
    rate = found.report["student"]["rate"]
    assert next(t for t in tried if t["rate"] == rate)["accuracy"] == best
    assert tried[-1]["rate"] == 1.0


def test_a_search_kept_in_a_folder_is_not_run_twice(
    trained_teacher, splits, tmp_path, monkeypatch
):
    folder = tmp_path / "search"
    first = find(trained_teacher, splits, directory=str(folder))
    train, validation, test = splits
    with pytest.raises(InputError, match="other validation"):
        shuffled = (validation[0][::-1], validation[1][::-1])
        find(trained_teacher, (train, shuffled, test), directory=str(folder))
    monkeypatch.setattr(trainer, "train_student", None)
    again = find(trained_teacher, splits, directory=str(folder))
    assert again.report == first.report
    # Whose soft targets are gone, the trials still are of their task
    other = Task([1, 0], 4, head="task")
    (folder / "soft_targets.npz").unlink()
    with pytest.raises(InputError, match="other transfer_set"):
        find(trained_teacher, splits, task=other, directory=str(folder))
    for changes in ({"seed": 2}, {"class_weights": "balanced"}):
        recipe = dataclasses.replace(RECIPE, **changes)
        with pytest.raises(InputError, match="other recipe"):
            find(trained_teacher, splits, directory=str(folder), recipe=recipe)
    with pytest.raises(InputError, match="other transfer_set"):
        find(make_network(), splits, directory=str(folder))


@pytest.fixture
def macs(trained_teacher):
    """Multiply-adds of each rate."""
    students = {rate: scale_width(trained_teacher, rate) for rate in RATES}
    return {rate: complexity(student).num_macs for rate, student in students.items()}


def test_a_budget_alone_gives_the_widest_that_fits(trained_teacher, splits, macs):
    # Hardly trained: whatever is lost, the cost was asked for
    recipe = dataclasses.replace(
        RECIPE, learning_rate=1e-6, epochs=1, initialize="random"
    )
    budgets = Budgets(max_macs=macs[0.75])
    report = find(trained_teacher, splits, recipe=recipe, budgets=budgets).report
    assert [trial["rate"] for trial in report["search"]["trials"]] == [0.75]
    assert report["budgets"] == {
        "max_macs": {"limit": macs[0.75], "student": macs[0.75]}
    }
    assert report["max_accuracy_loss"] == 1.0 and report["meets_threshold"]
    assert report["accuracy_loss"] > 0.002
    assert report["search"]["num_over_budget"] == 1


def test_budgets_restrict_a_search(trained_teacher, splits, macs):
    settings = {"max_accuracy_loss": 0.9, "budgets": Budgets(max_macs=macs[1.0] - 1)}
    report = find(trained_teacher, splits, **settings).report
    rates = [trial["rate"] for trial in report["search"]["trials"]]
    assert report["student"]["rate"] == 0.25 and len(rates) > 1 and max(rates) < 1
    assert report["budgets"]["max_macs"]["student"] == macs[0.25]
    assert report["max_accuracy_loss"] == 0.9


def test_budgets_and_loss_that_contradict_each_other(trained_teacher, splits, macs):
    recipe = dataclasses.replace(
        RECIPE, learning_rate=1e-6, epochs=1, initialize="random"
    )
    settings = {"max_accuracy_loss": 0.01, "recipe": recipe}
    found = find(
        trained_teacher, splits, **settings, budgets=Budgets(max_macs=macs[0.5])
    )
    report = found.report
    assert report["meets_threshold"] is False
    widest = report["search"]["trials"][-1]
    assert widest["rate"] == 0.5
    floor = report["search"]["validation_teacher_accuracy"]
    loss = f"{100 * (floor - widest['accuracy']):.2f} points"
    said = f"that fits, at rate 0.5, loses {loss} on the validation images, 1.00 points"
    assert "contradict each other" in str(found) and said in str(found)


def test_a_budget_that_nothing_fits_leaves_nothing(
    trained_teacher, splits, tmp_path, monkeypatch
):
    monkeypatch.setattr(trainer, "train_student", None)
    settings = {"directory": str(tmp_path / "search")}
    with pytest.raises(InputError, match="max_params=3, but it costs"):
        find(trained_teacher, splits, budgets=Budgets(max_params=3), **settings)
    assert not (tmp_path / "search").exists()
    with pytest.raises(InputError, match="max_bytes above 0"):
        find(trained_teacher, splits, budgets=Budgets(max_bytes=0), **settings)


def test_latencies_are_measured_before_training_and_once(
    trained_teacher, splits, tmp_path, monkeypatch
):
    latencies_us = iter((10.0, 20.0))
    monkeypatch.setattr(litert, "litert_latency_us", lambda *args: next(latencies_us))
    settings = {"directory": str(tmp_path), "max_accuracy_loss": 0.9}
    budgets = Budgets(max_latency_us=15.0)
    first = find(trained_teacher, splits, budgets=budgets, rates=[0.5, 1.0], **settings)
    # The upper one of two was measured first, then the lower
    assert first.report["student"]["rate"] == 0.5
    monkeypatch.setattr(trainer, "train_student", None)
    again = find(trained_teacher, splits, budgets=budgets, rates=[0.5, 1.0], **settings)
    assert again.report == first.report
    for other in (Budgets(), Budgets(max_latency_us=16.0)):
        with pytest.raises(InputError, match="other budgets"):
            find(trained_teacher, splits, budgets=other, rates=[0.5, 1.0], **settings)


@pytest.mark.parametrize(
    "name",
    [
        "oracle.json",
        "tuner0.json",
        "settings.json",
        "trial_0000/trial.json",
        "trial_0000/result.json",
        "trial_0000/student.keras",
        "control_rate_0.5.keras",
        "control_rate_0.5.json",
    ],
)
def test_damaged_files_of_a_search_are_one_clear_line(
    trained_teacher, splits, kept, tmp_path, monkeypatch, name
):
    folder = tmp_path / "search"
    shutil.copytree(kept[1], folder)
    settings = {"rates": [0.5], "directory": str(folder)}
    monkeypatch.setattr(trainer, "train_student", None)
    (folder / name).write_bytes(b"")
    with pytest.raises(InputError) as caught:
        find(trained_teacher, splits, **settings)
    assert "\n" not in str(caught.value)


def test_trials_of_an_earlier_version_are_refused(
    trained_teacher, splits, kept, tmp_path, monkeypatch
):
    settings = {"rates": [0.5], "directory": str(tmp_path)}
    shutil.copytree(kept[1], tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(trainer, "train_student", None)
    path = tmp_path / "trial_0000" / "result.json"
    record = json.loads(path.read_text())
    del record["curve"]
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match=f"{path}.*an earlier version.*another folder"):
        find(trained_teacher, splits, **settings)


def test_numbers_of_numpy_will_do(trained_teacher, splits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = find(
        trained_teacher,
        splits,
        rates=np.array([0.5, 1.0], "float32"),
        max_accuracy_loss=np.float32(0.5),
        recipe=dataclasses.replace(RECIPE, seed=np.int64(3), epochs=np.int32(1)),
        directory=".",
    )
    json.dumps(found.report)
    assert (tmp_path / "trial_0000" / "result.json").exists()


def test_an_error_of_ours_in_a_trial_ends_the_search(
    trained_teacher, splits, monkeypatch
):
    calls = []

    def fail(*args, **kwargs):
        calls.append(args)
        raise ZeroDivisionError("defect")

    monkeypatch.setattr(trainer, "train_student", fail)
    with pytest.raises(Exception, match="candidate 1.*defect"):
        find(trained_teacher, splits)
    assert len(calls) == 1


def test_the_same_seed_gives_the_same_student(trained_teacher, splits):
    first, second = (
        find(
            trained_teacher,
            splits,
            rates=[0.5],
            recipe=dataclasses.replace(RECIPE, seed=0),
        )
        for _ in range(2)
    )
    for a, b in zip(first.student.get_weights(), second.student.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_tensorboard_has_each_trials_curves(trained_teacher, splits, tmp_path):
    found = find(trained_teacher, splits, rates=[0.5], log_dir=str(tmp_path))
    runs = sorted(path.name for path in tmp_path.iterdir())
    assert runs == ["2_trial_0000_rate_0.5", "4_control_rate_0.5"]
    for run, curve in zip(runs, (found.report["student"], found.report["control"])):
        scalars = scalars_of(tmp_path / run)
        for tag, name in (
            ("accuracy/validation", "validation_accuracy"),
            ("loss/training", "loss"),
        ):
            steps, values = zip(*scalars[tag])
            assert steps == (1, 2, 3, 4)
            np.testing.assert_allclose(values, curve["curve"][name], rtol=1e-6)
        parts = [
            np.array(scalars[f"loss/training_{part}"]) for part in ("hard", "soft")
        ]
        share = RECIPE.soft_loss_weight if run == runs[0] else 0.0
        whole = (1 - share) * parts[0] + share * parts[1]
        np.testing.assert_allclose(whole, scalars["loss/training"], rtol=1e-3)


def test_a_training_begun_again_has_one_curve(tmp_path):
    for accuracies in ([0.1, 0.2, 0.3], [0.6, 0.7]):
        writer = CurveWriter(tmp_path / "run")
        writer.on_train_begin()
        for epoch, accuracy in enumerate(accuracies):
            writer.on_epoch_end(epoch, {"val_accuracy": accuracy})
        # The first is killed
    writer.on_train_end()
    scalars = scalars_of(tmp_path / "run")
    assert scalars == {
        "accuracy/validation": [
            (step, pytest.approx(value)) for step, value in ((1, 0.6), (2, 0.7))
        ]
    }


def test_everything_is_checked_before_training(trained_teacher, splits, monkeypatch):
    monkeypatch.setattr(trainer, "train_student", None)
    train, validation, test = splits
    cases = [
        ({"max_accuracy_loss": float("nan")}, "max_accuracy_loss"),
        ({"max_accuracy_loss": -0.1}, "max_accuracy_loss"),
        ({"confidence": 1.0}, "confidence"),
        ({"rates": []}, "at least one rate"),
        ({"rates": [0.5, 1.1]}, "above 0 and up to 1"),
        ({"recipe": dataclasses.replace(RECIPE, precision="int8")}, "precision"),
        ({"recipe": dataclasses.replace(RECIPE, epochs=0)}, "epochs"),
        (
            {"recipe": dataclasses.replace(RECIPE, learning_rate=float("nan"))},
            "learning_rate",
        ),
        ({"task": Task([0, 1], 5)}, "each of the 5 classes"),
    ]
    for settings, message in cases:
        with pytest.raises(InputError, match=message):
            find(trained_teacher, splits, **settings)
    with pytest.raises(InputError, match="give it an Input"):
        find(keras.Sequential([keras.layers.Dense(4)]), splits)
    with pytest.raises(InputError, match=r"\(n, 8, 8, 1\)"):
        find(trained_teacher, (train, validation, (test[0][:, :5], test[1])))
    without = (test[0][test[1] != 2], test[1][test[1] != 2])
    with pytest.raises(InputError, match="none of class 2"):
        find(trained_teacher, (train, validation, without))


def test_diverged_training_is_an_error_not_a_bad_student(
    trained_teacher, arrays, full_task
):
    from tskd_tf.data.splits import Split
    from tskd_tf.distillation.soft_targets import capture

    transfer = capture(trained_teacher, *arrays, full_task)
    recipe = dataclasses.replace(RECIPE, learning_rate=1e38)
    with pytest.raises(DivergedError, match="smaller learning rate"):
        train_student(
            trained_teacher, 0.5, transfer, Split(*arrays), full_task, recipe, verbose=0
        )


def test_small_transfer_sets_are_trained_for_more_epochs():
    assert Recipe().num_epochs(54_000) == 10
    assert Recipe().num_epochs(3_600) == 52
    assert Recipe(epochs=3).num_epochs(3_600) == 3


def test_the_student_is_plain_keras(splits, kept, tmp_path):
    found, _ = kept
    found.student.save(tmp_path / "student.keras")
    reloaded = keras.saving.load_model(tmp_path / "student.keras", custom_objects={})
    images = splits[2][0]
    np.testing.assert_array_equal(reloaded(images), found.student(images))
    assert not found.student.compiled


def test_a_teacher_of_any_image_size(splits):
    image = keras.Input((None, None, 1))
    x = keras.layers.Conv2D(8, 3, activation="relu")(
        keras.layers.Rescaling(0.01)(image)
    )
    x = keras.layers.GlobalAveragePooling2D()(x)
    teacher = keras.Model(image, keras.layers.Dense(4)(x))
    found = find_smallest_student(
        teacher, *splits, rates=[0.5], recipe=Recipe(epochs=1), verbose=0
    )
    assert found.student.input_shape == (None, 8, 8, 1)
