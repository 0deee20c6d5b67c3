"""Dynamic time warping inside a narrow band, in bounded memory.

Definition: Sakoe & Chiba 1978, "Dynamic programming algorithm optimization for spoken word
recognition", the symmetric form: a step of one frame in either sequence weighs 1, a step in both
weighs 2, so that every path from corner to corner has the same total weight and none is favoured
for being short. The band allows frame i of one sequence to meet frames i - radius to i + radius
of the other: unlimited warping would let any two pieces of music agree on something.

Cost: the table has n x (2 radius + 1) cells, and all cells of one anti-diagonal are computed at
once. Ten minutes at 10 frames a second with a radius of 20 frames need 12,000 such steps, which
take 0.2 s, and 2 MB.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# Predecessors of a cell, seen on the anti-diagonals k = i + j with offset d = j - i.
FROM_BOTH, FROM_FIRST, FROM_SECOND = 0, 1, 2


def warping_path(costs: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.intp], ...]:
    """Find the cheapest path through a band of costs.

    Args:
        costs: float64 [n, 2 radius + 1], finite inside the square. `costs[i, radius + d]` is the
            cost of pairing frame i of the first sequence with frame i + d of the second, which
            has n frames as well; cells outside of the square hold infinity.

    Returns:
        Three integer arrays of one length, in order of time: frames of the first sequence, frames
        of the second, and the weight of each pair (2 at the start and after a step in both
        sequences, else 1), 2 n in all.
    """
    came_from = _fill(costs)
    n, radius = len(costs), costs.shape[1] // 2
    i, j = n - 1, n - 1
    path = []
    while i >= 0 and j >= 0:
        step = came_from[i + j, radius + j - i]
        path.append((i, j, 2 if step == FROM_BOTH else 1))
        i -= step != FROM_SECOND
        j -= step != FROM_FIRST
    first, second, weight = np.array(path[::-1], dtype=np.intp).T
    return first, second, weight


def _fill(costs: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Return for each cell [i + j, radius + j - i] the neighbour its cheapest path came from."""
    n, width = costs.shape
    radius = width // 2
    came_from = np.zeros((2 * n - 1, width), dtype=np.uint8)
    before = np.full(width + 2, np.inf)  # anti-diagonal k - 1, one cell of margin on each side
    two_before = np.full(width + 2, np.inf)
    for k in range(2 * n - 1):
        # On this anti-diagonal live the offsets of k's own parity that stay inside the square.
        reach = min(radius, k, 2 * (n - 1) - k)
        reach -= (reach - k) % 2
        offsets = np.arange(-reach, reach + 1, 2)
        cells = offsets + radius
        here = costs[(k - offsets) // 2, cells]
        options = np.stack(
            [two_before[cells + 1] + 2 * here, before[cells + 2] + here, before[cells] + here]
        )
        if k == 0:
            options[FROM_BOTH] = 2 * here
        best = options.argmin(axis=0)
        came_from[k, cells] = best
        two_before, before = before, np.full(width + 2, np.inf)
        before[cells + 1] = options[best, np.arange(len(cells))]
    return came_from
