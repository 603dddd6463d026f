import pytest
import torch
from torch import nn

import growmas as gm
from growmas.errors import PenaltyError


def convnet():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )


def measured(net, x):
    return gm.Structure(net, x), gm.mas_importance(net, [x])


NET, X = convnet(), torch.rand(16, 1, 6, 6, generator=torch.Generator().manual_seed(1))
STRUCTURE, OMEGA = measured(NET, X)

SCORES = {
    "penalty": lambda omega, theta: omega * theta**2,
    "sum": lambda omega, theta: omega,
    "taylor": lambda omega, theta: omega * (theta - theta.mean(0)).abs(),
}


def by_hand(criterion, which):
    """Each unit's weights written out: rows of "0" and "1", 16 columns of "4"."""
    score = SCORES[criterion]
    columns = {"4.weight": lambda t: t.reshape(3, 4, 16).transpose(0, 1)}
    rows = {name: lambda t: t for name in ("0.weight", "0.bias", "1.weight", "1.bias")}
    chosen = {"out": columns, "in": rows, "both": {**columns, **rows}}[which]
    total = torch.zeros(4)
    for name, by_unit in chosen.items():
        theta = by_unit(NET.get_parameter(name).detach())
        total += score(by_unit(OMEGA[name]), theta).reshape(4, -1).sum(1)
    return total


@pytest.mark.parametrize("which", ["out", "in", "both"])
@pytest.mark.parametrize("criterion", SCORES)
def test_sums_over_the_units_own_weights(criterion, which):
    found = STRUCTURE.saliency(OMEGA, criterion=criterion, which=which)["0"]
    torch.testing.assert_close(found, by_hand(criterion, which))


def test_penalty_is_what_mas_charges_for_silencing_the_unit():
    net = convnet()
    structure, mas = gm.Structure(net, X), gm.MAS(net)
    mas.consolidate([X])
    expected = structure.saliency(mas.omega)["0"][2]
    with torch.no_grad():
        net[4].weight[:, 32:48] = 0
    torch.testing.assert_close(mas.penalty().detach(), expected)


def mlp_saliencies(**options):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    return gm.Structure(net, torch.zeros(2, 3)).saliency(
        gm.mas_importance(net, [torch.rand(9, 3)]), **options
    )


@pytest.mark.parametrize("across", [False, True])
def test_normalisation_keeps_the_order_and_sets_the_scale(across):
    plain = mlp_saliencies()
    for normalize, scale in (("mean", torch.mean), ("max", torch.max), ("rank", torch.max)):
        found = mlp_saliencies(normalize=normalize, across=across)
        for name in plain:
            assert found[name].argsort().tolist() == plain[name].argsort().tolist()
        pools = [torch.cat(list(found.values()))] if across else found.values()
        for pool in pools:
            torch.testing.assert_close(scale(pool), torch.tensor(1.0))


def test_ranks_across_groups_order_all_units():
    plain = torch.cat(list(mlp_saliencies().values()))
    ranks = torch.cat(list(mlp_saliencies(normalize="rank", across=True).values()))
    assert ranks.argsort().tolist() == plain.argsort().tolist()


def test_ties_share_a_rank_and_zeros_stay_zeros():
    zeros = {name: torch.zeros_like(value) for name, value in OMEGA.items()}
    rank = STRUCTURE.saliency(zeros, normalize="rank")["0"]
    assert rank.tolist() == [0.625] * 4
    assert STRUCTURE.saliency(zeros, normalize="mean")["0"].tolist() == [0.0] * 4


@pytest.mark.parametrize("key", ["criterion", "which", "normalize"])
def test_unknown_words_are_refused_with_those_known(key):
    with pytest.raises(PenaltyError, match=rf"{key}='no' is not known: give one of .*'"):
        STRUCTURE.saliency(OMEGA, **{key: "no"})


def test_importance_that_does_not_fit_is_refused():
    with pytest.raises(PenaltyError, match=r"omega has no entry for the weights of '0' in 4"):
        STRUCTURE.saliency({"0.weight": OMEGA["0.weight"]})
    with pytest.raises(PenaltyError, match=r"'4.weight' has shape \(2, 64\), the parameter \(3,"):
        STRUCTURE.saliency({"4.weight": OMEGA["4.weight"][:2]})


@pytest.mark.parametrize("call", [STRUCTURE.saliency, STRUCTURE.consumers])
def test_importance_that_is_not_given_by_parameter_name_is_refused_in_words(call):
    with pytest.raises(PenaltyError, match="omega is a Tensor: expected importance by parameter"):
        call(torch.ones(4))
    with pytest.raises(PenaltyError, match=r"omega is a MAS: .* such as mas.omega"):
        call(gm.MAS(STRUCTURE.model))
