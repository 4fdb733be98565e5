//! Streams that the broker opens to read a part's output.
//!
//! 1. The broker writes the prefix and one header, and finishes its side.
//! 2. The agent answers accepted or rejected.
//! 3. Bytes follow as fast as the broker reads them, then the end of the stream. A stream that is given up on
//!    the way is reset, so that a cut output never looks like a whole one.

use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream, VarInt};

use super::TunnelError;
use super::control::{FrameSender, read_exactly, read_one, within};
use crate::protocol::frame::{FrameError, MAX_HEADER, PrefixReader, StreamKind};
use crate::protocol::{StreamHeader, StreamReply};

/// Most bytes that the reader hands out at once.
const READ_AT_ONCE: usize = 64 * 1024;
/// The code of a stream that its writer or reader gave up.
const GIVEN_UP: VarInt = VarInt::from_u32(1);

/// Opens a stream with `header` and waits for the agent's answer.
pub(super) async fn open(
    connection: &Connection,
    header: &StreamHeader,
) -> Result<OutputReader, TunnelError> {
    let (mut send, mut recv) = connection.open_bi().await?;
    send.write_all(&StreamKind::Request.prefix()).await?;
    let mut frames = FrameSender::new(send, MAX_HEADER);
    frames.send(header).await?;
    frames.finish()?;
    match read_one(&mut recv, MAX_HEADER).await {
        Ok(StreamReply::Accepted) => Ok(OutputReader { stream: recv }),
        Ok(StreamReply::Rejected { message }) => Err(TunnelError::Rejected { message }),
        Err(TunnelError::Frame(FrameError::Truncated { .. })) => {
            Err(TunnelError::Rejected { message: "it ended the stream without an answer".to_owned() })
        }
        Err(error) => Err(error),
    }
}

/// The broker's end of an output stream. Dropping it tells the agent to stop.
#[derive(Debug)]
pub struct OutputReader {
    stream: RecvStream,
}

impl OutputReader {
    /// The next bytes; nothing at the end. The agent sends no faster than this is called. May be cancelled.
    ///
    /// # Errors
    /// [`TunnelError::StreamReset`] where the agent gave up; an error of the connection.
    pub async fn next(&mut self) -> Result<Option<Bytes>, TunnelError> {
        Ok(self.stream.read_chunk(READ_AT_ONCE, true).await?.map(|chunk| chunk.bytes))
    }
}

/// A stream that the broker opened and whose header is not read yet.
#[derive(Debug)]
pub struct IncomingStream {
    pub(super) send: SendStream,
    pub(super) recv: RecvStream,
    pub(super) deadline: Duration,
}

impl IncomingStream {
    /// Reads what the broker wants. A stream of an unknown kind is answered and refused here. Not to be
    /// cancelled, so call it in the task that will serve the stream.
    ///
    /// # Errors
    /// [`TunnelError::Frame`] for an unknown kind or a bad header, [`TunnelError::TimedOut`], or an error of
    /// the connection. None of them harms the session.
    pub async fn read_header(mut self) -> Result<(StreamHeader, StreamResponder), TunnelError> {
        let header = within(self.deadline, "a stream's header", read_header(&mut self.recv)).await;
        let responder = StreamResponder { send: self.send };
        match header {
            Ok(header) => Ok((header, responder)),
            Err(TunnelError::Frame(error)) => {
                responder.reject(&error.to_string()).await?;
                Err(error.into())
            }
            Err(error) => Err(error),
        }
    }
}

async fn read_header(stream: &mut RecvStream) -> Result<StreamHeader, TunnelError> {
    let mut prefix = PrefixReader::default();
    loop {
        let mut byte = [0];
        read_exactly(stream, &mut byte).await?;
        match prefix.push(byte[0])? {
            None => {}
            Some(StreamKind::Request) => return read_one(stream, MAX_HEADER).await,
        }
    }
}

/// Answers one stream.
#[derive(Debug)]
pub struct StreamResponder {
    send: SendStream,
}

impl StreamResponder {
    /// Says yes; the bytes follow.
    ///
    /// # Errors
    /// The broker does not want them any more, or the connection is gone.
    pub async fn accept(self) -> Result<OutputWriter, TunnelError> {
        let send = self.answer(&StreamReply::Accepted).await?;
        Ok(OutputWriter { stream: send, state: Writing::Open })
    }

    /// Says no, with words for people (cut to 1000 characters).
    ///
    /// # Errors
    /// The broker does not want to know any more, or the connection is gone.
    pub async fn reject(self, message: &str) -> Result<(), TunnelError> {
        let message = message.chars().take(1000).collect();
        let mut send = self.answer(&StreamReply::Rejected { message }).await?;
        send.finish().map_err(|_| TunnelError::StreamClosed)
    }

    async fn answer(mut self, reply: &StreamReply) -> Result<SendStream, TunnelError> {
        let frame = crate::protocol::frame::encode(reply, MAX_HEADER)?;
        self.send.write_all(&frame).await?;
        Ok(self.send)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    Open,
    Finished,
}

/// The agent's end of an output stream. Dropped without [`Self::finish`], the stream is reset.
#[derive(Debug)]
pub struct OutputWriter {
    stream: SendStream,
    state: Writing,
}

impl OutputWriter {
    /// Writes all bytes; waits while the broker does not read.
    ///
    /// # Errors
    /// [`TunnelError::StreamReset`] where the broker does not want more; an error of the connection.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), TunnelError> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Says that the output is whole. What was written is still delivered.
    ///
    /// # Errors
    /// The broker does not want it any more.
    pub fn finish(mut self) -> Result<(), TunnelError> {
        self.state = Writing::Finished;
        self.stream.finish().map_err(|_| TunnelError::StreamClosed)
    }

    /// Waits until the broker does not want more bytes, or the connection is gone: for a follower that has
    /// nothing to write at the moment.
    pub async fn stopped(&mut self) {
        match self.stream.stopped().await {
            Ok(code) => tracing::trace!(?code, "the broker stopped an output"),
            Err(error) => tracing::trace!(%error, "an output's connection is gone"),
        }
    }
}

impl Drop for OutputWriter {
    fn drop(&mut self) {
        if self.state == Writing::Open && self.stream.reset(GIVEN_UP).is_err() {
            tracing::trace!("an output was stopped by the broker before it was given up here");
        }
    }
}
