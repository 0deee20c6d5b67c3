"""The generation options of the WaveNet family."""

from __future__ import annotations

from dataclasses import dataclass

from core.errors import UsageError

ENGINES = ("auto", "cpu", "cuda", "reference")


@dataclass(frozen=True)
class WaveNetOptions:
    """Generation options of the WaveNet family.

    Attributes:
        temperature: Divides the logits before the softmax: 1 draws from the model's own
            distribution, less is safer and duller, 0 always takes the likeliest code.
        engine: What runs the network, one of `ENGINES`; `auto` goes by the device.
        exact: Whether the whole is one unbroken chain of samples, as the network was
            defined, instead of chunks that are made side by side and joined.
    """

    temperature: float = 1.0
    engine: str = "auto"
    exact: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise UsageError(f"temperature={self.temperature}: expected a number from 0 up")
        if self.engine not in ENGINES:
            raise UsageError(f"unknown engine {self.engine!r}; known: {', '.join(ENGINES)}")
