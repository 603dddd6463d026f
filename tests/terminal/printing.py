from rich.console import Console, RenderableType


def printed(view: RenderableType, width: int) -> str:
    """Return the text that a console of this width shows, without trailing blanks."""
    console = Console(width=width, legacy_windows=False, color_system=None)
    with console.capture() as capture:
        console.print(view)
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())
