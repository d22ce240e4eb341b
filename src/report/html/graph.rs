//! The picture of spread: tables as nodes with their rows, links as edges with what flowed along them.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::super::{grouped, shown_cut};
use crate::evidence::Bundle;

const NODE_WIDTH: f64 = 170.0;
const NODE_HEIGHT: f64 = 46.0;
const COLUMN: f64 = 262.0;
const ROW: f64 = 68.0;
const MARGIN: f64 = 16.0;
/// The most tables that are drawn.
const NODES: usize = 24;

/// A table in the picture.
struct Node {
    table: String,
    layer: u32,
    x: f64,
    y: f64,
}

/// What the template draws; null where nothing was derived.
pub(super) fn picture(bundle: &Bundle) -> Value {
    let spread = &bundle.spread;
    if spread.rows == 0 {
        return Value::Null;
    }
    let mut bad: HashMap<&str, u64> = HashMap::new();
    for row in &bundle.rows {
        *bad.entry(row.table.as_str()).or_default() += 1;
    }
    let nodes = placed(bundle, &bad);
    let place: HashMap<&str, &Node> = nodes
        .iter()
        .map(|node| (node.table.as_str(), node))
        .collect();
    let rows: HashMap<&str, u64> = spread
        .tables
        .iter()
        .map(|one| (one.table.as_str(), one.rows))
        .collect();
    let shown = nodes.iter().map(|node| {
        let bad = bad.contains_key(node.table.as_str());
        let derived = rows.get(node.table.as_str()).copied().unwrap_or(0);
        let below = match (bad, derived) {
            (true, 0) => "bad rows".to_owned(),
            (true, derived) => format!("bad rows and {} derived", grouped(derived)),
            (false, derived) => format!("{} derived", grouped(derived)),
        };
        json!({
            "x": node.x, "y": node.y, "width": NODE_WIDTH, "height": NODE_HEIGHT,
            "middle": node.x + NODE_WIDTH / 2.0,
            "bad": bad,
            "name": shown_cut(short(&node.table), 24),
            "title": shown_cut(&node.table, 200),
            "below": below,
        })
    });
    let edges = spread.flows.iter().filter_map(|flow| {
        let (from, to) = (place.get(flow.from.as_str())?, place.get(flow.to.as_str())?);
        let (path, x, y) = edge(from, to)?;
        Some(json!({
            "path": path, "x": x, "y": y, "up": flow.up,
            "rows": grouped(flow.rows),
            "title": format!("{}: {} rows", shown_cut(&flow.link, 200), grouped(flow.rows)),
        }))
    });
    let edges: Vec<Value> = edges.collect();
    let right = nodes
        .iter()
        .map(|node| node.x + NODE_WIDTH)
        .fold(0.0, f64::max);
    let bottom = nodes
        .iter()
        .map(|node| node.y + NODE_HEIGHT)
        .fold(0.0, f64::max);
    json!({
        "width": right + MARGIN + 24.0,
        "height": bottom + MARGIN + 24.0,
        "nodes": shown.collect::<Vec<_>>(),
        "edges": edges,
        "left_off": (spread.tables.len() + 1).saturating_sub(NODES),
    })
}

fn short(table: &str) -> &str {
    table.strip_prefix("public.").unwrap_or(table)
}

/// The tables with bad rows in the first column, the others by how many steps lead to them.
fn placed(bundle: &Bundle, bad: &HashMap<&str, u64>) -> Vec<Node> {
    let mut tables: Vec<(u32, &str)> = bad.keys().map(|table| (0, *table)).collect();
    // A bad row that never was has no row, its table is where the first step came from.
    for flow in &bundle.spread.flows {
        let is_derived = bundle
            .spread
            .tables
            .iter()
            .any(|one| one.table == flow.from);
        if !is_derived && !bad.contains_key(flow.from.as_str()) {
            tables.push((0, &flow.from));
        }
    }
    let derived = bundle.spread.tables.iter();
    let derived = derived.filter(|one| !bad.contains_key(one.table.as_str()));
    tables.extend(derived.map(|one| (one.depth, one.table.as_str())));
    tables.sort_unstable();
    tables.dedup();
    tables.truncate(NODES);
    let mut layers: Vec<u32> = tables.iter().map(|(layer, _)| *layer).collect();
    layers.dedup();
    let mut below: HashMap<u32, usize> = HashMap::new();
    let node = |(layer, table): (u32, &str)| {
        let column = layers.iter().position(|one| *one == layer).unwrap_or(0);
        let row = below.entry(layer).or_default();
        *row += 1;
        Node {
            table: table.to_owned(),
            layer,
            x: MARGIN + COLUMN * column as f64,
            y: MARGIN + ROW * (*row - 1) as f64,
        }
    };
    tables.into_iter().map(node).collect()
}

/// The curve of an edge and the place of its number; None for one from a table to itself.
fn edge(from: &Node, to: &Node) -> Option<(String, f64, f64)> {
    if from.table == to.table {
        return None;
    }
    let (y1, y2) = (from.y + NODE_HEIGHT / 2.0, to.y + NODE_HEIGHT / 2.0);
    if from.layer < to.layer {
        let (x1, x2) = (from.x + NODE_WIDTH, to.x - 5.0);
        let middle = f64::midpoint(x1, x2);
        let path = format!("M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}");
        return Some((path, middle, f64::midpoint(y1, y2) - 5.0));
    }
    // Within a column, or back: around the right side of both.
    let (x1, x2) = (from.x + NODE_WIDTH, to.x + NODE_WIDTH + 5.0);
    let out = x1.max(x2) + 30.0;
    let path = format!("M{x1} {y1}C{out} {y1} {out} {y2} {x2} {y2}");
    Some((path, out, f64::midpoint(y1, y2) - 5.0))
}
