"""Chromium without a window, driven over WebDriver: opens a report, says what is visible, takes its picture."""

from __future__ import annotations

import base64
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_BINARIES = ("/usr/bin/chromium", "/usr/bin/chromedriver")
_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # it runs as root in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


def missing() -> str | None:
    """What keeps the browser from starting, or None."""
    lacking = [path for path in _BINARIES if not shutil.which(path)]
    try:
        import selenium  # noqa: F401
    except ModuleNotFoundError:
        lacking.append("selenium")
    how = "Debian: apt-get install chromium chromium-driver"
    return f"not installed: {', '.join(lacking)} ({how})" if lacking else None


def need_browser() -> None:
    """Skip where there is no browser, unless `BERTCONV_NEED_BROWSER=1` makes that a failure."""
    if reason := missing():
        (pytest.fail if os.environ.get("BERTCONV_NEED_BROWSER") == "1" else pytest.skip)(reason)


@contextmanager
def browser() -> Iterator[Any]:
    """A WebDriver with an empty profile, which is removed again."""
    from selenium import webdriver

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = _BINARIES[0]
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=_BINARIES[1]))
        try:
            yield driver
        finally:
            driver.quit()


def view(driver: Any, *, width: int = 1200, height: int = 900, scale: float = 1, dark: bool = False) -> None:
    """Give the page a size and a colour scheme, and let nothing move by itself."""
    size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    preferences = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"}
    features = [{"name": name, "value": value} for name, value in preferences.items()]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def screenshot(
    report: Path, picture: Path, *, width: int = 1200, height: int | None = None, scale: float = 1, dark: bool = False
) -> None:
    """Write a PNG of a report.

    Args:
        report: the HTML file.
        picture: the PNG file to write.
        width: of the window, in CSS pixels.
        height: how much of the page is shown, from its top; None shows all of it.
        scale: pixels of the picture per CSS pixel.
        dark: in the dark colour scheme.
    """
    with browser() as driver:
        view(driver, width=width, scale=scale, dark=dark)
        driver.get(report.resolve().as_uri())
        whole = driver.execute_script("return document.documentElement.scrollHeight")
        clip = {"x": 0, "y": 0, "width": width, "height": height or whole, "scale": 1}
        shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        picture.write_bytes(base64.b64decode(shot["data"]))


if __name__ == "__main__":  # python tests/verify/browser.py REPORT PICTURE: the README's picture
    screenshot(Path(sys.argv[1]), Path(sys.argv[2]), height=1010)
