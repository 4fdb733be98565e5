//! Invariant 11: whoever only looks at the books changes nothing, and whoever has a group sees what is below it only.

use proptest::prelude::*;
use spillway_core::{Command, Refusal};
use spillway_types::{GroupName, JobId, Role, UserName};

use crate::words::{Scene, job, name};

/// A tree: each group's place among those before it, or none at the top.
fn tree() -> impl Strategy<Value = Vec<Option<usize>>> {
    prop::collection::vec(any::<Option<prop::sample::Index>>(), 1..12).prop_map(|parents| {
        let parent =
            |(at, index): (usize, Option<prop::sample::Index>)| index.filter(|_| at > 0).map(|i| i.index(at));
        parents.into_iter().enumerate().map(parent).collect()
    })
}

fn group(at: usize) -> GroupName {
    name(&format!("g{at}"))
}

/// Everything that a user can ask to have done.
fn works(user: &UserName, own: &GroupName, id: JobId) -> Vec<Command> {
    let mut spec = job("H100:1");
    spec.group = own.clone();
    let user = || user.clone();
    vec![
        Command::Submit { spec: Box::new(spec), user: user(), key: None },
        Command::Cancel { job: id, user: user() },
        Command::Hold { job: id, user: user() },
        Command::Release { job: id, user: user() },
        Command::Top { job: id, user: user() },
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn roles_reach_what_is_theirs(
        parents in tree(),
        own in any::<prop::sample::Index>(),
        role in prop::sample::select(Role::ALL.to_vec()),
    ) {
        let mut scene = Scene::new();
        scene.node("H100:8");
        for (at, parent) in parents.iter().enumerate() {
            let parent = parent.map(group);
            scene.group(group(at).as_str(), parent.as_ref().map(GroupName::as_str), None);
        }
        let own = own.index(parents.len());
        scene.user("who", role, &[group(own).as_str()]);
        let above = |mut at: usize| {
            while at != own {
                match parents[at] { Some(parent) => at = parent, None => return false }
            }
            true
        };
        let who = scene.state().users[&name::<UserName>("who")].clone();
        for at in 0..parents.len() {
            prop_assert_eq!(scene.state().may_see(&who, &group(at)), role.sees_all() || above(at));
        }
        let id = scene.submit(&job("H100:1"));
        if !role.works() {
            let before = scene.state().clone();
            for command in works(&who.name, &group(own), id) {
                let refusal = scene.refused(command);
                let forbidden = matches!(refusal, Refusal::Forbidden { .. });
                prop_assert!(forbidden, "{}", refusal);
            }
            prop_assert_eq!(&before, scene.state());
        }
    }
}
