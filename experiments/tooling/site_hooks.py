"""Hooks of mkdocs: API pages from docstrings, and links that leave the folder of the guides.

A page for each package of the public face is made from `growmas/__init__.pyi`. Links to files of
the repository outside docs/ become links into the repository if mkdocs.yml has a `repo_url`, and
plain text otherwise, since a site has no such files.
"""

import ast
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
_OUTSIDE = re.compile(r"\[([^\]]*)\]\((\.\./[^)]+)\)")


def public_names() -> dict[str, list[str]]:
    """Return package -> names of the public face, as `growmas/__init__.pyi` imports them."""
    tree = ast.parse((ROOT / "growmas/__init__.pyi").read_text(encoding="utf-8"))
    found: dict[str, list[str]] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            package = ".".join(node.module.split(".")[:2])
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found.setdefault(package, []).extend(names)
    return found


def on_files(files: Any, config: Any) -> Any:
    """Add a page for each package, and one that lists them."""
    packages = public_names()
    lines = ["# API", "", "The public names, by the package that defines them.", ""]
    for package, names in packages.items():
        short = package.rpartition(".")[2]
        shown = ", ".join(f"`{name.rpartition('.')[2]}`" for name in names)
        lines.append(f"- [{package}]({short}.md): {shown}")
        body = [f"# {package}", ""]
        body += [f"::: {name}\n" for name in names]
        files.append(_page(config, f"api/{short}.md", "\n".join(body)))
    files.append(_page(config, "api/index.md", "\n".join(lines) + "\n"))
    return files


def _page(config: Any, path: str, text: str) -> File:
    page = File.generated(config, path, content=text)
    page.inclusion = page.inclusion.__class__.NOT_IN_NAV  # listed by the index
    return page


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Lead links to files outside docs/ into the repository, or drop the link."""
    if page.file.src_uri.startswith("api/"):
        return markdown

    def led(match: re.Match[str]) -> str:
        words, target = match[1], match[2].removeprefix("../")
        if config.repo_url:
            return f"[{words}]({config.repo_url.rstrip('/')}/blob/HEAD/{target})"
        return words if f"`{target}`" in words or target in words else f"{words} (`{target}`)"

    return _OUTSIDE.sub(led, markdown)
