"""`python -m umtcli` is `umt`; the installed script calls `main` too."""

from __future__ import annotations

import sys

from umtcli.app import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
