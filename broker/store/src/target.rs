//! Which database: from the URL, and as people are told of it.

use std::fmt;
use std::path::{Path, PathBuf};

use sqlx::postgres::PgConnectOptions;

use crate::StoreError;

/// A database that may exist.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// The file, without symbolic links, so that one file has one lock.
    Sqlite(PathBuf),
    /// Host, user and database.
    Postgres(Box<PgConnectOptions>),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "database {}", path.display()),
            Self::Postgres(options) => {
                let name = options.get_database().unwrap_or(options.get_username());
                match options.get_socket() {
                    Some(socket) => write!(f, "PostgreSQL database {name} at {}", socket.display()),
                    None => write!(
                        f,
                        "PostgreSQL database {name} at {}:{}",
                        options.get_host(),
                        options.get_port()
                    ),
                }
            }
        }
    }
}

impl Target {
    /// Reads a URL. The folder of a SQLite file must exist; the file need not.
    pub(crate) fn parse(url: &str) -> Result<Self, StoreError> {
        let refused = |problem: String| StoreError::Url { problem };
        let Some((scheme, rest)) = url.split_once(':') else {
            return Err(refused(format!("`{url}` has no scheme")));
        };
        match scheme {
            "sqlite" => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                if path.is_empty() || path.starts_with(':') || path.contains('?') {
                    return Err(refused(format!("`{url}` does not name a file")));
                }
                real_path(Path::new(path)).map(Self::Sqlite)
            }
            "postgres" | "postgresql" => {
                let options: PgConnectOptions =
                    url.parse().map_err(|_| refused(format!("`{scheme}:...` does not parse")))?;
                Ok(Self::Postgres(Box::new(options)))
            }
            other => Err(refused(format!("has the scheme `{other}`, which is not known here"))),
        }
    }

    pub(crate) fn sqlx(&self, error: sqlx::Error) -> StoreError {
        StoreError::of_sqlx(self.to_string(), error)
    }

    pub(crate) fn corrupt(&self, what: impl fmt::Display) -> StoreError {
        StoreError::Corrupt { database: self.to_string(), what: what.to_string() }
    }

    pub(crate) fn other(&self, what: impl fmt::Display) -> StoreError {
        StoreError::Other { database: self.to_string(), what: what.to_string(), source: None }
    }
}

fn real_path(path: &Path) -> Result<PathBuf, StoreError> {
    if let Ok(real) = path.canonicalize() {
        return Ok(real);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path
        .file_name()
        .ok_or_else(|| StoreError::Url { problem: format!("names no file: {}", path.display()) })?;
    let folder = folder.canonicalize().map_err(|error| {
        let database = format!("database {}", path.display());
        StoreError::of_io(
            database,
            &format!("its folder {} cannot be used: create it first", folder.display()),
            error,
        )
    })?;
    Ok(folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_files_and_servers() {
        for url in ["sqlite:/tmp/x.db", "sqlite:///tmp/x.db"] {
            assert_eq!(Target::parse(url).unwrap().to_string(), "database /tmp/x.db", "{url}");
        }
        assert!(matches!(Target::parse("sqlite:x.db"), Ok(Target::Sqlite(path)) if path.is_absolute()));
        let target = Target::parse("postgres://me:secret@db.example:5433/spillway").unwrap();
        assert_eq!(target.to_string(), "PostgreSQL database spillway at db.example:5433");
    }

    #[test]
    fn what_names_no_database_is_refused_without_its_password() {
        for (url, problem) in [
            ("spillway.db", "no scheme"),
            ("sqlite:", "does not name a file"),
            ("sqlite::memory:", "does not name a file"),
            ("mysql://me:secret@host/db", "`mysql`"),
            ("postgres://me:secret@host:port/db", "does not parse"),
        ] {
            let error = Target::parse(url).unwrap_err().to_string();
            assert!(error.contains(problem) && !error.contains("secret"), "{url}: {error}");
        }
        let error = Target::parse("sqlite:/nowhere/at/all/x.db").unwrap_err().to_string();
        assert!(error.contains("create it first"), "{error}");
    }
}
