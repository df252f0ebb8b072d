//! Why a data directory cannot be used.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use crate::id::NodeId;

/// Why a data directory cannot be used. Every variant names the file or the directory; nothing in it was
/// changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PersistError {
    /// Others may write to the directory, or have some access to the file.
    #[error("{} has mode {mode:03o}: only its owner may have access", path.display())]
    Exposed {
        /// The file or the directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The name belongs to something else, such as a symbolic link.
    #[error("{} is not a {expected}", path.display())]
    Misplaced {
        /// The file or the directory.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
    },
    /// Another node, in this process or another one, uses the directory.
    #[error("{} is in use by another node", path.display())]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// The file belongs to a node with another identity.
    #[error("{} belongs to the node {found}", path.display())]
    OtherNode {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: NodeId,
    },
    /// The file has a format that this version does not know.
    #[error("{} has format {found}, which this version does not know", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The file is not what was written to it.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Damage,
    },
    /// The file holds more than the limits of the node allow.
    #[error("{} holds more than the limits of this node allow", path.display())]
    Limits {
        /// The file.
        path: PathBuf,
    },
    /// There is no room for the file: the disk, a quota or
    /// [`data_bytes_max`](crate::Builder::data_bytes_max) is exhausted.
    #[error("there is no room for {}", path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// What the operating system answered.
        source: io::Error,
    },
    /// The operating system failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The file or the directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the operating system answered.
        source: io::Error,
    },
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// The file is empty, as one that was cut off would be.
    #[error("the file is empty")]
    Empty,
    /// The database in it does not verify.
    #[error("the database does not verify")]
    Database(#[source] Box<dyn Error + Send + Sync>),
    /// The database could not be read to its end.
    #[error("the database cannot be read")]
    Unreadable,
    /// A row of a table is malformed.
    #[error("a row of the table `{0}` is malformed")]
    Row(&'static str),
    /// The file is older than what this node has acknowledged as durable.
    #[error("the file is at commit {found}, and commit {expected} was made")]
    Older {
        /// The last commit in the file.
        found: u64,
        /// The last commit that was made.
        expected: u64,
    },
}

pub(super) fn io_error(path: &Path, action: &'static str, source: io::Error) -> PersistError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            PersistError::Full { path, source }
        }
        _ => PersistError::Io { path, action, source },
    }
}

pub(super) fn damaged(path: &Path, source: Damage) -> PersistError {
    PersistError::Damaged { path: path.to_owned(), source }
}
