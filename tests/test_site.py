"""The site: its tables hold the papers' numbers and ours, and it works in a browser, from files."""

import json
import re
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from conftest import ROOT

from experiments import __main__ as command
from experiments import entries, pages, records
from experiments.entry import QUOTED, Row, Run, Table
from experiments.site import details, figures, results, stage, states, tables

TABLES = entries.load()
RESULTS = {name: records.read(entries.RESULTS / f"{name}.json") for name in TABLES}


class Grids(HTMLParser):
    """The tables of a page as lists of lines of texts, without what is hidden from the eye or from screen readers."""

    def __init__(self, text):
        super().__init__()
        self.grids, self.silent = [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        classes = dict(attributes).get("class", "")
        if tag == "table":
            self.grids.append([])
        elif tag == "tr":
            self.grids[-1].append([])
        elif tag in ("td", "th"):
            self.grids[-1][-1].append("")
        elif tag == "span":
            self.silent += bool(self.silent or "dc-hidden" in classes)

    def handle_endtag(self, tag):
        self.silent -= bool(tag == "span" and self.silent)

    def handle_data(self, data):
        if self.grids and self.grids[-1] and self.grids[-1][-1] and not self.silent:
            self.grids[-1][-1][-1] += data.strip() and f"{data.strip()} "


def words(text):
    return re.sub("<.*?>", "", text)


def grid(name):
    """{label: the other cells} of an entry's table."""
    (found,) = Grids(tables.table(name.split("/")[1], TABLES[name], RESULTS[name])).grids
    return {line[0].strip(): [cell.strip() for cell in line[1:]] for line in found}


def test_tables_have_the_numbers_of_the_papers_and_of_the_results():
    table = grid("resnet/table6")
    assert table["ResNet-20"] == ["0.27", "✓ 0.27", "8.75", "–"]
    assert table["ResNet-110, mean of 5"] == ["1.7", "✓ 1.73 +0.03", "6.61 ± 0.16", "–"]
    assert table["Highway, 19 layers"] == ["2.3", "", "7.54 (7.72 ± 0.16)", ""]
    multiply_adds = ["1.8", "✓ 1.79 −0.01", "3.6", "✓ 3.64 +0.04", "3.8", "≠ 3.86 +0.06"]
    assert grid("resnet/table1")["multiply-adds, 1e9"][:6] == multiply_adds
    assert grid("alexnet/fig1")["ReLU, 18pct"] == ["6", "≠ 7 +1"]
    assert grid("alexnet/fig1")["tanh, 18pct"] == ["36", "≠ more than 40"]
    assert grid("alexnet/fig1")["tanh / ReLU, 18pct"] == ["6", "• more than 5.7"]
    measured = json.loads((entries.RESULTS / "alexnet/fig1_rates.json").read_text())["rows"]
    rates = grid("alexnet/fig1_rates")
    for label, of_row in measured.items():  # without a column of the paper, which gives no numbers
        assert rates[label] in [[f"• {record['values']['error']:.2f}"] for record in of_row], label
    assert grid("alexnet/table2")["5 CNNs"] == ["38.1", "–", "16.4", "–", "16.4", "× test server"]
    assert grid("resnet/table10")["ours"] == ["× needs detection"] * 3


@pytest.mark.parametrize("name", TABLES)
def test_every_number_of_a_paper_stands_in_its_row_and_column(name):
    table, found = TABLES[name], grid(name)
    step = 2 if any(row.runs or row.commands for row in table.rows) else 1
    wanted = {row.label: [pages.text(cell) for cell in row.paper] for row in table.rows}
    if not any(cell for line in wanted.values() for cell in line):
        assert name in ("alexnet/fig1_rates", "alexnet/fig4")
        return
    if len(table.columns) > pages.MOST_COLUMNS:  # transposed
        wanted = {
            heading: [*line] for heading, line in zip(table.columns, zip(*wanted.values(), strict=True), strict=True)
        }
    assert {label: found[label][: step * len(line) : step] for label, line in wanted.items()} == wanted


@pytest.mark.parametrize(
    "paper, value, spread, state",
    [
        (8.75, 8.75, 0, "reproduced"),
        (8.75, 8.76, 0, "deviating"),
        (8.75, 8.9, 0.2, "reproduced"),
        ("6.61 ± 0.16", 6.77, 0, "reproduced"),
        ("6.61 ± 0.16", 6.78, 0, "deviating"),
        ("about 2", 2.4, 0, "reproduced"),
        ("about 2", 2.6, 0, "deviating"),
        ("over 60", 60.1, 0, "reproduced"),
        ("over 60", 59.0, 0, "deviating"),
        (36, "more than 40", 0, "deviating"),
        (36, "more than 30", 0, "measured"),
        (6, 7, 0, "deviating"),
        (None, 3.0, 0, "measured"),
        ("substantial overfitting", 3.0, 0, "measured"),
        ("3-64 LRN", "3-64", 0, "deviating"),
    ],
)
def test_states(paper, value, spread, state):
    precision = 0.5 if isinstance(paper, int) or "about" in str(paper) else 0.005
    assert states.compare(paper, value, spread, precision) == state


def test_a_digit_that_an_entry_drops_counts_for_errors():
    """The paper prints 7.40, which is precise to 0.005; but its counts have as many digits as matter."""
    rows = [Row("a", (1.7, 7.4), [Run("resnet_cifar")]), Row("b", (0.27, 7.46), [Run("resnet_cifar")])]
    table = Table("Table", {"parameters": "parameters", "error": "top1_error"}, rows, {"parameters": lambda run: 1.73})
    precise = [
        states._precision(table, name, cell) for name, cell in zip(table.columns.values(), rows[0].paper, strict=True)
    ]
    assert precise == [pytest.approx(0.05), pytest.approx(0.005)]
    reading = {
        name: states._precision(TABLES[f"resnet/{name}"], "test_error", 9.7) for name in ("fig1", "fig4", "fig6")
    }
    assert reading == {"fig1": 0.1, "fig4": 0.2, "fig6": 0.1}


def test_the_progress_is_that_of_the_status():
    for name, table in TABLES.items():
        by_state, rows = tables.counts({name: table}, RESULTS), pages.counts(table, RESULTS[name])
        assert rows["done"] == sum(by_state[state] for state in ("reproduced", "deviating", "measured"))
        assert (rows["missing"], rows["out of reach"]) == (by_state["not run"], by_state["out of reach"])
    whole = tables.counts(TABLES, RESULTS)
    assert f"{sum(whole.values())}</strong> rows" in tables.progress(whole, "")


def test_a_cell_opens_the_commands_and_the_provenance_of_its_row(monkeypatch):
    monkeypatch.setattr(figures, "svg", lambda name, title, drawn: f"<svg>{title}</svg>")
    page = results.page("alexnet", TABLES, RESULTS)
    opened, dialogs = re.findall(r'data-opens="(.*?)"', page), re.findall(r'<dialog [^>]*id="(.*?)"', page)
    assert {*opened} == {*dialogs} and len({*dialogs}) == len(dialogs)
    (dialog,) = re.findall(r'<dialog [^>]*id="fig1-0".*?</dialog>', page, flags=re.DOTALL)
    assert "python -m deepconv.main --config=configs/alexnet_cifar.py --config.model.variant=18pct" in words(dialog)
    assert "2764 steps in 0.17 h on 1 x cpu, CPU cores: 2, commit e137212d6e, jax 0.10.2, 2026-11-24" in dialog
    assert "2700 steps" not in dialog and "epoch 7 counted from 2700 of 2734 steps" in dialog  # another result
    assert "<svg>Training of ReLU, 18pct</svg>" in dialog
    (rate,) = re.findall(r'<dialog [^>]*id="fig1_rates-3".*?</dialog>', page, flags=re.DOTALL)
    assert "<svg>Training of ReLU, 18pct, 0.004</svg>" in rate  # the curve that Fig. 1 records
    (ensemble,) = re.findall(r'<dialog [^>]*id="table2-3".*?</dialog>', page, flags=re.DOTALL)
    assert (
        "5 in this order" in ensemble and words(ensemble).count("--config.seed=") == 4 and "No finished run" in ensemble
    )


def test_what_a_page_shows_is_escaped():
    table = Table("<T>", {'a"<': "top1_error"}, [Row("<&>", ("<b>",), quoted=QUOTED), Row("r", (1.0,), [Run("vgg11")])])
    text = tables.table("t", table, {}) + details.dialog("p/t", 1, table, {}, {})
    assert "<b>" not in text and "<T>" not in text and "&lt;&amp;&gt;" in text and 'a"' not in text


def test_pictures_take_the_colours_of_the_page_and_have_ids_of_their_own():
    name, (low, high) = "alexnet/fig1", (0, 75)
    table = TABLES[name]
    text = figures.figure("fig1-figure", table, RESULTS[name])
    drawing = ElementTree.fromstring(text)
    ids = [element.get("id") for element in drawing.iter() if element.get("id")]
    assert len({*ids}) == len(ids) and all(found.startswith("fig1-figure-") for found in ids)
    assert "currentColor" in text and not re.search("#000000|#ffffff", text)
    words = [element.text for element in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert {"ReLU, paper", "ReLU, 18pct, ours", "training error, %", "epoch"} <= {*words}
    assert all(str(number) in words for number in range(low, high, 10))


def test_pages_are_staged_with_the_files_they_link_to(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "svg", lambda name, title, drawn: "<svg></svg>")
    monkeypatch.setattr(Table, "draw", None, raising=False)
    nav = stage.stage(tmp_path, TABLES, RESULTS)
    listed = json.dumps(nav)
    for page in sorted(tmp_path.rglob("*.md")):
        name = page.relative_to(tmp_path).as_posix()
        assert f'"{name}"' in listed or page.name == "files.md", name
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            assert re.match("https?:", link) or (page.parent / link).is_file(), (name, link)
    assert {f'"docs/{file.name}"' for file in (ROOT / "docs").glob("*.md")} <= {*re.findall('"docs/[^"]*"', listed)}
    assert (tmp_path / "README.md").read_text().index("dc-progress") < (tmp_path / "README.md").read_text().index(
        "\n## "
    )
    assert "(speed/files.md)" in (tmp_path / "docs" / "speed.md").read_text()
    assert (tmp_path / "docs" / "speed" / "growth.json").exists()
    modules = {"deepconv.models.resnet", "deepconv.train", "deepconv.data.sources.tfds"}
    assert modules <= {
        *re.findall("::: (.*)", "".join(page.read_text() for page in (tmp_path / "reference").iterdir()))
    }


def test_mistakes_are_told_in_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert command.main(["site", f"--to={tmp_path}"]) == 2
    assert command.main(["site", "resnet/table6"]) == 2
    monkeypatch.setitem(sys.modules, "material", None)
    assert command.main(["site", f"--to={tmp_path / 'site'}"]) == 2
    other, entry, missing = capsys.readouterr().err.splitlines()
    assert f"--to={tmp_path} holds other files than a site" in other and (tmp_path / "thesis.tex").exists()
    assert "give it no entry" in entry
    assert "the site needs the package material; install it: pip install -e '.[docs]'" in missing
