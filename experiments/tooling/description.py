"""The README as a package index shows it: links and pictures lead to the repository, or away."""

import re

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|mailto:)([^)\s]+)\)")
_CODE = re.compile(r"(```.*?```)", re.DOTALL)


def for_index(readme: str, repository: str | None, version: str) -> str:
    """Return a README whose links and pictures work on a page that is not in the repository.

    Args:
        readme: In Markdown; its own links are relative.
        repository: Address of the public repository, on which files are at ``/blob/vVERSION/`` and
            pictures at ``/raw/vVERSION/``. None where there is none yet: links become their text,
            and pictures are left out, since nothing that they could lead to is public.
        version: Of the package.

    >>> for_index("See [the guide](docs/a.md).", "https://example.org/x", "1.0")
    'See [the guide](https://example.org/x/blob/v1.0/docs/a.md).'
    >>> for_index("See [the guide](docs/a.md), [MAS](https://arxiv.org/abs/1711.09601).", None, "")
    'See the guide, [MAS](https://arxiv.org/abs/1711.09601).'
    """

    def elsewhere(link: re.Match[str]) -> str:
        picture, text, target = link.groups()
        if repository is None:
            return "" if picture else text
        base = repository.rstrip("/")
        place = "raw" if picture else "blob"
        address = f"{base}{target}" if target[0] == "#" else f"{base}/{place}/v{version}/{target}"
        return f"{picture}[{text}]({address})"

    parts = _CODE.split(readme)
    return "".join(part if part[:3] == "```" else _LINK.sub(elsewhere, part) for part in parts)
