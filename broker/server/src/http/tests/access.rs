//! Access policies at the API: what they deny is said with the policy's id.

use std::sync::Arc;

use spillway_access::AccessRules;
use spillway_api::ErrorCode;
use spillway_api::v1::CandidateView;
use spillway_core::Command;
use spillway_core::entity::Site;
use spillway_policies::CloudOffer;
use spillway_types::{DataMap, Dataset, DurationMs, HourlyRate, OfferTerms, SiteKind};

use super::world::{World, inventory, job, refused, submit};

const RULES: &str = r#"
    @id("everybody") permit (principal, action, resource);
    @id("residency-kr") forbid (principal, action, resource) when { context.inputs.hasTag("patient") }
        unless { resource has jurisdiction && context.inputs.getTag("patient") == [resource.jurisdiction] };
    @id("ada-not-for-batch") forbid (principal == User::"ada", action, resource)
        when { context has class && context.class == "batch" };
"#;

/// A world whose only data centre is in no jurisdiction, with a cloud in Korea and patients' data from there.
async fn hospital() -> World {
    let world = World::start().await;
    let rules = AccessRules::from_sources(&[("rules.cedar", RULES)]).unwrap();
    world.engine.set_gate(crate::access::gate(&Arc::new(rules))).await;
    let mut data = DataMap::default();
    let labels = ["patient".to_owned()].into();
    let scans = Dataset { labels, jurisdiction: Some("KR".to_owned()), ..Dataset::default() };
    data.datasets.insert("scans".parse().unwrap(), scans);
    world.engine.set_data(data).await;
    let site = Site {
        name: "seoul-1".parse().unwrap(),
        kind: SiteKind::Cloud,
        jurisdiction: Some("KR".to_owned()),
        cloud: Some("sky".parse().unwrap()),
    };
    world.engine.command(Command::DeclareSite(site)).await.unwrap();
    world
}

async fn open_the_cloud(world: &World) {
    let offer = CloudOffer {
        cloud: "sky".parse().unwrap(),
        site: "seoul-1".parse().unwrap(),
        jurisdiction: Some("KR".to_owned()),
        instance_type: "a4".parse().unwrap(),
        capacity: inventory("x", "A100", 4).capacity,
        price: HourlyRate(8_000_000),
        boot: DurationMs::from_secs(60),
        available: 2,
        terms: OfferTerms::default(),
    };
    world.engine.set_offers(vec![offer]).await;
}

#[track_caller]
fn check_denied_at_home(candidates: &[CandidateView]) {
    let home = candidates.iter().find(|seen| seen.site.as_str() == "dc").unwrap();
    let said = (home.verdict.as_str(), home.detail.as_str());
    assert_eq!(said, ("NotAllowed", "denied by the access policy `residency-kr`"));
}

#[tokio::test]
async fn what_every_place_denies_is_refused_at_submission() {
    let world = hospital().await;
    let ada = world.client("ada");
    let medical = "{run: x, resources: {gpus: A100:1}, inputs: [scans]}";
    let error = refused(ada.submit(&job(medical), "a").await);
    assert_eq!(error.code, ErrorCode::Unsatisfiable);
    assert!(error.message.contains("`residency-kr`"), "{}", error.message);
    let plain = refused(ada.submit(&job("{run: x, class: batch}"), "b").await);
    assert!(plain.message.contains("denied by the access policy `ada-not-for-batch`"), "{}", plain.message);
    submit(&world.client("root"), "{run: x, class: batch}", "c").await;
    check_denied_at_home(&ada.plan(&job(medical)).await.unwrap().explanation.candidates);
}

#[tokio::test]
async fn plans_and_explanations_name_the_policy() {
    let world = hospital().await;
    open_the_cloud(&world).await;
    let ada = world.client("ada");
    let medical = "{run: x, resources: {gpus: A100:4}, inputs: [scans]}";
    let planned = ada.plan(&job(medical)).await.unwrap().explanation;
    check_denied_at_home(&planned.candidates);
    assert_eq!(planned.candidates[0].verdict, "Chosen");
    let batch = ada.plan(&job("{run: x, class: batch}")).await.unwrap().explanation;
    assert!(batch.candidates.iter().all(|seen| seen.detail.contains("`ada-not-for-batch`")), "{batch:?}");
    // Two instances are to be had, so one of three jobs waits.
    let mut ids = vec![];
    for key in ["a", "b", "c"] {
        ids.push(submit(&ada, medical, key).await.id);
    }
    world.place().await;
    let mut waiting = vec![];
    for id in ids {
        let seen = ada.job(id).await.unwrap();
        assert!(seen.attempts.iter().all(|attempt| attempt.site.as_str() == "seoul-1"), "{seen:?}");
        waiting.extend(seen.explanation.filter(|_| seen.attempts.is_empty()));
    }
    let [why] = waiting.as_slice() else { panic!("{waiting:?}") };
    check_denied_at_home(&why.candidates);
}
