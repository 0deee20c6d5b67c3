"""Dynamic time warping inside a narrow band, in bounded memory.

Definition: Sakoe & Chiba 1978, "Dynamic programming algorithm optimization for spoken word
recognition", the symmetric form: a step of one frame in either sequence weighs 1, a step in both
weighs 2, so that every path from corner to corner has the same total weight and none is favoured
for being short. The band allows frame i of one sequence to meet frames i - radius to i + radius
of the other: with unlimited warping, any two pieces of music would match somewhere.

Cost: a table has n x (2 radius + 1) cells. All cells of one anti-diagonal are computed at once,
for several tables together, since NumPy takes no longer for a few of them than for one. Ten
minutes at 10 frames a second with a radius of 20 frames need 12,000 such steps, which take 0.6 s
for six tables, and 15 MB.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# Where the cheapest path into cell (i, j) comes from.
FROM_BOTH, FROM_FIRST, FROM_SECOND = 0, 1, 2  # (i - 1, j - 1), (i - 1, j), (i, j - 1)

Path = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.intp]]


def warping_paths(costs: npt.NDArray[np.float64]) -> list[Path]:
    """Find the cheapest path through each of several bands of costs.

    Args:
        costs: float64 [K, n, 2 radius + 1]. In one band, `costs[i, radius + d]` is the cost of
            pairing frame i of the first sequence with frame i + d of the second, which has n
            frames as well. Cells outside of the square hold infinity, all others are finite.

    Returns:
        For each band three integer arrays of one length, in order of time: frames of the first
        sequence, frames of the second, and the weight of each pair (2 at the start and after a
        step in both sequences, else 1), 2 n in all.
    """
    return [_trace(came_from) for came_from in _fill(costs)]


def _trace(came_from: npt.NDArray[np.uint8]) -> Path:
    radius = came_from.shape[1] // 2
    i = j = len(came_from) // 2
    path = []
    while i >= 0 and j >= 0:
        step = came_from[i + j, radius + j - i]
        path.append((i, j, 2 if step == FROM_BOTH else 1))
        i -= step != FROM_SECOND
        j -= step != FROM_FIRST
    first, second, weights = np.array(path[::-1], dtype=np.intp).T
    return first, second, weights


def _fill(costs: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Return where each cell [k, i + j, radius + j - i] of each table was reached from."""
    n_tables, n, width = costs.shape
    radius = width // 2
    came_from = np.zeros((n_tables, 2 * n - 1, width), dtype=np.uint8)
    # Totals on the last two anti-diagonals, with one cell of margin on each side.
    before = np.full((n_tables, width + 2), np.inf)
    two_before = before.copy()
    two_before[:, radius + 1] = 0  # a path starts as if it came from (-1, -1)
    for diagonal in range(2 * n - 1):
        # The offsets j - i on this diagonal: those of its own parity that stay inside the square.
        reach = min(radius, diagonal, 2 * (n - 1) - diagonal)
        reach -= (reach - diagonal) % 2
        offsets = np.arange(-reach, reach + 1, 2)
        cells = slice(radius - reach, radius + reach + 1, 2)
        left, right = (slice(cells.start + k, cells.stop + k, 2) for k in (0, 2))
        here = costs[:, (diagonal - offsets) // 2, offsets + radius]
        both = two_before[:, cells.start + 1 : cells.stop + 1 : 2] + 2 * here
        single = np.minimum(before[:, left], before[:, right]) + here
        steps = np.where(before[:, right] <= before[:, left], FROM_FIRST, FROM_SECOND)
        came_from[:, diagonal, cells] = np.where(both <= single, FROM_BOTH, steps)
        two_before, before = before, np.full((n_tables, width + 2), np.inf)
        before[:, cells.start + 1 : cells.stop + 1 : 2] = np.minimum(both, single)
    return came_from
