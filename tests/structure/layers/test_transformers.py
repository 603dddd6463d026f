"""Hugging Face models with random weights: what grows and shrinks, checked on every group."""

import copy
from typing import Any

import pytest
import torch
import transformer_models
from make_table import DOCUMENT, table
from surgery_laws import (
    change,
    check_fresh_units_learn,
    check_growing_and_pruning,
    check_random_plans,
    outputs,
    units,
)
from torch import nn

from growmas import Plan, Structure
from growmas.structure.layers import layouts
from growmas.structure.layers.axes import LAYERS

TOLERANCE = 2e-6
"""As for small networks; a dozen layers add a few roundings more."""

by_model = pytest.mark.parametrize("name", transformer_models.MODELS)


def without_dropout(model: nn.Module) -> nn.Module:
    """In train mode the function is random otherwise."""
    for module in model.modules():
        for name, value in vars(module).items():
            if isinstance(value, float) and ("drop" in name or isinstance(module, nn.Dropout)):
                setattr(module, name, 0.0)
    return model


@by_model
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_growing_keeps_the_function_and_pruning_restores_all(name: str, training: bool) -> None:
    model, inputs = transformer_models.example(name)
    check_growing_and_pruning(without_dropout(model).train(training), inputs, TOLERANCE)


@pytest.mark.parametrize("name", ["BERT", "DistilBERT", "ViT", "GPT-2", "LLaMA", "OPT", "Whisper"])
def test_with_fused_attention(name: str) -> None:
    model, inputs = transformer_models.example(name, attention="sdpa")
    check_growing_and_pruning(model, inputs, TOLERANCE)


@by_model
def test_fresh_units_are_not_dead(name: str) -> None:
    model, inputs = transformer_models.example(name)
    check_fresh_units_learn(without_dropout(model), inputs)


@by_model
def test_random_plans(name: str) -> None:
    check_random_plans(*transformer_models.example(name), plans=12)


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("BERT", "bert.encoder.layer.{}.attention.heads"),
        ("DistilBERT", "distilbert.transformer.layer.{}.attention.heads"),
        ("ViT", "vit.encoder.layer.{}.attention.heads"),
        ("GPT-2", "transformer.h.{}.attn.heads"),
    ],
)
def test_pruned_heads_are_those_that_transformers_prunes(name: str, group: str) -> None:
    model, inputs = transformer_models.example(name)
    reference = copy.deepcopy(model)
    reference.base_model.prune_heads({0: [1], 1: [0, 2]})
    structure = Structure(model, inputs)
    structure.apply(Plan(prune={group.format(0): [1], group.format(1): [0, 2]}))
    expected = reference.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())
    assert change(model, inputs, outputs(reference, inputs)) == 0


def test_a_pruned_head_is_a_masked_head() -> None:
    model, inputs = transformer_models.example("BERT")
    mask = torch.ones(2, 4)
    mask[1, 2] = 0
    expected = outputs(model, {**inputs, "head_mask": mask})
    Structure(model, inputs).apply(Plan(prune={"bert.encoder.layer.1.attention.heads": [2]}))
    assert change(model, inputs, expected) <= TOLERANCE


def test_attributes_follow_the_heads() -> None:
    model, inputs = transformer_models.example("BERT")
    Structure(model, inputs).apply(Plan(grow={"bert.encoder.layer.0.attention.heads": 2}))
    attention: Any = model.get_submodule("bert.encoder.layer.0.attention.self")
    assert (attention.num_attention_heads, attention.all_head_size) == (6, 24)
    assert attention.attention_head_size == 4

    model, inputs = transformer_models.example("GPT-2")
    Structure(model, inputs).apply(Plan(prune={"transformer.h.1.attn.heads": [3]}))
    attention = model.get_submodule("transformer.h.1.attn")
    assert (attention.num_heads, attention.split_size) == (3, 12)


def test_grouped_queries_come_and_go_with_their_key_and_value() -> None:
    model, inputs = transformer_models.example("LLaMA")
    structure = Structure(model, inputs)
    assert structure.groups["model.layers.0.self_attn.heads"].width == 2
    structure.apply(Plan(grow={"model.layers.0.self_attn.heads": 1}))
    attention: Any = model.get_submodule("model.layers.0.self_attn")
    widths = [m.out_features for m in (attention.q_proj, attention.k_proj, attention.v_proj)]
    assert (widths, attention.o_proj.in_features) == ([24, 12, 12], 24)
    assert attention.num_key_value_groups == 2


def test_t5_heads_of_all_blocks_are_one_unit_with_their_position_bias() -> None:
    model, inputs = transformer_models.example("T5")
    structure = Structure(model, inputs)
    names = [name for name in structure.groups if name.endswith("heads")]
    assert names == [
        "encoder.self_attention.heads",
        "decoder.self_attention.heads",
        "decoder.cross_attention.heads",
    ]
    structure.apply(Plan(prune={names[0]: [0]}, grow={names[2]: 2}))
    heads = {n: m.n_heads for n, m in model.named_modules() if hasattr(m, "n_heads")}
    assert {heads[n] for n in heads if n.startswith("encoder")} == {3}
    assert {heads[n] for n in heads if n.endswith("EncDecAttention")} == {6}
    bias = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    assert model.get_parameter(bias).shape == (32, 3)


@pytest.mark.parametrize("name", ["GPT-2", "LLaMA"])
def test_a_grown_model_generates_as_before(name: str) -> None:
    model: Any
    model, inputs = transformer_models.example(name)
    options = {"max_new_tokens": 5, "do_sample": False, "use_cache": True, "pad_token_id": 0}
    expected = model.generate(**inputs, **options)
    structure = Structure(model, inputs)
    structure.apply(Plan(grow=dict.fromkeys(structure.groups, 1)))
    assert torch.equal(model.generate(**inputs, **options), expected)


@pytest.mark.parametrize("name", ["BERT", "GPT-2", "LLaMA", "T5", "Swin"])
def test_resized_models_are_restored_and_their_old_tasks_extracted(name: str) -> None:
    model, inputs = transformer_models.example(name)
    structure = Structure(model, inputs)
    structure.begin_task("first")
    structure.begin_task("second")
    groups = structure.groups
    free = [name for name, group in groups.items() if group.can_shrink and group.can_grow]
    structure.apply(Plan(grow=dict.fromkeys(free, 1)))
    for parameter in model.parameters():
        parameter.data.mul_(1 + 0.01 * torch.rand(()))
    with structure.view("first"):
        expected = outputs(model, inputs)
    assert change(structure.extract("first"), inputs, expected) <= 1e-5

    widened = {name for name, group in groups.items() if group.can_grow} - {*free}
    structure.apply(
        Plan(
            prune={name: structure.groups[name].unit_ids[:1] for name in free},
            grow=dict.fromkeys(widened, 2),
        )
    )
    fresh, _ = transformer_models.example(name)
    restored = Structure(fresh, inputs)
    restored.load_state_dict(structure.state_dict())
    fresh.load_state_dict(model.state_dict())
    assert change(fresh, inputs, outputs(model, inputs)) == 0


def test_without_a_layout_heads_are_found_in_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch-pruning's own walk through rotary embeddings never ends."""
    registered = units(Structure(*transformer_models.example("LLaMA")))
    monkeypatch.setattr(layouts, "LAYOUTS", {})
    for attention in ("eager", "sdpa"):
        found = Structure(*transformer_models.example("LLaMA", attention))
        heads = [group for group in found.groups.values() if group.kind == "attention heads"]
        assert [group.width for group in heads] == [2, 2]
        expected = registered["model.layers.0.self_attn.heads"]
        assert set(map(frozenset, units(found)[heads[0].name])) == set(map(frozenset, expected))


def test_unused_layers_are_noted() -> None:
    import transformers

    config = transformers.BertConfig(**transformer_models.BERT)
    model = transformers.BertForTokenClassification(config)
    model.bert.pooler = transformers.models.bert.modeling_bert.BertPooler(config)
    inputs = {"input_ids": torch.randint(3, 40, (2, 7))}
    forward = {"forward": lambda m, x: m(**x).logits}
    model.bert.pooler.dense.requires_grad_(True)
    model.unused = nn.Linear(2, 2)
    structure = Structure(model, inputs, **forward)
    assert structure.groups
    for layer in ("unused", "bert.pooler.dense"):
        assert "takes no part" in structure.fixed[layer]
    assert "2 layers: it takes no part" in repr(structure)


def test_every_registered_name_exists() -> None:
    import importlib

    for kind in (*LAYERS, *layouts.LAYOUTS):
        if isinstance(kind, str) and kind.startswith("transformers."):
            module, name = kind.rsplit(".", 1)
            assert hasattr(importlib.import_module(module), name)


def test_the_table_in_the_docs_is_what_the_script_prints() -> None:
    assert DOCUMENT.read_text().split("\n\n")[-1].strip() == table(attempt=False).strip()
