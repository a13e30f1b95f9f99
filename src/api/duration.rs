//! Durations as users write them in the custom resources: Go's notation, such as `15m` or `1h30m`.
//!
//! Text enters, a [`Duration`] leaves. The CRD's own validation uses the same pattern, so that what is stored can be read.

use std::time::Duration;

/// The pattern of a duration in RE2, for the CRDs. Its bounds on digits keep every sum far from overflow.
pub(crate) const PATTERN: &str = r"^([0-9]{1,6}([.][0-9]{1,6})?(ms|s|m|h)){1,4}$";

/// Reads a duration; `None` when the text does not follow [`PATTERN`].
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    let mut parts = 0;
    while !rest.is_empty() {
        let unit_start = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let (number, tail) = rest.split_at(unit_start);
        let unit_end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let milliseconds: u32 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        total += Duration::from_millis(1).mul_f64(f64::from(milliseconds) * number_of(number)?);
        rest = tail;
        parts += 1;
    }
    (1..=4).contains(&parts).then_some(total)
}

fn number_of(text: &str) -> Option<f64> {
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, fraction)| (whole, Some(fraction)));
    let digits = |part: &str| (1..=6).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    (digits(whole) && fraction.is_none_or(digits)).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_by_the_notation_of_go() {
        for (text, seconds) in [("15m", 900.0), ("1h30m", 5400.0), ("10s", 10.0), ("1.5h", 5400.0), ("250ms", 0.25), ("0s", 0.0)] {
            assert_eq!(parse(text).map(|d| d.as_secs_f64()), Some(seconds), "{text}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in ["", "1", "1d", "-1s", "+1s", "s", "1.s", ".5s", "1e3s", "9999999h", "1h 30m", "1s1s1s1s1s", "1µs", "inf", "NaNs"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
