//! The database, as the thread writes it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

use redb::{Database, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::backend::Backend;
use super::clock::Clock;
use super::directory::Directory;
use super::error::{Damage, PersistError, damaged, io_error};
use super::row::{self, CONTACTS, HELD, META, OWN, Row};
use super::{Contact, Content, Mark, Source};
use crate::id::NodeId;

/// Memory that the database may use for pages.
const CACHE_BYTES: usize = 8 << 20;
/// Contacts in the file; those seen longest ago are dropped.
pub(super) const CONTACTS_MAX: usize = 1_024;
/// Rows of each table that one sweep looks at.
const SWEEP_ROWS: usize = 16_384;

/// What the file knows besides its rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meta {
    /// The first sequence number that no run has used.
    pub(super) seq: u64,
    /// The time of the last commit.
    pub(super) clock: u64,
    /// How many commits were made.
    pub(super) commits: u64,
}

/// The database, and what the next commit of it needs to know.
#[derive(Debug)]
pub(super) struct Data {
    /// `None` after a failure, until it is opened again. Closed before the lock of the directory is
    /// given back, because that writes.
    pub(super) database: Option<Database>,
    pub(super) directory: Directory,
    pub(super) bytes_max: u64,
    pub(super) meta: Meta,
    pub(super) clock: Clock,
    /// Where the next sweep goes on.
    pub(super) cursor: (Option<[u8; row::HELD_KEY]>, Option<[u8; row::OWN_KEY]>),
    /// A row under construction.
    pub(super) row: Vec<u8>,
}

impl Data {
    pub(super) fn path(&self) -> PathBuf {
        self.directory.data()
    }

    /// The first sequence number that may not be used yet.
    pub(super) fn ceiling(&self) -> u64 {
        self.meta.seq
    }

    /// Writes what `source` holds of `marks` at `now`, forgets some contacts, and reserves the sequence
    /// numbers below `seq`; on disk when it returns.
    ///
    /// After an error the database is closed: what it has in memory may be more than what is in the file.
    pub(super) fn commit(
        &mut self,
        now: Instant,
        marks: &[Mark],
        forget: &[NodeId],
        seq: u64,
        source: Option<&dyn Source>,
    ) -> Result<(), redb::Error> {
        let mut database = self.database.take().ok_or(redb::Error::DatabaseClosed)?;
        let clock = self.clock.at(now);
        let meta = Meta { seq: self.meta.seq.max(seq), clock, commits: self.meta.commits + 1 };
        self.write(&mut database, now, marks, forget, meta, source)?;
        (self.database, self.meta) = (Some(database), meta);
        // Without it a file that was cut back is not noticed; what is in the file is all the same.
        if let Err(error) = self.directory.note(meta.commits) {
            tracing::warn!(%error, "the number of the last commit could not be noted");
        }
        Ok(())
    }

    fn write(
        &mut self,
        database: &mut Database,
        now: Instant,
        marks: &[Mark],
        forget: &[NodeId],
        meta: Meta,
        source: Option<&dyn Source>,
    ) -> Result<(), redb::Error> {
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.set_two_phase_commit(true);
        {
            let mut held = transaction.open_table(HELD)?;
            let mut own = transaction.open_table(OWN)?;
            let mut contacts = transaction.open_table(CONTACTS)?;
            let out = &mut self.row;
            for mark in marks {
                out.clear();
                let mut write = |content: Content<'_>| row::encode(meta.clock, &content, out);
                if let Some(source) = source {
                    source.show(now, mark, &mut write);
                }
                match mark {
                    Mark::Held { key, kind, publisher } => {
                        put(&mut held, &row::held_key(key, *kind, publisher), out)?;
                    }
                    Mark::Own { key, kind } => put(&mut own, &row::own_key(key, *kind), out)?,
                    Mark::Contact(id) => put(&mut contacts, id.as_bytes(), out)?,
                }
            }
            for id in forget {
                contacts.remove(id.as_bytes())?;
            }
            let mut table = transaction.open_table(META)?;
            table.insert("seq", &meta.seq.to_be_bytes()[..])?;
            table.insert("clock", &meta.clock.to_be_bytes()[..])?;
            table.insert("commits", &meta.commits.to_be_bytes()[..])?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Opens the database again after a failure.
    pub(super) fn reopen(&mut self) -> Result<(), PersistError> {
        let path = self.path();
        let file = self.directory.open()?;
        let file = file.ok_or_else(|| io_error(&path, "open", std::io::ErrorKind::NotFound.into()))?;
        let backend = Backend::new(file, self.bytes_max);
        self.database = Some(checked(&path, || database(backend))?);
        Ok(())
    }

    /// Looks at some rows further on: marks of those that have ended, and contacts that are too many.
    pub(super) fn sweep(&mut self, now: Instant) -> Result<(Vec<Mark>, Vec<NodeId>), redb::Error> {
        let Some(database) = &self.database else { return Ok((Vec::new(), Vec::new())) };
        let now = self.clock.at(now);
        let transaction = database.begin_read()?;
        let mut marks = Vec::new();
        let ended = |value: &[u8]| Row::decode(value).is_none_or(|row| row.left(now) == 0);
        let table = transaction.open_table(HELD)?;
        self.cursor.0 = further(&table, self.cursor.0, |id, value| {
            marks.extend(ended(value).then(|| row::held_mark(id)));
        })?;
        let table = transaction.open_table(OWN)?;
        self.cursor.1 = further(&table, self.cursor.1, |id, value| {
            marks.extend(ended(value).then(|| row::own_mark(id)));
        })?;
        let table = transaction.open_table(CONTACTS)?;
        let mut forget = Vec::new();
        if table.len()? > CONTACTS_MAX as u64 {
            let mut contacts = contacts(&table)?.unwrap_or_default();
            forget.extend(contacts.drain(CONTACTS_MAX.min(contacts.len())..).map(|contact| contact.id));
        }
        Ok((marks, forget))
    }
}

/// Writes a row, or removes it when there is nothing to write.
fn put<const N: usize>(
    table: &mut redb::Table<'_, &'static [u8; N], &'static [u8]>,
    id: &[u8; N],
    row: &[u8],
) -> Result<(), redb::Error> {
    if row.is_empty() {
        table.remove(id)?;
    } else {
        table.insert(id, row)?;
    }
    Ok(())
}

/// Shows `each` the rows behind `cursor`, as many as a sweep looks at; returns where to go on.
fn further<const N: usize>(
    table: &redb::ReadOnlyTable<&'static [u8; N], &'static [u8]>,
    cursor: Option<[u8; N]>,
    mut each: impl FnMut(&[u8; N], &[u8]),
) -> Result<Option<[u8; N]>, redb::Error> {
    let start = cursor.unwrap_or([0; N]);
    for (seen, entry) in table.range::<&[u8; N]>(&start..)?.enumerate() {
        let (id, value) = entry?;
        if seen == SWEEP_ROWS {
            return Ok(Some(*id.value()));
        }
        each(id.value(), value.value());
    }
    Ok(None)
}

/// All contacts, the one seen last first; `None` when a row is malformed.
pub(super) fn contacts(
    table: &redb::ReadOnlyTable<&'static [u8; crate::id::ID_LEN], &'static [u8]>,
) -> Result<Option<Vec<Contact>>, redb::Error> {
    let mut contacts = Vec::new();
    for entry in table.iter()? {
        let (id, value) = entry?;
        let Some(contact) = row::contact(id.value(), value.value()) else { return Ok(None) };
        contacts.push(contact);
    }
    contacts.sort_by_key(|contact| std::cmp::Reverse(contact.seen));
    Ok(Some(contacts))
}

pub(super) fn database(backend: Backend) -> Result<Database, redb::Error> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    Ok(builder.create_with_backend(backend)?)
}

/// Does something with the database at `path`, which may be damaged in ways that the database meets with a
/// panic.
pub(super) fn checked<T>(
    path: &Path,
    work: impl FnOnce() -> Result<T, redb::Error>,
) -> Result<T, PersistError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(redb::Error::Io(source))) => match source.kind() {
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => {
                Err(damaged(path, Damage::Database(source.into())))
            }
            _ => Err(io_error(path, "use", source)),
        },
        Ok(Err(error)) => Err(damaged(path, Damage::Database(error.into()))),
        Err(_) => Err(damaged(path, Damage::Unreadable)),
    }
}
