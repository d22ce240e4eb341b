//! A source and rules, opened so that the rules can be judged on one state: what `check` and `gate` have in common.

use std::sync::Arc;

use super::arguments::{AtArgs, LimitArgs};
use super::settings::Source;
use super::{Stop, inputs, live, output};
use crate::config::Config;
use crate::diagnostic::{self, Diagnostic};
use crate::judge::{Judge, Options, Prepared, takes_the_past};
use crate::postgres::Wanted;
use crate::rule::Rule;
use crate::source::Live;
use crate::state::History;
use crate::verdict::Outcome;

/// Where and within which limits to judge.
pub(super) struct Asked<'a> {
    pub(super) source: &'a Source,
    pub(super) place: &'a AtArgs,
    pub(super) limits: &'a LimitArgs,
    pub(super) config: &'a Config,
    /// How many violations of a rule to keep; None for all.
    pub(super) sample: Option<usize>,
    pub(super) verbose: u8,
}

/// Rules that fit a source, which is open.
pub(super) struct Ready {
    pub(super) judge: Judge,
    pub(super) prepared: Vec<Prepared>,
    pub(super) options: Options,
    /// Whether the source is a database, of which only what is needed was read.
    pub(super) is_live: bool,
}

impl Ready {
    /// Judges, with a bar on a terminal.
    pub(super) fn judge(&mut self) -> Vec<Outcome> {
        let prepared = std::mem::take(&mut self.prepared);
        let bar = output::progress(prepared.len());
        let outcomes = self.judge.check(prepared, &self.options, &|id| {
            bar.set_message(id.to_owned());
            bar.inc(1);
        });
        bar.finish_and_clear();
        outcomes
    }
}

impl Asked<'_> {
    /// Opens the source as far as the rules need it. `found` is what is wrong with their files; all of it is said in one run.
    pub(super) fn ready(&self, rules: &[Rule], mut found: Vec<Diagnostic>) -> Result<Ready, Stop> {
        let live = live::open(&self.source.arguments, Some(self.place), self.verbose)?;
        let state_only = !rules.iter().any(takes_the_past);
        let mut near = (state_only && live.is_none()).then_some(self.place);
        let ready = loop {
            let mut noticed = found.clone();
            let history = match &live {
                Some(live) => self.needed(live, rules, &mut noticed)?,
                None => inputs::open_for_rules(
                    &self.source.arguments,
                    near,
                    &mut noticed,
                    self.verbose,
                )?,
            };
            let history = Arc::new(history);
            let options = self.options(&history)?;
            let judge = self.limits.judge(&history, self.config)?;
            let prepared = judge.prepare(rules, &options).unwrap_or_else(|mistakes| {
                noticed.extend(mistakes);
                Vec::new()
            });
            if near.is_some() && prepared.iter().any(Prepared::reads_the_past) {
                near = None;
                continue;
            }
            found = noticed;
            break Ready {
                judge,
                prepared,
                options,
                is_live: live.is_some(),
            };
        };
        if diagnostic::any_error(&found) {
            return Err(output::wrong_input(&found, self.verbose));
        }
        output::diagnostics(&found, self.verbose);
        Ok(ready)
    }

    /// Of a database, what the rules read; nothing where they are wrong.
    fn needed(
        &self,
        live: &Live,
        rules: &[Rule],
        found: &mut Vec<Diagnostic>,
    ) -> Result<History, Stop> {
        let history = Arc::new(live.empty());
        let options = self.options(&history)?;
        let judge = self.limits.judge(&history, self.config)?;
        let prepared = match judge.prepare(rules, &options) {
            Ok(prepared) if !diagnostic::any_error(found) => prepared,
            _ => return Ok(live.empty()),
        };
        let wanted = Wanted::Columns(judge.reads(&prepared, &options).state);
        let opened = live::read(live, &wanted, self.verbose)?;
        found.extend(opened.diagnostics);
        Ok(opened.history)
    }

    fn options(&self, history: &History) -> Result<Options, Stop> {
        Ok(Options {
            position: self.place.resolve(history)?.position,
            now_us: self.place.now,
            sample: self.sample,
        })
    }
}
