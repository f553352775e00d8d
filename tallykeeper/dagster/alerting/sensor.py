"""The sensor `alerts`: faults become incidents, repairs are requested, people notified.

Only the order of things stands here: one transaction in which all of it is written down, then the
deliveries, which may fail without any harm to the rest. What is read and seen, how it is said, and
how it gets there is in the files beside this one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import dagster as dg
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from tallykeeper.catalog.state import is_there
from tallykeeper.dagster.alerting import event_log_reader, incident_rules, tick_monitor
from tallykeeper.dagster.alerting.ownership import own_of
from tallykeeper.dagster.alerting.sensor_cursor import Memory
from tallykeeper.dagster.assets import SystemAssets
from tallykeeper.dagster.automation.repair_requests import (
    lost_requests,
    repair_requests,
)
from tallykeeper.dagster.database import Database
from tallykeeper.dagster.instance.housekeeping import why_not_read
from tallykeeper.dagster.inventory import incidents_key
from tallykeeper.dagster.metadata import incident_summary
from tallykeeper.dagster_names import REPAIR, prefixed
from tallykeeper.database.connections import DatabaseUnavailable
from tallykeeper.faults import incidents, manual_writes
from tallykeeper.operations import delivery, message_templates, outbox
from tallykeeper.operations.alert_targets import Target, targets
from tallykeeper.operations.delivery import Lost, is_unreachable
from tallykeeper.operations.message_templates import Text
from tallykeeper.settings import alert_repeat_hours, ui_url

ALERTS = "alerts"
LOOK_EVERY_SECONDS = 30


def alerts(systems: Sequence[SystemAssets]) -> dg.SensorDefinition:
    """Record what is wrong with any tally, check, run or schedule; ask for repairs; tell people."""
    own = own_of(systems)

    @dg.sensor(
        name=prefixed(ALERTS),
        job_name=prefixed(REPAIR),
        minimum_interval_seconds=LOOK_EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Failed checks and runs, missed ticks and changes that wait too long become incidents;"
            " messages go to TALLY_ALERT_URLS, and repairs are requested."
        ),
    )
    def look(context: dg.SensorEvaluationContext, tally_database: Database) -> dg.SensorResult:
        unreadable = why_not_read(context.instance)
        if unreadable:
            return dg.SensorResult(skip_reason=unreadable, cursor=context.cursor)
        recipients, repeat_hours = targets(), alert_repeat_hours()
        ui_url()
        memory, now = Memory.of(context.cursor), datetime.now(UTC)
        try:
            engine = tally_database.engine()
            found = tick_monitor.ages(engine, systems)
            with engine.begin() as connection:
                why_not = _why_not(connection)
                if why_not:
                    return dg.SensorResult(skip_reason=why_not, cursor=context.cursor)
                place = incident_rules.place_of(context, prefixed(ALERTS), own)
                memory = _absence(connection, memory, now)
                events = event_log_reader.listen(context.instance, connection, place.name)
                found_now = incident_rules.find(context.instance, connection, place, events)
                found_now |= tick_monitor.pending(connection, found)
                found_now |= tick_monitor.uncompared(connection, found.looked_at)
                found_now |= manual_writes.look(connection, sorted(found.looked_at))
                found_now |= tick_monitor.ticks(
                    context.instance, connection, place, memory.since(now)
                )
                kept = {tally.name for tally in own.tallies.values()}
                requests = [
                    *lost_requests(context.instance, connection, kept),
                    *repair_requests(context.instance, connection, kept),
                ]
                texts = outbox.write(connection, found_now, recipients, repeat_hours)
                lost = delivery.give_up_removed(connection, recipients)
                listing = incident_summary.of_table(connection)
            _list_incidents(context.instance, listing)
            _log(context.log, texts, recipients, lost)
            delivery.deliver(engine, recipients, context.log)
        except (DatabaseUnavailable, OperationalError) as error:
            if not is_unreachable(error):
                raise
            return _unreachable(context, memory, recipients, now, error)
        if memory.notified_unreachable:
            said = message_templates.reachable(memory.unreachable_since, now)
            delivery.send_directly(recipients, said, context.log)
        return dg.SensorResult(
            run_requests=requests, cursor=memory.after_look(events.last, now).spelled()
        )

    return look


def _list_incidents(instance: dg.DagsterInstance, listing: Mapping[str, dg.MetadataValue]) -> None:
    """Have the asset of the incidents list them, where that is not what it says already."""
    latest = instance.get_latest_materialization_event(incidents_key())
    if latest is None or latest.asset_materialization is None:
        known: Mapping[str, dg.MetadataValue] = {}
    else:
        known = latest.asset_materialization.metadata
    if known != listing:
        instance.report_runless_asset_event(
            dg.AssetMaterialization(incidents_key(), metadata=listing)
        )


def _why_not(connection: Connection) -> str | None:
    if not is_there(connection, incidents.incidents):
        return "nothing is installed in this database yet; run `tally migrate`"
    mine = connection.scalar(
        text("SELECT pg_try_advisory_xact_lock(hashtext('tallykeeper alerts'))")
    )
    return None if mine else "another look is under way"


def _absence(connection: Connection, memory: Memory, now: datetime) -> Memory:
    """Write down a gap since the last look; looking begins anew after one."""
    if memory.looked_at is None or now - memory.looked_at < tick_monitor.GRACE:
        return memory
    why = "Dagster's daemon was down, or this sensor failed"
    if memory.unreachable_since is not None:
        why = "the database was not reachable"
    tick_monitor.absence(connection, memory.looked_at, now, why)
    return replace(memory, looking_since=now)


def _unreachable(
    context: dg.SensorEvaluationContext,
    memory: Memory,
    recipients: Sequence[Target],
    now: datetime,
    error: DatabaseUnavailable | OperationalError,
) -> dg.SensorResult:
    """Nothing can be written down: tell it once, directly, if it is so at a second look too."""
    reason = incident_rules.one_line(
        str(error.orig if isinstance(error, OperationalError) else error)
    )
    if memory.unreachable_since is not None and not memory.notified_unreachable:
        said = message_templates.unreachable(memory.unreachable_since, reason)
        memory = replace(memory, notified_unreachable=True)
        delivery.send_directly(recipients, said, context.log)
    memory = replace(memory, unreachable_since=memory.unreachable_since or now)
    return dg.SensorResult(
        skip_reason=f"the database is not reachable: {reason}", cursor=memory.spelled()
    )


def _log(
    log: logging.Logger, texts: Sequence[Text], recipients: Sequence[Target], lost: Sequence[Lost]
) -> None:
    for one in texts:
        log.info("%s", one.title if recipients else f"{one.title}\n{one.body}")
    for each in lost:
        log.error("%s", each)
