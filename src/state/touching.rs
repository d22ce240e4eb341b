//! Which writes a reader of some columns can notice: an update of other columns is none to it.

use super::versions::TableVersions;
use crate::change::{Commit, Op};

impl TableVersions {
    /// The commits that changed what somebody sees who reads only these columns, in order: those by which rows came or went, or one of
    /// the columns got another value. A commit that changed a value and changed it back may be among them.
    pub fn commits_touching(&self, columns: &[usize]) -> impl Iterator<Item = Commit> {
        let groups = self.events.chunk_by(|a, b| a.commit == b.commit);
        groups.filter_map(move |group| {
            let touches = group.iter().any(|event| {
                event.op() != Op::Update || !self.alike(columns, event.before, event.after)
            });
            touches.then_some(group[0].commit)
        })
    }

    /// Whether two versions hold the same in some columns, to the last digit and letter.
    fn alike(&self, columns: &[usize], a: u32, b: u32) -> bool {
        let same = |&column: &usize| self.columns[column].identical(a, b);
        columns.iter().all(same)
    }
}
