"""Errors that are for people: one message, no traceback, exit code 2."""

from __future__ import annotations

import difflib
import errno
import os
import sys
from collections.abc import Callable, Iterable

EXIT_USER_ERROR = 2


class UserError(ValueError):
    """Something the user can mend. The message names what was wrong, where, and what to do.

    Every package error that is not a bug of ours derives from this class; the command lines print
    it alone and exit with its `exit_code`.
    """

    exit_code = EXIT_USER_ERROR


EXIT_INTERRUPTED = 130  # the shell's convention for Ctrl-C


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The name in `known` that `word` is most like; None if all are less alike than `cutoff`."""
    # Compared without case, so that "UA" finds "ua".
    folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=cutoff)
    return folded[near[0]] if near else None


def suggestion(word: str, known: Iterable[str]) -> str:
    """The end of an error message about the unknown `word`: ": did you mean 'x'?", or nothing."""
    near = nearest(word, known)
    return f": did you mean {near!r}?" if near else ""


def run_command_line(command: Callable[[], int | None]) -> int:
    """Run `command`, turning user errors and Ctrl-C into a message and an exit code."""
    try:
        code = command() or 0
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(
            "\ninterrupted: what was committed stays; run the same command again to go on",
            file=sys.stderr,
        )
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `emo ... | head`
        sys.stderr.close()
        return EXIT_USER_ERROR
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename is not None:
            raise
        # Errors of our files name them, so it is standard output, in a file on a full disk.
        print("error: standard output cannot be written: no room left there", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python tries once more as it ends
        return EXIT_USER_ERROR
