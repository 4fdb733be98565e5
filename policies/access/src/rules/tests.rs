//! What the rules say, and how wrong ones are refused.

use super::*;
use crate::depth::MAX_SIGNS;
use crate::error::Problem;
use crate::source::{MAX_FILE_BYTES, MAX_FILES, MAX_ID, MAX_POLICIES};
use crate::testing::World;

const EVERYBODY: &str = "@id(\"everybody\") permit (principal, action, resource);\n";

fn rules(more: &str) -> AccessRules {
    AccessRules::from_sources(&[("a.cedar", &format!("{EVERYBODY}{more}"))]).unwrap()
}

fn refusal(text: &str) -> AccessError {
    AccessRules::from_sources(&[("a.cedar", text)]).unwrap_err()
}

#[test]
fn without_policies_everything_is_allowed() {
    for world in World::every() {
        assert_eq!(AccessRules::default().decide(&world.request()).sentence(), "allowed");
        let access = AccessRules::from_sources(&[]).unwrap().decide(&world.request());
        assert_eq!((access.is_allowed(), access.by.len()), (true, 0));
    }
}

#[test]
fn forbid_beats_permit_and_all_that_forbid_are_named_in_order() {
    let rules = rules(
        "@id(\"z\") forbid (principal, action, resource) when { resource.spot };\n\
         @id(\"b\") forbid (principal in Group::\"university\", action, resource in Site::\"home\") unless { resource.labels.contains(\"open\") };",
    );
    let (small, full) = (World::smallest(), World::full());
    assert_eq!(rules.decide(&small.request()).sentence(), "allowed by policy everybody");
    for _ in 0..8 {
        assert_eq!(rules.decide(&full.request()).sentence(), "denied by policies b, z");
    }
}

#[test]
fn what_no_policy_permits_is_denied() {
    let text = "@id(\"a\") permit (principal in Group::\"speech\", action, resource);";
    let rules = AccessRules::from_sources(&[("a.cedar", text)]).unwrap();
    let access = rules.decide(&World::smallest().request());
    assert_eq!(access.sentence(), "denied: no policy permits it");
    assert_eq!(access.by, [] as [String; 0]);
}

#[test]
fn a_policy_that_cannot_be_evaluated_denies() {
    let world = World { gpus: 2, ..World::smallest() };
    for effect in ["permit", "forbid"] {
        let text = format!(
            "@id(\"too-much\") {effect} (principal, action, resource) when {{ context.gpus * 9223372036854775807 > 1 }};"
        );
        let access = rules(&text).decide(&world.request());
        assert_eq!((access.decision, access.by.len()), (Decision::Denied, 0), "{effect}");
        assert_eq!(access.failures[0].policy.as_deref(), Some("too-much"));
        let sentence = access.sentence();
        assert!(
            sentence.starts_with("denied: policy too-much failed: ") && sentence.contains("overflow"),
            "{sentence}"
        );
    }
}

#[test]
fn data_of_unknown_home_is_at_home_nowhere() {
    let rules = rules(
        "@id(\"home\") forbid (principal, action, resource) when { context.inputs.hasTag(\"patient\") } \
         unless { resource has jurisdiction && [resource.jurisdiction].containsAll(context.inputs.getTag(\"patient\")) };",
    );
    let input = |home: Option<&str>| crate::Input {
        labels: ["patient".into()].into(),
        jurisdiction: home.map(Into::into),
    };
    for (inputs, place, allowed) in [
        (vec![], None, true),
        (vec![input(Some("de"))], Some("de"), true),
        (vec![input(Some("de"))], Some("fr"), false),
        (vec![input(Some("de"))], None, false),
        (vec![input(Some("de")), input(Some("fr"))], Some("de"), false),
        (vec![input(None)], Some("de"), false),
        (vec![input(None)], Some(crate::NO_JURISDICTION), false),
        (vec![input(Some("de")), input(None)], Some("de"), false),
    ] {
        let world = World { inputs, jurisdiction: place.map(Into::into), ..World::smallest() };
        assert_eq!(rules.decide(&world.request()).is_allowed(), allowed, "{:?} {place:?}", world.inputs);
    }
}

#[test]
fn rules_say_whether_they_tell_users_apart() {
    assert!(!rules("").names_users());
    for (text, names) in [
        ("@id(\"a\") forbid (principal == User::\"eve\", action, resource);", true),
        (
            "@id(\"a\") forbid (principal, action, resource) when { context.gpus > 1 && principal == User::\"eve\" };",
            true,
        ),
        ("@id(\"a\") forbid (principal in Group::\"eve\", action, resource);", false),
    ] {
        assert_eq!(rules(text).names_users(), names, "{text}");
    }
    let eve = rules("@id(\"a\") forbid (principal == User::\"eve\", action, resource);");
    let world = World { user: "eve".parse().unwrap(), ..World::smallest() };
    assert_eq!(eve.decide(&world.request()).by, ["a"]);
    assert!(eve.decide(&World::smallest().request()).is_allowed());
}

#[test]
fn wrong_policies_are_pointed_at() {
    let scope = "(principal, action, resource)";
    for (text, says) in [
        (format!("{EVERYBODY}permit (principal, action resource);"), "a.cedar:2:27: this does not parse: "),
        (
            format!("{EVERYBODY}@id(\"a\")\nforbid {scope} when {{\n  resource.kinds == 1 }};"),
            "a.cedar:4:3: this does not fit the schema: ",
        ),
        (
            format!("{EVERYBODY}@id(\"a\") forbid {scope} when {{ resource.kind == Kind::\"moon\" }};"),
            "a.cedar:2:",
        ),
        (
            format!("{EVERYBODY}@id(\"a\") forbid {scope} when {{ resource.jurisdiction == \"de\" }};"),
            "optional attribute `jurisdiction`",
        ),
        (
            format!(
                "{EVERYBODY}@id(\"a\") forbid {scope} when {{ context.inputs.getTag(\"x\").contains(\"de\") }};"
            ),
            "tag",
        ),
        (format!("{EVERYBODY}@id(\"a\") forbid (principal in Grup::\"x\", action, resource);"), "Grup"),
        (format!("{EVERYBODY}@id(\"a\") forbid (principal, action == Action::\"lend\", resource);"), "lend"),
        (format!("{EVERYBODY}@id(\"a\") forbid {scope} when {{ false }};"), "a.cedar:2:"),
        (format!("{EVERYBODY}// one\nforbid {scope};"), "a.cedar:3:1: this policy has no id"),
        (format!("{EVERYBODY}@id(\"A b\") forbid {scope};"), "a.cedar:2:1: `A b` is not a policy's id"),
        (
            format!("{EVERYBODY}{EVERYBODY}"),
            "a.cedar:2:1: the policy at a.cedar:1:1 has the id `everybody` too",
        ),
        (
            format!("{EVERYBODY}@id(\"t\") forbid (principal == ?principal, action, resource);"),
            "a.cedar:2:1: this is a template",
        ),
        ("// nothing".to_owned(), "a.cedar: there is no policy in it"),
        (format!("@id(\"a\") forbid {scope};"), "no policy permits anything"),
    ] {
        let error = refusal(&text).to_string();
        assert!(error.contains(says), "{text}\nshould say {says}\nsays {error}");
    }
}

#[test]
fn an_id_is_taken_over_all_files() {
    let files = [("a.cedar", EVERYBODY), ("b.cedar", EVERYBODY)];
    let error = AccessRules::from_sources(&files).unwrap_err();
    let AccessError::Policy { at, problem: Problem::Twice { first, .. } } = error else { panic!("{error}") };
    assert_eq!((at.to_string().as_str(), first.to_string().as_str()), ("b.cedar:1:1", "a.cedar:1:1"));
}

#[test]
fn limits_hold_at_their_edges() {
    let padded = |bytes: usize| format!("{EVERYBODY}//{}", " ".repeat(bytes - EVERYBODY.len() - 2));
    assert!(AccessRules::from_sources(&[("a", &padded(MAX_FILE_BYTES))]).is_ok());
    assert_eq!(
        refusal(&padded(MAX_FILE_BYTES + 1)),
        AccessError::TooLarge { file: "a.cedar".into(), bytes: MAX_FILE_BYTES + 1 }
    );

    let texts: Vec<String> =
        (0..=MAX_FILES).map(|n| EVERYBODY.replace("everybody", &format!("p{n}"))).collect();
    let files: Vec<(&str, &str)> = texts.iter().map(|text| ("a", text.as_str())).collect();
    assert_eq!(AccessRules::from_sources(&files[..MAX_FILES]).unwrap().ids().len(), MAX_FILES);
    assert_eq!(
        AccessRules::from_sources(&files).unwrap_err(),
        AccessError::TooManyFiles { files: MAX_FILES + 1 }
    );

    let many = |from: usize, to: usize| -> String {
        (from..to).map(|n| format!("@id(\"p{n}\")permit(principal,action,resource);\n")).collect()
    };
    let (first, last, over) = (many(0, 900), many(900, MAX_POLICIES), many(900, MAX_POLICIES + 1));
    assert!(AccessRules::from_sources(&[("a", &first), ("b", &last)]).is_ok());
    assert_eq!(
        AccessRules::from_sources(&[("a", &first), ("b", &over)]).unwrap_err(),
        AccessError::TooManyPolicies { file: "b".into(), policies: MAX_POLICIES + 1 }
    );

    let named = |length| EVERYBODY.replace("everybody", &"x".repeat(length));
    assert!(AccessRules::from_sources(&[("a", &named(MAX_ID))]).is_ok());
    assert!(refusal(&named(MAX_ID + 1)).to_string().contains("1 to 63"));
}

/// A rule with a condition of each form that can be deep, with at most so many signs in all.
fn deep(signs: usize) -> Vec<(String, bool)> {
    let nested = |open: &str, inner: &str, close: &str, each: usize| {
        // `@id(..) forbid (..) when {..}` has six, and an inner part at most one.
        let levels = (signs - 7) / each;
        format!("{}{inner}{}", open.repeat(levels), close.repeat(levels))
    };
    let conditions = [
        (nested("(", "true", ")", 2), true),
        (nested("1+", "1 > 0", "", 1), true),
        (nested("context.gpus>0 || ", "true", "", 4), true),
        (nested("if true then ", "true", " else false", 1), true),
        (nested("true } when { ", "true", "", 2), true),
        (nested("[", "1", "]", 2), false),
        (nested("", "context", ".gpus", 1), false),
    ];
    let rule = |condition| {
        format!("{EVERYBODY}@id(\"deep\") forbid (principal, action, resource) when {{ {condition} }};")
    };
    conditions.into_iter().map(|(condition, fits)| (rule(condition), fits)).collect()
}

#[test]
fn the_deepest_policies_mean_the_same_on_any_thread() {
    for (text, fits) in deep(MAX_SIGNS) {
        let small = std::thread::Builder::new().stack_size(256 << 10);
        let decided = small.spawn(move || {
            let rules = AccessRules::from_sources(&[("a", &text)])?;
            Ok::<_, AccessError>(rules.decide(&World::smallest().request()).sentence())
        });
        match decided.unwrap().join().unwrap() {
            Ok(sentence) => assert_eq!((sentence.as_str(), fits), ("denied by policy deep", true)),
            Err(error) => assert!(!fits && error.to_string().contains("does not fit the schema"), "{error}"),
        }
    }
}

#[test]
fn deeper_policies_are_refused_before_they_are_parsed() {
    let sum = |signs: usize| deep(signs).remove(1).0;
    assert!(AccessRules::from_sources(&[("a", &sum(MAX_SIGNS))]).is_ok());
    let one_over = refusal(&sum(MAX_SIGNS + 1)).to_string();
    assert!(one_over.starts_with("a.cedar:2:1: this policy has 257 brackets"), "{one_over}");
    for (text, _) in deep(1000) {
        let error = refusal(&text).to_string();
        assert!(error.starts_with("a.cedar:2:1: this policy has "), "{error}");
    }
}
