"""Edits within a loop of accelerate, and its checkpoints of networks that changed their shape."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from growmas.checkpoint import read_state, write_state
from growmas.distributed import apply as apply_everywhere, is_main, rewrap, unwrap
from growmas.errors import SurgeryError
from growmas.integrations.growth import missing
from growmas.penalty import MAS
from growmas.structure import ActivationStatistics, Initialisation, Plan, Structure
from growmas.structure.initialisation.initialisation import Init

try:
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer
except ImportError as error:
    raise missing("accelerate", "accelerate", error) from error

FOLDER = "growmas"
"""Folder below a state of accelerate that holds structure and penalty."""


def apply(
    accelerator: Accelerator,
    model: nn.Module,
    structure: Structure,
    plan: Plan | None,
    *,
    followers: Iterable[object] = (),
    init: Init | Initialisation = "zero_out",
    reconstruct: Iterable[Any] | ActivationStatistics | None = None,
) -> nn.Module:
    """Carry out the plan of process 0 in every process, and return the model to go on with.

    Args:
        accelerator: That prepared the model.
        model: As `accelerator.prepare` returned it.
        structure: Of `accelerator.unwrap_model(model)`.
        plan: Units to remove and to add; of process 0.
        followers: Optimizers, as `prepare` returned them or not, `MAS` and others.
        init: How fresh units start.
        reconstruct: Batches or statistics from which removed units are reconstructed.

    Raises:
        SurgeryError: The model is not of this structure, or is divided over processes.
        PlanError: The plan does not fit.
    """
    if unwrap(model) is not structure.model:
        raise SurgeryError(
            "the structure is of another network: make it of accelerator.unwrap_model(model)"
        )
    inner = [
        each.optimizer if isinstance(each, AcceleratedOptimizer) else each for each in followers
    ]
    apply_everywhere(structure, plan, followers=inner, init=init, reconstruct=reconstruct)
    if not isinstance(model, DistributedDataParallel):
        return model
    wrapped = rewrap(model)
    accelerator._models = [wrapped if each is model else each for each in accelerator._models]
    return wrapped


def attach(accelerator: Accelerator, structure: Structure, mas: MAS | None = None) -> None:
    """Let `save_state` write structure and penalty, and `load_state` restore the shapes first.

    Call it before the model is loaded. The structure may be of a fresh network.

    Args:
        accelerator: That saves and loads.
        structure: Of the network that it prepared.
        mas: Its penalty, if there is one.
    """

    def save(models: list[nn.Module], weights: list[Any], folder: str) -> None:
        if is_main():
            held = {"structure": structure.state_dict(), "mas": mas.state_dict() if mas else None}
            write_state(Path(folder) / FOLDER, held)

    def load(models: list[nn.Module], folder: str) -> None:
        state = read_state(Path(folder) / FOLDER)
        replaced = structure.load_state_dict(state["structure"])
        for optimizer in accelerator._optimizers:
            for group in optimizer.param_groups:
                group["params"] = [replaced.get(p, p) for p in group["params"]]
        if mas is not None and state["mas"] is not None:
            mas.load_state_dict(state["mas"])

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)
