//! The sentences for places that hard rules leave out. They are the same for all jobs of a shape.

use spillway_types::HourlyRate;

use crate::QueuedJob;
use crate::judge::Bar;
use crate::layout::{Layout, LevelView};
use crate::shape::Shape;
use crate::words;
use crate::world::World;

/// Why no node of a pool would do.
pub(crate) fn pool_words(world: &World<'_>, shape: &Shape, job: &QueuedJob, pool: usize, bar: Bar) -> String {
    let place = &world.pools[pool];
    let unit = &shape.units[place.unit];
    let first = place.nodes.first().map(|node| &world.snapshot.nodes[*node]);
    match bar {
        Bar::Group => {
            let groups = first.and_then(|node| node.groups.as_ref());
            let names = groups.map(|groups| groups.iter().map(ToString::to_string).collect::<Vec<_>>());
            format!("the pool is for {}, not for {}", names.unwrap_or_default().join(", "), job.group)
        }
        Bar::Size => pool_size_words(world, shape, job, pool),
        Bar::Nodes => {
            let suitable = unit.open + unit.closed + unit.dear;
            format!("{} nodes wanted, {suitable} of the site would do", job.nodes)
        }
        Bar::Closed if shape.nodes > 1 => {
            let suitable = unit.open + unit.closed;
            format!("{} nodes wanted, {} of the {suitable} that would do take work", job.nodes, unit.open)
        }
        Bar::Closed => "would do, but is cordoned, drained, disconnected or held by its owner".to_owned(),
        Bar::MaxPrice => price_words(job, shape.pools[pool].rate),
        Bar::Site | Bar::Jurisdiction | Bar::Container | Bar::OnlyContainers | Bar::Fractions => {
            rule_words(job, bar, first.and_then(|node| node.jurisdiction.as_deref()))
        }
    }
}

/// Why an instance of an offer would not do.
pub(crate) fn offer_words(world: &World<'_>, shape: &Shape, job: &QueuedJob, at: usize, bar: Bar) -> String {
    let offer = &world.snapshot.offers[at];
    match bar {
        Bar::Size => {
            let size = Size::of(
                shape,
                job,
                &world.offer_layouts[at],
                (offer.capacity.cpus_milli, offer.capacity.memory_mib),
            );
            size.missing("on one instance").unwrap_or_else(|| "too small".to_owned())
        }
        Bar::MaxPrice => price_words(job, shape.offers[at].rate),
        Bar::Site
        | Bar::Jurisdiction
        | Bar::Group
        | Bar::Container
        | Bar::OnlyContainers
        | Bar::Fractions
        | Bar::Nodes
        | Bar::Closed => rule_words(job, bar, offer.jurisdiction.as_deref()),
    }
}

fn pool_size_words(world: &World<'_>, shape: &Shape, job: &QueuedJob, pool: usize) -> String {
    let sizes = world.pools[pool].nodes.iter().map(|node| {
        let capacity = &world.snapshot.nodes[*node].capacity;
        Size::of(shape, job, &world.layouts[*node], (capacity.cpus_milli, capacity.memory_mib))
    });
    let largest = sizes.max_by_key(Size::richness);
    largest.and_then(|size| size.missing("on the largest node")).unwrap_or_else(|| "too small".to_owned())
}

/// What a node has in all, against a shape.
struct Size<'a> {
    shape: &'a Shape,
    job: &'a QueuedJob,
    rooms: Vec<crate::layout::Room>,
    cpus_milli: u32,
    memory_mib: u64,
    mask: crate::layout::ClassMask,
}

impl<'a> Size<'a> {
    fn of(
        shape: &'a Shape,
        job: &'a QueuedJob,
        layout: &Layout<'_>,
        (cpus_milli, memory_mib): (u32, u64),
    ) -> Self {
        let mask = job.resources.gpus.as_ref().map_or(0, |gpus| layout.mask(&gpus.selector));
        Self { shape, job, rooms: layout.all(), cpus_milli, memory_mib, mask }
    }

    fn level(&self) -> LevelView<'_> {
        LevelView { cpus_milli: self.cpus_milli, memory_mib: self.memory_mib, rooms: &self.rooms }
    }

    fn richness(&self) -> (u32, u32, u64) {
        words::richness(&self.shape.need, self.level(), self.mask)
    }

    fn missing(&self, have: &str) -> Option<String> {
        let request = self.job.resources.gpus.as_ref();
        words::shortfall(request, &self.shape.need, self.level(), self.mask, have)
    }
}

/// `rate` is that of one part.
fn price_words(job: &QueuedJob, rate: i64) -> String {
    let most = job.placement.max_price.unwrap_or_default();
    let all = HourlyRate(rate.saturating_mul(i64::from(job.nodes.max(1))));
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
        Bar::Group | Bar::Size | Bar::Nodes => "does not have what the job asks".to_owned(),
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
