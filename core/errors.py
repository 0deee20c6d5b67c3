"""The errors that `core` raises for anything a user can cause, and what they call an input.

The command line turns each into one line on stderr and an exit code; programs that use
`core` as a library catch `UmtError`. Our own broken invariants are plain `assert`s.
"""

from __future__ import annotations


def input_label(name: str) -> str:
    """Return what messages call an input: "-" is stdin."""
    return "stdin" if name == "-" else name


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether the CPU's or a GPU's memory was not enough."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, RuntimeError) and "can't allocate memory" in str(error):
        return True  # of torch's allocator for the CPU
    return is_out_of_gpu_memory(error)


def is_out_of_gpu_memory(error: BaseException) -> bool:
    """Tell whether a GPU's memory was not enough."""
    # Named, not imported: an error is no reason to load torch.
    return type(error).__name__ == "OutOfMemoryError" and "torch" in type(error).__module__


class UmtError(Exception):
    """Anything that went wrong for a reason the user can act on.

    The message says what is wrong, where, what is accepted and what to do next.

    Example:
        >>> import core
        >>> try:
        ...     core.read_audio("missing.wav", 44100)
        ... except core.UmtError as error:
        ...     print(error)
        missing.wav: cannot be opened (No such file or directory); check the path
    """


class UsageError(UmtError):
    """A request that no input could satisfy: an unknown domain, preset or option."""


class AudioError(UmtError):
    """Audio that cannot be read or written."""


class LatentsError(UmtError):
    """A latent array of the wrong kind: not `.npy`, wrong shape, dtype or values."""


class ModelError(UmtError):
    """A model file that is missing, damaged, or newer than this program."""


class DataError(UmtError):
    """Prepared training data that is missing, damaged or too small."""


class TrainingError(UmtError):
    """A training run that cannot start, continue or be saved."""
