//! Spread: the rows that were written from bad rows since these went bad, each with the path that explains it.
//!
//! Nobody records what a program read before it wrote. What is known is which rows refer to which ([`Link`]: foreign keys, and what rules
//! match), and which were written together. From these, a row is *derived* from bad data when it was written (inserted, or updated to
//! other values) by a commit, and
//!
//! * **down**: it refers, as it was written, to a row that was bad or derived after that commit. What was written before stays out, however
//!   much it refers to bad rows.
//! * **up**: the commit updated it together with writing a bad or derived row that refers to it, before or after the write: an account's
//!   balance with its payments. A row that is only referred to (a customer, a warehouse, a currency) is not derived, and neither is one
//!   that was inserted in that commit: it was there before what refers to it.
//!
//! A bad row counts from its onset up to the commit that healed it, a derived row from the commit that wrote it on: nobody knows whether a
//! later write put it right. Deleted rows pass on nothing by being deleted. A row that was reached upwards can be a *hub*: more than
//! [`Limits::hub`] rows that refer to it were written since. These were hardly computed from it, so nothing flows down from there; it is
//! said ([`Hub`]). A hub that is bad itself, or was reached downwards, is none.
//!
//! Rows are found in the order of commits, so each stands with the earliest commit that derived it and the shortest path to that. Every
//! row is listed once, bad rows are not listed.

mod index;
mod links;
mod summary;
mod walk;

#[cfg(test)]
mod tests;

pub use links::{Link, add_links, links_of_rule, links_of_schema};
pub use summary::{
    Example, Flow, Part, Step, Summary, TablePart, example, rows_documents, summary,
};
pub use walk::{follow, naming, row_name};

use crate::change::{Cell, Commit};

/// How far spread is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most derived rows.
    pub rows: usize,
    /// The most steps of a path.
    pub depth: u32,
    /// A row that was reached upwards, and that more rows than this refer to, is a hub.
    pub hub: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            rows: 100_000,
            depth: 8,
            hub: 100,
        }
    }
}

/// A row that is bad.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Its table, as an index into the schema.
    pub table: usize,
    /// What names it: its primary key in key order, or all of its columns in their order where the table has none.
    pub name: Vec<Cell>,
    /// The commit after which it was bad; 0 for what was bad before.
    pub from: Commit,
    /// The commit that healed it; None while it is bad.
    pub until: Option<Commit>,
}

/// From which row another was derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Parent {
    /// A bad row: its place in [`Spread::starts`].
    Bad(usize),
    /// A derived row: its place in [`Spread::rows`].
    Derived(usize),
}

/// A row that was written from bad data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derived {
    /// Its table, as an index into the schema.
    pub table: usize,
    /// What names it, as in [`Start::name`].
    pub name: Vec<Cell>,
    /// The first commit that wrote it from bad data.
    pub commit: Commit,
    /// How many steps from a bad row, from 1.
    pub depth: u32,
    /// Where the last step came from.
    pub parent: Parent,
    /// The link of the last step, as an index into [`Spread::links`].
    pub link: usize,
    /// Whether the last step went from a row to one that it refers to.
    pub up: bool,
}

/// A row from which nothing flowed down, because too many rows refer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hub {
    /// Its place in [`Spread::rows`].
    pub row: usize,
    /// The link by which they refer to it.
    pub link: usize,
    /// How many rows that refer to it were written since.
    pub rows: u64,
}

/// What was derived from some bad rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// The bad rows.
    pub starts: Vec<Start>,
    /// The links that were followed.
    pub links: Vec<Link>,
    /// The derived rows, by commit, depth, and the order in which they were found.
    pub rows: Vec<Derived>,
    /// Rows from which nothing flowed down.
    pub hubs: Vec<Hub>,
    /// Whether there are more rows than [`Limits::rows`].
    pub cut_rows: bool,
    /// How many rows were not followed further because of [`Limits::depth`].
    pub cut_depth: u64,
    /// How many writes have a reference that is not known.
    pub not_known: u64,
}

impl Spread {
    /// The steps that lead to a derived row, the bad row's first, as places in [`Spread::rows`], and the bad row's place in
    /// [`Spread::starts`].
    pub fn path(&self, row: usize) -> (usize, Vec<usize>) {
        let mut steps = vec![row];
        let mut at = row;
        loop {
            match self.rows[at].parent {
                Parent::Bad(start) => {
                    steps.reverse();
                    return (start, steps);
                }
                // Parents are found before their children.
                Parent::Derived(parent) => {
                    steps.push(parent);
                    at = parent;
                }
            }
        }
    }
}
