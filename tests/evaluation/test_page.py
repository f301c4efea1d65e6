"""The page stands alone, says what it was given and nothing else."""

import math
from base64 import b64decode
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure

from frz.evaluation import page


class Reader(HTMLParser):
    """Tags with their attributes, and the text of each kind of tag."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: dict[str, list[str]] = {}
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.text.setdefault(self.open[-1], []).append(data)


def some_figure():
    figure = Figure()
    figure.subplots().plot([0, 1], [0, 1])
    return figure


NASTY = "<b>&\"'</b>"


def test_text_is_never_markup():
    pieces = [
        page.heading(NASTY),
        page.paragraph(NASTY),
        page.paragraph(NASTY, "note"),
        page.table((NASTY,), [(NASTY,), (NASTY,)], numbers=(0,)),
        page.folded(NASTY, NASTY),
        page.plots([(some_figure(), NASTY, NASTY)]),
    ]
    reader = Reader(page.page(NASTY, [(NASTY, pieces)]).decode())
    assert reader.open == []
    assert "b" not in {tag for tag, _ in reader.tags}
    for tag in ("title", "h1", "h2", "h3", "a", "p", "th", "td", "summary", "pre", "figcaption"):
        assert "".join(reader.text[tag]).startswith(NASTY), tag
    assert next(attributes["alt"] for tag, attributes in reader.tags if tag == "img") == NASTY


def test_the_page_needs_nothing_from_outside():
    html = page.page("t", [("s", [page.plots([(some_figure(), "alt", "caption")])])]).decode()
    reader = Reader(html)
    assert {tag for tag, _ in reader.tags}.isdisjoint({"script", "link", "iframe", "object"})
    for _, attributes in reader.tags:
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,"))
    assert "http" not in html
    assert "url(" not in html
    assert "viewport" in html


def test_sections_are_linked_from_the_top():
    reader = Reader(page.page("t", [("one", []), ("two", [])]).decode())
    links = [attributes["href"] for tag, attributes in reader.tags if tag == "a"]
    assert links == [f"#{attributes['id']}" for tag, attributes in reader.tags if tag == "section"]
    assert reader.text["a"] == reader.text["h2"] == ["one", "two"]


def test_figures_are_embedded_as_they_are_and_always_the_same():
    data = page.png(some_figure())
    assert data == page.png(some_figure())
    reader = Reader(page.plots([(some_figure(), "alt", "caption")]))
    source = next(attributes["src"] for tag, attributes in reader.tags if tag == "img")
    assert b64decode(source.partition(",")[2]) == data


def test_only_columns_of_numbers_stay_on_one_line():
    reader = Reader(page.table(("a", "b"), [("x", "1"), ("y", "2")], numbers=(1,)))
    assert [attributes.get("class") for tag, attributes in reader.tags if tag == "td"] == [None, "number"] * 2
    assert reader.text["td"] == ["x", "1", "y", "2"]


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((0.91234, 0.01234), "0.912 ± 0.012"),
        ((0.91234, 0.00234, 0.00187), "0.9123 +0.0023 −0.0019"),
        ((-0.0123, 0.0045), "−0.0123 ± 0.0045"),
        ((1234.5, 67.8), "1234 ± 68"),
        ((1.0, 0.0, 0.0), "1.0000 +0.0000 −0.0000"),
        ((1.0, 0.0, 0.012), "1.000 +0.000 −0.012"),
        ((0.5, math.nan), "0.5"),
        ((1e-12, 2e-13), "1e−12 ± 2e−13"),
        ((1e-5, 2e-7), "0.00001000 ± 0.00000020"),
    ],
)
def test_errors_show_two_digits(numbers, text):
    assert page.plus_minus(*numbers) == text
    assert page.plus_minus(*map(np.float64, numbers)) == text
