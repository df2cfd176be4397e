"""A report as one HTML page: pictures inside, no script, nothing fetched."""
from __future__ import annotations

import base64
import io
from collections.abc import Callable
from html import escape
from typing import Any, NamedTuple

from ..arrays import Array
from . import plot
from .report import GradientFlow, facts

SIZE, DPI = (5.4, 3.7), 200     # inches, and dots per inch

STYLE = """
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: #22223b; background: #fff; max-width: 68rem; margin: 2rem auto;
  padding: 0 1rem; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.cell { color: #5a5a66; margin: .2rem 0 1.2rem; }
.verdict { border-left: .4rem solid; padding: .6rem 1rem; background: #f6f6f8; margin: 0; }
.verdict b { font-size: 1.25rem; } .stable { border-color: #1b8a8f; } .vanishing { border-color: #2166ac; }
.exploding { border-color: #b2182b; } .mixed { border-color: #8a3b63; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: .3rem 1.2rem .3rem 0; vertical-align: top; }
th { font-weight: 400; color: #5a5a66; width: 44%; } tr + tr > * { border-top: 1px solid #e4e4ea; }
td { font-variant-numeric: tabular-nums; } dl { margin: 0; } dl > div { display: grid; padding: .3rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 0 1.2rem; }
dl > div + div { border-top: 1px solid #e4e4ea; } dt { font-weight: 600; } dd { margin: 0; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 1.5rem 2rem; }
figure { margin: 0; } img { display: block; width: 100%; height: auto; } figcaption { font-size: .9rem; color: #5a5a66; }
"""


class Picture(NamedTuple):
    """One figure of the page."""

    name: str
    draw: Callable[[Any], Any]
    caption: str


def html_page(report: GradientFlow, spectrum: Array | None = None) -> str:
    """The page: verdict, numbers, remedies and pictures, with Lyapunov exponents if a spectrum is given."""
    images = "".join(f'<figure><img alt="{escape(each.name)}" width="{SIZE[0] * DPI:g}" height="{SIZE[1] * DPI:g}" '
                     f'src="data:image/png;base64,{png(each.draw)}"><figcaption>{escape(each.caption)}</figcaption></figure>'
                     for each in pictures(report, spectrum))
    numbers = "".join(f"<tr><th scope=row>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts(report))
    remedies = "".join(f"<div><dt>{escape(to)}</dt><dd>{escape(why)}</dd></div>" for to, why in report.remedies)
    advice = f"<h2>What may help</h2><dl>{remedies}</dl>" if remedies else ""
    return ('<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>Gradient flow: {report.verdict}</title><style>{STYLE}</style></head><body>"
            f'<h1>Gradient flow</h1><p class="cell">{escape(report.cell)}</p>'
            f'<p class="verdict {report.verdict}"><b>{report.verdict}</b><br>{escape(report.reason)}</p>'
            f'<h2>Numbers</h2><table>{numbers}</table>{advice}<h2>Pictures</h2><div class="pictures">{images}</div>'
            "</body></html>\n")


def pictures(report: GradientFlow, spectrum: Array | None) -> list[Picture]:
    """The figures and how to read them."""
    found = [
        Picture("gradient by lag", lambda axes: plot.by_lag(report, axes),
                "What an error adds to the gradient of each parameter through the use of that parameter j steps before it. "
                "A straight line down is a gradient that vanishes at a constant rate."),
        Picture("map of the norms of ∂state_t/∂state_k", lambda axes: plot.reach(report, axes),
                "How large a change of state k has become at state t, in the first sequence. "
                "Blue has shrunk, red has grown, the diagonal is 1; −1 means a tenth."),
        Picture("gradient by step", lambda axes: plot.steps({"": report.step_norms}, axes),
                "The part of ∂L/∂W that comes from the use of W at step t, all sequences added up; "
                "nothing is drawn where it is 0, as at step 1 from a state of zeros.")]
    if spectrum is not None:
        found.append(Picture("Lyapunov exponents", lambda axes: plot.exponents(spectrum, axes),
                             f"The {spectrum.shape[1]} largest growth rates of small changes, a line for each sequence. "
                             "Below 0 a direction is forgotten, above 0 errors grow along it."))
    return found


def png(draw: Callable[[Any], Any]) -> str:
    """A PNG of one Axes, in base 64."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained", facecolor="white")
    draw(figure.subplots())
    stream = io.BytesIO()
    figure.savefig(stream, dpi=DPI, format="png")
    return base64.b64encode(stream.getvalue()).decode()
