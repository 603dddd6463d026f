import pytest
import torch
from torch import nn

from growmas.config import ConvNetConfig, MLPConfig
from growmas.errors import ConfigError
from growmas.experiment import build_model
from growmas.models import MLP, ConvNet

IMAGE = (1, 8, 8)
CONFIGS = {
    "mlp": MLPConfig(kind="mlp", hidden=(6, 5)),
    "convnet": ConvNetConfig(kind="convnet", channels=(3, 4), hidden=(5,)),
}


def names(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if name and not list(module.children())]


@pytest.fixture(params=CONFIGS)
def config(request):
    return CONFIGS[request.param]


def test_layers_read_from_input_to_output():
    assert names(MLP(IMAGE, [6, 5], [2, 2])) == ["fc1", "fc2", "heads.0", "heads.1"]
    assert names(ConvNet(IMAGE, [3, 4], [5], [10])) == [
        *("conv1", "bn1", "pool1", "conv2", "bn2", "pool2", "fc1", "heads.0")
    ]


def test_every_head_answers_and_agrees_with_itself(config):
    model = build_model(config, IMAGE, [2, 3], seed=0).eval()
    inputs = torch.rand(4, *IMAGE)
    outputs = model(inputs)
    assert [tuple(output.shape) for output in outputs] == [(4, 2), (4, 3)]
    for head, output in enumerate(outputs):
        assert torch.equal(model(inputs, head=head), output)


def test_a_single_head_gives_a_tensor(config):
    model = build_model(config, IMAGE, [10], seed=0).eval()
    inputs = torch.rand(4, *IMAGE)
    assert torch.equal(model(inputs), model(inputs, head=0))


def test_mlp_computes_what_it_says():
    model = MLP(IMAGE, [6, 5], [3])
    twin = nn.Sequential(
        *(nn.Flatten(), model.fc1, nn.ReLU(), model.fc2, nn.ReLU(), model.heads[0])
    )
    inputs = torch.rand(4, *IMAGE)
    assert torch.equal(model(inputs), twin(inputs))


def test_convnet_computes_what_it_says():
    model = ConvNet(IMAGE, [3], 5, [2])
    twin = nn.Sequential(
        *(model.conv1, model.bn1, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(model.fc1, nn.ReLU(), model.heads[0]),
    )
    inputs = torch.rand(4, *IMAGE)
    assert torch.equal(model.eval()(inputs), twin.eval()(inputs))


@pytest.mark.parametrize("image", [(1, 8, 8), (3, 5, 9), (2, 1, 7), (1, 1, 1)])
def test_convnet_stops_pooling_when_maps_are_small(image):
    model = ConvNet(image, [2, 2, 2, 2, 2], 5, [10])
    assert model.eval()(torch.rand(2, *image)).shape == (2, 10)


def test_weights_depend_on_the_seed_alone(config):
    first = build_model(config, IMAGE, [2], seed=3).state_dict()
    torch.rand(5)
    again = build_model(config, IMAGE, [2], seed=3).state_dict()
    other = build_model(config, IMAGE, [2], seed=4).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["fc1.weight"], other["fc1.weight"])


def test_building_leaves_no_trace(config):
    before = torch.get_rng_state()
    build_model(config, IMAGE, [2], seed=3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MLP(IMAGE, [6, 0], [2]), r"hidden must be .* got \[6, 0\]"),
        (lambda: MLP(IMAGE, [6], []), r"head_sizes must be at least 1 .* got \[\]"),
        (lambda: ConvNet(IMAGE, [], 5, [2]), r"channels must be at least 1 .* got \[\]"),
        (lambda: ConvNet(IMAGE, [3], -5, [2]), r"hidden must be .* got \[-5\]"),
    ],
)
def test_impossible_widths_are_named(build, message):
    with pytest.raises(ConfigError, match=message):
        build()
