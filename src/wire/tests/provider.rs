//! The value of a provider record: what is taken, and what nobody may publish.

use proptest::prelude::*;
use rmp::encode::{write_array_len, write_bin, write_map_len, write_str};

use super::config;
use crate::wire::*;

fn at_limit() -> ProviderEntry {
    ProviderEntry {
        endpoints: vec!["e".repeat(ENDPOINT_MAX); ENDPOINTS_MAX],
        metadata: vec![0xff; METADATA_MAX],
    }
}

/// A map of `fields` fields, an empty list of endpoints among them.
fn reachable_nowhere(fields: u32) -> Vec<u8> {
    let mut value = Vec::new();
    write_map_len(&mut value, fields).expect("memory");
    write_str(&mut value, "endpoints").expect("memory");
    write_array_len(&mut value, 0).expect("memory");
    value
}

#[test]
fn an_entry_above_its_limits_is_neither_published_nor_taken() {
    let value = at_limit().encode().expect("at the limit");
    assert_eq!(ProviderEntry::decode(&value), Ok(at_limit()));
    let cases: [fn(&mut ProviderEntry); 3] = [
        |entry| entry.endpoints.push(String::new()),
        |entry| entry.endpoints[0].push('e'),
        |entry| entry.metadata.push(0),
    ];
    for exceed in cases {
        let mut entry = at_limit();
        exceed(&mut entry);
        assert_eq!(entry.encode(), Err(EncodeError::TooLarge));
        let value = rmp_serde::to_vec_named(&entry).expect("memory");
        assert_eq!(ProviderEntry::decode(&value), Err(BodyError::Field));
    }
}

#[test]
fn unknown_fields_are_ignored_and_metadata_may_be_missing() {
    let none = ProviderEntry::default();
    assert_eq!(ProviderEntry::decode(&reachable_nowhere(1)), Ok(none.clone()));
    let mut later = reachable_nowhere(2);
    write_str(&mut later, "later").expect("memory");
    write_bin(&mut later, b"anything").expect("memory");
    assert_eq!(ProviderEntry::decode(&later), Ok(none));
    let mut twice = reachable_nowhere(2);
    twice.extend(&reachable_nowhere(1)[1..]);
    assert_eq!(ProviderEntry::decode(&twice), Err(BodyError::Field));
    assert_eq!(ProviderEntry::decode(&[0x80]), Err(BodyError::Field), "no endpoints");
}

#[test]
fn what_is_no_entry_is_refused() {
    assert_eq!(ProviderEntry::decode(&[]), Err(BodyError::Truncated));
    assert_eq!(ProviderEntry::decode(&[0x92, 0x90, 0xc4, 0]), Err(BodyError::Type), "fields without names");
    assert_eq!(ProviderEntry::decode(&vec![0x80; MAP_BODY_MAX + 1]), Err(BodyError::Length));
    let metadata = |value: &[u8]| {
        let mut entry = reachable_nowhere(2);
        write_str(&mut entry, "metadata").expect("memory");
        entry.extend(value);
        ProviderEntry::decode(&entry).map(|entry| entry.metadata)
    };
    assert_eq!(metadata(&[0xc4, 1, 7]), Ok(vec![7]));
    for other in [&[0xa1, b'm'][..], &[0x91, 7], &[0xc0], &[7]] {
        assert!(metadata(other).is_err(), "{other:x?}");
    }
    // Lengths that cannot be true.
    assert_eq!(metadata(&[0xc6, 0xff, 0xff, 0xff, 0xff]), Err(BodyError::Truncated));
    let endless = [&[0x81, 0xa9][..], b"endpoints", &[0xdd, 0xff, 0xff, 0xff, 0xff]].concat();
    assert_eq!(ProviderEntry::decode(&endless), Err(BodyError::Field));
}

fn entry() -> impl Strategy<Value = ProviderEntry> {
    let endpoints = prop::collection::vec("[ -~]{0,40}", 0..=ENDPOINTS_MAX);
    let metadata = prop::collection::vec(any::<u8>(), 0..300);
    (endpoints, metadata).prop_map(|(endpoints, metadata)| ProviderEntry { endpoints, metadata })
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn an_entry_comes_back_and_no_part_of_it_is_taken_for_the_whole(entry in entry(), byte: u8) {
        let mut value = entry.encode().expect("a permitted entry");
        prop_assert_eq!(ProviderEntry::decode(&value), Ok(entry));
        for cut in 0..value.len() {
            prop_assert_eq!(ProviderEntry::decode(&value[..cut]), Err(BodyError::Truncated), "cut at {}", cut);
        }
        value.push(byte);
        prop_assert_eq!(ProviderEntry::decode(&value), Err(BodyError::Trailing(1)));
    }

    #[test]
    fn damaged_entries_never_panic(entry in entry(), at: prop::sample::Index, byte: u8) {
        let mut value = entry.encode().expect("a permitted entry");
        let at = at.index(value.len());
        value[at] = byte;
        if let Ok(other) = ProviderEntry::decode(&value) {
            prop_assert_eq!(ProviderEntry::decode(&other.encode().expect("what was taken")), Ok(other));
        }
    }
}
