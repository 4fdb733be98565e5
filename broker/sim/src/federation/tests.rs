//! The example, the short form, and what is refused.

use super::*;

const EXAMPLE: &str = include_str!("../../examples/federation.toml");

#[test]
fn the_example_is_read_whole() {
    let description = from_toml(EXAMPLE).unwrap();
    assert_eq!((description.sites.len(), description.pools.len(), description.groups.len()), (2, 2, 2));
    assert_eq!((description.nodes.len(), gpus(&description)), (4, 32));
    let offer = description.offers.first().unwrap();
    assert_eq!((offer.price, offer.boot), (HourlyRate(55_040_000), DurationMs::from_secs(240)));
    assert_eq!(description.offers.iter().map(|offer| offer.available).collect::<Vec<_>>(), [20, u32::MAX]);
    assert_eq!(description.limits.warm, DurationMs::from_secs(300));
    assert_eq!(description.groups.first().and_then(|group| group.budget_micros), Some(50_000_000_000));
    // The federation itself takes it.
    crate::Simulation::new(1, description, vec![]).unwrap();
}

#[test]
fn the_short_form_prices_every_size_alike() {
    let description = uniform(4, 8).unwrap();
    assert_eq!(gpus(&description), 32);
    for offer in &description.offers {
        let gpus = i64::try_from(offer.capacity.accelerators.len()).unwrap();
        assert_eq!(offer.price, HourlyRate(gpus * GPU_HOUR_MICROS));
        assert_eq!((offer.boot, offer.available), (DurationMs(0), u32::MAX));
    }
    crate::Simulation::new(1, description, vec![]).unwrap();
    for (nodes, gpus, named) in [
        (0, 8, "nodes: 0 is not from 1 to 62500"),
        (62_501, 8, "nodes: 62501"),
        (1, 0, "gpus-per-node: 0"),
        (1, 73, "gpus-per-node: 73 is not from 1 to 72"),
    ] {
        let error = uniform(nodes, gpus).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn wrong_files_are_refused_at_their_place() {
    for (find, replace, place, named) in [
        ("warm = \"5m\"", "warms = \"5m\"", "warms", "unknown field"),
        ("warm = \"5m\"", "warm = \"soon\"", "warm", "soon"),
        ("count = 4", "count = 0", "sites[0].pools[0].nodes[0].count", "0 is not from 1"),
        ("count = 4", "count = 62501", "sites[0].pools[0].nodes[0].count", "62500 nodes in all"),
        ("count = 4", "count = -4", "sites[0].pools[0].nodes[0].count", "-4"),
        ("gpus = 8", "gpus = 73", "sites[0].pools[0].nodes[0].gpus", "73 is over 72"),
        ("gpus = 8", "gpu = 8", "sites[0].pools[0].nodes[0].gpu", "unknown field"),
        ("gpu_memory = \"80GB\"", "gpu_memory = \"lots\"", "sites[0].pools[0].nodes[0].gpu_memory", "lots"),
        ("cpus = 112", "cpus = 100001", "sites[0].pools[0].nodes[0].cpus", "100001"),
        ("per_gpu = \"0.62\"", "per_gpu = \"cheap\"", "sites[0].pools[0].per_gpu", "cheap"),
        ("per_gpu = \"0.62\"", "per_gpu = \"-1\"", "sites[0].pools[0].per_gpu", "-1"),
        ("kind = \"on-prem\"", "kind = \"cloud\"", "sites[0].kind", "[[clouds]]"),
        ("kind = \"on-prem\"", "kind = \"moon\"", "sites[0].kind", "moon"),
        ("name = \"seoul\"", "name = \"Seoul\"", "sites[0].name", "Seoul"),
        ("site = \"us-east-1\"", "site = \"seoul\"", "clouds[0].site", "seoul"),
        ("price = \"55.04\"", "price = \"free\"", "clouds[0].offers[0].price", "free"),
        ("boot = \"4m\"", "boot = \"quick\"", "clouds[0].offers[0].boot", "quick"),
        ("parent = \"lab\"", "parent = \"lob\"", "groups[1].parent", "lob"),
        ("name = \"vision\"", "name = \"lab\"", "groups[1].name", "twice"),
        ("weight = 2", "weight = 0", "groups[1].weight", "at least 1"),
        ("budget = \"50000\"", "budget = \"much\"", "groups[0].budget", "much"),
    ] {
        assert!(EXAMPLE.contains(find), "{find}");
        let error = from_toml(&EXAMPLE.replacen(find, replace, 1)).expect_err(replace);
        assert!(error.path.contains(place) && error.to_string().contains(named), "{replace}: {error}");
    }
    assert!(from_toml("").unwrap_err().to_string().contains("[[sites]]"));
    assert!(from_toml("[[sites]\n").unwrap_err().to_string().contains("line 1"));
    let without = from_toml("[[clouds]]\nname = \"a\"\nsite = \"b\"\n").unwrap_err();
    assert!(without.to_string().contains("clouds[0].offers"), "{without}");
}

#[test]
fn groups_of_a_trace_are_admitted_and_wide_jobs_found() {
    let mut description = uniform(2, 4).unwrap();
    let mut jobs = crate::generate::poisson(1, 20, crate::generate::Arrivals::synthetic(1.0, 8));
    assert_eq!(admit_groups(&mut description, &jobs), 4);
    assert_eq!(admit_groups(&mut description, &jobs), 0);
    assert_eq!(too_wide(&description, &jobs), None);
    jobs[3].gpus = 9;
    assert_eq!(too_wide(&description, &jobs), None);
    description.offers.clear();
    assert_eq!(too_wide(&description, &jobs).map(|job| job.gpus), Some(9));
}
