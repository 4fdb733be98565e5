//! Nodes and the requests that fill them: recorded, or made up from a seed.
//!
//! The recorded ones are files of Alibaba's cluster-trace-gpu-v2023; shares are rounded up to whole hundredths.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use spillway_policies::{ANY_MODEL, Ask, ModelSet, PackingNode};
use spillway_types::GpuQuantity;
use spillway_types::resources::BLOCKS_PER_GPU;

const NODES: &str = "openb_node_list_gpu_node.csv";
const REQUESTS: &str = "openb_pod_list_default.csv";

/// A cluster and what is asked of it.
#[derive(Debug, Clone)]
pub(crate) struct Population {
    pub(crate) nodes: Vec<PackingNode>,
    pub(crate) asks: Vec<Ask>,
}

/// Draws lots; the same seed draws the same.
#[derive(Debug, Clone)]
pub(crate) struct Lot(u64);

impl Lot {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is above 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("it is below a usize")
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }

    /// One of `choices`, each as likely as its number, which are out of 100 together.
    fn choose<T: Copy>(&mut self, choices: &[(usize, T)]) -> T {
        let mut drawn = self.below(100);
        for (percent, choice) in choices {
            if drawn < *percent {
                return *choice;
            }
            drawn -= percent;
        }
        choices[choices.len() - 1].1
    }
}

/// Made-up nodes: how many, CPUs, GiB, accelerators.
const KINDS: [(usize, u32, u64, usize); 5] =
    [(500, 96, 384, 8), (350, 96, 512, 2), (100, 16, 128, 2), (60, 48, 192, 4), (40, 128, 768, 8)];

/// CPUs, GiB, accelerators.
type MadeUp = (u32, u64, Option<GpuQuantity>);

/// Made-up requests, each with how many there are in a hundred.
const ASKS: [(usize, MadeUp); 16] = [
    (22, (12, 48, Some(GpuQuantity::Whole(1)))),
    (9, (4, 8, Some(GpuQuantity::Whole(1)))),
    (8, (8, 32, Some(GpuQuantity::Whole(1)))),
    (7, (20, 64, Some(GpuQuantity::Whole(1)))),
    (2, (16, 64, Some(GpuQuantity::Whole(2)))),
    (1, (48, 192, Some(GpuQuantity::Whole(4)))),
    (1, (90, 320, Some(GpuQuantity::Whole(8)))),
    (9, (3, 6, Some(GpuQuantity::Blocks(75)))),
    (9, (12, 48, Some(GpuQuantity::Blocks(45)))),
    (6, (4, 24, Some(GpuQuantity::Blocks(30)))),
    (5, (8, 32, Some(GpuQuantity::Blocks(60)))),
    (4, (4, 16, Some(GpuQuantity::Blocks(20)))),
    (4, (2, 8, Some(GpuQuantity::Blocks(10)))),
    (6, (12, 56, None)),
    (4, (32, 64, None)),
    (3, (6, 24, None)),
];
const MADE_UP: usize = 8_000;
const MADE_UP_SEED: u64 = 2_023;

impl Population {
    /// 1,050 nodes and 8,000 requests as [`KINDS`] and [`ASKS`] have them.
    pub(crate) fn made_up() -> Self {
        let mut lot = Lot::new(MADE_UP_SEED);
        let nodes = KINDS.iter().zip(0_u8..).flat_map(|((count, cpus, gib, accelerators), model)| {
            let node = PackingNode {
                cpus_milli: cpus * 1_000,
                memory_mib: gib * 1_024,
                accelerators: *accelerators,
                model,
            };
            vec![node; *count]
        });
        let ask = |(cpus, gib, gpus): MadeUp| Ask {
            cpus_milli: cpus * 1_000,
            memory_mib: gib * 1_024,
            gpus,
            models: ANY_MODEL,
        };
        Self { nodes: nodes.collect(), asks: (0..MADE_UP).map(|_| ask(lot.choose(&ASKS))).collect() }
    }

    /// Every `step`th node and request.
    #[cfg(test)]
    pub(crate) fn scaled_down(mut self, step: usize) -> Self {
        self.nodes = self.nodes.into_iter().step_by(step).collect();
        self.asks = self.asks.into_iter().step_by(step).collect();
        self
    }

    /// Reads both files from `folder`.
    pub(crate) fn recorded(folder: &Path) -> Result<Self> {
        let (nodes, models) = read_nodes(&text(folder, NODES)?).with_context(|| NODES.to_owned())?;
        let asks = read_asks(&text(folder, REQUESTS)?, &models).with_context(|| REQUESTS.to_owned())?;
        Ok(Self { nodes, asks })
    }
}

fn text(folder: &Path, name: &str) -> Result<String> {
    let path = folder.join(name);
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The nodes, and the models' names by their numbers.
fn read_nodes(text: &str) -> Result<(Vec<PackingNode>, Vec<String>)> {
    let mut models: Vec<String> = Vec::new();
    let nodes = rows(text, ["cpu_milli", "memory_mib", "gpu", "model"], |[cpus, memory, gpus, model]| {
        let known = models.iter().position(|name| name == model).unwrap_or_else(|| {
            models.push(model.to_owned());
            models.len() - 1
        });
        Ok(PackingNode {
            cpus_milli: cpus.parse()?,
            memory_mib: memory.parse()?,
            accelerators: gpus.parse()?,
            model: u8::try_from(known)?,
        })
    })?;
    if models.len() > 64 {
        bail!("{} models; at most 64 can be told apart", models.len());
    }
    Ok((nodes, models))
}

fn read_asks(text: &str, models: &[String]) -> Result<Vec<Ask>> {
    let columns = ["cpu_milli", "memory_mib", "num_gpu", "gpu_milli", "gpu_spec"];
    rows(text, columns, |[cpus, memory, count, milli, spec]| {
        let blocks = milli.parse::<u32>()?.div_ceil(1_000 / BLOCKS_PER_GPU);
        let gpus = match count.parse()? {
            0 => None,
            1 if blocks < BLOCKS_PER_GPU => Some(GpuQuantity::Blocks(blocks)),
            count => Some(GpuQuantity::Whole(count)),
        };
        Ok(Ask {
            cpus_milli: cpus.parse()?,
            memory_mib: memory.parse()?,
            gpus,
            models: model_set(spec, models),
        })
    })
}

fn model_set(spec: &str, models: &[String]) -> ModelSet {
    if spec.is_empty() {
        return ANY_MODEL;
    }
    let named = models.iter().enumerate().filter(|(_, model)| spec.split('|').any(|name| name == *model));
    named.fold(0, |set, (bit, _)| set | 1 << bit)
}

/// Reads the named columns of each line; the files have no quotes.
fn rows<'a, T, const N: usize>(
    text: &'a str,
    columns: [&str; N],
    mut read: impl FnMut([&'a str; N]) -> Result<T>,
) -> Result<Vec<T>> {
    let mut lines = text.lines().zip(1..);
    let (header, _) = lines.next().context("the file is empty")?;
    let mut places = [0; N];
    for (place, column) in places.iter_mut().zip(columns) {
        *place = header
            .split(',')
            .position(|name| name == column)
            .with_context(|| format!("no column `{column}` in `{header}`"))?;
    }
    let mut read_line = |line: &'a str| {
        let fields: Vec<&str> = line.split(',').collect();
        let mut row = [""; N];
        for (field, place) in row.iter_mut().zip(places) {
            *field = fields.get(place).context("too few fields")?;
        }
        read(row)
    };
    lines.map(|(line, number)| read_line(line).with_context(|| format!("line {number}: `{line}`"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_files_are_understood() {
        let nodes = "sn,cpu_milli,memory_mib,gpu,model\na,64000,262144,2,P\nb,96000,393216,8,T\n";
        let asks = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n\
                    x,1000,10,1,1000,\ny,2000,20,1,461,T|Z\nz,3000,30,0,0,\nw,4000,40,8,1000,P|T\n";
        let (nodes, models) = read_nodes(nodes).unwrap();
        assert_eq!(models, ["P", "T"]);
        assert_eq!((nodes[1].accelerators, nodes[1].model, nodes[1].cpus_milli), (8, 1, 96_000));
        let asks = read_asks(asks, &models).unwrap();
        let expected = [
            (Some(GpuQuantity::Whole(1)), ANY_MODEL),
            (Some(GpuQuantity::Blocks(47)), 0b10),
            (None, ANY_MODEL),
            (Some(GpuQuantity::Whole(8)), 0b11),
        ];
        assert_eq!(asks.iter().map(|ask| (ask.gpus, ask.models)).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_line() {
        for (text, expected) in [
            ("", "empty"),
            ("a,b\n", "`cpu_milli`"),
            ("cpu_milli,memory_mib,gpu,model\n1,2,3,P\nx,2,3,P\n", "line 3"),
            ("cpu_milli,memory_mib,gpu,model\n1,2\n", "too few fields"),
        ] {
            let error = format!("{:#}", read_nodes(text).expect_err("it is wrong"));
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_made_up_population_is_the_same_each_time_and_adds_up() {
        assert_eq!(ASKS.iter().map(|(percent, _)| percent).sum::<usize>(), 100);
        let (one, two) = (Population::made_up(), Population::made_up());
        assert_eq!((one.nodes.len(), one.asks.len()), (1_050, 8_000));
        assert_eq!(one.asks, two.asks);
    }
}
