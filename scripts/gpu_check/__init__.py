"""What `scripts/gpu-check` runs."""


class WrongUsage(Exception):
    """The command line asks for what cannot be done."""
