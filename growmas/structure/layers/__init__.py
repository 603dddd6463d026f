"""Layer types: along which axes of which tensors their channels lie.

- `normalisation`: `Normalisation`, `RowLengths`, what a layer divides by
- `axes`: `LayerAxes`, `TensorAxis`, `Size`; `register_layer`, `axes_of`
- `class_names`: names of classes in messages and registries
- `norms`: `register_norm`, for norms over all channels
- `layouts`: `Layout`, `Span`, `register_layout`, for units that the graph does not show
- `attention`: `register_attention`, for the heads of attention modules
- `probes`: norms and linear layers known by what they compute
- `responses`: norms by a mean or sum over the channels, known by what they compute
- `derived`: subclasses that compute with their weights first, and their further tensors
- `weight_norms`: the tensors that a weight with weight norm is computed from
- `channelwise`: frozen norms and other layers of buffers that keep channels apart
- `gains`: linear layers and convolutions with a gain for each unit; `fold_gains`
- `multihead`: attention of torch with any number of heads
- `torch_layers`, `huggingface`: register the layers of torch and transformers; import to have them
"""
