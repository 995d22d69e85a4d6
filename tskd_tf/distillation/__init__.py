"""Learning: losses, `Distiller`, methods, recipe, one training."""
