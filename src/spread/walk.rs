//! Follows bad rows through the writes, commit by commit.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::ops::Range;

use serde_json::{Map, Value};

use super::index::{Writes, cells, is_reference};
use super::{Derived, Hub, Limits, Link, Parent, Spread, Start};
use crate::change::{Cell, Commit, Op};
use crate::schema::{Schema, Table, value};
use crate::state::{History, Write};

/// The columns that name a row: its primary key in key order, or all where there is none.
pub fn naming(table: &Table) -> Vec<usize> {
    match table.primary_key.as_slice() {
        [] => (0..table.columns.len()).collect(),
        key => key.to_vec(),
    }
}

/// What names a row of a table, as JSON shows it.
pub fn row_name(schema: &Schema, table: usize, name: &[Cell]) -> Map<String, Value> {
    let table = &schema.tables[table];
    let columns = naming(table).into_iter().zip(name);
    let pair = |(at, cell): (usize, &Cell)| {
        let column = &table.columns[at];
        (column.name.clone(), value::to_json(&column.data_type, cell))
    };
    columns.map(pair).collect()
}

/// What was derived from bad rows, as the [module](super) says.
pub fn follow(history: &History, starts: Vec<Start>, links: Vec<Link>, limits: Limits) -> Spread {
    let since = starts.iter().map(|start| start.from).min().unwrap_or(0);
    let mut walk = Walk {
        history,
        writes: Writes::new(history, since),
        limits,
        out: Spread {
            starts,
            links,
            ..Spread::default()
        },
        ids: HashMap::new(),
        rows: Vec::new(),
        queue: BinaryHeap::new(),
        pushed: 0,
    };
    for at in 0..walk.out.starts.len() {
        let start = walk.out.starts[at].clone();
        let row = walk.id(start.table, start.name);
        walk.rows[row].bad = true;
        walk.push(
            start.from,
            0,
            Reached {
                row,
                up: false,
                by: None,
                start: at,
            },
        );
    }
    walk.run();
    walk.out.not_known = walk.writes.not_known;
    walk.out
}

/// A row that was met.
struct Row {
    table: usize,
    name: Vec<Cell>,
    bad: bool,
    /// Its place among the derived rows.
    place: Option<usize>,
    /// Whether it was reached from above and from below already.
    down: bool,
    up: bool,
    /// The earliest commit and depth for which it waits in the queue, from above and from below.
    waits: [Option<(Commit, u32)>; 2],
}

/// Something that happens to a row in the order of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Reached {
    row: usize,
    up: bool,
    /// From where and by which link; None where it is a bad row.
    by: Option<(Parent, usize)>,
    /// The bad row's place.
    start: usize,
}

/// The order of the queue: commit, depth, the order of discovery.
type Turn = (Commit, u32, u64, Reached);

struct Walk<'a> {
    history: &'a History,
    writes: Writes<'a>,
    limits: Limits,
    out: Spread,
    ids: HashMap<(usize, Vec<Cell>), usize>,
    rows: Vec<Row>,
    queue: BinaryHeap<Reverse<Turn>>,
    pushed: u64,
}

/// A row whose neighbours are looked for.
struct Source {
    row: usize,
    parent: Parent,
    /// Up to but without the end, what it is bad for.
    during: Range<Commit>,
    depth: u32,
}

impl Walk<'_> {
    fn id(&mut self, table: usize, name: Vec<Cell>) -> usize {
        let next = self.rows.len();
        let id = *self.ids.entry((table, name.clone())).or_insert(next);
        if id == next {
            self.rows.push(Row {
                table,
                name,
                bad: false,
                place: None,
                down: false,
                up: false,
                waits: [None; 2],
            });
        }
        id
    }

    fn push(&mut self, commit: Commit, depth: u32, reached: Reached) {
        self.pushed += 1;
        self.queue
            .push(Reverse((commit, depth, self.pushed, reached)));
    }

    fn run(&mut self) {
        while let Some(Reverse((commit, depth, _, reached))) = self.queue.pop() {
            let Some(by) = reached.by else {
                let start = &self.out.starts[reached.start];
                let during = start.from..start.until.unwrap_or(Commit::MAX);
                let parent = Parent::Bad(reached.start);
                let source = Source {
                    row: reached.row,
                    parent,
                    during,
                    depth,
                };
                self.flow_up(&source);
                self.flow_down(&source, false);
                continue;
            };
            let row = &mut self.rows[reached.row];
            if row.down || (reached.up && row.up) {
                continue;
            }
            let known = row.place;
            row.up |= reached.up;
            row.down |= !reached.up;
            let place = match known {
                Some(place) => place,
                None if self.out.rows.len() >= self.limits.rows => {
                    self.out.cut_rows = true;
                    return;
                }
                None => self.enter(commit, depth, reached, by),
            };
            let depth = self.out.rows[place].depth;
            if depth >= self.limits.depth {
                self.out.cut_depth += u64::from(known.is_none());
                continue;
            }
            let parent = Parent::Derived(place);
            let during = commit..Commit::MAX;
            let source = Source {
                row: reached.row,
                parent,
                during,
                depth,
            };
            if known.is_none() {
                self.flow_up(&source);
            }
            self.flow_down(&source, reached.up);
        }
    }

    /// Lists a derived row.
    fn enter(
        &mut self,
        commit: Commit,
        depth: u32,
        reached: Reached,
        (parent, link): (Parent, usize),
    ) -> usize {
        let place = self.out.rows.len();
        let row = &mut self.rows[reached.row];
        row.place = Some(place);
        self.out.rows.push(Derived {
            table: row.table,
            name: row.name.clone(),
            commit,
            depth,
            parent,
            link,
            up: reached.up,
        });
        place
    }

    /// Queues a row that was written, unless it was reached before in the same way.
    fn reach(&mut self, source: &Source, link: usize, up: bool, commit: Commit, row: usize) {
        let depth = source.depth + 1;
        let state = &mut self.rows[row];
        let waits = &mut state.waits[usize::from(up)];
        let later = waits.is_some_and(|waits| waits <= (commit, depth));
        if state.bad || state.down || (up && state.up) || later || row == source.row {
            return;
        }
        *waits = Some((commit, depth));
        let by = Some((source.parent, link));
        self.push(
            commit,
            depth,
            Reached {
                row,
                up,
                by,
                start: 0,
            },
        );
    }

    /// The row that a write left.
    fn written(&mut self, table: usize, write: &Write) -> Option<usize> {
        let versions = &self.history.tables[table];
        let name = cells(versions, &naming(&versions.table), write.after?);
        Some(self.id(table, name))
    }

    /// Rows that refer to the row and were written while it was bad.
    fn flow_down(&mut self, source: &Source, reached_up: bool) {
        let table = self.rows[source.row].table;
        for at in 0..self.out.links.len() {
            let link = self.out.links[at].clone();
            if link.parent != table {
                continue;
            }
            let mut seen = HashSet::new();
            let mut children: Vec<(Commit, usize)> = Vec::new();
            for (values, during) in self.referred(&link, source) {
                if !is_reference(&values) {
                    continue;
                }
                let writes = self
                    .writes
                    .holding(link.child, (&link.columns, &values), &during);
                for write in writes {
                    let child = self.written(link.child, &write);
                    let child = child.filter(|&child| child != source.row);
                    children.extend(child.map(|child| (write.commit, child)));
                }
            }
            children.sort_by_key(|(commit, _)| *commit);
            children.retain(|(_, child)| seen.insert(*child));
            if reached_up && children.len() > self.limits.hub {
                let row = self.rows[source.row].place;
                self.out.hubs.extend(row.map(|row| Hub {
                    row,
                    link: at,
                    rows: children.len() as u64,
                }));
                continue;
            }
            for (commit, child) in children {
                self.reach(source, at, false, commit, child);
            }
        }
    }

    /// What the rows that refer to this one hold, and while which commits.
    fn referred(&mut self, link: &Link, source: &Source) -> Vec<(Vec<Cell>, Range<Commit>)> {
        let row = &self.rows[source.row];
        let versions = &self.history.tables[row.table];
        let naming = naming(&versions.table);
        let place = |column: &usize| naming.iter().position(|at| at == column);
        let named: Option<Vec<Cell>> = link
            .to
            .iter()
            .map(|column| Some(row.name[place(column)?].clone()))
            .collect();
        if let Some(values) = named {
            return vec![(values, source.during.clone())];
        }
        let mut out = Vec::new();
        for version in self.writes.versions(row.table, &row.name) {
            let (born, died) = versions.lifetime(version);
            let during = born.max(source.during.start)..died.min(source.during.end);
            if !during.is_empty() {
                out.push((cells(versions, &link.to, version), during));
            }
        }
        out
    }

    /// Rows that the row refers to and that were updated together with it.
    fn flow_up(&mut self, source: &Source) {
        let row = &self.rows[source.row];
        let (table, name) = (row.table, row.name.clone());
        let versions = &self.history.tables[table];
        let naming = naming(&versions.table);
        if !self.out.links.iter().any(|link| link.child == table) {
            return;
        }
        let own = self.writes.holding(table, (&naming, &name), &source.during);
        for write in own {
            let together = write.commit..write.commit.saturating_add(1);
            for at in 0..self.out.links.len() {
                let link = self.out.links[at].clone();
                if link.child != table {
                    continue;
                }
                let images = [write.after, write.before].into_iter().flatten();
                let mut values: Vec<Vec<Cell>> = images
                    .map(|version| cells(versions, &link.columns, version))
                    .filter(|values| is_reference(values))
                    .collect();
                values.dedup();
                for values in values {
                    let written = self
                        .writes
                        .holding(link.parent, (&link.to, &values), &together);
                    for parent in written.iter().filter(|write| write.op == Op::Update) {
                        if let Some(id) = self.written(link.parent, parent) {
                            self.reach(source, at, true, write.commit, id);
                        }
                    }
                }
            }
        }
    }
}
