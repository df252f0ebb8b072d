//! The data directory: private, and used by one node at a time.
//!
//! Its lock file also bears the number of the last commit. It is written after the commit and not synced:
//! after a crash of the process it is there, after a loss of power it may be behind, but it is never ahead.
//! So a file that is behind it was cut back.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::error::{PersistError, io_error};

/// The name of the database.
const DATA: &str = "foveola.redb";
/// The name of a database that is being made.
const NEW: &str = "foveola.redb.new";
/// The name of the lock file.
const LOCK: &str = "foveola.lock";
/// What the number of a commit is combined with to tell it from garbage.
const WITNESS: u64 = 0x666f_7665_6f6c_6121;

/// A data directory that this node alone uses, as long as the value lives.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    lock: File,
}

impl Directory {
    /// Makes the directory if it is missing, and takes its lock.
    pub(super) fn enter(path: &Path) -> Result<Self, PersistError> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(path).map_err(|source| io_error(path, "create", source))?;
        let found = fs::metadata(path).map_err(|source| io_error(path, "read", source))?;
        check_mode(path, &found, 0o022)?;
        let file = path.join(LOCK);
        let mut options = private();
        let lock = options.read(true).write(true).create(true).truncate(false).open(&file);
        let lock = lock.map_err(|source| io_error(&file, "open", source))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), lock }),
            Err(TryLockError::WouldBlock) => Err(PersistError::InUse { path: file }),
            Err(TryLockError::Error(source)) => Err(io_error(&file, "lock", source)),
        }
    }

    /// The path of the database.
    pub(super) fn data(&self) -> PathBuf {
        self.path.join(DATA)
    }

    /// Opens the database; `None` when there is none.
    pub(super) fn open(&self) -> Result<Option<File>, PersistError> {
        let path = self.data();
        let named = match fs::symlink_metadata(&path) {
            Ok(named) => named,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(io_error(&path, "read", source)),
        };
        if !named.is_file() {
            return Err(PersistError::Misplaced { path, expected: "regular file" });
        }
        check_mode(&path, &named, 0o077)?;
        let file = OpenOptions::new().read(true).write(true).open(&path);
        file.map(Some).map_err(|source| io_error(&path, "open", source))
    }

    /// Puts a database into place that `make` writes: whole or not at all.
    pub(super) fn create(
        &self,
        make: impl FnOnce(&Path, File) -> Result<(), PersistError>,
    ) -> Result<(), PersistError> {
        let (new, path) = (self.path.join(NEW), self.data());
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(io_error(&new, "remove", error)),
            _ => {}
        }
        let file = private().read(true).write(true).create_new(true).open(&new);
        make(&new, file.map_err(|source| io_error(&new, "create", source))?)?;
        fs::rename(&new, &path).map_err(|source| io_error(&path, "create", source))?;
        // Windows has no such thing, and needs none.
        #[cfg(unix)]
        File::open(&self.path)
            .and_then(|dir| dir.sync_all())
            .map_err(|source| io_error(&self.path, "sync", source))?;
        Ok(())
    }

    /// The number of the last commit, if it is known.
    pub(super) fn commits(&mut self) -> Option<u64> {
        let mut bytes = [0; 16];
        self.lock.seek(SeekFrom::Start(0)).ok()?;
        self.lock.read_exact(&mut bytes).ok()?;
        let value = u128::from_be_bytes(bytes);
        let (commits, check) = ((value >> 64) as u64, value as u64);
        (check == commits ^ WITNESS).then_some(commits)
    }

    /// Notes the number of the last commit.
    pub(super) fn note(&mut self, commits: u64) -> io::Result<()> {
        let value = u128::from(commits) << 64 | u128::from(commits ^ WITNESS);
        self.lock.seek(SeekFrom::Start(0))?;
        self.lock.write_all(&value.to_be_bytes())
    }
}

/// Options for files that only their owner may read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

#[cfg(unix)]
fn check_mode(path: &Path, found: &fs::Metadata, forbidden: u32) -> Result<(), PersistError> {
    let mode = std::os::unix::fs::MetadataExt::mode(found) & 0o777;
    if mode & forbidden == 0 { Ok(()) } else { Err(PersistError::Exposed { path: path.into(), mode }) }
}

#[cfg(not(unix))]
fn check_mode(_: &Path, _: &fs::Metadata, _: u32) -> Result<(), PersistError> {
    Ok(())
}
