"""The analysis: from a model to its groups of units, by way of one forward pass.

| module | noun |
|---|---|
| graph, leaf_modules, differentiable | the layers and operations that ran, and which reads which |
| labels | which channel every entry of a tensor belongs to |
| propagation, products, concatenation, outcomes | what an operation does to labels |
| flow | the links between neighbours, from one end of the network to the other |
| functional, parameter_axes, ties | weights used without a layer, and tensors that layers share |
| walk, tracing, reached | what moves with the channels of one layer |
| unit_positions, residual, sizes, grouping | what that makes of them: units, abilities, groups |
| discovery | all groups of a network |
| idle_layers, fitness | layers that did not run, inputs that do not fit |
| architecture | layers and operations with widths and FLOPs |
| wrappers | what is taken off a model first |

docs/analysis.md draws the way, and shows how to add a rule for an operation.
"""
