//! October 2026 of a made-up federation, the same for the same seed: 15 groups on three sites, with spot prices, a
//! change of the rate card, idle capacity, a commitment, credits, a reversal, and a correction of September.

use std::collections::BTreeMap;

use spillway_focus::charge::{
    Account, Capacity, Commitment, CommitmentCategory, Frequency, Nature, Place, Priced, Pricing, Resource,
    Reversal, Seller, Service, Utilisation, Work,
};
use spillway_focus::{Charge, Period, Quantity, Scope, Status, Version, parse_instant};
use spillway_types::{AttemptId, Currency, HourlyRate, JobId, SequentialIds, UnixMs};

const HOUR_MS: i64 = 3_600_000;

pub(crate) fn at(text: &str) -> UnixMs {
    parse_instant(text).expect("an instant")
}

fn period(start: &str, end: &str) -> Period {
    Period::new(at(start), at(end)).expect("a period")
}

pub(crate) fn october() -> Period {
    period("2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z")
}

pub(crate) fn scope(version: Version) -> Scope {
    Scope { version, period: october(), status: Status::Closed, currency: euro() }
}

fn euro() -> Currency {
    "EUR".parse().expect("a currency")
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % limit
    }
}

/// Where something runs and what it costs there.
struct Site {
    name: &'static str,
    seller: &'static str,
    resource_kind: &'static str,
    sku: &'static str,
    class: &'static str,
    pricing: Pricing,
    list_micros: i64,
    contracted_micros: i64,
}

const SITES: [Site; 4] = [
    Site {
        name: "fra1",
        seller: "Example Research",
        resource_kind: "Host",
        sku: "onprem-h100",
        class: "H100",
        pricing: Pricing::Standard,
        list_micros: 2_490_000,
        contracted_micros: 1_810_000,
    },
    Site {
        name: "eu-central-1",
        seller: "Example Cloud",
        resource_kind: "Instance",
        sku: "cloud-a100",
        class: "A100",
        pricing: Pricing::Standard,
        list_micros: 4_096_250,
        contracted_micros: 3_686_625,
    },
    Site {
        name: "eu-central-1",
        seller: "Example Cloud",
        resource_kind: "Instance",
        sku: "cloud-a100",
        class: "A100",
        pricing: Pricing::Dynamic,
        list_micros: 4_096_250,
        contracted_micros: 1_200_001,
    },
    Site {
        name: "desk-7",
        seller: "A. Owner",
        resource_kind: "Host",
        sku: "desk-4090",
        class: "RTX-4090",
        pricing: Pricing::Standard,
        list_micros: 700_000,
        contracted_micros: 350_000,
    },
];

/// The rate card changed in the middle of a day.
fn price_change() -> UnixMs {
    at("2026-10-16T12:30:00Z")
}

struct Month {
    random: Random,
    ids: SequentialIds,
    seq: u64,
    charges: Vec<Charge>,
}

/// All charges of the month, in the order of the ledger.
pub(crate) fn month(seed: u64) -> Vec<Charge> {
    let mut month =
        Month { random: Random(seed), ids: SequentialIds::new(seed), seq: 100, charges: Vec::new() };
    for job in 0..120 {
        month.job(job);
    }
    month.idle();
    month.commitment();
    month.credits();
    month.corrections();
    month.charges
}

impl Month {
    fn job(&mut self, number: u64) {
        let group = self.random.below(15);
        let site = &SITES[usize::try_from(self.random.below(4)).expect("small")];
        let gpus = [1, 2, 4, 8][usize::try_from(self.random.below(4)).expect("small")];
        let latest = u64::try_from(30 * 24 * HOUR_MS).expect("positive");
        let begin = october().start().0 + i64::try_from(self.random.below(latest)).expect("fits");
        let length = 700 + i64::try_from(self.random.below(60 * 3_600_000)).expect("fits");
        let end = (begin + length).min(october().end().0);
        let whole = Period::new(UnixMs(begin), UnixMs(end)).expect("not empty");
        let resource = format!("{}/{}-{number}", site.name, site.resource_kind.to_lowercase());
        let (job, attempt) = (JobId::generate(&mut self.ids), AttemptId::generate(&mut self.ids));
        let spot_changes: Vec<UnixMs> =
            (1..).map(|hour| UnixMs(begin + hour * 7 * HOUR_MS)).take(12).collect();
        let dynamic = site.pricing == Pricing::Dynamic;
        let cuts = if dynamic { spot_changes } else { vec![price_change()] };
        self.seq += 1;
        for (index, slice) in whole.cut(&cuts).into_iter().enumerate() {
            let from = slice.start().0.abs_diff(begin);
            let raised = if dynamic { index % 3 } else { usize::from(slice.start() >= price_change()) };
            let raise = i64::try_from(raised).expect("small") * 110_003;
            let mut charge = usage(self.seq, index, site, slice);
            charge.account = account(group);
            charge.invoice_id = format!("prov-2026-10-{}", site.name);
            charge.resource = Some(Resource {
                id: resource.clone(),
                kind: site.resource_kind.to_owned(),
                name: (site.resource_kind == "Host").then(|| format!("{} no. {number}", site.class)),
            });
            let unit = site.contracted_micros + raise;
            let rate = HourlyRate(unit * i64::try_from(gpus).expect("small"));
            let micros = rate.cost_micros(1, 1, from, from + slice.ms());
            let quantity = Quantity::hours(gpus, from, from + slice.ms());
            let list = site.list_micros + raise;
            charge.nature = Nature::Usage(priced(site, raised, [list, unit], quantity));
            (charge.billed_micros, charge.effective_micros) = (micros, micros);
            let gpu_ms = i64::try_from(slice.ms() * gpus).expect("fits");
            charge.work = Some(Work {
                user: format!("user-{}", number % 40).parse().expect("a name"),
                job,
                attempt,
                gpu_class: Some(site.class.to_owned()),
                gpu_ms,
                normalised_gpu_ms: gpu_ms * 3 / 2,
                hold_id: Some(format!("hold-{number}")),
            });
            charge.on_demand_equivalent_micros = Some(micros * 2);
            if site.name == "fra1" {
                let utilisation = Utilisation::Used;
                charge.capacity = Some(Capacity { pool: "fra1/dgx".to_owned(), utilisation });
            }
            self.charges.push(charge);
        }
    }

    /// What the on-prem pool cost and nobody used, by day.
    fn idle(&mut self) {
        for day in october().cut(&[]) {
            self.seq += 1;
            let mut charge = usage(self.seq, 0, &SITES[0], day);
            let hours = Quantity::whole(96 + self.random.below(96));
            let mut priced = priced(&SITES[0], 0, [2_490_000, 1_810_000], hours);
            priced.consumed = Some((Quantity::ZERO, "GPU-Hours".to_owned()));
            let micros = 1_810_000 * i64::try_from(hours.0 / 1_000_000_000_000).expect("fits");
            charge.account.group_path = "/idle".to_owned();
            charge.account.group_name = "idle".to_owned();
            charge.account.group_type = "Idle".to_owned();
            charge.nature = Nature::Usage(priced);
            (charge.billed_micros, charge.effective_micros) = (micros, micros);
            charge.resource =
                Some(Resource { id: "fra1/dgx".to_owned(), kind: "Pool".to_owned(), name: None });
            let utilisation = Utilisation::Unused;
            charge.capacity = Some(Capacity { pool: "fra1/dgx".to_owned(), utilisation });
            charge.description = "Capacity of fra1/dgx that nobody used".to_owned();
            self.charges.push(charge);
        }
    }

    /// A commitment bought for the month, used on the first three days and idle on the fourth.
    fn commitment(&mut self) {
        let commitment = |utilisation, hours| Commitment {
            id: "cloud/ri-1".to_owned(),
            name: Some("A100 for a month".to_owned()),
            kind: "Reserved Instance".to_owned(),
            category: CommitmentCategory::Usage,
            utilisation,
            quantity: Quantity::whole(hours),
            unit: "GPU-Hours".to_owned(),
        };
        self.seq += 1;
        let mut purchase = usage(self.seq, 0, &SITES[1], october());
        let mut bought = priced(&SITES[1], 0, [300_000_000, 250_000_000], Quantity::whole(1));
        (bought.sku_id, bought.sku_price_id) = ("cloud-ri".to_owned(), "cloud-ri-2026".to_owned());
        (bought.unit, bought.consumed) = ("Units".to_owned(), None);
        purchase.nature = Nature::Purchase(bought, Frequency::Recurring);
        (purchase.billed_micros, purchase.effective_micros) = (250_000_000, 0);
        let named =
            |id: &str| Some(Resource { id: id.to_owned(), kind: "Commitment".to_owned(), name: None });
        purchase.resource = named("cloud/ri-1");
        purchase.commitment = Some(commitment(Utilisation::Used, 96));
        purchase.description = "A100 for a month, bought".to_owned();
        self.charges.push(purchase);
        for (index, day) in october().cut(&[]).into_iter().take(4).enumerate() {
            self.seq += 1;
            let mut charge = usage(self.seq, 0, &SITES[1], day);
            let mut used = priced(&SITES[1], 0, [4_096_250, 2_604_166], Quantity::whole(24));
            used.pricing = Pricing::Committed;
            used.sku_price_id = "cloud-a100-committed".to_owned();
            let utilisation = if index < 3 { Utilisation::Used } else { Utilisation::Unused };
            if utilisation == Utilisation::Unused {
                used.consumed = None;
            }
            charge.nature = Nature::Usage(used);
            (charge.billed_micros, charge.effective_micros) = (0, 62_500_000);
            charge.resource = named(if index < 3 { "cloud/i-reserved" } else { "cloud/ri-1" });
            charge.commitment = Some(commitment(utilisation, 24));
            self.charges.push(charge);
        }
    }

    /// What the owner of a desk is credited, and a free hour that pays nothing out.
    fn credits(&mut self) {
        for (micros, description) in [(-12_345_678, "Lent hours of desk-7"), (0, "A free hour of spot")] {
            self.seq += 1;
            let mut credit =
                usage(self.seq, 0, &SITES[3], period("2026-10-20T00:00:00Z", "2026-10-21T00:00:00Z"));
            credit.nature = Nature::Credit;
            credit.description = description.to_owned();
            (credit.billed_micros, credit.effective_micros) = (micros, micros);
            self.charges.push(credit);
        }
    }

    /// One charge is taken back within the month and booked again; one of September comes late.
    fn corrections(&mut self) {
        let into = |seq, id: &str| Reversal {
            id: id.to_owned(),
            ledger_seq: seq,
            billing_period: october(),
            invoice_id: "prov-2026-10-corrections".to_owned(),
        };
        let wrong = self.charges[0].clone();
        self.charges.push(wrong.reversed(into(self.seq + 1, "rev-october")));
        let right = Charge { id: "again-october".to_owned(), ledger_seq: self.seq + 2, ..wrong };
        self.charges.push(right);
        let mut late =
            usage(self.seq + 3, 0, &SITES[1], period("2026-09-30T08:00:00Z", "2026-09-30T11:00:00Z"));
        late.billing_period = period("2026-09-01T00:00:00Z", "2026-10-01T00:00:00Z");
        late.nature = Nature::Usage(priced(&SITES[1], 0, [4_096_250, 3_686_625], Quantity::whole(3)));
        (late.billed_micros, late.effective_micros) = (11_059_875, 11_059_875);
        self.charges.push(late.reversed(into(self.seq + 3, "rev-september")));
        let mut rebooked = Charge { id: "again-september".to_owned(), ledger_seq: self.seq + 4, ..late };
        rebooked.billing_period = october();
        rebooked.invoice_id = "prov-2026-10-corrections".to_owned();
        rebooked.account = account(3);
        self.charges.push(rebooked);
    }
}

fn account(group: u64) -> Account {
    Account {
        billing_id: "cc-4711".to_owned(),
        billing_name: "Research computing".to_owned(),
        billing_type: "Cost Centre".to_owned(),
        group_path: format!("/research/group-{group:02}"),
        group_name: format!("group-{group:02}"),
        group_type: "Group".to_owned(),
    }
}

fn priced(site: &Site, row: usize, [list, contracted]: [i64; 2], quantity: Quantity) -> Priced {
    let dynamic = if site.pricing == Pricing::Dynamic { "-spot" } else { "" };
    Priced {
        sku_id: site.sku.to_owned(),
        sku_price_id: format!("{}{dynamic}-2026-{row}", site.sku),
        meter: "GPU time".to_owned(),
        details: BTreeMap::from([("x_GpuClass".to_owned(), site.class.to_owned())]),
        pricing: site.pricing,
        list_unit_micros: list,
        contracted_unit_micros: contracted,
        quantity,
        unit: "GPU-Hours".to_owned(),
        consumed: Some((quantity, "GPU-Hours".to_owned())),
    }
}

/// A charge of this site with everything that the callers do not set.
fn usage(seq: u64, index: usize, site: &Site, slice: Period) -> Charge {
    Charge {
        id: format!("chg-{seq}-{index}"),
        ledger_seq: seq,
        account: account(0),
        seller: Seller {
            provider: site.seller.to_owned(),
            publisher: site.seller.to_owned(),
            host: site.seller.to_owned(),
            invoice_issuer: site.seller.to_owned(),
        },
        invoice_id: format!("prov-2026-10-{}", site.name),
        billing_period: october(),
        charge_period: slice,
        currency: euro(),
        service: Service {
            name: "GPU computing".to_owned(),
            category: "Compute",
            subcategory: "Virtual Machines",
        },
        place: Some(Place {
            site: site.name.to_owned(),
            region_id: site.name.to_owned(),
            region_name: format!("Site {}", site.name),
            zone: (site.resource_kind == "Instance").then(|| format!("{}a", site.name)),
        }),
        resource: None,
        nature: Nature::Adjustment,
        billed_micros: 0,
        effective_micros: 0,
        exchange: None,
        capacity: None,
        commitment: None,
        reverses: None,
        description: format!("{} at {}", site.class, site.name),
        tags: BTreeMap::from([("project".to_owned(), "llm, \"large\"".to_owned())]),
        work: None,
        on_demand_equivalent_micros: None,
    }
}
