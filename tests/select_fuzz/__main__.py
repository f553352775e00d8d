"""The command: `python -m tests.select_fuzz --seeds 1-2000 --seconds 600`."""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial

from tests.select_fuzz import cases, concurrent, minimize
from tests.select_fuzz.adapters import Whole
from tests.select_fuzz.direct import Direct
from tests.select_fuzz.harness import AdapterFactory, Results, Run, report
from tests.select_fuzz.installed import Installed
from tests.servers import VERSIONS, Servers

ADAPTERS: dict[str, AdapterFactory] = {"whole": Whole, "direct": Direct, "installed": Installed}


def main() -> int:
    """Run seeds, print the report; 1 where anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.select_fuzz", description=__doc__)
    parser.add_argument("--seeds", default="1-100", help="first-last, or one")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--adapter", choices=sorted(ADAPTERS), default="direct")
    parser.add_argument("--postgres", type=int, choices=VERSIONS, default=VERSIONS[0])
    parser.add_argument("--print", action="store_true", help="print the cases, run nothing")
    parser.add_argument("--minimize", metavar="TALLY", help="make one seed's failing tally small")
    parser.add_argument(
        "--writers", type=float, metavar="SECONDS", help="three writers for so long a case"
    )
    parser.add_argument("--rare", type=float, default=0.01, help="of what may be refused or fail")
    given = parser.parse_args()
    first, _, last = given.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    if given.print:
        for seed in seeds:
            _say(cases.make(seed, rare=given.rare).script())
        return 0
    servers = Servers()
    try:
        factory = ADAPTERS[given.adapter]
        database = partial(servers.fresh_database, given.postgres)
        if given.minimize:
            case = cases.make(seeds[0], rare=given.rare)
            _say(minimize.minimized(case, given.minimize, database, factory))
            return 0
        return _run(given, seeds, database, factory)
    finally:
        servers.stop()


def _run(
    given: argparse.Namespace,
    seeds: range,
    database: minimize.Databases,
    factory: AdapterFactory,
) -> int:
    started = time.monotonic()
    total = Results()
    for seed in seeds:
        if time.monotonic() - started > given.seconds:
            break
        with database() as url:
            runner = Run(cases.make(seed, rare=given.rare), url, factory)
            results = concurrent.run(runner, given.writers) if given.writers else runner.quick()
        for wrong in results.wrong:
            _say(f"seed {wrong.seed} {wrong.tally}: {wrong.kind}")
        total.add(results)
    _say(report(total, started))
    return 1 if total.wrong else 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
