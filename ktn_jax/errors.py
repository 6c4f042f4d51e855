"""What goes wrong by the user's hand: one clear line instead of a traceback."""

import sys
from collections.abc import Callable

EXIT_USER_ERROR = 2
EXIT_SKIPPED = 3  # the work is done, but some inputs could not be read
EXIT_STOPPED = 75  # asked to stop, saved: the same command goes on (sysexits: try again)


class UserError(ValueError):
    """A mistake the user can mend; the message names the value and the remedy."""


def one_line_errors(main: Callable[..., int | None]) -> Callable[..., int]:
    """A command's main whose UserErrors end in one line on stderr and exit status 2."""

    def wrapped(*args: object) -> int:
        try:
            return main(*args) or 0
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return EXIT_USER_ERROR

    return wrapped
