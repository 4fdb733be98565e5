//! Quotas that are more than there is shrink together: HTCondor's scaling of group quotas.

/// The quotas, scaled to `available` where they are more together; each by the same factor. What rounding down left
/// goes to those that lost most by it, of equals to the first, so that all of it is given.
#[must_use]
pub fn scale(quotas: &[u64], available: u64) -> Vec<u64> {
    let sum: u128 = quotas.iter().map(|quota| u128::from(*quota)).sum();
    if sum <= u128::from(available) {
        return quotas.to_vec();
    }
    let scaled = |quota: &u64| u128::from(*quota) * u128::from(available);
    let mut whole: Vec<u64> =
        quotas.iter().map(|quota| u64::try_from(scaled(quota) / sum).unwrap_or(u64::MAX)).collect();
    let given: u128 = whole.iter().map(|quota| u128::from(*quota)).sum();
    let left = usize::try_from(u128::from(available) - given).unwrap_or(0);
    let mut order: Vec<usize> = (0..quotas.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(scaled(&quotas[*at]) % sum));
    order.into_iter().take(left).for_each(|at| whole[at] += 1);
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_keep_their_proportion() {
        assert_eq!(scale(&[20, 10], 30), [20, 10]);
        assert_eq!(scale(&[20, 10], 15), [10, 5]);
        assert_eq!(scale(&[20, 10], 100), [20, 10], "quotas do not grow");
        assert_eq!(scale(&[20, 10], 10), [7, 3]);
        assert_eq!(scale(&[1, 1, 1], 2), [1, 1, 0]);
        assert_eq!(scale(&[5, 5], 0), [0, 0]);
        assert!(scale(&[], 5).is_empty());
    }

    proptest::proptest! {
        #[test]
        fn all_that_is_there_is_given(quotas in proptest::collection::vec(0_u64..1000, 1..9), available in 0_u64..5000) {
            let sum: u64 = quotas.iter().sum();
            let scaled = scale(&quotas, available);
            proptest::prop_assert_eq!(scaled.iter().sum::<u64>(), sum.min(available));
            for (scaled, quota) in scaled.iter().zip(&quotas) {
                proptest::prop_assert!(scaled <= quota);
            }
        }
    }
}
