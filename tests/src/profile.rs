//! What the tests may leave out on this machine, as `cargo xtask test` was told.

use xtask::cli::Profile;
use xtask::commands::PROFILE_VARIABLE;

/// The profile of this run, from the environment. Nothing set means the full one.
///
/// # Panics
/// The variable holds another word than `full` or `quick`.
#[must_use]
pub fn current() -> Profile {
    let word = std::env::var_os(PROFILE_VARIABLE).unwrap_or_default();
    parse(&word.to_string_lossy()).unwrap_or_else(|error| panic!("{error}"))
}

fn parse(word: &str) -> Result<Profile, String> {
    match word {
        "" | "full" => Ok(Profile::Full),
        "quick" => Ok(Profile::Quick),
        other => Err(format!("{PROFILE_VARIABLE} is `{other}`; it can be `full` or `quick`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_words_are_read() {
        assert_eq!(parse(""), Ok(Profile::Full));
        assert_eq!(parse("full"), Ok(Profile::Full));
        assert_eq!(parse("quick"), Ok(Profile::Quick));
        assert!(parse("Quick").is_err_and(|error| error.contains("`Quick`")));
    }
}
