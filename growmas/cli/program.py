"""The command line as a program: its errors, warnings and interruptions."""

import io
import sys
import warnings
from typing import TextIO

import growmas.cli.run_commands
import growmas.cli.view_commands  # noqa: F401 (both register their commands)
from growmas.cli.app import app
from growmas.errors import GrowmasError
from growmas.visible import visible

_NO_MEMORY = "memory ran out: use smaller widths or batches, or a machine with more memory"
_ALLOCATION = ("can't allocate memory", "out of memory", "DefaultCPUAllocator")
_INTERRUPTED = 130  # 128 and the number of SIGINT, as shells have it


def main() -> None:
    """Run the command line; a user's mistake is one message and exit code 2."""
    warnings.showwarning = _show_warning
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files need not be text
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except GrowmasError as error:
        _fail(str(error))
    except SystemExit as end:
        reason = getattr(end, "reason", "")
        if reason and isinstance(end.code, int):
            _fail(f"{reason}; the state is saved: --resume continues", code=end.code)
        if end.code == _INTERRUPTED:  # typer has caught it, and prints nothing
            _fail("interrupted; everything reported as done is on disk", code=_INTERRUPTED)
        raise
    except KeyboardInterrupt:
        _fail("interrupted; everything reported as done is on disk", code=_INTERRUPTED)
    except BrokenPipeError:  # the reader of a pipe, such as head, has closed it
        sys.stderr.close()
        raise SystemExit(0) from None
    except MemoryError:
        _fail(_NO_MEMORY)
    except RuntimeError as error:
        if not any(words in str(error) for words in _ALLOCATION):
            raise
        _fail(f"{_NO_MEMORY} ({str(error).splitlines()[0]})")
    except OSError as error:
        _fail(f"{error.strerror or error}: {error.filename or 'the output is not complete'}")


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning of growmas, or of a library, as one line."""
    from rich.console import Console  # not at the top: printing help does not need it

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"warning: {visible(str(message))}", markup=False)


def _fail(message: str, *, code: int = 2) -> None:
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(
        f"error: {visible(message)}", markup=False, style="bold red" if console.is_terminal else ""
    )
    raise SystemExit(code)
