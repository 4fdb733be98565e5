//! Regions of clouds in the file: what they launch, how it is sold, and how prices and capacity change.

use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, de};
use spillway_core::entity::{Pool, Site};
use spillway_policies::CloudOffer;
use spillway_types::{
    CloudName, DurationMs, GpuModel, HourlyRate, InstanceType, Market, OfferTerms, SiteKind, SiteName, Tariff,
};

use super::file::{NodesEntry, parse, shape};
use super::{FederationError, capacity, series};
use crate::{Description, OfferNews, OfferStep};

/// Most changes of one offer: more than one a minute for a quarter.
pub(super) const MAX_STEPS: usize = 150_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CloudEntry {
    name: CloudName,
    site: SiteName,
    jurisdiction: Option<String>,
    #[serde(default)]
    offers: Vec<OfferEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfferEntry {
    instance_type: InstanceType,
    model: GpuModel,
    gpus: u32,
    gpu_memory: Option<String>,
    cpus: Option<u32>,
    memory: Option<String>,
    price: String,
    boot: Option<String>,
    available: Option<u32>,
    #[serde(default)]
    market: Market,
    mean_life: Option<String>,
    minimum: Option<String>,
    #[serde(default)]
    prices: Vec<PriceEntry>,
    availability: Option<Availability>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PriceEntry {
    at: String,
    price: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AvailableEntry {
    from: String,
    available: u32,
}

/// How many may live over time: in a file of its own, or here.
#[derive(Debug)]
enum Availability {
    File(String),
    Steps(Vec<AvailableEntry>),
}

impl<'de> Deserialize<'de> for Availability {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Availability;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the name of a CSV file, or a list of steps with `from` and `available`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Availability, E> {
                Ok(Availability::File(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Availability, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Availability::Steps)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// Gives the text of a file that the federation file names, or why it cannot be read.
pub(super) type Files<'a> = &'a dyn Fn(&str) -> Result<String, String>;

impl CloudEntry {
    pub(super) fn described(
        self,
        path: &str,
        files: Files<'_>,
        into: &mut Description,
    ) -> Result<(), FederationError> {
        let twice = into.sites.iter().any(|site| site.name == self.site);
        if twice {
            let problem = format!("`{}` is a site already: give every region one of its own", self.site);
            return Err(FederationError::new(format!("{path}.site"), problem));
        }
        if self.offers.is_empty() {
            let problem = "is missing: a cloud without [[clouds.offers]] launches nothing";
            return Err(FederationError::new(format!("{path}.offers"), problem));
        }
        let name = parse(&format!("{path}.site"), self.site.as_str())?;
        let cloud = Some(self.name.clone());
        into.pools.push(Pool {
            name,
            site: self.site.clone(),
            tariff: Tariff::default(),
            groups: None,
            labels: [].into(),
        });
        let jurisdiction = self.jurisdiction.clone();
        into.sites.push(Site { name: self.site.clone(), kind: SiteKind::Cloud, jurisdiction, cloud });
        for (number, offer) in self.offers.iter().enumerate() {
            let path = format!("{path}.offers[{number}]");
            let at = into.offers.len();
            into.offers.push(self.offer(&path, offer)?);
            let steps = prices(&path, at, &offer.prices)?;
            into.outside.steps.extend(steps);
            into.outside.steps.extend(availability(&path, at, offer.availability.as_ref(), files)?);
        }
        Ok(())
    }

    fn offer(&self, path: &str, offer: &OfferEntry) -> Result<CloudOffer, FederationError> {
        let nodes = NodesEntry {
            count: 1,
            model: offer.model.clone(),
            gpus: offer.gpus,
            gpu_memory: offer.gpu_memory.clone(),
            cpus: offer.cpus,
            memory: offer.memory.clone(),
        };
        let boot = span(path, "boot", offer.boot.as_ref())?;
        Ok(CloudOffer {
            cloud: self.name.clone(),
            site: self.site.clone(),
            jurisdiction: self.jurisdiction.clone(),
            instance_type: offer.instance_type.clone(),
            capacity: capacity(&shape(path, &nodes)?),
            price: parse(&format!("{path}.price"), &offer.price)?,
            boot: boot.unwrap_or(DurationMs(0)),
            available: offer.available.unwrap_or(u32::MAX),
            terms: terms(path, offer)?,
        })
    }
}

fn span(path: &str, field: &str, text: Option<&String>) -> Result<Option<DurationMs>, FederationError> {
    text.map(|text| parse(&format!("{path}.{field}"), text)).transpose()
}

fn terms(path: &str, offer: &OfferEntry) -> Result<OfferTerms, FederationError> {
    let mean_life = span(path, "mean_life", offer.mean_life.as_ref())?;
    let refused = |problem: &str| {
        let given = offer.mean_life.as_deref().unwrap_or_default();
        Err(FederationError::new(format!("{path}.mean_life"), format!("`{given}` {problem}")))
    };
    if mean_life == Some(DurationMs(0)) {
        return refused("is no life: write how long one stays on average, for example `6h`");
    }
    if mean_life.is_some() && offer.market.is_on_demand() {
        return refused("is for machines that may be taken back: add `market = \"spot\"`, or leave it out");
    }
    let minimum = span(path, "minimum", offer.minimum.as_ref())?.unwrap_or_default();
    Ok(OfferTerms { market: offer.market, mean_life, minimum, ..OfferTerms::default() })
}

fn prices(path: &str, offer: usize, entries: &[PriceEntry]) -> Result<Vec<OfferStep>, FederationError> {
    let steps = entries.iter().enumerate().map(|(number, entry)| {
        let path = format!("{path}.prices[{number}]");
        let at = parse::<DurationMs>(&format!("{path}.at"), &entry.at)?;
        let price = parse::<HourlyRate>(&format!("{path}.price"), &entry.price)?;
        Ok(OfferStep { at, offer, news: OfferNews::Price(price) })
    });
    let steps: Vec<OfferStep> = steps.collect::<Result<_, FederationError>>()?;
    in_order(&steps, |number| format!("{path}.prices[{number}].at"))?;
    Ok(steps)
}

fn availability(
    path: &str,
    offer: usize,
    given: Option<&Availability>,
    files: Files<'_>,
) -> Result<Vec<OfferStep>, FederationError> {
    let path = format!("{path}.availability");
    let step = |(at, available)| OfferStep { at, offer, news: OfferNews::Available(available) };
    match given {
        None => Ok(vec![]),
        Some(Availability::File(name)) => {
            let wrong = |problem: String| FederationError::new(&path, format!("`{name}`: {problem}"));
            let text = files(name).map_err(wrong)?;
            Ok(series::read(&text).map_err(wrong)?.into_iter().map(step).collect())
        }
        Some(Availability::Steps(entries)) => {
            let steps = entries.iter().enumerate().map(|(number, entry)| {
                let at = parse(&format!("{path}[{number}].from"), &entry.from)?;
                Ok(step((at, entry.available)))
            });
            let steps: Vec<OfferStep> = steps.collect::<Result<_, FederationError>>()?;
            in_order(&steps, |number| format!("{path}[{number}].from"))?;
            Ok(steps)
        }
    }
}

fn in_order(steps: &[OfferStep], path: impl Fn(usize) -> String) -> Result<(), FederationError> {
    if steps.len() > MAX_STEPS {
        let problem = format!("is one too many: {MAX_STEPS} are the most");
        return Err(FederationError::new(path(MAX_STEPS), problem));
    }
    match steps.windows(2).position(|pair| pair[1].at <= pair[0].at) {
        None => Ok(()),
        Some(number) => {
            let (at, before) = (steps[number + 1].at, steps[number].at);
            let problem = format!("`{at}` does not come after `{before}`: list changes in the order of time");
            Err(FederationError::new(path(number + 1), problem))
        }
    }
}
