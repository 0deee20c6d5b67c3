"""How torch's threads wait for one another; decided before torch is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

# Any of them is a choice of the user's, which stays.
SPIN_VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")
SPIN_COUNT = 10_000


def spin_less(environment: MutableMapping[str, str]) -> None:
    """Let waiting threads give up their core soon, unless the user has chosen otherwise.

    Where other programs keep the cores busy, a thread that spins keeps away the one that it
    waits for: `benchmarks/busy_cores.py` has figures. It spins for a moment all the same, since
    on idle cores going to sleep and waking up takes longer than most waits.
    """
    if not any(name in environment for name in SPIN_VARIABLES):
        environment["GOMP_SPINCOUNT"] = str(SPIN_COUNT)
