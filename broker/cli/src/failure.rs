//! What a command ends with when it cannot do its work, as text and as an exit code.

use std::error::Error;
use std::path::Path;

use spillway_api::v1::JobFileError;
use spillway_api::{ApiError, ClientError};

use crate::output::harmless;

/// The exit code of an error.
pub(crate) const ERROR: u8 = 1;
/// The exit code of a wrong use of the command line.
pub(crate) const USAGE: u8 = 2;
/// The exit code of a wait that took too long.
pub(crate) const TIMEOUT: u8 = 3;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The broker cannot be asked, or said no.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A job file is wrong.
    #[error("{path}: {error}")]
    JobFile {
        /// The file.
        path: String,
        /// What is wrong.
        error: Box<JobFileError>,
    },
    /// A flag or an argument is wrong.
    #[error("{}", .0.message)]
    Usage(Box<ApiError>),
    /// Something on this machine cannot be read or written.
    #[error("cannot read the {what} {path}")]
    File {
        /// What it is.
        what: &'static str,
        /// Where it is.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// What was waited for did not come.
    #[error("{0}")]
    Timeout(String),
    /// Anything else.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl From<ApiError> for Failure {
    /// What the command line itself refuses, in the words of the API.
    fn from(error: ApiError) -> Self {
        Self::Usage(Box::new(error))
    }
}

impl Failure {
    /// A file of this machine that cannot be read.
    pub(crate) fn file(what: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::File { what, path: path.display().to_string(), source }
    }

    /// A wrong flag or argument.
    pub(crate) fn usage(argument: &str, value: &str, problem: impl Into<String>) -> Self {
        ApiError::invalid(problem).field(argument).value(value).into()
    }

    /// What the process ends with.
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Timeout(_) | Self::Client(ClientError::Timeout { .. }) => TIMEOUT,
            Self::Client(_) | Self::JobFile { .. } | Self::File { .. } | Self::Other(_) => ERROR,
        }
    }

    /// What the person reads: what is wrong, where, and what to do.
    pub(crate) fn render(&self) -> String {
        let mut text = format!("error: {}\n", harmless(&self.to_string()));
        let mut detail = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                text.push_str(&format!("  {name}: {}\n", harmless(value)));
            }
        };
        let of_api = |error: &ApiError| (error.field.clone(), error.value.clone(), error.hint.clone());
        let (field, value, hint) = match self {
            Self::Client(ClientError::Api(error)) => of_api(error),
            Self::Usage(error) => of_api(error),
            Self::JobFile { error, .. } => (error.field.clone(), error.value.clone(), error.hint.clone()),
            Self::Client(_) | Self::File { .. } | Self::Timeout(_) | Self::Other(_) => (None, None, None),
        };
        detail("field", field.as_deref());
        detail("value", value.as_deref());
        detail("cause", self.first_cause().as_deref());
        detail("hint", hint.as_deref().or_else(|| self.own_hint()));
        text
    }

    /// The innermost cause: for the network and the file system it is the one that says something.
    fn first_cause(&self) -> Option<String> {
        let mut cause = self.source()?;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        Some(cause.to_string())
    }

    fn own_hint(&self) -> Option<&'static str> {
        match self {
            Self::Client(ClientError::Api(error))
                if error.code == spillway_api::ErrorCode::Unauthenticated =>
            {
                Some(
                    "give a token with --token-file or SPILLWAY_TOKEN; `spillway users token NAME` makes one",
                )
            }
            Self::Client(_)
            | Self::JobFile { .. }
            | Self::Usage(_)
            | Self::File { .. }
            | Self::Timeout(_)
            | Self::Other(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_api::ErrorCode;
    use spillway_api::v1::JobFile;

    #[test]
    fn errors_read_well() {
        let api = ApiError::new(ErrorCode::UnknownModel, "no site and no offer has this GPU")
            .field("resources.gpus")
            .value("RTX-9999:1")
            .hint("known models: A100, H100");
        let job_file = |text: &str| Failure::JobFile {
            path: "job.yaml".into(),
            error: Box::new(JobFile::parse_yaml(text).expect_err("refused")),
        };
        let failures = [
            Failure::Client(api.into()),
            Failure::Client(ApiError::new(ErrorCode::Unauthenticated, "this needs a token").into()),
            Failure::Client(ClientError::Url { url: "localhost".into() }),
            job_file("run: a\nresources:\n  gpu: H100:8\n"),
            job_file("run: a\nnodes: two\n"),
            job_file(&"x".repeat(10 << 20)),
            Failure::usage("--env", "FOO", "it is not NAME=VALUE"),
            Failure::file("job file", Path::new("job.yaml"), std::io::ErrorKind::NotFound.into()),
            Failure::Timeout("the job has not ended within 5s; it goes on".into()),
        ];
        let text: Vec<String> = failures
            .iter()
            .map(|failure| format!("{}exit code {}\n", failure.render(), failure.exit_code()))
            .collect();
        insta::assert_snapshot!(text.join("\n"));
    }

    #[test]
    fn an_error_cannot_move_the_cursor() {
        let failure = Failure::Client(ApiError::invalid("a\u{1b}[2J").value("b\rc").into());
        assert!(!failure.render().contains(['\u{1b}', '\r']));
    }
}
