"""The one error type whose message is meant for the user."""


class UserError(Exception):
    """A fault the user can mend: says what is wrong, which value, and what to do.

    Shown without a traceback. `exit_code` becomes the exit status of the step.
    """

    exit_code = 1

    def __init__(self, message: str, *, shown: bool = False) -> None:
        """`shown` marks a message that a nested step has put on the screen already."""
        super().__init__(message)
        self.shown = shown


class BadArguments(UserError):
    """A value on the command line or in a config that cannot be used."""

    exit_code = 2
