//! Groups in the order of their tree.

use std::collections::BTreeMap;

use spillway_types::GroupName;

/// Groups with how deep each is: each after the one above it, siblings by name. One whose parent is not among them is
/// at the top.
#[must_use]
pub fn from_the_top<'a>(
    parents: impl IntoIterator<Item = (&'a GroupName, Option<&'a GroupName>)>,
) -> Vec<(usize, &'a GroupName)> {
    let parents: BTreeMap<&GroupName, Option<&GroupName>> = parents.into_iter().collect();
    let mut below: BTreeMap<Option<&GroupName>, Vec<&GroupName>> = BTreeMap::new();
    for (group, parent) in &parents {
        below.entry(parent.filter(|parent| parents.contains_key(parent))).or_default().push(group);
    }
    let children = |of: Option<&GroupName>, depth: usize| {
        let children = below.get(&of).into_iter().flatten().rev();
        children.map(|group| (depth, *group)).collect::<Vec<_>>()
    };
    let (mut order, mut next) = (vec![], children(None, 0));
    while let Some((depth, group)) = next.pop() {
        order.push((depth, group));
        next.extend(children(Some(group), depth + 1));
    }
    order
}
