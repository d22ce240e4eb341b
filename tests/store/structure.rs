//! Files deleted, cut, doubled, swapped, set back: all of it is found, and nothing panics.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use firstbad::store::disk::{Disk, Local, Memory};
use firstbad::store::verify::Options;
use firstbad::store::{Damage, Store, StoreError, Writer};

use crate::fixture::{
    ALL, BYTES, Claimed, Step, Truth, directory, format_of, perform, seed, segments_of,
    small_store, verified,
};
use crate::rng::Rng;
use crate::story::{Size, Story};

type Files = BTreeMap<String, Vec<u8>>;

/// Verifies a store that is not what it was; every reader gives the truth or an error.
fn damage_of(disk: &Arc<dyn Disk>, truth: &Truth, what: &str) -> Vec<Damage> {
    let report = verified(disk, &BYTES).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(!report.damage.is_empty(), "{what}: not found");
    let read = Store::on(Arc::clone(disk)).and_then(|store| store.history());
    match read {
        Ok(found) => truth.holds(&found),
        Err(StoreError::Damaged(_) | StoreError::Refused { .. }) => {}
        Err(error) => panic!("{what}: {error}"),
    }
    report.damage
}

fn is_located(damage: &[Damage], path: &str) -> bool {
    damage.iter().any(|damage| damage.file == path)
}

/// The store is damaged, and one of these files is named.
fn found(files: Files, truth: &Truth, what: &str, paths: &[&str]) {
    let disk: Arc<dyn Disk> = Arc::new(Memory::holding(files));
    let damage = damage_of(&disk, truth, what);
    for path in paths {
        assert!(
            is_located(&damage, path),
            "{what}: {path} is not named: {damage:?}"
        );
    }
    // A writer does not make it worse: it refuses, or the damage is found afterwards as well.
    if let Ok(writer) = Writer::on(Arc::clone(&disk), || format_of(&truth.history, 0)) {
        drop(writer);
        damage_of(&disk, truth, what);
    }
}

/// What must not be read: it does not end.
const ENDLESS: &str = "a link to a device";

/// Files without which a store is whole: what is known of its last verification.
fn is_word(path: &str) -> bool {
    path == "verified"
}

#[test]
fn files_that_are_missing_cut_longer_or_swapped_are_found() {
    let seed = seed(2);
    println!("FIRSTBAD_SEED={seed}");
    let mut rng = Rng::new(seed);
    let (truth, files) = small_store();
    let mut cases = 0;
    let mut case = |files: Files, what: String, paths: &[&str]| {
        found(files, &truth, &what, paths);
        cases += 1;
    };
    let paths: Vec<&String> = files.keys().collect();
    for (number, path) in paths.iter().enumerate() {
        let path = path.as_str();
        let bytes = &files[path];
        let with = |bytes: Vec<u8>| {
            let mut files = files.clone();
            files.insert(path.to_owned(), bytes);
            files
        };
        if !is_word(path) {
            let mut less = files.clone();
            less.remove(path);
            case(less, format!("{path} deleted"), &[path]);
        }
        for _ in 0..12 {
            let cut = rng.below(bytes.len());
            // The end of the chain is judged by the files that it lost.
            case(
                with(bytes[..cut].to_vec()),
                format!("{path} cut to {cut}"),
                &[path],
            );
        }
        for more in [vec![b'\n'], vec![0; 700], bytes.clone()] {
            let what = format!("{path} with {} bytes more", more.len());
            let longer = with([bytes.as_slice(), &more].concat());
            if path == "chain" && more.len() < bytes.len() {
                // So an unfinished write looks; it is no damage, and cut off.
                let disk: Arc<dyn Disk> = Arc::new(Memory::holding(longer));
                let report = verified(&disk, &ALL).expect("it is read");
                assert_eq!((report.damage.len(), report.notes.len()), (0, 1), "{what}");
                Writer::on(Arc::clone(&disk), || unreachable!("it is there")).expect("it is cut");
                assert_eq!(verified(&disk, &ALL).expect("it is read").notes, [""; 0]);
            } else {
                case(longer, what, &[path]);
            }
        }
        let other = paths[(number + 1 + rng.below(paths.len() - 1)) % paths.len()].as_str();
        let mut swapped = with(files[other].clone());
        swapped.insert(other.to_owned(), bytes.clone());
        // What the chain or a manifest says is not known where it is swapped itself.
        let is_root = |path: &str| path == "chain" || path.starts_with("snapshots/");
        let both = [path, other];
        let named: Vec<&str> = match both.iter().find(|path| is_root(path)) {
            Some(root) => vec![root],
            None => both.to_vec(),
        };
        case(swapped, format!("{path} and {other} swapped"), &named);
    }
    println!("{cases} stores with a file that is missing, cut, longer or swapped: all found");
}

#[test]
fn files_that_no_seal_names_are_found() {
    let (truth, files) = small_store();
    let mut cases = 0;
    let mut places: Vec<String> = [
        "",
        "segments/",
        "snapshots/",
        "objects/",
        "objects/00/",
        "else/",
    ]
    .map(|place| format!("{place}stray"))
    .to_vec();
    for path in files.keys() {
        // The same bytes under another name: beside it, and as what comes next.
        places.push(format!("{path}.copy"));
        places.push(path.replace("00000000", "00000009"));
        places.push(format!("segments/{path}"));
    }
    for place in places
        .into_iter()
        .filter(|place| !files.contains_key(place))
    {
        let like = files.get(place.strip_suffix(".copy").unwrap_or_default());
        let mut more = files.clone();
        more.insert(
            place.clone(),
            like.cloned().unwrap_or_else(|| b"x".to_vec()),
        );
        found(more, &truth, &format!("{place} added"), &[&place]);
        cases += 1;
    }
    println!("{cases} stores with one file too many: all found");
}

/// The files of a store after each of its seals, and its heads.
fn ages() -> (Truth, Vec<(Files, firstbad::store::Hash)>) {
    let size = Size {
        rows: 40,
        commits: 12,
        changes: 5,
    };
    let story = Story::random(&mut Rng::new(21), size);
    let memory = Memory::new();
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let mut ages = Vec::new();
    let mut plan = Vec::new();
    for commit in [3, 6, 9, 12] {
        for step in [
            Step::Record(commit, segments_of(100)),
            Step::Snapshot(commit),
            Step::Retain(commit),
        ] {
            if matches!(step, Step::Retain(_)) && commit != 9 {
                continue;
            }
            plan.push(step);
            perform(
                &disk,
                &story,
                &plan[plan.len() - 1..],
                &mut Claimed::default(),
            )
            .expect("a disk without faults");
            let head = Store::on(Arc::clone(&disk))
                .expect("it opens")
                .chain()
                .head();
            ages.push((memory.files(), head));
        }
    }
    (Truth::of(story.history()), ages)
}

#[test]
fn what_was_right_once_is_found_and_a_head_kept_elsewhere_finds_all() {
    let (truth, ages) = ages();
    let mut cases = 0;
    let (now, head) = ages.last().expect("there are some");
    for (number, (then, old)) in ages[..ages.len() - 1].iter().enumerate() {
        // The chain of then, with the files of now.
        let mut set_back = now.clone();
        set_back.insert("chain".into(), then["chain"].clone());
        let what = format!("the chain set back to age {number}");
        let disk: Arc<dyn Disk> = Arc::new(Memory::holding(set_back));
        damage_of(&disk, &truth, &what);
        assert!(
            Writer::on(Arc::clone(&disk), || unreachable!("it is there")).is_err(),
            "{what}"
        );
        // The files of then, with the chain of now.
        let mut behind = then.clone();
        behind.insert("chain".into(), now["chain"].clone());
        let disk: Arc<dyn Disk> = Arc::new(Memory::holding(behind));
        damage_of(
            &disk,
            &truth,
            &format!("the files set back to age {number}"),
        );
        // All of then: only who knows the head can tell.
        let disk: Arc<dyn Disk> = Arc::new(Memory::holding(then.clone()));
        assert_eq!(verified(&disk, &ALL).expect("it is read").damage, []);
        let known = |head| Options {
            head: Some(head),
            ..BYTES
        };
        let report = verified(&disk, &known(*head)).expect("it is read");
        assert!(is_located(&report.damage, "chain"), "{what}");
        assert_eq!(
            verified(&disk, &known(*old)).expect("it is read").damage,
            []
        );
        cases += 3;
        for (path, bytes) in then.iter().filter(|(path, _)| now.get(*path).is_none()) {
            let mut more = now.clone();
            more.insert(path.clone(), bytes.clone());
            found(more, &truth, &format!("{path} is back"), &[path]);
            cases += 1;
        }
    }
    println!("{cases} stores that were set back, in whole or in part: all found");
}

#[test]
fn lines_of_the_chain_that_are_missing_or_moved_are_found() {
    let (truth, ages) = ages();
    let (now, _) = ages.last().expect("there are some");
    let text = String::from_utf8(now["chain"].clone()).expect("lines of JSON");
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut cases = 0;
    let mut case = |lines: Vec<&str>, what: String| {
        let mut files = now.clone();
        files.insert("chain".into(), lines.concat().into_bytes());
        let disk: Arc<dyn Disk> = Arc::new(Memory::holding(files));
        let damage = damage_of(&disk, &truth, &what);
        // Where a line goes at which files went, those are missing.
        let named = is_located(&damage, "chain")
            || damage
                .iter()
                .all(|damage| damage.problem == "the file is missing");
        assert!(named, "{what}: {damage:?}");
        assert!(
            Writer::on(disk, || unreachable!("it is there")).is_err(),
            "{what}"
        );
        cases += 1;
    };
    for at in 0..lines.len() {
        case(
            lines[..at].to_vec(),
            format!("the last {} lines gone", lines.len() - at),
        );
        let mut without = lines.clone();
        without.remove(at);
        case(without, format!("line {at} gone"));
        let mut twice = lines.clone();
        twice.insert(at, lines[at]);
        if at + 1 < lines.len() {
            case(twice, format!("line {at} twice"));
            let mut swapped = lines.clone();
            swapped.swap(at, at + 1);
            case(swapped, format!("lines {at} and {} swapped", at + 1));
        }
    }
    println!("{cases} chains with lines missing, doubled or swapped: all found");
}

fn lay_out(files: &Files, root: &Path) {
    for (path, bytes) in files {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().expect("below the root")).expect("it can be made");
        std::fs::write(path, bytes).expect("it can be written");
    }
}

#[test]
fn directories_files_and_nothing_in_each_others_places() {
    let (truth, files) = small_store();
    let place = directory();
    let mut cases = 0;
    let mut all: Vec<&str> = files.keys().map(String::as_str).collect();
    all.extend(["segments", "snapshots", "objects"]);
    for path in all {
        for way in ["a directory", "an empty file", "nothing", ENDLESS] {
            let root = place.path().join(cases.to_string());
            lay_out(&files, &root);
            let target = root.join(path);
            match target.is_dir() {
                true => std::fs::remove_dir_all(&target),
                false => std::fs::remove_file(&target),
            }
            .expect("it can be removed");
            match way {
                "a directory" => std::fs::create_dir(&target),
                "an empty file" => std::fs::write(&target, b""),
                ENDLESS => std::os::unix::fs::symlink("/dev/zero", &target),
                _ => Ok(()),
            }
            .expect("it can be made");
            let what = format!("{way} in place of {path}");
            let disk: Arc<dyn Disk> = Arc::new(Local::new(&root));
            if !is_word(path) || matches!(way, "an empty file" | ENDLESS) {
                let damage = damage_of(&disk, &truth, &what);
                let named = damage.iter().any(|damage| damage.file.starts_with(path));
                assert!(named, "{what}: {damage:?}");
            }
            match Store::open(&root).and_then(|store| store.history()) {
                Ok(found) => truth.holds(&found),
                Err(StoreError::Damaged(_) | StoreError::NotThere(_)) => {}
                Err(error) => panic!("{what}: {error}"),
            }
            cases += 1;
            std::fs::remove_dir_all(&root).expect("it can be removed");
        }
    }
    println!(
        "{cases} stores with a directory, an empty file, a link or nothing in a place: all found"
    );
}

#[test]
fn a_store_whose_chain_and_format_are_lost_is_not_begun_anew() {
    let (truth, mut files) = small_store();
    files.remove("chain");
    files.remove("FORMAT");
    let disk: Arc<dyn Disk> = Arc::new(Memory::holding(files.clone()));
    let refused = Writer::on(Arc::clone(&disk), || format_of(&truth.history, 0));
    assert!(
        matches!(refused, Err(StoreError::Damaged(_))),
        "{refused:?}"
    );
    let left = Memory::holding(files.clone()).files();
    assert_eq!(left, files);
}
