"""The penalty beside optimizers with groups, and in the Trainer of transformers."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import growmas as gm

Optimizer = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]

OPTIMIZERS: dict[str, Optimizer] = {
    "SGD": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
    "Adam": lambda groups: torch.optim.Adam(groups, lr=0.01),
    "AdamW": lambda groups: torch.optim.AdamW(groups, lr=0.01, weight_decay=0.1),
}


def consolidated() -> tuple[nn.Sequential, gm.MAS, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    data = torch.randn(16, 4).double()
    mas = gm.MAS(model, strength=0.3)
    mas.consolidate([data])
    return model, mas, data


def groups_of(model: nn.Sequential) -> list[dict[str, Any]]:
    """Two groups; the second learns ten times as fast, the bias of the first not at all."""
    return [
        {"params": [model[0].weight], "lr": 0.01},
        {"params": [model[0].bias], "lr": 0.0},
        {"params": list(model[2].parameters()), "lr": 0.1},
    ]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_groups_with_rates_of_their_own_step_as_with_the_penalty_in_the_loss(name: str) -> None:
    found = []
    for in_place in (False, True):
        model, mas, data = consolidated()
        optimizer = OPTIMIZERS[name](groups_of(model))
        labels = torch.randint(3, (16,))
        for _ in range(5):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(data), labels)
            (loss if in_place else loss + mas.penalty()).backward()
            if in_place:
                mas.penalty_grad_()
            optimizer.step()
        found.append({n: p.detach() for n, p in model.named_parameters()})
    for parameter, value in found[0].items():
        torch.testing.assert_close(found[1][parameter], value)
    assert torch.equal(found[1]["0.bias"], consolidated()[0][0].bias)


def test_the_pull_toward_the_anchor_is_in_proportion_to_the_rate_of_the_group() -> None:
    model, mas, _ = consolidated()
    optimizer = torch.optim.SGD(groups_of(model))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    before = copy.deepcopy(dict(model.named_parameters()))
    optimizer.zero_grad()
    mas.penalty_grad_()
    optimizer.step()
    rates = {"0.weight": 0.01, "0.bias": 0.0, "2.weight": 0.1, "2.bias": 0.1}
    for name, parameter in model.named_parameters():
        pull = rates[name] * 2 * 0.3 * mas.omega[name]
        torch.testing.assert_close(parameter.detach(), before[name].detach() - pull)


class Classifier(nn.Module):
    """A network as the Trainer of transformers calls it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.net(x)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


def examples() -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        {
            "x": torch.randn(4, generator=generator).double(),
            "labels": torch.randint(3, (), generator=generator),
        }
        for _ in range(12)
    ]


def by_a_loop(clip: float) -> dict[str, Tensor]:
    """Three steps of two micro-batches of two."""
    model, mas, _ = consolidated()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pairs: Iterator[list[dict[str, Tensor]]] = (examples()[i : i + 2] for i in range(0, 12, 2))
    for number, pair in enumerate(pairs):
        x, labels = (torch.stack([one[key] for one in pair]) for key in ("x", "labels"))
        (F.cross_entropy(model(x), labels) / 2).backward()
        if number % 2:
            mas.penalty_grad_()
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()
    return {name: p.detach() for name, p in model.named_parameters()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("way", "clip"), [("subclass", 0.0), ("subclass", 0.5), ("callback", 0.0)])
def test_the_lines_for_the_trainer_count_once_a_step(
    way: str, clip: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("accelerate")
    transformers = pytest.importorskip("transformers")
    monkeypatch.setenv("WANDB_DISABLED", "true")
    model, mas, _ = consolidated()

    class Protected(transformers.Trainer):
        def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
            loss: Tensor = super().training_step(*args, **kwargs)
            if self.accelerator.sync_gradients:
                mas.penalty_grad_()
            return loss

        def _get_train_sampler(self, *args: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    class Unprotected(Protected):
        training_step = transformers.Trainer.training_step

    class Penalty(transformers.TrainerCallback):
        def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
            mas.penalty_grad_()

    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), per_device_train_batch_size=2, gradient_accumulation_steps=2,
        num_train_epochs=1, max_grad_norm=clip, report_to=[], save_strategy="no", use_cpu=True,
        lr_scheduler_type="constant", disable_tqdm=True,
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = (Protected if way == "subclass" else Unprotected)(
        model=Classifier(model), args=arguments, train_dataset=examples(),
        optimizers=(optimizer, None), callbacks=[Penalty()] if way == "callback" else [],
    )  # fmt: skip
    trainer.train()
    for name, value in by_a_loop(clip).items():
        torch.testing.assert_close(model.get_parameter(name).detach(), value)
