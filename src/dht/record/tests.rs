//! Proofs hold for exactly what was signed, and only what may be stored passes the check.

use super::*;
use crate::id::Key;

fn identity(n: u8) -> Identity {
    Identity::from_seed(&[n; 32])
}

fn realm() -> RealmId {
    RealmId::of("example.mesh")
}

fn record<'a>(value: &'a [u8], proof: &'a [u8]) -> Record<'a> {
    let key = Key::of_name("name");
    Record { key, seq: 7, ttl_ms: 1_000, kind: RecordKind::PROVIDER, flags: 0, proof, value }
}

#[test]
fn a_signed_record_is_verified_whatever_is_left_of_its_life() {
    let publisher = identity(1);
    let proof = sign(&publisher, &realm(), &record(b"value", &[]));
    assert_eq!(proof[..32], publisher.public_key());
    let signed = record(b"value", &proof);
    assert_eq!(verify(&realm(), &publisher.node_id(), &signed), Ok(()));
    assert_eq!(verify(&realm(), &publisher.node_id(), &Record { ttl_ms: 1, ..signed }), Ok(()));
    assert_eq!(sign(&publisher, &realm(), &signed), proof, "what was the proof does not matter");
}

#[test]
fn a_proof_holds_for_nothing_else() {
    let publisher = identity(1);
    let id = publisher.node_id();
    let proof = sign(&publisher, &realm(), &record(b"", &[]));
    let good = record(b"", &proof);
    let others = [
        Record { key: Key::of_name("other"), ..good },
        Record { seq: 8, ..good },
        Record { kind: RecordKind::SUBSCRIPTION, ..good },
        Record { flags: TOMBSTONE, ..good },
        Record { value: &[0], ..good },
        Record { proof: &[], ..good },
        Record { proof: &proof[1..], ..good },
    ];
    for other in others {
        assert_eq!(verify(&realm(), &id, &other), Err(Reject::Proof), "{other:?}");
    }
    assert_eq!(verify(&RealmId::of("other.mesh"), &id, &good), Err(Reject::Proof));
    assert_eq!(verify(&realm(), &identity(2).node_id(), &good), Err(Reject::Proof));
    let forged = sign(&identity(2), &realm(), &good);
    assert_eq!(verify(&realm(), &id, &record(b"", &forged)), Err(Reject::Proof), "signed by another");
    let mixed = [&proof[..32], &forged[32..]].concat();
    assert_eq!(verify(&realm(), &id, &record(b"", &mixed)), Err(Reject::Proof), "in the name of another");
    for bit in 0..8 * PROOF_LEN {
        let mut flipped = proof;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(verify(&realm(), &id, &record(b"", &flipped)), Err(Reject::Proof), "bit {bit}");
    }
}

#[test]
fn a_weak_key_proves_nothing() {
    // The neutral element: with it, the all-zero scalar and R = A satisfy the equation for any message.
    let mut weak = [0; PROOF_LEN];
    weak[0] = 1;
    weak[PUBLIC_KEY_LEN] = 1;
    let publisher = node_id_of(weak.first_chunk().expect("32 of 96 bytes"));
    assert_eq!(verify(&realm(), &publisher, &record(b"anything", &weak)), Err(Reject::Proof));
}

#[test]
fn only_what_may_be_stored_passes() {
    let (proof, large) = ([0; PROOF_LEN], vec![0; VALUE_BYTES_MAX + 1]);
    let entry = record(b"entry", &proof);
    let value = Record { kind: RecordKind::VALUE, proof: &[], ..entry };
    let removal = Record { flags: TOMBSTONE, value: &[], ..value };
    let cases = [
        (entry, Ok(())),
        (value, Ok(())),
        (removal, Ok(())),
        (Record { proof: &proof, ..value }, Ok(())),
        (Record { value: &large[1..], ..value }, Ok(())),
        (Record { kind: RecordKind::SUBSCRIPTION, ..entry }, Ok(())),
        (Record { flags: TOMBSTONE, value: &[], ..entry }, Ok(())),
        (Record { proof: &[], ..entry }, Err(Reject::Proof)),
        (Record { proof: &[], kind: RecordKind::SUBSCRIPTION, ..entry }, Err(Reject::Proof)),
        (Record { proof: &[], flags: TOMBSTONE, value: &[], ..entry }, Err(Reject::Proof)),
        (Record { proof: &proof[1..], ..value }, Err(Reject::Proof)),
        (Record { kind: RecordKind(3), ..value }, Err(Reject::Kind)),
        (Record { flags: TOMBSTONE, ..value }, Err(Reject::Flags)),
        (Record { flags: 2, ..value }, Err(Reject::Flags)),
        (Record { flags: TOMBSTONE | 0x80, ..removal }, Err(Reject::Flags)),
        (Record { value: &large, ..value }, Err(Reject::TooLarge)),
        (Record { ttl_ms: 0, ..value }, Err(Reject::Ttl)),
        (Record { ttl_ms: 0, ..removal }, Err(Reject::Ttl)),
    ];
    for (record, expected) in cases {
        assert_eq!(check(&record), expected, "{:?} {} {}", record.kind, record.flags, record.proof.len());
    }
}
