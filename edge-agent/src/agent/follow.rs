//! Serving the output of one part to the broker, while it runs or after it ended.
//!
//! A follower that has read everything looks again every [`LOOK`]: the program writes to a plain file, and
//! only files that somebody follows are looked at.

use std::io::SeekFrom;
use std::path::Path;
use std::time::Duration;

use spillway_tunnel::protocol::StreamHeader;
use spillway_tunnel::quic::{IncomingStream, OutputWriter, TunnelError};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::part::{EXIT, OUTPUT, PartKey};

/// How often a followed file is looked at for more.
const LOOK: Duration = Duration::from_millis(100);
/// Bytes read at once.
const PIECE: usize = 64 * 1024;

/// Serves one stream to its end.
pub(super) async fn serve(stream: IncomingStream, runs: &Path) {
    if let Err(error) = answer(stream, runs).await {
        tracing::debug!(%error, "an output stream ended early");
    }
}

async fn answer(stream: IncomingStream, runs: &Path) -> Result<(), TunnelError> {
    let (header, responder) = stream.read_header().await?;
    let StreamHeader::Output { attempt, rank, offset, follow } = header;
    let part = PartKey { attempt, rank };
    let folder = runs.join(part.to_string());
    if !folder.is_dir() {
        return responder
            .reject(&format!("this node has no part {part}; its output may be at the broker"))
            .await;
    }
    let mut writer = responder.accept().await?;
    let mut position = offset;
    loop {
        // Looked at before the reading, so that what was written before the end is read.
        let over = !follow || folder.join(EXIT).exists() || !folder.is_dir();
        position = copy(&folder.join(OUTPUT), position, &mut writer).await?;
        if over {
            return writer.finish();
        }
        tokio::select! {
            () = writer.stopped() => return Ok(()),
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Copies what stands behind `position`; where it ended. A file that cannot be read has no more.
async fn copy(path: &Path, mut position: u64, writer: &mut OutputWriter) -> Result<u64, TunnelError> {
    let Ok(mut file) = File::open(path).await else { return Ok(position) };
    if file.seek(SeekFrom::Start(position)).await.is_err() {
        return Ok(position);
    }
    let mut piece = vec![0; PIECE];
    while let Ok(count @ 1..) = file.read(&mut piece).await {
        writer.write(piece.get(..count).unwrap_or_default()).await?;
        position += count as u64;
    }
    Ok(position)
}
