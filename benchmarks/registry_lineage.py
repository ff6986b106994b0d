"""Lineage of depth six in a graph of a hundred thousand nodes; ours alone."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benchmarks.harness import QUICK, Row, in_turn, say
from benchmarks.load import write_requests
from benchmarks.measuring import Bench, run
from benchmarks.registry_databases import Kind, databases
from benchmarks.registry_graph import FULL, SMALL, downstream, fill_graph, upstream
from benchmarks.registry_world import our_server
from plumbline.registry.v1 import model_registry_service_pb2 as pb

_SIZES = SMALL if QUICK else FULL
_WHOLE, _PAGE = 1_000, 100


def lineage(bench: Bench, kind: Kind, folder: Path) -> list[Row]:
    """One client. What came from a feature view, whole and its first page, and what a champion came from."""
    folder.mkdir(parents=True)
    case = f"lineage, depth 6, {_SIZES.nodes:,} nodes, {kind}"
    questions = {
        "downstream of a view, whole": downstream(_SIZES, _WHOLE),
        "downstream of a view, page of 100": downstream(_SIZES, _PAGE),
        "upstream of a champion, whole": upstream(_SIZES, _WHOLE),
    }
    with databases(kind, folder) as new:
        url = new("lineage")
        say(f"{kind}: filling a graph of {_SIZES.nodes:,} nodes")
        fill_graph(url, _SIZES)
        with our_server(folder / "registry", url) as ours:
            server = ours.method("GetLineage")
            contenders = {}
            for what, requests in questions.items():
                file = folder / what.replace(" ", "-")
                write_requests(file, requests)
                found = bench.measure("warm-up", what, server, file, 1)
                answer = pb.GetLineageResponse.FromString(bytes.fromhex(found.reply))
                if len(answer.nodes) < 10 or (what.endswith("whole") and answer.next_page_token):
                    raise SystemExit(f"{case}, {what}: {len(answer.nodes)} nodes are not the whole answer")
                bench.samples.add(case, f"{what}, nodes in an answer", len(answer.nodes))
                contenders[what] = partial(run, partial(bench.measure, case, what, server, file, 1))
            in_turn(bench.rounds, contenders)
            bench.samples.add(case, "peak memory, MiB", ours.grpc.peak_mib())
    rows = [bench.samples.row(case, f"{what} p50 ms", better="lower", goal=50) for what in questions]
    rows.append(bench.samples.row(case, "peak memory, MiB", better="lower", goal=200))
    for what in questions:
        rows.append(bench.samples.row(case, f"{what}, nodes in an answer", better="higher"))
        rows += [row for row in bench.shown(case, what) if row.metric != f"{what} p50 ms"]
    return rows
