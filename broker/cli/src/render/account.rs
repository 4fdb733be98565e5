//! Groups, users and what was spent.

use spillway_api::v1::{GroupView, Page, SpendReport, TokenView, UserView};
use spillway_types::Money;

use super::value::{amount, gpu_hours, limit, list, maybe};
use crate::output::Look;
use crate::table::Table;

/// The list of groups.
pub(crate) fn groups(look: &Look, page: &Page<GroupView>) -> String {
    let heads = ["NAME", "PARENT", ">PRIORITY", ">WEIGHT", ">BUDGET", ">SPENT", ">HELD", ">LEFT", "MEMBERS"];
    let mut table = Table::new(look, &heads);
    for group in &page.items {
        table.row([
            group.name.to_string(),
            maybe(group.parent.as_ref()),
            group.priority.to_string(),
            group.weight.to_string(),
            limit(group.budget),
            amount(group.spent),
            amount(group.held),
            limit(group.left),
            list(&group.members),
        ]);
    }
    table.lines()
}

/// One group.
pub(crate) fn group(look: &Look, view: &GroupView) -> String {
    groups(look, &Page { items: vec![view.clone()], next: None })
}

/// The list of users.
pub(crate) fn users(look: &Look, page: &Page<UserView>) -> String {
    let mut table = Table::new(look, &["NAME", "GROUP", "ROLE"]);
    for user in &page.items {
        table.row([user.name.to_string(), user.group.to_string(), user.role.as_str().to_owned()]);
    }
    table.lines()
}

/// One user.
pub(crate) fn user(look: &Look, view: &UserView) -> String {
    users(look, &Page { items: vec![view.clone()], next: None })
}

/// A new token, and nothing else: it is made to be copied.
pub(crate) fn token(_: &Look, view: &TokenView) -> String {
    format!("{}\n", view.token.expose())
}

/// What was spent, with the total as the last line.
pub(crate) fn spend(look: &Look, report: &SpendReport) -> String {
    let heads: Vec<String> = report.by.iter().map(|key| key.as_str().to_uppercase()).collect();
    let heads: Vec<&str> = heads.iter().map(String::as_str).chain([">AMOUNT", ">GPU HOURS"]).collect();
    let mut table = Table::new(look, &heads);
    let shown = |money: Money| if look.wide { format!("{money:.6}") } else { amount(money) };
    for row in &report.rows {
        let keys = report.by.iter().map(|key| row.keys.get(key.as_str()).cloned().unwrap_or_default());
        table.row_of(keys.chain([shown(row.amount), gpu_hours(row.gpu_ms)]).collect());
    }
    let used: u64 = report.rows.iter().map(|row| row.gpu_ms).sum();
    let mut total = vec![String::new(); report.by.len()];
    if let Some(first) = total.first_mut() {
        "total".clone_into(first);
    }
    table.row_of(total.into_iter().chain([shown(report.total), gpu_hours(used)]).collect());
    table.lines()
}

#[cfg(test)]
#[path = "account_tests.rs"]
mod tests;
