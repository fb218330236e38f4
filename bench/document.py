"""The document whose tables are written between marks."""

from bench.machine import HERE

DOCUMENT = HERE.parent / "docs" / "performance.md"
BEGIN, END = "<!-- bench: {} -->", "<!-- bench: end -->"


def put(name: str, tables: str) -> None:
    """Write tables between the marks of that name, if the document has any."""
    text, begin = DOCUMENT.read_text(), BEGIN.format(name)
    if begin in text:
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(END)
        DOCUMENT.write_text(f"{head}{begin}\n\n{tables}\n{END}{tail}")
