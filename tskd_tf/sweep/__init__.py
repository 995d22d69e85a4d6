"""The paper's experiment: students of many rates on tasks of many sizes."""
