"""The report in words, figures, page and TensorBoard, from `report.json` alone."""
