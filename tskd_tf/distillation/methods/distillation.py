"""Distillation by Eq. 8 (Shi et al. 2017): from labels and soft targets."""

from tskd_tf.distillation.distiller import Distiller
from tskd_tf.distillation.methods.method import Method, Parts


def _build(parts: Parts) -> Distiller:
    return Distiller(parts.build_student(), parts.teacher, task=parts.task)


METHOD = Method(_build)
