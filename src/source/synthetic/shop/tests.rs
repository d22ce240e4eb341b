//! What the files say, read back, against what the generator says it wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::replay::{Replay, cents, int, key_of, lines, text};
use super::*;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/shop")
}

fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("firstbad-shop-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    dir
}

/// Every file below `dir` that the generator makes, with its bytes.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::from([(
        "schema.sql".to_owned(),
        fs::read(dir.join("schema.sql")).expect("schema.sql"),
    )]);
    for folder in ["snapshot", "changes"] {
        for entry in fs::read_dir(dir.join(folder)).expect("a folder of the history") {
            let path = entry.expect("a file").path();
            let name = format!(
                "{folder}/{}",
                path.file_name().expect("a name").to_string_lossy()
            );
            found.insert(name, fs::read(&path).expect("a file"));
        }
    }
    found
}

fn line_sums(replay: &Replay) -> BTreeMap<i64, i64> {
    let mut sums = BTreeMap::new();
    for line in replay.table("order_lines").values() {
        assert_eq!(
            cents(line, "amount"),
            int(line, "quantity") * cents(line, "unit_price")
        );
        *sums.entry(int(line, "order_id")).or_insert(0) += cents(line, "amount");
    }
    sums
}

/// `make fixtures` sets UPDATE_FIXTURES or calls [`main_shop`]; either way this holds afterwards.
#[test]
fn testdata_shop_is_what_the_generator_makes() {
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        main_shop(&fixture()).expect("testdata/shop can be written");
    }
    let made = scratch("made");
    main_shop(&made).expect("the temporary directory can be written");
    let (expected, found) = (files(&made), files(&fixture()));
    assert_eq!(
        expected.keys().collect::<Vec<_>>(),
        found.keys().collect::<Vec<_>>()
    );
    for (name, bytes) in &expected {
        assert!(
            found[name] == *bytes,
            "testdata/shop/{name} is not what the generator makes: run `make fixtures`"
        );
    }
    assert!(
        expected.values().map(Vec::len).sum::<usize>() < 8_000_000,
        "small enough for git"
    );
    fs::remove_dir_all(made).expect("ours");
}

#[test]
fn writing_replaces_what_was_there_and_leaves_the_rest() {
    let dir = scratch("replace");
    let small = Shop {
        orders_per_day: 20,
        customers: 30,
        products: 40,
        past_orders: 50,
        ..Shop::default()
    };
    fs::create_dir_all(dir.join("changes")).expect("a temporary directory");
    fs::write(dir.join("changes/2020-01-01.ndjson"), "old").expect("a temporary file");
    fs::write(dir.join("README.md"), "mine").expect("a temporary file");
    let first = small.write(&dir).expect("written");
    let bytes = files(&dir);
    assert!(!dir.join("changes/2020-01-01.ndjson").exists());
    assert_eq!(
        fs::read_to_string(dir.join("README.md")).expect("kept"),
        "mine"
    );
    assert_eq!(small.write(&dir).expect("written again"), first);
    assert!(files(&dir) == bytes, "equal shops, equal bytes");
    Shop {
        seed: 2,
        ..small.clone()
    }
    .write(&dir)
    .expect("another one");
    assert!(files(&dir) != bytes, "another seed, other bytes");
    assert!(Shop { days: 0, ..small }.write(&dir).is_err());
    let left: BTreeSet<String> = fs::read_dir(&dir)
        .expect("ours")
        .map(|entry| entry.expect("ours").file_name().to_string_lossy().into())
        .collect();
    assert_eq!(
        left.into_iter().collect::<Vec<_>>(),
        ["README.md", "changes", "schema.sql", "snapshot"]
    );
    fs::remove_dir_all(dir).expect("ours");
}

#[test]
fn shops_of_other_sizes_are_shops() {
    for seed in 1..5 {
        let dir = scratch("sizes");
        println!("seed {seed}");
        let shop = Shop {
            seed,
            ..Shop::of_transactions(1_500)
        };
        let summary = shop.write(&dir).expect("written");
        assert!(
            (900..2_500).contains(&summary.commits),
            "{}",
            summary.commits
        );
        assert!(
            summary.lost_update.is_some()
                && summary.flash.is_some()
                && !summary.missing_shipments.is_empty()
        );
        let mut replay = Replay::open(&dir);
        lines(&dir).iter().for_each(|line| drop(replay.apply(line)));
        assert_eq!(replay.commit, u64::from(summary.commits));
        fs::remove_dir_all(dir).expect("ours");
    }
}

/// The whole of the fixture against its summary: nothing contradicts, everything is in order but the planted faults.
#[test]
fn the_history_is_clean_but_for_what_was_planted() {
    let made = scratch("truth");
    let summary = main_shop(&made).expect("the temporary directory can be written");
    let mut truth = Truth::open(&made);
    truth.judge_order_state("position 0");
    for line in lines(&made) {
        truth.step(&line);
    }
    fs::remove_dir_all(&made).expect("ours");
    truth.judge_order_state("the end");
    let replay = &truth.replay;
    assert_eq!(
        (replay.rows, replay.changes),
        (summary.snapshot_rows, summary.changes)
    );
    assert_eq!(replay.commit, u64::from(summary.commits));
    assert!(summary.commits >= 2_000 && replay.rows + replay.changes >= 40_000);

    let flash = summary.flash.as_ref().expect("planted");
    assert_eq!(flash.orders.len(), 23);
    assert_eq!(flash.to, flash.from + 4);
    let spoiled: Vec<(u64, i64, bool)> = [(flash.from, true), (flash.to, false)]
        .into_iter()
        .flat_map(|(commit, wrong)| {
            flash
                .orders
                .iter()
                .map(move |order| (u64::from(commit), *order, wrong))
        })
        .collect();
    assert_eq!(truth.totals, spoiled);

    let lost = summary.lost_update.as_ref().expect("planted");
    let shelf = vec![lost.sku.clone(), lost.warehouse.clone()];
    assert_eq!(truth.overwrites, [(u64::from(lost.commit), shelf.clone())]);
    assert_eq!(lost.overwritten + 1, lost.commit);
    assert_eq!(truth.stock_differences(), [(shelf, lost.pieces)]);

    let planted: Vec<(i64, u64, Option<u64>)> = summary
        .missing_shipments
        .iter()
        .filter(|missing| missing.overdue)
        .map(|missing| {
            (
                missing.order,
                u64::from(missing.commit),
                missing.healed.map(u64::from),
            )
        })
        .collect();
    assert_eq!(truth.late(), planted);
    let first = planted.first().expect("some are lost").1;
    assert!(
        u64::from(summary.release_commit) <= first && first < u64::from(flash.from),
        "clean until the release"
    );
    let waiting = truth
        .waiting
        .keys()
        .filter(|order| planted.iter().all(|(lost, ..)| lost != *order))
        .count();
    assert_eq!(
        waiting as u64, summary.waiting,
        "some still wait within their grace"
    );
    let lost = summary.missing_shipments.len() as u64;
    assert!(
        (27..=33).contains(&(summary.orders_paid_broken / lost)),
        "about one in thirty"
    );
    assert!(planted.iter().any(|(.., healed)| healed.is_some()) && planted[0].2.is_none());
}

/// What a reader of the log finds, with sets and sums.
struct Truth {
    replay: Replay,
    /// (commit, order, wrong afterwards): totals that began or ceased to differ from their lines.
    totals: Vec<(u64, i64, bool)>,
    wrong: BTreeSet<i64>,
    /// The version of every row of stock.
    versions: BTreeMap<Vec<String>, i64>,
    /// Updates of stock that did not add one to the version.
    overwrites: Vec<(u64, Vec<String>)>,
    /// Orders that have a parcel.
    parcels: BTreeSet<i64>,
    /// Paid orders without a parcel: since which commit and time.
    waiting: BTreeMap<i64, (u64, i64)>,
    /// (order, paid by, parcel by): parcels that came late.
    came_late: Vec<(i64, u64, Option<u64>)>,
}

impl Truth {
    fn open(dir: &Path) -> Truth {
        let replay = Replay::open(dir);
        let versions = replay.table("stock").iter();
        let versions = versions
            .map(|(key, row)| (key.clone(), int(row, "version")))
            .collect();
        let parcels = replay
            .table("shipments")
            .values()
            .map(|row| int(row, "order_id"))
            .collect();
        Truth {
            replay,
            totals: Vec::new(),
            wrong: BTreeSet::new(),
            versions,
            overwrites: Vec::new(),
            parcels,
            waiting: BTreeMap::new(),
            came_late: Vec::new(),
        }
    }

    fn step(&mut self, line: &str) {
        let transaction = self.replay.apply(line);
        let commit = self.replay.commit;
        let (mut booked, mut orders) = (0, BTreeSet::new());
        for change in transaction["changes"].as_array().expect("changes") {
            let (name, op) = (
                change["table"].as_str().expect("a table"),
                change["op"].as_str().expect("an op"),
            );
            let row = |part: &str| change.get(part).and_then(Value::as_object);
            match (name, op) {
                ("ledger_entries", "insert") => {
                    booked += cents(row("after").expect("a row"), "amount")
                }
                ("ledger_entries" | "stock_movements" | "order_lines", op) => {
                    assert_eq!(op, "insert", "#{commit}: {name} is append only");
                }
                ("orders", op) => {
                    assert!(op != "delete" && op != "truncate");
                    orders.insert(int(row("key").or(row("after")).expect("a row"), "id"));
                    if let (Some(before), Some(after)) = (row("before"), row("after")) {
                        assert!(
                            before["updated_at"] != after["updated_at"],
                            "#{commit}: every update is stamped"
                        );
                        let step = (
                            before.get("status").map(text),
                            after.get("status").map(text),
                        );
                        assert!(legal(&step), "#{commit}: {step:?}");
                    }
                }
                ("shipments", "insert") => {
                    self.parcel(int(row("after").expect("a row"), "order_id"))
                }
                ("stock", "update") => {
                    let key = key_of("stock", row("key").expect("a key")).expect("a whole key");
                    let version = int(&self.replay.table("stock")[&key], "version");
                    let old = self.versions.insert(key.clone(), version);
                    if old != Some(version - 1) {
                        self.overwrites.push((commit, key));
                    }
                }
                _ => {}
            }
        }
        assert_eq!(booked, 0, "#{commit}: the ledger is balanced");
        orders.into_iter().for_each(|order| self.judge_order(order));
    }

    fn judge_order(&mut self, id: i64) {
        let row = &self.replay.table("orders")[&vec![id.to_string()]];
        let lines = self
            .replay
            .table("order_lines")
            .range(vec![id.to_string()]..);
        let lines = lines.take_while(|(key, _)| key[0] == id.to_string());
        let sum: i64 = lines.map(|(_, line)| cents(line, "amount")).sum();
        let wrong = sum != cents(row, "total");
        if wrong != self.wrong.contains(&id) {
            self.totals.push((self.replay.commit, id, wrong));
            if wrong {
                self.wrong.insert(id)
            } else {
                self.wrong.remove(&id)
            };
        }
        if row["status"] == "paid" && !self.parcels.contains(&id) {
            self.waiting
                .entry(id)
                .or_insert((self.replay.commit, self.replay.time));
        }
    }

    fn parcel(&mut self, order: i64) {
        assert!(self.parcels.insert(order), "one parcel an order");
        let (paid, since) = self
            .waiting
            .remove(&order)
            .expect("only what is paid is sent");
        if self.replay.time > since + GRACE_MINUTES * 60_000 {
            self.came_late.push((order, paid, Some(self.replay.commit)));
        }
    }

    /// Orders whose parcel was late or is missing and overdue, by the commit that paid them.
    fn late(&self) -> Vec<(i64, u64, Option<u64>)> {
        let overdue = |(_, since): &(u64, i64)| since + GRACE_MINUTES * 60_000 < self.replay.time;
        let missing = self
            .waiting
            .iter()
            .filter(|(_, since)| overdue(since))
            .map(|(id, (paid, _))| (*id, *paid, None));
        let mut late: Vec<_> = self.came_late.iter().copied().chain(missing).collect();
        late.sort_by_key(|(_, paid, _)| *paid);
        late
    }

    /// Shelves on which not as much lies as the movements say, and how much more.
    fn stock_differences(&self) -> Vec<(Vec<String>, i64)> {
        let mut moved: BTreeMap<Vec<String>, i64> = BTreeMap::new();
        for row in self.replay.table("stock_movements").values() {
            *moved
                .entry(vec![text(&row["sku"]), text(&row["warehouse"])])
                .or_default() += int(row, "quantity");
        }
        let stock = self.replay.table("stock").iter();
        let difference = stock.map(|(key, row)| (key.clone(), int(row, "on_hand") - moved[key]));
        difference.filter(|(_, pieces)| *pieces != 0).collect()
    }

    /// What must hold of the whole state.
    fn judge_order_state(&self, when: &str) {
        let sums = line_sums(&self.replay);
        let orders = self.replay.table("orders");
        assert_eq!(sums.len(), orders.len(), "{when}: every order has lines");
        for row in orders.values() {
            assert_eq!(
                sums[&int(row, "id")],
                cents(row, "total"),
                "{when}: totals are sums"
            );
            let customer = vec![text(&row["customer_id"])];
            assert!(
                self.replay.table("customers").contains_key(&customer),
                "{when}"
            );
        }
        let mut captured = BTreeSet::new();
        for row in self
            .replay
            .table("payments")
            .values()
            .filter(|row| row["status"] == "captured")
        {
            assert!(captured.insert(int(row, "order_id")), "{when}: paid once");
            assert_eq!(
                sums[&int(row, "order_id")],
                cents(row, "amount"),
                "{when}: paid what was ordered"
            );
        }
        for row in self.replay.table("stock").values() {
            assert!(
                (0..=int(row, "on_hand")).contains(&int(row, "reserved")),
                "{when}: only what is there is promised"
            );
        }
        let booked: i64 = self
            .replay
            .table("ledger_entries")
            .values()
            .map(|row| cents(row, "amount"))
            .sum();
        assert_eq!(booked, 0, "{when}: the ledger is balanced");
    }
}

fn legal(step: &(Option<String>, Option<String>)) -> bool {
    let (Some(from), Some(to)) = (step.0.as_deref(), step.1.as_deref()) else {
        return step.0 == step.1;
    };
    matches!(
        (from, to),
        ("placed", "paid" | "cancelled")
            | ("paid", "shipped" | "refunded")
            | ("shipped", "refunded")
    )
}
