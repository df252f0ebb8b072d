//! The key file: read only when nobody else can read it, created whole or not at all.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use rand::TryRng;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

use super::Identity;

/// An Ed25519 key file has about 120 bytes; the rest is room for comments before the PEM block.
const MAX_FILE_LEN: u16 = 16 * 1024;

/// Why a key file could not be read or created. Every variant names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// There is no file of this name.
    #[error("no key file at {}", path.display())]
    Missing {
        /// The key file.
        path: PathBuf,
    },
    /// The name is a symbolic link, so that somebody else may decide what is read.
    #[error("key file {} is a symbolic link", path.display())]
    Symlink {
        /// The key file.
        path: PathBuf,
    },
    /// The name belongs to a directory, a device or a pipe.
    #[error("key file {} is not a regular file", path.display())]
    NotAFile {
        /// The key file.
        path: PathBuf,
    },
    /// The group or others have some access to the file.
    #[error("key file {} has mode {mode:03o}: only its owner may have access (chmod 600)", path.display())]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is not a PEM-encoded PKCS#8 Ed25519 private key.
    #[error("key file {} does not hold a PKCS#8 PEM Ed25519 private key", path.display())]
    Malformed {
        /// The key file.
        path: PathBuf,
    },
    /// The operating system failed.
    #[error("cannot {action} key file {}", path.display())]
    Io {
        /// The key file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the operating system answered.
        source: io::Error,
    },
}

pub(super) fn load(path: &Path) -> Result<Identity, KeyFileError> {
    let named = fs::symlink_metadata(path).map_err(|source| failed(path, "read", source))?;
    if named.file_type().is_symlink() {
        return Err(KeyFileError::Symlink { path: path.into() });
    }
    // Opening a pipe would block, so the kind is known before.
    if !named.is_file() {
        return Err(KeyFileError::NotAFile { path: path.into() });
    }
    let file = File::open(path).map_err(|source| failed(path, "open", source))?;
    let opened = file.metadata().map_err(|source| failed(path, "read", source))?;
    if !same_file(&named, &opened) {
        return Err(KeyFileError::Symlink { path: path.into() });
    }
    check_private(path, &opened)?;
    // Room for all of it at once: growing would leave unwiped copies of the key behind.
    let mut pem = Zeroizing::new(String::with_capacity(2 * usize::from(MAX_FILE_LEN)));
    match file.take(MAX_FILE_LEN.into()).read_to_string(&mut pem) {
        Err(source) if source.kind() != ErrorKind::InvalidData => return Err(failed(path, "read", source)),
        _ => {}
    }
    let key = SigningKey::from_pkcs8_pem(&pem).map_err(|_| KeyFileError::Malformed { path: path.into() })?;
    Ok(Identity::from_seed(&Zeroizing::new(key.to_bytes())))
}

pub(super) fn load_or_generate(path: &Path) -> Result<Identity, KeyFileError> {
    match load(path) {
        Err(KeyFileError::Missing { .. }) => {}
        done => return done,
    }
    let identity = Identity::generate();
    match create(path, &identity) {
        Ok(()) => Ok(identity),
        Err(source) if source.kind() == ErrorKind::AlreadyExists => load(path),
        Err(source) => Err(failed(path, "create", source)),
    }
}

/// Writes a temporary file beside `path` and links it into place: unlike a rename, a link never replaces
/// a key that another process has created meanwhile.
fn create(path: &Path, identity: &Identity) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut random = [0; 8];
    SysRng.try_fill_bytes(&mut random).map_err(io::Error::other)?;
    let temporary = directory.join(format!(".identity-{:016x}.tmp", u64::from_be_bytes(random)));
    let result = write_new(&temporary, identity).and_then(|()| fs::hard_link(&temporary, path));
    // Whatever happened, no second copy of the key stays behind.
    let removed = match fs::remove_file(&temporary) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    };
    result.and(removed)?;
    File::open(directory)?.sync_all()
}

fn write_new(path: &Path, identity: &Identity) -> io::Result<()> {
    let pem = identity.pkcs8().to_pkcs8_pem(LineEnding::LF).map_err(io::Error::other)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(pem.as_bytes())?;
    file.sync_all()
}

#[cfg(unix)]
fn same_file(a: &Metadata, b: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

#[cfg(not(unix))]
fn same_file(_: &Metadata, _: &Metadata) -> bool {
    true
}

#[cfg(unix)]
fn check_private(path: &Path, metadata: &Metadata) -> Result<(), KeyFileError> {
    use std::os::unix::fs::MetadataExt;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(KeyFileError::Exposed { path: path.into(), mode }) }
}

#[cfg(not(unix))]
fn check_private(_: &Path, _: &Metadata) -> Result<(), KeyFileError> {
    Ok(())
}

fn failed(path: &Path, action: &'static str, source: io::Error) -> KeyFileError {
    match source.kind() {
        ErrorKind::NotFound => KeyFileError::Missing { path: path.into() },
        _ => KeyFileError::Io { path: path.into(), action, source },
    }
}
