"""Names of classes, as messages and registries have them."""


def short_name(kind: type | None) -> str:
    """Return "nn.Linear" for a class of torch, "module.ClassName" for others."""
    if kind is None:
        return ""
    module = kind.__module__
    return (
        f"nn.{kind.__name__}" if module.startswith("torch.nn.") else f"{module}.{kind.__qualname__}"
    )


def qualified_name(kind: type) -> str:
    """Return "module.ClassName", which names a class in the registries without importing it."""
    return f"{kind.__module__}.{kind.__qualname__}"
