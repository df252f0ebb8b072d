//! Frames on a stream, `len u32 | id u32 | body`, and taking them apart without copying.

const HEADER: usize = 8;

/// Chunks taken from a stream at once.
pub(crate) const CHUNKS: usize = 32;

/// Appends a frame whose body `write` appends.
pub(crate) fn put(out: &mut Vec<u8>, id: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&id.to_be_bytes());
    write(out);
    let len = u32::try_from(out.len() - start - HEADER).expect("a small body");
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
}

/// Takes frames out of chunks; only a frame that spans two chunks is copied.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    carry: Vec<u8>,
}

impl Splitter {
    /// Calls `each` with the id and body of every frame that `chunk` completes.
    pub(crate) fn feed(&mut self, chunk: &[u8], mut each: impl FnMut(u32, &[u8])) {
        let mut rest = chunk;
        if !self.carry.is_empty() {
            rest = self.top_up(rest, HEADER);
            let Some((id, len)) = header(&self.carry) else { return };
            rest = self.top_up(rest, HEADER + len);
            if self.carry.len() < HEADER + len {
                return;
            }
            each(id, &self.carry[HEADER..]);
            self.carry.clear();
        }
        while let Some((id, len)) = header(rest) {
            let Some(body) = rest.get(HEADER..HEADER + len) else { break };
            each(id, body);
            rest = &rest[HEADER + len..];
        }
        self.carry.extend_from_slice(rest);
    }

    fn top_up<'a>(&mut self, rest: &'a [u8], until: usize) -> &'a [u8] {
        let take = until.saturating_sub(self.carry.len()).min(rest.len());
        let (head, tail) = rest.split_at(take);
        self.carry.extend_from_slice(head);
        tail
    }
}

fn header(bytes: &[u8]) -> Option<(u32, usize)> {
    let &[a, b, c, d, e, f, g, h] = bytes.first_chunk::<HEADER>()?;
    Some((u32::from_be_bytes([e, f, g, h]), u32::from_be_bytes([a, b, c, d]) as usize))
}
