"""The version of growmas that is installed."""

from importlib import metadata

from growmas import __version__


def version() -> str:
    """As its installer knows it, or as the sources say where it is not installed."""
    try:
        return metadata.version("growmas")
    except metadata.PackageNotFoundError:
        return __version__
