"""Results of teacher, student and control on the test data, in total and per class."""

import keras
import numpy as np

from tskd_tf.acceptance import paired_loss
from tskd_tf.data.splits import Split
from tskd_tf.data.task import Task
from tskd_tf.networks.evaluate import (
    accuracy,
    class_accuracies,
    is_correct,
    predict_logits,
)
from tskd_tf.report.record import ClassResult, Confusion, WrongImage
from tskd_tf.search.evidence import TestResults
from tskd_tf.search.mistakes import confusion_counts, surest_mistakes

_MOST_WRONG_IMAGES = 24


def judge(
    teacher_logits: np.ndarray,
    student: keras.Model,
    control: keras.Model,
    test: Split,
    train_labels: np.ndarray,
    task: Task,
    confidence: float,
) -> TestResults:
    """Runs student and control on the task's test images; compares with the teacher.

    Args:
        teacher_logits: All logits of the teacher for these images, float32 of shape
            `(n, num_classes)`.
        student: The chosen student.
        control: The same network, trained on hard labels only.
        test: The task's test images, with the student's labels as class ids.
        train_labels: Labels of the transfer set, integers of shape `(num_train,)`.
        task: θ.
        confidence: Confidence level of the interval for the loss, in (0, 1).
    """
    images, labels = test
    teacher_is_correct = is_correct(task.select_logits(teacher_logits), labels)
    student_logits = predict_logits(student, images)
    student_is_correct = is_correct(student_logits, labels)
    control_is_correct = is_correct(predict_logits(control, images), labels)
    class_ids = np.asarray(task.output_class_ids)[labels]
    among_task = teacher_logits[:, task.class_ids]
    chosen_ids = np.asarray(task.class_ids)[among_task.argmax(axis=-1)]
    return TestResults(
        teacher_accuracy=float(teacher_is_correct.mean()),
        teacher_accuracy_all_outputs=accuracy(teacher_logits, class_ids),
        teacher_accuracy_task_outputs=float(np.mean(chosen_ids == class_ids)),
        student_accuracy=float(student_is_correct.mean()),
        control_accuracy=float(control_is_correct.mean()),
        paired=paired_loss(teacher_is_correct, student_is_correct, confidence),
        classes=_class_results(
            task,
            (train_labels, labels),
            (teacher_is_correct, student_is_correct, control_is_correct),
        ),
        confusion=_confusion(
            task, labels, task.select_logits(teacher_logits), student_logits
        ),
        wrong_images=_wrong_images(task, labels, student_logits, teacher_is_correct),
    )


def _class_results(
    task: Task,
    labels: tuple[np.ndarray, np.ndarray],
    correct: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> list[ClassResult]:
    """Results per class.

    Args:
        task: θ.
        labels: Labels of the training and the test images.
        correct: Whether teacher, student and control are right on the test images.
    """
    classes = task.to_labels(np.asarray(task.class_ids))
    counts = [[int((part == label).sum()) for label in classes] for part in labels]
    accuracies = [class_accuracies(part, labels[1], classes) for part in correct]
    names = [task.class_names[class_id] for class_id in task.class_ids]
    columns = zip(task.class_ids, names, *counts, *accuracies, strict=True)
    return [
        ClassResult(
            class_id=class_id,
            class_name=name,
            num_train=num_train,
            num_test=num_test,
            teacher_accuracy=teacher,
            student_accuracy=student,
            control_accuracy=control,
        )
        for class_id, name, num_train, num_test, teacher, student, control in columns
    ]


def _confusion(
    task: Task,
    labels: np.ndarray,
    teacher_logits: np.ndarray,
    student_logits: np.ndarray,
) -> Confusion:
    """Confusion matrices of both classifiers, from logits of the task's outputs."""
    row_names = [task.class_names[class_id] for class_id in task.class_ids]
    num_rows = len(row_names)
    has_others = task.num_outputs > num_rows
    # The column of each class of the data; classes outside the task share the last
    columns = np.full(task.num_classes, num_rows)
    columns[task.class_ids] = np.arange(num_rows)
    column_of_output = columns[task.output_class_ids]

    def counts(logits: np.ndarray) -> list[list[int]]:
        found: list[list[int]] = confusion_counts(
            column_of_output[labels],
            column_of_output[logits.argmax(axis=-1)],
            num_rows,
            num_rows + has_others,
        ).tolist()
        return found

    return Confusion(
        row_names=row_names,
        column_names=row_names + ["another class"] * has_others,
        teacher=counts(teacher_logits),
        student=counts(student_logits),
    )


def _wrong_images(
    task: Task,
    labels: np.ndarray,
    student_logits: np.ndarray,
    teacher_is_correct: np.ndarray,
) -> list[WrongImage]:
    names = task.output_names
    mistakes = surest_mistakes(
        student_logits, labels, teacher_is_correct, _MOST_WRONG_IMAGES
    )
    return [
        WrongImage(
            index=int(i),
            class_name=names[labels[i]],
            student_prediction=names[prediction],
            student_probability=float(probability),
        )
        for i, prediction, probability in zip(*mistakes, strict=True)
    ]
