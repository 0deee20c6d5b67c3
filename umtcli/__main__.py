"""`python -m umtcli` is `umt`; the installed script calls `main` too."""

from __future__ import annotations

import os
import sys

from umtcli.threads import spin_less

spin_less(os.environ)  # here, because the variable counts when torch is loaded, and not later

from umtcli.app import main  # noqa: E402

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
