//! What a request brings: path, query and body, each refused with an envelope that names what is wrong.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use spillway_api::{ApiError, ErrorCode, parse};

use super::Shared;
use super::failure::Failure;

/// Largest body beside job files, in bytes: a few names and numbers.
pub(super) const MAX_SMALL_BODY: usize = 64 << 10;
/// How much of a body that is too large is read and thrown away, and for how long, so that its sender hears
/// the answer rather than a broken connection.
const MAX_DRAINED: usize = 64 << 20;
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// Longest reason that stays on record, in characters: a sentence or two.
const MAX_BECAUSE: usize = 500;

/// Refuses to do without a reason what stays on record.
pub(super) fn must_say_why(because: &str) -> Result<(), Failure> {
    if !because.trim().is_empty() && because.chars().count() <= MAX_BECAUSE {
        return Ok(());
    }
    let problem = format!("say why in 1 to {MAX_BECAUSE} characters: it stays on record");
    Err(Failure(ApiError::invalid(problem).field("because").value(because)))
}

/// The one parameter of the path.
#[derive(Debug)]
pub(super) struct Segment<T>(pub(super) T);

impl<T: FromStr<Err: Display> + Send> FromRequestParts<Shared> for Segment<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &Shared) -> Result<Self, Failure> {
        let Path(text) = Path::<String>::from_request_parts(parts, state).await.map_err(path_error)?;
        parsed("path", &text).map(Self)
    }
}

/// The two parameters of the path.
#[derive(Debug)]
pub(super) struct Segments(pub(super) String, pub(super) String);

impl FromRequestParts<Shared> for Segments {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &Shared) -> Result<Self, Failure> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        path.map(|Path((first, second))| Self(first, second)).map_err(path_error)
    }
}

fn path_error(error: impl Display) -> Failure {
    Failure(ApiError::invalid(error.to_string()).field("path"))
}

/// Parses one word; `field` is where it stood.
pub(super) fn parsed<T: FromStr<Err: Display>>(field: &str, text: &str) -> Result<T, Failure> {
    text.parse()
        .map_err(|error: T::Err| Failure(ApiError::invalid(error.to_string()).field(field).value(text)))
}

/// The query, as a `T`.
#[derive(Debug)]
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Shared> for Params<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Failure> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejection) => Err(query_error(&rejection)),
        }
    }
}

fn query_error(error: &dyn std::error::Error) -> Failure {
    let text = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    let (problem, hint) = text.split_once(", expected ").unwrap_or((&text, ""));
    let refused = ApiError::invalid(format!("the query cannot be read: {problem}"));
    let named = problem.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
    let named = named.or_else(|| problem.split_once(": ").map(|(field, _)| field));
    let refused = match named {
        Some(field) => refused.field(field),
        None => refused,
    };
    Failure(if hint.is_empty() { refused } else { refused.hint(format!("expected {hint}")) })
}

/// The body as a `T`, at most `limit` bytes.
pub(super) async fn json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
) -> Result<T, Failure> {
    let bytes = read(headers, body, limit).await?;
    Ok(parse::json(&bytes)?)
}

pub(super) async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Failure> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let mut pieces = body.into_data_stream();
    if let Some(length) = declared.filter(|length: &usize| *length > limit) {
        drain(pieces).await;
        return Err(too_large(&length, limit));
    }
    let mut whole = BytesMut::with_capacity(declared.unwrap_or(0));
    while let Some(piece) = pieces.next().await {
        let piece =
            piece.map_err(|error| Failure(ApiError::invalid(format!("the body broke off: {error}"))))?;
        if whole.len() + piece.len() > limit {
            let seen = format!("more than {limit}");
            drain(pieces).await;
            return Err(too_large(&seen, limit));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// Reads on for a while without keeping anything.
async fn drain(mut pieces: axum::body::BodyDataStream) {
    let reading = async {
        let mut left = MAX_DRAINED;
        while let Some(Ok(piece)) = pieces.next().await {
            left = left.saturating_sub(piece.len());
            if left == 0 {
                break;
            }
        }
    };
    tokio::time::timeout(DRAIN_LIMIT, reading).await.ok();
}

fn too_large(bytes: &dyn Display, limit: usize) -> Failure {
    if limit == spillway_api::v1::MAX_JOB_FILE {
        return spillway_api::v1::JobFileError::too_large(bytes).into();
    }
    let message = format!("the body has {bytes} bytes; the limit is {limit} bytes");
    Failure(ApiError::new(ErrorCode::TooLarge, message))
}
