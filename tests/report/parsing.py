"""A parser for report pages: a tree of elements, as a browser sees them."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

_EMPTY = {"meta", "input", "br", "rect", "circle", "line", "path", "stop", "wbr"}
_CLOSED_BY_NEXT = {"td": {"td", "tr", "th"}, "th": {"th", "tr"}}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list["Element"] = field(default_factory=list)
    words: str = ""

    def all(self, tag: str) -> list["Element"]:
        below = [found for child in self.children for found in child.all(tag)]
        return [*([self] if self.tag == tag else []), *below]

    def by_id(self, name: str) -> "Element":
        return next(each for each in self.walk() if each.attributes.get("id") == name)

    def walk(self) -> list["Element"]:
        return [self, *(found for child in self.children for found in child.walk())]

    @property
    def text(self) -> str:
        return self.words + "".join(child.text for child in self.children)

    @property
    def table(self) -> list[list[str]]:
        body = self.all("tbody")[0]
        return [[cell.text for cell in row.all("td")] for row in body.all("tr")]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Element("root")
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _CLOSED_BY_NEXT and self.open[-1].tag in ("td", "th"):
            self.open.pop()
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in _EMPTY:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag in _EMPTY:
            return
        while self.open[-1].tag in ("td", "th") and tag not in ("td", "th"):
            self.open.pop()
        if self.open[-1].tag == tag:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].words += data


def parse(page: str) -> Element:
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert [each.tag for each in reader.open] == ["root"], "an element is not closed"
    return reader.root
