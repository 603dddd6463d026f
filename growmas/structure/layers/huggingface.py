"""Layers and attention modules of Hugging Face transformers, by name: it is never imported."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from growmas.structure.layers.attention import attention_layout, register_attention
from growmas.structure.layers.axes import LayerAxes, Size, TensorAxis, register_layer
from growmas.structure.layers.layouts import Layout, Span, register_layout
from growmas.structure.layers.norms import norm_axes, register_norm
from growmas.structure.layers.torch_layers import EMBEDDING

MODELS = "transformers.models"

register_layer(  # a linear layer that keeps its weight transposed
    "transformers.pytorch_utils.Conv1D",
    LayerAxes(
        out=(TensorAxis("weight", 1, "out"), TensorAxis("bias", 0, "out")),
        into=(TensorAxis("weight", 0, "in"),),
        out_size=(Size("nf"),),
        in_size=(Size("nx"),),
        unit="neurons",
        along=-1,
    ),
)


for _name in (
    "bart.modeling_bart.BartLearnedPositionalEmbedding",
    "bart.modeling_bart.BartScaledWordEmbedding",
    "opt.modeling_opt.OPTLearnedPositionalEmbedding",
    "whisper.modeling_whisper.WhisperPositionalEmbedding",
):
    register_layer(f"{MODELS}.{_name}", EMBEDDING)


for _name in (
    "llama.modeling_llama.LlamaRMSNorm",
    "mistral.modeling_mistral.MistralRMSNorm",
    "qwen2.modeling_qwen2.Qwen2RMSNorm",
    "t5.modeling_t5.T5LayerNorm",
):
    register_norm(f"{MODELS}.{_name}", centred=False, eps="variance_epsilon")


def convnext_norm(module: Any) -> LayerAxes:
    """Return the axes of a layer norm over the last axis, or over the channels of images."""
    return norm_axes(
        centred=True,
        sizes=(Size("normalized_shape", lambda m, n: (n,)),),
        along=1 if module.data_format == "channels_first" else -1,
    )


register_layer(f"{MODELS}.convnext.modeling_convnext.ConvNextLayerNorm", convnext_norm)

_BERT_SIZES = (Size("all_head_size", lambda m, n: n * m.attention_head_size),)

for _name, _core in {
    "bert.modeling_bert.BertAttention": "self",
    "roberta.modeling_roberta.RobertaAttention": "self",
    "electra.modeling_electra.ElectraAttention": "self",
    "vit.modeling_vit.ViTAttention": "attention",
    "deit.modeling_deit.DeiTAttention": "attention",
    "mobilevit.modeling_mobilevit.MobileViTAttention": "attention",
}.items():
    register_attention(
        f"{MODELS}.{_name}",
        project=[f"{_core}.query", f"{_core}.key", f"{_core}.value"],
        output="output.dense",
        heads="num_attention_heads",
        sizes=_BERT_SIZES,
        core=_core,
    )

for _name in (
    "whisper.modeling_whisper.Whisper",
    "opt.modeling_opt.OPT",
    "bart.modeling_bart.Bart",
):
    register_attention(
        f"{MODELS}.{_name}Attention",
        project=["q_proj", "k_proj", "v_proj"],
        output="out_proj",
        heads="num_heads",
    )

for _name in (
    "llama.modeling_llama.Llama",
    "mistral.modeling_mistral.Mistral",
    "qwen2.modeling_qwen2.Qwen2",
):
    register_attention(  # the number of heads follows from the shapes alone
        f"{MODELS}.{_name}Attention",
        project=["q_proj", "k_proj", "v_proj"],
        output="o_proj",
        heads=lambda m: m.k_proj.out_features // m.head_dim,
    )

for _name in ("MultiHeadSelfAttention", "DistilBertSdpaAttention"):
    register_attention(
        f"{MODELS}.distilbert.modeling_distilbert.{_name}",
        project=["q_lin", "k_lin", "v_lin"],
        output="out_lin",
        heads="n_heads",
        sizes=(Size("dim", lambda m, n: n * m.attention_head_size),),
    )


def gpt2_heads(attention: Any) -> Sequence[Layout]:
    """Return the layout of GPT-2: q, k and v fused; only k and v if they come from an encoder."""
    return (
        attention_layout(
            attention,
            project={"q_attn": 1, "c_attn": 2} if attention.is_cross_attention else {"c_attn": 3},
            output="c_proj",
            heads="num_heads",
            sizes=(Size("split_size", lambda m, n: n * m.head_dim),),
        ),
    )


register_layout(f"{MODELS}.gpt2.modeling_gpt2.GPT2Attention", gpt2_heads)


def swin_heads(attention: Any) -> Sequence[Layout]:
    """Return the layout of Swin: every head has a column in the table of relative positions."""
    return (
        attention_layout(
            attention,
            project=["self.query", "self.key", "self.value"],
            output="output.dense",
            heads="num_attention_heads",
            sizes=_BERT_SIZES,
            core="self",
            own=[TensorAxis("relative_position_bias_table", 1, "out")],
        ),
    )


register_layout(f"{MODELS}.swin.modeling_swin.SwinAttention", swin_heads)


def t5_heads(stack: Any) -> Sequence[Layout]:
    """Return the layouts of T5: one for self-attention, one for cross-attention.

    The relative positions of the first block, one column for each head, serve all blocks. So head
    i of all blocks is one unit.
    """
    layouts = []
    for place, (name, attention) in enumerate(
        [("self_attention", "SelfAttention"), ("cross_attention", "EncDecAttention")]
    ):
        paths = [
            f"block.{block}.layer.{place}.{attention}"
            for block, module in enumerate(stack.block)
            if hasattr(module.layer[place], attention)
        ]
        if paths:
            layouts.append(_t5_layout(stack, f"{name}.heads", paths))
    return layouts


def _t5_layout(stack: nn.Module, name: str, paths: Sequence[str]) -> Layout:
    spans = []
    for path in paths:
        attention: Any = stack.get_submodule(path)
        layout = attention_layout(
            attention,
            project=["q", "k", "v"],
            output="o",
            heads="n_heads",
            sizes=(Size("inner_dim", lambda m, n: n * m.key_value_proj_dim),),
        )
        below = [
            Span(".".join(filter(None, [path, s.layer])), s.side, s.blocks, s.axes)
            for s in layout.spans
        ]
        spans += below
        if attention.has_relative_attention_bias:
            spans.append(Span(f"{path}.relative_attention_bias", "out", (1,)))
    return Layout(name, "attention heads of all blocks", layout.units, spans)


for _name in ("t5.modeling_t5.T5Stack", "mt5.modeling_mt5.MT5Stack"):
    register_layout(f"{MODELS}.{_name}", t5_heads)
