"""Initialisation of fresh units, and the protocol of one of your own.

- `newborns`: `Initialisation`, `Newborns`, `Lineage`, `Fill`
- `initialisation`: `initialisation`, of a word such as "zero_out"; `fill_fresh`, the default
- `split`: `SplitUnits`, twins of other units
- `gradmax`: `GradMax`, rows or columns with the largest gradient
- `composition`: `Composition`, a producer and its consumers; `pair_gradient`
"""
