"""A real browser, driven by the WebDriver protocol, which is JSON over HTTP.

Debian's packages `chromium` and `chromium-driver` bring it; tests that need it carry the marker
`browser` and are skipped where it is missing.
"""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START_SECONDS = 30
WAIT_SECONDS = 20
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's name of a reference
TAB, SPACE, LEFT = "\ue004", " ", "\ue012"


class Browser:
    """One window."""

    def __init__(self, url: str, downloads: Path) -> None:
        self._url = url
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--mute-audio"]
        options = {
            "args": [*arguments, "--window-size=1280,1400"],
            "prefs": {"download.default_directory": str(downloads)},
        }
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        made = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/session/{made['sessionId']}"

    def _call(self, method: str, path: str, content: Any = None) -> Any:
        request = urllib.request.Request(
            self._url + path,
            data=None if method != "POST" else json.dumps(content or {}).encode(),
            method=method,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def _do(self, action: str, content: Any = None) -> Any:
        return self._call("POST", f"{self._session}/{action}", content)

    def open(self, page: Path) -> None:
        """Open a page from the disk."""
        self._do("url", {"url": page.resolve().as_uri()})

    @contextmanager
    def phone(self, *, scheme: str) -> Iterator[None]:
        """Be as wide as a phone meanwhile, with a colour scheme: light or dark.

        Pages that are opened meanwhile are laid out so.
        """
        screen = {"width": 360, "height": 780, "deviceScaleFactor": 2, "mobile": True}
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        self._emulate("setDeviceMetricsOverride", screen)
        self._emulate("setEmulatedMedia", {"features": media})
        try:
            yield
        finally:
            self._emulate("clearDeviceMetricsOverride", {})
            self._emulate("setEmulatedMedia", {"features": []})

    def _emulate(self, what: str, options: dict[str, Any]) -> None:
        self._do("goog/cdp/execute", {"cmd": f"Emulation.{what}", "params": options})

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script's body in the page and return what it returns."""
        return self._do("execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, condition: str) -> None:
        """Wait until an expression is true in the page."""
        end = time.monotonic() + WAIT_SECONDS
        while not self.run(f"return Boolean({condition})"):
            assert time.monotonic() < end, f"never came true: {condition}"
            time.sleep(0.05)

    def press(self, keys: str) -> None:
        """Press keys where the focus is, one after the other."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._do("actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def click(self, selector: str) -> None:
        """Click on an element as a user would: it has to be visible."""
        found = self._do("element", {"using": "css selector", "value": selector})[ELEMENT]
        self._do(f"element/{found}/click")

    def type(self, selector: str, text: str) -> None:
        """Type text into a field."""
        found = self._do("element", {"using": "css selector", "value": selector})[ELEMENT]
        self._do(f"element/{found}/value", {"text": text})

    def wait_for_file(self, path: Path) -> None:
        """Wait until a download is complete."""
        end = time.monotonic() + WAIT_SECONDS
        while not path.is_file():
            assert time.monotonic() < end, f"never saved: {path}"
            time.sleep(0.05)

    def complaints(self) -> list[str]:
        """Return the console's warnings and errors since the last call."""
        lines = self._do("se/log", {"type": "browser"})
        return [line["message"] for line in lines if line["level"] != "INFO"]

    def fetched(self) -> list[str]:
        """Return what the page asked for, apart from what it carries in itself."""
        names = self.run("return performance.getEntriesByType('resource').map(e => e.name)")
        return [name for name in names if not name.startswith(("data:", "blob:"))]

    def screenshot(self, path: Path) -> None:
        """Write a picture of the window."""
        path.write_bytes(base64.b64decode(self._call("GET", f"{self._session}/screenshot")))

    def close(self) -> None:
        """Close the window."""
        self._call("DELETE", self._session)


@contextmanager
def open_browser(downloads: Path) -> Iterator[Browser]:
    """Start a browser of its own for one test module, and end it."""
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if driver is None or chromium is None:
        pytest.skip("no chromium and chromedriver on the PATH")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(port)
        browser = Browser(f"http://127.0.0.1:{port}", downloads)
        try:
            yield browser
        finally:
            browser.close()
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < end, "chromedriver does not answer"
            time.sleep(0.05)
        else:
            return
