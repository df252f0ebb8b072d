//! A batch means the same in every encoding that MessagePack permits, not only in the shortest.

use proptest::prelude::*;

use super::message::{self, Owned};
use super::{BodyError, LAYOUT, decode_store};

/// Writes values in a width chosen by the caller: 0 is the shortest that exists for a type.
struct Wide {
    out: Vec<u8>,
    widths: Vec<u8>,
}

impl Wide {
    fn width(&mut self) -> u8 {
        let width = self.widths.pop().unwrap_or(0);
        self.widths.insert(0, width);
        width
    }

    fn array(&mut self, count: u8) {
        match self.width() % 3 {
            0 if count < 16 => self.out.push(0x90 | count),
            1 => self.out.extend([0xdc, 0, count]),
            _ => self.out.extend([0xdd, 0, 0, 0, count]),
        }
    }

    fn bin(&mut self, bytes: &[u8]) {
        let len = u32::try_from(bytes.len()).expect("a test value is short");
        let [_, _, high, low] = len.to_be_bytes();
        match self.width() % 3 {
            0 if high == 0 => self.out.extend([0xc4, low]),
            1 => self.out.extend([0xc5, high, low]),
            _ => self.out.extend([0xc6, 0, 0, high, low]),
        }
        self.out.extend(bytes);
    }

    fn uint(&mut self, value: u64) {
        let bytes = value.to_be_bytes();
        // Unsigned and, where the sign bit is free, signed markers of 1, 2, 4 and 8 bytes.
        let used = 8 - value.leading_zeros() as usize / 8;
        let size = used.next_power_of_two().max(1 << (self.width() % 4));
        let power = u8::try_from(size.trailing_zeros()).expect("a small number");
        let tail = &bytes[8 - size..];
        if self.width() % 2 == 1 && tail[0] < 0x80 {
            self.out.push(0xd0 + power);
        } else {
            self.out.push(0xcc + power);
        }
        self.out.extend(tail);
    }

    fn record(&mut self, record: &Owned) {
        self.array(7);
        self.bin(&record.id);
        self.uint(record.seq);
        self.uint(record.ttl_ms.into());
        self.uint(record.kind.into());
        self.uint(record.flags.into());
        self.bin(&record.proof);
        self.bin(&record.value);
    }
}

proptest! {
    #![proptest_config(super::config(256))]

    #[test]
    fn a_store_may_come_in_any_width(
        records in prop::collection::vec(message::owned(), 0..5),
        widths in prop::collection::vec(any::<u8>(), 1..40),
    ) {
        let mut wide = Wide { out: Vec::new(), widths };
        wide.array(u8::try_from(records.len() + 2).expect("few records"));
        wide.uint(LAYOUT.into());
        wide.bin(&[7; 32]);
        for record in &records {
            wide.record(record);
        }
        let frame = decode_store(&wide.out);
        let frame = frame.map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(frame.publisher.as_bytes(), &[7; 32]);
        let expected: Vec<_> = records.iter().map(Owned::record).collect();
        prop_assert_eq!(frame.records, expected);
        for cut in 0..wide.out.len() {
            prop_assert_eq!(decode_store(&wide.out[..cut]), Err(BodyError::Truncated));
        }
    }
}
