"""Opens a page in headless Chromium at three widths: `python tests/campaigns/look_at_page.py PAGE OUT --chromium PATH`.

Writes a screenshot of each width into `OUT`, light and dark, to be looked at. Prints what the page wrote to the
console, what it asked the network for, and whether it is wider than the window; ends with 1 if it did any of that.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

WIDTHS = {"phone": 390, "tablet": 820, "desktop": 1400}
HEIGHT = 1600
TIME_LIMIT = 120  # s, of one start
BROWSER = "not an origin"  # who asks, in the net log, where no page does
LOCAL = ("file:", "data:", "blob:", "about:", "chrome:", "devtools:")


def main() -> int:
    """Returns the number of faults, at most 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--chromium", default="chromium")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    faults = [
        f"{device}, {scheme}: {fault}"
        for device, width in WIDTHS.items()
        for scheme in ("light", "dark")
        for fault in look(arguments.chromium, arguments.page, arguments.out / f"{device}_{scheme}.png", width, scheme)
    ]
    print("\n".join(faults) or f"no console message, no request, no overflow at {', '.join(map(str, WIDTHS.values()))}")
    return int(bool(faults))


def look(chromium: str, page: Path, picture: Path, width: int, scheme: str) -> list[str]:
    """Writes the screenshot; returns the faults as sentences."""
    with tempfile.TemporaryDirectory() as folder:
        net_log, framed = Path(folder) / "net.json", Path(folder) / "framed.html"
        framed.write_text(frame(page, width))
        options = [
            "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--allow-file-access-from-files",
            "--disable-background-networking", "--disable-component-update", "--no-first-run",
            f"--user-data-dir={folder}/profile", f"--log-net-log={net_log}", "--enable-logging=stderr",
            f"--window-size={max(width, 500)},{HEIGHT}", "--virtual-time-budget=5000",
            *(["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []),
        ]  # fmt: skip
        start = lambda *more: subprocess.run(
            [chromium, *options, *more], capture_output=True, text=True, timeout=TIME_LIMIT, check=True
        )
        start(f"--screenshot={picture.resolve()}", framed.as_uri())
        asked = requests(json.loads(net_log.read_text()))
        said = start("--dump-dom", framed.as_uri())
    console = re.findall(r'CONSOLE[^"]*"(.*?)", source', said.stderr)
    inner = re.search(r'data-widths="(\d+) (\d+)"', said.stdout)
    if inner is None:
        return ["the page could not be measured"]
    faults = [f"console: {text}" for text in console] + [f"request: {url}" for url in asked]
    if int(inner[1]) > int(inner[2]):
        faults.append(f"{inner[1]} px wide in a window of {inner[2]} px")
    return faults


def frame(page: Path, width: int) -> str:
    """A page that shows another one in a frame of this width, which a window cannot be on a phone, and measures it."""
    measure = "const e = this.contentDocument.documentElement; "
    measure += "document.body.dataset.widths = e.scrollWidth + ' ' + e.clientWidth"
    style = f"border:0;width:{width}px;height:{HEIGHT}px"
    return f"""<!doctype html><body style="margin:0">
<iframe src="{page.resolve().as_uri()}" style="{style}" onload="{measure}"></iframe></body>"""


def requests(log: dict) -> list[str]:
    """What a page asked for, after Chromium's net log: not files, inline data, or what the browser itself asks for."""
    asked = [event.get("params", {}) for event in log["events"]]
    urls = {one["url"] for one in asked if "url" in one and one.get("initiator", BROWSER) != BROWSER}
    return sorted(url for url in urls if not url.startswith(LOCAL))


if __name__ == "__main__":
    sys.exit(main())
