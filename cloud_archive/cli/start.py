"""Start a command, and turn its error into a line and an exit status.

Loading typer takes longer than uploading one small file, and scripts may call `watch DIR --once` after each file. So
`watch --once`, with no option but `--json`, starts without typer.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from .. import __version__
from ..errors import CloudArchiveError, SettingsError
from ..terminal import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_USAGE,
    discard_unwritten,
    prepare_streams,
    print_error,
    report_interruption,
)
from ..text import end_sentence, make_printable
from .arguments import WrongUsage

_PLAIN_OPTIONS = frozenset({"--once", "--json"})


def main(arguments: Sequence[str]) -> int:
    """Run a command and return the exit status; `arguments` are without the program's name."""
    plain = plain_watch(arguments)
    if plain is not None:
        return exit_status(plain)
    from .app import main as run_app

    gc.enable()  # `__main__` disabled it
    return run_app(arguments)


def plain_watch(arguments: Sequence[str]) -> Callable[[], int] | None:
    """Return a function that runs this `watch --once` without typer; None: typer must parse the arguments."""
    options = [word for word in arguments[1:] if word.startswith("-")]
    directories = [word for word in arguments[1:] if not word.startswith("-")]
    if (
        list(arguments[:1]) != ["watch"]
        or "--once" not in options
        or not _PLAIN_OPTIONS.issuperset(options)
        or len(directories) > 1
        or "" in directories
    ):
        return None
    directory = Path(directories[0]) if directories else None

    def run() -> int:
        from .watching import run_watch

        return run_watch(directory, once=True, json="--json" in options)

    return run


def exit_status(run: Callable[[], object]) -> int:
    """Run a command, print its error if it fails, and return the exit status."""
    prepare_streams()
    # Without a handler Python would write warnings and tracebacks to standard error. `watch` adds its own handlers.
    logging.getLogger("cloud_archive").addHandler(logging.NullHandler())
    try:
        status = run()
        return status if isinstance(status, int) else EXIT_DONE
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else EXIT_DONE
    except SettingsError as error:
        for sentence in error.sentences:
            print_error(_printable_sentence(sentence))
        return EXIT_USAGE
    except WrongUsage as error:
        print_error(_printable_sentence(str(error)))
        return EXIT_USAGE
    except CloudArchiveError as error:
        print_error(_printable_sentence(str(error)))
    except KeyboardInterrupt:
        return report_interruption()
    except ModuleNotFoundError:
        raise  # __main__ says what to install
    except OSError as error:
        if not _means_closed_pipe(error):
            print_error(_printable_sentence(_describe_os_error(error)))
    except Exception as error:
        print_error(_describe_internal_error(error))
    finally:
        discard_unwritten()
    return EXIT_FAILED


def _means_closed_pipe(error: OSError) -> bool:
    # Windows reports a closed pipe as EINVAL.
    in_windows = os.name == "nt" and error.errno == errno.EINVAL and error.filename is None
    return in_windows or isinstance(error, BrokenPipeError)


def _printable_sentence(text: str) -> str:
    return end_sentence(make_printable(text))


def _describe_os_error(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def _describe_internal_error(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    message = str(error).splitlines()[0] if str(error) else ""
    return (
        f"Internal error, please report it: {type(error).__name__}{where}: {message} (version {__version__})"
    )
