"""Reports made by hand, with names that want to be HTML."""

import copy

import numpy as np

from tskd_tf.acceptance import paired_interval, smallest_certifiable_loss

CURVE = {"validation_accuracy": [0.9, 0.97, 0.99], "loss": [0.5, 0.2, 0.1]}


def class_result(name, class_id, student_accuracy):
    return {
        "class_id": class_id,
        "class_name": name,
        "num_train": 1234,
        "num_test": 100,
        "teacher_accuracy": 0.9,
        "student_accuracy": student_accuracy,
        "control_accuracy": 0.25,
    }


def make_report(num_lost=3, num_gained=1, num_test=2000, allowed=0.005):
    loss = (num_lost - num_gained) / num_test
    low, high = paired_interval(num_test, num_lost, num_gained)
    cost = {"num_params": 1000, "num_macs": 5000, "paper_cost": 900, "size_bytes": 4000}
    trial = {
        "rate": 0.5,
        "widths": [2, 3],
        "num_macs": 500,
        "accuracy": 0.99,
        "feasible": True,
        "epochs": 3,
        "seconds": 1.5,
        "seed": 1,
        "curve": CURVE,
    }
    return {
        "schema_version": 2,
        "task": {
            "class_ids": [1, 0],
            "class_names": ["<b>", "cat"],
            "head": "full",
            "output_names": ["cat", "<b>"],
        },
        "data": {
            "source": "a & b",
            "num_train": 10,
            "num_validation": 5,
            "num_test": num_test,
        },
        "max_accuracy_loss": allowed,
        "teacher": {
            "accuracy": 0.99,
            "accuracy_all_outputs": 0.99,
            "accuracy_task_outputs": 1.0,
            "balanced_accuracy": 0.97,
            "curve": CURVE,
            **cost,
        },
        "student": {
            "rate": 0.5,
            "widths": [2, 3],
            "accuracy": 0.99 - loss,
            "balanced_accuracy": 0.96,
            "curve": CURVE,
            **{name: value // 10 for name, value in cost.items()},
        },
        "accuracy_loss": loss,
        "accuracy_loss_interval": [low, high],
        "accuracy_loss_interval_method": "Tango",
        "confidence": 0.95,
        "num_only_teacher_correct": num_lost,
        "num_only_student_correct": num_gained,
        "smallest_certifiable_loss": smallest_certifiable_loss(num_test),
        "meets_threshold": loss <= allowed,
        "certified": high <= allowed,
        "control": {"accuracy": 0.98, "balanced_accuracy": 0.95, "curve": CURVE},
        "classes": [class_result("<b>", 1, 0.5), class_result("cat", 0, 0.875)],
        "search": {
            "seconds": 1.5,
            "validation_teacher_accuracy": 0.99,
            "validation_floor": 0.985,
            "trials": [trial, {**trial, "rate": 0.25, "feasible": False}],
            "num_over_budget": 0,
        },
        "confusion": {
            "row_names": ["<b>", "cat"],
            "column_names": ["<b>", "cat", "another class"],
            "student": [[50, 50, 0], [12, 88, 0]],
            "teacher": [[90, 10, 0], [10, 90, 0]],
        },
        "wrong_images": [],
        "budgets": {},
        "labels": "labels.txt",
        "exports": [
            make_export(
                "litert",
                "student.tflite",
                accuracy=0.99,
                teacher_latency_us=None,
                speedup=None,
            )
        ],
        "environment": {
            "precision": "float32",
            "precision_reason": "the CPU has no bfloat16 instructions",
            "device": "CPU",
            "num_replicas": 1,
            "jit_compile": False,
            "seed": 1,
            "versions": {
                "python": "3.11",
                "tskd_tf": "0.1",
                "tensorflow": "2.21",
                "keras": "3",
            },
        },
        "command": "python -m tskd_tf.main --classes='<b>'",
        "seconds": {"data": 1.0, "teacher": 0.5, "search": 2.5, "exports": 0.25},
    }


def with_budgets(report):
    report["budgets"] = {
        "max_macs": {"limit": 1234, "student": 500},
        "max_latency_us": {"limit": 30.0, "student": 21.25},
    }
    report["search"]["num_over_budget"] = 7
    return report


def with_refinement(report):
    """Of three steps, the second of which was undone."""
    step = {"num_removed": 2, "num_macs": 900, "num_params": 200, "accuracy": 0.99}
    step.update(is_kept=True, seconds=1.5)
    undone = {"num_removed": 3, "accuracy": 0.5, "is_kept": False}
    last = {"num_removed": 1, "num_macs": 500, "num_params": 100}
    report["refinement"] = {
        "num_macs": 1500,
        "num_params": 300,
        "max_seconds": 60.0,
        "steps": [step, {**step, **undone}, {**step, **last}],
    }
    return report


def with_trials(report, *trials):
    """Of `(rate, accuracy, seed)`; the student is still that of rate 0.5."""
    trial, floor = report["search"]["trials"][0], report["search"]["validation_floor"]
    report["search"]["trials"] = [
        {**trial, "rate": r, "accuracy": a, "seed": s, "feasible": a >= floor}
        for r, a, s in trials
    ]
    return report


def make_export(name, path, **others):
    """A record of one file."""
    return {
        "format": name,
        "path": path,
        "size_bytes": 1234,
        "outputs": "logits",
        "accuracy": 0.9885,
        "accuracy_loss": 0.0015,
        "accuracy_loss_interval": [-0.001, 0.004],
        "certified": True,
        "meets_threshold": True,
        "latency_us": {"p50": 20.0, "p90": 30.0},
        "teacher_latency_us": {"p50": 150.0, "p90": 170.0},
        "speedup": 7.5,
        "max_logit_difference": 2e-5,
        "equal_predictions": 0.9995,
        "arena_bytes": None,
        "attempts": [],
        **others,
    }


def make_report_2(num_classes=2, num_wrong=3):
    """A report with wrong images, and the pictures of its wrong images.

    The last class's name is `x<script>"&$1$`.
    """
    report = copy.deepcopy(make_report(num_lost=num_wrong, num_gained=1))
    names = [f"class {i}" for i in range(num_classes - 1)] + ['x<script>"&$1$']
    student = np.diag(np.arange(num_classes) + 90)
    student[0, -1], student[-1, 0] = 7, 2
    teacher = np.diag(np.arange(num_classes) + 95)
    teacher[0, -1] = 1
    report["task"].update(
        class_ids=list(range(num_classes)), class_names=names, output_names=names
    )
    report["classes"] = [class_result(name, i, 0.9) for i, name in enumerate(names)]
    report["confusion"] = {
        "row_names": names,
        "column_names": [*names, "another class"],
        "student": np.pad(student, ((0, 0), (0, 1))).tolist(),
        "teacher": np.pad(teacher, ((0, 0), (0, 1))).tolist(),
    }
    report["wrong_images"] = [
        {
            "index": i,
            "class_name": names[0],
            "student_prediction": names[-1],
            "student_probability": 0.999 - i / 100,
        }
        for i in range(num_wrong)
    ]
    report["exports"] = [
        make_export("keras", "student.keras", latency_us=None, speedup=None),
        make_export("litert", "student.tflite"),
        make_export("litert_int8", "student_int8.tflite", speedup=9.0),
    ]
    images = np.random.default_rng(1).integers(0, 256, (num_wrong, 28, 28, 1))
    return report, images.astype(np.uint8)
