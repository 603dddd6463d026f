"""Wrappers of data-parallel training: taken off for an edit, and put on again."""

import inspect
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from growmas.errors import SurgeryError
from growmas.structure.analysis.wrappers import unwrap_model


def unwrap(model: nn.Module) -> nn.Module:
    """Return the network inside of a wrapper: DistributedDataParallel, or what has `module`.

    Raises:
        SurgeryError: It is sharded (FSDP, tensor parallel, DeepSpeed), or not a module; says what
            to do.
    """
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    return unwrap_model(inner)


def rewrap(wrapped: DistributedDataParallel) -> DistributedDataParallel:
    """Return a new wrapper of the same network with the same settings; a collective call.

    The old one averages gradients of parameters that no longer exist; do not use it again.

    Args:
        wrapped: The wrapper that was there before the edit.

    Raises:
        SurgeryError: It is not a DistributedDataParallel.
    """
    if not isinstance(wrapped, DistributedDataParallel):
        raise SurgeryError(
            f"expected the DistributedDataParallel that was there before the edit, got a "
            f"{type(wrapped).__name__}; put other wrappers on again as you did first"
        )
    wrapped._remove_autograd_hooks()  # type: ignore[no-untyped-call]  # parameters that stayed would be reduced twice
    known = inspect.signature(DistributedDataParallel.__init__).parameters
    settings: dict[str, Any] = {
        name: getattr(wrapped, name)
        for name, parameter in known.items()
        if isinstance(parameter.default, bool)
        and getattr(wrapped, name, parameter.default) != parameter.default
    }
    if "forward_sync_buffers" in known:  # the later name of broadcast_buffers
        settings.pop("broadcast_buffers", None)
        settings["forward_sync_buffers"] = wrapped.forward_sync_buffers
    return DistributedDataParallel(
        wrapped.module,
        device_ids=wrapped.device_ids,
        output_device=wrapped.output_device,
        process_group=wrapped.process_group,
        **settings,
    )
