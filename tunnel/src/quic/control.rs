//! Frames over QUIC streams, and the control stream's two halves that both sides share.

use std::time::Duration;

use bytes::{Buf, Bytes};
use quinn::{Connection, ReadExactError, RecvStream, SendStream};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::error::{CloseReason, TunnelError, close, close_saying};
use crate::protocol::frame::{FrameDecoder, FrameError, LENGTH_BYTES, announced_length, decode, encode};

/// Most bytes that are taken from a stream at once.
const READ_AT_ONCE: usize = 64 * 1024;

/// Runs `work` until the deadline.
pub(super) async fn within<T, E: Into<TunnelError>>(
    after: Duration,
    what: &'static str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, TunnelError> {
    timeout(after, work)
        .await
        .map_or(Err(TunnelError::TimedOut { what, after }), |done| done.map_err(Into::into))
}

/// Writes frames to a stream. A write that is cancelled leaves the rest of its frame here, and the next one
/// sends it first: the stream never carries half a frame with another behind it.
#[derive(Debug)]
pub(super) struct FrameSender {
    stream: SendStream,
    unsent: Bytes,
    limit: usize,
}

impl FrameSender {
    pub(super) fn new(stream: SendStream, limit: usize) -> Self {
        Self { stream, unsent: Bytes::new(), limit }
    }

    pub(super) async fn send<T: Serialize + Sync>(&mut self, message: &T) -> Result<(), TunnelError> {
        let frame = encode(message, self.limit)?;
        self.flush().await?;
        self.unsent = frame;
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), TunnelError> {
        while self.unsent.has_remaining() {
            let written = self.stream.write(&self.unsent).await?;
            self.unsent.advance(written);
        }
        Ok(())
    }

    /// Says that nothing more follows.
    pub(super) fn finish(&mut self) -> Result<(), TunnelError> {
        self.stream.finish().map_err(|_| TunnelError::StreamClosed)
    }
}

/// Reads frames from a stream. Reading may be cancelled at any point.
#[derive(Debug)]
pub(super) struct FrameReceiver {
    stream: RecvStream,
    decoder: FrameDecoder,
}

impl FrameReceiver {
    pub(super) fn new(stream: RecvStream, limit: usize) -> Self {
        Self { stream, decoder: FrameDecoder::new(limit) }
    }

    /// The next message; nothing where the stream ended between two.
    pub(super) async fn recv<T: DeserializeOwned>(&mut self) -> Result<Option<T>, TunnelError> {
        loop {
            if let Some(body) = self.decoder.next_frame()? {
                return Ok(Some(decode(&body)?));
            }
            match self.stream.read_chunk(READ_AT_ONCE, true).await? {
                Some(chunk) => self.decoder.push(&chunk.bytes),
                None => return Ok(self.decoder.end().map(|()| None)?),
            }
        }
    }
}

/// Reads one frame and nothing behind it.
pub(super) async fn read_one<T: DeserializeOwned>(
    stream: &mut RecvStream,
    limit: usize,
) -> Result<T, TunnelError> {
    let mut prefix = [0; LENGTH_BYTES];
    read_exactly(stream, &mut prefix).await?;
    let mut body = vec![0; announced_length(prefix, limit)?];
    read_exactly(stream, &mut body).await?;
    Ok(decode(&body)?)
}

pub(super) async fn read_exactly(stream: &mut RecvStream, buffer: &mut [u8]) -> Result<(), TunnelError> {
    stream.read_exact(buffer).await.map_err(|error| match error {
        ReadExactError::FinishedEarly(have) => FrameError::Truncated { have }.into(),
        ReadExactError::ReadError(error) => error.into(),
    })
}

/// The sending half of a control stream; several tasks may use it at once.
#[derive(Debug)]
pub(super) struct ControlSender {
    pub(super) connection: Connection,
    sender: Mutex<FrameSender>,
    deadline: Duration,
}

impl ControlSender {
    pub(super) fn new(connection: Connection, sender: FrameSender, deadline: Duration) -> Self {
        Self { connection, sender: Mutex::new(sender), deadline }
    }

    #[cfg(test)]
    pub(super) const fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    /// Sends one message within the write deadline. Past it the session is ended: its stream is not usable
    /// and its peer takes nothing.
    pub(super) async fn send<T: Serialize + Sync>(&self, message: &T) -> Result<(), TunnelError> {
        let write = async { self.sender.lock().await.send(message).await };
        let sent = within(self.deadline, "writing a message", write).await;
        if matches!(sent, Err(TunnelError::TimedOut { .. })) {
            close(&self.connection, CloseReason::Stalled);
        }
        sent
    }

    /// Sends the last message, then waits until the peer has closed or `farewell` is over: a connection that
    /// is closed at once may take the message with it.
    pub(super) async fn send_last<T: Serialize + Sync>(
        &self,
        message: &T,
        reason: CloseReason,
        farewell: Duration,
    ) -> Result<(), TunnelError> {
        self.send(message).await?;
        self.sender.lock().await.finish()?;
        linger(&self.connection, reason, farewell).await;
        Ok(())
    }
}

/// Waits until the peer has closed, at most for `farewell`, and closes.
pub(super) async fn linger(connection: &Connection, reason: CloseReason, farewell: Duration) {
    match timeout(farewell, connection.closed()).await {
        Ok(error) => tracing::trace!(%error, "the peer closed after the last message"),
        Err(_) => close(connection, reason),
    }
}

/// The receiving half of a control stream.
#[derive(Debug)]
pub(super) struct ControlReceiver {
    connection: Connection,
    frames: FrameReceiver,
}

impl ControlReceiver {
    pub(super) const fn new(connection: Connection, frames: FrameReceiver) -> Self {
        Self { connection, frames }
    }

    /// The next message; nothing where the peer is done. Bytes that are no message end the session.
    pub(super) async fn recv<T: DeserializeOwned>(&mut self) -> Result<Option<T>, TunnelError> {
        match self.frames.recv().await {
            Err(TunnelError::ClosedByPeer {
                reason: Some(CloseReason::Normal | CloseReason::ShuttingDown),
                ..
            }) => Ok(None),
            Err(TunnelError::Frame(error)) => {
                close_saying(&self.connection, CloseReason::ProtocolError, &error.to_string());
                Err(error.into())
            }
            other => other,
        }
    }
}
