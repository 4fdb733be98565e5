//! Each gets what it deserves, and the rest is shared out by weight: the division of KAI-Scheduler.
//!
//! Shares of the rest are rounded down to whole accelerators; what rounding left goes one by one to those that lost
//! most by it. Unlike there, a queue that is alone at its priority gets no more than it asks.

use std::cmp::Reverse;
use std::collections::BTreeSet;

/// A queue that asks for accelerators. Of equals the one that comes first in the list is served first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// What it gets before anything is shared out.
    pub deserved: u64,
    /// What it asks for in all.
    pub asked: u64,
    /// Its weight when the rest is shared out; 0 takes no part.
    pub weight: u64,
    /// The rest goes to the highest priority first.
    pub priority: i32,
}

/// Who gets what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Division {
    /// What each queue gets, in the order in which they were given.
    pub shares: Vec<u64>,
    /// What nobody asked for.
    pub left: u64,
}

/// What rounding took from a queue: `numerator / denominator` of an accelerator.
#[derive(Clone, Copy)]
struct Lost {
    queue: usize,
    numerator: u128,
    denominator: u128,
}

/// Divides `total` accelerators. Where less is there than all deserve, those that come first get theirs first.
#[must_use]
pub fn divide(queues: &[Queue], total: u64) -> Division {
    let mut left = total;
    let mut shares: Vec<u64> = vec![];
    for queue in queues {
        let own = queue.deserved.min(queue.asked).min(left);
        shares.push(own);
        left -= own;
    }
    let priorities: BTreeSet<Reverse<i32>> = queues.iter().map(|queue| Reverse(queue.priority)).collect();
    let mut lost: Vec<Vec<Lost>> = vec![];
    for Reverse(priority) in &priorities {
        let members: Vec<usize> = (0..queues.len()).filter(|at| queues[*at].priority == *priority).collect();
        lost.push(share_out(queues, &members, &mut shares, &mut left));
    }
    for mut lost in lost {
        // Compared crosswise: a/b > c/d is a x d > c x b. The sort is stable: of equals the first stays first.
        lost.sort_by(|a, b| (b.numerator * a.denominator).cmp(&(a.numerator * b.denominator)));
        for lost in lost {
            let wants = queues[lost.queue].asked > shares[lost.queue];
            if left > 0 && wants {
                shares[lost.queue] += 1;
                left -= 1;
            }
        }
    }
    Division { shares, left }
}

/// Rounds of shares by weight, until no queue gets less than its share.
fn share_out(queues: &[Queue], members: &[usize], shares: &mut [u64], left: &mut u64) -> Vec<Lost> {
    let mut lost: Vec<Lost> = vec![];
    loop {
        let to_give = *left;
        let wanting = |shares: &[u64], at: usize| queues[at].asked.saturating_sub(shares[at]);
        let weights =
            members.iter().filter(|at| wanting(shares, **at) > 0).map(|at| u128::from(queues[*at].weight));
        let all: u128 = weights.sum();
        if all == 0 || to_give == 0 {
            return lost;
        }
        let mut again = false;
        for at in members {
            let (wanted, weight) = (wanting(shares, *at), u128::from(queues[*at].weight));
            if wanted == 0 || weight == 0 {
                continue;
            }
            let share = u128::from(to_give) * weight;
            let (whole, rest) = (u64::try_from(share / all).unwrap_or(u64::MAX), share % all);
            lost.retain(|lost| lost.queue != *at);
            let enough = wanted <= whole;
            if !enough && rest > 0 {
                lost.push(Lost { queue: *at, numerator: rest, denominator: all });
            }
            again |= wanted < whole || (enough && rest > 0);
            let given = wanted.min(whole).min(*left);
            shares[*at] += given;
            *left -= given;
        }
        if !again {
            return lost;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn queue(deserved: u64, asked: u64, weight: u64) -> Queue {
        Queue { deserved, asked, weight, priority: 0 }
    }

    fn divided(queues: &[Queue], total: u64) -> (Vec<u64>, u64) {
        let division = divide(queues, total);
        (division.shares, division.left)
    }

    #[test]
    fn what_is_asked_is_given_and_the_rest_stays() {
        assert_eq!(divided(&[queue(2, 6, 1), queue(2, 6, 1)], 15), (vec![6, 6], 3));
    }

    #[test]
    fn the_rest_is_shared_by_weight_and_remainders_go_to_the_first_of_equals() {
        // 6 are left: 1.5 and 4.5; rounded down 1 and 4, and the last one goes to the first.
        assert_eq!(divided(&[queue(1, 8, 1), queue(1, 8, 3)], 8), (vec![3, 5], 0));
        assert_eq!(divided(&[queue(2, 8, 1), queue(2, 8, 3)], 8), (vec![3, 5], 0));
        // 10 by 1:2: 3.33 and 6.67: the second lost more.
        assert_eq!(divided(&[queue(0, 10, 1), queue(0, 10, 2)], 10), (vec![3, 7], 0));
    }

    #[test]
    fn priority_weight_nought_and_scarcity() {
        let first = Queue { priority: 1, ..queue(0, 5, 1) };
        assert_eq!(divided(&[queue(0, 9, 9), first], 8), (vec![3, 5], 0));
        assert_eq!(divided(&[queue(1, 9, 0), queue(1, 2, 1)], 8), (vec![1, 2], 5));
        assert_eq!(divided(&[queue(6, 9, 1), queue(6, 9, 1)], 8), (vec![6, 2], 0));
        assert_eq!(divided(&[], 8), (vec![], 8));
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_made_or_lost_and_nobody_gets_more_than_asked(
            queues in proptest::collection::vec((0_u64..20, 0_u64..40, 0_u64..9, -1_i32..2), 0..8), total in 0_u64..100,
        ) {
            let queues: Vec<Queue> = queues.into_iter()
                .map(|(deserved, asked, weight, priority)| Queue { deserved, asked, weight, priority }).collect();
            let (shares, left) = divided(&queues, total);
            proptest::prop_assert_eq!(shares.iter().sum::<u64>() + left, total);
            for (share, queue) in shares.iter().zip(&queues) {
                proptest::prop_assert!(*share <= queue.asked);
            }
            let unmet = queues.iter().zip(&shares).any(|(queue, share)| queue.weight > 0 && *share < queue.asked);
            proptest::prop_assert!(left == 0 || !unmet, "{} left, {:?}", left, shares);
        }
    }
}
