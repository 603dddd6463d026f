"""Gains and biases of tasks: part of the view, of what is extracted, and of checkpoints."""

import copy

import pytest
import torch
from torch import nn

import growmas as gm
from growmas.errors import GrowmasError
from growmas.importance import mas_importance


class Net(nn.Module):
    """A convolution with a norm, one without, a dense layer, and a head for each task."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3)
        self.deep, self.fc = nn.Conv2d(3, 4, 2), nn.Linear(4 * 9, 5)
        self.heads = nn.ModuleList(nn.Linear(5, 2) for _ in range(3))

    def forward(self, x, head=0):
        h = torch.relu(self.norm(self.conv(x)))
        h = torch.relu(self.fc(torch.relu(self.deep(h)).flatten(1)))
        return self.heads[head](h)


def every_head(model, x):
    return [model(x, head) for head in range(3)]


def through(head):
    return lambda model, x: model(x, head)


X = torch.randn(8, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def made(**options):
    torch.manual_seed(0)
    net = Net()
    gm.add_gains(net, X, forward=every_head)
    structure = gm.Structure(net, X, forward=every_head)
    optimizer = torch.optim.AdamW(net.parameters(), 0.02)
    manager = gm.StructuralManager(
        structure, mas=gm.MAS(net, strength=options.pop("strength", 0.1)), optimizer=optimizer,
        grow=gm.GrowPolicy(2), per_task=("gains", "biases"), **options,
    )  # fmt: skip
    return net, structure, optimizer, manager


def learn(net, optimizer, manager, head, steps=5):
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(X + head, head), torch.arange(8) % 2).backward()
        manager.mas.penalty_grad_()
        optimizer.step()


def taught(tasks, **options):
    net, structure, optimizer, manager = made(**options)
    seen = []
    for task in range(tasks):
        manager.begin_task(str(task))
        learn(net, optimizer, manager, task)
        net.eval()
        with torch.no_grad():
            seen.append(net(X, task))
        net.train()
        manager.end_task([X + task], forward=through(task))
    net.eval()
    return net, structure, optimizer, manager, seen


def answers(structure, task):
    with structure.view(task) as model, torch.no_grad():
        return model(X, task)


def test_layers_without_a_norm_get_gains_and_the_function_stays():
    torch.manual_seed(0)
    net = Net().eval()
    before, parameters = net(X), list(net.parameters())
    assert gm.add_gains(net, X, forward=every_head) == ("deep", "fc")
    assert torch.equal(net(X), before)
    assert {id(p) for p in parameters} < {id(p) for p in net.parameters()}
    assert gm.add_gains(net, X, forward=every_head) == ()
    constants = gm.Structure(net, X, forward=every_head).unit_constants("gains")
    assert sorted(constants) == ["deep.gain", "fc.gain", "norm.weight"]


def test_frozen_weights_and_own_constants_give_each_task_its_own_answers_back():
    net, structure, _, manager, seen = taught(3, protect="old")
    for task, then in enumerate(seen):
        torch.testing.assert_close(answers(structure, task), then, rtol=1e-5, atol=1e-6)
    assert not torch.equal(net.fc.gain[:5], torch.ones(5))
    assert not set(structure.unit_constants()) & set(manager.protect.frozen)
    kept = structure._norms.tasks
    assert not torch.equal(kept[0]["fc.gain"][:5], kept[1]["fc.gain"][:5])
    assert not torch.equal(kept[0]["deep.bias"][:4], kept[1]["deep.bias"][:4])


def test_the_view_reads_what_was_stored_whatever_the_layers_hold_now():
    net, structure, *_ = taught(2)
    before, now = answers(structure, 0), net(X)
    with torch.no_grad():
        for name in structure.unit_constants():
            net.get_parameter(name).add_(torch.rand(1))
    assert torch.equal(answers(structure, 0), before)
    assert not torch.equal(net(X), now)
    with structure.view(0), structure.view(1):
        assert torch.equal(net(X), before)


def test_what_is_extracted_is_plain_and_computes_the_same():
    net, structure, *_ = taught(3)
    for task in range(3):
        plain = structure.extract(task).eval()
        assert type(plain.fc) is nn.Linear
        assert type(plain.deep) is nn.Conv2d
        assert not any("gain" in name for name, _ in plain.named_parameters())
        torch.testing.assert_close(plain(X, task), answers(structure, task), rtol=1e-5, atol=1e-6)
    whole = structure.extract(2).eval()
    assert torch.equal(whole(X, 2), answers(structure, 2))
    folded = gm.fold_gains(copy.deepcopy(net))
    assert torch.equal(folded(X), net(X))


def test_edits_are_followed_and_the_penalty_leaves_them_alone():
    net, structure, _optimizer, manager, _ = taught(2)
    assert not set(structure.unit_constants()) & set(manager.mas.omega)
    assert "fc.weight" in manager.mas.omega
    before = answers(structure, 0)
    edit = structure.apply(
        gm.Plan(grow={"fc": 3, "deep": 1}), followers=manager.followers, init="paired"
    )
    assert edit.born["fc"]
    assert len(net.fc.gain) == len(net.fc.weight) == 10
    torch.testing.assert_close(answers(structure, 0), before, rtol=1e-5, atol=1e-6)
    structure.apply(gm.Plan(prune={"fc": list(edit.born["fc"])}), followers=manager.followers)
    torch.testing.assert_close(answers(structure, 0), before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("gathered", [False, True])
def test_reconstruction_repairs_whatever_the_gains_are(gathered):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 2))
    x = torch.randn(64, 6)
    with torch.no_grad():  # unit 1 is twice unit 0, so that it can be replaced exactly
        net[0].weight[1], net[0].bias[1] = 2 * net[0].weight[0], 2 * net[0].bias[0]
    assert gm.add_gains(net, x) == ("0", "2")
    with torch.no_grad():
        net[2].gain.copy_(torch.rand(5) + 0.5)
    structure, before = gm.Structure(net, x), net(x)
    statistics = gm.ActivationStatistics(structure)
    statistics.update([x])
    structure.apply(gm.Plan(prune={"0": [1]}), reconstruct=statistics if gathered else [x])
    torch.testing.assert_close(net(x), before, rtol=1e-2, atol=5e-3)  # the ridge is left


def test_importance_is_that_of_a_loop_over_samples():
    torch.manual_seed(0)
    net = Net().eval()
    gm.add_gains(net, X, forward=every_head)
    with torch.no_grad():
        net.fc.gain.copy_(torch.rand(5) + 0.5)
    found = mas_importance(net, [X])
    for name in ("fc.gain", "fc.weight", "deep.gain", "deep.bias"):
        parameter, total = net.get_parameter(name), 0
        for x in X:
            (g,) = torch.autograd.grad(net(x[None]).square().sum(), parameter)
            total = total + g.abs() / len(X)
        torch.testing.assert_close(found[name], total, rtol=1e-4, atol=1e-6)


def test_saved_loaded_and_resumed(tmp_path):
    net, structure, optimizer, manager, _ = taught(2, protect="old")
    manager.begin_task("2")
    learn(net, optimizer, manager, 2, steps=2)
    gm.save(tmp_path / "c", structure=structure, optimizer=optimizer, manager=manager)
    torch.manual_seed(1)
    fresh = Net()
    gm.add_gains(fresh, X, forward=every_head)
    other = torch.optim.AdamW(fresh.parameters(), 0.02)
    restored, mas = gm.load(
        tmp_path / "c", model=fresh, example_inputs=X, optimizer=other, forward=every_head
    )
    again = gm.StructuralManager(
        restored, mas=mas, optimizer=other, grow=gm.GrowPolicy(2), protect="old",
        per_task=("gains", "biases"),
    )  # fmt: skip
    gm.load_manager(tmp_path / "c", again)
    for model, opt, of in ((net, optimizer, manager), (fresh, other, again)):
        model.train()
        learn(model, opt, of, 2)
        model.eval()
    for task in range(3):
        assert torch.equal(answers(structure, task), answers(restored, task))
    with pytest.raises(GrowmasError, match="'deep' was saved as GainConv2d and is Conv2d"):
        gm.load(tmp_path / "c", model=Net(), example_inputs=X, forward=every_head)


def gpt2():
    config = pytest.importorskip("transformers").GPT2Config(
        vocab_size=20, n_positions=8, n_embd=8, n_layer=1, n_head=2, n_inner=12,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    return pytest.importorskip("transformers").GPT2LMHeadModel(config).eval()


IDS = {"input_ids": torch.arange(24).reshape(4, 6) % 20}


def test_layers_of_transformers_with_a_transposed_weight_get_gains():
    net = gpt2()
    plain, before = copy.deepcopy(net), net(**IDS).logits
    names = gm.add_gains(net, IDS)
    assert names == ("transformer.h.0.attn.c_attn", "transformer.h.0.mlp.c_fc")
    torch.testing.assert_close(net(**IDS).logits, before, rtol=1e-5, atol=1e-6)
    layer = net.transformer.h[0].mlp.c_fc
    with torch.no_grad():
        layer.gain.copy_(torch.rand(12) + 0.5)
    before = net(**IDS).logits
    structure = gm.Structure(net, IDS)
    structure.apply(gm.Plan(grow={"transformer.h.0.mlp.c_fc": 2, "transformer.h.0.attn.heads": 1}))
    torch.testing.assert_close(net(**IDS).logits, before, rtol=1e-4, atol=1e-6)
    assert len(layer.gain) == layer.weight.shape[1] == 14
    found = mas_importance(net, [IDS])["transformer.h.0.mlp.c_fc.gain"]
    assert found.abs().sum() > 0
    folded = gm.fold_gains(copy.deepcopy(net))
    assert type(folded.transformer.h[0].mlp.c_fc) is type(plain.transformer.h[0].mlp.c_fc)
    torch.testing.assert_close(folded(**IDS).logits, net(**IDS).logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: gm.add_gains(Net(), X, forward=every_head, layers=["norm"]), "is a BatchNorm2d"),
        (lambda: gm.add_gains(Net(), X, forward=every_head, layers=["fx"]), "'fx' does not exist"),
        (lambda: gm.add_gains(nn.LSTM(3, 4), torch.rand(2, 3)), "no layer can have gains"),
        (lambda: managed_with("gain"), "per_task='gain': expected 'gains', 'biases' or both"),
        (lambda: managed_with("gains"), "have no gains; call growmas.add_gains"),
    ],
)
def test_misuse_is_one_message(wrong, message):
    with pytest.raises(GrowmasError, match=message):
        wrong()


def managed_with(per_task):
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    structure = gm.Structure(net, torch.rand(2, 3))
    return gm.StructuralManager(structure, mas=gm.MAS(net), per_task=per_task)


def test_a_head_that_grew_gives_the_classes_of_one_task():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.rand(5, 3)
    structure = gm.Structure(net, x)
    for task in ("a", "b", "c", "d"):
        structure.begin_task(task)
        if task in "bd":
            structure.grow_head("2", 3, init="uniform")
    whole = net(x)
    parts = {"a": (0, 2), "b": (2, 5), "c": (0, 5), "d": (5, 8)}
    for task, (first, last) in parts.items():
        with structure.view(task, own_classes=True):
            torch.testing.assert_close(net(x), whole[:, first:last])
    assert net(x).shape == (5, 8)
