//! The tree of groups, its limits and its refusals, case by case.

use super::*;
use crate::properties::{payee, subject, tree};
use crate::{Hold, overhead_entry};

fn name(group: &str) -> GroupName {
    group.parse().unwrap()
}

fn hold(book: &mut Book, group: &str, micros: i64) {
    book.apply(&Hold::place(&subject(group, 1), micros).1);
}

fn spend(book: &mut Book, group: &str, micros: i64) {
    book.apply(&overhead_entry(&subject(group, 1), &payee(), micros).unwrap());
}

#[test]
fn totals_and_what_is_left_roll_up() {
    let mut book = tree();
    hold(&mut book, "deep", 1_000_000);
    spend(&mut book, "vision", 2_000_000);
    spend(&mut book, "audio", 5_000_000);
    for (group, spent, held, left) in [
        ("deep", 0, 1_000_000, 2_000_000),
        ("vision", 2_000_000, 1_000_000, 2_000_000),
        ("audio", 5_000_000, 0, 2_000_000),
        ("lab", 7_000_000, 1_000_000, 2_000_000),
    ] {
        let group = name(group);
        assert_eq!((book.spent(&group), book.held(&group), book.left(&group)), (spent, held, Some(left)));
    }
    assert_eq!(book.left(&name("unknown")), None);
    assert_eq!(book.can_hold(&name("unknown"), i64::MAX), Ok(()));
    assert_eq!(
        book.ancestors(&name("deep")).map(GroupName::as_str).collect::<Vec<_>>(),
        ["deep", "vision", "lab"]
    );
    assert_eq!(book.groups().count(), 4);
    assert_eq!(book.balances().map(|(_, micros)| micros).sum::<i64>(), 0);
}

#[test]
fn a_limit_binds_at_its_edge() {
    let mut book = tree();
    hold(&mut book, "vision", 5_999_999);
    assert_eq!(book.can_hold(&name("deep"), 1), Ok(()));
    assert_eq!(book.can_hold(&name("deep"), 2).unwrap_err().shortfall_micros, 1);
    hold(&mut book, "vision", 1);
    assert_eq!(book.can_hold(&name("deep"), 0), Ok(()), "what costs nothing needs no budget");
    assert!(book.can_hold(&name("deep"), 1).is_err());
    assert!(book.can_hold(&name("deep"), i64::MAX).is_err());
}

#[test]
fn a_refusal_names_what_binds_and_whether_waiting_helps() {
    let refused = |book: &Book, group, micros| {
        let refusal = book.can_hold(&name(group), micros).unwrap_err();
        (refusal.binding.as_str().to_owned(), refusal.kind, refusal.waiting_can_help(), refusal.to_string())
    };
    let mut book = tree();
    let (binding, kind, waiting, text) = refused(&book, "deep", 7_500_000);
    assert_eq!((binding.as_str(), kind, waiting), ("vision", RefusalKind::NeverFits, false));
    let figures =
        "the money limit of group `vision` is 1.50 short: 7.50 wanted, limit 6.00, spent 0.00, held 0.00; ";
    assert!(text.starts_with(figures), "{text}");
    assert!(text.contains("waiting cannot help, it is more than the whole limit"), "{text}");

    hold(&mut book, "audio", 6_000_000);
    let (binding, kind, waiting, text) = refused(&book, "deep", 5_000_000);
    assert_eq!((binding.as_str(), kind, waiting), ("lab", RefusalKind::UsedUp, true));
    assert!(text.contains("held 6.00; waiting can help"), "{text}");

    spend(&mut book, "vision", 2_000_000);
    let (binding, kind, waiting, text) = refused(&book, "deep", 5_000_000);
    assert_eq!(
        (binding.as_str(), kind, waiting),
        ("vision", RefusalKind::UsedUp, false),
        "the more lasting one"
    );
    assert!(text.contains("waiting cannot help, the money is spent"), "{text}");
}

#[test]
fn a_tree_that_cannot_be_is_refused() {
    let mut book = tree();
    let before = book.clone();
    let unknown = GroupError::UnknownParent { group: name("x"), parent: name("nobody") };
    assert_eq!(book.set_group(name("x"), Some(name("nobody")), None), Err(unknown));
    for (group, parent) in [("lab", "deep"), ("lab", "lab"), ("new", "new")] {
        let cycle = GroupError::Cycle { group: name(group), parent: name(parent) };
        assert_eq!(book.set_group(name(group), Some(name(parent)), None), Err(cycle));
    }
    assert!(book.set_group(name("x"), None, Some(-1)).is_err());
    assert!(book.set_group(name("x"), None, Some(0)).is_ok());
    assert_eq!(before.groups().count() + 1, book.groups().count());
}

#[test]
fn a_limit_below_what_is_used_is_refused_with_both_figures() {
    let mut book = tree();
    hold(&mut book, "deep", 1_000_000);
    spend(&mut book, "vision", 2_000_000);
    let parent = Some(name("lab"));
    let error = book.set_group(name("vision"), parent.clone(), Some(2_999_999)).unwrap_err().to_string();
    for figure in ["`vision`", "2.999999", "3.00", "2.00", "1.00"] {
        assert!(error.contains(figure), "{figure}: {error}");
    }
    assert_eq!(book.set_group(name("vision"), parent.clone(), Some(3_000_000)), Ok(()));
    spend(&mut book, "vision", 5_000_000);
    assert_eq!(book.left(&name("vision")), Some(-5_000_000));
    for limit in [Some(3_000_000), Some(3_500_000), None] {
        assert_eq!(
            book.set_group(name("vision"), parent.clone(), limit),
            Ok(()),
            "in overrun, and not lowered"
        );
    }
}

#[test]
fn a_group_takes_its_figures_along_when_it_moves() {
    let mut book = tree();
    spend(&mut book, "deep", 4_000_000);
    book.set_group(name("tiny"), None, Some(3_000_000)).unwrap();
    let error = book.set_group(name("deep"), Some(name("tiny")), None).unwrap_err();
    assert!(matches!(error, GroupError::LimitTooLow { ref group, .. } if *group == name("tiny")), "{error}");
    assert_eq!(book.spent(&name("vision")), 4_000_000, "nothing changed");
    book.set_group(name("deep"), Some(name("audio")), None).unwrap();
    assert_eq!((book.spent(&name("vision")), book.spent(&name("audio"))), (0, 4_000_000));
    assert_eq!(book.spent(&name("lab")), 4_000_000);
}

#[test]
fn what_is_posted_before_a_group_is_set_counts_when_it_is() {
    let mut book = Book::new();
    spend(&mut book, "vision", 4_000_000);
    assert_eq!(book.spent(&name("vision")), 4_000_000);
    book.set_group(name("lab"), None, None).unwrap();
    assert!(book.set_group(name("vision"), Some(name("lab")), Some(3_000_000)).is_err());
    book.set_group(name("vision"), Some(name("lab")), Some(4_000_000)).unwrap();
    assert_eq!((book.spent(&name("lab")), book.left(&name("vision"))), (4_000_000, Some(0)));
}

#[test]
fn a_stored_book_with_a_broken_tree_is_refused() {
    let stored = |groups: &str| format!(r#"{{"balances":{{}},"groups":{{{groups}}}}}"#);
    let group = |name: &str, parent: &str| format!(r#""{name}":{{"parent":"{parent}","limit_micros":null}}"#);
    let looped = stored(&[group("a", "b"), group("b", "a")].join(","));
    let error = serde_json::from_str::<Book>(&looped).unwrap_err().to_string();
    assert!(error.contains("loop through `a`"), "{error}");
    let error = serde_json::from_str::<Book>(&stored(&group("a", "b"))).unwrap_err().to_string();
    assert!(error.contains("there is no group `b`"), "{error}");
}
