"""What `import core` offers: each name, listed, loaded when it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import core


def test_every_name_is_listed_and_there():
    assert dir(core) == sorted(core.__all__)
    for name in core.__all__:
        assert getattr(core, name) is not None


def test_every_name_has_an_example():
    """Which `tests/test_doctests.py` runs."""
    lacking = [name for name in core.__all__ if ">>> " not in (getattr(core, name).__doc__ or "")]
    assert lacking == ["__version__"]


def test_listing_the_names_loads_nothing_heavy():
    script = (
        "import sys, core; dir(core); sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'translate'"):
        core.translate  # noqa: B018
