//! Accelerators as NVIDIA's driver reports them through NVML. The library is loaded at run time; where it is
//! not there, the node has none.
//!
//! Left out: NVLink domains.

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use spillway_types::resources::MigSlice;
use spillway_types::{Accelerator, GpuModel};

const MIB: u64 = 1024 * 1024;

/// Every accelerator whose name can be told, ordered by index.
pub(super) fn accelerators() -> Result<Vec<Accelerator>, NvmlError> {
    let nvml = Nvml::init()?;
    let mut accelerators = Vec::new();
    for index in 0..nvml.device_count()? {
        let device = nvml.device_by_index(index)?;
        let name = device.name()?;
        let Some(model) = short_model(&name) else {
            tracing::error!(index, name, "an accelerator's model name cannot be read; it is left out");
            continue;
        };
        accelerators.push(Accelerator {
            index,
            uuid: device.uuid()?,
            model,
            memory_mib: device.memory_info()?.total / MIB,
            mig: slices(&device),
            domain: None,
        });
    }
    Ok(accelerators)
}

/// MIG slices of a device; none where it has no MIG or it is switched off.
fn slices(device: &Device<'_>) -> Vec<MigSlice> {
    if device.mig_mode().map_or(0, |mode| mode.current) == 0 {
        return Vec::new();
    }
    let count = device.mig_device_count().unwrap_or(0);
    // Places are numbered to the most that fit; the empty ones answer with an error.
    let places = (0..count).filter_map(|index| device.mig_device_by_index(index).ok());
    places
        .filter_map(|slice| {
            Some(MigSlice { uuid: slice.uuid().ok()?, profile: profile_of(&slice.name().ok()?)?.to_owned() })
        })
        .collect()
}

/// `1g.10gb` of `NVIDIA H100 80GB HBM3 MIG 1g.10gb`.
fn profile_of(name: &str) -> Option<&str> {
    name.split_once(" MIG ").map(|(_, profile)| profile.trim()).filter(|profile| !profile.is_empty())
}

/// Words of a product's name that are not its model.
const MAKERS: [&str; 4] = ["NVIDIA", "GEFORCE", "TESLA", "QUADRO"];

/// The short model of a product: `H100` of `NVIDIA H100 80GB HBM3`, `RTX-4090` of `NVIDIA GeForce RTX 4090`.
/// Form factors and memory sizes are left off, since jobs ask for the model and memory has a field of its own.
fn short_model(name: &str) -> Option<GpuModel> {
    let name = name.to_ascii_uppercase();
    let mut words = name.split_whitespace().skip_while(|word| MAKERS.contains(word));
    let first = words.next()?;
    let model = match first {
        "RTX" | "GTX" | "TITAN" => {
            let kept = words.take_while(|word| !word.ends_with("GB") && *word != "GENERATION");
            std::iter::once(first).chain(kept).collect::<Vec<_>>().join("-")
        }
        "GRACE" | "GB200" | "GH200" => first.to_owned(),
        data_centre => data_centre.split('-').next().unwrap_or(data_centre).to_owned(),
    };
    model.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_have_short_names() {
        for (name, model) in [
            ("NVIDIA H100 80GB HBM3", "H100"),
            ("NVIDIA H200", "H200"),
            ("NVIDIA A100-SXM4-80GB", "A100"),
            ("Tesla V100-SXM2-16GB", "V100"),
            ("Tesla T4", "T4"),
            ("NVIDIA L40S", "L40S"),
            ("NVIDIA GeForce RTX 4090", "RTX-4090"),
            ("NVIDIA GeForce RTX 3060 Ti", "RTX-3060-TI"),
            ("NVIDIA RTX A6000", "RTX-A6000"),
            ("NVIDIA RTX 6000 Ada Generation", "RTX-6000-ADA"),
            ("NVIDIA GH200 480GB", "GH200"),
            ("NVIDIA B200", "B200"),
        ] {
            assert_eq!(short_model(name).unwrap().as_str(), model, "{name}");
        }
        assert!(short_model("NVIDIA").is_none());
    }

    #[test]
    fn slices_have_profiles() {
        assert_eq!(profile_of("NVIDIA H100 80GB HBM3 MIG 1g.10gb"), Some("1g.10gb"));
        assert_eq!(profile_of("NVIDIA A100-SXM4-40GB"), None);
    }
}
