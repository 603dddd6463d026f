"""Views: the network as of an earlier task, which reads other tensors while it runs.

- `overrides`: `overridden`, `unit_masks`, `masked`; other tensors in place of a model's own
- `task_norms`: `TaskNorms`, the values of norms at the end of each task, and of gains and biases
- `unit_constants`: the gains and biases that a task can have for itself
- `held`: `Views`, the views that are in use at the moment
"""
