//! Cases: requests written down with the decision that is expected, and by which policies.
//!
//! A file names groups and places once and then asks about them. A case holds only where decision and policies are
//! those that were expected and no policy failed: a denial for another reason than the one meant proves nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use spillway_types::{CloudName, GroupName, HourlyRate, Market, PoolName, SiteKind, SiteName, UserName};
use toml::Spanned;

use crate::error::At;
use crate::request::{Asker, Input, JobFacts, PlaceFacts, Request};
use crate::rules::{Access, AccessRules, Decision};

/// Longest file of cases, in bytes: a thousand cases, and a bound on what the parser is given.
pub const MAX_CASES_BYTES: usize = 256 << 10;

/// Why cases cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CasesError {
    /// The file is too long.
    #[error("{file}: {bytes} bytes are over the limit of {MAX_CASES_BYTES} for one file of cases: split it")]
    TooLarge {
        /// The file.
        file: String,
        /// Its length.
        bytes: usize,
    },
    /// The file has no case.
    #[error("{file}: there is no case in it: write one as `[[cases]]`")]
    NoCases {
        /// The file.
        file: String,
    },
    /// Something in the file is wrong.
    #[error("{at}: {problem}")]
    Wrong {
        /// Where.
        at: At,
        /// What, and what would be right.
        problem: String,
    },
}

/// What came of the cases of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CaseReport {
    /// The file, as the caller named it.
    pub file: String,
    /// Each case, in the file's order; never empty.
    pub cases: Vec<CaseResult>,
}

/// What came of one case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CaseResult {
    /// Its name.
    pub name: String,
    /// The line of its name, from 1.
    pub line: usize,
    /// The decision that was expected.
    pub expected: Decision,
    /// The policies that were expected to decide, in the order of their ids.
    pub expected_by: Vec<String>,
    /// What the rules say.
    pub got: Access,
}

impl CaseResult {
    /// Whether the rules say what was expected, by the policies that were expected, and without a failure.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.got.decision == self.expected && self.got.by == self.expected_by && self.got.failures.is_empty()
    }
}

impl CaseReport {
    /// The cases that do not hold.
    pub fn failed(&self) -> impl Iterator<Item = &CaseResult> {
        self.cases.iter().filter(|case| !case.holds())
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CasesFile {
    /// Each group and the group above it.
    #[serde(default)]
    groups: BTreeMap<GroupName, GroupName>,
    places: BTreeMap<String, Place>,
    #[serde(default)]
    cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    site: SiteName,
    pool: PoolName,
    kind: SiteKind,
    jurisdiction: Option<String>,
    provider: Option<CloudName>,
    #[serde(default)]
    labels: BTreeSet<String>,
    groups: Option<BTreeSet<GroupName>>,
    #[serde(default)]
    capacity: Market,
    rate: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: Spanned<String>,
    user: UserName,
    group: GroupName,
    place: Spanned<String>,
    #[serde(default)]
    job: Job,
    expect: Decision,
    by: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Job {
    class: Option<String>,
    image: Option<String>,
    gpus: u32,
    nodes: Option<u32>,
    residency: Vec<String>,
    inputs: Vec<Input>,
}

/// The text of one file, to point into.
#[derive(Debug, Clone, Copy)]
struct Text<'a> {
    file: &'a str,
    text: &'a str,
}

impl Text<'_> {
    fn wrong(self, offset: usize, problem: impl Into<String>) -> CasesError {
        CasesError::Wrong { at: At::offset(self.file, self.text, offset), problem: problem.into() }
    }
}

impl AccessRules {
    /// Asks every case of a file, given as name and text.
    ///
    /// # Errors
    /// [`CasesError`] where the file cannot be read as cases; a case that does not hold is no error.
    pub fn check_cases(&self, file: &str, text: &str) -> Result<CaseReport, CasesError> {
        if text.len() > MAX_CASES_BYTES {
            return Err(CasesError::TooLarge { file: file.to_owned(), bytes: text.len() });
        }
        let source = Text { file, text };
        let parsed: CasesFile = toml::from_str(text).map_err(|error| {
            source.wrong(error.span().map_or(0, |span| span.start), error.message().trim_end())
        })?;
        if parsed.cases.is_empty() {
            return Err(CasesError::NoCases { file: file.to_owned() });
        }
        let cases = parsed.cases.iter().map(|case| self.check(case, &parsed, source));
        Ok(CaseReport { file: file.to_owned(), cases: cases.collect::<Result<_, _>>()? })
    }

    fn check(&self, case: &Case, file: &CasesFile, source: Text<'_>) -> Result<CaseResult, CasesError> {
        let at = case.place.span().start;
        let Some(place) = file.places.get(case.place.get_ref()) else {
            let known: Vec<&str> = file.places.keys().map(String::as_str).collect();
            let problem = format!("no place `{}`; there are: {}", case.place.get_ref(), known.join(", "));
            return Err(source.wrong(at, problem));
        };
        let name = case.name.span().start;
        let groups = chain(&case.group, &file.groups).map_err(|problem| source.wrong(name, problem))?;
        let request = Request {
            asker: Asker { user: &case.user, groups: &groups },
            job: case.job.facts(),
            place: place.facts(source)?,
        };
        let expected_by: BTreeSet<String> = case.by.iter().cloned().collect();
        if let Some(unknown) = expected_by.iter().find(|id| !self.ids().contains(*id)) {
            return Err(source.wrong(name, format!("no policy has the id `{unknown}`, which `by` names")));
        }
        Ok(CaseResult {
            name: case.name.get_ref().clone(),
            line: At::offset(source.file, source.text, name).line,
            expected: case.expect,
            expected_by: expected_by.into_iter().collect(),
            got: self.decide(&request),
        })
    }
}

/// A group and all above it.
fn chain(group: &GroupName, above: &BTreeMap<GroupName, GroupName>) -> Result<Vec<GroupName>, String> {
    let mut chain = vec![group.clone()];
    while let Some(next) = chain.last().and_then(|last| above.get(last)) {
        if chain.contains(next) {
            return Err(format!("group {next} is above itself in `[groups]`"));
        }
        chain.push(next.clone());
    }
    Ok(chain)
}

impl Job {
    fn facts(&self) -> JobFacts<'_> {
        JobFacts {
            class: self.class.as_deref(),
            image: self.image.as_deref(),
            gpus: self.gpus,
            nodes: self.nodes.unwrap_or(1),
            residency: &self.residency,
            inputs: &self.inputs,
        }
    }
}

impl Place {
    fn facts(&self, source: Text<'_>) -> Result<PlaceFacts<'_>, CasesError> {
        let rate = self.rate.as_ref().map_or(Ok(HourlyRate::default()), |rate| {
            let parsed = rate.get_ref().parse();
            parsed.map_err(|error| source.wrong(rate.span().start, format!("rate: {error}")))
        });
        Ok(PlaceFacts {
            site: &self.site,
            pool: &self.pool,
            kind: self.kind,
            jurisdiction: self.jurisdiction.as_deref(),
            provider: self.provider.as_ref(),
            labels: &self.labels,
            groups: self.groups.as_ref(),
            capacity: self.capacity,
            rate: rate?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "@id(\"everybody\") permit (principal, action, resource);\n\
        @id(\"no-cloud\") forbid (principal in Group::\"a\", action, resource) when { resource.kind == Kind::\"cloud\" };";
    const PLACES: &str = "[places.home]\nsite = 'home'\npool = 'home'\nkind = 'on-prem'\n\
        [places.far]\nsite = 'far'\npool = 'far'\nkind = 'cloud'\n";

    fn rules() -> AccessRules {
        AccessRules::from_sources(&[("p.cedar", POLICY)]).unwrap()
    }

    fn check(text: &str) -> Result<CaseReport, CasesError> {
        rules().check_cases("c.toml", text)
    }

    fn case(group: &str, place: &str, expect: &str, by: &str) -> String {
        format!(
            "[[cases]]\nname = 'x'\nuser = 'ada'\ngroup = '{group}'\nplace = '{place}'\nexpect = '{expect}'\nby = ['{by}']\n"
        )
    }

    #[test]
    fn a_case_holds_only_for_the_reason_that_was_meant() {
        for (group, place, expect, by, holds) in [
            ("a", "home", "allowed", "everybody", true),
            ("a", "far", "denied", "no-cloud", true),
            ("below-a", "far", "denied", "no-cloud", true),
            ("b", "far", "allowed", "everybody", true),
            ("b", "far", "denied", "no-cloud", false),
            ("b", "far", "allowed", "no-cloud", false),
            ("a", "far", "denied", "everybody", false),
        ] {
            let text = format!("groups = {{ below-a = 'a' }}\n{PLACES}{}", case(group, place, expect, by));
            let report = check(&text).unwrap();
            assert_eq!(report.cases[0].holds(), holds, "{group} {place} {expect} {by}: {report:?}");
            assert_eq!(report.failed().count(), usize::from(!holds));
            assert_eq!(report.cases[0].line, 11);
        }
    }

    #[test]
    fn what_is_wrong_is_pointed_at() {
        let ok = case("a", "home", "allowed", "everybody");
        for (text, says) in [
            (
                format!("{PLACES}{}", case("a", "hom", "allowed", "everybody")),
                "c.toml:13:9: no place `hom`; there are: far, home",
            ),
            (format!("{PLACES}{}", case("a", "home", "allowed", "nobody")), "no policy has the id `nobody`"),
            (
                format!("{PLACES}{}", case("a", "home", "perhaps", "x")),
                "c.toml:14:10: unknown variant `perhaps`",
            ),
            (format!("{PLACES}colour = 1\n{ok}"), "c.toml:9:1: unknown field `colour`"),
            (
                format!("{PLACES}rate = 'dear'\n{}", case("a", "far", "denied", "no-cloud")),
                "c.toml:9:8: rate: ",
            ),
            (format!("groups = {{ a = 'b', b = 'a' }}\n{PLACES}{ok}"), "group a is above itself"),
            (format!("{PLACES}{}", ok.replace("'ada'", "'A B'")), "`A B` is not a user name"),
            (PLACES.to_owned(), "there is no case in it"),
        ] {
            let error = check(&text).unwrap_err().to_string();
            assert!(error.contains(says), "{says}: {error}");
        }
    }

    #[test]
    fn a_file_is_bounded() {
        let text = format!("{PLACES}{}", case("a", "home", "allowed", "everybody"));
        let full = format!("{text}#{}", " ".repeat(MAX_CASES_BYTES - text.len() - 1));
        assert!(check(&full).is_ok());
        assert!(
            matches!(check(&format!("{full} ")), Err(CasesError::TooLarge { bytes, .. }) if bytes == MAX_CASES_BYTES + 1)
        );
    }
}
