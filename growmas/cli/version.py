"""The installed version of growmas."""

from importlib import metadata

from growmas import __version__


def version() -> str:
    """Return the version of the installed package, or of the sources."""
    try:
        return metadata.version("growmas")
    except metadata.PackageNotFoundError:
        return __version__
