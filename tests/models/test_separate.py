import pytest
import torch

from growmas.config import ConvNetConfig, MLPConfig
from growmas.experiment import build_model, build_separate

IMAGE = (1, 8, 8)
CONFIGS = {
    "mlp": MLPConfig(kind="mlp", hidden=(6, 5)),
    "convnet": ConvNetConfig(kind="convnet", channels=(3, 4), hidden=(5,)),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_head_is_a_network_that_shares_nothing(kind):
    model = build_separate(CONFIGS[kind], IMAGE, [2, 3], seed=0).eval()
    inputs = torch.rand(4, *IMAGE)
    outputs = model(inputs)
    assert [tuple(output.shape) for output in outputs] == [(4, 2), (4, 3)]
    assert torch.equal(model(inputs, 1), outputs[1])
    model(inputs, 1).sum().backward()
    touched = {name.split(".")[1] for name, p in model.named_parameters() if p.grad is not None}
    assert touched == {"1"}


def test_the_first_is_the_network_that_the_seed_gives_alone():
    config = CONFIGS["mlp"]
    alone = build_model(config, IMAGE, [2], seed=3)
    among = build_separate(config, IMAGE, [2, 3], seed=3).networks[0]
    for ours, theirs in zip(among.parameters(), alone.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_single_one_answers_like_a_model_of_one_head():
    model = build_separate(CONFIGS["mlp"], IMAGE, [2], seed=0)
    assert model(torch.rand(4, *IMAGE)).shape == (4, 2)
