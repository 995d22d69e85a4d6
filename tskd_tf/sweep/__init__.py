"""The paper's experiment: students at several rates on tasks of several sizes."""
