//! Faults that the local cloud shows on demand, from `STATE_DIR/faults.toml`, read at each call:
//!
//! ```toml
//! [[faults]]
//! kind = "slow-boot"    # no-capacity timeout-after-launch slow-boot refuse terminate-error list-error interrupt
//! region = "east"       # any region where it is left out
//! extra = "5s"          # with slow-boot; `after` with interrupt
//! count = 2             # once where it is left out
//! ```
//!
//! Each time a fault shows, its count is lowered durably before anything else happens: `count` times means
//! exactly that often, whatever crashes. A file that cannot be read makes every call fail and say so.

use std::path::Path;

use serde::{Deserialize, Serialize};
use spillway_types::{DurationMs, SiteName};

use crate::store::{Locked, Store, StoreError};

/// Name of the file in the state folder.
pub(crate) const FAULTS_FILE: &str = "faults.toml";

/// A fault, and how often it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where; none means anywhere.
    pub region: Option<SiteName>,
    /// What.
    pub kind: FaultKind,
    /// How often it still shows.
    pub count: u32,
}

/// What can be made to go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// A new launch finds no capacity.
    NoCapacity,
    /// A launch works, and its answer is lost.
    TimeoutAfterLaunch,
    /// A new instance boots for this much longer.
    SlowBoot {
        /// On top of the region's time.
        extra: DurationMs,
    },
    /// A new launch is refused for good.
    Refuse,
    /// A terminate fails without effect.
    TerminateError,
    /// A listing fails. Its region does not matter: a listing is complete or an error.
    ListError,
    /// A running instance is announced to be taken back, and is killed when the time is over.
    Interrupt {
        /// How long it has from the listing that first shows the notice.
        after: DurationMs,
    },
}

impl FaultKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::NoCapacity => "no-capacity",
            Self::TimeoutAfterLaunch => "timeout-after-launch",
            Self::SlowBoot { .. } => "slow-boot",
            Self::Refuse => "refuse",
            Self::TerminateError => "terminate-error",
            Self::ListError => "list-error",
            Self::Interrupt { .. } => "interrupt",
        }
    }

    /// Its `extra` and its `after`.
    const fn spans(self) -> (Option<DurationMs>, Option<DurationMs>) {
        match self {
            Self::SlowBoot { extra } => (Some(extra), None),
            Self::Interrupt { after } => (None, Some(after)),
            Self::NoCapacity
            | Self::TimeoutAfterLaunch
            | Self::Refuse
            | Self::TerminateError
            | Self::ListError => (None, None),
        }
    }
}

/// Why a faults file was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the faults file is not right: {0}")]
pub struct FaultFileError(String);

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    faults: Vec<RawFault>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFault {
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<SiteName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    count: Option<u32>,
}

pub(crate) fn parse(text: &str) -> Result<Vec<Fault>, FaultFileError> {
    let raw: RawFile = toml::from_str(text).map_err(|error| FaultFileError(error.to_string()))?;
    raw.faults.into_iter().map(parse_fault).collect()
}

fn parse_fault(raw: RawFault) -> Result<Fault, FaultFileError> {
    let span = |name: &str, text: Option<String>| {
        let text = text.ok_or_else(|| FaultFileError(format!("`{}` needs `{name}`", raw.kind)))?;
        text.parse::<DurationMs>().map_err(|error| FaultFileError(format!("`{name}`: {error}")))
    };
    let kind = match (raw.kind.as_str(), raw.extra, raw.after) {
        ("slow-boot", extra, None) => FaultKind::SlowBoot { extra: span("extra", extra)? },
        ("interrupt", None, after) => FaultKind::Interrupt { after: span("after", after)? },
        ("no-capacity", None, None) => FaultKind::NoCapacity,
        ("timeout-after-launch", None, None) => FaultKind::TimeoutAfterLaunch,
        ("refuse", None, None) => FaultKind::Refuse,
        ("terminate-error", None, None) => FaultKind::TerminateError,
        ("list-error", None, None) => FaultKind::ListError,
        (kind, None, None) => return Err(FaultFileError(format!("`{kind}` is not a kind of fault"))),
        (kind, _, _) => {
            let problem = format!("`{kind}`: `extra` goes with slow-boot and `after` with interrupt only");
            return Err(FaultFileError(problem));
        }
    };
    Ok(Fault { region: raw.region, kind, count: raw.count.unwrap_or(1) })
}

pub(crate) fn print(faults: &[Fault]) -> Result<String, FaultFileError> {
    let raw = |fault: &Fault| {
        let (extra, after) = fault.kind.spans();
        let text = |span: DurationMs| format!("{}ms", span.0);
        RawFault {
            kind: fault.kind.as_str().to_owned(),
            region: fault.region.clone(),
            extra: extra.map(text),
            after: after.map(text),
            count: Some(fault.count),
        }
    };
    let file = RawFile { faults: faults.iter().map(raw).collect() };
    toml::to_string(&file).map_err(|error| FaultFileError(error.to_string()))
}

impl Locked {
    /// Takes one showing of the first fault that `wanted` accepts for this region (any, where it is none).
    pub(crate) fn take_fault(
        &self,
        region: Option<&SiteName>,
        wanted: impl Fn(FaultKind) -> bool,
    ) -> Result<Option<FaultKind>, StoreError> {
        let mut faults = self.faults()?;
        let fits = |fault: &&mut Fault| {
            fault.count > 0
                && wanted(fault.kind)
                && (region.is_none() || fault.region.is_none() || fault.region.as_ref() == region)
        };
        let Some(fault) = faults.iter_mut().find(fits) else { return Ok(None) };
        fault.count -= 1;
        let kind = fault.kind;
        faults.retain(|fault| fault.count > 0);
        self.save_faults(&faults)?;
        Ok(Some(kind))
    }
}

/// Adds faults to those of the cloud with this state folder, safely beside its running calls.
///
/// # Errors
/// [`StoreError`] where the folder is not there or its file of faults is not right.
pub fn inject_faults(state_dir: &Path, faults: &[Fault]) -> Result<(), StoreError> {
    let locked = Store::at(state_dir).lock()?;
    let mut all = locked.faults()?;
    all.extend_from_slice(faults);
    locked.save_faults(&all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_round_trip() {
        let faults = [
            FaultKind::NoCapacity,
            FaultKind::TimeoutAfterLaunch,
            FaultKind::SlowBoot { extra: DurationMs(5_000) },
            FaultKind::Refuse,
            FaultKind::TerminateError,
            FaultKind::ListError,
            FaultKind::Interrupt { after: DurationMs(90_001) },
        ]
        .map(|kind| Fault { region: Some("east".parse().unwrap()), kind, count: 3 });
        assert_eq!(parse(&print(&faults).unwrap()).unwrap(), faults);
        let once = parse("[[faults]]\nkind = \"refuse\"").unwrap();
        assert_eq!(once, [Fault { region: None, kind: FaultKind::Refuse, count: 1 }]);
    }

    #[test]
    fn wrong_faults_are_named() {
        for (body, named) in [
            ("kind = \"fire\"", "`fire` is not a kind"),
            ("kind = \"slow-boot\"", "needs `extra`"),
            ("kind = \"interrupt\"", "needs `after`"),
            ("kind = \"interrupt\"\nafter = \"x\"", "`after`: `x`"),
            ("kind = \"refuse\"\nextra = \"1s\"", "goes with slow-boot"),
            ("kind = \"refuse\"\ntimes = 2", "times"),
        ] {
            let error = parse(&format!("[[faults]]\n{body}")).unwrap_err().to_string();
            assert!(error.contains(named), "{body}: {error}");
        }
    }

    #[test]
    fn a_fault_shows_as_often_as_it_says_and_only_where_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(dir.path()).unwrap();
        let [east, west]: [SiteName; 2] = ["east", "west"].map(|name| name.parse().unwrap());
        let fault = Fault { region: Some(east.clone()), kind: FaultKind::Refuse, count: 2 };
        inject_faults(dir.path(), std::slice::from_ref(&fault)).unwrap();
        let locked = store.lock().unwrap();
        let take = |region| locked.take_fault(Some(region), |kind| kind == FaultKind::Refuse).unwrap();
        assert_eq!(take(&west), None);
        assert_eq!(take(&east), Some(FaultKind::Refuse));
        assert_eq!(locked.take_fault(Some(&east), |kind| kind == FaultKind::NoCapacity).unwrap(), None);
        assert_eq!([take(&east), take(&east)], [Some(FaultKind::Refuse), None]);
    }
}
