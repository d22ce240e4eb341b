//! The server and the role: settings, room, the slot, and what no stream tells.

use super::facts::Host;
use super::{Facts, Finding, Severity, Subject};
use crate::diagnostic::{counted, sized};
use crate::postgres::catalog::quoted;

/// The oldest server whose standbys have logical slots.
const STANDBY_SINCE: u32 = 160_000;
/// The oldest server whose stream carries context.
const MESSAGES_SINCE: u32 = 140_000;
/// A transaction that is open for so long is worth a word, in seconds.
const LONG_S: f64 = 60.0;
/// A server that waits for fewer milliseconds ends connections that only stall.
const SENDER_TIMEOUT_MS: i64 = 5_000;
/// A server that keeps fewer megabytes for a slot loses it soon.
const KEPT_MB: i64 = 1_024;
/// The server's own default, in kilobytes.
const DECODING_KB: i64 = 65_536;
/// A slot that keeps so much is worth a word.
const RETAINED_BYTES: u64 = 1 << 30;

/// What is wrong with the server and the role.
pub(super) fn examine(subject: &Subject<'_>, found: &mut Vec<Finding>) {
    let facts = subject.facts;
    found.extend(wal_level(facts));
    found.extend(role(facts));
    if subject.slot_is_missing() {
        found.extend(room(
            facts,
            "max_replication_slots",
            "slots-full",
            facts.slots_used,
            "no slot can be made",
        ));
    }
    let is_streamed = facts
        .slot
        .as_ref()
        .is_some_and(|slot| slot.active_pid.is_some());
    if !is_streamed {
        found.extend(room(
            facts,
            "max_wal_senders",
            "senders-full",
            facts.senders_used,
            "nothing can be streamed",
        ));
    }
    standby(facts, found);
    found.extend(open_transactions(subject));
    found.extend(keeping(facts));
    found.extend(timeouts(facts));
    if facts.version < MESSAGES_SINCE {
        found.push(
            Finding::new(
                "no-messages",
                Severity::Weakens,
                format!(
                    "PostgreSQL {} does not pass messages on",
                    facts.version_text
                ),
                "first bad writes have no context: no service, no version of it",
            )
            .hint("PostgreSQL 14 and later do"),
        );
    }
    if facts.shown("server_encoding") == "SQL_ASCII" {
        found.push(Finding::new(
            "encoding",
            Severity::Weakens,
            "the database's encoding is SQL_ASCII: its texts may be anything",
            "text that is not UTF-8 is not known, and rules that read it are unknown",
        ));
    }
}

/// A statement that changes a setting of the server, where it is ours to change.
fn set(facts: &Facts, finding: Finding, name: &str, value: &str, restart: bool) -> Finding {
    let where_else = match facts.host {
        Host::Own => None,
        Host::Amazon => Some("in the DB parameter group"),
        Host::Google => Some("as a database flag of the instance"),
        Host::AlloyDb => Some("as a database flag of the instance"),
        Host::Azure => Some("among the server parameters"),
    };
    match where_else {
        Some(place) => finding.hint(format!(
            "set {name} = {value} {place}{}",
            if restart { ", and restart" } else { "" }
        )),
        None => {
            let finding = finding.fix(format!("alter system set {name} = '{value}';"));
            match restart {
                true => finding.hint("then restart the server"),
                false => finding.fix("select pg_reload_conf();"),
            }
        }
    }
}

fn wal_level(facts: &Facts) -> Option<Finding> {
    let level = facts.shown("wal_level");
    if level == "logical" {
        return None;
    }
    let finding = Finding::new(
        "wal-level",
        Severity::Blocks,
        format!("wal_level is {level}, not logical"),
        "the log lacks what a stream of changes is made of: no slot can be made",
    );
    Some(match facts.host {
        Host::Own => set(facts, finding, "wal_level", "logical", true),
        Host::Amazon => finding.hint("set rds.logical_replication = 1 in the DB parameter group (Aurora: the cluster's), and reboot the writer"),
        Host::Google => finding.hint("set the flag cloudsql.logical_decoding = on; the instance restarts"),
        Host::AlloyDb => finding.hint("set the flag alloydb.logical_decoding = on; the instance restarts"),
        Host::Azure => finding.hint("set the server parameter wal_level = logical, and restart"),
    })
}

fn role(facts: &Facts) -> Option<Finding> {
    if facts.may_replicate {
        return None;
    }
    let finding = Finding::new(
        "no-replication",
        Severity::Blocks,
        format!("role {} may not replicate", facts.role),
        "it can neither make a slot nor stream one",
    );
    let role = quoted(&facts.role);
    Some(match facts.host {
        Host::Amazon => finding.fix(format!("grant rds_replication to {role};")),
        _ => finding.fix(format!("alter role {role} replication;")),
    })
}

fn room(
    facts: &Facts,
    setting: &str,
    id: &'static str,
    used: i64,
    breaks: &str,
) -> Option<Finding> {
    let most = facts.number(setting)?;
    if used < most {
        return None;
    }
    let finding = Finding::new(
        id,
        Severity::Blocks,
        format!("{used} of {setting} = {most} are in use"),
        breaks,
    );
    Some(set(
        facts,
        finding,
        setting,
        &(most.max(used) + 2).to_string(),
        true,
    ))
}

fn standby(facts: &Facts, found: &mut Vec<Finding>) {
    if !facts.in_recovery {
        return;
    }
    if facts.version < STANDBY_SINCE {
        found.push(
            Finding::new(
                "standby",
                Severity::Blocks,
                format!(
                    "the server is a hot standby of PostgreSQL {}",
                    facts.version_text
                ),
                "it can make no logical slot: only standbys of PostgreSQL 16 and later can",
            )
            .hint("watch the primary; a standby can be checked"),
        );
        return;
    }
    found.push(Finding::new(
        "standby",
        Severity::Note,
        "the server is a hot standby",
        "making the slot waits until the primary has written a snapshot of its transactions; roles and publications are made on the primary",
    ).fix("select pg_log_standby_snapshot(); -- on the primary, while the watcher begins"));
    if facts.shown("hot_standby_feedback") == "off" {
        let finding = Finding::new(
            "standby-feedback",
            Severity::Weakens,
            "hot_standby_feedback is off",
            "the primary may remove rows of the catalog that the slot needs: then the slot is lost, which is a gap",
        );
        found.push(set(facts, finding, "hot_standby_feedback", "on", false));
    }
}

fn open_transactions(subject: &Subject<'_>) -> Option<Finding> {
    let facts = subject.facts;
    let prepared = facts.oldest_prepared_s.unwrap_or(0.0);
    let oldest = facts.oldest_s.unwrap_or(0.0).max(prepared);
    if oldest < LONG_S {
        return None;
    }
    let breaks = match subject.slot_is_missing() {
        true => "making the slot waits until it has ended, and it keeps the log from being let go",
        false => "it keeps the log from being let go, however fast the watcher is",
    };
    let what = if prepared >= oldest {
        "prepared transaction"
    } else {
        "transaction"
    };
    let finding = Finding::new(
        "long-transaction",
        Severity::Weakens,
        format!(
            "a {what} that writes has been open for {} minutes",
            (oldest / 60.0) as u64
        ),
        breaks,
    );
    Some(match prepared >= oldest {
        true => finding.fix("select gid, prepared, owner, database from pg_prepared_xacts order by prepared;"),
        false => finding.fix("select pid, usename, xact_start, state from pg_stat_activity where backend_xid is not null order by xact_start;"),
    })
}

/// How much log the server keeps for a watcher that is away.
fn keeping(facts: &Facts) -> Option<Finding> {
    let most = facts.number("max_slot_wal_keep_size")?;
    if most < 0 {
        let finding = Finding::new(
            "unbounded-log",
            Severity::Note,
            "max_slot_wal_keep_size has no limit",
            "while the watcher is away, or behind, the server keeps log for it until its disk is full",
        );
        let finding = set(facts, finding, "max_slot_wal_keep_size", "50GB", false);
        let limit =
            "a watcher that runs and is too far behind gives its slot up with --drop-slot-above";
        let hint = finding
            .hint
            .as_ref()
            .map_or(limit.to_owned(), |hint| format!("{hint}; {limit}"));
        return Some(finding.hint(hint));
    }
    (most < KEPT_MB).then(|| {
        let finding = Finding::new(
            "little-log",
            Severity::Weakens,
            format!("max_slot_wal_keep_size is {}", facts.shown("max_slot_wal_keep_size")),
            "a watcher that is away, or behind, for more log than that loses its slot, which is a gap",
        );
        set(facts, finding, "max_slot_wal_keep_size", "50GB", false)
    })
}

fn timeouts(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    match facts.number("wal_sender_timeout") {
        Some(0) => found.push(set(facts, Finding::new(
            "no-sender-timeout",
            Severity::Note,
            "wal_sender_timeout is off",
            "when the network fails, the server holds the slot for a watcher that is gone, and its successor waits",
        ), "wal_sender_timeout", "60s", false)),
        Some(some) if some < SENDER_TIMEOUT_MS => found.push(set(facts, Finding::new(
            "short-sender-timeout",
            Severity::Weakens,
            format!("wal_sender_timeout is {}", facts.shown("wal_sender_timeout")),
            "a stall of a few seconds ends the connection, and the log is decoded again",
        ), "wal_sender_timeout", "60s", false)),
        _ => {}
    }
    if facts
        .number("idle_replication_slot_timeout")
        .is_some_and(|some| some > 0)
    {
        found.push(Finding::new(
            "idle-slot-timeout",
            Severity::Weakens,
            format!(
                "idle_replication_slot_timeout is {}",
                facts.shown("idle_replication_slot_timeout")
            ),
            "a watcher that is away for longer loses its slot, which is a gap",
        ));
    }
    if facts
        .number("logical_decoding_work_mem")
        .is_some_and(|some| some < DECODING_KB)
    {
        let finding = Finding::new(
            "decoding-memory",
            Severity::Note,
            format!(
                "logical_decoding_work_mem is {}",
                facts.shown("logical_decoding_work_mem")
            ),
            "larger transactions are written to the server's disk while they are decoded",
        );
        found.push(set(
            facts,
            finding,
            "logical_decoding_work_mem",
            "64MB",
            false,
        ));
    }
    found
}

impl Subject<'_> {
    fn slot_is_missing(&self) -> bool {
        self.facts.slot.is_none()
    }
}

/// What is wrong with the slot.
pub(super) fn slot(subject: &Subject<'_>, found: &mut Vec<Finding>) {
    let (facts, name) = (subject.facts, subject.slot);
    let Some(slot) = &facts.slot else {
        found.push(Finding::new(
            "no-slot",
            Severity::Note,
            format!("there is no slot {name}"),
            "nothing: the watcher makes it when it begins",
        ));
        return;
    };
    let drop = format!("select pg_drop_replication_slot('{name}');");
    if slot.plugin.as_deref() != Some("pgoutput") || slot.database.as_ref() != Some(&facts.database)
    {
        let what = match (&slot.plugin, &slot.database) {
            (Some(plugin), Some(database)) => {
                format!("is of plugin {plugin} in database {database}")
            }
            _ => "is a physical one".to_owned(),
        };
        found.push(
            Finding::new(
                "other-slot",
                Severity::Blocks,
                format!("slot {name} {what}"),
                "it cannot be streamed here",
            )
            .hint("name another with --slot"),
        );
        return;
    }
    if let Some(pid) = slot.active_pid {
        found.push(Finding::new(
            "slot-in-use",
            Severity::Blocks,
            format!("slot {name} is streamed by process {pid}"),
            "a second watcher is refused; where this is your watcher, all is well",
        ).fix(format!("select application_name, client_addr, backend_start from pg_stat_replication where pid = {pid};"))
        .hint("a second watcher takes another --slot, and another --store"));
    }
    if slot.wal_status.as_deref() == Some("lost") {
        found.push(Finding::new(
            "slot-lost",
            Severity::Weakens,
            format!("the server has removed log that slot {name} needed"),
            "what was written since is not seen: the next start of its watcher records a gap and reads the tables anew",
        ).fix(drop).hint("the statement is for a slot whose watcher does not come back"));
        return;
    }
    if slot.wal_status.as_deref() == Some("unreserved") {
        found.push(
            Finding::new(
                "slot-at-risk",
                Severity::Weakens,
                format!("slot {name} needs log that the server is about to remove"),
                "the next checkpoint may lose the slot, which is a gap",
            )
            .hint("start its watcher now"),
        );
    }
    if slot.active_pid.is_none() {
        let kept = sized(facts.retained_bytes);
        let severity = match facts.retained_bytes >= RETAINED_BYTES {
            true => Severity::Weakens,
            false => Severity::Note,
        };
        let room = slot.safe_wal_size.filter(|bytes| *bytes >= 0);
        let room = room.map_or(String::new(), |bytes| {
            format!("; it is lost after {} more", sized(bytes.unsigned_abs()))
        });
        found.push(Finding::new(
            "slot-idle",
            severity,
            format!("slot {name} is there, nobody streams it, and the server keeps {kept} of log for it{room}"),
            "a watcher with the slot's own store goes on from it; one with a new store refuses it",
        ).fix(drop).hint("the statement is for a slot whose watcher does not come back"));
    }
    if slot.two_phase {
        found.push(Finding::new(
            "two-phase",
            Severity::Note,
            format!("slot {name} tells of prepared transactions when they are prepared"),
            "the watcher makes its own without that",
        ));
    }
}

/// What no stream tells.
pub(super) fn not_seen(subject: &Subject<'_>, found: &mut Vec<Finding>) {
    let facts = subject.facts;
    let mut parts = Vec::new();
    if facts.sequences > 0 {
        parts.push(counted(facts.sequences.unsigned_abs(), "sequence"));
    }
    if facts.large_objects {
        parts.push("large objects".to_owned());
    }
    let views = facts.catalog.left_out.len() as u64;
    if views > 0 {
        parts.push(format!(
            "views, foreign tables and tables of extensions ({views})"
        ));
    }
    if !parts.is_empty() {
        found.push(Finding::new(
            "not-covered",
            Severity::Note,
            format!("no stream tells of {}", parts.join(", ")),
            "they are not watched",
        ));
    }
    if !facts.sees_others && facts.oldest_s.is_none() {
        found.push(
            Finding::new(
                "sees-little",
                Severity::Note,
                format!("role {} does not see what others run", facts.role),
                "doctor cannot tell whether a long transaction would keep the slot from being made",
            )
            .fix(format!(
                "grant pg_read_all_stats to {};",
                quoted(&facts.role)
            )),
        );
    }
    if !facts.has_context && facts.version >= MESSAGES_SINCE {
        found.push(Finding::new(
            "no-context",
            Severity::Note,
            "there is no function firstbad.context(jsonb)",
            "first bad writes have their transaction and time, but not the service and version that made them",
        ).hint("psql -f sql/03-context.sql, and a call of it in the application's transactions"));
    }
}
