"""Reconstruction: the effect of removed units is folded into the layers that read them.

- `reconstruction`: `Reconstruction`, of one edit; `ridge_solution`
- `statistics`: `ActivationStatistics`, mean and covariance of what layers read, without stored data
- `consumers`: `Consumer`, `consumers_of`; layers that read units, as matrix products
"""
