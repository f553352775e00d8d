"""The sensor `alerts`: what went wrong becomes incidents, repairs are asked for, people are told.

Only the order of things stands here: one transaction in which all of it is written down, then the
deliveries, which may fail without any harm to the rest. What is heard and seen, how it is said, and
how it gets there is in the files beside this one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import dagster as dg
from sqlalchemy import Connection, text

from assets.factory import SystemAssets
from pipelines import finding, hearing, outbox
from pipelines.repairing import REPAIR_JOB, repair_requests
from resources.alerts import targets
from resources.dagster_database import Database
from resources.settings import alert_repeat_hours, ui_url
from tallies import incidents
from tallies.state import is_there

ALERTS = "alerts"
LOOK_EVERY_SECONDS = 30


def alerts(systems: Sequence[SystemAssets]) -> dg.SensorDefinition:
    """Record what is wrong with any tally, check, run or schedule; ask for repairs; tell people."""
    tallies = [tally for built in systems for tally in built.system.tallies]

    @dg.sensor(
        name=ALERTS,
        job_name=REPAIR_JOB,
        minimum_interval_seconds=LOOK_EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Failed checks and runs, missed ticks and changes that wait too long become incidents;"
            " they are told to TALLY_ALERT_URLS, and repairs are asked for."
        ),
    )
    def look(
        context: dg.SensorEvaluationContext, database: Database
    ) -> dg.SensorResult | dg.SkipReason:
        told_to, repeat_hours = targets(), alert_repeat_hours()
        ui_url()
        place = finding.place_of(context, tallies)
        engine = database.engine()
        with engine.begin() as connection:
            why_not = _why_not(connection)
            if why_not:
                return dg.SkipReason(why_not)
            heard = hearing.listen(context.instance, connection)
            found_now = finding.find(context.instance, connection, place, heard)
            requests = repair_requests(context.instance, connection)
            texts = outbox.write(connection, found_now, told_to, repeat_hours)
            undelivered = outbox.give_up_gone(connection, told_to)
        for one in texts:
            context.log.info("%s", one.title if told_to else f"{one.title}\n{one.body}")
        for lost in undelivered:
            context.log.error(
                "%s did not get this message (%s): %s\n%s",
                lost.target,
                lost.error,
                lost.title,
                lost.body,
            )
        outbox.deliver(engine, told_to, context.log)
        return dg.SensorResult(run_requests=requests, cursor=_cursor(heard))

    return look


def _why_not(connection: Connection) -> str | None:
    if not is_there(connection, incidents.incidents):
        return "nothing is installed in this database yet; run `tally migrate`"
    mine = connection.scalar(
        text("SELECT pg_try_advisory_xact_lock(hashtext('tallykeeper alerts'))")
    )
    return None if mine else "another look is under way"


def _cursor(heard: hearing.Heard) -> str:
    return json.dumps({"event": max((r.storage_id for r in heard.fresh), default=None)})
