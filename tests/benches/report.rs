//! What a bench reports, one JSON object a line on stdout.

use std::borrow::Cow;
use std::io::Write as _;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// What a value is compared to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Peer {
    /// Its name and version, as somebody would need it to measure again.
    pub(crate) name: String,
    /// The same metric in the same unit, measured in the same run.
    pub(crate) value: f64,
}

/// One measured number.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Measurement {
    /// What was measured.
    pub(crate) metric: Cow<'static, str>,
    /// The median of the runs, in `unit`.
    pub(crate) value: f64,
    /// Units are written out as in `appends/s`.
    pub(crate) unit: &'static str,
    /// What it is compared to, if anything.
    pub(crate) peer: Option<Peer>,
}

/// Prints one line.
///
/// # Errors
/// stdout is closed.
pub(crate) fn print(bench: &str, measurement: &Measurement) -> Result<()> {
    writeln!(std::io::stdout(), "{}", line(bench, measurement)).context("cannot write to stdout")
}

fn line(bench: &str, measurement: &Measurement) -> Value {
    let Measurement { metric, value, unit, peer } = measurement;
    // A ratio to nothing is no number; JSON then says null.
    let ratio = peer.as_ref().map(|peer| value / peer.value).filter(|ratio| ratio.is_finite());
    json!({
        "bench": bench,
        "metric": metric,
        "value": value,
        "unit": unit,
        "peer": peer.as_ref().map(|peer| &peer.name),
        "peer_value": peer.as_ref().map(|peer| peer.value),
        "ratio": ratio,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_every_field() {
        let peer = |value| Some(Peer { name: "other 1.0".to_owned(), value });
        let cases = [
            (None, json!(null), json!(null), json!(null)),
            (peer(4.0), json!("other 1.0"), json!(4.0), json!(2.0)),
            (peer(0.0), json!("other 1.0"), json!(0.0), json!(null)),
        ];
        for (peer, name, value, ratio) in cases {
            let measurement = Measurement { metric: "m".into(), value: 8.0, unit: "x/s", peer };
            let expected = json!({
                "bench": "b", "metric": "m", "value": 8.0, "unit": "x/s",
                "peer": name, "peer_value": value, "ratio": ratio,
            });
            assert_eq!(line("b", &measurement), expected);
        }
    }
}
