"""Cut a paragraph into sentences without cutting at abbreviations."""

import re

END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])")
ABBREVIATION = re.compile(r"(?:\b(?:U\.S|e\.g|i\.e|etc|vs|No|Inc|Co|St|Dr|Mr|Ms)\.|\b[A-Z]\.)$")
LIST_NUMBER = re.compile(r"(?:^|\s)\d{1,2}\.$")  # "1. Logging": the number belongs to what follows


def split_sentences(text: str) -> list[str]:
    """Return the sentences of `text`; joined by single spaces they give its words back."""
    sentences: list[str] = []
    begin = 0
    for end in END.finditer(text):
        piece = text[begin : end.end()].rstrip()
        if ABBREVIATION.search(piece) or LIST_NUMBER.search(piece):
            continue
        sentences.append(piece)
        begin = end.end()
    tail = text[begin:].strip()
    return [*sentences, tail] if tail else sentences
