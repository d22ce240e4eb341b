//! Proves a store intact: every byte against its hash, the chain, that nothing is there that no seal names, and that each snapshot with
//! the changes after it makes the next one.

mod proof;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::chain::{CHAIN, CHAIN_BYTES_MAX, Chain, Sealed};
use super::disk::{Disk, LOCK, OWNER};
use super::error::{Damage, StoreError};
use super::format::{
    FORMAT, FORMAT_BYTES_MAX, Format, OBJECTS, SEGMENTS, SNAPSHOTS, UNSEALED, VERIFIED, unsealed,
};
use super::hash::Hash;
use super::ledger::Ledger;
use super::manifest::Manifest;
use super::snapshot::parallel;
use super::writer::files_below;
use super::{BESIDE, MISSING, NOT_SEALED, READS_MAX, Store, is_missing, read_file};
use crate::change::{Commit, now_us};

const CONTEXT: &str = "firstbad 2026-11 last verification of a store, version 1";
/// The largest file of a last verification that is read.
const VERIFIED_BYTES_MAX: u64 = 4096;

/// What is to be proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Only segments and snapshots that reach beyond this position.
    pub since: Option<Commit>,
    /// A head that the chain had once: it must still be part of it.
    pub head: Option<Hash>,
    /// Whether to prove that each snapshot and the changes after it make the next one; else only bytes are compared.
    pub prove: bool,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What is wrong, by file and offset.
    pub damage: Vec<Damage>,
    /// What is not wrong and worth knowing: traces of writes that were not finished, a writer at work.
    pub notes: Vec<String>,
    /// Seals that are whole.
    pub seals: u64,
    /// The hash of the last of them.
    pub head: Option<Hash>,
    /// Files whose bytes were compared.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Snapshots that were proved from the one before and the changes between.
    pub proved: u64,
    /// Chunks whose rows were compared with what the snapshots say of them.
    pub chunks: u64,
}

/// What is being done, for whoever watches: the word for it, how much of how much.
pub type Progress<'a> = &'a (dyn Fn(&str, u64, u64) + Sync);

/// Verifies the store on a disk.
///
/// # Errors
/// [`StoreError::Newer`]; when the disk fails otherwise than by a file that is missing. Damage is no error.
pub fn verify(
    disk: &Arc<dyn Disk>,
    options: &Options,
    progress: Progress<'_>,
) -> Result<Report, StoreError> {
    for _ in 0..READS_MAX {
        let begun = read_chain(disk.as_ref())?;
        let report = match Verification::run(disk, &begun, options, progress) {
            Err(StoreError::Changing) => continue,
            report => report?,
        };
        // A writer may have sealed or removed something meanwhile.
        if report.damage.is_empty() || read_chain(disk.as_ref())? == begun {
            return Ok(report);
        }
    }
    Err(StoreError::Changing)
}

/// The bytes of the chain; none where it is missing.
fn read_chain(disk: &dyn Disk) -> Result<Option<Vec<u8>>, StoreError> {
    match disk.read(CHAIN, CHAIN_BYTES_MAX) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(StoreError::io("read", CHAIN)(error)),
    }
}

/// Files that were read.
#[derive(Default)]
struct Compared {
    files: u64,
    bytes: u64,
    damage: Vec<Damage>,
    /// Those that are manifests and right.
    manifests: Vec<(Sealed, Vec<u8>)>,
}

struct Verification<'a> {
    disk: &'a Arc<dyn Disk>,
    chain: Chain,
    ledger: Ledger,
    options: &'a Options,
    progress: Progress<'a>,
    report: Report,
}

impl Verification<'_> {
    fn run(
        disk: &Arc<dyn Disk>,
        chain: &Option<Vec<u8>>,
        options: &Options,
        progress: Progress<'_>,
    ) -> Result<Report, StoreError> {
        let parsed = Chain::parse(chain.as_deref().unwrap_or_default());
        let mut this = Verification {
            disk,
            ledger: Ledger::of(&parsed),
            chain: parsed,
            options,
            progress,
            report: Report::default(),
        };
        if chain.is_none() || this.chain.seals.is_empty() && this.chain.broken.is_none() {
            this.wrong(
                CHAIN,
                (0, 0),
                "the file is missing or empty",
                "the whole store",
            );
        }
        this.report.seals = this.chain.seals.len() as u64;
        this.report.bytes += this.chain.whole;
        this.report.files += u64::from(chain.is_some());
        this.report.head = (!this.chain.seals.is_empty()).then(|| this.chain.head());
        this.head();
        this.format()?;
        let manifests = this.files()?;
        this.objects(&manifests)?;
        let strays = this.strays(&manifests)?;
        this.tail(strays);
        if this.options.prove && this.report.damage.is_empty() {
            this.prove(&manifests)?;
        }
        this.report
            .damage
            .sort_by(|a, b| (&a.file, a.from).cmp(&(&b.file, b.from)));
        Ok(this.report)
    }

    fn wrong(&mut self, file: &str, (from, to): (u64, u64), problem: &str, affects: &str) {
        self.report.damage.push(Damage {
            file: file.into(),
            from,
            to,
            problem: problem.into(),
            affects: affects.into(),
        });
    }

    /// Whether the chain still has a head that it had once.
    fn head(&mut self) {
        let Some(head) = self.options.head else {
            return;
        };
        if !self.chain.seals.iter().any(|(_, hash, _)| *hash == head) {
            let end = (self.chain.whole, self.chain.whole);
            let problem =
                "the chain does not have the head that it had: the store was set back or replaced";
            self.wrong(CHAIN, end, problem, "everything that was sealed since");
        }
    }

    fn format(&mut self) -> Result<(), StoreError> {
        let Ok(bytes) = read_file(self.disk.as_ref(), FORMAT, FORMAT_BYTES_MAX) else {
            return Ok(());
        };
        // Its bytes are compared with those of all other files.
        let sealed = self.ledger.files.get(FORMAT).map(|live| &live.sealed);
        if sealed.is_some_and(|sealed| !sealed.holds(&bytes)) {
            return Ok(());
        }
        // Where no seal can be read, what the file says of its version is believed without one.
        Format::newer(&bytes).map_or(Ok(()), Err)
    }

    /// Compares all files that seals name; returns the manifests that are whole.
    fn files(&mut self) -> Result<BTreeMap<Commit, Manifest>, StoreError> {
        let since = self.options.since.unwrap_or(0);
        let is_old = |path: &str| {
            let segment = |stretch: &super::Stretch| {
                let directory = super::format::segment_directory(stretch.from, stretch.to);
                path.starts_with(&directory) && stretch.to < since
            };
            let snapshot = |at: &Commit| path == super::format::manifest_path(*at) && *at < since;
            self.ledger.segments.values().any(segment) || self.ledger.snapshots.keys().any(snapshot)
        };
        let sealed: Vec<Sealed> = self
            .ledger
            .files
            .values()
            .map(|live| live.sealed.clone())
            .filter(|sealed| self.options.since.is_none() || !is_old(&sealed.path))
            .collect();
        let mut manifests = BTreeMap::new();
        let compared = self.compare("files", &sealed, &|path| self.ledger.affects(path))?;
        for (sealed, bytes) in self.take(compared) {
            let at = sealed.path.strip_prefix(SNAPSHOTS).and_then(|name| {
                let name = name.strip_prefix('/')?.strip_suffix(".json")?;
                name.parse::<Commit>().ok()
            });
            let Some(at) = at else { continue };
            match serde_json::from_slice(&bytes) {
                Ok(manifest) => _ = manifests.insert(at, manifest),
                Err(_) => {
                    let range = (0, sealed.bytes);
                    let affects = self.ledger.affects(&sealed.path);
                    self.wrong(&sealed.path, range, "it is no manifest", &affects);
                }
            }
        }
        Ok(manifests)
    }

    /// Compares the chunks of snapshots.
    fn objects(&mut self, manifests: &BTreeMap<Commit, Manifest>) -> Result<(), StoreError> {
        let mut objects: BTreeMap<String, (Sealed, String, BTreeSet<Commit>)> = BTreeMap::new();
        for (at, manifest) in manifests {
            for (table, chunk) in manifest.chunks() {
                let sealed = chunk.sealed();
                let name = &manifest.tables[table].table;
                let entry = objects.entry(sealed.path.clone());
                let entry = entry.or_insert_with(|| (sealed, name.clone(), BTreeSet::new()));
                entry.2.insert(*at);
            }
        }
        let affects = |path: &str| match objects.get(path) {
            None => String::new(),
            Some((_, table, snapshots)) => {
                let shown: Vec<String> = snapshots
                    .iter()
                    .take(5)
                    .map(|at| format!("#{at}"))
                    .collect();
                let more = match snapshots.len().saturating_sub(5) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                format!(
                    "rows of {table} in the snapshots at {}{more}",
                    shown.join(", ")
                )
            }
        };
        let sealed: Vec<Sealed> = objects
            .values()
            .map(|(sealed, ..)| sealed.clone())
            .collect();
        let compared = self.compare("chunks", &sealed, &affects)?;
        self.take(compared);
        Ok(())
    }

    /// Takes over what was compared; returns the manifests that are right.
    fn take(&mut self, compared: Compared) -> Vec<(Sealed, Vec<u8>)> {
        self.report.files += compared.files;
        self.report.bytes += compared.bytes;
        self.report.damage.extend(compared.damage);
        compared.manifests
    }

    /// Reads files and compares their bytes.
    fn compare(
        &self,
        what: &str,
        files: &[Sealed],
        affects: &(dyn Fn(&str) -> String + Sync),
    ) -> Result<Compared, StoreError> {
        let total: u64 = files.iter().map(|sealed| sealed.bytes).sum();
        let done = AtomicU64::new(0);
        let results = parallel(files.len(), |at| {
            let sealed = &files[at];
            let done = done.fetch_add(sealed.bytes, Ordering::Relaxed) + sealed.bytes;
            (self.progress)(what, done, total);
            let disk = self.disk.as_ref();
            let kept = sealed.path.starts_with(SNAPSHOTS);
            // What is not right, or on its way, is looked at more closely.
            if !kept && matches!(sealed.is_at(disk, &sealed.path), Ok(true)) {
                return Ok(Ok(None));
            }
            let bytes = read_file(disk, &sealed.path, sealed.bytes);
            let damage = |(from, to): (u64, u64), problem: &str| Damage {
                file: sealed.path.clone(),
                from,
                to,
                problem: problem.into(),
                affects: affects(&sealed.path),
            };
            match bytes {
                Ok(bytes) if sealed.holds(&bytes) => Ok(Ok(kept.then_some(bytes))),
                Ok(bytes) => {
                    let range = sealed.differs_in(&bytes);
                    Ok(Err(damage(range, NOT_SEALED)))
                }
                Err(error) if is_missing(&error) => Ok(Err(damage((0, sealed.bytes), MISSING))),
                Err(error) => {
                    let problem = format!("it cannot be read: {error}");
                    Ok(Err(damage((0, sealed.bytes), &problem)))
                }
            }
        })?;
        let mut compared = Compared {
            files: files.len() as u64,
            bytes: total,
            ..Compared::default()
        };
        for (sealed, result) in files.iter().zip(results) {
            match result {
                Ok(None) => {}
                Ok(Some(bytes)) => compared.manifests.push((sealed.clone(), bytes)),
                Err(damage) => compared.damage.push(damage),
            }
        }
        Ok(compared)
    }

    /// Finds what no seal names; says how many such files lie where only sealed ones are.
    fn strays(&mut self, manifests: &BTreeMap<Commit, Manifest>) -> Result<usize, StoreError> {
        let mut found = Vec::new();
        files_below(self.disk.as_ref(), "", &mut found)?;
        let all_read = manifests.len() == self.ledger.snapshots.len();
        let objects: BTreeSet<String> = manifests
            .values()
            .flat_map(|manifest| manifest.chunks().map(|(_, chunk)| chunk.sealed().path))
            .collect();
        let mut strays = 0;
        let mut waiting = 0;
        let mut later = false;
        for (path, bytes) in found {
            let place = path.split('/').next().unwrap_or_default();
            let known = match place {
                UNSEALED => {
                    waiting += 1;
                    true
                }
                CHAIN => path == CHAIN,
                OWNER => path == OWNER,
                LOCK => path == LOCK && bytes == 0,
                _ if BESIDE.contains(&path.as_str()) => true,
                VERIFIED => {
                    self.last_verification();
                    path == VERIFIED
                }
                // What a damaged manifest refers to is not known.
                OBJECTS => objects.contains(&path) || !all_read,
                _ => self.ledger.files.contains_key(&path),
            };
            if known {
                continue;
            }
            let is_sealed_place = [FORMAT, SEGMENTS, SNAPSHOTS, OBJECTS].contains(&place);
            strays += usize::from(is_sealed_place);
            // What the seals behind a broken one name is not known.
            if is_sealed_place && self.chain.broken.is_some() {
                continue;
            }
            later |= self.ledger.is_later(&path);
            let problem = match path == LOCK {
                true => "this file is always empty",
                false => "no seal names this file",
            };
            self.wrong(&path, (0, bytes), problem, "");
        }
        if later {
            let end = (self.chain.whole, self.chain.whole);
            let problem = "seals are missing at its end: there are files that were sealed later";
            self.wrong(CHAIN, end, problem, "everything that was sealed since");
        }
        let holder = self.disk.holder().map_err(StoreError::io("read", LOCK))?;
        if let Some(holder) = &holder {
            let note = format!("the store is being written by {holder}");
            self.report.notes.push(note);
        } else if waiting > 0 {
            let files = crate::diagnostic::counted(waiting, "file");
            let note =
                format!("{files} of a write that was not finished; the next writer clears up");
            self.report.notes.push(note);
        }
        Ok(strays)
    }

    /// What the broken end of a chain is: damage, or a write that was not finished.
    fn tail(&mut self, strays: usize) {
        let Some(broken) = self.chain.broken.clone() else {
            return;
        };
        let lacks = self
            .report
            .damage
            .iter()
            .any(|damage| damage.problem == MISSING);
        if broken.inside || strays > 0 || lacks || self.chain.seals.is_empty() {
            let affects = "everything that was sealed from there on";
            self.wrong(CHAIN, (broken.from, broken.to), broken.problem, affects);
        } else {
            let bytes = broken.to - broken.from;
            let note = format!(
                "{bytes} bytes at the end of the chain are a seal that was not finished; the next writer cuts them off"
            );
            self.report.notes.push(note);
        }
    }

    fn last_verification(&mut self) {
        let bytes = self
            .disk
            .read(VERIFIED, VERIFIED_BYTES_MAX)
            .unwrap_or_default();
        if Verified::parse(&bytes).is_none() {
            let problem = "it does not say what it should";
            let affects = "only when the store was last verified";
            self.wrong(VERIFIED, (0, bytes.len() as u64), problem, affects);
        }
    }
}

/// What `verify` found last; kept in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verified {
    /// When, in microseconds since the epoch.
    pub time: i64,
    /// The head of the chain then.
    pub head: Option<Hash>,
    /// How much was wrong.
    pub damage: u64,
    /// Whether the snapshots were proved from the changes.
    pub proved: bool,
}

impl Verified {
    fn bytes(&self) -> Vec<u8> {
        let text = serde_json::to_string(self).expect("it is plain data");
        let hash = Hash::derived(CONTEXT, text.as_bytes());
        format!("{text}\n{hash}\n").into_bytes()
    }

    fn parse(bytes: &[u8]) -> Option<Verified> {
        let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
        let (text, hash) = text.split_once('\n')?;
        let right = Hash::parse(hash)? == Hash::derived(CONTEXT, text.as_bytes());
        right.then(|| serde_json::from_str(text).ok()).flatten()
    }

    /// What was found last; None where that is not known.
    pub fn read(disk: &dyn Disk) -> Option<Verified> {
        Verified::parse(&disk.read(VERIFIED, VERIFIED_BYTES_MAX).ok()?)
    }

    /// Keeps what was found, unless somebody writes the store just now or it cannot be written.
    pub fn keep(disk: &dyn Disk, report: &Report, options: &Options) {
        let Ok(_lock) = disk.lock("firstbad verify") else {
            return;
        };
        let verified = Verified {
            time: now_us(),
            head: report.head,
            damage: report.damage.len() as u64,
            proved: options.prove,
        };
        let staged = unsealed(VERIFIED);
        let _ = disk.remove(&staged);
        // That it cannot be kept is no reason to fail: what was found has been said.
        let _ = disk
            .make_directory(UNSEALED)
            .and_then(|_| disk.create(&staged, &verified.bytes()))
            .and_then(|()| disk.rename(&staged, VERIFIED))
            .and_then(|()| disk.sync_directory(""));
    }
}

impl Store {
    /// What `verify` found last; None where that is not known.
    pub fn last_verified(&self) -> Option<Verified> {
        Verified::read(self.disk().as_ref())
    }
}
