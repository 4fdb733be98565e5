//! What groups may use: set, shown, refused, transferred, and why a job waits.

use spillway_api::ErrorCode;
use spillway_api::v1::{GroupChange, GroupRequest, LimitRequest, TransferRequest};
use spillway_ledger::limits::{Action, Scope};
use spillway_ledger::window::Window;
use spillway_types::{GroupName, Reason, Role};

use super::world::{World, job, refused, submit};

fn limit(group: &str, metric: &str, nominal: Option<i64>) -> LimitRequest {
    LimitRequest {
        group: group.parse().unwrap(),
        metric: metric.parse().unwrap(),
        scope: Scope::Everywhere,
        window: if metric == "concurrent-gpus" { Window::Instant } else { Window::Month },
        nominal,
        currency: None,
        borrow: None,
        lend: None,
        action: Action::Drain,
        thresholds: vec![],
        priority: 0,
    }
}

fn transfer(from: &str, to: &str, amount: i64) -> TransferRequest {
    TransferRequest {
        key: Some("t".to_owned()),
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        amount,
        metric: "money".parse().unwrap(),
        scope: Scope::Everywhere,
        window: Window::Month,
        effective: None,
        because: "the deadline".to_owned(),
    }
}

#[tokio::test]
async fn limits_are_set_and_seen_by_those_whose_they_are() {
    let world = World::start().await;
    let root = world.client("root");
    let set = root.set_limit(&limit("rivals", "money", Some(5_000_000))).await.unwrap();
    assert_eq!((set.items[0].limit, set.items[0].left), (5_000_000, 5_000_000));
    assert!(set.items[0].from < set.items[0].to, "it has a month");
    let seen = async |user: &str| world.client(user).limits().await.unwrap().items.len();
    assert_eq!((seen("eve").await, seen("ada").await, seen("root").await), (1, 0, 1));
    let forbidden = world.client("eve").set_limit(&limit("rivals", "money", Some(1))).await;
    assert_eq!(refused(forbidden).code, ErrorCode::Forbidden);
    let unknown = refused(root.set_limit(&limit("nobody", "money", Some(1))).await);
    assert!(unknown.message.contains("`nobody`"), "{}", unknown.message);
    let odd = LimitRequest { window: Window::Instant, ..limit("rivals", "money", Some(1)) };
    assert_eq!(refused(root.set_limit(&odd).await).code, ErrorCode::Invalid);
    assert_eq!(root.set_limit(&limit("rivals", "money", None)).await.unwrap().items, []);
    let gone = refused(root.set_limit(&limit("rivals", "money", None)).await);
    assert!(gone.message.contains("there is no limit on"), "{}", gone.message);
}

#[tokio::test]
async fn a_job_says_which_limit_it_waits_for_and_one_that_can_never_fit_is_refused() {
    let world = World::start().await;
    let root = world.client("root");
    root.set_limit(&limit("lab", "concurrent-gpus", Some(200))).await.unwrap();
    let ada = world.client("ada");
    let never = refused(ada.submit(&job("{run: x, resources: {gpus: 3}}"), "never").await);
    assert_eq!(never.code, ErrorCode::BudgetExceeded);
    assert!(never.hint.unwrap().contains("waiting cannot help"));
    assert_eq!(submit(&ada, "{run: x, resources: {gpus: 2}}", "fits").await.group.as_str(), "lab");
    assert_eq!(Reason::Limit.way_out().split_once(';').map(|it| it.1), Some(" `spillway limits` shows it"));
}

#[tokio::test]
async fn budget_goes_from_group_to_group_once() {
    let world = World::start().await;
    let root = world.client("root");
    for group in ["vision", "rivals"] {
        root.set_limit(&limit(group, "money", Some(5_000_000))).await.unwrap();
    }
    for _ in 0..2 {
        let made = root.transfer(&transfer("vision", "rivals", 2_000_000)).await.unwrap();
        assert_eq!((made.by.as_str(), made.amount), ("root", 2_000_000));
    }
    let limits: Vec<i64> = root.limits().await.unwrap().items.iter().map(|limit| limit.limit).collect();
    assert_eq!(limits, [7_000_000, 3_000_000], "rivals, vision");
    let other = refused(root.transfer(&transfer("vision", "rivals", 1)).await);
    assert!(other.message.contains("use another key"), "{}", other.message);
    let without = TransferRequest { because: " ".to_owned(), ..transfer("vision", "rivals", 1) };
    assert_eq!(refused(root.transfer(&without).await).field.as_deref(), Some("because"));
    let seen = async |user: &str| world.client(user).transfers().await.unwrap().items.len();
    assert_eq!((seen("ada").await, seen("eve").await), (1, 1));
}

#[tokio::test]
async fn groups_are_changed_and_removed() {
    let world = World::start().await;
    let root = world.client("root");
    let [audio, rivals]: [GroupName; 2] = ["audio", "rivals"].map(|name| name.parse().unwrap());
    let made = GroupRequest {
        name: audio.clone(),
        parent: None,
        weight: None,
        priority: None,
        budget: None,
        currency: None,
    };
    root.create_group(&made).await.unwrap();
    let zone = Some("Asia/Seoul".parse().unwrap());
    let change =
        GroupChange { parent: Some("lab".parse().unwrap()), weight: Some(3), zone, ..GroupChange::default() };
    let changed = root.change_group(&audio, &change).await.unwrap();
    assert_eq!((changed.weight, changed.zone.name()), (3, "Asia/Seoul"));
    assert_eq!(changed.parent.as_ref().map(GroupName::as_str), Some("lab"));
    let cycle = GroupChange { parent: Some(audio.clone()), ..GroupChange::default() };
    let refusal = refused(root.change_group(&"lab".parse().unwrap(), &cycle).await);
    assert!(refusal.message.contains("is the group itself or one below it"), "{}", refusal.message);
    let both = GroupChange { top: true, ..change };
    assert_eq!(refused(root.change_group(&audio, &both).await).field.as_deref(), Some("parent"));
    let members = refused(root.remove_group(&rivals).await);
    assert!(members.message.contains("has members"), "{}", members.message);
    root.remove_group(&audio).await.unwrap();
    assert_eq!(refused(root.remove_group(&audio).await).code, ErrorCode::NotFound);
    let shares = root.fair_share().await.unwrap();
    let shares: Vec<(&str, u64)> = shares.items.iter().map(|row| (row.group.as_str(), row.share)).collect();
    assert_eq!(shares, [("lab", 500_000), ("vision", 500_000), ("rivals", 500_000)]);
}

#[tokio::test]
async fn an_owner_manages_what_is_below_and_sees_nothing_else() {
    let world = World::start().await;
    world.user("own", Role::GroupOwner, "lab").await;
    let own = world.client("own");
    let root = world.client("root");
    for group in ["vision", "rivals", "lab"] {
        root.set_limit(&limit(group, "money", Some(5_000_000))).await.unwrap();
    }
    let seen: Vec<String> =
        own.groups().await.unwrap().items.iter().map(|group| group.name.to_string()).collect();
    assert_eq!(seen, ["lab", "vision"]);
    assert!(own.limits().await.unwrap().items.iter().all(|limit| limit.group.as_str() != "rivals"));
    own.set_limit(&limit("vision", "money", Some(1_000_000))).await.unwrap();
    let within = refused(own.transfer(&transfer("lab", "vision", 2_000_000)).await);
    assert!(within.message.contains("counts in both"), "{}", within.message);
    let below = |name: &str, parent: Option<&str>| GroupRequest {
        name: name.parse().unwrap(),
        parent: parent.map(|parent| parent.parse().unwrap()),
        weight: None,
        priority: None,
        budget: None,
        currency: None,
    };
    own.create_group(&below("deep", Some("lab"))).await.unwrap();
    own.set_limit(&limit("deep", "money", Some(1_000_000))).await.unwrap();
    own.transfer(&transfer("vision", "deep", 500_000)).await.unwrap();
    own.remove_group(&"deep".parse().unwrap()).await.unwrap();
    let forbidden = |answer: spillway_api::ApiError| assert_eq!(answer.code, ErrorCode::Forbidden);
    forbidden(refused(own.set_limit(&limit("lab", "money", Some(9_000_000))).await));
    forbidden(refused(own.set_limit(&limit("rivals", "money", Some(1))).await));
    forbidden(refused(own.transfer(&transfer("rivals", "vision", 1)).await));
    forbidden(refused(own.create_group(&below("free", None)).await));
    forbidden(refused(own.create_group(&below("spy", Some("rivals"))).await));
    forbidden(refused(own.set_budget(&"lab".parse().unwrap(), None).await));
    let out = GroupChange { top: true, ..GroupChange::default() };
    forbidden(refused(own.change_group(&"vision".parse().unwrap(), &out).await));
    let away = GroupChange { parent: Some("rivals".parse().unwrap()), ..GroupChange::default() };
    forbidden(refused(own.change_group(&"vision".parse().unwrap(), &away).await));
    forbidden(refused(world.client("ada").set_limit(&limit("vision", "money", Some(1))).await));
}
