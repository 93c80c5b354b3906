"""Errors meant for the user: one line that says what, where and the remedy; the command line adds an exit code."""


class VDPMError(ValueError):
    """Something the user can mend. The message is one line: what is wrong, where, and what to do."""

    exit_code = 1


class UsageError(VDPMError):
    """An argument outside its range, or arguments that exclude each other."""

    exit_code = 2


class InputError(VDPMError):
    """A file or folder that cannot be read as what it was given for."""

    exit_code = 3


class CheckpointError(VDPMError):
    """Weights that are missing, damaged, or made for another network."""

    exit_code = 4


class OutputError(VDPMError):
    """A result that cannot be written: the folder exists, the disk is full, no permission."""

    exit_code = 5


def is_out_of_memory(error: Exception) -> bool:
    """torch has a class of its own on accelerators, and a plain RuntimeError on the CPU."""
    by_torch = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    return isinstance(error, MemoryError) or by_torch
