"""Keys and values of a config, as messages print them."""

import json
from collections import Counter
from collections.abc import Sequence

KeyPath = tuple[str | int, ...]


def dotted(path: KeyPath) -> str:
    """Return a path as overrides write it.

    >>> dotted(("model", "hidden", 0))
    'model.hidden.0'
    """
    return ".".join(map(str, path))


def show(value: object) -> str:
    """Return a value as a file writes it, cut to 60 characters.

    >>> show({"units": None})
    '{"units": null}'
    """
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:59]}…"


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Return key -> its last part, or all of it where another key ends in the same part.

    >>> short_keys(["method.strength", "stream.kind", "model.kind"])
    {'method.strength': 'strength', 'stream.kind': 'stream.kind', 'model.kind': 'model.kind'}
    """
    lasts = Counter(key.rpartition(".")[2] for key in keys)
    return {key: last if lasts[last := key.rpartition(".")[2]] == 1 else key for key in keys}


def listed(words: Sequence[str]) -> str:
    """Return words as a sentence lists alternatives.

    >>> listed(["mlp", "convnet", "vit"])
    'mlp, convnet or vit'
    """
    return " or ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
