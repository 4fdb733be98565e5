//! The sentences for places that hard rules leave out.

use spillway_types::{HourlyRate, Spot};

use crate::explain::{Place, least_rate};
use crate::item::Item;
use crate::judge::Bar;
use crate::layout::{ClassMask, Level};
use crate::planner::Planner;
use crate::{QueuedJob, Restarts, words};

/// Why no node of a pool would do.
pub(crate) fn place_words(planner: &Planner, item: &Item, place: &Place<'_>, bar: Bar) -> String {
    let shape = &planner.shapes[item.shape];
    let job = &item.job;
    let first = place.kinds.first().map(|kind| &planner.fleet.kinds[*kind].sample);
    let ground = planner.ground();
    let count = || ground.count_in_site(shape, place.tier, place.site);
    match bar {
        Bar::Group => {
            let groups = first.and_then(|node| node.groups.as_ref());
            let names = groups.map(|groups| groups.iter().map(ToString::to_string).collect::<Vec<_>>());
            format!("the pool is for {}, not for {}", names.unwrap_or_default().join(", "), job.group)
        }
        Bar::Size => {
            let kinds = place.kinds.iter().map(|kind| &planner.fleet.kinds[*kind]);
            let sizes = kinds.zip(place.kinds.iter().map(|kind| shape.kinds[*kind].mask));
            let largest = sizes.max_by_key(|(kind, mask)| words::richness(&shape.need, &kind.all, *mask));
            largest
                .and_then(|(kind, mask)| missing(item, planner, &kind.all, mask, "on the largest node"))
                .unwrap_or_else(|| "too small".to_owned())
        }
        Bar::Access => {
            let said = place.kinds.iter().find_map(|kind| shape.refused_at_kind(*kind));
            said.map(ToString::to_string).unwrap_or_default()
        }
        Bar::Nodes => format!("{} nodes wanted, {} of the site would do", job.nodes, count().suitable()),
        Bar::Closed if shape.nodes > 1 => {
            let count = count();
            let would_do = count.open + count.closed;
            format!("{} nodes wanted, {} of the {would_do} that would do take work", job.nodes, count.open)
        }
        Bar::Closed => "would do, but is cordoned, drained, disconnected or held by its owner".to_owned(),
        Bar::MaxPrice if shape.nodes > 1 && count().bar(shape.nodes).is_none() => {
            let least = i64::try_from(least_rate(planner, shape, place)).unwrap_or(i64::MAX);
            price_words(job, HourlyRate(least))
        }
        Bar::MaxPrice => {
            let rates = place.kinds.iter().map(|kind| shape.kinds[*kind]);
            let dear = rates.filter(|fit| fit.bar.is_none_or(|bar| bar >= Bar::MaxPrice)).map(|fit| fit.rate);
            let rate = dear.min().unwrap_or(0).saturating_mul(i64::from(job.nodes.max(1)));
            price_words(job, HourlyRate(rate))
        }
        Bar::Site | Bar::Jurisdiction | Bar::Container | Bar::OnlyContainers | Bar::Fractions | Bar::Spot => {
            rule_words(job, bar, first.and_then(|node| node.jurisdiction.as_deref()))
        }
    }
}

/// Why an instance of an offer would not do.
pub(crate) fn offer_words(planner: &Planner, item: &Item, at: usize, bar: Bar) -> String {
    let shape = &planner.shapes[item.shape];
    let offer = &planner.offers[at];
    match bar {
        Bar::Size => {
            let mask = item.job.resources.gpus.as_ref().map_or(0, |gpus| offer.layout.mask(&gpus.selector));
            missing(item, planner, &offer.all, mask, "on one instance")
                .unwrap_or_else(|| "too small".to_owned())
        }
        Bar::MaxPrice => {
            let all = shape.offers[at].rate.saturating_mul(i64::from(item.job.nodes.max(1)));
            price_words(&item.job, HourlyRate(all))
        }
        Bar::Access => shape.refused_at_offer(at).map(ToString::to_string).unwrap_or_default(),
        Bar::Site
        | Bar::Jurisdiction
        | Bar::Group
        | Bar::Container
        | Bar::OnlyContainers
        | Bar::Fractions
        | Bar::Spot
        | Bar::Nodes
        | Bar::Closed => rule_words(&item.job, bar, offer.view.jurisdiction.as_deref()),
    }
}

fn missing(item: &Item, planner: &Planner, all: &Level, mask: ClassMask, have: &str) -> Option<String> {
    let need = &planner.shapes[item.shape].need;
    words::shortfall(item.job.resources.gpus.as_ref(), need, all, mask, have)
}

/// `all` is what all parts cost together.
fn price_words(job: &QueuedJob, all: HourlyRate) -> String {
    let most = job.placement.max_price.unwrap_or_default();
    format!("{all} here, the job's max_price is {most}")
}

/// The words for a rule that does not depend on figures.
fn rule_words(job: &QueuedJob, bar: Bar, jurisdiction: Option<&str>) -> String {
    let placement = &job.placement;
    match bar {
        Bar::Site => {
            let allowed: Vec<_> = placement.allow.iter().map(ToString::to_string).collect();
            format!("the job allows {} only", allowed.join(", "))
        }
        Bar::Jurisdiction => {
            let here = jurisdiction.unwrap_or("a place without a stated jurisdiction");
            format!("the job must stay in {}, this is {here}", placement.residency.join(", "))
        }
        Bar::Container => "the job has an image, and no agent here runs containers".to_owned(),
        Bar::OnlyContainers => "its agents run containers only, and the job has no image".to_owned(),
        Bar::Fractions => "nothing here gives out parts of an accelerator".to_owned(),
        Bar::Spot => match (job.placement.spot, job.restarts) {
            (Spot::Never, _) => {
                "its provider may take it back, and the job takes no spot capacity".to_owned()
            }
            (Spot::Allow, Restarts::Never) => {
                "its provider may take it back, and the job never starts twice".to_owned()
            }
            (Spot::Allow, _) => {
                "its provider may take it back, and the policy has no job risk that".to_owned()
            }
        },
        Bar::Group | Bar::Size | Bar::Nodes => "does not have what the job asks".to_owned(),
        Bar::Access => "denied by an access policy".to_owned(),
        Bar::MaxPrice => "above the job's max_price".to_owned(),
        Bar::Closed => "takes no work now".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{job, node, offer, snapshot};
    use crate::{QueuedJob, Verdict, explain_one};

    #[track_caller]
    fn check(queued: &QueuedJob, at: usize, verdict: Verdict, detail: &str) {
        let mut plain = node(1, "H100:4").in_country("US");
        plain.capabilities.fractions = false;
        plain.capabilities.container = false;
        let mut images = node(2, "A100:1").in_site("images");
        images.capabilities.process = false;
        let all = snapshot().node(plain).node(images.closed()).offer(offer("p5", "H100:8", 80));
        let said = explain_one(&all, queued).candidates;
        let place = ["home", "images", "cloud"][at];
        let candidate = said.iter().find(|candidate| candidate.site.as_str() == place).unwrap();
        assert_eq!((candidate.verdict, candidate.detail.as_str()), (verdict, detail));
    }

    #[test]
    fn each_rule_has_its_sentence() {
        use Verdict as V;
        let any = || job(1, "1");
        check(&any().allows(&["cloud"]), 0, V::NotAllowed, "the job allows cloud only");
        check(&any().must_stay_in(&["KR"]), 0, V::NotAllowed, "the job must stay in KR, this is US");
        let nowhere = "the job must stay in KR, this is a place without a stated jurisdiction";
        check(&any().must_stay_in(&["KR"]), 2, V::NotAllowed, nowhere);
        let no_image = "its agents run containers only, and the job has no image";
        check(&any(), 1, V::NotAllowed, no_image);
        let image = "the job has an image, and no agent here runs containers";
        check(&any().with_image(), 0, V::NoContainer, image);
        let parts = "nothing here gives out parts of an accelerator";
        check(&job(1, "0.5"), 0, V::NoFractions, parts);
        check(&job(1, "0.5"), 2, V::NoFractions, parts);
        check(&any().cpus(65), 0, V::TooSmall, "65 CPUs wanted, 64 on the largest node");
        check(&any().cpus(129), 2, V::TooSmall, "129 CPUs wanted, 128 on one instance");
        check(&any().on_nodes(2), 0, V::TooSmall, "2 nodes wanted, 1 of the site would do");
        check(&job(1, "3").pays_at_most(2), 0, V::MaxPrice, "3.00/h here, the job's max_price is 2.00/h");
        check(&job(1, "3").pays_at_most(2), 2, V::MaxPrice, "30.00/h here, the job's max_price is 2.00/h");
        let closed = "would do, but is cordoned, drained, disconnected or held by its owner";
        check(&any().with_image(), 1, V::Closed, closed);
    }
}
