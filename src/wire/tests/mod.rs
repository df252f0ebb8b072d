//! Properties that every message has, over generated messages: it comes back as it was, no part of it is
//! taken for the whole, nothing behind it is ignored, and no bytes at all make a decoder panic.

mod contacts;
mod hostile;
mod maps;
mod message;
mod provider;
mod route;
mod stream;
mod wide;

use bytes::BytesMut;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use self::message::Message;
use super::*;

/// The seed of every generated case; printed, so that a failure names it.
const SEED: u64 = 0x0f0e_01a5;

fn config(cases: u32) -> ProptestConfig {
    eprintln!("proptest seed {SEED:#x}, {cases} cases");
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(SEED),
        ..ProptestConfig::default()
    }
}

/// Encodes behind `before` and returns the header and the body.
fn encode_behind(before: &[u8], message: &Message, id: u64) -> (Header, Vec<u8>) {
    let mut out = BytesMut::from(before);
    message.encode(id, &mut out).expect("a generated message is permitted");
    let (kept, frame) = out.split_at(before.len());
    assert_eq!(kept, before);
    let (head, body) = frame.split_first_chunk().expect("a frame has a header");
    (Header::decode(head), body.to_vec())
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn a_message_comes_back(message in message::message(), id: u64, before: [u8; 5]) {
        let (header, body) = encode_behind(&before, &message, id);
        prop_assert_eq!(header.kind, message.kind().to_u8());
        prop_assert_eq!((header.flags, header.id), (0, id));
        prop_assert_eq!(header.body_len as usize, body.len());
        prop_assert_eq!(Message::decode(message.kind(), &body), Ok(message));
    }

    #[test]
    fn no_part_is_taken_for_the_whole(message in message::message()) {
        let (_, body) = encode_behind(&[], &message, 1);
        for cut in 0..body.len() {
            let part = Message::decode(message.kind(), &body[..cut]);
            prop_assert_eq!(part, Err(BodyError::Truncated), "cut at {}", cut);
        }
    }

    #[test]
    fn nothing_behind_a_message_is_ignored(message in message::message(), byte: u8) {
        let (_, mut body) = encode_behind(&[], &message, 1);
        body.push(byte);
        prop_assert_eq!(Message::decode(message.kind(), &body), Err(BodyError::Trailing(1)));
    }

    #[test]
    fn damaged_messages_never_panic_and_decode_to_what_can_be_said(
        message in message::message(),
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let kind = message.kind();
        let (_, mut body) = encode_behind(&[], &message, 1);
        for (index, byte) in hits {
            let at = index.index(body.len());
            body[at] = byte;
        }
        if let Ok(other) = Message::decode(kind, &body) {
            let (_, again) = encode_behind(&[], &other, 1);
            prop_assert_eq!(Message::decode(kind, &again), Ok(other));
        }
    }
}

proptest! {
    #![proptest_config(config(2048))]

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), start in 0..32_u8) {
        for kind in Kind::ALL {
            let _ = Message::decode(kind, &bytes);
            // A plausible start reaches deeper than bytes at random do.
            for layout in [&[0x90 | (start & 0xf), LAYOUT][..], &[0xdc, 0, start, LAYOUT], &[0x80 | (start & 0xf)]] {
                let _ = Message::decode(kind, &[layout, &bytes].concat());
            }
        }
    }

    #[test]
    fn a_header_is_any_16_bytes(bytes: [u8; HEADER_LEN]) {
        let header = Header::decode(&bytes);
        let mut sent = header.encode();
        prop_assert_eq!(&sent[2..4], &[0, 0]);
        sent[2..4].copy_from_slice(&bytes[2..4]);
        prop_assert_eq!(sent, bytes);
    }
}

#[test]
fn kinds_and_classes_have_the_numbers_they_answer_to() {
    for number in 0..=u8::MAX {
        let kind = Kind::from_u8(number);
        assert_eq!(kind.is_some(), Kind::ALL.iter().any(|kind| kind.to_u8() == number));
        assert!(kind.is_none_or(|kind| kind.to_u8() == number));
        let class = Class::from_u8(number);
        assert_eq!(class.is_some(), usize::from(number) < Class::COUNT);
        assert!(class.is_none_or(|class| class.to_u8() == number && Class::ALL[class.index()] == class));
    }
}

#[test]
fn reasons_of_rejection_come_back() {
    let known = (0..=u8::MAX).map(Reject::from_u8).filter(|reason| *reason != Reject::Unknown);
    assert_eq!(known.count(), 6);
    for number in 0..=6 {
        assert_eq!(Reject::from_u8(number).to_u8(), number);
    }
}
