//! Istio's durations: strings such as `0.5s`, `10ms`, `1m30s`.

use std::{borrow::Cow, fmt, str::FromStr, time};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A span of time, read from Istio's strings and written in one canonical way (`1h0m0.5s` becomes `3600.5s`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(pub time::Duration);

/// Why a string is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a duration: {reason}; write a number with a unit, such as 500ms, 0.5s, 1m30s or 1h")]
pub struct DurationError {
    text: String,
    reason: &'static str,
}

/// Units in nanoseconds; longer names first, so that `ms` is not read as `m`.
const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
];

impl Duration {
    /// The span itself.
    #[must_use]
    pub fn get(self) -> time::Duration {
        self.0
    }
}

impl From<time::Duration> for Duration {
    fn from(value: time::Duration) -> Self {
        Self(value)
    }
}

impl From<Duration> for time::Duration {
    fn from(value: Duration) -> Self {
        value.0
    }
}

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let fail = |reason| DurationError {
            text: text.to_owned(),
            reason,
        };
        let body = text.strip_prefix('+').unwrap_or(text);
        if body.starts_with('-') {
            return Err(fail("it must not be negative"));
        }
        if body == "0" {
            return Ok(Self::default());
        }
        if body.is_empty() {
            return Err(fail("it is empty"));
        }
        let mut total = time::Duration::ZERO;
        let mut rest = body;
        while !rest.is_empty() {
            let end = rest
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .ok_or_else(|| fail("the unit is missing"))?;
            let (number, tail) = rest.split_at(end);
            let (name, unit) = UNITS
                .iter()
                .find(|(name, _)| tail.starts_with(name))
                .ok_or_else(|| fail("the unit is not known"))?;
            let part = scaled(number, *unit).ok_or_else(|| fail("the number is not one"))?;
            total = total.checked_add(part).ok_or_else(|| fail("it is too long"))?;
            rest = &tail[name.len()..];
        }
        Ok(Self(total))
    }
}

/// `number` (digits with at most one point) times `unit` nanoseconds, without the rounding of a float.
fn scaled(number: &str, unit: u64) -> Option<time::Duration> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanos = u128::from(whole) * u128::from(unit);
    let mut scale = u128::from(unit);
    let mut numerator: u128 = 0;
    let mut denominator: u128 = 1;
    // Past 18 digits a fraction of an hour is far below a nanosecond.
    for digit in fraction.bytes().take(18) {
        numerator = numerator * 10 + u128::from(digit - b'0');
        denominator *= 10;
    }
    scale = scale * numerator / denominator;
    nanos += scale;
    let secs = u64::try_from(nanos / 1_000_000_000).ok()?;
    // The remainder is below 10^9 and fits.
    let sub = u32::try_from(nanos % 1_000_000_000).ok()?;
    Some(time::Duration::new(secs, sub))
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secs, nanos) = (self.0.as_secs(), self.0.subsec_nanos());
        if nanos == 0 {
            write!(f, "{secs}s")
        } else {
            let fraction = format!("{nanos:09}");
            write!(f, "{secs}.{}s", fraction.trim_end_matches('0'))
        }
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Duration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as 500ms, 0.5s, 1m30s or 1h")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

impl schemars::JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_istio_reads() {
        for (text, millis) in [
            ("0.5s", 500),
            ("1h", 3_600_000),
            ("10ms", 10),
            ("1m30s", 90_000),
            ("0s", 0),
            ("0", 0),
            ("1h0m0.25s", 3_600_250),
            (".5s", 500),
            ("1.s", 1000),
            ("2000us", 2),
            ("3000µs", 3),
        ] {
            let got: Duration = text.parse().unwrap();
            assert_eq!(got.0.as_millis(), millis, "{text}");
            assert_eq!(
                got.to_string().parse::<Duration>().unwrap(),
                got,
                "{text} written and read again"
            );
        }
    }

    #[test]
    fn refuses_with_a_reason() {
        for (text, words) in [
            ("", "empty"),
            ("5", "unit is missing"),
            ("-1s", "negative"),
            ("5 s", "unit is not known"),
            ("5d", "unit is not known"),
            ("1..5s", "number"),
            (".s", "number"),
            ("99999999999999999999h", "number"),
        ] {
            let error = text.parse::<Duration>().unwrap_err().to_string();
            assert!(
                error.contains(words) && error.contains("such as 500ms"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn writes_canonically() {
        for (text, written) in [
            ("1h", "3600s"),
            ("500ms", "0.5s"),
            ("1m30s", "90s"),
            ("1ns", "0.000000001s"),
        ] {
            assert_eq!(text.parse::<Duration>().unwrap().to_string(), written);
        }
    }
}
