//! Stores that cannot be what is asked for: refusals, locks, damage, hostile names.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use firstbad::store::Writer;
use serde_json::{Value, json};

use crate::place::Place;
use crate::store::{begin, grow, intact, no_difference, place, record, same};

/// The files below a directory by path, with their bytes and when they were written.
fn files(root: &Path) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                left.push(path);
                continue;
            }
            let name = path.strip_prefix(root).expect("a path below").display();
            let time = path.metadata().and_then(|metadata| metadata.modified());
            let bytes = std::fs::read(&path).expect("a file");
            found.insert(name.to_string(), (bytes, time.expect("a time")));
        }
    }
    found
}

/// Puts a directory of files down.
fn restore(place: &Place, directory: &str, files: &BTreeMap<String, (Vec<u8>, SystemTime)>) {
    let _ = std::fs::remove_dir_all(place.path(directory));
    for (name, (bytes, _)) in files {
        place.write(&format!("{directory}/{name}"), bytes);
    }
}

/// A store in `s` with two segments and three snapshots.
fn store() -> Place {
    let place = place();
    begin(&place, "young");
    grow(&place, "young", 1..=4);
    record(&place, "young", "s");
    record(&place, "h", "s");
    for at in ["#4", "#6"] {
        let ran = place.run(&["snapshot", "h", "--store", "s", "--at", at]);
        ran.exits(0);
    }
    place
}

#[test]
fn another_history_is_refused() {
    let place = store();
    let kept = files(&place.path("s"));
    let refused = |source: &str, texts: &[&str]| {
        for command in ["record", "snapshot"] {
            let ran = place.run(&[command, source, "--store", "s"]);
            ran.refused(texts);
        }
    };
    let schema = place.read("h/schema.sql");
    let other = |name: &str, schema: &str| {
        begin(&place, name);
        grow(&place, name, 1..=8);
        place.write(&format!("{name}/schema.sql"), schema);
    };
    other("wider", &schema.replace("b integer", "b bigint"));
    refused(
        "wider",
        &[
            "s: column `log.b` is integer in the store and bigint in the source",
            "one schema",
        ],
    );
    other("more", &format!("{schema} create table more (id int);"));
    refused("more", &["the store has no table `more`"]);
    other("keyless", &schema.replace(" primary key", ""));
    refused(
        "keyless",
        &["table `t` of the store has another key or other constraints"],
    );
    other("changed", &schema);
    let change = place
        .read("h/changes/0006.ndjson")
        .replace("\"m\"", "\"o\"");
    place.write("changed/changes/0006.ndjson", change);
    place.run(&["record", "changed", "--store", "s"]).refused(&[
        "commit #6 of the source is not the one that was recorded",
        "name its own source",
    ]);
    let more = r#"{"commit": 9, "changes": []}"#;
    place.write("changed/changes/0009.ndjson", more);
    place
        .run(&["snapshot", "changed", "--store", "s", "--at", "#9"])
        .refused(&["commit #6 of the source is not the one that was recorded"]);
    other("less", &schema);
    std::fs::remove_file(place.path("less/changes/0008.ndjson")).expect("a file");
    place
        .run(&["record", "less", "--store", "s"])
        .refused(&["the store ends at #8, the source already at #7"]);
    place.write("tables/schema.sql", &schema);
    place.write("tables/t.csv", "id,a,n\n1,x,10\n");
    place
        .run(&["snapshot", "tables", "--store", "s"])
        .refused(&["the store holds recorded transactions, the source has snapshots"]);
    for source in ["s", "./s", "h/../s/"] {
        refused(source, &["the source is the store itself", "--store DIR"]);
    }
    refused("nowhere", &["there is no `nowhere`"]);
    let now = files(&place.path("s"));
    let bytes = |files: &BTreeMap<String, (Vec<u8>, SystemTime)>| -> Vec<(String, Vec<u8>)> {
        let file = |(name, (bytes, _)): (&String, &(Vec<u8>, _))| (name.clone(), bytes.clone());
        files.iter().map(file).collect()
    };
    assert_eq!(bytes(&kept), bytes(&now), "nothing was written");
}

#[test]
fn a_place_that_is_no_store_is_refused() {
    let place = place().with("full/x", "").with("file", "x");
    for command in ["record", "snapshot"] {
        place
            .run(&[command, "h", "--store", "full"])
            .refused(&["`full` is not empty and no store", "name a new directory"]);
        place
            .run(&[command, "h", "--store", "file"])
            .refused(&["`file` is a file, and a store is a directory"]);
        for unwritable in ["file/store", "/proc/store"] {
            let ran = place.run(&[command, "h", "--store", unwritable]);
            ran.exits(3).warns(&["cannot make"]);
        }
    }
    for command in ["verify", "status"] {
        for nothing in ["full", "file", "nowhere"] {
            place.run(&[command, nothing]).refused(&[
                &format!("there is no store in `{nothing}`"),
                "`firstbad record SOURCE --store DIR`",
            ]);
        }
    }
    assert!(!place.path("nowhere").exists());
    // An empty directory is as good as none.
    std::fs::create_dir(place.path("empty")).expect("a directory");
    record(&place, "h", "empty");
}

#[test]
fn a_newer_format_is_refused() {
    let place = store();
    let newer = place
        .read("s/FORMAT")
        .replace("\"version\": 1", "\"version\": 2");
    // As the later version would have sealed it.
    let line = format!(
        "{{\"seal\":1,\"time\":0,\"previous\":\"{}\",\"act\":\"begin\",\"files\":[{{\"path\":\"FORMAT\",\"bytes\":{},\"blake3\":\"{}\"}}]",
        "0".repeat(64),
        newer.len(),
        blake3::hash(newer.as_bytes()),
    );
    let context = "firstbad 2026-11 seal of a store, version 1";
    let hash = blake3::Hash::from(blake3::derive_key(context, line.as_bytes()));
    place.write("s/FORMAT", newer);
    place.write("s/chain", format!("{line},\"hash\":\"{hash}\"}}\n"));
    for arguments in [
        &["status", "s"][..],
        &["verify", "s"],
        &["check", "s"],
        &["record", "h", "--store", "s"],
        &["diff", "h", "s"],
    ] {
        let ran = place.run(arguments).exits(3);
        ran.warns(&["s: this store has format version 2; this firstbad reads up to version 1"]);
    }
}

#[test]
fn one_process_writes_a_store() {
    let place = store();
    let writer = Writer::open(&place.path("s"), || unreachable!("it is there")).expect("free");
    let me = format!(
        "s: the store is being written by process {}",
        std::process::id()
    );
    for command in ["record", "snapshot"] {
        let ran = place.run(&[command, "h", "--store", "s"]).exits(3);
        ran.warns(&[&me, "one process at a time writes a store"]);
    }
    // Reading goes on.
    no_difference(&place, "h", "s");
    let ran = place.run(&["status", "s", "--format", "json"]).exits(0);
    let holder = ran.json()["writer"].as_str().map(str::to_owned);
    assert!(holder.is_some_and(|holder| holder.starts_with("process ")));
    let found = intact(&place, "s");
    assert_eq!(found["notes"].as_array().map(Vec::len), Some(1));
    drop(writer);
    assert_eq!(record(&place, "h", "s")["commits"], 0);
}

#[test]
fn reading_writes_nothing() {
    let place = store();
    let before = files(&place.path("s"));
    for arguments in [
        &["check", "s"][..],
        &["bisect", "s"],
        &["sql", "s", "select * from t"],
        &["diff", "h", "s"],
        &["status", "s"],
        &["record", "s", "--store", "copy"],
    ] {
        place.run(arguments);
    }
    assert_eq!(files(&place.path("s")), before);
}

#[track_caller]
fn damage(place: &Place, arguments: &[&str]) -> Value {
    let ran = place.run(&[&["verify", "s", "--format", "json"], arguments].concat());
    let found = ran.exits(1).json();
    assert_eq!(
        [&found["schema"], &found["intact"]],
        [&json!("firstbad/verify@1"), &json!(false)]
    );
    found
}

#[test]
fn damage_is_located_in_every_file() {
    let place = store();
    let whole = files(&place.path("s"));
    for (name, (bytes, _)) in &whole {
        if name == "lock" {
            continue;
        }
        let middle = bytes.len() / 2;
        let mut flipped = bytes.clone();
        flipped[middle] ^= 1;
        let wrong: [(&str, Option<Vec<u8>>); 4] = [
            ("flipped", Some(flipped)),
            ("cut", Some(bytes[..middle].to_vec())),
            ("longer", Some([bytes.as_slice(), b"x\n"].concat())),
            ("missing", None),
        ];
        for (what, wrong) in wrong {
            // That may be a seal that was being written.
            if (name.as_str(), what) == ("chain", "longer") {
                continue;
            }
            restore(&place, "s", &whole);
            match wrong {
                Some(wrong) => place.write(&format!("s/{name}"), wrong),
                None => std::fs::remove_file(place.path(&format!("s/{name}"))).expect("a file"),
            }
            let found = damage(&place, &[]);
            let first = &found["damage"][0];
            assert_eq!(first["file"], **name, "{what}");
            for key in ["problem", "affects"] {
                assert_ne!(first[key], "", "{name} {what}: {key}");
            }
            let [from, to] = ["from", "to"].map(|key| first[key].as_u64().expect("a number"));
            let offset = middle as u64;
            assert!(
                what != "flipped" || (from <= offset && offset < to),
                "{name}: {from} to {to}"
            );
            let text = place.run(&["verify", "s"]).exits(1);
            text.says(&["✗ s is damaged: ", &format!("  {name}\n"), "  what to do: "]);
        }
    }
    restore(&place, "s", &whole);
    intact(&place, "s");
}

#[test]
fn a_damaged_store_is_no_source() {
    let place = store();
    let whole = files(&place.path("s"));
    let segment = whole
        .keys()
        .find(|name| name.starts_with("segments/"))
        .expect("a segment");
    place.write(&format!("s/{segment}"), "nothing");
    std::fs::rename(place.path("s"), place.path("a b")).expect("it can be renamed");
    for arguments in [
        &["check", "a b"][..],
        &["bisect", "a b"],
        &["sql", "a b", "select count(*) from changes.t"],
        &["diff", "h", "a b"],
        &["record", "a b", "--store", "copy"],
    ] {
        place.run(arguments).exits(3).warns(&[
            "a b: the store is damaged: segments/",
            "the bytes are not those that were sealed",
            "help: `firstbad verify 'a b'` names all that is damaged",
        ]);
    }
    std::fs::rename(place.path("a b"), place.path("s")).expect("it can be renamed");
    let whole_chain = place.read("s/chain");
    let chain = whole_chain.replacen("\"seal\":2", "\"seal\":7", 1);
    place.write("s/chain", chain);
    for arguments in [
        &["status", "s"][..],
        &["record", "h", "--store", "s"],
        &["check", "s"],
    ] {
        let ran = place.run(arguments).exits(3);
        ran.warns(&["s: the store is damaged: chain"]);
    }
    // With the chain, nothing names the other files: nobody is told to remove them.
    chain_comes_first(&place);
    let whole: Vec<&str> = whole_chain.lines().collect();
    place.write("s/chain", whole[..3].join("\n") + "\n");
    chain_comes_first(&place);
}

#[track_caller]
fn chain_comes_first(place: &Place) {
    let ran = place.run(&["verify", "s"]).exits(1);
    let ran = ran.says(&["  chain\n", "put a copy of the chain back"]);
    assert!(!ran.out.contains("move away"), "{}", ran.out);
}

#[test]
fn what_is_still_good_is_said() {
    let place = store();
    let whole = files(&place.path("s"));
    let names = |start: &str| -> Vec<&String> {
        whole
            .keys()
            .filter(|name| name.starts_with(start))
            .collect()
    };
    let expected = [
        (
            names("segments/")[0].as_str(),
            json!([{"from": 0, "to": 0}, {"from": 4, "to": 8}]),
        ),
        (
            names("segments/0000000005")[0].as_str(),
            json!([{"from": 0, "to": 4}, {"from": 6, "to": 6}]),
        ),
        ("snapshots/0000000000.json", json!([{"from": 4, "to": 8}])),
        (
            "snapshots/0000000004.json",
            json!([{"from": 0, "to": 3}, {"from": 6, "to": 8}]),
        ),
        ("FORMAT", json!([])),
    ];
    for (name, good) in expected {
        restore(&place, "s", &whole);
        place.write(&format!("s/{name}"), "nothing");
        assert_eq!(damage(&place, &[])["good"], good, "{name}");
        for at in 0..=8u64 {
            let is_good = good.as_array().is_some_and(|good| {
                let end = |range: &Value, key: &str| range[key].as_u64().expect("a number");
                let holds = |range: &Value| (end(range, "from")..=end(range, "to")).contains(&at);
                good.iter().any(holds)
            });
            let query = "select count(*) from t";
            let ran = place.run(&["sql", "s", query, "--at", &format!("#{at}")]);
            assert_eq!(ran.code, if is_good { 0 } else { 3 }, "{name} at #{at}");
        }
    }
    // What lies before is not looked at.
    restore(&place, "s", &whole);
    place.write(&format!("s/{}", names("segments/")[0]), "nothing");
    let ran = place.run(&["verify", "s", "--since", "#5"]).exits(0);
    ran.says(&["✓ s is intact", "compared since #5: "]);
    assert_eq!(damage(&place, &["--since", "#3"])["since"], 3);
    place
        .run(&["verify", "s", "--since", "#9"])
        .refused(&["--since: there is no commit #9: the store ends at #8"]);
}

#[test]
fn files_that_no_seal_names_are_found() {
    let place = store();
    for name in [
        "stray",
        "segments/0000000001-0000000002/x",
        "objects/aa/x",
        "snapshots/x.json",
    ] {
        place.write(&format!("s/{name}"), "x");
        let found = damage(&place, &[]);
        assert_eq!(found["damage"][0]["file"], name);
        assert_eq!(found["damage"][0]["problem"], "no seal names this file");
        assert_eq!(found["good"], json!([{"from": 0, "to": 8}]));
        let ran = place.run(&["verify", "s"]).exits(1);
        ran.says(&["  what to do: move away what no seal names; verify again\n"]);
        std::fs::remove_file(place.path(&format!("s/{name}"))).expect("a file");
    }
    place.write("s/unsealed/objects/left", "x");
    let found = intact(&place, "s");
    assert_eq!(found["notes"].as_array().map(Vec::len), Some(1));
    let ran = place.run(&["verify", "s"]).exits(0);
    ran.says(&["  note: 1 file of a write that was not finished; the next writer clears up\n"]);
    record(&place, "h", "s");
    assert!(!place.path("s/unsealed/objects/left").exists());
}

#[test]
fn a_store_that_was_set_back_is_found_by_its_head() {
    let place = place();
    begin(&place, "young");
    grow(&place, "young", 1..=4);
    let early = record(&place, "young", "s");
    let old = files(&place.path("s"));
    let late = record(&place, "h", "s");
    let head = |document: &Value| document["head"].as_str().expect("a head").to_owned();
    for (head, says) in [
        (head(&early), "the head you kept is that of seal 3 of 4"),
        (head(&late), "the head you kept is that of seal 4 of 4"),
    ] {
        let ran = place.run(&["verify", "s", "--head", &head]).exits(0);
        ran.says(&["✓ s is intact", says]);
    }
    restore(&place, "s", &old);
    intact(&place, "s");
    let head = head(&late);
    let found = damage(&place, &["--head", &head]);
    assert_eq!(found["damage"][0]["file"], "chain");
    let ran = place.run(&["verify", "s", "--head", &head]).exits(1);
    ran.says(&[
        "the store was set back or replaced",
        "good as far as the chain goes: #0 to #4",
        "what to do: find out who put an older copy here; put a newer one back\n",
    ]);
    place
        .run(&["verify", "s", "--head", "abc"])
        .exits(2)
        .warns(&["64 hexadecimal digits"]);
}

#[test]
fn the_value_of_a_variable_is_not_shown() {
    const SECRET: &str = "s3cr3t-hunter2";
    let place = place();
    std::fs::rename(place.path("h"), place.path(SECRET)).expect("it can be renamed");
    let config = "source: ${SECRET}\nstore: kept/${SECRET}\nrules: rules\n";
    place.write("firstbad.yaml", config);
    let hidden = |arguments: &[&str], code: i32| {
        let ran = place.run_with(arguments, &[("SECRET", SECRET)]).exits(code);
        let all = format!("{}{}", ran.out, ran.err);
        assert!(!all.contains(SECRET), "{arguments:?}\n{all}");
        assert!(!all.is_empty(), "{arguments:?}");
    };
    hidden(&["status"], 2);
    hidden(&["verify"], 2);
    for format in ["text", "json"] {
        hidden(&["record", "--format", format], 0);
        hidden(&["snapshot", "--at", "#4", "--format", format], 0);
        hidden(&["status", "--format", format], 0);
        hidden(&["verify", "--format", format], 0);
    }
    let kept = place.path("kept").join(SECRET);
    let writer = Writer::open(&kept, || unreachable!("it is there")).expect("it is free");
    hidden(&["record"], 3);
    hidden(&["status", "--format", "json"], 0);
    drop(writer);
    let format = place.read(&format!("kept/{SECRET}/FORMAT"));
    assert!(!format.contains(SECRET), "{format}");
    place.write(&format!("kept/{SECRET}/chain"), "x\ny\n");
    for format in ["text", "json"] {
        hidden(&["verify", "--format", format], 1);
    }
    hidden(&["record"], 3);
    hidden(&["status"], 3);
    std::fs::remove_dir_all(&kept).expect("it can be removed");
    place.write(&format!("kept/{SECRET}"), "");
    hidden(&["record"], 2);
}

#[test]
fn quick_compares_bytes_only() {
    let place = store();
    let ran = place.run(&["verify", "s", "--quick"]).exits(0);
    ran.says(&[
        "✓ s is intact",
        "not proved: that snapshots and changes fit together (--quick)",
    ]);
    let ran = place
        .run(&["verify", "s", "--quick", "--format", "json"])
        .exits(0);
    assert_eq!(ran.json()["proved"], false);
    place
        .run(&["status", "s"])
        .exits(0)
        .says(&["intact (bytes only)"]);
}

#[test]
fn hostile_names_stay_where_they_belong() {
    let names = [
        "a b",
        "x\u{1b}[31m",
        "line\nbreak",
        "$(touch pwned)",
        "..",
        "ü\u{202e}",
    ];
    let place = Place::new().with(
        "rules/r.yaml",
        "table: \"a b\"\nrules:\n  - {id: bad, not_null: [v]}\n",
    );
    let table = |name: &str| format!("create table \"{name}\" (id bigint primary key, v text);\n");
    let schema: String = names.iter().map(|name| table(name)).collect();
    let insert =
        |name: &&str| json!({"table": name, "op": "insert", "after": {"id": 1, "v": "\u{1b}[2J"}});
    let changes: Vec<Value> = names
        .iter()
        .filter(|name| !name.contains('.'))
        .map(insert)
        .collect();
    let source = "so urce\u{1b}[31m\n";
    place.write(&format!("{source}/schema.sql"), schema);
    std::fs::create_dir(place.path(source).join("snapshot")).expect("a directory");
    place.write(
        &format!("{source}/changes/1.ndjson"),
        json!({"commit": 1, "context": {"who": "\u{1b}[2J"}, "changes": changes}).to_string()
            + "\n",
    );
    let store = "st ore\u{1b}[31m\n'";
    let harmless = |arguments: &[&str], code: i32| {
        let ran = place.run(arguments).exits(code);
        for text in [&ran.out, &ran.err] {
            assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
        }
        ran
    };
    harmless(&["record", source, "--store", store], 0);
    harmless(&["record", source, "--store", store], 0);
    harmless(&["snapshot", source, "--store", store], 0);
    harmless(&["status", store], 0).says(&["so urce\\u{1b}[31m\\n"]);
    harmless(&["status", store, "--format", "json"], 0).json();
    harmless(&["verify", store], 0).says(&["✓ st ore\\u{1b}[31m\\n' is intact"]);
    harmless(&["check", store], 0);
    same(&place, (source, store), "check", &[]);
    harmless(&["diff", source, store, "--exit-code"], 0);
    let found = files(&place.path(store));
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.".contains(c);
    for name in found.keys() {
        assert!(name.chars().all(plain) && !name.contains(".."), "{name:?}");
    }
    for name in found.keys().filter(|name| name.contains('/')) {
        place.write(&format!("{store}/{name}"), "x");
    }
    place.write(&format!("{store}/evil\u{1b}[31m"), "x");
    harmless(&["verify", store], 1);
    harmless(&["check", store], 3);
    assert!(!place.path("pwned").exists());
}
