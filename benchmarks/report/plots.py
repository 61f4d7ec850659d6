"""Plots of a run, one file per case, drawn with matplotlib (extra `bench`). Bars are medians, whiskers all rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.stats import Key, Medians, Sample

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    "Holdfast": "#0b6e4f",
    "nginx": "#8d99ae",
    "Nchan": "#5c677d",
    "Pushpin": "#d17b0f",
    "slixmpp tuned": "#5c677d",
    "slixmpp": "#8d99ae",
}


@dataclass(frozen=True, slots=True)
class Panel:
    """One axis: a metric of one case."""

    case: str
    metric: str
    title: str
    logarithmic: bool = False


FIGURES: dict[str, Sequence[Panel]] = {
    "inbound": (
        Panel("inbound", "cpu_us", "CPU µs per event", logarithmic=True),
        Panel("inbound", "events_per_s", "events per second", logarithmic=True),
        Panel("inbound", "p99_us", "99th percentile of latency, µs", logarithmic=True),
    ),
    "fanout": (
        Panel("fanout", "cpu_us", "CPU µs per delivery", logarithmic=True),
        Panel("fanout", "deliveries_per_s", "deliveries per second", logarithmic=True),
        Panel("fanout", "last_ms", "ms to the last delivery", logarithmic=True),
    ),
    "idle": (Panel("idle", "rss_bytes", "RSS bytes per idle WebSocket"),),
    "connects": (
        Panel("connects", "connects_per_s", "connects per second", logarithmic=True),
        Panel("connects", "cpu_us", "CPU µs per connect", logarithmic=True),
    ),
    "sdk": (
        Panel("sdk", "events_per_s", "events per second, SDK backend"),
        Panel("sdk", "backend_us", "backend CPU µs per event"),
    ),
    "xmpp": (
        Panel("xmpp", "cpu_us", "CPU µs per XMPP login", logarithmic=True),
        Panel("xmpp", "rss_bytes", "RSS bytes per XMPP session", logarithmic=True),
        Panel("xmpp", "resume_cpu_us", "CPU µs per resume", logarithmic=True),
        Panel("xmpp", "resumes_per_s", "resumes per second", logarithmic=True),
    ),
}


def draw(samples: Sequence[Sample], table: Medians, folder: Path, subtitle: str) -> list[Path]:
    """Write `<case>.png` for every case that was measured; returns the files. Raises ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for case, panels in FIGURES.items():
        if not any(key.case == case for key in table):
            continue
        figure, axes = pyplot.subplots(1, len(panels), figsize=(5.2 * len(panels), 4.2), squeeze=False)
        for axis, panel in zip(axes[0], panels, strict=True):
            _panel(axis, panel, samples, table)
        figure.suptitle(f"{case} · {subtitle}", fontsize=9)
        figure.tight_layout()
        written.append(folder / f"{case}.png")
        figure.savefig(written[-1], dpi=120)
        pyplot.close(figure)
    return written


def _panel(axis: Axes, panel: Panel, samples: Sequence[Sample], table: Medians) -> None:
    """Groups along x (size and variant), one bar per server in each."""
    keys = [key for key, values in table.items() if key.case == panel.case and panel.metric in values]
    groups = list(dict.fromkeys((key.size, key.variant) for key in keys))
    peers = [name for name in COLOURS if any(key.peer == name for key in keys)]
    width = 0.8 / max(len(peers), 1)
    for nth, peer in enumerate(peers):
        mine = [key for key in keys if key.peer == peer]
        places = [groups.index((key.size, key.variant)) + (nth - (len(peers) - 1) / 2) * width for key in mine]
        middles = [table[key][panel.metric] for key in mine]
        spread = [_spread(key, panel.metric, samples) for key in mine]
        below = [middle - low for middle, (low, _) in zip(middles, spread, strict=True)]
        above = [high - middle for middle, (_, high) in zip(middles, spread, strict=True)]
        axis.bar(places, middles, width, yerr=[below, above], capsize=2, color=COLOURS[peer], label=peer)
    axis.set_xticks(range(len(groups)), [f"{size:,}\n{variant}".strip() for size, variant in groups])
    axis.set_title(panel.title, fontsize=10)
    if panel.logarithmic:
        axis.set_yscale("log")
    axis.grid(axis="y", alpha=0.3)
    if peers:
        axis.legend(fontsize=8)


def _spread(key: Key, metric: str, samples: Sequence[Sample]) -> tuple[float, float]:
    """Lowest and highest round."""
    values = [sample.values[metric] for sample in samples if sample.key == key and metric in sample.values]
    return min(values), max(values)
