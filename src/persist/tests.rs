//! The file through restarts, damage, lack of room and clocks that jump.

#![expect(clippy::disallowed_methods, reason = "tests read the clock")]

mod damage;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use super::{
    Contact, Content, Damage, Disk, Mark, Opened, Options, PersistError, SEQ_AHEAD, Saved, Source, open,
};
use crate::addr::Endpoint;
use crate::id::{Key, NodeId};
use crate::wire::{Record, RecordKind};

const HOUR: u32 = 3_600_000;
/// A wall clock to begin with.
const UNIX: Duration = Duration::from_secs(1_000_000);

/// A directory that is gone with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("foveola-persist-{}-{unique}", std::process::id()));
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("foveola.redb")
    }

    fn options(&self) -> Options {
        Options { dir: self.0.clone(), owner: id(1), bytes_max: 1 << 30, now: Instant::now(), unix: UNIX }
    }

    fn open(&self) -> Result<Opened, PersistError> {
        open(&self.options())
    }

    /// The file at `unix`: what it holds, once the one who had it has let go.
    fn read(&self, unix: Duration) -> (Rows, Vec<Contact>) {
        let options = Options { unix, ..self.options() };
        read(&retry(&options).expect("a file that opens"), options.now).expect("a file that can be read")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Opens a directory whose last user may not be gone yet.
fn retry(options: &Options) -> Result<Opened, PersistError> {
    let start = Instant::now();
    loop {
        match open(options) {
            Err(PersistError::InUse { .. }) if start.elapsed() < Duration::from_secs(20) => {
                std::thread::yield_now();
            }
            result => return result,
        }
    }
}

/// What a file holds: sequence, time to live and value by mark.
type Rows = BTreeMap<Mark, (u64, u32, Vec<u8>)>;

fn read(opened: &Opened, now: Instant) -> Result<(Rows, Vec<Contact>), PersistError> {
    let mut rows = Rows::new();
    let contacts = opened.load(now, |saved| {
        let (mark, record) = match saved {
            Saved::Held { publisher, record, authentic } => {
                assert!(authentic);
                (Mark::Held { key: record.key, kind: record.kind, publisher }, record)
            }
            Saved::Own(record) => (Mark::Own { key: record.key, kind: record.kind }, record),
        };
        rows.insert(mark, (record.seq, record.ttl_ms, record.value.to_vec()));
        true
    })?;
    Ok((rows, contacts))
}

/// Whether `found` are the rows of `memory`, whatever is left of their lives.
fn same(found: &Rows, memory: &Memory) -> bool {
    let plain = |rows: &Rows| -> Vec<_> {
        rows.iter().map(|(mark, (seq, _, value))| (*mark, *seq, value.clone())).collect()
    };
    plain(found) == plain(&memory.rows.lock().unwrap())
}

fn id(n: u8) -> NodeId {
    NodeId::from_bytes([n; 32])
}

fn key(n: u32) -> Key {
    Key::of_name(n.to_string())
}

fn held(n: u32) -> Mark {
    Mark::Held { key: key(n), kind: RecordKind::VALUE, publisher: id(2) }
}

fn own(n: u32) -> Mark {
    Mark::Own { key: key(n), kind: RecordKind::VALUE }
}

/// Holds rows and contacts as a node would.
#[derive(Default)]
struct Memory {
    rows: Mutex<Rows>,
    contacts: Mutex<BTreeMap<NodeId, Vec<Endpoint>>>,
}

impl Memory {
    fn set(&self, mark: Mark, seq: u64, value: impl Into<Vec<u8>>) {
        self.rows.lock().unwrap().insert(mark, (seq, HOUR, value.into()));
    }
}

impl Source for Memory {
    fn show(&self, _: Instant, mark: &Mark, write: &mut dyn FnMut(Content<'_>)) {
        let (key, kind) = match mark {
            Mark::Held { key, kind, .. } | Mark::Own { key, kind } => (*key, *kind),
            Mark::Contact(id) => {
                if let Some(endpoints) = self.contacts.lock().unwrap().get(id) {
                    write(Content::Contact(endpoints));
                }
                return;
            }
        };
        let rows = self.rows.lock().unwrap();
        let Some((seq, ttl_ms, value)) = rows.get(mark) else { return };
        let (seq, ttl_ms) = (*seq, *ttl_ms);
        let record = Record { key, seq, ttl_ms, kind, flags: 0, proof: &[], value };
        write(Content::Record { record, authentic: true });
    }

    fn contacts(&self) -> Vec<NodeId> {
        self.contacts.lock().unwrap().keys().copied().collect()
    }
}

fn start(opened: Opened, memory: &Arc<Memory>) -> Disk {
    let source: Weak<Memory> = Arc::downgrade(memory);
    opened.start(source).expect("a file that can be written")
}

/// Whether what there is of `marks` is on disk.
fn write(disk: &Disk, marks: impl IntoIterator<Item = Mark>) -> bool {
    let (done, outcome) = sync_channel(1);
    disk.write(marks, Box::new(move |durable| done.send(durable).unwrap()));
    outcome.recv_timeout(Duration::from_secs(20)).expect("an answer")
}

#[test]
fn what_is_on_disk_comes_back() {
    let scratch = Scratch::new();
    let memory = Arc::new(Memory::default());
    let disk = start(scratch.open().unwrap(), &memory);
    for n in 0..100 {
        memory.set(held(n), n.into(), format!("held {n}"));
        memory.set(own(n), n.into(), format!("own {n}"));
    }
    let endpoints: Vec<Endpoint> = vec!["10.0.0.1:1".parse().unwrap(), "seed.example:2".parse().unwrap()];
    memory.contacts.lock().unwrap().insert(id(9), endpoints.clone());
    let marks = (0..100).flat_map(|n| [held(n), own(n)]).chain([Mark::Contact(id(9)), held(4_000)]);
    assert!(write(&disk, marks));
    // A row of which nothing is left goes, and one that has changed since is written as it is then.
    memory.rows.lock().unwrap().remove(&held(7));
    memory.set(held(8), 80, "newer");
    assert!(write(&disk, [held(7), held(8), held(8)]));
    memory.set(held(9), 90, "never asked for");
    drop(disk);
    let (rows, contacts) = scratch.read(UNIX);
    memory.set(held(9), 9, "held 9");
    assert!(same(&rows, &memory));
    assert_eq!(contacts.len(), 1);
    assert_eq!((contacts[0].id, &contacts[0].endpoints), (id(9), &endpoints));
}

#[tokio::test]
async fn what_waits_is_written_before_a_close_and_not_before_an_abort() {
    let scratch = Scratch::new();
    let memory = Arc::new(Memory::default());
    let disk = start(scratch.open().unwrap(), &memory);
    memory.set(own(1), 1, "one");
    disk.write_soon([own(1)]);
    disk.close().await;
    assert!(!write(&disk, [own(1)]), "the thread has ended");
    assert_eq!(read(&scratch.open().unwrap(), Instant::now()).unwrap().0.len(), 1, "nobody has the file");
}

#[test]
fn no_sequence_number_is_reserved_twice() {
    let scratch = Scratch::new();
    let memory = Arc::new(Memory::default());
    let mut used = 0;
    for _ in 0..3 {
        let opened = retry(&scratch.options()).unwrap();
        let first = opened.first_seq();
        assert!(first > used, "{first} was used, up to {used}");
        let disk = start(opened, &memory);
        assert!(disk.covers(first + SEQ_AHEAD), "reserved before anything is stored");
        used = first + SEQ_AHEAD;
        assert!(!disk.covers(used + 10 * SEQ_AHEAD), "not reserved yet");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let later = used + 10 * SEQ_AHEAD;
        assert!(runtime.block_on(disk.ready(later, Instant::now() + Duration::from_secs(20))));
        used = later - 1;
    }
}

#[test]
fn lives_go_on_at_the_wall_clock_and_never_grow() {
    let scratch = Scratch::new();
    let memory = Arc::new(Memory::default());
    let disk = start(scratch.open().unwrap(), &memory);
    memory.set(held(1), 1, "for an hour");
    assert!(write(&disk, [held(1)]));
    drop(disk);
    let ttl = |unix: Duration| scratch.read(unix).0.get(&held(1)).map(|row| row.1);
    let later = ttl(UNIX + Duration::from_secs(1_800)).expect("it lives");
    // It was written a little after the clock was read.
    assert!((HOUR / 2..HOUR / 2 + 20_000).contains(&later), "{later} ms are left of the second half");
    let back = ttl(UNIX - Duration::from_secs(500_000)).expect("it lives");
    assert!(back <= HOUR, "{back} ms after the clock was set back");
    assert_eq!(ttl(UNIX + Duration::from_secs(3_600 + 60)), None);
    // The end of a life is removed from the file when the sweep comes by.
    let mut opened = scratch.open().unwrap();
    let now = Instant::now();
    assert_eq!(opened.data.sweep(now).unwrap().0, []);
    assert_eq!(opened.data.sweep(now + Duration::from_secs(3_600)).unwrap().0, [held(1)]);
}

#[test]
fn a_file_that_is_full_acknowledges_only_what_it_holds() {
    let scratch = Scratch::new();
    let memory = Arc::new(Memory::default());
    let options = Options { bytes_max: 3 << 20, ..scratch.options() };
    let disk = start(open(&options).unwrap(), &memory);
    let mut acknowledged = Vec::new();
    for n in 0..100 {
        memory.set(held(n), 1, vec![n as u8; 60_000]);
        if !write(&disk, [held(n)]) {
            break;
        }
        acknowledged.push(held(n));
    }
    assert!((10..100).contains(&acknowledged.len()), "{} fitted", acknowledged.len());
    // What is gone makes room.
    let (gone, kept) = acknowledged.split_at(acknowledged.len() / 2);
    let mut all = memory.rows.lock().unwrap().clone();
    all.retain(|mark, _| kept.contains(mark));
    *memory.rows.lock().unwrap() = all;
    let start = Instant::now();
    while !write(&disk, gone.iter().copied()) {
        assert!(start.elapsed() < Duration::from_secs(20), "no room although rows are gone");
        std::thread::yield_now();
    }
    memory.set(held(500), 1, "fits");
    assert!(write(&disk, [held(500)]));
    drop(disk);
    let rows = scratch.read(UNIX).0;
    assert!(same(&rows, &memory));
    assert!(fs::metadata(scratch.file()).unwrap().len() <= options.bytes_max);
}

#[test]
fn a_directory_has_one_user_of_one_identity() {
    let scratch = Scratch::new();
    let opened = scratch.open().unwrap();
    assert!(matches!(scratch.open(), Err(PersistError::InUse { .. })));
    drop(opened);
    let other = Options { owner: id(7), ..scratch.options() };
    assert!(matches!(open(&other), Err(PersistError::OtherNode { found, .. }) if found == id(1)));
    let memory = Arc::new(Memory::default());
    let disk = start(scratch.open().unwrap(), &memory);
    memory.set(held(1), 1, "one");
    assert!(write(&disk, [held(1)]));
    drop(disk);
    let opened = retry(&scratch.options()).unwrap();
    assert!(matches!(opened.load(Instant::now(), |_| false), Err(PersistError::Limits { .. })));
}

#[cfg(unix)]
#[test]
fn the_file_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    drop(scratch.open().unwrap());
    let mode = |path: &PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&scratch.0), 0o700);
    for entry in fs::read_dir(&scratch.0).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    fs::set_permissions(scratch.file(), fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(scratch.open(), Err(PersistError::Exposed { mode: 0o640, .. })));
    fs::set_permissions(scratch.file(), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o770)).unwrap();
    assert!(matches!(scratch.open(), Err(PersistError::Exposed { mode: 0o770, .. })));
    fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o700)).unwrap();
    let moved = scratch.0.join("moved");
    fs::rename(scratch.file(), &moved).unwrap();
    std::os::unix::fs::symlink(&moved, scratch.file()).unwrap();
    assert!(matches!(scratch.open(), Err(PersistError::Misplaced { .. })));
}
