//! TPC-H tables as Parquet (zstd 1, row groups of a million rows, every column nullable) with the planted wrongs.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Decimal128Array, Int64Array, RecordBatch,
    StringViewArray, UInt32Array,
};
use datafusion::arrow::compute::take_record_batch;
use datafusion::arrow::datatypes::{
    Date32Type, Decimal128Type, Field, Int32Type, Int64Type, Schema,
};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::WriterProperties;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartSuppGenerator,
};
use tpchgen_arrow::{CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartSuppArrow};

use super::plant::{BALANCE, Plan, Table};

const GROUP_ROWS: usize = 1_000_000;
type Failure = Box<dyn std::error::Error>;

/// The tables' keys: what a checked export has beside it.
const SCHEMA: &str = "\
create table nation (n_nationkey bigint primary key, n_name text, n_regionkey bigint, n_comment text);
create table customer (c_custkey bigint primary key, c_name text, c_address text, c_nationkey bigint, c_phone text,
  c_acctbal numeric(15,2), c_mktsegment text, c_comment text);
create table partsupp (ps_partkey bigint, ps_suppkey bigint, ps_availqty integer, ps_supplycost numeric(15,2), ps_comment text,
  primary key (ps_partkey, ps_suppkey));
create table orders (o_orderkey bigint primary key, o_custkey bigint, o_orderstatus text, o_totalprice numeric(15,2), o_orderdate date,
  o_orderpriority text, o_clerk text, o_shippriority integer, o_comment text);
create table lineitem (l_orderkey bigint, l_partkey bigint, l_suppkey bigint, l_linenumber integer, l_quantity numeric(15,2),
  l_extendedprice numeric(15,2), l_discount numeric(15,2), l_tax numeric(15,2), l_returnflag text, l_linestatus text, l_shipdate date,
  l_commitdate date, l_receiptdate date, l_shipinstruct text, l_shipmode text, l_comment text, primary key (l_orderkey, l_linenumber));
";

/// Writes all tables into a directory and says how many violations they hold.
pub(crate) fn write(
    directory: &Path,
    scale: f64,
) -> Result<std::collections::BTreeMap<&'static str, u64>, Failure> {
    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join("schema.sql"), SCHEMA)?;
    let mut plan = Plan::new(scale);
    let to = |name: &str| directory.join(format!("{name}.parquet"));
    // Twenty-five nations, where the rule wants twenty-six.
    table(
        &to("nation"),
        NationArrow::new(NationGenerator::new(scale, 1, 1)),
        |_, _| {},
    )?;
    table(
        &to("customer"),
        CustomerArrow::new(CustomerGenerator::new(scale, 1, 1)),
        |edit, row| customer(&mut plan, edit, row),
    )?;
    let mut number = 0;
    table(
        &to("partsupp"),
        PartSuppArrow::new(PartSuppGenerator::new(scale, 1, 1)),
        |edit, row| {
            number += 1;
            partsupp(&mut plan, number, edit, row);
        },
    )?;
    table(
        &to("orders"),
        OrderArrow::new(OrderGenerator::new(scale, 1, 1)),
        |edit, row| order(&mut plan, edit, row),
    )?;
    table(
        &to("lineitem"),
        LineItemArrow::new(LineItemGenerator::new(scale, 1, 1)),
        |edit, row| line(&mut plan, edit, row),
    )?;
    Ok(plan.counts())
}

enum Value {
    Null,
    Int(i64),
    Text(&'static str),
}

/// A batch being changed: which of its rows are written, and cells of written rows.
struct Edit {
    batch: RecordBatch,
    rows: Vec<u32>,
    cells: Vec<(usize, usize, Value)>,
}

impl Edit {
    fn int(&self, column: usize, row: usize) -> i64 {
        let column = self.batch.column(column);
        match column.as_primitive_opt::<Int64Type>() {
            Some(ints) => ints.value(row),
            None => i64::from(column.as_primitive::<Int32Type>().value(row)),
        }
    }

    fn keep(&mut self, row: usize) {
        self.rows.push(row as u32);
    }

    /// Sets a cell of a row that is written as the n-th of its batch. Decimals are in hundredths, dates in days.
    fn set(&mut self, column: usize, written: usize, value: Value) {
        self.cells.push((column, written, value));
    }

    /// Sets a cell of the row that was kept last.
    fn set_last(&mut self, column: usize, value: Value) {
        self.set(column, self.rows.len() - 1, value);
    }

    fn finish(self, schema: &Arc<Schema>) -> Result<RecordBatch, Failure> {
        let untouched = self.cells.is_empty() && self.rows.len() == self.batch.num_rows();
        let batch = if untouched {
            self.batch
        } else {
            take_record_batch(&self.batch, &UInt32Array::from(self.rows))?
        };
        let mut columns = batch.columns().to_vec();
        for (column, row, value) in self.cells {
            columns[column] = replaced(&columns[column], row, &value);
        }
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }
}

/// A column with one cell replaced.
fn replaced(column: &ArrayRef, row: usize, value: &Value) -> ArrayRef {
    let int = match value {
        Value::Int(value) => Some(*value),
        _ => None,
    };
    macro_rules! replace {
        ($type:ty, $array:ty) => {
            if let Some(values) = column.as_primitive_opt::<$type>() {
                let put = int.map(|value| value.try_into().expect("planted values fit"));
                let values = values
                    .iter()
                    .enumerate()
                    .map(|(at, old)| if at == row { put } else { old });
                return Arc::new(
                    values
                        .collect::<$array>()
                        .with_data_type(column.data_type().clone()),
                );
            }
        };
    }
    replace!(Int64Type, Int64Array);
    replace!(Int32Type, datafusion::arrow::array::Int32Array);
    replace!(Date32Type, Date32Array);
    replace!(Decimal128Type, Decimal128Array);
    let put = match value {
        Value::Text(text) => Some(*text),
        _ => None,
    };
    let values = column
        .as_string_view()
        .iter()
        .enumerate()
        .map(|(at, old)| if at == row { put } else { old });
    Arc::new(values.collect::<StringViewArray>())
}

fn table(
    path: &Path,
    batches: impl Iterator<Item = Result<RecordBatch, datafusion::arrow::error::ArrowError>>,
    mut edit_row: impl FnMut(&mut Edit, usize),
) -> Result<(), Failure> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .build();
    let mut writer = None;
    let mut schema: Option<Arc<Schema>> = None;
    for batch in batches {
        let batch = batch?;
        let nullable = schema.get_or_insert_with(|| {
            let field = |field: &Arc<Field>| field.as_ref().clone().with_nullable(true);
            Arc::new(Schema::new(
                batch
                    .schema()
                    .fields()
                    .iter()
                    .map(field)
                    .collect::<Vec<_>>(),
            ))
        });
        let mut edit = Edit {
            rows: Vec::with_capacity(batch.num_rows()),
            batch,
            cells: Vec::new(),
        };
        for row in 0..edit.batch.num_rows() {
            edit.keep(row);
            edit_row(&mut edit, row);
        }
        let batch = edit.finish(nullable)?;
        if writer.is_none() {
            let options = datafusion::parquet::arrow::arrow_writer::ArrowWriterOptions::new()
                .with_properties(properties.clone())
                .with_skip_arrow_metadata(true);
            writer = Some(ArrowWriter::try_new_with_options(
                File::create(path)?,
                Arc::clone(nullable),
                options,
            )?);
        }
        writer.as_mut().expect("made above").write(&batch)?;
    }
    writer.ok_or("a table without rows")?.close()?;
    Ok(())
}

fn customer(plan: &mut Plan, edit: &mut Edit, row: usize) {
    let Some(check) = plan.at(Table::Customers, edit.int(0, row)) else {
        return;
    };
    match check {
        "balance-out-of-range" => edit.set_last(5, Value::Int(-100_001)),
        "malformed-phone" => edit.set_last(4, Value::Text("13-702-694 4520")),
        "customer-without-nation" => edit.set_last(3, Value::Int(77)),
        _ => {
            edit.rows.pop();
        }
    }
    plan.made(check);
}

fn partsupp(plan: &mut Plan, number: i64, edit: &mut Edit, row: usize) {
    let Some(check) = plan.at(Table::Partsupp, number) else {
        return;
    };
    match check {
        "stock-out-of-range" => edit.set_last(2, Value::Int(-1)),
        _ => edit.keep(row),
    }
    plan.made(check);
}

fn order(plan: &mut Plan, edit: &mut Edit, row: usize) {
    let key = edit.int(0, row);
    let Some(check) = plan.at(Table::Orders, key) else {
        return;
    };
    match check {
        "order-without-customer-key" => edit.set_last(1, Value::Null),
        "unknown-order-status" => edit.set_last(2, Value::Text("X")),
        "unknown-priority" => edit.set_last(5, Value::Text("6-NONE")),
        "malformed-clerk" => edit.set_last(6, Value::Text("Clerk#00000951")),
        "order-twice" => edit.keep(row),
        "order-without-customer" => edit.set_last(1, Value::Int(0)),
        "line-without-order" => {
            edit.rows.pop();
            return;
        }
        "order-without-lines" => plan.unbalance(key),
        BALANCE => {
            let total = edit
                .batch
                .column(3)
                .as_primitive::<Decimal128Type>()
                .value(row);
            edit.set_last(3, Value::Int(total as i64 + 500));
            plan.unbalance(key);
        }
        _ => return,
    }
    plan.made(check);
}

fn line(plan: &mut Plan, edit: &mut Edit, row: usize) {
    let key = edit.int(0, row);
    let Some(check) = plan.at(Table::Orders, key) else {
        return;
    };
    match check {
        "line-without-order" => return plan.made(check),
        "order-without-lines" => {
            edit.rows.pop();
            return;
        }
        _ => {}
    }
    let number = edit.int(3, row);
    if check == "line-twice" {
        if number == 2 {
            edit.set_last(3, Value::Int(1));
            plan.made(check);
        }
        return;
    }
    if number != 1 {
        return;
    }
    match check {
        "line-without-shipdate" => edit.set_last(10, Value::Null),
        "unknown-return-flag" => edit.set_last(8, Value::Text("Z")),
        "unknown-line-status" => edit.set_last(9, Value::Text("?")),
        "quantity-out-of-range" => edit.set_last(4, Value::Int(5_100)),
        "discount-out-of-range" => {
            edit.set_last(6, Value::Int(90));
            plan.unbalance(key);
        }
        "received-before-shipped" => {
            let shipped = edit
                .batch
                .column(10)
                .as_primitive::<Date32Type>()
                .value(row);
            edit.set_last(12, Value::Int(i64::from(shipped) - 1));
        }
        "line-without-partsupp" => edit.set_last(2, Value::Int(0)),
        _ => return,
    }
    plan.made(check);
}
