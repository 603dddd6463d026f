"""Initialisation of fresh units, and the protocol of one of your own.

- `newborns`: `Initialisation`, `Newborns`, `Lineage`, `Fill`
- `initialisation`: `initialisation`, of a word such as "zero_out"; `fill_fresh`, the default
- `paired`: `Paired`, units with the same rows whose columns add up to zero
- `by_group`: `InitByGroup`, an initialisation for each group
- `split`: `SplitUnits`, twins of other units
- `gradmax`: `GradMax`, rows or columns with the largest gradient
- `composition`: `Composition`, a producer and its consumers; `pair_gradient`
"""
