"""Methods of distillation: a module each."""
