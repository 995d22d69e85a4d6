"""Methods of distillation, one module per method."""
