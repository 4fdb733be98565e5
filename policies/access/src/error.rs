//! Why policies cannot be used, with the file and the place in it.

use std::fmt;

use crate::depth::MAX_SIGNS;
use crate::source::{MAX_FILE_BYTES, MAX_FILES, MAX_ID, MAX_POLICIES};

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// The file, as the caller named it.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl At {
    /// The place of a byte offset.
    pub(crate) fn offset(file: &str, text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Self { file: file.to_owned(), line, column }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Why policies cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// More files than are read.
    #[error("{files} policy files are over the limit of {MAX_FILES}: put several policies into one file")]
    TooManyFiles {
        /// How many were given.
        files: usize,
    },
    /// A file that is too long.
    #[error("{file}: {bytes} bytes are over the limit of {MAX_FILE_BYTES} for one policy file: split it")]
    TooLarge {
        /// The file.
        file: String,
        /// Its length.
        bytes: usize,
    },
    /// More policies than are asked for one decision.
    #[error("{file}: with it there are {policies} policies, over the limit of {MAX_POLICIES}")]
    TooManyPolicies {
        /// The file with which they became too many.
        file: String,
        /// How many there are up to it.
        policies: usize,
    },
    /// A file without a policy.
    #[error("{file}: there is no policy in it: write one, or leave the file out")]
    NoPolicies {
        /// The file.
        file: String,
    },
    /// Policies that only forbid, so that nothing could ever run.
    #[error(
        "no policy permits anything, so nothing could run: add `@id(\"everybody\") permit (principal, action, resource);`"
    )]
    NothingPermitted,
    /// A policy that is wrong.
    #[error("{at}: {problem}")]
    Policy {
        /// Where.
        at: At,
        /// What.
        problem: Problem,
    },
}

/// What is wrong with a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It is not Cedar.
    #[error("this does not parse: {0}")]
    Parse(String),
    /// It does not fit the schema.
    #[error("this does not fit the schema: {0}")]
    Schema(String),
    /// It has no name that an explanation could give.
    #[error("this policy has no id: write `@id(\"a-name\")` before it")]
    NoId,
    /// Its name is none.
    #[error("`{0}` is not a policy's id: 1 to {MAX_ID} of a-z, 0-9 and `-`")]
    BadId(String),
    /// Another policy has its name.
    #[error("the policy at {first} has the id `{id}` too: give one of them another")]
    Twice {
        /// The id.
        id: String,
        /// Where the first of them is.
        first: At,
    },
    /// It is too deep to be sure that it can be evaluated.
    #[error(
        "this policy has {signs} brackets, dots and operators, over the limit of {MAX_SIGNS}: make several of it, or compare with a list"
    )]
    TooDeep {
        /// How many it has.
        signs: usize,
    },
    /// It has slots.
    #[error("this is a template: write out who `?principal` and `?resource` are")]
    Template,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        for (offset, line, column) in [(0, 1, 1), (3, 1, 3), (4, 2, 1), (99, 2, 3)] {
            let at = At::offset("x", "aé\nbc", offset);
            assert_eq!((at.line, at.column), (line, column), "{offset}");
        }
        assert_eq!(At::offset("x", "a\nb", 2).to_string(), "x:2:1");
    }
}
