//! The local cloud with real processes: the conformance suite, and what only this provider promises.

#[cfg(test)]
mod support;

use spillway_connector_api::conformance::{Harness, Outcome, check_all};
use spillway_connector_api::{Connector, ConnectorError, LaunchError, ObservedState};
use spillway_connector_local::{FaultKind, LocalCloud, LocalConfig};
use spillway_types::DurationMs;
use support::{
    OURS, World, kill, processes, processes_like, shown, wait_for, wait_for_agent, wait_for_no_process,
    wait_for_state,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_local_cloud_passes_the_conformance_suite() {
    let outcomes = check_all(async || World::new()).await.unwrap();
    assert!(outcomes.iter().all(|(_, outcome)| *outcome == Outcome::Passed), "{outcomes:?}");
}

#[tokio::test]
async fn an_instance_boots_runs_its_agent_and_powers_off_with_it() {
    let world = World::new();
    let cloud = world.cloud();
    world.fault(Some("east"), FaultKind::SlowBoot { extra: DurationMs(700) }, 1);
    let id = cloud.launch(&world.request()).await.unwrap().provider_id;
    assert_eq!(shown(&cloud, &id).await.state, ObservedState::Pending);
    wait_for_state(&cloud, &id, ObservedState::Running).await;
    wait_for_agent(&id).await;

    let machine = world.state_dir().canonicalize().unwrap().join("machines").join(&id);
    let read = |name: &str| std::fs::read_to_string(machine.join(name)).unwrap();
    let expected = format!(
        "--broker 127.0.0.1:4433 --ca-fingerprint abcdef --state {0}/agent --inventory {0}/inventory.toml",
        machine.display()
    );
    assert_eq!(read("args").trim().replace('\n', " "), expected);
    assert!(read("inventory.toml").contains(&format!("hostname = \"{id}\"")));
    let environment = read("env");
    assert!(environment.contains("SPILLWAY_JOIN_TOKEN=canary-token"), "{environment}");
    assert!(!environment.contains("CARGO_MANIFEST_DIR"), "the broker's environment leaks: {environment}");
    let leader = processes_like(&id, "spillway-local-machine");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", leader[0])).unwrap();
    let session = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(3).unwrap();
    assert_eq!(session, leader[0].to_string(), "the machine must have a session of its own");

    std::fs::write(machine.join("revoke"), "").unwrap();
    wait_for_state(&cloud, &id, ObservedState::Gone).await;
    assert!(read("record.json").contains("its agent ended with code 3"));
    assert!(!read("record.json").contains("canary-token"));
    wait_for_no_process(&id).await;
    world.clean_up().await;
}

#[tokio::test]
async fn terminate_ends_everything_at_any_moment() {
    let world = World::new();
    let cloud = world.cloud();
    world.fault(None, FaultKind::SlowBoot { extra: DurationMs::from_secs(600) }, 1);
    let booting = world.request();
    let running = world.request();
    let booting = (cloud.launch(&booting).await.unwrap().provider_id, booting.region);
    let running = (cloud.launch(&running).await.unwrap().provider_id, running.region);
    wait_for_agent(&running.0).await;
    for (id, region) in [booting, running] {
        assert!(!processes(&id).is_empty());
        cloud.terminate(&region, &id).await.unwrap();
        assert!(processes(&id).is_empty(), "{:?}", processes(&id));
        assert_eq!(shown(&cloud, &id).await.state, ObservedState::Gone);
    }
    world.clean_up().await;
}

/// `true` as the machine stands for a broker that died after the record and before the start.
#[tokio::test]
async fn an_instance_whose_machine_never_started_is_completed_or_ended() {
    let world = World::new();
    let config = LocalConfig { machine_command: vec!["true".into()], ..world.config(OURS) };
    let crashed = LocalCloud::open(config).unwrap();
    let (completed, ended) = (world.request(), world.request());
    let id = crashed.launch(&completed).await.unwrap().provider_id;
    let other = crashed.launch(&ended).await.unwrap().provider_id;

    let cloud = world.cloud();
    assert_eq!(shown(&cloud, &id).await.state, ObservedState::Pending);
    assert_eq!(cloud.launch(&completed).await.unwrap().provider_id, id);
    wait_for_agent(&id).await;
    cloud.terminate(&ended.region, &other).await.unwrap();
    assert_eq!(shown(&cloud, &other).await.state, ObservedState::Gone);
    assert_eq!(cloud.launch(&ended).await, Err(LaunchError::AlreadyEnded));
    world.clean_up().await;
}

#[tokio::test]
async fn a_machine_that_cannot_be_started_is_a_definite_no_and_leaves_nothing() {
    let world = World::new();
    let config = LocalConfig { machine_command: vec!["/no/such/machine".into()], ..world.config(OURS) };
    let request = world.request();
    let answer = LocalCloud::open(config).unwrap().launch(&request).await.unwrap_err();
    assert!(answer.is_definite() && answer.to_string().contains("/no/such/machine"), "{answer}");
    let cloud = world.cloud();
    assert_eq!(cloud.list().await.unwrap(), []);
    cloud.launch(&request).await.unwrap();
    world.clean_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_at_once_get_one_machine() {
    let world = World::new();
    let request = world.request();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (cloud, request) = (world.cloud(), request.clone());
        calls.spawn(async move { cloud.launch(&request).await.unwrap().provider_id });
    }
    let ids = calls.join_all().await;
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    wait_for_agent(&ids[0]).await;
    // A fork that has not called exec yet looks like its parent; a second machine or agent would stay.
    for program in ["spillway-local-machine", "agent.sh"] {
        wait_for(program, async || {
            let found = processes_like(&ids[0], program);
            if found.len() == 1 { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    }
    world.clean_up().await;
}

#[tokio::test]
async fn limits_hold_for_each_region_and_type() {
    let world = World::new();
    let cloud = world.cloud();
    let available = async || {
        let catalogue = cloud.catalogue().await.unwrap();
        catalogue.regions.iter().map(|region| region.offers[0].available.unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(available().await, [4, 1]);
    let request = world.small_request();
    let launched = cloud.launch(&request).await.unwrap();
    assert_eq!(available().await, [4, 0]);
    assert_eq!(cloud.launch(&world.small_request()).await, Err(LaunchError::NoCapacity));
    assert_eq!(cloud.launch(&request).await, Ok(launched.clone()), "a resend needs no room");
    cloud.terminate(&request.region, &launched.provider_id).await.unwrap();
    assert_eq!(available().await, [4, 1]);
    world.clean_up().await;
}

#[tokio::test]
async fn an_interruption_is_announced_and_then_comes_true() {
    let world = World::new();
    let cloud = world.cloud();
    world.fault(Some("west"), FaultKind::Interrupt { after: DurationMs(400) }, 1);
    let [other, taken] = [world.request(), world.small_request()];
    let other = cloud.launch(&other).await.unwrap().provider_id;
    let taken = cloud.launch(&taken).await.unwrap().provider_id;
    let left = wait_for("the notice", async || {
        let seen = shown(&cloud, &taken).await;
        seen.interruption.ok_or_else(|| format!("{seen:?}"))
    })
    .await;
    assert!(left <= DurationMs(400), "{left}");
    wait_for_state(&cloud, &taken, ObservedState::Gone).await;
    let record = std::fs::read_to_string(world.machine_file(&taken, "record.json")).unwrap();
    assert!(record.contains("taken back"), "{record}");
    wait_for_state(&cloud, &other, ObservedState::Running).await;
    assert_eq!(shown(&cloud, &other).await.interruption, None);
    world.clean_up().await;
}

#[tokio::test]
async fn a_refusal_is_shown_as_often_as_it_was_injected() {
    let world = World::new();
    let cloud = world.cloud();
    world.fault(None, FaultKind::Refuse, 2);
    let request = world.request();
    for _ in 0..2 {
        let answer = cloud.launch(&request).await;
        assert!(matches!(answer, Err(LaunchError::Refused { .. })), "{answer:?}");
        assert_eq!(cloud.list().await.unwrap(), []);
    }
    cloud.launch(&request).await.unwrap();
    std::fs::write(world.state_dir().join("faults.toml"), "[[faults]]\nkind = \"fire\"").unwrap();
    let error = cloud.list().await.unwrap_err().to_string();
    assert!(error.contains("`fire` is not a kind of fault"), "{error}");
    std::fs::remove_file(world.state_dir().join("faults.toml")).unwrap();
    world.clean_up().await;
}

#[tokio::test]
async fn an_instance_without_its_machine_is_listed_until_nothing_of_it_is_left() {
    let world = World::new();
    let cloud = world.cloud();
    let [broken, lost] = [world.request(), world.request()];
    let broken_id = cloud.launch(&broken).await.unwrap().provider_id;
    let lost_id = cloud.launch(&lost).await.unwrap().provider_id;
    for id in [&broken_id, &lost_id] {
        wait_for_agent(id).await;
        kill(processes_like(id, "spillway-local-machine")[0]);
    }
    assert_eq!(shown(&cloud, &broken_id).await.state, ObservedState::Running);
    assert_eq!(cloud.launch(&broken).await.unwrap().provider_id, broken_id);
    cloud.terminate(&broken.region, &broken_id).await.unwrap();
    assert!(processes(&broken_id).is_empty());

    wait_for("everything to be killed", async || {
        let left = processes(&lost_id);
        left.iter().copied().for_each(kill);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    wait_for_state(&cloud, &lost_id, ObservedState::Gone).await;
    assert_eq!(cloud.launch(&lost).await, Err(LaunchError::AlreadyEnded));
    world.clean_up().await;
}

#[tokio::test]
async fn a_killed_agent_is_started_again_until_the_dead_man_time() {
    let world = World::new();
    let cloud = world.cloud();
    let id = cloud.launch(&world.request()).await.unwrap().provider_id;
    wait_for_agent(&id).await;
    let first = processes_like(&id, "agent.sh");
    kill(first[0]);
    wait_for("another agent", async || {
        let agents = processes_like(&id, "agent.sh");
        if agents.is_empty() || agents == first { Err(format!("{agents:?}")) } else { Ok(()) }
    })
    .await;

    let config = LocalConfig { dead_man: DurationMs(0), ..world.config(OURS) };
    let strict = LocalCloud::open(config).unwrap();
    let id = strict.launch(&world.request()).await.unwrap().provider_id;
    wait_for_agent(&id).await;
    kill(processes_like(&id, "agent.sh")[0]);
    wait_for_state(&cloud, &id, ObservedState::Gone).await;
    let record = std::fs::read_to_string(world.machine_file(&id, "record.json")).unwrap();
    assert!(record.contains("killed again and again, at last with signal 9"), "{record}");
    world.clean_up().await;
}

#[tokio::test]
async fn machines_power_off_when_their_cloud_is_removed() {
    let world = World::new();
    let id = world.cloud().launch(&world.request()).await.unwrap().provider_id;
    wait_for_agent(&id).await;
    wait_for("the folder to be removed beside its writers", async || {
        std::fs::remove_dir_all(world.state_dir()).map_err(|error| error.to_string())
    })
    .await;
    wait_for_no_process(&id).await;
}

#[tokio::test]
async fn wrong_orders_are_refused_and_touch_nothing() {
    let world = World::new();
    let cloud = world.cloud();
    let request = world.request();
    let id = cloud.launch(&request).await.unwrap().provider_id;
    let wrong = cloud.terminate(&"west".parse().unwrap(), &id).await;
    assert!(
        matches!(&wrong, Err(ConnectorError::Refused { message }) if message.contains("east")),
        "{wrong:?}"
    );
    for odd in ["", "..", "../machines", "i 1", "i-1/"] {
        assert_eq!(cloud.terminate(&request.region, odd).await, Ok(()), "{odd}");
    }
    let mut absent = world.request();
    absent.instance_type = "huge".parse().unwrap();
    let answer = cloud.launch(&absent).await.unwrap_err().to_string();
    assert!(answer.contains("there is no `huge` in `east`"), "{answer}");
    assert_eq!(cloud.list().await.unwrap().len(), 1);
    for wrong in [vec![], vec!["./agent".to_owned()]] {
        let error = LocalCloud::open(LocalConfig { agent_command: wrong, ..world.config(OURS) }).unwrap_err();
        assert!(error.to_string().contains("`agent_command`"), "{error}");
    }
    world.clean_up().await;
}
