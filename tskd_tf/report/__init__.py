"""Shows `report.json` as a terminal table, figures, a page, and in TensorBoard."""
