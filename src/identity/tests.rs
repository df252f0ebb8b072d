//! The identity, its signatures and its key file.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// A directory of its own for each test, removed when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("foveola-identity-{}-{unique}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn key(&self) -> PathBuf {
        self.0.join("identity.pem")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_node_id_is_the_hash_of_the_spki() {
    // RFC 8032, section 7.1, test 1.
    let seed = [
        0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44,
        0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
    ];
    let identity = Identity::from_seed(&seed);
    assert_eq!(identity.public_key()[..4], [0xd7, 0x5a, 0x98, 0x01]);
    assert_eq!(identity.sign(b"")[..4], [0xe5, 0x56, 0x43, 0x00]);
    assert_eq!(identity.node_id(), NodeId::of_spki(&identity.spki_der()));
    assert_eq!(public_key_of(&identity.spki_der()), Some(identity.public_key()));
    assert_eq!(public_key_of(&identity.spki_der()[..43]), None);
    assert_eq!(identity.node_id(), node_id_of(&identity.public_key()));
}

#[test]
fn a_signature_holds_for_its_key_and_message_only() {
    let (a, b) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
    let signature = a.sign(b"message");
    assert_eq!(verify(&a.public_key(), b"message", &signature), Ok(()));
    assert_eq!(verify(&b.public_key(), b"message", &signature), Err(BadSignature));
    assert_eq!(verify(&a.public_key(), b"other", &signature), Err(BadSignature));
    // The neutral element is a key for which the lax rules accept a signature over anything.
    let mut neutral = [0; PUBLIC_KEY_LEN];
    neutral[0] = 1;
    let mut forged = [0; SIGNATURE_LEN];
    forged[0] = 1;
    assert_eq!(verify(&neutral, b"anything", &forged), Err(BadSignature));
}

#[test]
fn debug_shows_no_key() {
    let identity = Identity::from_seed(&[7; 32]);
    assert_eq!(format!("{identity:?}"), format!("Identity {{ node_id: {:?}, .. }}", identity.node_id()));
}

#[test]
fn a_created_key_file_is_loaded_again() {
    let scratch = Scratch::new();
    assert!(matches!(Identity::load(scratch.key()), Err(KeyFileError::Missing { .. })));
    let created = Identity::load_or_generate(scratch.key()).unwrap();
    assert_eq!(Identity::load(scratch.key()).unwrap().node_id(), created.node_id());
    assert_eq!(Identity::load_or_generate(scratch.key()).unwrap().node_id(), created.node_id());
    assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 1, "no temporary file stays behind");
}

#[test]
fn racing_creators_agree_on_one_key() {
    let scratch = Scratch::new();
    let ids: Vec<_> = std::thread::scope(|scope| {
        let racers: Vec<_> =
            (0..8).map(|_| scope.spawn(|| Identity::load_or_generate(scratch.key()).unwrap())).collect();
        racers.into_iter().map(|racer| racer.join().unwrap().node_id()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn an_openssl_key_is_read_and_other_content_is_refused() {
    let scratch = Scratch::new();
    Identity::load_or_generate(scratch.key()).unwrap();
    // RFC 8410, section 10.3: the example key, as OpenSSL writes it.
    let pem = "-----BEGIN PRIVATE KEY-----\n\
               MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
               -----END PRIVATE KEY-----\n";
    std::fs::write(scratch.key(), pem).unwrap();
    assert_eq!(Identity::load(scratch.key()).unwrap().public_key()[..4], [0x19, 0xbf, 0x44, 0x09]);
    for bad in [&b""[..], b"key", b"\xff\xfe", &pem.as_bytes()[..60], &[b'a'; 100_000]] {
        std::fs::write(scratch.key(), bad).unwrap();
        assert!(matches!(Identity::load(scratch.key()), Err(KeyFileError::Malformed { .. })));
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_others_can_reach_is_refused() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let scratch = Scratch::new();
    let id = Identity::load_or_generate(scratch.key()).unwrap().node_id();
    let mode = std::fs::metadata(scratch.key()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    for exposed in [0o640, 0o604, 0o620, 0o601] {
        std::fs::set_permissions(scratch.key(), PermissionsExt::from_mode(exposed)).unwrap();
        let error = Identity::load_or_generate(scratch.key()).unwrap_err();
        assert!(matches!(error, KeyFileError::Exposed { mode, .. } if mode == exposed), "{error}");
        assert!(error.to_string().contains("identity.pem"));
    }
    std::fs::set_permissions(scratch.key(), PermissionsExt::from_mode(0o400)).unwrap();
    assert_eq!(Identity::load(scratch.key()).unwrap().node_id(), id);

    let link = scratch.0.join("link.pem");
    symlink(scratch.key(), &link).unwrap();
    assert!(matches!(Identity::load_or_generate(&link), Err(KeyFileError::Symlink { .. })));
    assert!(matches!(Identity::load(&scratch.0), Err(KeyFileError::NotAFile { .. })));
    let dangling = scratch.0.join("dangling.pem");
    symlink(scratch.0.join("nowhere"), &dangling).unwrap();
    assert!(matches!(Identity::load_or_generate(&dangling), Err(KeyFileError::Symlink { .. })));
}
