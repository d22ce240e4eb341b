use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType as ArrowType, Field, Schema};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::physical_plan::collect;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::{Direct, Left};
use crate::judge::lifted::slot::{Slot, SlotTable};

/// Small numbers in an order that a seed decides.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }

    fn maybe(&mut self, most: u64) -> Option<i64> {
        let number = self.below(most + 1);
        (number < most).then(|| i64::try_from(number).expect("small"))
    }
}

/// Orders and payments, each with a column that may be NULL everywhere.
fn tables() -> (SessionContext, Vec<Arc<Slot>>) {
    let config = SessionConfig::new().with_target_partitions(1);
    let context = SessionContext::new_with_config(config);
    // A slot gives all its columns.
    context.remove_optimizer_rule("optimize_projections");
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    let mut slots = Vec::new();
    for table in ["orders", "payments"] {
        let schema = Arc::new(Schema::new(vec![
            field("id", ArrowType::Int64),
            field("amount", ArrowType::Int64),
            field("state", ArrowType::Utf8),
        ]));
        let slot = Slot::new(&schema, &[0, 1, 2]);
        let table_of = Arc::new(SlotTable(Arc::clone(&slot)));
        context.register_table(table, table_of).expect("a table");
        slots.push(slot);
    }
    (context, slots)
}

fn fill(slot: &Slot, numbers: &mut Numbers) {
    let count = numbers.below(12);
    let mut column =
        |most| -> Vec<Option<i64>> { (0..count).map(|_| numbers.maybe(most)).collect() };
    let ids: ArrayRef = Arc::new(Int64Array::from(column(5)));
    let amounts: ArrayRef = Arc::new(Int64Array::from(column(4)));
    let states = column(3)
        .into_iter()
        .map(|state| state.map(|state| format!("state {state}")));
    let states: ArrayRef = Arc::new(states.collect::<StringArray>());
    let commits = (0..count).map(|at| i64::try_from(at / 3).expect("small"));
    slot.fill(vec![ids, amounts, states], commits.collect())
        .expect("rows of the slot");
}

fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let line = |batch: &RecordBatch, row: usize| {
        let cells = batch.columns().iter();
        let cells = cells.map(|column| match column.is_null(row) {
            true => "NULL".into(),
            false => array_value_to_string(column, row).expect("a value"),
        });
        cells.collect::<Vec<String>>().join("|")
    };
    let rows = batches
        .iter()
        .flat_map(|batch| (0..batch.num_rows()).map(move |row| line(batch, row)));
    let mut lines: Vec<String> = rows.collect();
    lines.sort();
    lines
}

const COMMIT: &str = crate::plan::lifting::COMMIT;

/// Queries that rules are made of, as they are lifted. `{c}` is the column with the commit.
const QUERIES: [&str; 14] = [
    "select o.id, p.amount, o.\"{c}\" from orders o join payments p on o.id = p.id and o.\"{c}\" = p.\"{c}\"",
    "select o.id, o.amount + p.amount from orders o join payments p on o.id = p.id and o.amount < p.amount where p.state <> 'state 1'",
    "select o.*, p.state from orders o left join payments p on o.id = p.id and o.state = p.state",
    "select o.id, p.id from orders o right join payments p on o.id = p.id and o.amount > p.amount",
    "select o.id, p.id, o.state, p.state from orders o full join payments p on o.id = p.id and o.amount <> p.amount",
    "select o.id, p.id from orders o join payments p on (o.id is not distinct from p.id) and o.\"{c}\" = p.\"{c}\"",
    "select id, state from orders o where exists (select 1 from payments p where p.id = o.id)",
    "select id, amount from orders o where not exists (select 1 from payments p where p.id = o.id and p.amount >= o.amount)",
    "select p.* from payments p left anti join orders o on o.id = p.id",
    "select p.* from orders o right semi join payments p on o.id = p.id and o.state = p.state",
    "select id, \"{c}\", count(*), sum(amount), min(state), max(amount) from orders group by id, \"{c}\" having count(*) > 1",
    "select state, count(amount) filter (where amount > 1), avg(amount), count(distinct id) from payments group by state",
    "select o.id, o.amount, s.total from orders o left join (select id, sum(amount) as total, \"{c}\" as c from payments group by id, \"{c}\") s \
       on s.id = o.id and s.c = o.\"{c}\" where (o.amount is distinct from coalesce(s.total, 0))",
    "select id from (select id, amount from orders union all select id, amount from payments) group by id",
];

/// How many of them are evaluated directly: all but unions, which only the engine has.
const DIRECTLY: usize = 13;

#[tokio::test]
async fn what_is_evaluated_directly_is_what_the_engine_answers() {
    let (context, slots) = tables();
    let mut numbers = Numbers(20_261_122);
    let mut directly = 0;
    for query in QUERIES {
        let query = query.replace("{c}", COMMIT);
        let frame = context.sql(&query).await.expect("a query");
        let planned = frame.clone().create_physical_plan().await.expect("a plan");
        let Some(direct) = Direct::of(&planned, &slots) else {
            continue;
        };
        directly += 1;
        let mut found = 0;
        for round in 0..60 {
            slots.iter().for_each(|slot| fill(slot, &mut numbers));
            // A plan of its own: what a join has built stays in its plan.
            let plan = frame.clone().create_physical_plan().await.expect("a plan");
            let want = collect(plan, context.task_ctx()).await.expect("an answer");
            let have = direct.whole().expect("an answer");
            assert_eq!(have.schema(), planned.schema(), "{query}");
            assert_eq!(lines(&[have]), lines(&want), "round {round} of {query}");
            found += want.iter().map(RecordBatch::num_rows).sum::<usize>();
        }
        assert!(found > 20, "{query} finds {found} rows in all rounds");
    }
    assert_eq!(directly, DIRECTLY);
}

#[tokio::test]
async fn a_join_of_too_many_pairs_is_left_to_the_engine() {
    let (context, slots) = tables();
    let query = "select o.id from orders o join payments p on o.id = p.id";
    let frame = context.sql(query).await.expect("a query");
    let plan = frame.create_physical_plan().await.expect("a plan");
    let direct = Direct::of(&plan, &slots).expect("a join");
    for slot in &slots {
        let same: ArrayRef = Arc::new(Int64Array::from(vec![7; 300]));
        let states: ArrayRef = Arc::new(StringArray::from(vec!["paid"; 300]));
        let columns = vec![Arc::clone(&same), same, states];
        slot.fill(columns, vec![1; 300]).expect("rows of the slot");
    }
    assert_eq!(direct.rows(), 600);
    assert!(matches!(direct.whole(), Err(Left::TooMany)));
}
