//! `metric`: a figure over time, looked at for jumps and drift.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{JudgeError, Work, query};
use crate::rule::Detect;
use crate::verdict::Violation;

/// Why the first figure of all says nothing.
pub(super) const TOO_SHORT: &str = "the history is too short: `metric` needs at least two points";

impl Work {
    /// Computes the figure at now, one step before, two steps before … and says what is wrong with the last one.
    pub(super) async fn metric(
        &self,
        sql: &str,
        every_us: i64,
        detect: &Detect,
    ) -> Result<Vec<Violation>, JudgeError> {
        let now = self
            .options
            .now_us
            .or_else(|| self.history.now_at(self.options.position));
        let (Some(now), Some(first)) = (now, self.history.began(0)) else {
            return Err(JudgeError::Unknown(
                "`metric` needs a history with times".into(),
            ));
        };
        let mut points = Vec::new();
        for step in 0..=i64::from(detect.window.max(1)) {
            let instant = now.saturating_sub(every_us.saturating_mul(step));
            if instant < first {
                break;
            }
            let position = self.history.position_at(instant).min(self.options.position);
            if let Some(gap) = self.history.unseen_at(position) {
                return Err(JudgeError::Unknown(gap.hidden()));
            }
            let engine = Arc::new(self.workshop.engine(&self.history, position, Some(instant)));
            let figure = query::scalar(&engine, sql).await?;
            points.push(
                figure
                    .as_ref()
                    .and_then(number)
                    .map(|value| (value, figure.unwrap_or(Value::Null))),
            );
        }
        let Some(Some((last, shown))) = points.first().cloned() else {
            return Err(JudgeError::Unknown(
                "the figure is NULL or no number at this position".into(),
            ));
        };
        let earlier: Vec<(f64, Value)> = points.into_iter().skip(1).flatten().collect();
        let Some((previous, previous_shown)) = earlier.first().cloned() else {
            return Err(JudgeError::Unknown(TOO_SHORT.into()));
        };
        let mut evidence = Map::new();
        evidence.insert("value".into(), shown);
        let mut bad = false;
        if let Some(percent) = &detect.jump_percent
            && moved_more(previous, last, &percent.value)
        {
            evidence.insert("previous".into(), previous_shown);
            bad = true;
        }
        if let Some(percent) = &detect.drift_percent {
            let mut values: Vec<f64> = earlier.iter().map(|(value, _)| *value).collect();
            values.sort_by(f64::total_cmp);
            let middle = values.len() / 2;
            let median = if values.len() % 2 == 1 {
                values[middle]
            } else {
                (values[middle - 1] + values[middle]) / 2.0
            };
            if moved_more(median, last, &percent.value) {
                evidence.insert(
                    "median".into(),
                    serde_json::Number::from_f64(median).map_or(Value::Null, Value::Number),
                );
                bad = true;
            }
        }
        let violation = Violation {
            key: Map::new(),
            evidence,
            accepted: false,
        };
        Ok(if bad { vec![violation] } else { Vec::new() })
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// Whether the way from one figure to another is more than so many percent of the first.
fn moved_more(from: f64, to: f64, percent: &str) -> bool {
    let Ok(percent) = percent.parse::<f64>() else {
        return false;
    };
    if from == 0.0 {
        to != 0.0
    } else {
        ((to - from) / from).abs() * 100.0 > percent
    }
}
