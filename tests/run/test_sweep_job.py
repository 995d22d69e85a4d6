"""`--mode=sweep` from the flags to its files, on real digits."""

import csv
import json

import keras
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from digits import mnist_data

from tskd_tf import main as main_module
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.families.compact import compact_student
from tskd_tf.networks.zoo.models import lenet

SMALL = (
    "--mode=sweep",
    "--offline_sample",
    "--teacher_epochs=3",
    "--epochs=2",
    "--task_sizes=2,4",
    "--rates=0.2,0.5",
)


@pytest.fixture
def run(no_network, capfd, tmp_path):
    """Runs main with flags; returns the exit status and what it wrote."""

    def run_main(*arguments, output="sweep"):
        with flagsaver.flagsaver():
            flags.FLAGS.unparse_flags()
            folders = [f"--output_dir={tmp_path / output}", f"--data_dir={tmp_path}/d"]
            argv = main_module._parse(["main", *folders, *arguments])
            status = main_module.main(argv)
        written = capfd.readouterr()
        return status, written.out, written.err

    return run_main


@pytest.mark.parametrize(
    ("rates", "num_workers"),
    [("0.2", 1), pytest.param("0.2,0.5", 2, marks=pytest.mark.long)],
)
def test_a_sweep_its_files_and_more_seeds(run, tmp_path, rates, num_workers):
    given = (*SMALL, "--protocol=best", f"--rates={rates}")
    # Two tasks, and each student distilled and on hard labels
    num_students, largest = 4 * len(rates.split(",")), rates.split(",")[-1]
    status, out, err = run(*given, "--seeds=1")
    assert status == 0
    folder = tmp_path / "sweep"
    first = json.loads((folder / "sweep.json").read_text())
    assert len(first["students"]) == num_students and first["head"] == "task"
    progress = f"4 classes  rate {largest}  seed 1  hard labels"
    assert f"{num_students} of {num_students}  {progress}" in err
    assert "about" in err and "Points lost, distilled (Eq. 8):" in out
    for name in ("accuracy_by_rate", "accuracy_surface", "rate_by_classes"):
        assert (folder / "figures" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    # The numbers of the teacher, from its file
    teacher = keras.saving.load_model(folder / "teacher.keras", compile=False)
    images, digits = mnist_data()
    assert teacher.count_params() == first["teacher"]["num_params"]
    logits = teacher.predict(images.reshape(-1, 28, 28, 1), verbose=0)
    assert (logits.argmax(-1) == digits).mean() > 0.9
    # Another seed later: what is there is not trained again, nor by other processes
    before = (folder / "sweep" / "002_classes_rate_0.2_seed_1_distilled.json").stat()
    status, out, err = run(
        *given, "--seeds=1,2", "--resume", f"--workers={num_workers}"
    )
    after = (folder / "sweep" / "002_classes_rate_0.2_seed_1_distilled.json").stat()
    assert status == 0 and before.st_mtime_ns == after.st_mtime_ns
    assert err.count("seed 1") == 0 and err.count("seed 2") == num_students
    second = json.loads((folder / "sweep.json").read_text())
    assert second["students"][:num_students] == first["students"]
    assert {student["seed"] for student in second["students"][num_students:]} == {2}
    rows = list(csv.DictReader((folder / "sweep.csv").read_text().splitlines()))
    assert len(rows) == 2 * num_students
    # The same number in the table, the JSON file and the terminal
    two = second["teacher"]["tasks"][0]
    accuracy = 100 * two["num_right_of_task"] / two["num_test"]
    assert f"| 2 | {accuracy:.2f} % |" in out
    assert f"| 2 | {accuracy:.2f} % |" in (folder / "sweep.md").read_text()
    # Drawn anew
    (folder / "sweep.md").unlink()
    status, *_ = run("--mode=report")
    assert status == 0 and (folder / "sweep.md").exists()
    assert json.loads((folder / "sweep.json").read_text()) == second


@pytest.mark.long
def test_the_papers_protocol_trains_by_caffes_solver(run, tmp_path):
    arguments = ["--task_sizes=2", "--rates=0.5", "--seeds=3", "--epochs=4"]
    status, *_ = run(*SMALL, "--protocol=paper", *arguments)
    assert status == 0
    config = json.loads((tmp_path / "sweep" / "config.json").read_text())
    assert (config["solver"], config["batch_size"]) == ("caffe_lenet", 64)
    sweep = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert sweep["head"] == "full"
    student, hard_labels = sweep["students"]
    num_test = sweep["teacher"]["tasks"][0]["num_test"]
    assert student["widths"] == [10, 25, 250, 10]
    assert min(student["num_right"], hard_labels["num_right"]) > 0.95 * num_test


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("--task_sizes=2,11",), "--task_sizes"),
        (("--classes=0,1",), "--classes"),
        (("--rates=0.2,2",), "--rates"),
        (("--seeds=",), "--seeds"),
        (("--protocol=paper", "--teacher=mine.keras"), "--protocol"),
    ],
)
def test_wrong_flags_are_named_before_anything_is_written(
    run, tmp_path, arguments, names
):
    status, _, err = run(*SMALL, *arguments)
    # TensorFlow's own lines come before, where it looks for a GPU for the first time
    assert status == 2 and names in err.strip().splitlines()[-1]
    assert sum(line.startswith("error: ") for line in err.splitlines()) == 1
    assert "Traceback" not in err
    assert not (tmp_path / "sweep").exists()


def test_a_damaged_sweep_is_not_drawn(run, tmp_path):
    folder = tmp_path / "sweep"
    folder.mkdir()
    (folder / "sweep.json").write_text('{"students": []}')
    status, _, err = run("--mode=report")
    assert status == 2 and "sweep.json" in err
    assert [path.name for path in folder.iterdir()] == ["sweep.json"]


def test_a_teacher_of_ones_own_is_swept(run, tmp_path):
    path = tmp_path / "mine.keras"
    lenet((28, 28, 1), 10).save(path)
    arguments = [f"--teacher={path}", "--task_sizes=2", "--rates=0.2", "--seeds=0"]
    status, *_ = run(*SMALL, *arguments)
    sweep = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert status == 0 and np.isclose(sweep["students"][0]["rate"], 0.2)


def test_a_method_the_teacher_is_not_made_for_is_told_at_the_door(run, tmp_path):
    dense = [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    keras.Sequential(dense).save(tmp_path / "dense.keras")
    teacher = f"--teacher={tmp_path / 'dense.keras'}"
    status, _, err = run(*SMALL, teacher, "--method=online")
    assert status == 2 and "feature maps" in err
    assert not (tmp_path / "sweep").exists()


@pytest.mark.long
def test_a_sweep_of_another_family(run, tmp_path):
    arguments = ["--task_sizes=2", "--rates=0.25,0.5", "--seeds=1", "--epochs=1"]
    status, *_ = run(*SMALL, "--family=compact", *arguments)
    assert status == 0
    sweep = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert sweep["family"] == "compact"
    teacher = keras.saving.load_model(
        tmp_path / "sweep" / "teacher.keras", compile=False
    )
    expected = [
        complexity(compact_student(teacher, rate)).num_macs for rate in (0.25, 0.5)
    ]
    counted = sorted({student["num_macs"] for student in sweep["students"]})
    assert counted == expected
