//! Faults in the file: a node that is lost, or a link that is cut, for a while.

use serde::Deserialize;
use spillway_types::DurationMs;

use super::FederationError;
use super::file::parse;
use crate::{Description, Failing, Fault};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FaultEntry {
    at: String,
    node: Option<String>,
    cut: Option<String>,
    r#for: String,
}

impl FaultEntry {
    pub(super) fn described(&self, path: &str, into: &mut Description) -> Result<(), FederationError> {
        let at = parse::<DurationMs>(&format!("{path}.at"), &self.at)?;
        let lasts = parse::<DurationMs>(&format!("{path}.for"), &self.r#for)?;
        if lasts == DurationMs(0) {
            let problem = format!("`{}` is no time at all: write for example `2h`", self.r#for);
            return Err(FederationError::new(format!("{path}.for"), problem));
        }
        let what = match (&self.node, &self.cut) {
            (Some(node), None) => node_of(path, node, into)?,
            (None, Some(cut)) => link_to(path, cut, into)?,
            (Some(_), Some(_)) => {
                let problem = "a fault has one of `node` and `cut`: write two faults";
                return Err(FederationError::new(path, problem));
            }
            (None, None) => {
                let problem = "says not what fails: add `node`, the name of a node, or `cut`, a site or pool";
                return Err(FederationError::new(path, problem));
            }
        };
        into.outside.faults.push(Fault { at, lasts, what });
        Ok(())
    }
}

fn node_of(path: &str, name: &str, description: &Description) -> Result<Failing, FederationError> {
    let names = || description.nodes.iter().map(|(_, node)| node.hostname.as_str());
    if let Some(at) = names().position(|other| other == name) {
        return Ok(Failing::Node(at));
    }
    let problem = match (names().next(), names().next_back()) {
        (Some(first), Some(last)) => {
            format!("`{name}` is not a node here: they are called {first} to {last}")
        }
        _ => format!("`{name}` is not a node here: there are none; describe them with [[sites.pools.nodes]]"),
    };
    Err(FederationError::new(format!("{path}.node"), problem))
}

/// A site where there is one of that name, else a pool.
fn link_to(path: &str, name: &str, description: &Description) -> Result<Failing, FederationError> {
    let site = description.sites.iter().find(|site| site.name.as_str() == name);
    let pool = || description.pools.iter().find(|pool| pool.name.as_str() == name);
    if let Some(site) = site {
        return Ok(Failing::Site(site.name.clone()));
    }
    if let Some(pool) = pool() {
        return Ok(Failing::Pool(pool.name.clone()));
    }
    let sites = description.sites.iter().map(|site| site.name.as_str());
    let pools = description.pools.iter().map(|pool| pool.name.as_str());
    let mut known: Vec<&str> = sites.chain(pools).collect();
    known.sort_unstable();
    known.dedup();
    let problem = format!("`{name}` is not a site or pool here: there are {}", known.join(", "));
    Err(FederationError::new(format!("{path}.cut"), problem))
}
