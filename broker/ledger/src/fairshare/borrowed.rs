//! The group that borrows least for its weight is next: the weighted share of Kueue.

/// How much a group borrows of what is lent, for its weight, in thousandths: `1000 x borrowed / lendable / weight`.
///
/// `weight_milli` is in thousandths; who has none and borrows comes last. Nothing to borrow counts as 0.
///
/// Source: Kueue's fair sharing, the dominant resource share of one resource.
#[must_use]
pub fn share_value(used: u64, quota: u64, lendable: u64, weight_milli: u64) -> u64 {
    let borrowed = u128::from(used.saturating_sub(quota));
    match (borrowed, u128::from(lendable) * u128::from(weight_milli)) {
        (0, _) => 0,
        (_, 0) => u64::MAX,
        (borrowed, divisor) => u64::try_from(borrowed * 1_000_000 / divisor).unwrap_or(u64::MAX),
    }
}

/// A group that shares what its parent has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareNode {
    /// Its parent's place in the list, which comes before its own; none for the topmost.
    pub parent: Option<usize>,
    /// Its weight in thousandths.
    pub weight_milli: u64,
    /// What it wants itself.
    pub wanted: u64,
}

/// Hands `capacity` out in units, each to the group whose weighted share is the lowest with it, level by level from
/// the top; of equals the first. Gives what each node gets, with what goes below it.
#[must_use]
pub fn fill(nodes: &[ShareNode], capacity: u64) -> Vec<u64> {
    let (mut got, mut own) = (vec![0_u64; nodes.len()], vec![0_u64; nodes.len()]);
    let mut wanting: Vec<u64> = nodes.iter().map(|node| node.wanted).collect();
    for at in (0..nodes.len()).rev() {
        if let Some(parent) = nodes[at].parent.filter(|parent| *parent < at) {
            wanting[parent] = wanting[parent].saturating_add(wanting[at]);
        }
    }
    for _ in 0..capacity {
        let mut at = None;
        loop {
            let below =
                (0..nodes.len()).filter(|node| nodes[*node].parent == at && got[*node] < wanting[*node]);
            let value = |node: usize| share_value(got[node] + 1, 0, capacity, nodes[node].weight_milli);
            let lowest = below.min_by_key(|node| value(*node));
            // What a node wants itself comes before what is wanted below it.
            let itself = at.is_some_and(|at: usize| own[at] < nodes[at].wanted);
            match lowest.filter(|_| !itself) {
                Some(node) => at = Some(node),
                None => break,
            }
        }
        let Some(leaf) = at else { break };
        own[leaf] += 1;
        for node in std::iter::successors(Some(leaf), |node| nodes[*node].parent).take(nodes.len()) {
            got[node] += 1;
        }
    }
    got
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_is_what_is_borrowed_over_the_weight() {
        for (weight, expected) in [(1_000, 200), (2_000, 100), (500, 400), (0, u64::MAX)] {
            assert_eq!(share_value(7, 5, 10, weight), expected, "{weight}");
        }
        assert_eq!(share_value(5, 5, 10, 0), 0, "it borrows nothing");
        assert_eq!(share_value(7, 5, 0, 1_000), u64::MAX);
        assert_eq!(share_value(u64::MAX, 0, 1, 1), u64::MAX);
    }

    #[test]
    fn two_equal_cohorts_get_half_each_and_weights_count_inside() {
        let node = |parent, weight_milli, wanted| ShareNode { parent, weight_milli, wanted };
        let nodes = [
            node(None, 1_000, 0),
            node(None, 1_000, 300),
            node(Some(0), 1_000, 300),
            node(Some(0), 1_000, 300),
            node(Some(0), 3_000, 300),
        ];
        assert_eq!(fill(&nodes, 300), [150, 150, 30, 30, 90]);
    }

    #[test]
    fn what_one_does_not_want_goes_to_the_others() {
        let node = |parent, wanted| ShareNode { parent, weight_milli: 1_000, wanted };
        assert_eq!(fill(&[node(None, 2), node(None, 100)], 10), [2, 8]);
        assert_eq!(fill(&[node(None, 2), node(None, 1)], 10), [2, 1]);
        assert_eq!(fill(&[node(None, 2), node(Some(0), 9)], 5), [5, 3]);
        assert!(fill(&[], 10).is_empty());
    }
}
