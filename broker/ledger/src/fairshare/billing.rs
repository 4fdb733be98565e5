//! What an allocation counts as, where several resources are used.

/// Sum of amount x weight over resources; weights and the result are in thousandths.
///
/// Source: Slurm's TRES billing weights, summed over resources.
#[must_use]
pub fn bill(amounts_and_weights: &[(u64, u64)]) -> u64 {
    let sum = amounts_and_weights.iter().map(|(amount, weight)| u128::from(*amount) * u128::from(*weight));
    u64::try_from(sum.fold(0, u128::saturating_add)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cpu_and_eight_gigabytes_count_as_three() {
        assert_eq!(bill(&[(1, 1_000), (8, 250)]), 3_000);
        assert_eq!(bill(&[]), 0);
        assert_eq!(bill(&[(u64::MAX, u64::MAX), (u64::MAX, u64::MAX)]), u64::MAX);
    }
}
