//! The file under the database: bounded, and untouched until what is in it has been verified.
//!
//! Opening a database writes to it: it marks the file as in use and repairs what a crash left. If it then
//! turns out to be damaged, these writes may have destroyed what could have been saved. So they are held in
//! memory, and replayed in their order once everything has been read.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

/// A file of at most so many bytes.
#[derive(Debug)]
pub(super) struct Backend {
    bytes_max: u64,
    shared: Arc<Held>,
}

/// The file, and what is held back from it.
#[derive(Debug)]
pub(super) struct Held {
    file: File,
    steps: Mutex<Option<Steps>>,
}

/// What was done to the file since it was opened.
#[derive(Debug)]
struct Steps {
    /// The length it would have.
    len: u64,
    done: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Write(u64, Box<[u8]>),
    Len(u64),
    Sync,
}

impl Backend {
    /// Writes go to the file at once.
    pub(super) fn new(file: File, bytes_max: u64) -> Self {
        Self { bytes_max, shared: Arc::new(Held { file, steps: Mutex::new(None) }) }
    }

    /// Writes are held until the second value is told to [`release`](Held::release) them.
    pub(super) fn held(file: File, bytes_max: u64) -> io::Result<(Self, Arc<Held>)> {
        let len = file.metadata()?.len();
        let steps = Mutex::new(Some(Steps { len, done: Vec::new() }));
        let shared = Arc::new(Held { file, steps });
        Ok((Self { bytes_max, shared: Arc::clone(&shared) }, shared))
    }

    fn check(&self, end: u64) -> io::Result<()> {
        if end > self.bytes_max { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl Held {
    fn steps(&self) -> MutexGuard<'_, Option<Steps>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does to the file what was held back, and holds nothing back from now on.
    pub(super) fn release(&self) -> io::Result<()> {
        let Some(steps) = self.steps().take() else { return Ok(()) };
        for step in steps.done {
            match step {
                Step::Write(offset, data) => write_at(&self.file, offset, &data)?,
                Step::Len(len) => self.file.set_len(len)?,
                Step::Sync => self.file.sync_data()?,
            }
        }
        self.file.sync_data()
    }
}

impl Steps {
    /// What the file would show at `offset`.
    fn read(&self, file: &File, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset.saturating_add(out.len() as u64);
        if end > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let there = file.metadata()?.len().saturating_sub(offset).min(out.len() as u64);
        let (old, new) = out.split_at_mut(usize::try_from(there).unwrap_or(usize::MAX));
        read_at(file, offset, old)?;
        new.fill(0);
        for step in &self.done {
            match step {
                Step::Write(at, data) => overlay(offset, out, *at, data),
                Step::Len(len) if *len < end => {
                    let kept = usize::try_from(len.saturating_sub(offset)).unwrap_or(usize::MAX);
                    out[kept..].fill(0);
                }
                Step::Len(_) | Step::Sync => {}
            }
        }
        Ok(())
    }
}

/// Puts the part of `data`, which begins at `at`, that lies within `out`, which begins at `offset`, there.
fn overlay(offset: u64, out: &mut [u8], at: u64, data: &[u8]) {
    let (start, from) = (at.saturating_sub(offset), offset.saturating_sub(at));
    let (Ok(start), Ok(from)) = (usize::try_from(start), usize::try_from(from)) else { return };
    if start < out.len() && from < data.len() {
        let len = (out.len() - start).min(data.len() - from);
        out[start..start + len].copy_from_slice(&data[from..from + len]);
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        match &*self.shared.steps() {
            Some(steps) => Ok(steps.len),
            None => Ok(self.shared.file.metadata()?.len()),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match &*self.shared.steps() {
            Some(steps) => steps.read(&self.shared.file, offset, out),
            None => read_at(&self.shared.file, offset, out),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check(len)?;
        match &mut *self.shared.steps() {
            Some(steps) => {
                steps.len = len;
                steps.done.push(Step::Len(len));
                Ok(())
            }
            None => self.shared.file.set_len(len),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        match &mut *self.shared.steps() {
            Some(steps) => {
                steps.done.push(Step::Sync);
                Ok(())
            }
            None => self.shared.file.sync_data(),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check(offset.saturating_add(data.len() as u64))?;
        match &mut *self.shared.steps() {
            Some(steps) => {
                steps.done.push(Step::Write(offset, data.into()));
                Ok(())
            }
            None => write_at(&self.shared.file, offset, data),
        }
    }
}

#[cfg(unix)]
fn read_at(file: &File, offset: u64, out: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, offset)
}

#[cfg(unix)]
fn write_at(file: &File, offset: u64, data: &[u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, data, offset)
}

#[cfg(windows)]
fn read_at(file: &File, offset: u64, mut out: &mut [u8]) -> io::Result<()> {
    let mut at = offset;
    while !out.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, out, at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                out = &mut out[read..];
                at += read as u64;
            }
        }
    }
    Ok(())
}

#[cfg(windows)]
fn write_at(file: &File, offset: u64, mut data: &[u8]) -> io::Result<()> {
    let mut at = offset;
    while !data.is_empty() {
        let written = std::os::windows::fs::FileExt::seek_write(file, data, at)?;
        data = &data[written..];
        at += written as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_lies_where_it_overlaps() {
        let mut out = [0; 4];
        overlay(10, &mut out, 8, &[1, 2, 3]);
        assert_eq!(out, [3, 0, 0, 0]);
        overlay(10, &mut out, 13, &[7, 8]);
        assert_eq!(out, [3, 0, 0, 7]);
        overlay(10, &mut out, 14, &[9]);
        overlay(10, &mut out, 5, &[9; 5]);
        assert_eq!(out, [3, 0, 0, 7], "beside it");
        overlay(10, &mut out, 0, &[5; 99]);
        assert_eq!(out, [5; 4]);
    }
}
