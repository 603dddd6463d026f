"""Tiny models of Hugging Face transformers with random weights, for any version from 4.50 on."""

from typing import Any

import torch

SMALL: dict[str, Any] = {
    "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 24, "max_position_embeddings": 32, "num_key_value_heads": 2,
    "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "num_layers": 2, "num_heads": 4,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24, "d_ff": 24, "d_kv": 4, "n_embd": 16, "n_layer": 2, "n_head": 4,
    "n_positions": 32, "n_ctx": 32, "n_inner": 24, "dim": 16, "n_layers": 2, "n_heads": 4,
    "hidden_dim": 24, "ffn_dim": 24, "word_embed_proj_dim": 16, "head_dim": 4, "rotary_dim": 2,
    "image_size": 32, "patch_size": 8, "num_labels": 3, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "decoder_start_token_id": 1, "use_cache": False, "embedding_size": 16,
    "num_local_experts": 2, "num_experts": 2, "num_experts_per_tok": 1, "emb_dim": 16,
    "moe_intermediate_size": 24, "shared_expert_intermediate_size": 24, "max_source_positions": 32,
    "max_target_positions": 32, "max_length": None, "sliding_window": 16, "ffn_hidden_size": 24,
    "num_decoder_layers": 2, "num_encoder_layers": 2, "kv_channels": 4, "num_kv_heads": 2,
    "n_kv_heads": 2, "d_inner": 24, "d_head": 4, "attention_types": [[["global", "local"], 1]],
    "num_hidden_groups": 1, "window_size": 4, "depths": [1, 1], "embed_dim": 16,
    "hidden_sizes": [16, 24], "num_stages": 2, "query_pre_attn_scalar": 4, "layer_types": None,
    "share_parameters": False, "num_attention_head": 4, "attention_window": 4, "block_size": 4,
}  # fmt: skip
"""Attribute of a configuration -> a small value, for those that it has."""

SPECIAL: dict[str, dict[str, Any]] = {
    "swin": {"num_heads": [2, 4], "patch_size": 2, "hidden_size": None},
    "swinv2": {"num_heads": [2, 4], "patch_size": 2, "hidden_size": None},
    "deberta": {"pooler_hidden_size": 16}, "deberta-v2": {"pooler_hidden_size": 16},
    "convnext": {"patch_size": 4}, "convnextv2": {"patch_size": 4},
    "poolformer": {
        "num_encoder_blocks": 2, "patch_sizes": [7, 3], "strides": [4, 2], "padding": [2, 1],
    },
    "pvt": {
        "num_encoder_blocks": 2, "depths": [1, 1], "num_attention_heads": [1, 2],
        "patch_sizes": [4, 2], "strides": [4, 2], "sequence_reduction_ratios": [2, 1],
        "mlp_ratios": [2, 2], "hidden_sizes": [16, 24],
    },
    "segformer": {
        "num_encoder_blocks": 2, "depths": [1, 1], "num_attention_heads": [1, 2],
        "sr_ratios": [2, 1], "patch_sizes": [7, 3], "strides": [4, 2], "mlp_ratios": [2, 2],
    },
    "resnet": {"layer_type": "basic"}, "regnet": {"groups_width": 8, "hidden_sizes": [16, 24]},
    "gptj": {"rotary_dim": 4},
    "gpt_neox": {"rotary_pct": 0.5}, "xlnet": {}, "funnel": {},
}  # fmt: skip

HEADS = (
    "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES", "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES", "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_MAPPING_NAMES",
)  # fmt: skip
CLASSIFIED = frozenset(
    {"bert", "roberta", "distilbert", "electra", "albert", "xlm-roberta", "camembert"}
)


def example(kind: str) -> tuple[torch.nn.Module, Any, Any]:
    import transformers

    config = transformers.AutoConfig.for_model(kind)
    small = {**SMALL, **SPECIAL.get(kind, {})}
    for name, value in small.items():
        if value is not None and hasattr(config, name):
            try:
                setattr(config, name, value)
            except (AttributeError, TypeError, NotImplementedError):
                continue
    if getattr(config, "layer_types", None):
        config.layer_types = list(config.layer_types)[:2]
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = _class(transformers, kind)(config).eval()
    return _LogitsOnly(model), _inputs(model, config, 1), _inputs(model, config, 2)


class _LogitsOnly(torch.nn.Module):
    """The model with its logits alone: hidden states that are given out too cannot be resized."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        found = self.model(**inputs)
        return found.logits if hasattr(found, "logits") else found[0].mean(1)


def _class(transformers: Any, kind: str) -> Any:
    from transformers.models.auto import modeling_auto

    order = HEADS[2:] if kind in CLASSIFIED else HEADS
    if kind in modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        order = ("MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",)
    for mapping in order:
        name = getattr(modeling_auto, mapping).get(kind)
        name = name[0] if isinstance(name, tuple | list) else name
        if isinstance(name, str) and hasattr(transformers, name):
            return getattr(transformers, name)
    raise KeyError(f"no model of kind {kind!r}")


def _inputs(model: torch.nn.Module, config: Any, seed: int) -> tuple[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    main = model.main_input_name
    if main == "pixel_values":
        size = getattr(config, "image_size", 32)
        size = size if isinstance(size, int) else size[0]
        shape = (2, getattr(config, "num_channels", 3), size, size)
        return ({"pixel_values": torch.randn(shape, generator=generator)},)
    if main == "input_values":
        return ({"input_values": torch.randn(2, 4000, generator=generator)},)
    if main == "input_features":
        features = getattr(config, "num_mel_bins", 80)
        inputs = {"input_features": torch.randn(2, features, 64, generator=generator)}
    else:
        inputs = {"input_ids": torch.randint(3, 40, (2, 8), generator=generator)}
    if getattr(config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = torch.randint(3, 40, (2, 6), generator=generator)
    return (inputs,)
