//! Axes: a range, and ticks at round numbers that a person would choose.

/// A linear axis from 0 to its end, with the distance of its ticks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axis {
    /// The greatest value that is drawn: a multiple of `step`.
    pub(super) end: f64,
    /// From tick to tick.
    pub(super) step: f64,
}

impl Axis {
    /// Up to `greatest` with about five ticks, 1, 2 or 5 times a power of ten apart.
    pub(super) fn round(greatest: f64) -> Self {
        Self::within(greatest, 5.0, &[1.0, 2.0, 5.0, 10.0])
    }

    fn within(greatest: f64, ticks: f64, factors: &[f64]) -> Self {
        let greatest = if greatest > 1e-9 && greatest.is_finite() { greatest } else { 1.0 };
        let rough = greatest / ticks;
        let power = 10_f64.powi(decade(rough));
        let step = factors.iter().map(|factor| factor * power).find(|step| *step >= rough * 0.999);
        let step = step.unwrap_or(10.0 * power);
        Self { end: (greatest / step - 1e-9).ceil().max(1.0) * step, step }
    }

    /// Time up to `hours`: ticks at round hours or days. Gives also what one unit is in hours, and its name.
    pub(super) fn time(hours: f64) -> (Self, f64, &'static str) {
        let (unit, name) = if hours > 96.0 {
            (24.0, "days")
        } else if hours > 1.5 {
            (1.0, "hours")
        } else {
            (1.0 / 60.0, "minutes")
        };
        let steps: &[f64] = if hours > 96.0 {
            &[1.0, 2.0, 5.0, 7.0, 14.0, 28.0, 91.0, 182.0, 364.0]
        } else {
            &[1.0, 2.0, 3.0, 6.0, 12.0, 24.0]
        };
        let greatest = (hours / unit).max(1e-9);
        let step = steps.iter().copied().find(|step| greatest / step <= 12.0);
        let step = step.unwrap_or_else(|| Self::round(greatest).step);
        (Self { end: greatest, step }, unit, name)
    }

    /// The ticks from 0 to the end.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let ticks = (0..100_u32).map(|number| f64::from(number) * self.step);
        ticks.take_while(|tick| *tick <= self.end * (1.0 + 1e-9)).collect()
    }

    /// A tick as text, with as many decimals as tell it from its neighbours, and commas between thousands.
    pub(super) fn label(&self, tick: f64) -> String {
        let decimals = usize::try_from(-decade(self.step)).unwrap_or(0).min(6);
        let text = format!("{tick:.decimals$}");
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let mut grouped = String::new();
        for (place, digit) in whole.chars().enumerate() {
            if place > 0 && (whole.len() - place) % 3 == 0 {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        if fraction.is_empty() { grouped } else { format!("{grouped}.{fraction}") }
    }
}

/// The power of ten at or below a positive number.
pub(super) fn decade(value: f64) -> i32 {
    (-12..15).rev().find(|power| 10_f64.powi(*power) <= value * (1.0 + 1e-9)).unwrap_or(-12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        for (greatest, labels) in [
            (32.0, "0 10 20 30 40"),
            (0.0516, "0.00 0.02 0.04 0.06"),
            (51_732.0, "0 20,000 40,000 60,000"),
            (1.0, "0.0 0.2 0.4 0.6 0.8 1.0"),
            (0.0, "0.0 0.2 0.4 0.6 0.8 1.0"),
            (7.0, "0 2 4 6 8"),
            (1_250_000.0, "0 500,000 1,000,000 1,500,000"),
        ] {
            let axis = Axis::round(greatest);
            let shown: Vec<String> = axis.ticks().into_iter().map(|tick| axis.label(tick)).collect();
            assert_eq!(shown.join(" "), labels, "{greatest}");
        }
        for (hours, unit, step) in [
            (33.0, "hours", 3.0),
            (90.0, "hours", 12.0),
            (640.0, "days", 5.0),
            (1.0, "minutes", 6.0),
            (8760.0, "days", 91.0),
        ] {
            let (axis, _, name) = Axis::time(hours);
            assert_eq!((name, axis.step), (unit, step), "{hours}");
        }
    }
}
