"""What an edge counted, read from its /metrics as Prometheus reads them."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from tests.support.processes import Edge
from tests.support.waiting import wait_until


async def counted(edge: Edge, name: str, **labels: str) -> float:
    """The sum over all series of ``holdfast_<name>`` that have these labels; 0 where there is none."""
    status, body = await edge.get("/metrics")
    assert status in (0, 200), body  # 0: it was too busy to answer
    return sum(
        sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if sample.name == f"holdfast_{name}" and labels.items() <= sample.labels.items()
    )


async def until_counted(edge: Edge, least: float, name: str, **labels: str) -> None:
    """Wait until that sum is at least `least`."""

    async def enough() -> bool:
        return await counted(edge, name, **labels) >= least

    await wait_until(enough, f"{edge.name} has counted {least:g} {name} {labels or ''}", 60)


async def limits_hit(edge: Edge) -> dict[str, int]:
    """Limit → how often clients went over it, over all routes."""
    _, body = await edge.get("/metrics")
    hit: dict[str, int] = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            if sample.name == "holdfast_limits_hit_total":
                hit[sample.labels["limit"]] = hit.get(sample.labels["limit"], 0) + int(sample.value)
    return hit
