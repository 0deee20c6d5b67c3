"""The frame of a page that stands alone, and how text and data get into it safely.

Whatever comes from outside (file names, tags, domain names) goes through `escape` into text and
attributes, and through `json_block` into scripts. The page's own policy forbids the browser to
fetch anything, from a network or from the disk.
"""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from typing import Any

__all__ = ["escape", "isolated", "json_block", "make_page"]

_POLICY = (
    "default-src 'none'; img-src data:; media-src data: blob:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)


def make_page(title: str, body: str, *, script: str, data: str = "") -> str:
    """Return a whole page.

    Args:
        title: Plain text.
        body: HTML.
        script: Name of the script in this directory.
        data: What `json_block` made for the script.
    """
    return (
        "<!doctype html>\n"
        '<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_own('page.css')}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n{data}\n<script>\n{_own(script)}</script>\n"
        "</body>\n</html>\n"
    )


def isolated(name: str) -> str:
    """Return a name as HTML that leaves the text around it alone, whichever way it is written."""
    return f"<bdi>{escape(name)}</bdi>"


def json_block(name: str, value: Any) -> str:
    """Return data for a script, as an element with an id that holds JSON."""
    # Inside of a script element only "<" can end it, or open a comment.
    text = json.dumps(value).replace("<", "\\u003c")
    return f'<script type="application/json" id="{escape(name)}">{text}</script>'


def _own(name: str) -> str:
    return (files("umtcli.report") / name).read_text(encoding="utf-8")
