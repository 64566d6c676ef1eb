//! Tells whether an HTTP/2 client is in the middle of a frame or of a request head.
//!
//! Reads only the nine bytes before each frame (RFC 9113, section 4.1) and checks nothing: hyper rejects what is not
//! valid. A head is a HEADERS frame and the CONTINUATION frames after it, up to the flag that ends them (section 6.10).
//! Any other frame that is not complete counts as an unfinished head, because no head can end before it does.

/// The frames that a client has sent so far.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes of the preface or of a payload that are missing.
    left: usize,
    /// The first bytes of the next frame's header.
    head: [u8; HEAD],
    filled: usize,
    in_headers: bool,
}

impl Frames {
    /// A new connection, which begins with the client's preface (section 3.4).
    pub(super) fn new() -> Self {
        Self { left: PREFACE, head: [0; HEAD], filled: 0, in_headers: false }
    }

    /// Adds the bytes that were read.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let taken = self.left.min(bytes.len());
                self.left -= taken;
                bytes = &bytes[taken..];
                continue;
            }
            let taken = (HEAD - self.filled).min(bytes.len());
            self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == HEAD {
                let [one, two, three, kind, flags, ..] = self.head;
                self.left = usize::from(one) << 16 | usize::from(two) << 8 | usize::from(three);
                if matches!(kind, HEADERS | CONTINUATION) {
                    self.in_headers = flags & END_HEADERS == 0;
                }
                self.filled = 0;
            }
        }
    }

    /// Tells whether a frame or a head has begun and not ended.
    pub(super) fn is_unfinished(&self) -> bool {
        self.left > 0 || self.filled > 0 || self.in_headers
    }
}

/// `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`
const PREFACE: usize = 24;
const HEAD: usize = 9;
const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: u8 = 0x4;
    const PING: u8 = 0x6;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        frame.resize(HEAD + usize::from(length), 0xff);
        frame
    }

    /// Whether something is unfinished after each of `parts`, however they are cut into pieces.
    fn after(parts: &[Vec<u8>]) -> Vec<bool> {
        let run = |piece: usize| {
            let mut frames = Frames::new();
            let mut states = Vec::new();
            for part in parts {
                part.chunks(piece).for_each(|bytes| frames.read(bytes));
                states.push(frames.is_unfinished());
            }
            states
        };
        let whole = run(usize::MAX);
        for piece in 1..40 {
            assert_eq!(run(piece), whole, "in pieces of {piece}");
        }
        whole
    }

    #[test]
    fn a_head_is_unfinished_until_the_flag_that_ends_it() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let parts = [
            preface,
            frame(SETTINGS, 0, 12),
            frame(HEADERS, END_HEADERS, 30),
            frame(HEADERS, 0, 30),
            frame(CONTINUATION, 0, 5),
            frame(CONTINUATION, END_HEADERS, 0),
            frame(PING, 0, 8),
        ];
        assert_eq!(after(&parts), [false, false, false, true, true, false, false]);
    }

    #[test]
    fn an_incomplete_frame_is_unfinished() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let ping = frame(PING, 0, 8);
        let parts = [
            preface[..10].to_vec(),
            preface[10..].to_vec(),
            ping[..3].to_vec(),
            ping[3..9].to_vec(),
            ping[9..16].to_vec(),
            ping[16..].to_vec(),
        ];
        assert_eq!(after(&parts), [true, false, true, true, true, false]);
    }
}
