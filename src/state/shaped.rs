//! The same rows in tables of another shape.

use super::History;
use crate::change::{Cell, Commit};
use crate::schema::Schema;

impl History {
    /// The state at a position, with the tables and columns of another schema, as a history of that state alone. Each of its tables is made
    /// of the table whose index is given; columns are found by their names, and those that are missing are not known.
    ///
    /// # Errors
    /// The table of the other schema whose rows do not fit, and why.
    ///
    /// # Panics
    /// Where not every table of the other schema has an index.
    pub fn shaped(&self, position: Commit, schema: &Schema, from: &[usize]) -> History {
        assert_eq!(
            schema.tables.len(),
            from.len(),
            "every table comes from one"
        );
        let mut shaped = History::new(schema.clone(), self.origin, false);
        shaped.base = self.base.clone();
        for (at, (table, &from)) in schema.tables.iter().zip(from).enumerate() {
            let versions = &self.tables[from];
            let places: Vec<Option<usize>> = table
                .columns
                .iter()
                .map(|column| versions.table.column_index(&column.name))
                .collect();
            for row in versions.visible(position) {
                let cell = |place: &Option<usize>| match place {
                    Some(column) => versions.cell(*column, row),
                    None => Cell::Unknown,
                };
                let cells: Vec<Cell> = places.iter().map(cell).collect();
                shaped.load(at, &cells);
            }
        }
        shaped
    }
}
