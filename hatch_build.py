"""The description of the package for indexes: the README, with links that work there."""

import importlib.util
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

ROOT = Path(__file__).parent


class DescriptionHook(MetadataHookInterface):
    """Fills in `readme`, which an index shows away from the files that the README links to."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set `readme`."""
        path = ROOT / "experiments" / "tooling" / "description.py"
        spec = importlib.util.spec_from_file_location("description", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        code = (ROOT / "growmas" / "__init__.py").read_text(encoding="utf-8")
        version = re.search(r'__version__ = "(.+)"', code)[1]
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        text = module.for_index(readme, metadata.get("urls", {}).get("Repository"), version)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
