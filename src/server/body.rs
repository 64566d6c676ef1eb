//! The body of a request in memory.
//!
//! Owns where the bytes of a large body are kept: in pages of their own, which return to the system with the
//! request. Allocators keep what such bodies leave: a server that has seen a few large MachineConfigs would stay larger.

use std::io;
use std::ops::Deref;

use memmap2::MmapMut;

/// A body that grows as it is read, up to a length that was fixed before.
pub(super) struct Body {
    content: Content,
    longest: usize,
}

enum Content {
    Small(Vec<u8>),
    Large { pages: MmapMut, length: usize },
}

impl Body {
    /// An empty body that will have `expected` bytes, and at most `longest`.
    pub(super) fn new(expected: usize, longest: usize) -> Self {
        Self { content: Content::Small(Vec::with_capacity(expected.min(LARGE))), longest }
    }

    /// Adds `data`. Returns whether it fits; if not, nothing is added. Fails when the system has no
    /// memory.
    pub(super) fn push(&mut self, data: &[u8]) -> io::Result<bool> {
        let length = self.len() + data.len();
        if length > self.longest {
            return Ok(false);
        }
        if let Content::Small(bytes) = &mut self.content {
            if length <= LARGE {
                bytes.extend_from_slice(data);
                return Ok(true);
            }
            // Pages that are never written to take no memory.
            let mut pages = MmapMut::map_anon(self.longest)?;
            pages[..bytes.len()].copy_from_slice(bytes);
            self.content = Content::Large { pages, length: bytes.len() };
        }
        if let Content::Large { pages, length: before } = &mut self.content {
            pages[*before..length].copy_from_slice(data);
            *before = length;
        }
        Ok(true)
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.content {
            Content::Small(bytes) => bytes,
            Content::Large { pages, length } => &pages[..*length],
        }
    }
}

/// Most reviews are smaller.
const LARGE: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_holds_what_was_added_however_it_comes_and_no_more_than_fits() {
        let longest = 3 * LARGE;
        for piece in [1000, LARGE, LARGE + 1, longest] {
            for expected in [0, longest] {
                let whole: Vec<u8> = (0..longest).map(|index| (index % 251) as u8).collect();
                let mut body = Body::new(expected, longest);
                for data in whole.chunks(piece) {
                    assert!(body.push(data).unwrap());
                }
                assert!(*body == *whole, "in pieces of {piece}");
                assert!(!body.push(b"x").unwrap());
                assert_eq!(body.len(), longest);
                assert!(body.push(b"").unwrap());
            }
        }
    }
}
