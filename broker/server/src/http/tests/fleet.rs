//! Sites, nodes, clouds, offers and health.

use spillway_api::ErrorCode;
use spillway_api::v1::{BrokerMode, NodeAction, OffersQuery};
use spillway_core::Command;
use spillway_core::entity::{Pool, Site};
use spillway_policies::CloudOffer;
use spillway_types::{
    Accelerator, DurationMs, HourlyRate, NodeCapacity, NodeState, Reason, Role, SiteKind, SiteName, Tariff,
};

use super::world::{World, refused, submit};

#[tokio::test]
async fn nodes_are_shown_and_changed() {
    let mut world = World::start().await;
    let (ada, root) = (world.client("ada"), world.client("root"));
    let nodes = ada.nodes().await.unwrap().items;
    assert_eq!(nodes.len(), 1);
    let node = &nodes[0];
    assert_eq!((node.hostname.as_str(), node.state, node.blocks_free), ("dgx1", NodeState::Ready, 400));
    assert_eq!((node.gpus[0].count, node.gpus[0].model.as_str()), (4, "A100"));
    submit(&ada, "{run: x, resources: {gpus: 3}}", "k").await;
    world.place().await;
    let site = &ada.sites().await.unwrap().items[0];
    assert_eq!((site.nodes_ready, site.blocks, site.blocks_free, site.pools.len()), (1, 400, 100, 1));
    for (action, state) in
        [(NodeAction::Cordon, NodeState::Cordoned), (NodeAction::Uncordon, NodeState::Ready)]
    {
        assert_eq!(root.change_node(world.node, action).await.unwrap().state, state);
    }
    assert_eq!(refused(root.change_node(world.node, NodeAction::Uncordon).await).code, ErrorCode::Conflict);
    root.change_node(world.node, NodeAction::Cordon).await.unwrap();
    assert_eq!(ada.sites().await.unwrap().items[0].blocks_free, 0, "it takes no work");
    assert!(root.change_node(world.node, NodeAction::Revoke).await.is_err(), "something runs there");
    let attempt = world.attempts().await[0];
    world.run_to_end(attempt, 0).await;
    assert_eq!(root.change_node(world.node, NodeAction::Revoke).await.unwrap().state, NodeState::Gone);
    let path = format!("/v1/nodes/{}/drane", world.node);
    let (status, body) = world.raw("POST", &path, "authorization: Bearer token-root\r\n", b"").await;
    assert!(status == 404 && body.contains("did you mean `drain`?"), "{body}");
}

#[tokio::test]
async fn a_pool_of_others_is_not_shown() {
    let world = World::start().await;
    let pool = Pool {
        name: "own".parse().unwrap(),
        site: "dc".parse().unwrap(),
        tariff: Tariff::default(),
        groups: Some(["rivals".parse().unwrap()].into()),
        labels: [].into(),
    };
    world.engine.command(Command::DeclarePool(pool)).await.unwrap();
    let pools = async |user: &str| world.client(user).sites().await.unwrap().items[0].pools.len();
    assert_eq!((pools("ada").await, pools("eve").await, pools("root").await), (1, 2, 2));
}

#[tokio::test]
async fn offers_are_filtered_and_clouds_say_their_problem() {
    let world = World::start().await;
    let ada = world.client("ada");
    let region: SiteName = "sky-1".parse().unwrap();
    let site = Site {
        name: region.clone(),
        kind: SiteKind::Cloud,
        jurisdiction: None,
        cloud: Some("sky".parse().unwrap()),
    };
    world.engine.command(Command::DeclareSite(site)).await.unwrap();
    let offer = |shape: &str, gpus: u32| CloudOffer {
        cloud: "sky".parse().unwrap(),
        site: region.clone(),
        jurisdiction: None,
        instance_type: shape.parse().unwrap(),
        capacity: NodeCapacity {
            accelerators: (0..gpus).map(gpu).collect(),
            cpus_milli: 8000,
            memory_mib: 65_536,
        },
        price: HourlyRate(1_000_000),
        boot: DurationMs::from_secs(60),
        available: 3,
        terms: spillway_types::OfferTerms::default(),
    };
    world.engine.set_offers(vec![offer("small", 1), offer("large", 8)]).await;
    let shapes = async |gpus: Option<&str>| -> Vec<String> {
        let query = OffersQuery { gpus: gpus.map(str::to_owned) };
        let offers = ada.offers(&query).await.unwrap().items;
        offers.iter().map(|offer| offer.instance_type.to_string()).collect()
    };
    assert_eq!(shapes(None).await, ["small", "large"]);
    assert_eq!(shapes(Some("H100:2")).await, ["large"]);
    assert!(shapes(Some("A100")).await.is_empty());
    let wrong = OffersQuery { gpus: Some("H100:none".to_owned()) };
    assert_eq!(refused(ada.offers(&wrong).await).field.as_deref(), Some("gpus"));
    let clouds = ada.clouds().await.unwrap().items;
    assert_eq!(clouds.len(), 1);
    assert_eq!(
        (clouds[0].problem.as_deref(), clouds[0].regions.as_slice()),
        (Some("it is raining"), [region.clone()].as_slice())
    );
}

fn gpu(index: u32) -> Accelerator {
    let model = "H100".parse().unwrap();
    Accelerator { index, uuid: format!("GPU-{index}"), model, memory_mib: 81_920, mig: vec![], domain: None }
}

#[tokio::test]
async fn who_is_told_of_limits_is_for_those_who_read_the_books() {
    let world = World::start().await;
    world.user("fay", Role::FinanceViewer, "lab").await;
    let told = world.client("fay").alerts().await.unwrap().items;
    assert_eq!((told[0].name.as_str(), told[0].channel.as_str(), told[0].waiting), ("finance", "slack", 0));
    let shown = format!("{told:?}");
    assert!(!shown.contains("secret"), "who knows the address can write there: {shown}");
    assert_eq!(refused(world.client("eve").alerts().await).code, ErrorCode::Forbidden);
}

#[tokio::test]
async fn health_is_told_to_anybody_and_recovery_stops_writes() {
    let world = World::start().await;
    let anybody = world.with_token(None);
    let health = anybody.health().await.unwrap();
    assert!(health.is_well());
    assert_eq!(
        (health.mode, health.deployment.as_str(), health.database.as_str()),
        (BrokerMode::Normal, "test", "sqlite")
    );
    let ada = world.client("ada");
    let job = submit(&ada, "run: x", "k").await;
    world.engine.enter_recovery("entry 9 was seen, this is 3".to_owned());
    let health = anybody.health().await.unwrap();
    assert!(!health.is_well() && health.message.unwrap().contains("entry 9 was seen"));
    let error = refused(ada.cancel(job.id).await);
    assert_eq!(error.code, ErrorCode::Recovery);
    assert!(error.message.contains("old copy"), "{}", error.message);
    assert_eq!(ada.job(job.id).await.unwrap().summary.reason, Some(Reason::Recovery), "reading goes on");
}
