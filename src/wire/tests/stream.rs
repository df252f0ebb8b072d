//! The decoder of frames: any chunking gives the same frames, and memory follows what arrived.

use bytes::BytesMut;
use proptest::prelude::*;

use crate::wire::*;

/// A frame with a body of `len` bytes.
fn frame(kind: u8, id: u64, len: usize) -> Vec<u8> {
    let body_len = u32::try_from(len).expect("a test body is small");
    let mut out = Header { kind, flags: 0, body_len, id }.encode().to_vec();
    out.extend((0..len).map(|i| u8::try_from(i % 251).expect("below 251")));
    out
}

/// Everything that can be read now, as (id, body).
fn drain(decoder: &mut Decoder) -> Vec<(u64, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next().expect("no frame is too large") {
        frames.push((frame.header.id, frame.body.to_vec()));
    }
    frames
}

proptest! {
    #![proptest_config(super::config(256))]

    #[test]
    fn chunking_does_not_matter(
        lens in prop::collection::vec(prop_oneof![0..40_usize, 0..6000_usize], 1..12),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        patient: bool,
    ) {
        let mut all = Vec::new();
        let mut expected = Vec::new();
        for (id, len) in (0..).zip(&lens) {
            let frame = frame(0x14, id, *len);
            expected.push((id, frame[HEADER_LEN..].to_vec()));
            all.extend(frame);
        }
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(all.len())).collect();
        cuts.extend([0, all.len()]);
        cuts.sort_unstable();
        let mut decoder = Decoder::new(BODY_MAX);
        let mut frames = Vec::new();
        for pair in cuts.windows(2) {
            decoder.feed(&all[pair[0]..pair[1]]);
            // Up to 11 frames before this one and their headers may have been its size.
            prop_assert!(decoder.capacity() <= (2 * pair[1]).max(64));
            if patient {
                continue;
            }
            frames.extend(drain(&mut decoder));
            let read: usize = frames.iter().map(|(_, body)| HEADER_LEN + body.len()).sum();
            prop_assert_eq!(decoder.is_partial(), read < pair[1]);
        }
        frames.extend(drain(&mut decoder));
        prop_assert_eq!(frames, expected);
        prop_assert!(!decoder.is_partial());
        prop_assert!(decoder.capacity() <= DECODER_KEEP);
    }

    #[test]
    fn an_announcement_reserves_nothing(body_len in 0..=BODY_MAX, arrived in 0..200_usize) {
        let mut decoder = Decoder::new(BODY_MAX);
        let announced = body_len.max(1000);
        decoder.feed(&Header { kind: 0x14, flags: 0, body_len: announced, id: 0 }.encode());
        decoder.feed(&vec![0; arrived]);
        prop_assert_eq!(decoder.next(), Ok(None));
        prop_assert!(decoder.is_partial());
        prop_assert!(decoder.capacity() <= 2 * (HEADER_LEN + arrived));
    }
}

#[test]
fn one_byte_at_a_time_is_enough() {
    let bytes = [frame(1, 7, 0), frame(2, 8, 300)].concat();
    let mut decoder = Decoder::new(BODY_MAX);
    let mut frames = Vec::new();
    for byte in bytes {
        decoder.feed(&[byte]);
        frames.extend(drain(&mut decoder));
    }
    assert_eq!(frames.iter().map(|(id, body)| (*id, body.len())).collect::<Vec<_>>(), [(7, 0), (8, 300)]);
}

#[test]
fn a_frame_that_is_too_large_ends_the_stream() {
    let mut decoder = Decoder::new(100);
    decoder.feed(&frame(1, 1, 100));
    let oversize = Header { kind: 2, flags: 3, body_len: u32::MAX, id: 4 };
    decoder.feed(&oversize.encode()[..15]);
    assert_eq!(drain(&mut decoder).len(), 1);
    decoder.feed(&oversize.encode()[15..]);
    let error = FrameError::TooLarge { header: oversize, max: 100 };
    assert_eq!(decoder.next(), Err(error));
    decoder.feed(&vec![0; 10_000]);
    assert_eq!(decoder.next(), Err(error));
    assert_eq!(decoder.capacity(), 0);

    let mut decoder = Decoder::new(100);
    decoder.feed(&frame(1, 1, 101));
    decoder.set_body_max(101);
    assert_eq!(drain(&mut decoder).len(), 1);
    decoder.feed(&frame(1, 1, 102));
    assert!(decoder.next().is_err());
}

#[test]
fn room_is_made_for_a_frame_as_large_as_the_one_before() {
    let large = frame(1, 1, 60_000);
    let mut decoder = Decoder::new(BODY_MAX);
    decoder.feed(&large);
    assert_eq!(drain(&mut decoder).len(), 1);
    assert_eq!(decoder.capacity(), 0, "a drained decoder holds nothing");
    decoder.feed(&large[..1000]);
    assert!((60_016..61_000).contains(&decoder.capacity()), "{}", decoder.capacity());

    decoder.feed(&large[1000..]);
    assert_eq!(drain(&mut decoder).len(), 1);
    let header = Header { kind: 1, flags: 0, body_len: BODY_MAX, id: 2 };
    decoder.feed(&header.encode());
    assert!(decoder.capacity() <= 60_016, "never more than what was sent before");
}

#[test]
fn frames_without_a_body_are_whole() {
    let mut out = BytesMut::new();
    encode_open(Class::Bulk, &mut out);
    encode_cancel(9, &mut out);
    encode_unsupported(10, &mut out);
    let mut decoder = Decoder::new(BODY_MAX);
    decoder.feed(&out);
    let mut seen = Vec::new();
    while let Some(Frame { header, body }) = decoder.next().expect("small frames") {
        assert!(body.is_empty());
        seen.push((Kind::from_u8(header.kind), header.flags, header.id));
    }
    let expected = [(Kind::Open, 2, 0), (Kind::Cancel, 0, 9), (Kind::Unsupported, 0, 10)];
    assert_eq!(seen, expected.map(|(kind, flags, id)| (Some(kind), flags, id)));
}
