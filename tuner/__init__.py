"""The KerasTuner part of tskd_tf: which candidate to try next, and trying it.

It knows nothing of distillation: candidates are numbers, ordered from the cheapest to
the most expensive, and a function of the caller trains one.
"""
