//! A series of availability as CSV: `from_hr,available`, hours as decimals, in the order of time.

use spillway_types::DurationMs;

use super::cloud_file::MAX_STEPS;
use crate::trace::hours;

const NAMES: [&str; 2] = ["from_hr", "available"];

/// From when on how many may live. An error says where in the file, with the value and the way out.
pub(super) fn read(text: &str) -> Result<Vec<(DurationMs, u32)>, String> {
    let text = text.trim_start_matches('\u{feff}');
    let mut lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let head = lines.next().map_or("", |(_, head)| head);
    let names: Vec<&str> = head.split(',').map(str::trim).collect();
    let find = |name: &str| {
        let missing = || {
            let names = NAMES.join(",");
            format!("line 1: `{}` has no column {name}; the head must be {names}", head.trim())
        };
        names.iter().position(|other| other.eq_ignore_ascii_case(name)).ok_or_else(missing)
    };
    let [from_at, available_at] = [find(NAMES[0])?, find(NAMES[1])?];
    let mut steps: Vec<(DurationMs, u32)> = vec![];
    for (number, line) in lines {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let field = |at: usize| fields.get(at).copied().unwrap_or_default();
        let wrong = |name: &str, value: &str, problem: &str| {
            format!("line {number}, {name}: `{}` {problem}", value.chars().take(80).collect::<String>())
        };
        let from_text = field(from_at);
        let from = hours(from_text).map_err(|error| {
            wrong(NAMES[0], from_text, &format!("{error}; write hours as a decimal, for example 0.25"))
        })?;
        let text = field(available_at);
        let available = text.parse().map_err(|_| {
            wrong(NAMES[1], text, "is not how many there are; write a whole number, 0 for none")
        })?;
        if steps.last().is_some_and(|(before, _)| from <= *before) {
            return Err(wrong(NAMES[0], from_text, "does not come after the line above; sort by from_hr"));
        }
        if steps.len() == MAX_STEPS {
            return Err(wrong(NAMES[0], from_text, &format!("is one too many; {MAX_STEPS} are the most")));
        }
        steps.push((from, available));
    }
    if steps.is_empty() {
        return Err("has no step; write at least one line like `0,20`".to_owned());
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_read_in_any_order_of_columns() {
        let steps = read("available,note,from_hr\n\n3,x,0\n0,y,1.5\n12,z,24\n").unwrap();
        assert_eq!(steps, [(DurationMs(0), 3), (DurationMs(5_400_000), 0), (DurationMs(86_400_000), 12)]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, says) in [
            ("", "line 1: `` has no column from_hr"),
            (
                "from,available\n",
                "line 1: `from,available` has no column from_hr; the head must be from_hr,available",
            ),
            ("from_hr,available\n", "at least one line"),
            ("from_hr,available\nsoon,3\n", "line 2, from_hr: `soon` is not a number; write hours"),
            ("from_hr,available\n0,3\n\n-1,3\n", "line 4, from_hr: `-1` is negative"),
            ("from_hr,available\n0,some\n", "line 2, available: `some` is not how many"),
            ("from_hr,available\n0,-1\n", "line 2, available: `-1`"),
            ("from_hr,available\n0\n", "line 2, available: ``"),
            ("from_hr,available\n2,1\n2,3\n", "line 3, from_hr: `2` does not come after"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }
}
