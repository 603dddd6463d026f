"""Selection: which units the layers that read them can do without.

- `elimination`: `Elimination`, greedy backward elimination of the units of one group
- `readings`: `readings`, the covariance of what each layer reads, from batches or statistics
- `options`: `Options`, which units may be chosen
- `selection`: `Selection`, of units of all groups; the work of `Structure.select`
- `budget`: `Target`, how many units go
"""
