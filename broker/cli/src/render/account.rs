//! Groups and users.

use spillway_api::v1::{GroupView, Page, TokenView, UserView};

use super::value::{amount, limit, list, maybe};
use crate::output::Look;
use crate::table::Table;

/// The list of groups.
pub(crate) fn groups(look: &Look, page: &Page<GroupView>) -> String {
    let heads = [
        "NAME",
        "PARENT",
        ">PRIORITY",
        ">WEIGHT",
        ">BUDGET",
        ">SPENT",
        ">HELD",
        ">LEFT",
        "?CURRENCY",
        "MEMBERS",
    ];
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
            group.currency.to_string(),
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
    let lends = page.items.iter().any(|user| user.credit.is_some());
    let heads = ["NAME", "GROUP", "ROLE", ">CREDIT"];
    let columns = if lends { heads.len() } else { heads.len() - 1 };
    let mut table = Table::new(look, heads.get(..columns).unwrap_or(&heads));
    for user in &page.items {
        let mut cells = vec![user.name.to_string(), user.group.to_string(), user.role.as_str().to_owned()];
        cells.extend(lends.then(|| user.credit.map(amount).unwrap_or_default()));
        table.row_of(cells);
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

#[cfg(test)]
#[path = "account_tests.rs"]
mod tests;
