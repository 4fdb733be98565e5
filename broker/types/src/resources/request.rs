//! GPU requests: `8`, `H100`, `H100:8`, `80GB+:8`, `A100:0.25`, `mig-1g.10gb:1`; memory sizes: `32GB`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::GpuModel;

/// Most GPUs that one node part may ask for: the largest NVLink domain sold today is 72.
pub const MAX_GPUS_PER_NODE: u32 = 72;

/// Which accelerators will do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum GpuSelector {
    /// Any model.
    Any,
    /// This model only.
    Model(GpuModel),
    /// Any model with at least this much memory.
    MemoryAtLeast {
        /// In GiB.
        gib: u32,
    },
    /// A MIG slice of this profile, as NVIDIA writes it, for example `1g.10gb`.
    Mig {
        /// The profile without the `mig-`.
        profile: String,
    },
}

/// How much of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GpuQuantity {
    /// Whole accelerators, or whole MIG slices; at least 1.
    Whole(u32),
    /// 1 to 99 hundredths of one accelerator.
    Blocks(u32),
}

/// What a job asks of the accelerators of each node.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GpuRequest {
    /// Which.
    pub selector: GpuSelector,
    /// How much.
    pub quantity: GpuQuantity,
}

impl GpuRequest {
    /// Hundredths of an accelerator that are asked for; a MIG slice counts as whole ones do.
    #[must_use]
    pub const fn blocks(&self) -> u64 {
        match self.quantity {
            GpuQuantity::Whole(count) => count as u64 * 100,
            GpuQuantity::Blocks(blocks) => blocks as u64,
        }
    }
}

/// Why a text is not a GPU request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{value}` is not a GPU request: {problem}; write `MODEL:COUNT`, for example `H100:8`, `80GB+:2`, `A100:0.25` or `mig-1g.10gb:1`"
)]
pub struct GpuRequestError {
    /// What was given, cut to 80 characters.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
}

impl FromStr for GpuRequest {
    type Err = GpuRequestError;

    fn from_str(text: &str) -> Result<Self, GpuRequestError> {
        let refused = |problem: String| GpuRequestError { value: text.chars().take(80).collect(), problem };
        let (selector, quantity) = match text.rsplit_once(':') {
            Some((selector, quantity)) => (selector, quantity),
            None if text.is_empty()
                || text.starts_with(|c: char| c.is_ascii_digit()) && !text.contains("GB+") =>
            {
                ("", text)
            }
            None => (text, "1"),
        };
        let selector = parse_selector(selector).map_err(refused)?;
        let quantity = parse_quantity(quantity).map_err(refused)?;
        if matches!(selector, GpuSelector::Mig { .. }) && matches!(quantity, GpuQuantity::Blocks(_)) {
            return Err(refused("a MIG slice cannot be split".to_owned()));
        }
        Ok(Self { selector, quantity })
    }
}

fn parse_selector(text: &str) -> Result<GpuSelector, String> {
    if text.is_empty() {
        return Ok(GpuSelector::Any);
    }
    if let Some(profile) = text.strip_prefix("mig-") {
        let fine = profile.split_once("g.").is_some_and(|(slices, memory)| {
            slices.parse::<u8>().is_ok_and(|n| (1..=7).contains(&n))
                && memory.strip_suffix("gb").is_some_and(|gb| gb.parse::<u16>().is_ok_and(|gb| gb > 0))
        });
        return if fine {
            Ok(GpuSelector::Mig { profile: profile.to_owned() })
        } else {
            Err(format!("`{profile}` is not a MIG profile like `1g.10gb`"))
        };
    }
    if let Some(gib) = text.strip_suffix("GB+") {
        return match gib.parse::<u32>() {
            Ok(gib) if gib > 0 => Ok(GpuSelector::MemoryAtLeast { gib }),
            Ok(_) | Err(_) => Err(format!("`{gib}` is not a number of gigabytes")),
        };
    }
    text.parse().map(GpuSelector::Model).map_err(|error: crate::NameError| error.to_string())
}

fn parse_quantity(text: &str) -> Result<GpuQuantity, String> {
    if let Ok(count) = text.parse::<u32>() {
        return match count {
            0 => Err("0 GPUs: leave `gpus` out for a job that needs none".to_owned()),
            1..=MAX_GPUS_PER_NODE => Ok(GpuQuantity::Whole(count)),
            _ => Err(format!("{count} is over {MAX_GPUS_PER_NODE} on one node; use `nodes` for more")),
        };
    }
    let hundredths = text.strip_prefix("0.").filter(|digits| matches!(digits.len(), 1 | 2));
    let blocks = hundredths.and_then(|digits| {
        let value = digits.parse::<u32>().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))?;
        Some(if digits.len() == 1 { value * 10 } else { value })
    });
    match blocks {
        Some(0) => Err("0 GPUs: leave `gpus` out for a job that needs none".to_owned()),
        Some(blocks) => Ok(GpuQuantity::Blocks(blocks)),
        None => Err(format!("`{text}` is neither a whole number nor a fraction from 0.01 to 0.99")),
    }
}

impl fmt::Display for GpuRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.selector {
            GpuSelector::Any => {}
            GpuSelector::Model(model) => write!(f, "{model}:")?,
            GpuSelector::MemoryAtLeast { gib } => write!(f, "{gib}GB+:")?,
            GpuSelector::Mig { profile } => write!(f, "mig-{profile}:")?,
        }
        match self.quantity {
            GpuQuantity::Whole(count) => write!(f, "{count}"),
            GpuQuantity::Blocks(blocks) => write!(f, "0.{blocks:02}"),
        }
    }
}

impl fmt::Debug for GpuRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for GpuRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GpuRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What a job asks of each of its nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Accelerators; none for a CPU job.
    pub gpus: Option<GpuRequest>,
    /// Thousandths of a CPU; at least 1.
    pub cpus_milli: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
}

/// Why a text is not a memory size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{value}` is not a memory size: write a whole number and a unit, for example `512MB`, `32GB` or `2TB`"
)]
pub struct MemoryError {
    /// What was given, cut to 80 characters.
    pub value: String,
}

/// Parses `512MB`, `32GB`, `2TB` (binary units; `MiB` and `GiB` mean the same) to MiB.
///
/// # Errors
/// [`MemoryError`] where the number or the unit is missing, or the size is zero or over 1,000,000 GiB.
pub fn parse_memory_mib(text: &str) -> Result<u64, MemoryError> {
    let refused = || MemoryError { value: text.chars().take(80).collect() };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.strip_prefix(digits).unwrap_or("");
    let factor = match unit {
        "MB" | "MiB" | "M" => 1,
        "GB" | "GiB" | "G" => 1024,
        "TB" | "TiB" | "T" => 1024 * 1024,
        _ => return Err(refused()),
    };
    let count: u64 = digits.trim().parse().map_err(|_| refused())?;
    let mib = count.checked_mul(factor).ok_or_else(refused)?;
    if mib == 0 || mib > 1_000_000 * 1024 { Err(refused()) } else { Ok(mib) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_round_trip() {
        for text in ["8", "H100:8", "80GB+:8", "A100:0.25", "mig-1g.10gb:1", "RTX-4090:1", "0.05"] {
            let request: GpuRequest = text.parse().unwrap();
            assert_eq!(request.to_string(), text);
            assert_eq!(request.to_string().parse(), Ok(request));
        }
        assert_eq!("h100".parse::<GpuRequest>().unwrap().to_string(), "H100:1");
        assert_eq!("A100:0.5".parse::<GpuRequest>().unwrap().quantity, GpuQuantity::Blocks(50));
        assert_eq!("80GB+".parse::<GpuRequest>().unwrap().to_string(), "80GB+:1");
    }

    #[test]
    fn wrong_requests_say_what_is_wrong() {
        for (text, problem) in [
            ("0", "0 GPUs"),
            ("H100:0", "0 GPUs"),
            ("H100:0.00", "0 GPUs"),
            ("H100:1.5", "neither"),
            ("H100:-1", "neither"),
            ("H100:0.+5", "neither"),
            ("H100:73", "over 72"),
            ("mig-9g.1gb:1", "MIG profile"),
            ("mig-1g.10gb:0.5", "cannot be split"),
            ("H 100:1", "GPU model"),
            ("xGB+:1", "gigabytes"),
            ("", "neither"),
        ] {
            let error = text.parse::<GpuRequest>().map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
        }
        assert!("H100:72".parse::<GpuRequest>().is_ok());
    }

    #[test]
    fn memory_sizes_parse() {
        assert_eq!(parse_memory_mib("32GB"), Ok(32 * 1024));
        assert_eq!(parse_memory_mib("512MiB"), Ok(512));
        for wrong in ["", "32", "GB", "0GB", "-1GB", "1.5GB", "9999999999999TB", "3 XB"] {
            assert!(parse_memory_mib(wrong).is_err(), "{wrong}");
        }
    }
}
