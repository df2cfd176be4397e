"""A report as one HTML page: pictures inside, no script, nothing fetched."""
from __future__ import annotations

import base64
import io
from collections.abc import Callable
from html import escape
from typing import Any

from ..arrays import Array
from . import plot
from .report import GradientFlow, facts

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #22223b; background: #fff; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.cell { color: #666; margin: .2rem 0 1.2rem; }
.verdict { border-left: .4rem solid; padding: .6rem 1rem; background: #f6f6f8; }
.verdict b { font-size: 1.25rem; } .stable { border-color: #1b8a8f; } .vanishing { border-color: #2166ac; }
.exploding { border-color: #b2182b; } .mixed { border-color: #8a3b63; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .25rem 1.2rem .25rem 0; vertical-align: top; }
th { font-weight: 600; } tr + tr > * { border-top: 1px solid #e4e4ea; } code { background: #f1f1f5; padding: 0 .25em; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr)); gap: 1rem; } img { width: 100%; }
"""


def html_page(report: GradientFlow, spectrum: Array | None = None) -> str:
    """The page: verdict, numbers, remedies and pictures; of `lyapunov_spectrum` too where it is given."""
    pictures: list[tuple[str, Callable[[Any], Any]]] = [
        ("gradient by lag", lambda axes: plot.by_lag(report, axes)),
        ("map of the norms of ∂state_t/∂state_k", lambda axes: plot.reach(report, axes)),
        ("gradient by step", lambda axes: plot.steps({"": report.step_norms}, axes))]
    if spectrum is not None:
        pictures.append(("Lyapunov exponents", lambda axes: plot.exponents(spectrum, axes)))
    images = "".join(f'<img alt="{escape(name)}" src="data:image/png;base64,{picture(draw)}">' for name, draw in pictures)
    numbers = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts(report))
    remedies = "".join(f"<tr><td><code>{escape(to)}</code></td><td>{escape(why)}</td></tr>" for to, why in report.remedies)
    advice = f"<h2>What may help</h2><table>{remedies}</table>" if remedies else ""
    return (f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Gradient flow</title>'
            f"<style>{STYLE}</style></head><body>"
            f'<h1>Gradient flow</h1><p class="cell">{escape(report.cell)}</p>'
            f'<p class="verdict {report.verdict}"><b>{report.verdict}</b><br>{escape(report.reason)}</p>'
            f'<h2>Numbers</h2><table>{numbers}</table>{advice}<h2>Pictures</h2><div class="pictures">{images}</div>'
            "</body></html>\n")


def picture(draw: Callable[[Any], Any]) -> str:
    """A PNG of one Axes, in base 64."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained", facecolor="white")
    draw(figure.subplots())
    stream = io.BytesIO()
    figure.savefig(stream, dpi=130, format="png")
    return base64.b64encode(stream.getvalue()).decode()
