//! Opening a file: verified whole, read once, and changed only then.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Instant;

use redb::{Database, ReadableDatabase, ReadableTable};

use super::backend::{Backend, Held};
use super::clock::Clock;
use super::directory::Directory;
use super::error::{Damage, PersistError, damaged, io_error};
use super::file::{Data, Meta, checked, contacts, database};
use super::row::{CONTACTS, HELD, META, OWN, Row};
use super::writer::Writer;
use super::{Contact, Disk, Options, Saved, Source, reserved};
use crate::id::NodeId;

/// The layout of the rows.
const FORMAT: u32 = 1;
/// A database whose pages verify, and which is not changed yet.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(super) data: Data,
    held: Arc<Held>,
    first: u64,
}

/// Opens the database in a directory, or makes one; verifies every page of it, and changes nothing yet.
pub(crate) fn open(options: &Options) -> Result<Opened, PersistError> {
    let mut directory = Directory::enter(&options.dir)?;
    let path = directory.data();
    let file = match directory.open()? {
        Some(file) => file,
        None => {
            directory.create(|path, file| {
                let backend = Backend::new(file, options.bytes_max);
                checked(path, || create(backend, &options.owner))
            })?;
            directory.note(1).map_err(|source| io_error(&path, "lock", source))?;
            let made = directory.open()?;
            made.ok_or_else(|| io_error(&path, "open", std::io::ErrorKind::NotFound.into()))?
        }
    };
    if file.metadata().is_ok_and(|found| found.len() == 0) {
        return Err(damaged(&path, Damage::Empty));
    }
    let (backend, held) =
        Backend::held(file, options.bytes_max).map_err(|source| io_error(&path, "read", source))?;
    let database = checked(&path, || database(backend))?;
    let meta = checked(&path, || meta(&database))?;
    let meta = judge(&path, meta, &options.owner)?;
    if let Some(expected) = directory.commits()
        && expected > meta.commits
    {
        return Err(damaged(&path, Damage::Older { found: meta.commits, expected }));
    }
    let clock = Clock::new(options.now, options.unix, meta.clock);
    let data = Data {
        directory,
        bytes_max: options.bytes_max,
        database: Some(database),
        meta,
        clock,
        cursor: (None, None),
        row: Vec::new(),
    };
    Ok(Opened { data, held, first: meta.seq })
}

impl Opened {
    /// The first sequence number that no earlier run has used.
    pub(crate) fn first_seq(&self) -> u64 {
        self.first
    }

    /// Shows `each` every row that is alive at `now`, until it says that one does not fit; returns the
    /// contacts, the one seen last first.
    pub(crate) fn load(
        &self,
        now: Instant,
        each: impl FnMut(Saved<'_>) -> bool,
    ) -> Result<Vec<Contact>, PersistError> {
        let path = self.data.directory.data();
        let Some(database) = &self.data.database else { return Ok(Vec::new()) };
        let now = self.data.clock.at(now);
        let loaded = checked(&path, || load(database, now, each))?;
        loaded.map_err(|stop| match stop {
            Stop::Row(table) => damaged(&path, Damage::Row(table)),
            Stop::Limits => PersistError::Limits { path },
        })
    }

    /// Lets the file be changed, reserves sequence numbers, and starts the thread that writes.
    pub(crate) fn start(mut self, source: Weak<dyn Source>) -> Result<Disk, PersistError> {
        let path = self.data.directory.data();
        self.held.release().map_err(|source| io_error(&path, "write", source))?;
        let ceiling = reserved(self.first);
        let now = crate::runtime::now();
        checked(&path, || self.data.commit(now, &[], &[], ceiling, None))?;
        Writer::start(self.data, source).map_err(|source| io_error(&path, "start a thread for", source))
    }
}

/// Why a load stopped before its end.
enum Stop {
    /// A row of this table is malformed.
    Row(&'static str),
    /// A row does not fit.
    Limits,
}

fn load(
    database: &Database,
    now: u64,
    mut each: impl FnMut(Saved<'_>) -> bool,
) -> Result<Result<Vec<Contact>, Stop>, redb::Error> {
    let transaction = database.begin_read()?;
    let table = transaction.open_table(HELD)?;
    for entry in table.iter()? {
        let (id, value) = entry?;
        let Some(row) = Row::decode(value.value()) else { return Ok(Err(Stop::Row("held"))) };
        if row.left(now) > 0 && !each(row.held(now, id.value())) {
            return Ok(Err(Stop::Limits));
        }
    }
    let table = transaction.open_table(OWN)?;
    for entry in table.iter()? {
        let (id, value) = entry?;
        let Some(row) = Row::decode(value.value()) else { return Ok(Err(Stop::Row("own"))) };
        if row.left(now) > 0 && !each(row.own(now, id.value())) {
            return Ok(Err(Stop::Limits));
        }
    }
    let contacts = contacts(&transaction.open_table(CONTACTS)?)?;
    Ok(contacts.ok_or(Stop::Row("contacts")))
}

/// Makes a database without rows.
fn create(backend: Backend, owner: &NodeId) -> Result<(), redb::Error> {
    let database = database(backend)?;
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    {
        transaction.open_table(HELD)?;
        transaction.open_table(OWN)?;
        transaction.open_table(CONTACTS)?;
        let mut meta = transaction.open_table(META)?;
        meta.insert("format", &FORMAT.to_be_bytes()[..])?;
        meta.insert("owner", &owner.as_bytes()[..])?;
        meta.insert("seq", &1_u64.to_be_bytes()[..])?;
        meta.insert("clock", &0_u64.to_be_bytes()[..])?;
        meta.insert("commits", &1_u64.to_be_bytes()[..])?;
    }
    transaction.commit()?;
    database.close()?;
    Ok(())
}

/// The format, the owner and the rest of what a database says about itself, as far as it does.
type Said = (Option<u32>, Option<NodeId>, Option<Meta>);

fn meta(database: &Database) -> Result<Said, redb::Error> {
    let transaction = database.begin_read()?;
    let table = transaction.open_table(META)?;
    let number = |name| -> Result<Option<u64>, redb::Error> {
        let value = table.get(name)?;
        Ok(value.and_then(|value| value.value().try_into().ok()).map(u64::from_be_bytes))
    };
    let format = table.get("format")?.and_then(|value| value.value().try_into().ok());
    let owner = table.get("owner")?.and_then(|value| value.value().try_into().ok());
    let meta = match (number("seq")?, number("clock")?, number("commits")?) {
        (Some(seq), Some(clock), Some(commits)) => Some(Meta { seq, clock, commits }),
        _ => None,
    };
    Ok((format.map(u32::from_be_bytes), owner.map(NodeId::from_bytes), meta))
}

fn judge(path: &Path, (format, owner, meta): Said, own: &NodeId) -> Result<Meta, PersistError> {
    let malformed = || damaged(path, Damage::Row("meta"));
    let path = || path.to_owned();
    match format.ok_or_else(malformed)? {
        FORMAT => {}
        found => return Err(PersistError::Format { path: path(), found }),
    }
    let found = owner.ok_or_else(malformed)?;
    if found != *own {
        return Err(PersistError::OtherNode { path: path(), found });
    }
    meta.ok_or_else(malformed)
}
