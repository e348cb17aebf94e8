"""Builds the site with mkdocs: python -m experiments site."""

import logging
import shutil
import tempfile
from pathlib import Path

from experiments.site.results import AllResults, Entries
from experiments.site.stage import ROOT, stage

MARK = "assets/site/site.css"  # a file that only sites have
EXTRA = "pip install -e '.[docs]'"


def build(to: Path, entries: Entries, results: AllResults) -> Path:
    """Builds the site in a folder, in place of an earlier one. Returns its first page. Raises ValueError, OSError."""
    if to.exists() and not (to / MARK).exists() and (not to.is_dir() or any(to.iterdir())):
        raise ValueError(f"--to={to} holds other files than a site; name a new or an empty folder")
    if not (ROOT / "docs").is_dir():
        raise ValueError(f"the site is built from a checkout: {ROOT / 'docs'} is missing")
    try:
        import material  # noqa: F401  # the theme
        import mkdocstrings  # noqa: F401
        from mkdocs.commands.build import build as mkdocs_build
        from mkdocs.config import load_config
        from mkdocs.exceptions import MkDocsException
    except ModuleNotFoundError as error:
        raise ValueError(f"the site needs the package {error.name}; install it: {EXTRA}") from error
    warnings = logging.StreamHandler()
    warnings.setLevel(logging.WARNING)
    logging.getLogger("mkdocs").addHandler(warnings)
    with tempfile.TemporaryDirectory(prefix="deepconv-site-") as scratch:
        source, made = Path(scratch) / "pages", Path(scratch) / "site"
        nav = stage(source, entries, results)
        file = Path(__file__).parent / "mkdocs.yml"
        try:
            mkdocs_build(load_config(str(file), docs_dir=str(source), site_dir=str(made), nav=nav, strict=True))
        except MkDocsException as error:  # with strict=True, also after warnings
            raise ValueError(f"the site is not built: {error}") from error
        finally:
            logging.getLogger("mkdocs").removeHandler(warnings)
        (made / "404.html").unlink()  # for servers
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(made, to)
    return to / "index.html"
