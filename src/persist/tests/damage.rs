//! A file that is not what was written: an error, and the file as it was found.

use std::fs;
use std::sync::Arc;
use std::time::Instant;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Damage, Memory, PersistError, Rows, Scratch, held, own, read, retry, start, write};

/// A file with rows: what is in it, and its bytes as a crash would leave them.
fn sample(scratch: &Scratch) -> (Rows, Vec<u8>) {
    let memory = Arc::new(Memory::default());
    let disk = start(scratch.open().unwrap(), &memory);
    for n in 0..60 {
        memory.set(held(n), n.into(), vec![n as u8; 50 * n as usize]);
        memory.set(own(n), n.into(), format!("own {n}"));
        assert!(write(&disk, [held(n), own(n)]));
    }
    // The last commit is a small one, whose loss would not be noticed by the other rows.
    memory.set(held(5), 99, "last");
    assert!(write(&disk, [held(5)]));
    let crashed = fs::read(scratch.file()).unwrap();
    drop(disk);
    drop(retry(&scratch.options()).unwrap());
    (memory.rows.lock().unwrap().clone(), crashed)
}

/// Puts `bytes` in place of the file: all rows must be there, or an error and the file as it is.
fn judge(scratch: &Scratch, bytes: &[u8], rows: &Rows, what: &str) -> bool {
    fs::write(scratch.file(), bytes).unwrap();
    let now = Instant::now();
    match scratch.open().and_then(|opened| read(&opened, now)) {
        Ok((found, _)) => {
            let seqs = |rows: &Rows| rows.iter().map(|(mark, row)| (*mark, row.0)).collect::<Vec<_>>();
            assert_eq!(seqs(&found), seqs(rows), "{what}: a row is lost and nobody noticed");
            assert!(found.iter().all(|(mark, row)| row.2 == rows[mark].2), "{what}: a value has changed");
            true
        }
        Err(error) => {
            let left = fs::read(scratch.file()).unwrap();
            assert!(left == bytes, "{what}: {} bytes are left, not as they were ({error})", left.len());
            false
        }
    }
}

/// Forgets the number of the last commit, as a loss of power may.
fn forget(scratch: &Scratch) {
    fs::write(scratch.0.join("foveola.lock"), "").unwrap();
}

#[test]
fn a_flipped_bit_loses_no_row_silently() {
    let scratch = Scratch::new();
    let (rows, crashed) = sample(&scratch);
    let good = fs::read(scratch.file()).unwrap();
    assert!(judge(&scratch, &good, &rows, "untouched") && judge(&scratch, &crashed, &rows, "crashed"));
    let seed = 11;
    println!("seed {seed}, {} bytes", good.len());
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    let used: Vec<usize> = (512..crashed.len()).filter(|at| crashed[*at] != 0).collect();
    // Every bit of the header, of which one decides which commit counts, and a part of the rest.
    let header = (0..320).flat_map(|at| (0..8).map(move |bit| (at, bit)));
    let rest = (0..400).map(|_| (used[chance.next_u64() as usize % used.len()], chance.next_u32() % 8));
    let rest: Vec<_> = rest.collect();
    let mut refused = 0;
    for (at, bit) in header.chain(rest) {
        let mut bytes = if at < 320 { good.clone() } else { crashed.clone() };
        bytes[at] ^= 1 << bit;
        if at >= 320 {
            forget(&scratch);
        }
        refused += usize::from(!judge(&scratch, &bytes, &rows, &format!("bit {bit} of byte {at}")));
    }
    println!("{refused} refused");
    assert!(refused > 100, "only {refused} flips were noticed");
}

#[test]
fn a_file_that_was_cut_off_is_refused() {
    let scratch = Scratch::new();
    let (rows, _) = sample(&scratch);
    let good = fs::read(scratch.file()).unwrap();
    for len in [0, 1, 9, 100, 511, 512, 4_096, 8_192, good.len() / 2, good.len() - 4_096, good.len() - 1] {
        assert!(!judge(&scratch, &good[..len], &rows, &format!("cut to {len}")), "cut to {len}");
    }
    let mut longer = good.clone();
    longer.extend([0; 100]);
    judge(&scratch, &longer, &rows, "with more at its end");
    fs::write(scratch.file(), "something else altogether").unwrap();
    assert!(matches!(scratch.open(), Err(PersistError::Damaged { .. })));
}

#[test]
fn a_file_that_was_put_back_is_refused() {
    let scratch = Scratch::new();
    let memory = Arc::new(Memory::default());
    let disk = start(scratch.open().unwrap(), &memory);
    memory.set(held(1), 1, "one");
    assert!(write(&disk, [held(1)]));
    drop(disk);
    drop(retry(&scratch.options()).unwrap());
    let copy = fs::read(scratch.file()).unwrap();
    let disk = start(scratch.open().unwrap(), &memory);
    memory.set(held(1), 2, "two");
    assert!(write(&disk, [held(1)]));
    drop(disk);
    drop(retry(&scratch.options()).unwrap());
    fs::write(scratch.file(), copy).unwrap();
    let refused = scratch.open().expect_err("an older file");
    assert!(matches!(refused, PersistError::Damaged { source: Damage::Older { .. }, .. }), "{refused}");
}
