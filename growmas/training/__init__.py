"""Learners of tasks and of task-free streams, and methods of learning."""
