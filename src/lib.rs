//! Firstbad names the first bad write.
//!
//! Rules say what must hold; they run as DataFusion queries over a history of tables. A rule that does not hold is shown with the keys
//! that violate it and the evidence, never as a count alone.
//!
//! # The flow
//!
//! ```text
//! rules/*.yaml -> rule ----------------------> plan      (rule + schema -> SQL, key, evidence; locality)
//!                                               |
//! files, dumps -> source -> timeline -> state -> judge -> verdict -> baseline ----+-> report
//!                  ^  |                   ^  |    |  |                            |
//!            store +  +-> schema ---------+  |    |  +-> lives -> bisect ---------+
//!                                            |    |  +-> turns -> incident -------+   (what became of violations, commit by commit)
//!                                            |    |                 ^
//!                                            |    |  factors -------+   (what bad writes have in common)
//!                                            |    |  spread --------+   (what was written from bad rows since)
//!                                            |    +-> case              (examples inside rule files)
//!                                            |    +-> answer            (any query: `firstbad sql`)
//!                                            +-> diff                   (rows that differ between two states)
//!
//! postgres -> watch -> store, incident         (a live server: every commit is recorded and judged)
//!                                |
//!                                +-> alert      (those who asked for it are told, until they have got it)
//!                                +-> gate       (whether tables may be relied on, up to where)
//!          incident, store -> evidence -> repair (rows before and after; SQL that puts good values back)
//!                    +-----------> quarantine   (bad rows are set apart in Postgres)
//! postgres, store -> audit                     (rows that no recorded write explains)
//!                +---> doctor                   (what the server lacks to be watched)
//!
//! firstbad.yaml -> config                        (what stands for flags and SOURCE where they are left out)
//! ```
//!
//! There are two roads from a rule to verdicts. *In full*, its query runs on the state at one position: `check` does this. *Lifted*, it
//! runs on only the keys that changes can affect, at every commit at once, and says from which commit to which each key was bad: the
//! lives of its violations. `bisect` reads the first bad write from them. A rule of the whole, which no change affects key by key, is
//! judged in full at one position after the other. Where both roads lead, they say the same.
//!
//! Time is the timeline, space is the state, judgement has no memory. A module uses only modules that are declared above it here, and
//! is entered through its face; `tests/house.rs` holds the order.
//!
//! # What must always be true
//!
//! The numbers are those that comments refer to.
//!
//! | | invariant | owner | test |
//! |---|---|---|---|
//! | 1 | The lives of violations are what judging the state in full after every single commit finds. | [`judge`] | `tests/oracle` |
//! | 2 | The state at a position is a function of the snapshot and the changes up to it. | [`state`] | `tests/oracle` |
//! | 3 | Rules are judged at transaction boundaries only. | [`state`] | `tests/oracle` |
//! | 4 | Not known is never NULL; a rule that reads what is not known is unknown. | [`state`], [`judge`] | `tests/cli` |
//! | 5 | Unknown is never reported as held; a rule whose subject matched no row says so. | [`judge`], [`report`] | `tests/cli` |
//! | 6 | The first bad write is the exact transaction, or is said to be bounded or pre-existing; what was read in a snapshot is never blamed on a transaction. | [`bisect`] | `tests/oracle`, `tests/cli` |
//! | 7 | A batch of commits may be judged again after a crash: it changes the incidents once, and what is to be said of them is kept until it was said. | [`incident`] | `incident`, `tests/store` |
//! | 8 | Rows are set apart by key and old image, all or none, and released without a trace; nothing acts on a row that has changed since. | [`quarantine`] | `tests/postgres` |
//! | 9 | No row of a user's is ever changed; rows are set apart only in tables that are switched on. | [`quarantine`] | `tests/postgres` |
//! | 7 | Every sink of alerts gets what became of an incident at least once, under the same id, and in order; nobody waits for it. | [`incident`], [`alert`] | `alert`, `tests/cli` |
//! | 10 | Memory, time, samples and texts have named limits; one rule that exceeds them is unknown, the others are judged. | [`judge`], [`rule`] | `tests/hostile` |
//! | 11 | Row values appear in keys and evidence only, never in messages or logs. | [`diagnostic`], [`judge`] | `tests/hostile` |
//! | 11 | Passwords appear nowhere, and what a server says of values is left out of errors. | [`postgres`] | `tests/postgres` |
//! | 3, 4 | A transaction of the stream is handed on whole or not at all; what the log leaves out is not known, never NULL. | [`postgres`] | `tests/postgres` |
//! | 12 | What is shown is escaped for the place where it is shown. | [`escape`], [`report`] | `report` |
//! | 13 | No value passes through a double unless it is one. | [`change`], [`schema`] | `schema::value` |
//! | 14 | A history that contradicts itself is refused, with file, line, commit, table and key. | [`timeline`], [`state`] | `tests/cli` |
//! | 15 | Rule SQL reads registered tables and nothing else. | [`rule`], [`judge`] | `tests/hostile` |
//! | 16 | The timeline of a store is append-only: any changed, missing or added byte is found and located, and no parser sees bytes whose hash was not compared. | [`store`] | `tests/store` |
//! | 17 | After a crash or a failed write, all that was sealed is there, and nothing else is claimed. | [`store`] | `tests/store` |
//! | 18 | Equal states have equal fingerprints, whatever way led there. | [`state`], [`store`] | `state`, `tests/store` |
//!
//! # Four kinds of wrong
//!
//! The data is wrong: a [`verdict::Violation`], ordinary output. The user's files are wrong: [`diagnostic::Diagnostic`]s, all of them at once,
//! exit 2. The world failed: one error type a module ([`source::SourceError`], [`judge::JudgeError`], …), exit 3 or an unknown verdict. We are
//! wrong: `assert!` and `expect`, which say why it cannot happen.

// Foreign text, made harmless for the place where it is shown.
pub mod escape;

// What is wrong with a user's file: file, line, column, and what to write instead.
pub mod diagnostic;

// Cells, changes, transactions: what happened, exactly.
pub mod change;

// Tables, types and keys; `schema.sql`; values as text, JSON and Arrow.
pub mod schema;

// Rules, as written in YAML.
pub mod rule;

// `firstbad.yaml`: what the runs in a directory have in common; variables of the environment for secrets.
pub mod config;

// The ordered transactions of a history, streamed from files: native, wal2json, Debezium.
pub mod timeline;

// Multi-version tables: the state, the changes and the writes at any position, and the lifetimes of rows.
pub mod state;

// Histories that last: segments, snapshots and the chain that vouches for every byte.
pub mod store;

// What bad writes have in common that good ones have not, guarded against chance.
pub mod factors;

// A rule and a schema become questions to the engine; which rows decide about a key; aggregates as tables.
pub mod plan;

// Verdicts, violations, the report of a run: plain data.
pub mod verdict;

// DataFusion judges plans within limits: in full at a position, or lifted over all commits; it answers queries as well.
pub mod judge;

// Violations that somebody has accepted, in a file.
pub mod baseline;

// From the lives of violations to the first bad write; or by any command that judges a state.
pub mod bisect;

// Which rows were written from bad rows since they went bad, along references and common transactions.
pub mod spread;

// What becomes of violations over time: incidents, kept in `firstbad.db` beside a store.
pub mod incident;

// The rows that an incident is about: before they were bad, when they became so, and now.
pub mod evidence;

// What `check` and `bisect` found as text and JSON; checks also as JUnit, SARIF, annotations and Markdown.
pub mod report;

// Answers of queries as text, JSON, JSON Lines, CSV or Parquet.
pub mod answer;

// Rows that differ between two states: two positions, or two sources.
pub mod diff;

// Postgres, as a good guest: connections, the catalog, snapshots of tables, publications and slots, the stream of changes.
pub mod postgres;

// Finds out what a source is and reads it: histories, dated snapshots, table files, dumps; makes synthetic ones.
pub mod source;

// Tells those who asked for it of incidents: webhooks, chat, pagers, mail, commands.
pub mod alert;

// The SQL that would put good values back, proved before anybody sees it.
pub mod repair;

// Whether tables may be relied on: clean, not clean or not known, and up to where.
pub mod gate;

// Watches a database: every commit is recorded and judged, what is found becomes incidents.
pub mod watch;

// Reads tables again, and compares them with what the recorded log says.
pub mod audit;

// What a database lacks to be watched, what that would break, and the SQL that mends it.
pub mod doctor;

// Rows that an incident is about are set apart in Postgres, reversibly.
pub mod quarantine;

// Runs the examples inside rule files.
pub mod case;

// The command line: the only module that prints.
pub mod cli;
