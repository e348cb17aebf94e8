"""The pages of the site in one folder, laid out as in the repository, so that their links hold as they are."""

import re
import shutil
from collections.abc import Iterable
from html import escape
from pathlib import Path

from experiments import commands, pages
from experiments import entries as entries_lib
from experiments.site import results as results_lib
from experiments.site import tables
from experiments.site.results import AllResults, Entries

ROOT = Path(__file__).resolve().parents[2]
ASSETS = Path(__file__).parent / "assets"
FIRST = ("training", "data", "testing", "weights", "reproducing")  # of the guide's pages; the rest is sorted
NOT_IN_REFERENCE = ("benchmark", "__main__")  # commands
LINK = re.compile(r"(\]\()(?![a-z]+:|#)([^)#\s]*)((?:#[^)\s]*)?\))")
DIFFERENCES = "docs/differences.md"
# pages without the list of their section, which leaves more room for tables
WIDE = ("README.md", DIFFERENCES, "gallery.md", *(f"experiments/{paper}.md" for paper in entries_lib.PAPERS))
Nav = list[dict[str, object]]


def stage(folder: Path, entries: Entries, results: AllResults) -> Nav:
    """Writes all pages, and the pictures and files that they link to. Returns the navigation. Raises OSError."""
    docs = sorted(f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md"))
    ordered = dict.fromkeys([*(f"docs/{name}.md" for name in FIRST), *docs, "CONTRIBUTING.md", "CHANGELOG.md"])
    guide = [name for name in ordered if name != DIFFERENCES]
    texts = {name: (ROOT / name).read_text() for name in ["README.md", *guide, DIFFERENCES]}
    link = '<a href="experiments/index.html">Tables and figures</a>'
    progress = tables.progress(tables.counts(entries, results), link)
    before_first_section = re.compile(r"^(?=## )", re.MULTILINE)
    texts["README.md"] = before_first_section.sub(lambda _: f"{progress}\n\n", texts["README.md"], count=1)
    made = {"experiments/README.md": results_lib.overview(entries, results), "gallery.md": gallery(entries, results)}
    papers = {f"experiments/{paper}.md": results_lib.page(paper, entries, results) for paper in entries_lib.PAPERS}
    reference = dict(reference_pages())
    made |= papers | reference
    for name, text in (texts | made).items():
        hidden = "---\nhide: [navigation]\n---\n\n" if name in WIDE else ""
        _write(folder / name, hidden + linked(folder, name, text, {*texts, *made}))
    shutil.copytree(ASSETS, folder / "assets" / "site")
    return [
        {"Home": "README.md"},
        {"Guide": guide},
        {"Results": [{"Overview": "experiments/README.md"}, *papers]},
        {"Differences": DIFFERENCES},
        {"Gallery": "gallery.md"},
        {"Reference": [*reference]},
    ]


def linked(folder: Path, name: str, text: str, staged: Iterable[str]) -> str:
    """Copies the files that a page links to, and returns the page. Links to folders become links to lists of files."""
    staged = {*staged}

    def link(match: re.Match[str]) -> str:
        target = (ROOT / name).parent.joinpath(match[2]).resolve()
        inside = target.relative_to(ROOT).as_posix()
        if target.is_dir():
            _write(folder / inside / "files.md", _list(target))
            for file in _files(target):
                shutil.copyfile(file, folder / inside / file.name)
            return f"{match[1]}{match[2].rstrip('/')}/files.md{match[3]}"
        if inside not in staged and target.exists():  # mkdocs reports files that are missing
            (folder / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(target, folder / inside)
        return match[0]

    return LINK.sub(link, text)


def _files(target: Path) -> list[Path]:
    return sorted(file for file in target.iterdir() if file.is_file())


def _list(target: Path) -> str:
    files = "\n".join(f"- [{file.name}]({file.name})" for file in _files(target))
    return f"# {target.relative_to(ROOT)}\n\n{files}\n"


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def gallery(entries: Entries, results: AllResults) -> str:
    """Returns the page of pictures: those of the guide, and the figures of the papers with our curves."""
    found: list[tuple[str, str, str]] = []  # (picture, caption, page)
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for caption, picture in re.findall(r"!\[(.*?)\]\((.*?)\)", page.read_text()):
            found.append((_path(page.parent / picture), caption, _path(page)))
    for name, table in entries.items():
        if pages.has_picture(name, table, results[name]):
            picture = entries_lib.RESULTS / f"{name}.png"
            if pages.read_stamp(picture) != commands.stamp(name, table, results[name]):
                raise ValueError(f"{picture} is missing or out of date; first give: python -m experiments render")
            paper, _, short = name.partition("/")
            title = f"{results_lib.TITLES[paper]}, {table.title}"
            found.append((f"experiments/results/{name}.png", title, f"experiments/{paper}.md#{short}"))
    figures = "\n".join(f"[![]({picture})<br>{escape(caption)}]({page})\n" for picture, caption, page in found)
    return (
        f'# Gallery\n\nEach picture leads to its page.\n\n<div class="dc-gallery" markdown="1">\n\n{figures}\n</div>\n'
    )


def _path(file: Path) -> str:
    return file.resolve().relative_to(ROOT).as_posix()


def reference_pages() -> Iterable[tuple[str, str]]:
    """Returns the name and text of each page of the reference: one a package, and one for the modules beside them."""
    package = ROOT / "deepconv"
    modules = [path for path in sorted(package.glob("*.py")) if path.stem not in ("__init__", *NOT_IN_REFERENCE)]
    yield "reference/deepconv.md", _reference("deepconv", modules)
    for folder in sorted(path.parent for path in package.glob("*/__init__.py")):
        if folder.name not in NOT_IN_REFERENCE:
            modules = [path for path in sorted(folder.rglob("*.py")) if path.stem not in NOT_IN_REFERENCE]
            yield f"reference/{folder.name}.md", _reference(f"deepconv.{folder.name}", modules)


def _reference(title: str, modules: Iterable[Path]) -> str:
    names = [_path(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in modules]
    return "\n\n".join([f"# {title}", *(f"::: {name}" for name in names)]) + "\n"
