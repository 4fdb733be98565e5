//! Reads request bodies: JSON whose errors name the field, and suggestions for mistyped words.

use serde::de::DeserializeOwned;

use crate::ApiError;
use crate::error::cut;

/// Parses a JSON body.
///
/// # Errors
/// [`ApiError`] with code `invalid` that names the field where the body is not a `T`.
pub fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        json_error(&path, error.inner())
    })?;
    reader.end().map_err(|error| json_error(".", &error))?;
    Ok(parsed)
}

fn json_error(path: &str, error: &serde_json::Error) -> ApiError {
    let text = error.to_string();
    let problem = text.split(" at line ").next().unwrap_or(&text);
    let refused = ApiError::invalid(match error.classify() {
        serde_json::error::Category::Data => cut(problem),
        serde_json::error::Category::Syntax
        | serde_json::error::Category::Eof
        | serde_json::error::Category::Io => format!("the body is not JSON: {}", cut(&text)),
    });
    let refused = if path == "." || error.classify() != serde_json::error::Category::Data {
        refused
    } else {
        refused.field(path)
    };
    match unknown_field(problem) {
        Some((field, known)) => {
            let parent = path.strip_suffix(field).map_or(path, |parent| parent.trim_end_matches('.'));
            refused.field(join(parent, field)).hint(fields_hint(field, &known))
        }
        None => refused,
    }
}

/// Takes serde's sentence about an unknown field apart: the field, and those that are known.
fn unknown_field(problem: &str) -> Option<(&str, Vec<&str>)> {
    let rest = problem.strip_prefix("unknown field `")?;
    let (field, rest) = rest.split_once('`')?;
    Some((field, rest.split('`').skip(1).step_by(2).collect()))
}

/// A field's path below its parent's.
pub(crate) fn join(parent: &str, field: &str) -> String {
    if parent.is_empty() || parent == "." { field.to_owned() } else { format!("{parent}.{field}") }
}

/// What to write instead of an unknown field.
pub(crate) fn fields_hint(field: &str, known: &[&str]) -> String {
    match nearest(field, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("fields here are: {}", known.join(", ")),
    }
}

/// Longest word that is compared, in bytes: the comparison is quadratic, and no field is this long.
const MAX_WORD: usize = 64;

/// The candidate that `word` was most likely meant to be; none where all are too far.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = if word.chars().count() <= 3 { 1 } else { 2 };
    if word.len() > MAX_WORD {
        return None;
    }
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The edit distance where two neighbours that changed places count as one edit (optimal string alignment);
/// letters' case aside, with `-` and `_` alike.
fn distance(left: &str, right: &str) -> usize {
    let fold = |text: &str| -> Vec<char> {
        text.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
    };
    let (left, right) = (fold(left), fold(right));
    let mut rows: Vec<Vec<usize>> = vec![(0..=right.len()).collect()];
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let changed = rows[i][j] + usize::from(a != b);
            let swapped = i > 0 && j > 0 && left[i - 1] == *b && right[j - 1] == *a;
            let swapped = if swapped { rows[i - 1][j - 1] + 1 } else { usize::MAX };
            row.push(changed.min(rows[i][j + 1] + 1).min(row[j] + 1).min(swapped));
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{JobFile, UserRequest};

    #[test]
    fn a_mistyped_word_finds_its_neighbour() {
        let known = ["gpus", "cpus", "memory", "time_limit"];
        for (word, near) in [
            ("gpu", Some("gpus")),
            ("memroy", Some("memory")),
            ("time-limit", Some("time_limit")),
            ("GPUS", Some("gpus")),
            ("banana", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), near, "{word}");
        }
    }

    #[test]
    fn a_wrong_body_names_its_field() {
        let field = |body: &str| {
            let error = json::<JobFile>(body.as_bytes()).expect_err(body);
            (error.field, error.hint)
        };
        let named = |field: &str| Some(field.to_owned());
        assert_eq!(
            field(r#"{"resources":{"gpu":1}}"#),
            (named("resources.gpu"), named("did you mean `gpus`?"))
        );
        assert_eq!(field(r#"{"nmae":1}"#), (named("nmae"), named("did you mean `name`?")));
        assert_eq!(field(r#"{"retry":{"max_attempts":"x"}}"#).0, named("retry.max_attempts"));
        assert_eq!(field("{").0, None);
        assert_eq!(field("{} {}").0, None);
        let error = json::<UserRequest>(br#"{"name":"No Spaces","group":"a"}"#).expect_err("name");
        assert_eq!(error.field, named("name"));
        assert!(error.message.contains("is not a user name"), "{error}");
    }
}
