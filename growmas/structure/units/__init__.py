"""Units of a network, the plans that name them, and the edits that re-index them.

- `groups`: `UnitGroup`, `Member`; `task_index`, `younger_units`, and the state of groups
- `plan`: `Plan`, the units to remove and to add, checked against the groups
- `reindexing`: `reindexing`, from a plan to the new order of every layer side
- `edit`: `Edit`, `AxisChange`, `AxisTransfer`, `AxisMean`; re-index any tensor as the network was
- `placement`: `placements`, the entries that units hold in the tensors of a model
- `inventory`: `Inventory`, the modules and tensors of a model in one walk
- `resized`: `resized`, a tensor of another shape in place of a parameter or buffer
- `layer_info`: `LayerInfo`, widths and sizes of a layer as it is now
- `structure_like`: `StructureLike`, the part of a `Structure` that lower modules use
"""
