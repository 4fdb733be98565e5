//! Who pays, who sells, and where.

use spillway_ledger::calendar::Period as Month;
use spillway_ledger::journal;
use spillway_ledger::{Account as Payee, Usage};
use spillway_types::{GroupName, PoolName, SiteName};

use crate::charge::{Account, Place, Seller};

/// The account of a group: the cost centre is the group at the root of its tree. The letters before the name keep an
/// id of digits alone from being read as a number.
pub(super) fn group_account(group: &GroupName, usage: Option<&Usage>) -> Account {
    let above = usage.map(|usage| usage.above.as_slice()).unwrap_or_default();
    let root = above.first().unwrap_or(group);
    let path: String = above.iter().chain([group]).map(|name| format!("/{name}")).collect();
    Account {
        billing_id: format!("cc-{root}"),
        billing_name: root.to_string(),
        billing_type: "Cost Centre".to_owned(),
        group_path: path,
        group_name: group.to_string(),
        group_type: "Group".to_owned(),
    }
}

/// The account of what a site bears itself: `kind` is `Idle` or `Variance`.
pub(super) fn site_account(site: &SiteName, kind: &str, name: &str) -> Account {
    Account {
        billing_id: format!("site-{site}"),
        billing_name: site.to_string(),
        billing_type: "Site".to_owned(),
        group_path: format!("/{}/{name}", kind.to_ascii_lowercase()),
        group_name: name.to_owned(),
        group_type: kind.to_owned(),
    }
}

/// The account of a pool's idle time.
pub(super) fn idle_account(site: &SiteName, pool: &PoolName) -> Account {
    site_account(site, "Idle", pool.as_str())
}

/// The ledger's invoice, of the account that it bills.
pub(super) fn invoice_id(payee: &Payee, booked: Month, account: &Account) -> String {
    format!("{}-{}", journal::invoice_id(payee, booked), account.billing_id)
}

pub(super) fn seller(payee: &Payee) -> Seller {
    let name = match payee {
        Payee::Payable { cloud, .. } => cloud.to_string(),
        Payee::Revenue(site) | Payee::Variance(site) => site.to_string(),
        Payee::Owner(user) => user.to_string(),
        Payee::Idle(pool) => pool.to_string(),
        Payee::Held(group) | Payee::Spend(group) => group.to_string(),
        Payee::Committed => payee.to_string(),
    };
    Seller { provider: name.clone(), publisher: name.clone(), host: name.clone(), invoice_issuer: name }
}

pub(super) fn place(site: &SiteName, usage: Option<&Usage>) -> Place {
    let region = usage.and_then(|usage| usage.region.as_ref()).unwrap_or(site);
    Place {
        site: site.to_string(),
        region_id: region.to_string(),
        region_name: region.to_string(),
        zone: None,
    }
}
