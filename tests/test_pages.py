"""The documentation is built: without a warning, and without anything from the network."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_pages_are_built_without_a_warning(tmp_path):
    """Every page is in the navigation, links between pages lead somewhere, names are found."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pages = {
        path.relative_to(ROOT / "docs").with_suffix(".html")
        for path in (ROOT / "docs").rglob("*.md")
    }
    assert all((tmp_path / "site" / page).is_file() for page in pages)
    page = (tmp_path / "site/reference/settings.html").read_text()
    assert "optim.lr" in page
    outside = re.findall(r'(?:src|href)="(https?://[^"]+\.(?:js|css|woff2?|png|svg))"', page)
    assert not outside
