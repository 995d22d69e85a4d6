"""Mutual learning (Zhang et al. 2018): each student learns from all the others."""

from tskd_tf.distillation.distiller import Distiller
from tskd_tf.distillation.methods.method import Method, Parts
from tskd_tf.distillation.methods.online import UNUSED_SETTINGS, OnlineDistiller
from tskd_tf.distillation.methods.peers import build_students


def _build(parts: Parts) -> Distiller:
    students = build_students(parts.build_student, parts.num_students)
    return OnlineDistiller(students, parts.task, fused_head=False)


METHOD = Method(_build, UNUSED_SETTINGS)
