"""The study of a small language model: what its learners keep, average and summarise."""

import copy
import importlib
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")
FOLDER = Path(__file__).parents[2] / "experiments" / "language"


@pytest.fixture(scope="module")
def parts():
    sys.path.insert(0, str(FOLDER))
    try:
        yield {name: importlib.import_module(name) for name in ("learners", "growing", "domains")}
    finally:
        sys.path.remove(str(FOLDER))
        for name in ("learners", "growing", "domains"):  # other studies have modules of these names
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def terms(parts):
    return parts["learners"].Terms(parts["domains"].domains(), 1e-3, 2, 2, 0)


@pytest.fixture
def small(parts):
    return parts["learners"].Size(16, 16, 2)


def taught(learner, places=2):
    for place in range(places):
        learner.learn(place)
    return learner


def test_an_average_lies_between_the_weights_before_and_after(parts, terms, small, monkeypatch):
    plain, averaged = (parts["learners"].Learner(small, terms, average=a) for a in (False, True))
    monkeypatch.setattr(parts["learners"], "SHARES", (0.25,))
    before = {name: p.detach().clone() for name, p in plain.net.named_parameters()}
    taught(plain)
    assert taught(averaged).choice == "shares: 0.25"
    for name, p in averaged.net.named_parameters():
        after = plain.net.get_parameter(name)
        torch.testing.assert_close(p, before[name] + 0.25 * (after - before[name]))
    assert not torch.equal(plain.net.lm_head.weight, averaged.net.lm_head.weight)


def test_the_share_is_the_best_on_held_out_windows_of_all_domains_so_far(
    parts, terms, small, monkeypatch
):
    before = taught(parts["learners"].Learner(small, terms, average=True))
    shares, found = parts["learners"].SHARES, []
    for share in shares:
        other = copy.deepcopy(before)
        monkeypatch.setattr(parts["learners"], "SHARES", (share,))
        other.learn(2)
        found.append(sum(other.nats(i, each.validation) for i, each in enumerate(terms.domains)))
    monkeypatch.setattr(parts["learners"], "SHARES", shares)
    before.learn(2)
    best = shares[found.index(min(found))]
    assert before.choice.startswith("shares: ")
    assert before.choice.endswith(f", {best:g}")
    assert len(set(found)) == len(shares)


def test_an_averaged_network_that_grows_keeps_windows_to_learn_on(parts, terms, small):
    grown = taught(parts["growing"].Growing(small, terms, protect="average", grow=4, heads=0), 3)
    units = {name: group.width for name, group in grown.structure.groups.items() if ".mlp" in name}
    assert units
    assert set(units.values()) == {16 + 2 * 4}
    network = sum(p.numel() for p in grown.net.parameters())
    assert grown.to_answer == network + grown.structure.kept_for_views > network
    assert grown.numbers - grown.to_answer == 2 * 192 * 65


@pytest.mark.parametrize("own", [True, False])
def test_newborns_and_what_is_a_domains_own_are_not_averaged(parts, terms, small, monkeypatch, own):
    grown = parts["growing"].Growing(small, terms, protect="average", grow=4, heads=0, own=own)
    monkeypatch.setattr(parts["learners"], "SHARES", (0.0,))
    grown.learn(0)
    before = {name: p.detach().clone() for name, p in grown.net.named_parameters()}
    grown.learn(1)

    def moved(name):
        old = tuple(slice(size) for size in before[name].shape)
        return not torch.equal(grown.net.get_parameter(name)[old], before[name])

    for name in ("wte.weight", "h.0.attn.c_attn.weight", "h.1.mlp.c_fc.weight"):
        assert not moved(f"transformer.{name}")
    assert moved("transformer.h.0.ln_1.weight") is own
    name = "transformer.h.1.mlp.c_proj.weight"
    born = grown.net.get_parameter(name)[before[name].shape[0] :]
    assert len(born) == 4
    assert born.abs().min() > 0  # they begin at 0, and keep what they learn


def test_a_penalty_counts_omega_and_anchors_among_what_is_kept(parts, terms, small):
    def kept(omega):
        make = parts["growing"].Growing
        grown = make(small, terms, protect="penalty", grow=0, scales=(1.0,), omega=omega)
        taught(grown)
        entries = sum(each.numel() for each in grown.mas.omega.values())
        anchors = sum(each.numel() for each in grown.mas.anchor.values())
        return grown, grown.numbers - grown.to_answer - anchors, entries

    _, rest, entries = kept("entries")
    _, none, _ = kept("none")
    assert rest - none == entries
    grown, factored, _ = kept("factored")
    shapes = [each.shape for each in grown.mas.omega.values()]
    assert factored - none == sum(sum(s) if len(s) > 1 else s.numel() for s in shapes)


def test_a_factored_omega_has_the_same_sums(parts):
    omega = torch.rand(5, 7, dtype=torch.float64)
    kept = parts["growing"].summary(omega, "factored")
    torch.testing.assert_close(kept.sum(0), omega.sum(0))
    torch.testing.assert_close(kept.sum(1), omega.sum(1))
    assert torch.linalg.matrix_rank(kept) == 1
    assert torch.equal(parts["growing"].summary(omega, "none"), torch.ones_like(omega))
