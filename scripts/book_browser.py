"""Opens the site in headless Chromium: every page in light and dark, wide and as narrow as a phone, held to axe's rules.

Needs playwright (requirements-site.txt), a Chromium that is installed already, and npm once, for axe.
"""

import functools
import http.server
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts import book

AXE = "axe-core@4.10.3"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
SIZES = {"wide": (1280, 900), "phone": (360, 740)}

WITHOUT_LISTINGS = """() => {
  for (const place of document.querySelectorAll('span[id^="document-code/"]')) {
    if (place.nextElementSibling?.tagName === "SECTION") place.nextElementSibling.remove();
  }
  for (const link of document.querySelectorAll('li > a[href^="#document-code/"]')) link.parentElement.remove();
  for (const caption of document.querySelectorAll("p.caption")) {
    if (caption.textContent.trim() === "The library") caption.remove();
  }
}"""


def chromium() -> str | None:
    """Where Chromium is, if it is: MINIVIT_CHROMIUM, or the usual names."""
    named = os.environ.get("MINIVIT_CHROMIUM")
    return named or next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )


def axe() -> str:
    """The source of axe, from npm the first time."""
    store = book.ROOT / "build" / "npm"
    store.mkdir(parents=True, exist_ok=True)
    if not list(store.glob("axe-core-*.tgz")):
        subprocess.run(["npm", "pack", "--silent", AXE], cwd=store, check=True, stdout=subprocess.DEVNULL)
    with tarfile.open(next(store.glob("axe-core-*.tgz"))) as archive:
        return archive.extractfile("package/axe.min.js").read().decode()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The folder at an address of this machine."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def browser() -> Iterator:
    """Chromium, headless. Raises SystemExit where there is none."""
    from playwright.sync_api import sync_playwright

    if chromium() is None:
        raise SystemExit("site: no Chromium found; install it, or set MINIVIT_CHROMIUM")
    with sync_playwright() as play:
        running = play.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--force-color-profile=srgb"])
        yield running
        running.close()


def check(html: Path, pages: list[str], pictures: Path | None = None) -> list[str]:
    """What is wrong with the pages, as sentences; with `pictures`, a picture of each is written there."""
    faults, source = [], axe()
    with served(html) as address, browser() as running:
        for size, (width, height) in SIZES.items():
            for theme in ("light", "dark"):
                context = running.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
                context.add_init_script(
                    f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}')"
                )
                rough = (size, theme) != ("phone", "dark")  # listings look alike: once is enough
                for page in [*(p for p in pages if not (rough and p.startswith("code/"))), "search"]:
                    where = f"{page} ({size}, {theme})"
                    faults += [
                        f"{where}: {fault}"
                        for fault in _open(context, address, page, source, pictures, f"{size}-{theme}")
                    ]
                context.close()
    return faults


def _open(context, address: str, page: str, source: str, pictures: Path | None, kind: str) -> list[str]:
    tab, faults = context.new_page(), []
    tab.on("request", lambda r: r.url.startswith((address, "data:", "blob:")) or faults.append(f"asks for {r.url}"))
    tab.on("response", lambda r: r.status < 400 or faults.append(f"{r.status} for {r.url}"))
    tab.on("pageerror", lambda error: faults.append(f"script error: {error}"))
    tab.goto(f"{address}/{page}.html", wait_until="load")
    tab.evaluate("window.MathJax?.startup?.promise ?? null")
    tab.wait_for_timeout(150)
    wide = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if wide > 0:
        faults.append(f"{wide} pixels wider than the window")
    tab.evaluate(source)
    found = tab.evaluate("rules => axe.run({runOnly: rules, preload: false})", RULES)
    for violation in found["violations"]:
        places = ", ".join(
            " ".join(node["target"]) if all(isinstance(t, str) for t in node["target"]) else "…"
            for node in violation["nodes"][:3]
        )
        faults.append(f"axe: {violation['id']}: {violation['help']}: {places}")
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        tab.screenshot(path=str(pictures / f"{page.replace('/', '-')}-{kind}.png"), full_page=True)
    tab.close()
    return faults


def printed(page: Path, target: Path) -> str:
    """Print the book on one page as a PDF: folded parts open, listings of the library left out."""
    with served(page.parent) as address, browser() as running:
        tab = running.new_page(color_scheme="light")
        tab.goto(f"{address}/{page.name}", wait_until="load")
        tab.evaluate("window.MathJax?.startup?.promise ?? null")
        tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        tab.evaluate(WITHOUT_LISTINGS)
        margin = dict.fromkeys(("top", "bottom", "left", "right"), "18mm")
        tab.pdf(path=str(target), format="A4", print_background=True, margin=margin, scale=0.8)
    return f"{target.relative_to(book.ROOT)}: {target.stat().st_size / 1e6:.1f} MB"
