//! Another database adds the exported files up to what our own roll-up of the same charges comes to.

use std::collections::BTreeMap;
use std::fs;

use spillway_focus::{Charge, Version};
use spillway_ledger::calendar::{Day, Period, Zone};
use spillway_ledger::rollup::{self, Dimensions, Measures, Provider, Rollup};
use xtask::commands::{PROFILE_VARIABLE, target_dir};
use xtask::duckdb::{DuckDb, LEFT_OUT};
use xtask::workspace_root;

use crate::charges::month;
use crate::export::{SEED, write};

/// A charge as it is added up. What is not charged to a user has nobody's name.
fn charge(charge: &Charge) -> rollup::Charge {
    let work = charge.work.as_ref();
    let name = |text: &str| text.to_lowercase().replace(". ", "-").replace(' ', "-");
    let dimensions = Dimensions {
        day: Day::of(charge.charge_period.start()),
        booked: Period::of(charge.billing_period.start(), &Zone::utc()),
        group: charge.account.group_name.parse().expect("a group"),
        user: work.map(|work| work.user.to_string()).unwrap_or_default(),
        site: charge.place.as_ref().expect("a place").site.parse().expect("a site"),
        pool: charge.capacity.as_ref().map(|capacity| capacity.pool.clone()).unwrap_or_default(),
        provider: Provider::Cloud(name(&charge.seller.provider).parse().expect("a name")),
        class: work.and_then(|work| work.gpu_class.clone()).unwrap_or_default(),
        market: String::new(),
    };
    let measures = Measures {
        spend_micros: charge.billed_micros.into(),
        list_micros: charge.on_demand_equivalent_micros.unwrap_or_default().into(),
        gpu_ms: work.map_or(0, |work| work.gpu_ms).into(),
        slices: 1,
        ..Measures::default()
    };
    rollup::Charge { dimensions, measures, datasets: vec![] }
}

/// Sums by keys, as DuckDB writes them: keys, then micros, micros at list price, milliseconds and rows.
type Sums = BTreeMap<Vec<String>, [i128; 4]>;

fn ours(rollup: &Rollup, key: impl Fn(&Dimensions) -> Vec<String>) -> Sums {
    let sums = rollup.by(key).into_iter();
    sums.map(|(key, it)| (key, [it.spend_micros, it.list_micros, it.gpu_ms, it.slices])).collect()
}

fn theirs(duckdb: &DuckDb, file: &str, keys: &[&str]) -> Sums {
    let micros = |column: &str| {
        format!("CAST(SUM(CAST(COALESCE({column}, 0) AS DECIMAL(38, 6))) * 1000000 AS HUGEINT)")
    };
    let sql = format!(
        "SELECT {}, {}, {}, CAST(SUM(COALESCE(x_GpuMs, 0)) AS HUGEINT), COUNT(*) FROM {file} GROUP BY ALL",
        keys.join(", "),
        micros("BilledCost"),
        micros("x_OnDemandEquivalentCost")
    );
    let rows = duckdb.query(&sql).expect("an answer");
    let row = |row: Vec<String>| {
        let (keys, sums) = row.split_at(keys.len());
        let sums: Vec<i128> = sums.iter().map(|sum| sum.parse().expect("a whole number")).collect();
        (keys.to_vec(), sums.try_into().expect("four sums"))
    };
    rows.into_iter().map(row).collect()
}

#[test]
fn duckdb_adds_the_export_up_to_our_roll_up() {
    let target = target_dir(&workspace_root());
    let quick = std::env::var(PROFILE_VARIABLE).is_ok_and(|profile| profile == "quick");
    let duckdb = if quick {
        DuckDb::installed(&target)
    } else {
        DuckDb::install(&target).expect("it can be installed")
    };
    let Some(duckdb) = duckdb else {
        eprintln!("{LEFT_OUT}");
        return;
    };
    let charges = month(SEED);
    let mut rollup = Rollup::new();
    charges.iter().map(charge).for_each(|charge| rollup.add(charge));
    let files = write(Version::V1_2, &charges);
    let folder = target.join("duckdb-files");
    fs::create_dir_all(&folder).expect("a folder");
    let provider = "replace(replace(lower(ProviderName), '. ', '-'), ' ', '-')";
    for (name, content, reader) in
        [("october.csv", files.csv, "read_csv"), ("october.parquet", files.parquet, "read_parquet")]
    {
        let path = folder.join(name);
        fs::write(&path, content).expect("a file");
        let file = format!("{reader}('{}')", path.display());
        let month = |day: &str| format!("strftime({day}, '%Y-%m')");
        let used = month("ChargePeriodStart");
        let text = |text: &dyn ToString| text.to_string();
        let by_place = theirs(&duckdb, &file, &["SubAccountName", "x_Site", &used]);
        assert_eq!(
            by_place,
            ours(&rollup, |it| {
                let month = Period::of(it.day.start(), &Zone::utc());
                vec![text(&it.group), text(&it.site), text(&month)]
            }),
            "{name}"
        );
        assert!(by_place.len() > 30, "{} rows", by_place.len());
        assert_eq!(
            theirs(&duckdb, &file, &["COALESCE(x_GpuClass, '')"]),
            ours(&rollup, |it| vec![it.class.clone()])
        );
        assert_eq!(theirs(&duckdb, &file, &[provider]), ours(&rollup, |it| vec![text(&it.provider)]));
        let booked = month("BillingPeriodStart");
        assert_eq!(theirs(&duckdb, &file, &[&booked]), ours(&rollup, |it| vec![text(&it.booked)]));
        let day = "strftime(ChargePeriodStart, '%Y-%m-%d')";
        assert_eq!(theirs(&duckdb, &file, &[day]), ours(&rollup, |it| vec![text(&it.day)]), "{name}");
    }
}
