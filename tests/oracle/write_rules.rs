//! Random checks of writes.

use crate::fragments::SCALARS;
use crate::rules::{Draft, list, quoted};
use crate::world::COMMON;

impl Draft<'_> {
    pub(crate) fn write_check(&mut self, kind: &str) -> String {
        match kind {
            "append_only" | "no_delete" | "no_resurrection" => "true".to_owned(),
            "immutable" | "set_once" => self.columns(3),
            "transitions" => self.transitions(),
            "monotonic" => {
                let column = self.of(&["v", "n", "q", "t", "d"]);
                let direction =
                    self.of(&["", ", direction: increasing", ", direction: decreasing"]);
                format!(
                    "{{column: {column}{direction}, strict: {}}}",
                    self.rng.chance(40)
                )
            }
            "increments" => format!(
                "{{column: {}, by: {}}}",
                self.of(&["v", "v", "n", "q"]),
                self.of(&["1", "-1", "2", "0.5"])
            ),
            "touched" if self.rng.chance(40) => self.of(&COMMON).to_owned(),
            "touched" => format!(
                "{{column: {}, when: {}}}",
                self.of(&["t", "v", "b"]),
                list(&self.rng.some(&["n", "q", "s", "u"], 1, 3))
            ),
            "balanced_transaction" => {
                let filter = if self.rng.chance(30) {
                    format!(", where: {}", self.condition())
                } else {
                    String::new()
                };
                format!(
                    "{{sum: {}{}{filter}}}",
                    quoted(self.rng.pick(&SCALARS).0),
                    self.per()
                )
            }
            _ => {
                let ops = self.of(&[
                    "",
                    "",
                    ", ops: [insert]",
                    ", ops: [insert, update, delete]",
                    ", ops: [delete]",
                ]);
                match self.rng.below(3) {
                    0 => format!("{{max_rows: {}{ops}}}", self.rng.below(4)),
                    1 => format!(
                        "{{max_percent: {}{ops}}}",
                        self.of(&["0", "10", "25", "33.3", "50"])
                    ),
                    _ => format!("{{max_rows: 2, max_percent: 30{ops}}}"),
                }
            }
        }
    }

    fn transitions(&mut self) -> String {
        let column = self.of(&["s", "s", "n", "b"]);
        let states: Vec<String> = match column {
            "s" => ["draft", "placed", "paid", "a", "null"]
                .iter()
                .map(|name| (*name).to_owned())
                .collect(),
            "n" => ["0", "1", "2", "null"]
                .iter()
                .map(|name| (*name).to_owned())
                .collect(),
            _ => ["true", "false", "null"]
                .iter()
                .map(|name| (*name).to_owned())
                .collect(),
        };
        let mut steps = Vec::new();
        for from in self.rng.some(&states, 1, 3) {
            steps.push(format!("{from}: {}", list(&self.rng.some(&states, 0, 3))));
        }
        let initial = if self.rng.chance(50) {
            format!(", initial: {}", list(&self.rng.some(&states, 1, 3)))
        } else {
            String::new()
        };
        format!(
            "{{column: {column}, allowed: {{{}}}{initial}}}",
            steps.join(", ")
        )
    }
}
