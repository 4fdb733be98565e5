//! Groups, users, tokens, budgets and spend.

use spillway_api::ErrorCode;
use spillway_api::v1::{GroupRequest, JoinTokenRequest, SpendQuery, TokenRequest, UserRequest};
use spillway_types::{Currency, DurationMs, Money, Role};

use super::world::{World, job, refused, submit};

fn group(name: &str, parent: Option<&str>) -> GroupRequest {
    let parent = parent.map(|parent| parent.parse().unwrap());
    GroupRequest {
        name: name.parse().unwrap(),
        parent,
        weight: None,
        priority: None,
        budget: None,
        currency: None,
    }
}

#[tokio::test]
async fn an_admin_makes_a_group_a_user_and_a_token_that_works() {
    let world = World::start().await;
    let root = world.client("root");
    let made = root.create_group(&group("audio", Some("lab"))).await.unwrap();
    assert_eq!((made.parent.unwrap().as_str(), made.weight, made.budget), ("lab", 1, None));
    assert_eq!(refused(root.create_group(&group("audio", None)).await).code, ErrorCode::Conflict);
    assert!(refused(root.create_group(&group("x", Some("nobody"))).await).message.contains("`nobody`"));
    let user =
        UserRequest { name: "bob".parse().unwrap(), group: "audio".parse().unwrap(), role: Role::Member };
    root.create_user(&user).await.unwrap();
    assert_eq!(refused(root.create_user(&user).await).code, ErrorCode::Conflict);
    let token = root.create_token(&user.name, &TokenRequest::default()).await.unwrap();
    let bob = world.with_token(Some(token.token.expose()));
    assert_eq!(submit(&bob, "run: x", "k").await.group.as_str(), "audio");
    let stored = world.engine.read(|view| format!("{:?}", view.federation.state().tokens)).await.unwrap();
    assert!(!stored.contains(token.token.expose()), "only the hash is kept");
    let ends = TokenRequest { ttl: Some(DurationMs::from_secs(1)) };
    assert_eq!(refused(root.create_token(&user.name, &ends).await).field.as_deref(), Some("ttl"));
    let nobody = "nobody".parse().unwrap();
    assert_eq!(refused(root.create_token(&nobody, &TokenRequest::default()).await).code, ErrorCode::NotFound);
}

#[tokio::test]
async fn members_see_their_own_subtree() {
    let world = World::start().await;
    let names = async |user: &str| -> Vec<String> {
        let groups = world.client(user).groups().await.unwrap();
        groups.items.iter().map(|group| group.name.to_string()).collect()
    };
    assert_eq!(names("ada").await, ["lab", "vision"]);
    assert_eq!(names("eve").await, ["rivals"]);
    assert_eq!(names("root").await, ["lab", "rivals", "vision"]);
    let users = world.client("ada").users().await.unwrap();
    assert_eq!(users.items.iter().map(|user| user.name.as_str()).collect::<Vec<_>>(), ["ada", "root"]);
}

#[tokio::test]
async fn a_budget_is_set_and_taken_away() {
    let world = World::start().await;
    let root = world.client("root");
    let rivals = "rivals".parse().unwrap();
    let set = root.set_budget(&rivals, Some("10.00".parse().unwrap())).await.unwrap();
    assert_eq!(
        (set.budget, set.left),
        (Some(Money::usd_micros(10_000_000)), Some(Money::usd_micros(10_000_000)))
    );
    assert!(world.client("eve").submit(&job("{run: x, resources: {gpus: 1}}"), "k").await.is_ok());
    assert_eq!(root.set_budget(&rivals, None).await.unwrap().left, None);
    let euros = Money { micros: 1, currency: "EUR".parse::<Currency>().unwrap() };
    assert_eq!(
        refused(root.set_budget(&rivals, Some(euros)).await).field.as_deref(),
        Some("budget.currency")
    );
    assert_eq!(
        refused(root.set_budget(&rivals, Some(Money::usd_micros(-1))).await).field.as_deref(),
        Some("budget")
    );
    assert_eq!(refused(root.set_budget(&"none".parse().unwrap(), None).await).code, ErrorCode::NotFound);
}

#[tokio::test]
async fn a_join_line_is_complete_and_its_token_is_stored_as_a_hash() {
    let world = World::start().await;
    let root = world.client("root");
    let line = root.create_join_token(&JoinTokenRequest::default()).await.unwrap();
    let token = line.token.expose();
    let (broker, ca) = (&world.app.broker_addr, &world.app.ca_fingerprint);
    let command =
        format!("SPILLWAY_JOIN_TOKEN={token} spillway agent --broker {broker} --ca-fingerprint {ca}");
    assert_eq!(line.command.expose(), command);
    let hash = crate::secrets::hash(token);
    let known =
        world.engine.read(move |view| view.federation.state().join_tokens.get(&hash).cloned()).await.unwrap();
    let known = known.expect("it is known");
    assert_eq!((known.id, known.expires, known.scope.pool.as_str()), (line.id, line.expires, "dgx"));
    let elsewhere = JoinTokenRequest { site: Some("mars".parse().unwrap()), ..JoinTokenRequest::default() };
    assert_eq!(refused(root.create_join_token(&elsewhere).await).field.as_deref(), Some("site"));
    let pool = JoinTokenRequest { pool: Some("none".parse().unwrap()), ..JoinTokenRequest::default() };
    assert_eq!(refused(root.create_join_token(&pool).await).hint.as_deref(), Some("pools: dgx"));
    let long = JoinTokenRequest { ttl: Some(DurationMs::from_secs(86_401)), ..JoinTokenRequest::default() };
    assert_eq!(refused(root.create_join_token(&long).await).code, ErrorCode::Invalid);
}

#[tokio::test]
async fn spend_sums_to_what_the_ledger_says() {
    let mut world = World::start().await;
    let (ada, root) = (world.client("ada"), world.client("root"));
    for (group, key) in [("lab", "a"), ("vision", "b")] {
        let text = format!("{{run: x, group: {group}, resources: {{gpus: 2}}}}");
        submit(&ada, &text, key).await;
    }
    world.place().await;
    let attempts = world.attempts().await;
    assert_eq!(attempts.len(), 2);
    for attempt in attempts {
        world.run_to_end(attempt, 0).await;
    }
    // Each had two GPUs at 2.00 an hour for a second.
    let each = 4_000_000 / 3600;
    for by in ["", "group", "site", "kind", "provider", "month", "user", "job", "kind,group,user"] {
        let query = SpendQuery { by: Some(by.to_owned()), ..SpendQuery::default() };
        for client in [&ada, &root] {
            let report = client.spend(&query).await.unwrap();
            assert_eq!(
                (report.total.micros, report.ledger_total, report.imbalance_micros),
                (2 * each, Some(report.total), 0),
                "{by}"
            );
            assert_eq!(
                report.rows.iter().map(|row| row.sums.amount.micros).sum::<i64>(),
                report.total.micros,
                "{by}"
            );
            assert_eq!(report.rows.iter().map(|row| row.sums.gpu_ms).sum::<i64>(), 4000, "{by}");
        }
        let foreign = world.client("eve").spend(&query).await.unwrap();
        assert_eq!((foreign.total.micros, foreign.ledger_total.unwrap().micros), (0, 0), "{by}");
        // A group's own budget is shown to it also where nothing was spent.
        let groups: Vec<_> = foreign.rows.iter().filter_map(|row| row.keys.get("group")).collect();
        assert_eq!(groups, if ["", "group"].contains(&by) { vec!["rivals"] } else { vec![] });
        assert_eq!(foreign.rows.len(), groups.len(), "{by}");
    }
    let by = |by: &str| SpendQuery { by: Some(by.to_owned()), ..SpendQuery::default() };
    let rows = root.spend(&by("kind,provider")).await.unwrap().rows;
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].keys["kind"].as_str(), rows[0].keys["provider"].as_str()), ("on-prem", "on-prem"));
    assert_eq!(root.spend(&by("group")).await.unwrap().rows.len(), 3, "a group with a budget has a row");
    assert_eq!(refused(root.spend(&by("colour")).await).field.as_deref(), Some("by"));
}

#[tokio::test]
async fn what_a_lender_is_owed_is_for_the_lender_and_who_reads_the_books() {
    let mut world = World::start().await;
    let root = world.client("root");
    let lent =
        r#"{"card":{"basis":"flat","per_gpu":{"A100":3600000000},"lending":{"owner":"ada","permille":800}}}"#;
    root.set_rates(&"dgx".parse().unwrap(), &serde_json::from_str(lent).unwrap()).await.unwrap();
    world.user("bob", Role::Member, "lab").await;
    submit(&world.client("bob"), "{run: x, time_limit: 10m, resources: {gpus: 1}}", "k").await;
    world.place().await;
    let attempt = world.attempts().await[0];
    world.run_to_end(attempt, 0).await;
    // A second at a dollar, of which four fifths are the lender's.
    for (caller, expected) in [("ada", Some(800_000)), ("root", Some(800_000)), ("bob", None)] {
        let users = world.client(caller).users().await.unwrap().items;
        let credits = users.into_iter().filter(|user| user.name.as_str() == "ada").map(|user| user.credit);
        let credits: Vec<_> = credits.flatten().map(|credit| credit.micros).collect();
        assert_eq!(credits, expected.into_iter().collect::<Vec<_>>(), "{caller}");
    }
}
