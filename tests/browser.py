"""Pages looked at by a headless Chromium: what overflows, what is shown and loaded."""

import html
import json
import pathlib
import re
import shutil
import subprocess
import tempfile
from typing import NamedTuple

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_MEASURE = """
addEventListener("load", () => {
  const seen = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument, root = page.documentElement;
    const images = [...page.images];
    const widest = [...page.body.querySelectorAll("*")].filter(element =>
      !element.closest(".wide, picture source") &&
      element.getBoundingClientRect().right > root.clientWidth + 0.5);
    return {
      name: frame.name, width: root.clientWidth, scroll_width: root.scrollWidth,
      beyond: widest.map(element => element.outerHTML.slice(0, 60)),
      background: frame.contentWindow.getComputedStyle(page.body).backgroundColor,
      num_images: images.length,
      images_shown: images.filter(image => image.naturalWidth > 0).length,
      sources: images.map(image => image.currentSrc.slice(-40)),
    };
  });
  document.body.textContent = "<<" + JSON.stringify(seen) + ">>";
});
"""


class View(NamedTuple):
    """A page in a window of a width in pixels; `scheme` is light or dark."""

    name: str
    page: str
    width: int
    scheme: str


def find_chromium():
    """Path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def look_at(views):
    """Opens all views in one browser.

    Returns:
        What was measured of each view, in order, and the addresses that the pages
        requested anything from, without local files.
    """
    frames = "".join(
        f'<iframe name="{view.name}" width="{view.width}" height="800" style="border:0;'
        f'color-scheme:{view.scheme}" srcdoc="{html.escape(view.page)}"></iframe>'
        for view in views
    )
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        wrapper = pathlib.Path(folder) / "wrapper.html"
        wrapper.write_text(
            f"<!doctype html><body>{frames}<script>{_MEASURE}</script>",
            encoding="utf-8",
        )
        log = pathlib.Path(folder) / "net.json"
        finished = subprocess.run(
            [
                find_chromium(),
                *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic"),
                *("--no-first-run", "--disable-background-networking"),
                *("--disable-component-update", "--disable-sync", "--hide-scrollbars"),
                f"--user-data-dir={folder}/profile",
                f"--log-net-log={log}",
                "--dump-dom",
                wrapper.as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
        events = json.loads(log.read_text(encoding="utf-8"))["events"]
    measured = re.search(r"&lt;&lt;(.*)&gt;&gt;", finished.stdout, flags=re.DOTALL)
    return json.loads(html.unescape(measured.group(1))), _requested(events)


def _requested(events):
    """Addresses that pages asked for; the browser's own requests have no origin."""
    requests = [event.get("params", {}) for event in events]
    return sorted(
        request["url"]
        for request in requests
        if request.get("initiator", "not an origin") != "not an origin"
        and not request["url"].startswith(("file:", "data:"))
    )
