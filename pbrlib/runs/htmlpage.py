"""Renders the frame of a self-contained HTML page: style, content security policy, tables, times."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape

STYLE = """
body{font:14px/1.45 system-ui,sans-serif;color:#1c1c1c;background:#fff;max-width:1220px;margin:24px auto;
padding:0 20px;overflow-wrap:anywhere}
h1{font-size:24px;margin:0 0 4px}h2{font-size:18px;margin:32px 0 8px;border-bottom:1px solid #ddd}
h3{font-size:15px;margin:18px 0 6px}p{margin:4px 0}.quiet{color:#666}a{color:#0060a0}
section{margin-top:56px;border-top:3px solid #1c1c1c;padding-top:16px}
.wide{overflow-x:auto}.wide table{overflow-wrap:normal}.text table{overflow-wrap:anywhere}
table{border-collapse:collapse;margin:6px 0}td,th{padding:3px 10px 3px 0;text-align:left;vertical-align:top}
th{font-weight:600;border-bottom:1px solid #bbb}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
.row{display:flex;flex-wrap:wrap;gap:16px}figure{margin:0;flex:0 1 560px;min-width:min(300px,100%)}
figcaption{font-weight:600;margin-bottom:2px}svg{width:100%;height:auto;display:block}
svg text{font-size:11px;fill:#555}.grid{stroke:#e4e4e4}.mark{fill:none;stroke:#1c1c1c;stroke-width:1.5}
.at rect{fill:transparent}.at line,.at circle{visibility:hidden;stroke:#999}.at circle{stroke:#fff}
.at:hover line,.at:hover circle{visibility:visible}
.legend span{display:inline-block;margin-right:14px;font-size:12px}
.legend i{display:inline-block;width:10px;height:10px;margin-right:4px}
.bar{display:flex;height:16px;max-width:900px;margin:4px 0}.bar i{display:block;height:100%}
.sheet img{width:100%;display:block}.sheet figure{flex:1 1 480px;max-width:580px}
pre{font:12px/1.35 ui-monospace,monospace;overflow-x:auto;overflow-wrap:normal;
background:#f6f6f6;padding:10px}
.matrix td,.matrix th{padding:4px 8px;text-align:right;border:1px solid #fff}
@media(max-width:600px){body{padding:0 12px;margin:12px auto}svg text{font-size:16px}}
"""

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The Content-Security-Policy of the page: it blocks all network requests and scripts."""


def document(title: str, body: str) -> str:
    """Render a page with a title, which is escaped, and a body, which is markup."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{body}</body></html>\n"
    )


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: int = 0,
    anchors: Sequence[str] = (),
    wraps: bool = False,
) -> str:
    """Render a table of plain text, which scrolls horizontally on a narrow screen.

    Args:
        headings: The headings of the columns.
        rows: The cells of the rows.
        numbers: Number of last columns that are right-aligned.
        anchors: The ids that the first cells of the rows link to; an empty id is not a link.
        wraps: Whether long cells are wrapped instead of scrolled.
    """
    first = len(headings) - numbers

    def cells(row: Sequence[str], tag: str, anchor: str = "") -> str:
        texts = [escape(cell) for cell in row]
        if anchor:
            texts[0] = f'<a href="#{escape(anchor)}">{texts[0]}</a>'
        return "".join(
            f"<{tag}{' class=n' if number >= first else ''}>{text}</{tag}>"
            for number, text in enumerate(texts)
        )

    links = [*anchors]
    lines = "".join(
        f"<tr>{cells(row, 'td', links[number] if number < len(links) else '')}</tr>"
        for number, row in enumerate(rows)
    )
    kind = "text" if wraps else "wide"
    return f'<div class="{kind}"><table><tr>{cells(headings, "th")}</tr>{lines}</table></div>'


def moment(seconds: float) -> str:
    """Format a Unix time as local time with its zone; a saved page cannot show an age."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(sep=" ", timespec="seconds")
