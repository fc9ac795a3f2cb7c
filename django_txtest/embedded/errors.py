"""What can go wrong between here and a running server."""


class ServerError(Exception):
    """A server could not be started; the message says why."""


class Ended(Exception):
    """Nobody needs the server any more."""
