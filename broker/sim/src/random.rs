//! Numbers that look random and are the same for the same seed, on every machine.
//!
//! The logarithm and the exponential are computed here from additions, multiplications and divisions, which IEEE
//! 754 defines to the last bit; those of the system's library differ between systems.

/// `SplitMix64` (Steele, Lea and Flood, OOPSLA 2014): small, fast, and good enough for choosing.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 where the bound is 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        let next = self.next();
        if bound == 0 { 0 } else { next % bound }
    }

    /// A number from 0, included, to 1, excluded: a multiple of 2^-53.
    pub const fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Exponentially distributed with mean 1; by inversion.
    pub fn exponential(&mut self) -> f64 {
        -ln(1.0 - self.unit())
    }

    /// Normally distributed with mean 0 and variance 1; by the polar method of Marsaglia (1964).
    pub fn normal(&mut self) -> f64 {
        loop {
            let (x, y) = (2.0 * self.unit() - 1.0, 2.0 * self.unit() - 1.0);
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                return x * (-2.0 * ln(square) / square).sqrt();
            }
        }
    }
}

/// The natural logarithm of a positive, normal number; exact to about 1e-15 of itself.
pub(crate) fn ln(x: f64) -> f64 {
    let (bits, bias) = (x.to_bits(), 1023_u32);
    let raised = u32::try_from((bits >> 52) & 0x7ff).unwrap_or(bias);
    let mut exponent = f64::from(raised) - f64::from(bias);
    let mut mantissa = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | (u64::from(bias) << 52));
    if mantissa > std::f64::consts::SQRT_2 {
        (mantissa, exponent) = (mantissa / 2.0, exponent + 1.0);
    }
    // ln m = 2 artanh t with t = (m - 1) / (m + 1); here |t| < 0.172, so that 12 terms pass the last bit.
    let t = (mantissa - 1.0) / (mantissa + 1.0);
    let (square, mut power, mut sum) = (t * t, t, 0.0);
    for odd in (1..25_u32).step_by(2) {
        sum += power / f64::from(odd);
        power *= square;
    }
    exponent * std::f64::consts::LN_2 + 2.0 * sum
}

/// `e` to the power of `x`, for `x` from -700 to 700, to which others are cut; exact to about 1e-14 of itself.
#[must_use]
pub(crate) fn exp(x: f64) -> f64 {
    if x < 0.0 {
        return 1.0 / exp(-x);
    }
    let x = x.min(700.0);
    let halvings = 10;
    let reduced = x / f64::from(1_u32 << halvings);
    let (mut term, mut sum) = (1.0, 0.0);
    // |reduced| < 0.69: 20 terms of the series pass the last bit. Summed without the leading 1 and squared as
    // (1 + s)^2 - 1, so that the small part loses no bits.
    for n in 1..21_u32 {
        term *= reduced / f64::from(n);
        sum += term;
    }
    for _ in 0..halvings {
        sum *= 2.0 + sum;
    }
    1.0 + sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_sequence_within_its_bound() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..100).map(|_| random.below(10)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!((0..10).all(|number| draw(1).contains(&number)));
        assert_eq!(Random::new(1).below(0), 0);
    }

    #[test]
    fn logarithm_and_exponential_are_right() {
        for x in [1e-300, 1e-9, 0.3, 0.5, 1.0, 1.41, 1.42, 2.0, 3.0, 1000.0, 1e300] {
            let (own, library) = (ln(x), f64::ln(x));
            assert!((own - library).abs() <= 4e-16 * library.abs().max(1.0), "ln {x}: {own} {library}");
        }
        for x in [-700.0, -30.0, -1.0, -1e-9, 0.0, 1e-9, 0.5, 1.0, 30.0, 700.0] {
            let (own, library) = (exp(x), f64::exp(x));
            assert!((own - library).abs() <= 1e-12 * library, "exp {x}: {own} {library}");
        }
    }

    #[test]
    fn draws_have_their_moments_and_are_the_same_everywhere() {
        let mut random = Random::new(7);
        let draws = 100_000;
        let mut sums = [0.0; 5];
        for _ in 0..draws {
            let (unit, exponential, normal) = (random.unit(), random.exponential(), random.normal());
            assert!((0.0..1.0).contains(&unit) && exponential >= 0.0);
            for (sum, value) in
                sums.iter_mut().zip([unit, exponential, exponential * exponential, normal, normal * normal])
            {
                *sum += value / f64::from(draws);
            }
        }
        for (mean, expected) in sums.iter().zip([0.5, 1.0, 2.0, 0.0, 1.0]) {
            assert!((mean - expected).abs() < 0.04, "{sums:?}");
        }
        let mut random = Random::new(1);
        let exact = [random.unit().to_bits(), random.exponential().to_bits(), random.normal().to_bits()];
        assert_eq!(exact, EXACT, "{exact:#x?}");
    }

    const EXACT: [u64; 3] = [0x3fe2_2145_bd91_204b, 0x3ff5_e9ba_0245_7af5, 0x3fdd_368f_e72b_b620];
}
