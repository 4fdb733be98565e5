//! What can go wrong with a database, in words for the person who runs it.
//!
//! Both databases' codes are sorted here into the few cases that need different hands; the rest is `Other` with
//! the database's own words as its source.

use std::borrow::Cow;

use sqlx::error::DatabaseError;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why the store did not do what was asked. `database` is the file, or host and name, without any password.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refuses writes.
    #[error(
        "{database} cannot be written: let the broker's user write to it and to its folder, and check that the disk is not mounted read-only"
    )]
    ReadOnly {
        /// Which.
        database: String,
        /// What it said.
        #[source]
        source: Cause,
    },
    /// There is no room; nothing of the write was kept.
    #[error("{database} has no room left: free space on its disk; the broker goes on by itself then")]
    Full {
        /// Which.
        database: String,
        /// What it said.
        #[source]
        source: Cause,
    },
    /// It does not answer now; later it may.
    #[error("{database} does not answer: check that it runs and can be reached")]
    Unavailable {
        /// Which.
        database: String,
        /// What it said.
        #[source]
        source: Cause,
    },
    /// What is stored cannot be right.
    #[error("{database} is damaged: {what}; stop the broker and restore the newest backup")]
    Corrupt {
        /// Which.
        database: String,
        /// What was found.
        what: String,
    },
    /// A newer version of Spillway wrote it.
    #[error(
        "{database} was written by a newer Spillway (schema {schema}, this one knows up to {known}): start that version, or restore a backup from before the upgrade"
    )]
    Newer {
        /// Which.
        database: String,
        /// Its schema.
        schema: i64,
        /// The newest schema that is known here.
        known: i64,
    },
    /// Another broker has it open.
    #[error(
        "{database} is in use by another broker ({holder}): stop that one first, or give this one its own"
    )]
    Locked {
        /// Which.
        database: String,
        /// Who, as far as is known.
        holder: String,
    },
    /// It is not what the caller thinks: somebody else wrote, or the outcome of an earlier write was unknown.
    #[error("{database} has moved on: {what}; it must be loaded again")]
    Conflict {
        /// Which.
        database: String,
        /// What does not fit.
        what: String,
    },
    /// Its settings would lose acknowledged writes in a crash.
    #[error(
        "{database} would lose acknowledged work in a crash: {setting} is `{value}`, set it to `{wanted}`"
    )]
    NotDurable {
        /// Which.
        database: String,
        /// The setting's name.
        setting: &'static str,
        /// Its value.
        value: String,
        /// The value it must have.
        wanted: &'static str,
    },
    /// The URL does not name a database.
    #[error("database URL {problem}; write `sqlite:/path/to/spillway.db` or `postgres://user@host/database`")]
    Url {
        /// What is wrong, without any password.
        problem: String,
    },
    /// Anything else.
    #[error("{database}: {what}")]
    Other {
        /// Which.
        database: String,
        /// What was being done, or what is wrong.
        what: String,
        /// What the database said, where it said something.
        #[source]
        source: Option<Cause>,
    },
}

/// The cases, before they get their words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    ReadOnly,
    Full,
    Unavailable,
    Corrupt,
    Conflict,
    Other,
}

impl StoreError {
    pub(crate) fn of_sqlx(database: String, error: sqlx::Error) -> Self {
        let case = case_of(&error);
        let what = error.to_string();
        let source = Box::new(error);
        match case {
            Case::ReadOnly => Self::ReadOnly { database, source },
            Case::Full => Self::Full { database, source },
            Case::Unavailable => Self::Unavailable { database, source },
            Case::Corrupt => Self::Corrupt { database, what },
            Case::Conflict => Self::Conflict { database, what },
            Case::Other => Self::Other {
                database,
                what: "the database refused a statement".to_owned(),
                source: Some(source),
            },
        }
    }

    pub(crate) fn of_io(database: String, what: &str, error: std::io::Error) -> Self {
        use std::io::ErrorKind;
        let source = Box::new(error);
        let kind = source.kind();
        if matches!(kind, ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) {
            Self::ReadOnly { database, source }
        } else if matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
            Self::Full { database, source }
        } else {
            Self::Other { database, what: what.to_owned(), source: Some(source) }
        }
    }
}

// The driver's type is open: what is added to it later is nothing known.
fn case_of(error: &sqlx::Error) -> Case {
    use sqlx::Error as E;
    if let E::Database(said) = error {
        said_case(said.as_ref())
    } else if matches!(
        error,
        E::Io(_) | E::Tls(_) | E::Protocol(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed
    ) {
        Case::Unavailable
    } else if matches!(error, E::ColumnDecode { .. } | E::Decode(_) | E::RowNotFound) {
        Case::Corrupt
    } else {
        Case::Other
    }
}

fn said_case(said: &dyn DatabaseError) -> Case {
    let code = said.code().unwrap_or(Cow::Borrowed(""));
    if said.is_unique_violation() {
        return Case::Conflict;
    }
    if said.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() {
        return postgres_case(&code);
    }
    code.parse::<i64>().map_or(Case::Other, sqlite_case)
}

/// The primary result codes of <https://www.sqlite.org/rescode.html>; the upper bits say more than is needed.
const fn sqlite_case(code: i64) -> Case {
    match code & 0xff {
        8 => Case::ReadOnly,
        13 => Case::Full,
        // Busy, locked, I/O error.
        5 | 6 | 10 => Case::Unavailable,
        // Corrupt, not a database.
        11 | 26 => Case::Corrupt,
        _ => Case::Other,
    }
}

/// The codes of the PostgreSQL manual's appendix A.
fn postgres_case(code: &str) -> Case {
    match code {
        // Read-only transaction, insufficient privilege.
        "25006" | "42501" => Case::ReadOnly,
        "53100" => Case::Full,
        "XX001" | "XX002" => Case::Corrupt,
        // Too many connections, a deadlock, a time limit, a serialisation failure, a lock that was not to be had.
        "53300" | "40P01" | "57014" | "40001" | "55P03" => Case::Unavailable,
        // Connection exceptions; shutting down, starting up.
        _ if code.starts_with("08") || code.starts_with("57P") => Case::Unavailable,
        _ => Case::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_by_what_to_do() {
        for (code, case) in [
            (8, Case::ReadOnly),
            (1032, Case::ReadOnly),
            (13, Case::Full),
            (261, Case::Unavailable),
            (4874, Case::Unavailable),
            (26, Case::Corrupt),
            (1, Case::Other),
        ] {
            assert_eq!(sqlite_case(code), case, "{code}");
        }
        for (code, case) in [
            ("25006", Case::ReadOnly),
            ("53100", Case::Full),
            ("08006", Case::Unavailable),
            ("57P01", Case::Unavailable),
            ("XX001", Case::Corrupt),
            ("42P01", Case::Other),
        ] {
            assert_eq!(postgres_case(code), case, "{code}");
        }
    }

    #[test]
    fn a_closed_pool_is_no_answer_and_a_wrong_row_is_damage() {
        let of = |error| StoreError::of_sqlx("db".to_owned(), error);
        assert!(matches!(of(sqlx::Error::PoolClosed), StoreError::Unavailable { .. }));
        assert!(matches!(of(sqlx::Error::RowNotFound), StoreError::Corrupt { .. }));
        assert!(of(sqlx::Error::WorkerCrashed).to_string().starts_with("db does not answer"));
    }
}
