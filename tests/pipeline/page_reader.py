"""Reads the pages that we write: their structure as XML, and whether they stand alone."""

import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

LOADS = {"script", "link", "img", "iframe", "object", "embed", "image", "use"}
REFERS = {"src", "href", "xlink:href", "data", "srcset", "style"}


def assert_stands_alone(page, empty=()):
    """Every element is closed, nothing is loaded, nothing refers to another place.

    Args:
        page: The document.
        empty: Names of elements that have nothing in them, and must close themselves.
    """
    reader = _Balance(empty)
    reader.feed(page)
    assert reader.open == []
    assert reader.references == []
    assert not re.search(r"https?:|//|url\(|@import|@font-face|javascript:", page)


def document(page):
    """The page's root element."""
    return ElementTree.fromstring(page.partition("\n")[2])


def words_in(element):
    """All text of an element, each run of white space as one blank."""
    return " ".join("".join(element.itertext()).split())


def section_of(page, title):
    """The section under a heading."""
    return next(s for s in document(page).iter("section") if s.find("h2").text == title)


def tables_of(page, title):
    """The cells of each table of a section, as text."""
    bodies = section_of(page, title).iter("tbody")
    return [[[words_in(cell) for cell in row] for row in body] for body in bodies]


class _Balance(HTMLParser):
    """What is open, and what refers to something."""

    def __init__(self, empty):
        super().__init__()
        self._empty = empty
        self.open, self.references = [], []

    def handle_starttag(self, name, attributes):
        assert name not in self._empty, f"{name} must close itself"
        self.open.append(name)
        self._look(name, attributes)

    def handle_startendtag(self, name, attributes):
        self._look(name, attributes)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def _look(self, name, attributes):
        self.references += [name] * (name in LOADS)
        self.references += [key for key, _ in attributes if key in REFERS or key[:2] == "on"]
