"""Recurrent layers as readers, against a slow twin that steps through every sample."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

import growmas as gm
from growmas.errors import SurgeryError
from growmas.structure.reconstruction.recurrence import gate_inputs

KINDS = {"RNN": nn.RNN, "GRU": nn.GRU, "LSTM": nn.LSTM}


def data(*shape, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def step(layer, end, x, h, c):
    """Return the next hidden state and cell of one sample: the equations of PyTorch's pages."""
    one = {name: getattr(layer, f"{name}{end}") for name in ("weight_ih", "weight_hh")}
    a, b = one["weight_ih"] @ x, one["weight_hh"] @ h
    if layer.bias:
        a, b = a + getattr(layer, f"bias_ih{end}"), b + getattr(layer, f"bias_hh{end}")
    if isinstance(layer, nn.GRU):
        (ar, az, an), (br, bz, bn) = a.chunk(3), b.chunk(3)
        z = (az + bz).sigmoid()
        return (1 - z) * (an + (ar + br).sigmoid() * bn).tanh() + z * h, c
    if isinstance(layer, nn.LSTM):
        i, f, g, o = (a + b).chunk(4)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        return (getattr(layer, f"weight_hr{end}") @ h if layer.proj_size else h), c
    return (a + b).tanh(), c


def slow(layer, sequence, h0, c0):
    """Return what each weight reads of one sample: name -> [steps, F]; states are [L · D, H]."""
    ways, found = 2 if layer.bidirectional else 1, {}
    for depth in range(layer.num_layers):
        outputs = []
        for way, suffix in enumerate(("", "_reverse")[:ways]):
            end, row = f"_l{depth}{suffix}", depth * ways + way
            h, c, read, given = h0[row], c0[row], [], []
            for x in reversed(sequence) if way else sequence:
                read.append(h)
                h, c = step(layer, end, x, h, c)
                given.append(h)
            turn = -1 if way else 1
            found[f"weight_ih{end}"] = torch.stack(list(sequence))
            found[f"weight_hh{end}"] = torch.stack(read[::turn])
            outputs.append(torch.stack(given[::turn]))
        sequence = torch.cat(outputs, -1)
    return found


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("RNN", {}),
        ("GRU", {"num_layers": 2, "batch_first": True}),
        ("LSTM", {"num_layers": 2, "bidirectional": True}),
        ("LSTM", {"proj_size": 2, "bidirectional": True, "bias": False}),
    ],
)
@torch.no_grad()
def test_the_gates_read_what_a_loop_over_samples_says(kind, options, packed):
    torch.manual_seed(0)
    layer = KINDS[kind](3, 4, **options).double().eval()
    rows = layer.num_layers * (2 if layer.bidirectional else 1)
    h0, c0 = data(rows, 3, layer.proj_size or 4), data(rows, 3, 4, seed=2)
    lengths = (2, 4, 1) if packed else (4, 4, 4)
    samples = [data(length, 3, seed=length + i) for i, length in enumerate(lengths)]
    x = torch.stack(samples, 0 if layer.batch_first else 1) if not packed else None
    x = pack_sequence(samples, enforce_sorted=False) if packed else x
    states = (h0, c0) if kind == "LSTM" else h0
    found = dict(gate_inputs(layer, (x,), {"hx": states}))
    order = x.sorted_indices.tolist() if packed else range(3)
    for i, sample in enumerate(samples):
        for name, wanted in slow(layer, sample, h0[:, i], c0[:, i]).items():
            at, mine = 0, []
            for time in range(max(lengths)):
                alive = [n for n in order if lengths[n] > time]
                if i in alive:
                    mine.append(found[name][at + alive.index(i)])
                at += len(alive)
            torch.testing.assert_close(torch.stack(mine), wanted, msg=f"{name} of sample {i}")


class Recurrent(nn.Module):
    """A layer, a recurrent layer, and a layer that reads its last hidden state."""

    def __init__(self, kind=nn.LSTM, **options):
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.rnn = kind(8, 6, batch_first=True, **options)
        self.head = nn.Linear(self.rnn(torch.zeros(1, 1, 8))[0].shape[-1], 3)

    def forward(self, x):
        return self.head(self.rnn(self.first(x).relu())[0][:, -1])


def copied(net):
    """Make unit 5 of `first` twice unit 2, and hidden unit 4 the same as unit 1."""
    with torch.no_grad():
        net.first.weight[5], net.first.bias[5] = 2 * net.first.weight[2], 2 * net.first.bias[2]
        for parameter in net.rnn.parameters():
            gates = parameter.view(-1, net.rnn.hidden_size, *parameter.shape[1:])
            gates[:, 4] = gates[:, 1]
    return net


def built(kind, **options):
    torch.manual_seed(0)
    return copied(Recurrent(KINDS[kind], **options).double().eval())


@pytest.mark.parametrize("how", ["batches", "statistics"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("RNN", {}),
        ("GRU", {}),
        ("LSTM", {"bias": False}),
        ("LSTM", {"num_layers": 2, "bidirectional": True}),
    ],
)
def test_units_that_repeat_others_are_chosen_and_made_up_for(kind, options, how):
    net = built(kind, **options)
    x = data(200, 5, 4)
    before = net(x).detach()
    structure = gm.Structure(net, x[:2])
    source = list(x.split(50))
    if how == "statistics":
        source = gm.ActivationStatistics(structure)
        source.update(x.split(50))
    wanted = {"first": {2, 5}, **({} if options.get("num_layers") else {"rnn": {1, 4}})}
    plan = structure.select(source, widths={"first": 7, "rnn": 5})
    assert all(set(plan.prune[name]) < units for name, units in wanted.items())
    plain = copy.deepcopy(net)
    structure.apply(plan, reconstruct=source)
    gm.Structure(plain, x[:2]).apply(gm.Plan(prune=plan.prune))
    spread = before.var()
    lost, cut = ((other(x) - before).square().mean() / spread for other in (net, plain))
    assert lost < (1e-2 if options.get("num_layers") else 1e-6) < cut


def test_layers_above_the_first_are_refitted_by_the_names_of_their_weights():
    net = built("GRU", num_layers=2)
    x = data(100, 5, 4)
    structure = gm.Structure(net, x[:2])
    edit = structure.apply(gm.Plan(prune={"rnn": [1]}), reconstruct=[x])
    assert {"rnn.weight_ih_l1", "rnn.weight_hh_l0", "rnn.bias_hh_l1"} <= edit.corrections.keys()
    predicted = structure.select([x], groups=["rnn"], ratio=0.4).cause["predicted_error"]["rnn"]
    assert predicted.keys() == {
        "rnn.weight_hh_l0", "rnn.weight_ih_l1", "rnn.weight_hh_l1", "head"
    }  # fmt: skip


class Stepwise(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.cell, self.head = nn.Linear(4, 8), nn.GRUCell(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.cell(self.first(x).relu()))


def test_a_cell_reads_units_too():
    torch.manual_seed(0)
    net = Stepwise().double()
    with torch.no_grad():
        net.first.weight[5], net.first.bias[5] = net.first.weight[2], net.first.bias[2]
    x = data(1000, 4)
    before = net(x).detach()
    structure = gm.Structure(net, x[:2])
    plan = structure.select([x], widths={"first": 7})
    structure.apply(plan, reconstruct=[x])
    assert set(plan.prune["first"]) < {2, 5}
    torch.testing.assert_close(net(x), before, rtol=0, atol=1e-3)


class Own(nn.LSTM):
    def forward(self, x, hx=None):
        return super().forward(x * 2, hx)


def test_a_layer_that_computes_otherwise_is_refused_by_name():
    torch.manual_seed(0)
    net = Recurrent(Own)
    x = data(20, 5, 4).float()
    structure = gm.Structure(net, x[:2])
    with pytest.raises(SurgeryError, match=r"'rnn.weight_ih_l0' \(a Own is not"):
        structure.apply(gm.Plan(prune={"first": [1]}), reconstruct=[x])
