//! The example, the short form, and what is refused.

use spillway_types::{Market, OfferTerms};

use super::*;
use crate::{Failing, Fault, OfferNews, OfferStep};

const EXAMPLE: &str = include_str!("../../examples/federation.toml");

#[test]
fn the_example_is_read_whole() {
    let description = from_toml(EXAMPLE).unwrap();
    assert_eq!((description.sites.len(), description.pools.len(), description.groups.len()), (2, 2, 2));
    assert_eq!((description.nodes.len(), gpus(&description)), (4, 32));
    let offer = description.offers.first().unwrap();
    assert_eq!((offer.price, offer.boot), (HourlyRate(55_040_000), DurationMs::from_secs(240)));
    let available: Vec<u32> = description.offers.iter().map(|offer| offer.available).collect();
    assert_eq!(available, [20, u32::MAX, u32::MAX]);
    let terms = description.offers.iter().map(|offer| offer.terms).collect::<Vec<_>>();
    let (hour, minute) = (DurationMs::from_secs(3600), DurationMs::from_secs(60));
    let spot = OfferTerms {
        market: Market::Spot,
        mean_life: Some(DurationMs(6 * hour.0)),
        minimum: minute,
        ..OfferTerms::default()
    };
    assert_eq!(terms, [OfferTerms::default(), OfferTerms::default(), spot]);
    let at = |hours: u64| DurationMs(hours * hour.0);
    let step = |hours, news| OfferStep { at: at(hours), offer: 2, news };
    assert_eq!(
        description.outside.steps,
        [
            step(24, OfferNews::Price(HourlyRate(24_000_000))),
            step(0, OfferNews::Available(4)),
            step(48, OfferNews::Available(1))
        ]
    );
    let fault = |hours, lasts, what| Fault { at: at(hours), lasts, what };
    let cut = Failing::Site("us-east-1".parse().unwrap());
    let lost = fault(36, at(2), Failing::Node(2));
    assert_eq!(description.outside.faults, [lost, fault(50, DurationMs(30 * minute.0), cut)]);
    assert_eq!(description.nodes[2].1.hostname, "dgx-2");
    assert_eq!((description.data.datasets.len(), description.data.links.len()), (1, 1));
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
        ("market = \"spot\"", "market = \"sport\"", "clouds[0].offers[2].market", "sport"),
        (
            "market = \"spot\"",
            "",
            "clouds[0].offers[2].mean_life",
            "`6h` is for machines that may be taken back",
        ),
        ("mean_life = \"6h\"", "mean_life = \"0h\"", "clouds[0].offers[2].mean_life", "`0h` is no life"),
        ("mean_life = \"6h\"", "mean_life = \"long\"", "clouds[0].offers[2].mean_life", "long"),
        ("minimum = \"1m\"", "minimum = \"-1m\"", "clouds[0].offers[2].minimum", "-1m"),
        (
            "from = \"48h\"",
            "from = \"0h\"",
            "clouds[0].offers[2].availability[1].from",
            "`0s` does not come after `0s`",
        ),
        ("from = \"48h\"", "from = \"late\"", "clouds[0].offers[2].availability[1].from", "late"),
        ("from = \"48h\"", "form = \"48h\"", "clouds[0].offers[2].availability[1].form", "unknown field"),
        ("available = 1\n", "available = -1\n", "clouds[0].offers[2].availability[1].available", "-1"),
        ("minimum = \"1m\"", "availability = 7", "the file", "duplicate key"),
        ("at = \"24h\"", "at = \"soon\"", "clouds[0].offers[2].prices[0].at", "soon"),
        ("price = \"24.00\"", "price = \"more\"", "clouds[0].offers[2].prices[0].price", "more"),
        ("size = \"150GB\"", "size = \"big\"", "datasets[0].size", "`big` is not a size"),
        ("at = [\"seoul\"]", "at = [\"busan\"]", "datasets[0].at", "`busan` is not a site here"),
        ("to = \"us-east-1\"", "to = \"moon\"", "links[0].to", "`moon`"),
        ("bandwidth = \"10Gbit/s\"", "bandwidth = \"fast\"", "links[0].bandwidth", "`fast`"),
        ("at = \"36h\"", "at = \"noon\"", "faults[0].at", "noon"),
        ("for = \"2h\"", "for = \"0h\"", "faults[0].for", "`0h` is no time at all"),
        ("for = \"2h\"", "", "faults[0]", "missing field `for`"),
        ("node = \"dgx-2\"", "node = \"dgx-9\"", "faults[0].node", "they are called dgx-0 to dgx-3"),
        ("node = \"dgx-2\"", "node = \"dgx-2\"\ncut = \"dgx\"", "faults[0]", "one of `node` and `cut`"),
        ("node = \"dgx-2\"", "", "faults[0]", "says not what fails"),
        ("cut = \"us-east-1\"", "cut = \"us-west-1\"", "faults[1].cut", "there are dgx, seoul, us-east-1"),
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

#[test]
fn availability_may_be_a_file_of_its_own() {
    let (steps, rest) = EXAMPLE.split_once("[[clouds.offers.availability]]").unwrap();
    let (_, rest) = rest.split_once("# Launches from then on").unwrap();
    let text = format!("{}\n# {rest}", steps.replace("# availability =", "availability ="));
    let files = |name: &str| match name {
        "spot-east.csv" => Ok("from_hr,available\n0,2\n1.5,0\n".to_owned()),
        _ => Err("there is no such file".to_owned()),
    };
    let description = from_toml_and(&text, &files).unwrap();
    let half_past_one = DurationMs::from_secs(5400);
    let step = |at, available| OfferStep { at, offer: 2, news: OfferNews::Available(available) };
    assert_eq!(description.outside.steps[1..], [step(DurationMs(0), 2), step(half_past_one, 0)]);
    let path = "clouds[0].offers[2].availability: `spot-east.csv`";
    for (error, says) in [
        (from_toml(&text), "not read here"),
        (from_toml_and(&text, &|_| Err("there is no such file".to_owned())), "no such file"),
        (from_toml_and(&text, &|_| Ok("from_hr,available\n0,x\n".to_owned())), "line 2, available: `x`"),
    ] {
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with(path) && error.contains(says), "{error}");
    }
}
