"""The one exception that means "the user can put this right"."""


class UserError(ValueError):
    """A mistake in what the user asked for.

    The message is one line that names the setting or argument, the value and what is allowed; the command line
    prints it without a traceback and exits with code 2.
    """
