//! Downloading one content for one part.
//!
//! A connection that breaks is tried again from where it broke, as long as bytes come. What will not become better by
//! itself ends it: an answer that is a no, a size or a hash that is wrong, a disk that refuses.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Client, Response, StatusCode};
use spillway_tunnel::protocol::Input;
use spillway_tunnel::protocol::backoff::Backoff;
use spillway_types::DataSource;
use spillway_types::data::MAX_PASSES;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio_util::sync::CancellationToken;

use super::content::{Content, length};
use super::moves::Move;
use crate::agent::random;
use crate::part::PartKey;

/// Tries in a row that bring nothing before it fails: about two minutes of a server that is away.
const MAX_FAILURES: u32 = 8;
/// Longest wait for a connection, and for the next bytes of one.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes written at once.
const PIECE: usize = 1024 * 1024;

/// Why a dataset is not here.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Nobody wants it any more.
    Cancelled,
    /// It will not come, for this reason.
    Failed(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Failed(format!("this node's disk refuses: {error}"))
    }
}

/// Why a try ended.
enum Broken {
    /// The next one may do better.
    Again(String),
    For(Trouble),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::For(error.into())
    }
}

impl From<Trouble> for Broken {
    fn from(trouble: Trouble) -> Self {
        Self::For(trouble)
    }
}

fn failed(problem: impl std::fmt::Display) -> Trouble {
    Trouble::Failed(problem.to_string())
}

/// The client for all downloads of a node.
pub(super) fn client() -> reqwest::Result<Client> {
    Client::builder().connect_timeout(PATIENCE).read_timeout(PATIENCE).build()
}

/// One download. While it lives nobody else downloads the same.
pub(super) struct Fetch<'a> {
    pub(super) client: &'a Client,
    pub(super) cache: &'a std::path::Path,
    pub(super) content: &'a Content,
    pub(super) input: &'a Input,
    pub(super) source: &'a DataSource,
    pub(super) part: PartKey,
    pub(super) cancel: &'a CancellationToken,
    /// How far the part has got it before: the newest pass, and the byte behind the last that came.
    pub(super) last: Option<(u32, u64)>,
    /// Hears of each move that begins.
    pub(super) tell: &'a (dyn Fn(Arc<Move>) + Sync),
}

impl Fetch<'_> {
    /// Downloads what is missing.
    pub(super) async fn run(&mut self) -> Result<(), Trouble> {
        let (mut failures, mut backoff) = (0, Backoff::default());
        loop {
            let have = length(&self.content.partial());
            if have == self.input.bytes && self.content.partial().exists() {
                return Ok(());
            }
            let problem = match self.attempt(have).await {
                Ok(()) => "the connection ended too early".to_owned(),
                Err(Broken::Again(problem)) => problem,
                Err(Broken::For(trouble)) => return Err(trouble),
            };
            let now = length(&self.content.partial());
            if now == self.input.bytes {
                continue;
            }
            if now > have {
                (failures, backoff) = (0, Backoff::default());
            }
            failures += 1;
            if failures >= MAX_FAILURES {
                return Err(failed(format!("{}: {problem}, {MAX_FAILURES} times in a row", self.source)));
            }
            tracing::warn!(part = %self.part, dataset = %self.input.dataset, problem, at = now, "a download broke; it goes on");
            let pause = backoff.after_failure(random()).to_std();
            tokio::select! {
                () = self.cancel.cancelled() => return Err(Trouble::Cancelled),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One connection, from byte `have` on.
    async fn attempt(&mut self, have: u64) -> Result<(), Broken> {
        let mut request = self.client.get(self.source.expose());
        if have > 0 {
            request = request.header(RANGE, format!("bytes={have}-"));
        }
        let answer = tokio::select! {
            () = self.cancel.cancelled() => return Err(Trouble::Cancelled.into()),
            answer = request.send() => answer.map_err(|error| again(&error))?,
        };
        let from = self.begins_at(&answer, have)?;
        let begun = self.begin(from)?;
        let received = self.receive(answer, &begun).await;
        begun.end();
        self.last = Some((begun.pass, begun.to()));
        received
    }

    /// The byte that the answer begins with, which is a yes to what was asked.
    fn begins_at(&self, answer: &Response, have: u64) -> Result<u64, Broken> {
        let (status, source, bytes) = (answer.status(), self.source, self.input.bytes);
        let sized = |is: u64| {
            let way_out = format!("if that is right, write size = \"{is}B\" in the broker's settings");
            Broken::For(failed(format!("{source} has {is} bytes, and not {bytes}: {way_out}")))
        };
        match status {
            StatusCode::OK => match answer.content_length() {
                Some(is) if is != bytes => Err(sized(is)),
                Some(_) | None => Ok(0),
            },
            StatusCode::PARTIAL_CONTENT => {
                let header = answer.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
                match header.and_then(range_of) {
                    Some((from, None)) if from == have => Ok(from),
                    Some((from, Some(is))) if from == have && is == bytes => Ok(from),
                    Some((_, Some(is))) if is != bytes => Err(sized(is)),
                    Some(_) | None => {
                        Err(failed(format!("{source} sends another range than was asked for")).into())
                    }
                }
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Err(Broken::Again(format!("it answers {status}")))
            }
            status if status.is_server_error() => Err(Broken::Again(format!("it answers {status}"))),
            status => Err(failed(format!("{source} answers {status}")).into()),
        }
    }

    /// Begins to count: as a pass of its own where the part had bytes and gets them again.
    fn begin(&self, from: u64) -> Result<Arc<Move>, Trouble> {
        let pass = match self.last {
            Some((pass, to)) if from == 0 && to > 0 => pass + 1,
            Some((pass, _)) => pass,
            None => 0,
        };
        if pass >= MAX_PASSES {
            let problem = "cannot go on where a connection broke, and has begun again too often";
            return Err(failed(format!("{} {problem}", self.source)));
        }
        let about = (self.part, &self.input.dataset);
        let begun = Move::begin(self.cache, self.content, about, pass, from)?;
        let begun = Arc::new(begun);
        (self.tell)(Arc::clone(&begun));
        Ok(begun)
    }

    /// Takes bytes until there are no more, or nobody wants them. All that came is in the file on return.
    async fn receive(&self, answer: Response, begun: &Move) -> Result<(), Broken> {
        let partial = self.content.partial();
        let mut options = OpenOptions::new();
        let file = if begun.from == 0 {
            File::create(partial).await
        } else {
            options.append(true).open(partial).await
        };
        let mut file = BufWriter::with_capacity(PIECE, file?);
        let received = self.pour(answer, begun, &mut file).await;
        let flushed = file.flush().await;
        received.and_then(|()| Ok(flushed?))
    }

    async fn pour(
        &self,
        mut answer: Response,
        begun: &Move,
        file: &mut BufWriter<File>,
    ) -> Result<(), Broken> {
        loop {
            let piece = tokio::select! {
                () = self.cancel.cancelled() => return Err(Trouble::Cancelled.into()),
                piece = answer.chunk() => piece.map_err(|error| again(&error))?,
            };
            let Some(piece) = piece else { return Ok(()) };
            let length = piece.len() as u64;
            begun.came(length);
            if begun.to() > self.input.bytes {
                // What is there may be as long as it should be, and is not what it should be.
                tokio::fs::remove_file(self.content.partial()).await?;
                let problem = format!("{} sends more than {} bytes", self.source, self.input.bytes);
                return Err(failed(problem).into());
            }
            file.write_all(&piece).await?;
        }
    }
}

/// What a client's error says, without the URL.
fn again(error: &reqwest::Error) -> Broken {
    let mut text = String::new();
    let mut next: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    let what = if error.is_connect() { "no connection" } else { "the connection broke" };
    Broken::Again(format!("{what}{text}"))
}

/// First byte and total of `bytes 5-9/10`; no total where it is `*`.
fn range_of(header: &str) -> Option<(u64, Option<u64>)> {
    let (span, total) = header.strip_prefix("bytes ")?.split_once('/')?;
    let from = span.split_once('-')?.0.parse().ok()?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((from, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        for (header, expected) in [
            ("bytes 5-9/10", Some((5, Some(10)))),
            ("bytes 0-0/*", Some((0, None))),
            ("bytes */10", None),
            ("bytes 5/10", None),
            ("items 5-9/10", None),
        ] {
            assert_eq!(range_of(header), expected, "{header}");
        }
    }
}
