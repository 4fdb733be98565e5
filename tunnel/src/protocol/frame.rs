//! Frames: a length in four bytes, big-endian, then one message in MessagePack with named fields.
//!
//! - A frame over its limit is refused from its length alone, before anything of it is kept.
//! - A message that nests deeper than [`MAX_DEPTH`] is refused: it would use up a task's stack.
//! - No input makes the decoder panic; after an error it stays at that error, since the next frame's begin is
//!   not known.
//!
//! A stream that is not the control stream opens with a prefix: its kind and the version of that kind, each a
//! LEB128 number, then one header frame and the other side's [`StreamReply`](super::StreamReply). The control
//! stream is the first that the client opens and has no prefix.

use bytes::{Buf, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest frame from agent to broker. A hello names every part on the node's disk, some 150 bytes each, so
/// this is room for thousands; a batch of events must be cut to fit.
pub const MAX_FRAME_TO_BROKER: usize = 1024 * 1024;
/// Largest frame from broker to agent. The desired state carries command and environment of every lease of
/// the node, so it may be larger than what an agent says.
pub const MAX_FRAME_TO_AGENT: usize = 4 * 1024 * 1024;
/// Largest header of a stream, and largest answer to it: ids and offsets.
pub const MAX_HEADER: usize = 16 * 1024;
/// Largest enrolment message, in both directions: a token, a request or two certificates.
pub const MAX_ENROL: usize = 16 * 1024;
/// Deepest nesting of a message. The protocol itself stays under 16; the rest is for what comes later.
pub const MAX_DEPTH: usize = 48;

/// Bytes of the length in front of each frame.
pub const LENGTH_BYTES: usize = 4;

/// Why bytes are not a frame or a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The frame is longer than the limit.
    #[error("a frame of {length} bytes is over the limit of {limit}")]
    Oversize {
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// The frame is not a message of the expected type.
    #[error("a frame is not a {expected}: {problem}")]
    Malformed {
        /// What was expected.
        expected: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame, after {have} bytes of it")]
    Truncated {
        /// Bytes of the unfinished frame, its length included.
        have: usize,
    },
    /// The stream is of a kind, or a version of it, that this build does not know.
    #[error("a stream of kind {kind}, version {version} is not known here; the other side may be newer")]
    UnknownStream {
        /// The kind's number.
        kind: u32,
        /// Its version.
        version: u32,
    },
    /// A number of a stream's prefix is over 32 bits.
    #[error("a stream does not begin with a kind and a version")]
    MalformedPrefix,
}

fn short_type_name<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    name.rsplit("::").next().unwrap_or(name)
}

/// Puts one message into a frame.
///
/// # Errors
/// [`FrameError::Oversize`] where the message is larger than `limit` bytes.
pub fn encode<T: Serialize>(message: &T, limit: usize) -> Result<Bytes, FrameError> {
    let body = rmp_serde::to_vec_named(message).map_err(|error| FrameError::Malformed {
        expected: short_type_name::<T>(),
        problem: error.to_string(),
    })?;
    let oversize = FrameError::Oversize { length: body.len(), limit };
    let length = match u32::try_from(body.len()) {
        Ok(length) if body.len() <= limit => length,
        Ok(_) | Err(_) => return Err(oversize),
    };
    let mut frame = BytesMut::with_capacity(LENGTH_BYTES + body.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&body);
    Ok(frame.freeze())
}

/// Reads the message of one frame's body. Unknown fields are skipped, missing ones take their defaults.
///
/// # Errors
/// [`FrameError::Malformed`] where the body is not one message of this type and nothing else.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    let malformed = |problem: String| FrameError::Malformed { expected: short_type_name::<T>(), problem };
    let mut rest = body;
    let mut reader = rmp_serde::Deserializer::new(&mut rest);
    reader.set_max_depth(MAX_DEPTH);
    let message = T::deserialize(&mut reader).map_err(|error| malformed(error.to_string()))?;
    if rest.is_empty() { Ok(message) } else { Err(malformed(format!("{} bytes follow it", rest.len()))) }
}

/// The length that a frame's first bytes announce.
///
/// # Errors
/// [`FrameError::Oversize`] where it is over `limit`.
pub fn announced_length(prefix: [u8; LENGTH_BYTES], limit: usize) -> Result<usize, FrameError> {
    let length = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    if length <= limit { Ok(length) } else { Err(FrameError::Oversize { length, limit }) }
}

/// Cuts a stream of bytes into frames, however they arrive.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: BytesMut,
    limit: usize,
    failed: Option<FrameError>,
}

impl FrameDecoder {
    /// A decoder that refuses frames over `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), limit, failed: None }
    }

    /// Takes the next bytes of the stream. Call [`Self::next_frame`] until it gives nothing before the next
    /// bytes, so that at most one frame and one read are held.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The body of the next whole frame; nothing where bytes are missing.
    ///
    /// # Errors
    /// [`FrameError::Oversize`], and the same again from then on.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let Some(prefix) = self.buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = match announced_length(*prefix, self.limit) {
            Ok(length) => length,
            Err(error) => {
                self.buffer = BytesMut::new();
                self.failed = Some(error.clone());
                return Err(error);
            }
        };
        if self.buffer.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(LENGTH_BYTES);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Whether the stream may end here.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] where it ends inside a frame.
    pub fn end(&self) -> Result<(), FrameError> {
        if self.buffer.is_empty() { Ok(()) } else { Err(FrameError::Truncated { have: self.buffer.len() }) }
    }
}

/// What a stream that is not the control stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// The broker asks for bytes and names them in a [`StreamHeader`](super::StreamHeader).
    Request,
}

impl StreamKind {
    /// The kind's number and newest version.
    #[must_use]
    pub const fn number_and_version(self) -> (u32, u32) {
        match self {
            Self::Request => (1, 1),
        }
    }

    /// The bytes that open a stream of this kind.
    #[must_use]
    pub fn prefix(self) -> Vec<u8> {
        let (kind, version) = self.number_and_version();
        let mut prefix = Vec::new();
        write_leb128(kind, &mut prefix);
        write_leb128(version, &mut prefix);
        prefix
    }

    /// The kind with this number and version.
    ///
    /// # Errors
    /// [`FrameError::UnknownStream`].
    pub const fn parse(kind: u32, version: u32) -> Result<Self, FrameError> {
        match (kind, version) {
            (1, 1) => Ok(Self::Request),
            _ => Err(FrameError::UnknownStream { kind, version }),
        }
    }
}

fn write_leb128(mut number: u32, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// Reads a stream's prefix byte by byte, so that nothing behind it is consumed.
#[derive(Debug, Default)]
pub struct PrefixReader {
    kind: Option<u32>,
    number: u32,
    shift: u32,
}

impl PrefixReader {
    /// Takes one byte; gives the kind after the last.
    ///
    /// # Errors
    /// [`FrameError::MalformedPrefix`] or [`FrameError::UnknownStream`].
    pub fn push(&mut self, byte: u8) -> Result<Option<StreamKind>, FrameError> {
        let bits = u32::from(byte & 0x7f);
        if self.shift > 28 || (self.shift == 28 && bits > 0xf) {
            return Err(FrameError::MalformedPrefix);
        }
        self.number |= bits << self.shift;
        if byte & 0x80 != 0 {
            self.shift += 7;
            return Ok(None);
        }
        let number = std::mem::take(&mut self.number);
        self.shift = 0;
        match self.kind {
            None => {
                self.kind = Some(number);
                Ok(None)
            }
            Some(kind) => StreamKind::parse(kind, number).map(Some),
        }
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
